//! One far end: it remembers its dialog, writes messages, and answers what politeness demands an answer to – BYE, CANCEL, a final response that
//! needs its ACK. Everything else waits for the script. Refuses to know transactions.

use std::collections::BTreeSet;

use bytes::Bytes;
use relay::Side;
use sdp::{Direction, OfferSpec, Session};
use sip::{HeaderId, Message, Method};

use crate::world::site::{self, Caller};

/// What goes into a message's body.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Body {
    /// Nothing.
    None,
    /// A description: an offer in requests, an answer in responses.
    Sdp,
}

/// A caller or a server.
pub struct Party {
    side: Side,
    tag: String,
    call_id: String,
    local: String,
    remote: String,
    target: String,
    cseq: u32,
    branches: u32,
    /// The last request of the gateway, by method.
    pub requests: Vec<Message>,
    /// Every response it got, without retransmissions of a 2xx.
    pub responses: Vec<Message>,
    invite_branch: String,
    invite_number: u32,
    /// Our tags in dialogs that have their 2xx and no BYE: more than one only behind a forking server.
    up: BTreeSet<String>,
    accepted: BTreeSet<String>,
    /// It refused the INVITE: a forking server says so only when no fork is left (RFC 3261 §16.7).
    pub has_refused: bool,
    /// It does not acknowledge a 2xx by itself.
    pub holds_ack: bool,
    /// It takes an answer to its taken-back INVITE for a mistake, and says BYE.
    pub took_back: bool,
    acked: BTreeSet<u32>,
    failed: BTreeSet<u32>,
    /// An INVITE of ours inside the dialog waits for its answer.
    pub asks: bool,
    /// One of the gateway's waits for ours.
    pub asked: Option<Message>,
}

impl Party {
    /// The PBX.
    pub fn caller() -> Self {
        Self::new(Side::A, "from-pbx", "<sip:dana@contoso.com>", "<sip:bob@contoso.com>")
    }

    /// The UM server.
    pub fn server() -> Self {
        Self::new(Side::B, "at-um", "", "")
    }

    /// Somebody at the caller's side whom the call does not know yet: takes the caller's place, or is called as the target of a transfer.
    pub fn third() -> Self {
        Self {
            call_id: "third".into(),
            ..Self::new(Side::A, "from-third", "<sip:eve@contoso.com>", "<sip:bob@contoso.com>")
        }
    }

    fn new(side: Side, tag: &str, local: &str, remote: &str) -> Self {
        Self {
            side,
            tag: tag.into(),
            call_id: "pair".into(),
            local: format!("{local};tag={tag}"),
            remote: remote.into(),
            target: "sip:bob@contoso.com;opaque=app:voicemail".into(),
            cseq: 0,
            branches: 0,
            requests: Vec::new(),
            responses: Vec::new(),
            invite_branch: String::new(),
            invite_number: 0,
            up: BTreeSet::new(),
            accepted: BTreeSet::new(),
            has_refused: false,
            holds_ack: false,
            took_back: false,
            acked: BTreeSet::new(),
            failed: BTreeSet::new(),
            asks: false,
            asked: None,
        }
    }

    /// How often it answered an INVITE 200, each fork once.
    pub fn accepted(&self) -> usize {
        self.accepted.len()
    }

    /// Requests of that method that it got.
    pub fn count(&self, method: &Method) -> usize {
        self.requests.iter().filter(|request| request.method() == method).count()
    }

    /// In a dialog that has its 2xx and no BYE.
    pub fn is_up(&self) -> bool {
        !self.up.is_empty()
    }

    /// As whom it speaks.
    pub fn speaks_as(&self) -> Option<&String> {
        self.up.first()
    }

    fn host(&self) -> String {
        match self.side {
            Side::A => Caller::Plain.address().to_string(),
            Side::B => site::server_address(b2bua::policy::ServerRole::Mailbox, 0).to_string(),
        }
    }

    fn description(&self, offer: Option<&Message>) -> Bytes {
        let Ok(address) = self.host().parse() else { return Bytes::new() };
        let mut spec = OfferSpec::new(address, 10_000);
        spec.direction = Direction::SendRecv;
        let offered = offer.and_then(|offer| Session::parse(&offer.body()).ok());
        match offered {
            Some(offered) => {
                spec.formats.retain(|format| format.is("PCMU"));
                sdp::write_answer(&offered, &spec).unwrap_or_default()
            }
            None => sdp::write_offer(&spec),
        }
    }

