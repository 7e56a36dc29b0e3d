//! What one party of a pair says and expects, step by step, written out as a SIPp scenario. Owns the dialog arithmetic of
//! a user agent (CSeq, branches, tags, targets), so that a pair shows only what it is about; refuses to know the gateway.
//! Whatever a script does not expect fails its pair.

use std::collections::BTreeSet;
use std::fmt::Write;

/// A description as every party offers or answers it; `direction` as in RFC 4566 §6.
pub fn sdp(version: u32, direction: &str) -> String {
    format!(
        "v=0\no=party 4711 {version} IN IP4 [local_ip]\ns=-\nc=IN IP4 [local_ip]\nt=0 0\nm=audio 18000 RTP/AVP 0 101\n\
         a=rtpmap:0 PCMU/8000\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\na={direction}\n"
    )
}

/// The first description of a party.
pub fn first() -> String {
    sdp(1, "sendrecv")
}

const NOTHING: &str = "";
const SDP: &str = "Content-Type: application/sdp\n";

/// One party's part.
#[derive(Clone, Debug)]
pub struct Script {
    steps: Vec<Step>,
    variables: BTreeSet<String>,
    tag: &'static str,
    /// CSeq of the last request sent.
    cseq: u32,
    /// Requests sent: method, CSeq and branch.
    sent: Vec<(String, u32, String)>,
    /// Requests taken: their methods. Position names their variables.
    taken: Vec<String>,
    /// Which of them began the dialog, where this party is called.
    began: usize,
}

#[derive(Clone, Debug)]
enum Step {
    /// Sends this message.
    Send(String),
    /// Expects a message: attributes of `<recv>`, and what is looked at in it.
    Expect { attributes: String, actions: String },
    /// Time in which nothing may come.
    Quiet(u32),
}

impl Script {
    /// The party whose request begins the call.
    pub fn begins() -> Self {
        Self::new("c", 0)
    }

    /// The party that is called.
    pub fn is_called() -> Self {
        Self::new("s", 100)
    }

    fn new(tag: &'static str, cseq: u32) -> Self {
        let none = (Vec::new(), BTreeSet::new());
        Self { steps: none.0, variables: none.1, tag, cseq, sent: Vec::new(), taken: Vec::new(), began: 0 }
    }

    /// The initial INVITE with an offer.
    pub fn invite(self) -> Self {
        self.invite_with("", &first())
    }

    /// The initial INVITE with further lines and a description, or none.
    pub fn invite_with(self, lines: &str, body: &str) -> Self {
        self.begin("INVITE", "sip:88895@[remote_ip]:[remote_port];user=phone", lines, body)
    }

    /// A request outside any dialog.
    pub fn begin(mut self, method: &str, uri: &str, lines: &str, body: &str) -> Self {
        let (cseq, branch) = self.next(method);
        let own = self.own();
        let text = format!("{}\nTo: <{uri}>\n", own.trim_end());
        self.message(&format!("{method} {uri} SIP/2.0"), &branch, &text, cseq, method, lines, body)
    }

    /// A request in the dialog.
    pub fn sends(self, method: &str) -> Self {
        self.sends_with(method, NOTHING, NOTHING)
    }

    /// A request in the dialog, with further lines and a body; a description unless `lines` names its type.
    pub fn sends_with(mut self, method: &str, lines: &str, body: &str) -> Self {
        let (cseq, branch) = self.next(method);
        let ends = self.ends();
        self.message(&format!("{method} [$target] SIP/2.0"), &branch, &ends, cseq, method, lines, body)
    }

    /// ACK of a 2xx.
    pub fn acks(self) -> Self {
        self.acks_with(NOTHING)
    }

    /// ACK of a 2xx that carries the answer.
    pub fn acks_with(self, body: &str) -> Self {
        let (cseq, _) = self.last("INVITE");
        let branch = format!("z9hG4bK-[pid]-[call_number]-{}{}ack", self.tag, self.steps.len());
        let ends = self.ends();
        self.message("ACK [$target] SIP/2.0", &branch, &ends, cseq, "ACK", NOTHING, body)
    }

    /// ACK of a refused INVITE: same branch, same Request-URI (RFC 3261 §17.1.1.3).
    pub fn acks_refusal(self) -> Self {
        self.hop_by_hop("ACK", true, NOTHING)
    }

