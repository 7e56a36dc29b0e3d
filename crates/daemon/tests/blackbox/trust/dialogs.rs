//! Dialogs of one peer before another one, configured like it and with a certificate of its own, that knows every name in
//! them: nothing reaches the far ends, nothing moves, and each attempt is refused or dropped, and counted.

use std::time::Duration;

use super::{GATEWAYS, SERVERS, Stage};
use crate::wire::{Carrier, Dialog, SDP, Wire, tag, value};

/// Longer than the first retransmission of a 2xx (RFC 3261 §13.3.1.4: T1, 500 ms).
const WHILE: Duration = Duration::from_millis(700);
/// Requests in a dialog, with the lines that make them complete.
const REQUESTS: [(&str, &str); 9] = [
    ("INVITE", ""),
    ("UPDATE", ""),
    ("INFO", ""),
    ("MESSAGE", ""),
    ("PRACK", "RAck: 1 1 INVITE\r\n"),
    ("NOTIFY", "Event: refer\r\nSubscription-State: terminated\r\n"),
    ("REFER", "Refer-To: <sip:101@contoso.test>\r\n"),
    ("FROBNICATE", ""),
    ("BYE", ""),
];

#[test]
fn over_tcp_nobody_touches_a_dialog_of_another_peer() {
    play(Carrier::Tcp);
}

#[test]
fn over_mutual_tls_nobody_touches_a_dialog_of_another_peer() {
    play(Carrier::Tls);
}

fn play(carrier: Carrier) {
    let stage = Stage::start(carrier, |config| config);
    let mut phone = stage.peer(GATEWAYS[0]);
    let mut strangers = [stage.peer(GATEWAYS[1]), stage.peer(SERVERS[1])];
    let Begun { mut server, caller, served, strays, mut strayed } = begin(&stage, &mut phone, &mut strangers);
    let mut refused = 0;
    for (who, stranger) in strangers.iter_mut().enumerate() {
        // As either end of either leg.
        for dialog in [&caller, &served, &turned(&caller), &turned(&served)] {
            refused += everything(stranger, dialog);
        }
        replace(stranger, who, &[&caller, &served]);
        refer(stranger, who, &caller);
    }
    // Peers of the call, but of its other leg.
    refused += everything(&mut phone, &served) + everything(&mut server, &caller);
    // Had anything crossed, it would come before this.
    for cseq in [20, 21] {
        phone.says_in(&caller, "INFO", cseq, "200", || drop(server.serves("INFO")));
        server.says_in(&served, "INFO", cseq, "200", || drop(phone.serves("INFO")));
    }
    // Answers to what others were asked.
    phone.asks(&caller, "INFO", 22, "");
    let asked = server.hears("INFO ");
    server.asks(&served, "INFO", 22, "");
    let asked_too = phone.hears("INFO ");
    for stranger in &mut strangers {
        for request in [&asked, &asked_too] {
            stranger.answers(request, "200 Mine", "");
            stranger.answers(request, "481 Mine", "");
            strayed += 2;
        }
    }
    assert!(phone.is_quiet(WHILE) && server.is_quiet(WHILE), "{}", stage.umbra.process.output());
    server.answers(&asked, "200 OK", "");
    phone.answers(&asked_too, "200 OK", "");
    assert_eq!(value(&phone.hears("SIP/2.0 200 OK"), "CSeq"), "22 INFO");
    assert_eq!(value(&server.hears("SIP/2.0 200 OK"), "CSeq"), "22 INFO");
    assert_eq!(stage.dropped("stray_responses"), strays + f64::from(strayed));
    assert_eq!(stage.dropped("requests_of_foreign_peers"), f64::from(refused));
    assert_eq!(stage.dropped("replaces_of_foreign_peers"), 4.0);
    phone.says_in(&caller, "BYE", 23, "200", || drop(server.serves("BYE")));
    ends(stage);
}

/// A call that stands although others wanted a part in its beginning.
struct Begun {
    server: Wire,
    caller: Dialog,
    served: Dialog,
    strays: f64,
    strayed: u32,
}

