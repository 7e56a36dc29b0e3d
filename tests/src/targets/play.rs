//! Whole calls as programs: two bytes an instruction, what the far ends do next and how. Whatever they do, everything ends.

use std::time::Duration;

use b2bua::engine::Input;
use bytes::Bytes;
use sip::{FlowKey, HeaderId, Message, Method};

use super::drive::{Driver, Reach};

/// Instructions of one program.
const INSTRUCTIONS_MAX: usize = 64;
/// Calls of one program.
const CALLS_MAX: usize = 8;

const OFFER: &str = "v=0\r\no=- 1 VERSION IN IP4 10.0.0.11\r\ns=-\r\nc=IN IP4 10.0.0.11\r\nt=0 0\r\nm=audio 30000 RTP/SAVP 0 8 101\r\n\
    a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\na=rtpmap:101 telephone-event/8000\r\n";
const PLAIN: &str = "v=0\r\no=- 1 VERSION IN IP4 10.0.0.11\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0\r\na=sendonly\r\n";
const STATUSES: [u16; 16] = [100, 180, 183, 200, 200, 302, 404, 408, 422, 481, 486, 491, 500, 503, 600, 181];
const METHODS: [&str; 16] = [
    "BYE",
    "INVITE",
    "UPDATE",
    "INFO",
    "PRACK",
    "REFER",
    "NOTIFY",
    "OPTIONS",
    "MESSAGE",
    "BENOTIFY",
    "SERVICE",
    "NONSENSE",
    "ACK",
    "CANCEL",
    "SUBSCRIBE",
    "PUBLISH",
];
const TIMES_MS: [u64; 8] = [0, 1, 200, 500, 4_000, 32_000, 200_000, 1_800_000];
const EXTRAS: [&str; 8] = [
    "",
    "Require: 100rel\r\nRSeq: 1\r\n",
    "Session-Expires: 90;refresher=uac\r\nSupported: timer\r\n",
    "Session-Expires: 90;refresher=uas\r\nRequire: timer\r\nMin-SE: 90\r\n",
    "Refer-To: <sip:bob@contoso.com?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc>\r\nReferred-By: <sip:um@contoso.com>\r\n",
    "RAck: 1 1 INVITE\r\nMin-SE: 1800\r\n",
    "Event: refer\r\nSubscription-State: terminated;reason=noresource\r\n",
    "Supported: 100rel, timer, replaces\r\nRetry-After: 3\r\n",
];

/// What a message carries.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(super) enum Body {
    Nothing,
    Offer,
    Plain,
}

impl Body {
    fn of(argument: u8) -> Self {
        match argument >> 6 {
            0 => Self::Nothing,
            3 => Self::Plain,
            _ => Self::Offer,
        }
    }

    fn text(self, version: usize) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Offer => OFFER.replace("VERSION", &version.to_string()),
            Self::Plain => PLAIN.replace("VERSION", &version.to_string()),
        }
    }
}

/// An INVITE of the pool.
pub(super) fn invite(number: usize, body: Body) -> Bytes {
    let head = format!(
        "INVITE sip:ken@contoso.com;opaque=app:voicemail SIP/2.0\r\nVia: SIP/2.0/TLS 10.0.0.11:50000;branch=z9hG4bK-i{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:dana@contoso.com>;tag=a{number}\r\nTo: <sip:ken@contoso.com>\r\nCall-ID: fuzz-{number}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:dana@10.0.0.11:50000;transport=tls>\r\nSupported: 100rel, timer\r\n"
    );
    with_body(head, &body.text(number)).into()
}

