//! Several signalling threads in the real binary: an INVITE with Replaces reaches the call it names whatever its own
//! Call-ID would lead to, and so does everything that is said in its dialog afterwards; a REFER finds the dialog it names.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use crate::harness::{Gateway, Net, folder, http_get};
use crate::malformed::socket_from;
use crate::sipp::plain_config;

/// Calls of each kind, each with Call-IDs of its own.
const CALLS: usize = 32;
const ADMIN: u16 = 9065;
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n\
a=rtpmap:0 PCMU/8000\r\n";

/// One connection of a peer.
struct Wire {
    stream: TcpStream,
    heard: Vec<u8>,
    own: Ipv4Addr,
}

impl Wire {
    fn new(stream: TcpStream, own: Ipv4Addr) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, heard: Vec::new(), own }
    }

    fn say(&mut self, head: &str, body: &str) {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!("{head}{kind}Content-Length: {}\r\n\r\n{body}", body.len());
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn hear(&mut self) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.heard).into_owned();
            if let Some((head, _)) = text.split_once("\r\n\r\n") {
                let end = head.len() + 4 + value(head, "Content-Length").parse::<usize>().unwrap();
                if self.heard.len() >= end {
                    self.heard.drain(..end);
                    return text[..end].to_owned();
                }
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "closed");
            self.heard.extend_from_slice(&buffer[..count]);
        }
    }

    /// The next message but for 100 and questions whether we live; it must begin so.
    fn hears(&mut self, start: &str) -> String {
        loop {
            let message = self.hear();
            if message.starts_with("OPTIONS ") {
                self.answers(&message, "200 OK", "");
            } else if !message.starts_with("SIP/2.0 100 ") {
                assert!(message.starts_with(start), "{start} expected, not\n{message}");
                return message;
            }
        }
    }

    /// Hears a request and answers 200.
    fn serves(&mut self, method: &str) -> String {
        let request = self.hears(&format!("{method} "));
        self.answers(&request, "200 OK", if method == "INVITE" { SDP } else { "" });
        request
    }

    fn answers(&mut self, request: &str, status: &str, body: &str) {
        let lines = |name: &str| {
            let lines = request.split("\r\n").filter(|line| line.starts_with(&format!("{name}:")));
            lines.map(|line| format!("{line}\r\n")).collect::<String>()
        };
        let to = value(request, "To");
        let tag = if to.contains(";tag=") { "" } else { ";tag=far" };
        let head = format!(
            "SIP/2.0 {status}\r\n{}From: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n{}",
            lines("Via"),
            value(request, "From"),
            value(request, "Call-ID"),
            value(request, "CSeq"),
            self.contact(),
        );
        self.say(&head, body);
    }

    fn contact(&self) -> String {
        format!("Contact: <sip:peer@{}:5070;transport=tcp>\r\n", self.own)
    }

    fn asks(&mut self, dialog: &Dialog, method: &str, cseq: u32, lines: &str) {
        let number = cseq_of(method, cseq);
        let branch = if method == "CANCEL" { "INVITE" } else { method };
        let head = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/TCP {}:5070;branch=z9hG4bK{branch}{number}{}\r\nMax-Forwards: 70\r\n\
             From: <sip:10048@{}>;tag={}\r\nTo: <sip:88895@umbra.contoso.test>{}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\n{}{lines}",
            dialog.uri,
            self.own,
            dialog.call_id,
            self.own,
            dialog.ours,
            if dialog.theirs.is_empty() { String::new() } else { format!(";tag={}", dialog.theirs) },
            dialog.call_id,
            self.contact(),
        );
        self.say(&head, if method == "INVITE" { SDP } else { "" });
    }

    /// Begins a dialog and gets so far as the 2xx, its ACK included.
    fn calls(&mut self, call_id: &str, lines: &str, meanwhile: impl FnOnce()) -> Dialog {
        let mut dialog = Dialog::begun(call_id);
        self.asks(&dialog, "INVITE", 1, lines);
        meanwhile();
        dialog.theirs = tag(&value(&self.hears("SIP/2.0 200 "), "To"));
        self.asks(&dialog, "ACK", 1, "");
        dialog
    }

    fn says_in(&mut self, dialog: &Dialog, method: &str, cseq: u32, status: &str, meanwhile: impl FnOnce()) {
        self.asks(dialog, method, cseq, "");
        meanwhile();
        let answer = self.hears(&format!("SIP/2.0 {status} "));
        assert_eq!(value(&answer, "Call-ID"), dialog.call_id);
    }
}

/// A dialog as one far end knows it.
#[derive(Clone)]
struct Dialog {
    uri: String,
    call_id: String,
    ours: String,
    theirs: String,
}

impl Dialog {
    fn begun(call_id: &str) -> Self {
        let uri = String::from("sip:88895@umbra.contoso.test;user=phone");
        Self { uri, call_id: call_id.to_owned(), ours: format!("t{call_id}"), theirs: String::new() }
    }