    /// CANCEL of the last INVITE (RFC 3261 §9.1).
    pub fn cancels(self) -> Self {
        self.cancels_because(NOTHING)
    }

    /// CANCEL with further lines.
    pub fn cancels_because(self, lines: &str) -> Self {
        self.hop_by_hop("CANCEL", false, lines)
    }

    fn hop_by_hop(mut self, method: &str, answered: bool, lines: &str) -> Self {
        let (cseq, branch) = self.last("INVITE");
        let is_first = self.sent.iter().filter(|(sent, ..)| sent == "INVITE").count() == 1 && self.tag == "c";
        let (uri, ends) = match (is_first, answered) {
            (true, true) => {
                ("sip:88895@[remote_ip]:[remote_port];user=phone", format!("{}To: [$peer]\n", self.own()))
            }
            (true, false) => {
                let to = "To: <sip:88895@[remote_ip]:[remote_port];user=phone>\n";
                ("sip:88895@[remote_ip]:[remote_port];user=phone", format!("{}{to}", self.own()))
            }
            (false, _) => ("[$target]", self.ends()),
        };
        self.sent.push((method.to_owned(), cseq, branch.clone()));
        self.message(&format!("{method} {uri} SIP/2.0"), &branch, &ends, cseq, method, lines, NOTHING)
    }

    /// A request as it stands, the next one of this party with that method.
    pub fn raw(mut self, method: &str, text: &str) -> Self {
        self.cseq += 1;
        self.sent.push((method.to_owned(), self.cseq, String::new()));
        self.aside(text)
    }

    /// A message as it stands, apart from everything else this party sends.
    pub fn aside(mut self, text: &str) -> Self {
        self.steps.push(Step::Send(text.to_owned()));
        self
    }

    /// Expects this response to the last request sent.
    pub fn hears(self, status: u16) -> Self {
        let method = self.sent.last().unwrap().0.clone();
        self.hears_to(&method, status)
    }

    /// Expects this response to the last request of that method.
    pub fn hears_to(mut self, method: &str, status: u16) -> Self {
        let (cseq, _) = self.last(method);
        if method == "INVITE" && status != 100 {
            let trying = Step::Expect {
                attributes: r#"response="100" optional="true""#.into(),
                actions: String::new(),
            };
            self.steps.push(trying);
        }
        self.steps
            .push(Step::Expect { attributes: format!("response=\"{status}\""), actions: String::new() });
        let of_dialog = matches!(method, "INVITE" | "SUBSCRIBE");
        let this = self.has(&format!("CSeq: *{cseq} {method}"));
        match of_dialog && status > 100 {
            true if status < 300 => this.keeps("To", "peer").keeps_target(),
            true => this.keeps("To", "peer"),
            false => this,
        }
    }

    /// Expects a response by its whole CSeq, when it is to a request that the script wrote out.
    pub fn hears_with_cseq(mut self, status: u16, cseq: &str) -> Self {
        self.steps
            .push(Step::Expect { attributes: format!("response=\"{status}\""), actions: String::new() });
        self.has(&format!("CSeq: *{cseq}"))
    }

    /// Expects the same response so many times more.
    pub fn again(mut self, status: u16, times: usize) -> Self {
        for _ in 0..times {
            self.steps
                .push(Step::Expect { attributes: format!("response=\"{status}\""), actions: String::new() });
        }
        self
    }

    /// Takes this response when it comes, and goes on when it does not.
    pub fn may_hear(mut self, status: u16) -> Self {
        let attributes = format!("response=\"{status}\" optional=\"true\"");
        self.steps.push(Step::Expect { attributes, actions: String::new() });
        self
    }

    /// Expects a request.
    pub fn gets(mut self, method: &str) -> Self {
        self.steps.push(Step::Expect { attributes: format!("request=\"{method}\""), actions: String::new() });
        let at = self.taken.len();
        self.taken.push(method.to_owned());
        if method == "ACK" {
            return self;
        }
        let this = self.keeps("Via", &format!("via{at}")).keeps("CSeq", &format!("cseq{at}"));
        let this = this.keeps("From", &format!("from{at}")).keeps("To", &format!("to{at}"));
        match at == this.began && this.tag == "s" && method == "INVITE" {
            true => this.keeps("From", "peer").keeps("To", "own").keeps_target(),
            false => this,
        }
    }