/// The answer of a far end to `request`, with more header lines.
pub(super) fn response(request: &Message, status: u16, lines: &[u8], body: &[u8]) -> Bytes {
    let mut out = format!("SIP/2.0 {status} Whatever\r\n").into_bytes();
    for id in [HeaderId::Via, HeaderId::RecordRoute, HeaderId::From, HeaderId::CallId, HeaderId::CSeq] {
        for value in request.values(id) {
            out.extend_from_slice(&[id.name().as_bytes(), b": ", value, b"\r\n"].concat());
        }
    }
    out.extend_from_slice(&[b"To: ", &request.value_bytes(HeaderId::To).unwrap_or_default()[..]].concat());
    if request.to_tag().is_none() && status > 100 {
        out.extend_from_slice(b";tag=far");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(lines);
    if !body.is_empty() {
        out.extend_from_slice(b"Content-Type: application/sdp\r\n");
    }
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out.into()
}

/// A program.
pub fn call(input: &[u8]) {
    let mut play = Play { driver: Driver::new(), calls: 0, cseq: 1, last: None };
    for instruction in input.chunks_exact(2).take(INSTRUCTIONS_MAX) {
        play.step(instruction[0], instruction[1]);
    }
    play.driver.finish();
}

struct Play {
    driver: Driver,
    calls: usize,
    cseq: usize,
    /// The last bytes a far end sent.
    last: Option<(FlowKey, Bytes)>,
}

impl Play {
    fn step(&mut self, what: u8, argument: u8) {
        match what % 14 {
            0 if self.calls < CALLS_MAX => {
                self.calls += 1;
                self.send(self.driver.caller, invite(self.calls, Body::of(argument)));
            }
            1 | 2 => self.server_answers(argument, what / 14),
            3 => self.caller_asks(METHODS[12], argument, what / 14),
            4 => self.caller_asks(METHODS[usize::from(argument % 16)], argument, what / 14),
            5 => self.server_asks(argument, what / 14),
            6 => self.caller_answers(argument, what / 14),
            7 => self.driver.pass(Duration::from_millis(TIMES_MS[usize::from(argument % 8)])),
            8 => {
                self.driver.down(self.driver.caller);
                self.driver.caller_up();
            }
            9 => {
                let flows: Vec<_> = self.driver.servers.values().copied().collect();
                if let Some(flow) = flows.get(usize::from(argument) % flows.len().max(1)) {
                    self.driver.down(*flow);
                }
            }
            10 => self.driver.reach = if argument.is_multiple_of(2) { Reach::Open } else { Reach::Refused },
            11 => self.again(argument),
            12 if argument == 255 => self.driver.feed(Input::Drain { until: Some(self.driver.now) }),
            12 => self.driver.has_ports = argument != 0,
            _ => self.caller_asks(METHODS[13], argument, what / 14),
        }
    }

    fn send(&mut self, flow: FlowKey, bytes: Bytes) {
        self.last = Some((flow, bytes.clone()));
        self.driver.bytes(flow, bytes);
    }

    // A request the engine sent, counted from the newest.
    fn recent<T: Clone>(list: &[T], back: u8) -> Option<T> {
        list.iter().rev().nth(usize::from(back)).cloned()
    }

    fn server_answers(&mut self, argument: u8, back: u8) {
        let Some((flow, request)) = Self::recent(&self.driver.to_servers, back % 3) else { return };
        if *request.method() == Method::Ack {
            return;
        }
        let bytes = self.answer(
            &request,
            argument,
            &format!("<sip:um@mbx01.contoso.com:5066;transport=tls;n={back}>"),
        );
        self.send(flow, bytes);
    }

    fn caller_answers(&mut self, argument: u8, back: u8) {
        let Some(request) = Self::recent(&self.driver.to_caller, back % 3) else { return };
        if *request.method() != Method::Ack {
            let bytes = self.answer(&request, argument, "<sip:dana@10.0.0.11:50000;transport=tls>");
            self.send(self.driver.caller, bytes);
        }
    }

    fn answer(&mut self, request: &Message, argument: u8, contact: &str) -> Bytes {
        self.cseq += 1;
        let status = STATUSES[usize::from(argument % 16)];
        let lines = format!("Contact: {contact}\r\n{}", EXTRAS[usize::from(argument >> 3 & 7)]);
        response(request, status, lines.as_bytes(), Body::of(argument).text(self.cseq).as_bytes())
    }

    // In the dialog that the newest answers speak of, or about a dialog that never was.
    fn caller_asks(&mut self, method: &str, argument: u8, back: u8) {
        let Some(answer) = Self::recent(&self.driver.answers, back % 4) else { return };
        let text = |id| String::from_utf8_lossy(&answer.value_bytes(id).unwrap_or_default()).into_owned();
        let (to, from, call_id) = (text(HeaderId::To), text(HeaderId::From), text(HeaderId::CallId));
        let number =
            if matches!(method, "ACK" | "CANCEL") { answer.cseq().number as usize } else { self.next_cseq() };
        let to = if method == "CANCEL" { "<sip:ken@contoso.com>" } else { &to };
        let branch =
            if method == "CANCEL" { call_id.replace("fuzz-", "i") } else { format!("c{}", self.cseq) };
        let request = self.request(method, number, &branch, (&from, to, &call_id), argument);
        self.send(self.driver.caller, request);
    }

    fn server_asks(&mut self, argument: u8, back: u8) {
        let Some((flow, invite)) = Self::recent(&self.driver.to_servers, back % 4) else { return };
        let text = |id| String::from_utf8_lossy(&invite.value_bytes(id).unwrap_or_default()).into_owned();
        let (mut to, from, call_id) = (text(HeaderId::To), text(HeaderId::From), text(HeaderId::CallId));
        if invite.to_tag().is_none() {
            to.push_str(";tag=far");
        }
        let number = self.next_cseq();
        let branch = format!("s{number}");
        let request = self.request(
            METHODS[usize::from(argument % 16)],
            number,
            &branch,
            (&to, &from, &call_id),
            argument,
        );
        self.send(flow, request);
    }

    fn next_cseq(&mut self) -> usize {
        self.cseq += 1;
        self.cseq
    }

    fn request(
        &self,
        method: &str,
        number: usize,
        branch: &str,
        dialog: (&str, &str, &str),
        argument: u8,
    ) -> Bytes {
        let (from, to, call_id) = dialog;
        let head = format!(
            "{method} sip:umbra.contoso.com;transport=tls SIP/2.0\r\nVia: SIP/2.0/TLS 10.0.0.11:50000;branch=z9hG4bK-{branch}\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {number} {method}\r\n\
             Contact: <sip:far@10.0.0.11:50000;transport=tls>\r\n{}",
            EXTRAS[usize::from(argument >> 3 & 7)]
        );
        with_body(head, &Body::of(argument).text(self.cseq)).into()
    }

    // The same bytes once more, perhaps with one of them changed.
    fn again(&mut self, argument: u8) {
        let Some((flow, bytes)) = self.last.clone() else { return };
        let mut bytes = bytes.to_vec();
        if argument > 3
            && let Some(byte) = bytes.get_mut(usize::from(argument) * 3)
        {
            *byte ^= argument;
        }
        self.driver.bytes(flow, bytes);
    }
}

fn with_body(head: String, body: &str) -> String {
    let content_type = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!("{head}{content_type}Content-Length: {}\r\n\r\n{body}", body.len())
}
