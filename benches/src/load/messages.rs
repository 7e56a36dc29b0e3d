//! The messages of the generator: written from a template, read only as far as a load generator must. Owns no state.

use std::fmt::Write as _;

/// Session description of both sides.
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=call\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n";

/// Addresses that messages name.
#[derive(Clone, Debug)]
pub struct Names {
    /// Host and port of the caller's Contact and Via.
    pub caller: String,
    /// Host and port of the server's Contact.
    pub server: String,
}

/// One message as the generator sees it.
pub struct Seen<'a> {
    /// All of it.
    pub text: &'a str,
    /// Status code; `None` for a request.
    pub status: Option<u16>,
    /// Method of the request, or of the response's CSeq.
    pub method: &'a str,
}

impl<'a> Seen<'a> {
    /// Reads first line and CSeq.
    pub fn read(text: &'a str) -> Option<Self> {
        let first = text.lines().next()?;
        let status = first.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let method = if status.is_some() {
            header(text, "CSeq")?.split_whitespace().nth(1)?
        } else {
            first.split(' ').next()?
        };
        Some(Self { text, status, method })
    }

    /// Value of the first header of that name.
    pub fn header(&self, name: &str) -> &'a str {
        header(self.text, name).unwrap_or_default()
    }

    /// Lines of that name, in order.
    pub fn lines(&self, name: &'a str) -> impl Iterator<Item = &'a str> {
        head(self.text).lines().filter(move |line| is_named(line, name))
    }
}

fn head(text: &str) -> &str {
    text.find("\r\n\r\n").map_or(text, |end| &text[..end])
}

fn is_named(line: &str, name: &str) -> bool {
    let bytes = line.as_bytes();
    bytes.len() > name.len()
        && bytes[name.len()] == b':'
        && bytes[..name.len()].eq_ignore_ascii_case(name.as_bytes())
}

fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = head(text).lines().find(|line| is_named(line, name))?;
    Some(line[name.len() + 1..].trim())
}

fn uri_of(contact: &str) -> &str {
    match (contact.find('<'), contact.find('>')) {
        (Some(from), Some(to)) if from < to => &contact[from + 1..to],
        _ => contact.split(';').next().unwrap_or_default(),
    }
}

/// The INVITE of call `n`; `run` keeps runs apart.
pub fn invite(out: &mut String, names: &Names, run: u32, n: usize) {
    let caller = &names.caller;
    let _ = write!(
        out,
        "INVITE sip:88895@umbra.contoso.test;user=phone SIP/2.0\r\nVia: SIP/2.0/TLS {caller};branch=z9hG4bK-{run}-{n}-1;rport\r\n\
         Max-Forwards: 70\r\nFrom: \"Dana\" <sip:dana@contoso.test>;tag=a{run}-{n}\r\nTo: <sip:88895@contoso.test;user=phone>\r\n\
         Call-ID: load-{run}-{n}@contoso.test\r\nCSeq: 1 INVITE\r\nContact: <sip:dana@{caller};transport=tls>\r\n\
         Diversion: <sip:ken@contoso.test>;reason=no-answer\r\nSupported: timer, histinfo\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO\r\n\
         User-Agent: load\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
        SDP.len()
    );
}

/// ACK or BYE inside the dialog that `answer` (a 2xx) made.
pub fn within(out: &mut String, names: &Names, answer: &Dialog, method: &str, run: u32, n: usize) {
    let (caller, cseq) = (&names.caller, if method == "ACK" { 1 } else { 2 });
    let _ = write!(
        out,
        "{method} {} SIP/2.0\r\nVia: SIP/2.0/TLS {caller};branch=z9hG4bK-{run}-{n}-{method};rport\r\n",
        answer.target
    );
    for route in &answer.routes {
        let _ = write!(out, "Route: {route}\r\n");
    }
    let _ = write!(
        out,
        "Max-Forwards: 70\r\nFrom: \"Dana\" <sip:dana@contoso.test>;tag=a{run}-{n}\r\nTo: {}\r\nCall-ID: load-{run}-{n}@contoso.test\r\n\
         CSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n",
        answer.to
    );
}

/// ACK to a final answer that is no 2xx.
pub fn ack_failure(out: &mut String, names: &Names, to: &str, run: u32, n: usize) {
    let caller = &names.caller;
    let _ = write!(
        out,
        "ACK sip:88895@umbra.contoso.test;user=phone SIP/2.0\r\nVia: SIP/2.0/TLS {caller};branch=z9hG4bK-{run}-{n}-1;rport\r\nMax-Forwards: 70\r\n\
         From: \"Dana\" <sip:dana@contoso.test>;tag=a{run}-{n}\r\nTo: {to}\r\nCall-ID: load-{run}-{n}@contoso.test\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"
    );
}

/// What the caller keeps of a dialog.
#[derive(Clone, Debug, Default)]
pub struct Dialog {
    pub target: String,
    pub to: String,
    pub routes: Vec<String>,
}

impl Dialog {
    /// From the 2xx.
    pub fn of(answer: &Seen<'_>) -> Self {
        let mut routes: Vec<String> = answer
            .lines("Record-Route")
            .map(|line| line["Record-Route:".len()..].trim().to_owned())
            .collect();
        routes.reverse();
        Self {
            target: uri_of(answer.header("Contact")).to_owned(),
            to: answer.header("To").to_owned(),
            routes,
        }
    }
}

/// A response of the server; `with` says which of Contact and body it carries.
pub fn response(out: &mut String, names: &Names, request: &Seen<'_>, status: &str, with: With) {
    let _ = write!(out, "SIP/2.0 {status}\r\n");
    for name in ["Via", "Record-Route"] {
        for line in request.lines(name) {
            let _ = write!(out, "{line}\r\n");
        }
    }
    let to = request.header("To");
    let tag = if to.contains(";tag=") { "" } else { ";tag=s1" };
    let _ = write!(
        out,
        "From: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n",
        request.header("From"),
        request.header("Call-ID"),
        request.header("CSeq")
    );
    if with != With::Nothing {
        let _ = write!(out, "Contact: <sip:um@{};transport=tls>\r\n", names.server);
    }
    match with {
        With::Description => {
            let _ =
                write!(out, "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len());
        }
        _ => out.push_str("Content-Length: 0\r\n\r\n"),
    }
}

/// What a response carries.
#[derive(Copy, Clone, Eq, PartialEq)]
pub enum With {
    Nothing,
    Contact,
    Description,
}