    /// Expects a request that begins the dialog once more, the first one having been refused.
    pub fn gets_anew(mut self, method: &str) -> Self {
        self.began = self.taken.len();
        self.gets(method)
    }

    /// Answers the last request taken.
    pub fn says(self, status: u16) -> Self {
        self.says_with(status, NOTHING, NOTHING)
    }

    /// Answers the last request taken, with further lines and a body.
    pub fn says_with(self, status: u16, lines: &str, body: &str) -> Self {
        let at = self.taken.iter().rposition(|method| method != "ACK").unwrap();
        let tag = self.tag;
        self.answers(at, status, tag, lines, body)
    }

    /// Answers the last request of that method.
    pub fn says_to(self, method: &str, status: u16, lines: &str, body: &str) -> Self {
        let at = self.taken.iter().rposition(|taken| taken == method).unwrap();
        let tag = self.tag;
        self.answers(at, status, tag, lines, body)
    }

    /// Answers the first INVITE under another To tag: another fork.
    pub fn says_as(self, fork: &'static str, status: u16, lines: &str, body: &str) -> Self {
        let at = self.taken.iter().position(|taken| taken == "INVITE").unwrap();
        self.answers(at, status, fork, lines, body)
    }

    fn answers(mut self, at: usize, status: u16, tag: &str, lines: &str, body: &str) -> Self {
        let is_first = self.tag == "s" && (at == self.began || self.taken[at] == "CANCEL");
        let tag =
            if is_first && status > 100 { format!(";tag=[pid]{tag}[call_number]") } else { String::new() };
        let contact = if lines.contains("Contact:") { "" } else { CONTACT };
        let mut text = format!(
            "SIP/2.0 {status} {}\nVia: [$via{at}]\nFrom: [$from{at}]\nTo: [$to{at}]{tag}\n[last_Call-ID:]\nCSeq: [$cseq{at}]\n\
             {contact}{}",
            reason(status),
            ended(lines),
        );
        text.push_str(&with_body(lines, body));
        self.steps.push(Step::Send(text));
        self
    }

