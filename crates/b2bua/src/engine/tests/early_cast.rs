//! What far ends say before a call is answered: 18x in any early dialog, PRACK, requests in early dialogs.

use bytes::Bytes;
use sip::endpoint::ServerKey;
use sip::{Dialog, HeaderId, Message, Method, StatusCode};

use super::policy::{self, POOL};
use super::world::{Place, Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION};

/// The only server of these tests: a Call Router that answers by itself.
pub fn server() -> Place {
    ("cas01.contoso.com".into(), 5061)
}

/// A world with a caller and one server that does what the test says.
pub fn world() -> World {
    let mut world = World::new(policy::secured());
    world.script("cas01.contoso.com", 5061, Script::Silent);
    world.connect_caller("10.0.0.5", Some(POOL));
    world
}

/// A deposit of a caller with these extra lines; it comes back ringing nowhere yet.
pub fn calling(lines: &str) -> World {
    let mut world = world();
    world.invite(DEPOSIT, &format!("{DIVERSION}{lines}"), Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.party("cas01.contoso.com", 5061).methods(), ["INVITE"]);
    world
}

impl World {
    /// The INVITE that waits at the server.
    pub fn waiting(&mut self) -> (ServerKey, Message) {
        let (name, port) = server();
        self.party(&name, port).pending.clone().expect("an INVITE waits")
    }

    /// The server answers its INVITE in the early dialog `tag`.
    pub fn answers(&mut self, status: u16, tag: &str, lines: &str, body: Option<Bytes>) {
        let (key, invite) = self.waiting();
        let bytes = response(&invite, status, tag, lines, body);
        let ((name, port), now) = (server(), self.now);
        self.party(&name, port).endpoint.respond(now, key, bytes).unwrap();
        self.pump();
    }

    /// The same past the server's transaction: late, or once more.
    pub fn answers_raw(&mut self, status: u16, tag: &str, lines: &str, body: Option<Bytes>) {
        let (_, invite) = self.waiting();
        let bytes = response(&invite, status, tag, lines, body);
        let (name, port) = server();
        let party = self.party(&name, port);
        let flow = party.flow.unwrap();
        party.endpoint.send_raw(&flow, bytes);
        self.pump();
    }

    /// An honest answer of the server to our offer, with its media at that port.
    pub fn sdp_at(&mut self, port: u16) -> Bytes {
        let (_, invite) = self.waiting();
        answer_to(&invite.body(), "10.0.2.1", port, &["PCMU"])
    }

    /// A request of the server in its early dialog `tag`.
    pub fn server_says(&mut self, tag: &str, cseq: u32, method: Method, lines: &str, body: Option<Bytes>) {
        let (_, invite) = self.waiting();
        let mut dialog = Dialog::uas(&invite, Bytes::copy_from_slice(tag.as_bytes())).unwrap();
        dialog.local_cseq = Some(cseq - 1);
        let (name, port) = server();
        self.party(&name, port).dialog = Some(dialog);
        self.in_dialog(&server(), method, lines, body);
    }

    /// The caller takes the early dialog of our last 18x.
    pub fn caller_learns(&mut self) {
        let party = self.caller();
        let last = party.responses.last().unwrap().clone();
        party.dialog = Some(Dialog::uac(party.invite.as_ref().unwrap(), &last).unwrap());
    }

    /// The caller's PRACK for our last reliable 18x.
    pub fn pracks(&mut self, body: Option<Bytes>) {
        let rseq = self.last_rseq();
        self.pracks_as(&format!("{rseq} 1 INVITE"), body);
    }

    pub fn pracks_as(&mut self, rack: &str, body: Option<Bytes>) {
        if self.caller().dialog.is_none() {
            self.caller_learns();
        }
        self.in_dialog(&caller(), Method::Prack, &format!("RAck: {rack}\r\n"), body);
    }

    /// RSeq of the last 18x the caller has.
    pub fn last_rseq(&mut self) -> u32 {
        let reliable = self.caller().responses.iter().rev().find_map(|r| r.header(HeaderId::RSeq));
        std::str::from_utf8(reliable.expect("a reliable 18x")).unwrap().parse().unwrap()
    }

    /// What the caller got to its INVITE, 100 left out.
    pub fn heard(&mut self) -> Vec<u16> {
        let invites = self.caller().responses.iter().filter(|r| *r.method() == Method::Invite);
        invites.filter_map(|r| r.status()).map(StatusCode::code).filter(|s| *s != 100).collect()
    }

    /// The last response the caller got to its INVITE.
    pub fn last_heard(&mut self) -> Message {
        self.caller().responses.iter().rfind(|r| *r.method() == Method::Invite).unwrap().clone()
    }

    /// RAck values of the PRACKs the server got.
    pub fn racks(&mut self) -> Vec<String> {
        let (name, port) = server();
        let requests = self.party(&name, port).requests.iter();
        let racks = requests.filter_map(|r| r.header(HeaderId::RAck));
        racks.map(|rack| String::from_utf8_lossy(rack).into_owned()).collect()
    }

    pub fn server_methods(&mut self) -> Vec<String> {
        let (name, port) = server();
        self.party(&name, port).methods()
    }

    /// The caller hangs up; nothing may be left.
    pub fn hangs_up(&mut self) {
        self.in_dialog(&caller(), Method::Bye, "", None);
        self.assert_clean();
    }
}

/// A response of the server to `invite` in its dialog `tag`.
pub fn response(invite: &Message, status: u16, tag: &str, lines: &str, body: Option<Bytes>) -> Bytes {
    let status = StatusCode::new(status).unwrap();
    let mut builder = sip::response_to(invite, status, None, Some(tag.as_bytes()));
    builder = builder.header(HeaderId::Contact, format!("<sip:{tag}@10.0.2.1:5066>"));
    builder = builder.block(lines.as_bytes());
    let content_type = body.is_some().then_some(&b"application/sdp"[..]);
    builder.finish(content_type, &body.unwrap_or_default()).unwrap()
}

/// An answer to `offered` with these encodings only.
pub fn answer_to(offered: &[u8], address: &str, port: u16, names: &[&str]) -> Bytes {
    let offered = sdp::Session::parse(offered).unwrap();
    let audio = offered.audio().unwrap();
    let mut spec = sdp::OfferSpec::new(address.parse().unwrap(), port);
    spec.formats =
        audio.formats.iter().filter(|f| names.iter().any(|n| f.is(n)) || f.is_auxiliary()).cloned().collect();
    spec.direction = audio.direction.mirrored();
    if let Some(theirs) = audio.crypto.first() {
        spec.profile = sdp::Profile::RtpSavp;
        spec.crypto = vec![super::world::line(theirs.tag, theirs.suite, (port % 251) as u8)];
    }
    sdp::write_answer(&offered, &spec).unwrap()
}