    fn write(&mut self, method: &str, number: u32, branch: &str, extra: &str, body: &[u8]) -> Bytes {
        let host = self.host();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let head = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/TCP {host}:5060;branch={branch}\r\nMax-Forwards: 70\r\n\
             From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\nContact: <sip:far@{host}:5060;transport=tcp>\r\n\
             {extra}{kind}Content-Length: {}\r\n\r\n",
            self.target,
            self.local,
            self.remote,
            self.call_id,
            body.len()
        );
        Bytes::from([head.as_bytes(), body].concat())
    }

    fn branch(&mut self) -> String {
        self.branches += 1;
        format!("z9hG4bK-{}-{}", self.tag, self.branches)
    }

    /// The INVITE that begins the call.
    pub fn invite(&mut self, body: Body) -> Bytes {
        let sdp = if body == Body::Sdp { self.description(None) } else { Bytes::new() };
        self.cseq += 1;
        self.invite_branch = self.branch();
        self.invite_number = self.cseq;
        let branch = self.invite_branch.clone();
        let extra =
            "Supported: timer, 100rel\r\nAllow: INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, INFO, REFER\r\n";
        self.write("INVITE", self.cseq, &branch, extra, &sdp)
    }

    /// Its INVITE, with a Replaces that names this party's dialog as the gateway knows it.
    pub fn replaces(&mut self, whom: &Self) -> Bytes {
        let sdp = self.description(None);
        (self.cseq, self.invite_number, self.invite_branch) = (1, 1, self.branch());
        let branch = self.invite_branch.clone();
        let ours = whom.remote.rsplit("tag=").next().unwrap_or_default();
        let named = format!("{};to-tag={ours};from-tag={}", whom.call_id, whom.tag);
        self.write("INVITE", 1, &branch, &format!("Require: replaces\r\nReplaces: {named}\r\n"), &sdp)
    }

    /// Whether a message belongs to its dialog.
    pub fn is_addressed(&self, message: &Message) -> bool {
        message.call_id() == self.call_id.as_bytes()
    }

    /// CANCEL of its last INVITE.
    pub fn cancel(&mut self) -> Bytes {
        if self.invite_number > 1 {
            let branch = self.invite_branch.clone();
            return self.write("CANCEL", self.invite_number, &branch, "", b"");
        }
        self.took_back = true;
        let branch = self.invite_branch.clone();
        let (target, remote) = (self.target.clone(), self.remote.clone());
        self.target = "sip:bob@contoso.com;opaque=app:voicemail".into();
        self.remote = "<sip:bob@contoso.com>".into();
        let bytes = self.write("CANCEL", 1, &branch, "", b"");
        (self.target, self.remote) = (target, remote);
        bytes
    }

    /// A request inside the dialog, with further header lines.
    pub fn request(&mut self, method: &str, extra: &str, body: Body) -> Bytes {
        let sdp = if body == Body::Sdp { self.description(None) } else { Bytes::new() };
        self.cseq += 1;
        if method == "INVITE" {
            self.asks = true;
            self.invite_branch = self.branch();
            self.invite_number = self.cseq;
            let branch = self.invite_branch.clone();
            return self.write(method, self.cseq, &branch, extra, &sdp);
        }
        if method == "BYE" {
            self.up.clear();
        }
        let branch = self.branch();
        self.write(method, self.cseq, &branch, extra, &sdp)
    }

    /// ACK to the 2xx of our INVITE with that number.
    pub fn ack(&mut self, number: u32, body: Body) -> Bytes {
        let offer =
            self.responses.iter().rev().find(|r| *r.method() == Method::Invite && r.cseq().number == number);
        let sdp = match body {
            Body::Sdp => self.description(offer.cloned().as_ref()),
            Body::None => Bytes::new(),
        };
        self.acked.insert(number);
        let branch = self.branch();
        self.write("ACK", number, &branch, "", &sdp)
    }

    /// A response to a request of the gateway; `fork` names another far end behind the same server.
    pub fn respond(&mut self, request: &Message, status: u16, fork: &str, extra: &str, body: Body) -> Bytes {
        let Some(code) = sip::StatusCode::new(status) else { return Bytes::new() };
        let name = format!("{}{fork}", self.tag);
        let tag = (status > 100).then_some(name.as_bytes());
        let sdp = match body {
            Body::Sdp if request.body().is_empty() => self.description(None),
            Body::Sdp => self.description(Some(request)),
            Body::None => Bytes::new(),
        };
        let begins = *request.method() == Method::Invite && request.to_tag().is_none();
        self.has_refused |= begins && status >= 300;
        if begins && (200..300).contains(&status) {
            self.up.insert(name.clone());
            self.accepted.insert(name.clone());
        }
        if *request.method() == Method::Invite && status >= 200 {
            self.asked.take_if(|asked| asked.cseq().number == request.cseq().number);
        }
        let mut builder = sip::response_to(request, code, None, tag)
            .header(HeaderId::Contact, format!("<sip:far{fork}@{}:5060;transport=tcp>", self.host()));
        for line in extra.lines() {
            if let Some((name, value)) = line.split_once(": ") {
                builder = builder.raw_header(name.as_bytes(), value.as_bytes());
            }
        }
        let kind = (!sdp.is_empty()).then_some(&b"application/sdp"[..]);
        builder.finish(kind, &sdp).unwrap_or_default()
    }

    /// CSeq of its last INVITE.
    pub fn last_invite(&self) -> u32 {
        self.invite_number
    }

    /// It has heard a tag of the other side.
    pub fn knows_dialog(&self) -> bool {
        self.remote.contains(";tag=")
    }

    /// The INVITE that the gateway began the call with.
    pub fn first_invite(&self) -> Option<Message> {
        self.requests.iter().find(|r| *r.method() == Method::Invite && r.to_tag().is_none()).cloned()
    }

    /// Statuses it got for a method, provisional ones without 100.
    pub fn statuses(&self, method: &Method) -> Vec<u16> {
        let of_it = self.responses.iter().filter(|r| r.method() == method);
        of_it.filter_map(|r| r.status()).map(|s| s.code()).filter(|code| *code > 100).collect()
    }

    /// What comes from the gateway; gives what politeness demands in reply.
    pub fn receive(&mut self, message: &Message) -> Vec<Bytes> {
        if message.is_request() { self.on_request(message) } else { self.on_response(message) }
    }

    fn on_request(&mut self, request: &Message) -> Vec<Bytes> {
        self.requests.push(request.clone());
        let text = |id| String::from_utf8_lossy(&request.value_bytes(id).unwrap_or_default()).into_owned();
        if request.to_tag().is_none() && *request.method() == Method::Invite {
            self.call_id = text(HeaderId::CallId);
            self.remote = text(HeaderId::From);
            self.local = format!("{};tag={}", text(HeaderId::To), self.tag);
            self.learn_target(request);
        }
        match request.method() {
            Method::Bye => {
                let whom = String::from_utf8_lossy(request.to_tag().unwrap_or_default()).into_owned();
                self.up.remove(&whom);
                let mut replies = vec![self.respond(request, 200, "", "", Body::None)];
                // RFC 3261 §15.1.2: what is pending is answered 487.
                if let Some(asked) = self.asked.take() {
                    replies.push(self.respond(&asked, 487, "", "", Body::None));
                }
                replies
            }
            Method::Cancel => {
                let mut replies = vec![self.respond(request, 200, "", "", Body::None)];
                if let Some(asked) = self.asked.take() {
                    replies.push(self.respond(&asked, 487, "", "", Body::None));
                }
                replies
            }
            Method::Invite => {
                // RFC 3261 §14.2
                if self.asks && request.to_tag().is_some() {
                    return vec![self.respond(request, 491, "", "", Body::None)];
                }
                self.asked = Some(request.clone());
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn learn_target(&mut self, message: &Message) {
        if let Some(contact) = message.contacts().ok().and_then(|list| list.into_iter().next()) {
            self.target = String::from_utf8_lossy(contact.uri.raw()).into_owned();
        }
    }

    fn on_response(&mut self, response: &Message) -> Vec<Bytes> {
        let (number, method) = (response.cseq().number, response.method().clone());
        let status = response.status().map_or(0, |s| s.code());
        if method != Method::Invite || status < 200 {
            let is_early = method == Method::Invite && status > 100 && !self.knows_dialog();
            if is_early {
                self.remote =
                    String::from_utf8_lossy(&response.value_bytes(HeaderId::To).unwrap_or_default())
                        .into_owned();
                self.learn_target(response);
            }
            self.responses.push(response.clone());
            return Vec::new();
        }
        self.asks = false;
        if status >= 300 {
            if !self.failed.insert(number) {
                return Vec::new();
            }
            self.responses.push(response.clone());
            let to = self.remote.clone();
            self.remote =
                String::from_utf8_lossy(&response.value_bytes(HeaderId::To).unwrap_or_default()).into_owned();
            let branch = self.invite_branch.clone();
            let ack = self.write("ACK", number, &branch, "", b"");
            self.remote = to;
            return vec![ack];
        }
        let is_again = self.responses.iter().any(|r| r.bytes() == response.bytes());
        if !is_again {
            self.responses.push(response.clone());
            self.remote =
                String::from_utf8_lossy(&response.value_bytes(HeaderId::To).unwrap_or_default()).into_owned();
            self.learn_target(response);
            self.up.insert(self.tag.clone());
        }
        if self.holds_ack && !self.acked.contains(&number) {
            return Vec::new();
        }
        let mut replies = vec![self.ack(number, Body::None)];
        if self.took_back && !is_again {
            replies.push(self.request("BYE", "", Body::None));
        }
        replies
    }
}