    /// The server's end of an INVITE that it answered.
    fn served(invite: &str) -> Self {
        let contact = value(invite, "Contact");
        let uri = contact.trim_start_matches('<').split('>').next().unwrap().to_owned();
        let call_id = value(invite, "Call-ID");
        Self { uri, call_id, ours: String::from("far"), theirs: tag(&value(invite, "From")) }
    }

    /// Its name for whoever receives an INVITE at the other end.
    fn name(&self) -> String {
        format!("{};to-tag={};from-tag={}", self.call_id, self.theirs, self.ours)
    }
}

fn value(message: &str, name: &str) -> String {
    let line = message.split("\r\n").find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in\n{message}")).to_owned()
}

fn tag(address: &str) -> String {
    address.split(";tag=").nth(1).unwrap_or_default().split(';').next().unwrap_or_default().to_owned()
}

fn cseq_of(method: &str, cseq: u32) -> u32 {
    if matches!(method, "ACK" | "CANCEL") { 1 } else { cseq }
}

/// A gateway of four shards, a connection of the IP-PBX for each of them, and the connection to the server.
struct Stage {
    umbra: Gateway,
    phones: Vec<Wire>,
    server: Wire,
    /// A connection that the server opened.
    process: Wire,
}

impl Stage {
    fn new() -> Self {
        let net = Net::new();
        let (caller, gateway, server): (Ipv4Addr, Ipv4Addr, Ipv4Addr) =
            (net.host(10), net.host(20), net.host(30));
        let um = TcpListener::bind((server, 5060)).unwrap();
        let config = plain_config(caller, gateway, server)
            .replace("http = \"\"", &format!("http = \"{gateway}:{ADMIN}\"\n\n[engine]\nshards = 4"));
        let umbra = Gateway::start(folder(), gateway, 5060, &config);
        let from = |own| Wire::new(socket_from(own, (gateway, 5060).into()), own);
        let mut phones: Vec<Wire> = (0..4).map(|_| from(caller)).collect();
        let process = from(server);
        // The first call makes the connection to the server.
        let first = Dialog::begun("warm-up");
        phones[0].asks(&first, "INVITE", 1, "");
        let mut server = Wire::new(um.accept().unwrap().0, server);
        server.serves("INVITE");
        let theirs = tag(&value(&phones[0].hears("SIP/2.0 200 "), "To"));
        let first = Dialog { theirs, ..first };
        phones[0].asks(&first, "ACK", 1, "");
        server.hears("ACK ");
        phones[0].says_in(&first, "BYE", 2, "200", || drop(server.serves("BYE")));
        Self { umbra, phones, server, process }
    }

    /// A call that is up: the caller's end and the server's.
    fn call(&mut self, phone: usize, call_id: &str, lines: &str) -> (Dialog, Dialog) {
        let mut invite = String::new();
        let own = self.phones[phone].calls(call_id, lines, || invite = self.server.serves("INVITE"));
        self.server.hears("ACK ");
        // Behind the ACK, so that the call stands when another connection speaks of it.
        self.phones[phone].says_in(&own, "INFO", 2, "200", || drop(self.server.serves("INFO")));
        (own, Dialog::served(&invite))
    }

    /// `phone` takes the place of `held`, whose phone gets BYE.
    fn take_over(&mut self, phone: usize, call_id: &str, held: (usize, &Dialog)) -> Dialog {
        let lines = format!("Replaces: {}\r\nRequire: replaces\r\n", held.1.name());
        let (own, _) = self.call(phone, call_id, &lines);
        let bye = self.phones[held.0].serves("BYE");
        assert_eq!(value(&bye, "Call-ID"), held.1.call_id);
        own
    }

    fn followed(&self) -> f64 {
        let metrics = http_get(self.umbra.address, ADMIN, "/metrics");
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("umbra_events_total{kind=\"replaces_followed\"} "));
        line.map_or(0.0, |count| count.parse().unwrap())
    }

    /// Everything that was begun is over.
    fn ends(mut self, calls: usize) {
        let records = self.umbra.wait_for_records(calls + 1, Duration::from_secs(10));
        assert_eq!(records.len(), calls + 1);
        for record in records {
            let is_late = record["call_id"].as_str().unwrap().starts_with("late-");
            assert_eq!(record["offer_result"], if is_late { "Rejected" } else { "Answer" }, "{record:#}");
        }
        assert_eq!(self.umbra.stop(), 0, "{}", self.umbra.process.output());
    }
}

