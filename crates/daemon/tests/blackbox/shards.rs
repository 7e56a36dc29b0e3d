//! Several signalling threads in the real binary: an INVITE with Replaces reaches the call it names whatever its own
//! Call-ID would lead to, and so does everything that is said in its dialog afterwards; a REFER finds the dialog it names.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use crate::harness::{Gateway, Net, folder, http_get};
use crate::malformed::socket_from;
use crate::sipp::plain_config;
use crate::wire::{Dialog, Wire, tag, value};

/// Calls of each kind, each with Call-IDs of its own.
const CALLS: usize = 32;
const ADMIN: u16 = 9065;

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