fn begin(stage: &Stage, phone: &mut Wire, strangers: &mut [Wire; 2]) -> Begun {
    let (mut caller, mut strayed) = (Dialog::begun("mine"), 0);
    let strays = stage.dropped("stray_responses");
    phone.asks(&caller, "INVITE", 1, "");
    let mut server = stage.called();
    let invite = server.hears("INVITE ");
    for stranger in &mut *strangers {
        for status in ["180 Mine", "200 Mine", "302 Mine", "486 Mine"] {
            stranger.answers(&invite, status, if status.starts_with("200") { SDP } else { "" });
            strayed += 1;
        }
        cancel(stranger, &caller);
        // The branch that the gateway gave the INVITE of leg B.
        let via = value(&invite, "Via");
        let cancel = format!(
            "CANCEL {} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} CANCEL\r\n",
            invite.split(' ').nth(1).unwrap(),
            value(&invite, "From"),
            value(&invite, "To"),
            value(&invite, "Call-ID"),
            value(&invite, "CSeq").split(' ').next().unwrap(),
        );
        stranger.say(&cancel, "");
        stranger.hears("SIP/2.0 481 ");
    }
    server.answers(&invite, "180 Ringing", "");
    let ringing = phone.hears("SIP/2.0 180 ");
    caller.theirs = tag(&value(&ringing, "To"));
    strangers.iter_mut().for_each(|stranger| cancel(stranger, &caller));
    server.answers(&invite, "200 OK", SDP);
    phone.hears("SIP/2.0 200 OK");
    // An ACK that is not the caller's: the 200 goes on until the caller's own.
    for stranger in &mut *strangers {
        stranger.asks(&caller, "ACK", 1, "");
        stranger.say(&copied_ack(&caller, stage), "");
        stranger.asks(&caller, "CANCEL", 1, "");
        stranger.hears("SIP/2.0 481 ");
    }
    phone.hears("SIP/2.0 200 OK");
    phone.asks(&caller, "ACK", 1, "");
    server.hears("ACK ");
    let served = Dialog::served(&invite);
    Begun { server, caller, served, strays, strayed }
}

/// The ACK that the caller itself would send, to the last byte.
fn copied_ack(caller: &Dialog, stage: &Stage) -> String {
    let own = stage.home(GATEWAYS[0]);
    format!(
        "ACK {} SIP/2.0\r\nVia: SIP/2.0/{} {own}:5070;branch=z9hG4bKINVITE1{}{}\r\nMax-Forwards: 70\r\n\
         From: <sip:10048@{own}>;tag={}\r\nTo: <sip:88895@umbra.contoso.test>;tag={}\r\nCall-ID: {}\r\nCSeq: 1 ACK\r\n",
        caller.uri,
        stage.carrier.word(),
        caller.call_id,
        caller.ours,
        caller.ours,
        caller.theirs,
        caller.call_id,
    )
}

fn cancel(stranger: &mut Wire, dialog: &Dialog) {
    stranger.asks(&Dialog { theirs: String::new(), ..dialog.clone() }, "CANCEL", 1, "");
    stranger.hears("SIP/2.0 481 ");
}

/// The same dialog as its other end would name it.
fn turned(dialog: &Dialog) -> Dialog {
    Dialog { ours: dialog.theirs.clone(), theirs: dialog.ours.clone(), ..dialog.clone() }
}

/// Every request there is; how many were refused as those of somebody else, and not for want of a dialog.
fn everything(stranger: &mut Wire, dialog: &Dialog) -> u32 {
    let is_ours = dialog.ours.starts_with("tmine") || dialog.ours == "far";
    stranger.asks(dialog, "ACK", 1, "");
    stranger.asks(dialog, "BENOTIFY", 10, "Event: presence\r\n");
    for (number, (method, lines)) in REQUESTS.into_iter().enumerate() {
        stranger.asks(dialog, method, 11 + u32::try_from(number).unwrap(), lines);
        stranger.hears("SIP/2.0 481 ");
    }
    if is_ours { u32::try_from(REQUESTS.len()).unwrap() + 1 } else { 0 }
}

/// INVITEs that want the place of either end, by the names of either end.
fn replace(stranger: &mut Wire, who: usize, dialogs: &[&Dialog]) {
    for (number, dialog) in dialogs.iter().enumerate() {
        for (turn, named) in [(*dialog).clone(), turned(dialog)].into_iter().enumerate() {
            let own = Dialog::begun(&format!("replacing-{who}-{number}-{turn}"));
            stranger.asks(&own, "INVITE", 1, &format!("Replaces: {}\r\nRequire: replaces\r\n", named.name()));
            let answer = stranger.hears("SIP/2.0 4");
            assert!(answer.starts_with("SIP/2.0 403 ") || answer.starts_with("SIP/2.0 481 "), "{answer}");
            stranger.asks(&own, "ACK", 1, "");
        }
    }
}

/// REFER outside any dialog that names it.
fn refer(stranger: &mut Wire, who: usize, dialog: &Dialog) {
    let named = dialog.name().replace(';', "%3B").replace('=', "%3D");
    let lines =
        format!("Refer-To: <{}?Replaces={named}>\r\nTarget-Dialog: {}\r\n", dialog.uri, dialog.name());
    let own = Dialog::begun(&format!("referring-{who}"));
    stranger.asks(&own, "REFER", 1, &lines);
    let answer = stranger.hears("SIP/2.0 4");
    assert!(answer.starts_with("SIP/2.0 4"), "{answer}");
}

fn ends(mut stage: Stage) {
    assert_eq!(stage.umbra.stop(), 0, "{}", stage.umbra.process.output());
    let records = stage.umbra.records();
    let answered: Vec<_> = records.iter().filter(|record| record["offer_result"] == "Answer").collect();
    assert_eq!(answered.len(), 1, "{records:#?}");
    assert_eq!(answered[0]["call_id"], "mine");
    assert!(
        records.iter().all(|r| r["call_id"] == "mine" || r["offer_result"] == "Rejected"),
        "{records:#?}"
    );
}