#[test]
fn every_invite_with_replaces_finds_its_call_in_another_shard_and_both_legs_end_cleanly() {
    let mut stage = Stage::new();
    for number in 0..CALLS {
        let (first, served) = stage.call(0, &format!("first-{number}"), "");
        // Taken over, and what took it over taken over again, from other connections each time.
        let second = stage.take_over(1, &format!("second-{number}"), (0, &first));
        let third = stage.take_over(2, &format!("third-{number}"), (1, &second));
        // In the dialog of the last: from the newcomer on its own and on another connection, and from the server.
        for (phone, cseq) in [(2, 3), (3, 4)] {
            let Stage { phones, server, .. } = &mut stage;
            phones[phone].says_in(&third, "INFO", cseq, "200", || drop(server.serves("INFO")));
        }
        let Stage { phones, server, .. } = &mut stage;
        server.says_in(&served, "INFO", 1, "200", || {
            let request = phones[2].serves("INFO");
            assert_eq!(value(&request, "Call-ID"), third.call_id);
        });
        if number % 2 == 0 {
            phones[2].says_in(&third, "BYE", 5, "200", || drop(server.serves("BYE")));
        } else {
            server.says_in(&served, "BYE", 2, "200", || drop(phones[2].serves("BYE")));
        }
    }
    // Two thirds of three quarters would be 48; that nothing was followed would be luck of one in 4^64.
    let followed = stage.followed();
    assert!(followed > 24.0, "{followed}");
    stage.ends(CALLS);
}

#[test]
fn a_server_replaces_its_leg_from_any_connection_and_what_finds_no_call_is_answered_and_acknowledged() {
    let mut stage = Stage::new();
    for number in 0..CALLS {
        let (own, served) = stage.call(0, &format!("call-{number}"), "");
        // Another process of the server takes the leg; the caller hears a new offer, the old process BYE.
        let lines = format!("Replaces: {}\r\nRequire: replaces\r\n", served.name());
        let Stage { phones, server, process, .. } = &mut stage;
        let newer = process.calls(&format!("process-{number}"), &lines, || drop(phones[0].serves("INVITE")));
        phones[0].hears("ACK ");
        server.serves("BYE");
        process.says_in(&newer, "INFO", 2, "200", || drop(phones[0].serves("INFO")));
        phones[0].says_in(&own, "INFO", 3, "200", || drop(process.serves("INFO")));
        // The dialog that is gone is found no more, wherever its Call-ID leads to.
        let late = Dialog::begun(&format!("late-{number}"));
        phones[1].asks(&late, "INVITE", 1, &lines.replace(&served.theirs, "gone"));
        phones[1].hears("SIP/2.0 481 ");
        phones[1].asks(&late, "ACK", 1, "");
        // A take-over that is given up before the other leg agreed leaves the call as it is.
        let hasty = Dialog::begun(&format!("hasty-{number}"));
        phones[2].asks(&hasty, "INVITE", 1, &format!("Replaces: {}\r\n", own.name()));
        let offered = process.hears("INVITE ");
        phones[2].asks(&hasty, "CANCEL", 1, "");
        assert_eq!(value(&phones[2].hears("SIP/2.0 200 "), "CSeq"), "1 CANCEL");
        // RFC 3261 §9.1: our CANCEL waits for a provisional response.
        process.answers(&offered, "180 Ringing", "");
        let cancelled = process.hears("CANCEL ");
        process.answers(&cancelled, "200 OK", "");
        process.answers(&offered, "487 Request Terminated", "");
        process.hears("ACK ");
        phones[2].hears("SIP/2.0 487 ");
        phones[2].asks(&hasty, "ACK", 1, "");
        phones[0].says_in(&own, "BYE", 4, "200", || drop(process.serves("BYE")));
    }
    stage.ends(CALLS * 2);
}

#[test]
fn a_refer_carried_across_names_the_dialog_of_another_shard_as_the_other_leg_knows_it() {
    let mut stage = Stage::new();
    for number in 0..CALLS {
        let (first, served) = stage.call(0, &format!("first-{number}"), "");
        let (second, consulted) = stage.call(1, &format!("second-{number}"), "");
        // "Call the far end of the other call, and take my place there."
        let replaces = consulted.name().replace(';', "%3B").replace('=', "%3D");
        let refer = format!("Refer-To: <{}?Replaces={replaces}>\r\n", consulted.uri);
        let Stage { phones, server, .. } = &mut stage;
        server.asks(&served, "REFER", 1, &refer);
        let carried = phones[0].hears("REFER ");
        phones[0].answers(&carried, "603 Decline", "");
        server.hears("SIP/2.0 603 ");
        let told = value(&carried, "Refer-To").replace("%3B", ";").replace("%3D", "=").replace("%3b", ";");
        // The phone that is meant knows its dialog by these names, seen from its own side.
        let named = format!("Replaces={};to-tag={};from-tag={}", second.call_id, second.ours, second.theirs);
        assert!(told.contains(&named), "{named} expected in {told}");
        for (phone, dialog) in [(0, &first), (1, &second)] {
            phones[phone].says_in(dialog, "BYE", 3, "200", || drop(server.serves("BYE")));
        }
    }
    stage.ends(CALLS * 2);
}