    /// The last message expected must match this (POSIX extended).
    pub fn has(self, pattern: &str) -> Self {
        self.look(pattern, r#"check_it="true""#)
    }

    /// The last message expected must not match this.
    pub fn lacks(self, pattern: &str) -> Self {
        self.look(pattern, r#"check_it_inverse="true""#)
    }

    fn look(mut self, pattern: &str, check: &str) -> Self {
        let pattern = escape(pattern);
        self.action(&format!(r#"<ereg regexp="{pattern}" search_in="msg" {check} assign_to="seen"/>"#));
        self.variables.insert("seen".into());
        self
    }

    /// Keeps the value of a header for `[$name]`; it has to be there.
    pub fn keeps(mut self, header: &str, name: &str) -> Self {
        self.action(&format!(
            r#"<ereg regexp="[^ ].*" search_in="hdr" header="{header}:" check_it="true" assign_to="{name}"/>"#
        ));
        self.variables.insert(name.into());
        self
    }

    /// Keeps the tag in To for `[$name]`.
    pub fn keeps_tag(mut self, name: &str) -> Self {
        self.action(&format!(
            r#"<ereg regexp="tag=([^;]+)" search_in="hdr" header="To:" check_it="true" assign_to="seen,{name}"/>"#
        ));
        self.variables.extend(["seen".to_owned(), name.to_owned()]);
        self
    }

    fn keeps_target(mut self) -> Self {
        self.action(
            r#"<ereg regexp="sip:[^&gt;]*" search_in="hdr" header="Contact:" check_it="true" assign_to="target"/>"#,
        );
        self.variables.insert("target".into());
        self
    }

    fn action(&mut self, action: &str) {
        match self.steps.last_mut() {
            Some(Step::Expect { actions, .. }) => writeln!(actions, "    {action}").unwrap(),
            other => panic!("only a message that is expected can be looked at, not {other:?}"),
        }
    }

    /// Nothing may come for so many milliseconds.
    pub fn quiet(mut self, milliseconds: u32) -> Self {
        self.steps.push(Step::Quiet(milliseconds));
        self
    }

    /// The usual start of the called side, whose next request waits until the caller's ACK is there.
    pub fn answers_and_waits(self) -> Self {
        self.answers_call().quiet(100)
    }

    /// The usual end, from this side.
    pub fn hangs_up(self) -> Self {
        self.sends("BYE").hears(200)
    }

    /// The same after some silence.
    pub fn hangs_up_after(self, milliseconds: u32) -> Self {
        self.quiet(milliseconds).hangs_up()
    }

    /// The usual end, from the other side.
    pub fn awaits_bye(self) -> Self {
        self.gets("BYE").says(200)
    }

    /// The usual start of the calling side.
    pub fn calls(self) -> Self {
        self.invite().hears(200).acks()
    }

    /// The usual start of the called side.
    pub fn answers_call(self) -> Self {
        self.gets("INVITE").says_with(200, "", &first()).gets("ACK")
    }

    fn next(&mut self, method: &str) -> (u32, String) {
        self.cseq += 1;
        let branch = format!("z9hG4bK-[pid]-[call_number]-{}{}", self.tag, self.cseq);
        self.sent.push((method.to_owned(), self.cseq, branch.clone()));
        (self.cseq, branch)
    }

    fn last(&self, method: &str) -> (u32, String) {
        let found = self.sent.iter().rev().find(|(sent, ..)| sent == method);
        found.map(|(_, cseq, branch)| (*cseq, branch.clone())).unwrap()
    }

    fn own(&self) -> String {
        "From: \"Reception\" <sip:10048@[local_ip]:[local_port]>;tag=[pid]c[call_number]\n".into()
    }

    fn ends(&self) -> String {
        match self.tag {
            "c" => format!("{}To: [$peer]\n", self.own()),
            tag => format!("From: [$own];tag=[pid]{tag}[call_number]\nTo: [$peer]\n"),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn message(
        mut self,
        start: &str,
        branch: &str,
        ends: &str,
        cseq: u32,
        method: &str,
        lines: &str,
        body: &str,
    ) -> Self {
        let hops = if lines.contains("Max-Forwards:") { "" } else { "Max-Forwards: 70\n" };
        let contact = if lines.contains("Contact:") || method == "ACK" { "" } else { CONTACT };
        let mut text = format!(
            "{start}\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}\n{hops}{ends}Call-ID: [call_id]\n\
             CSeq: {cseq} {method}\n{contact}{}",
            ended(lines)
        );
        text.push_str(&with_body(lines, body));
        self.steps.push(Step::Send(text));
        self
    }

    /// The scenario file.
    pub fn xml(&self, name: &str) -> String {
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\" ?>\n<scenario name=\"{}\">\n",
            escape(name).replace('§', "section")
        );
        for step in &self.steps {
            match step {
                Step::Send(text) => writeln!(xml, "  <send><![CDATA[\n{text}\n  ]]></send>").unwrap(),
                Step::Expect { attributes, actions } if actions.is_empty() => {
                    writeln!(xml, "  <recv {attributes}/>").unwrap();
                }
                Step::Expect { attributes, actions } => {
                    writeln!(xml, "  <recv {attributes}><action>\n{actions}  </action></recv>").unwrap();
                }
                Step::Quiet(ms) => writeln!(xml, "  <pause milliseconds=\"{ms}\"/>").unwrap(),
            }
        }
        // SIPp refuses a variable that nobody reads.
        if !self.variables.is_empty() {
            let names = self.variables.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            writeln!(xml, "  <Reference variables=\"{names}\"/>").unwrap();
        }
        xml.push_str("</scenario>\n");
        xml
    }
}

const CONTACT: &str = "Contact: <sip:party@[local_ip]:[local_port];transport=[transport]>\n";

fn ended(lines: &str) -> String {
    match lines.is_empty() || lines.ends_with('\n') {
        true => lines.to_owned(),
        false => format!("{lines}\n"),
    }
}

fn with_body(lines: &str, body: &str) -> String {
    match (body.is_empty(), lines.contains("Content-Type:")) {
        (true, _) => "Content-Length: 0\n\n".to_owned(),
        (false, true) => format!("Content-Length: [len]\n\n{body}"),
        (false, false) => format!("{SDP}Content-Length: [len]\n\n{body}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn reason(status: u16) -> &'static str {
    match status {
        180 => "Ringing",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        302 => "Moved Temporarily",
        404 => "Not Found",
        422 => "Session Interval Too Small",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        491 => "Request Pending",
        503 => "Service Unavailable",
        603 => "Decline",
        _ => "Because",
    }
}
