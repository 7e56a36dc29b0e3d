//! The transition table of a call, found by trying: every state is reached by messages alone, every event is tried in it, and what the gateway does
//! at once is written down. Owns the states, the events and the way a line reads; whether a line is right is said by whoever reviews the table.

use b2bua::engine::{Command, ConnectFailureKind, Input, MediaFailure};
use relay::{Fact, Side};
use sip::{HeaderId, Limits, Message, Method};

use super::{Body, Pair, Party, Shell};

/// How a state is reached.
struct Stage {
    name: &'static str,
    reach: fn(&mut Pair),
}

/// What happens in it; false when it cannot.
struct Cause {
    name: &'static str,
    happen: fn(&mut Pair) -> bool,
}

const STAGES: &[Stage] = &[
    Stage { name: "awaiting media", reach: ask_ports },
    Stage {
        name: "dialing, connecting",
        reach: |pair| {
            ask_ports(pair);
            pair.give_ports(Ok(()));
        },
    },
    Stage { name: "dialing, invited", reach: invite },
    Stage {
        name: "ringing",
        reach: |pair| {
            invite(pair);
            answer(pair, 180, "", "", Body::None);
        },
    },
    Stage {
        name: "ringing, early media",
        reach: |pair| {
            invite(pair);
            answer(pair, 183, "", "", Body::Sdp);
        },
    },
    Stage {
        name: "ringing, reliable",
        reach: |pair| {
            invite(pair);
            answer(pair, 183, "", RELIABLE, Body::Sdp);
        },
    },
    Stage {
        name: "awaiting PRACK",
        reach: |pair| {
            invite(pair);
            answer(pair, 183, "", RELIABLE, Body::Sdp);
            answer(pair, 200, "", "", Body::None);
        },
    },
    Stage {
        name: "answering",
        reach: |pair| {
            pair.party(Side::A).holds_ack = true;
            establish(pair);
        },
    },
    Stage { name: "established", reach: establish },
    Stage {
        name: "renegotiating for the caller",
        reach: |pair| {
            establish(pair);
            ask(pair, Side::A, "INVITE", "", Body::Sdp);
            respond(pair, Side::B, 100, Body::None);
        },
    },
    Stage {
        name: "renegotiating for the server",
        reach: |pair| {
            establish(pair);
            ask(pair, Side::B, "INVITE", "", Body::Sdp);
            respond(pair, Side::A, 100, Body::None);
        },
    },
    Stage {
        name: "answering an offer of the caller",
        reach: |pair| {
            establish(pair);
            pair.party(Side::A).holds_ack = true;
            ask(pair, Side::A, "INVITE", "", Body::Sdp);
            respond(pair, Side::B, 200, Body::Sdp);
            pair.settle();
        },
    },
    Stage {
        name: "transferring, a newcomer for the caller",
        reach: |pair| {
            establish(pair);
            let invite = pair.third.replaces(&pair.parties[0]);
            pair.send(Side::A, invite);
            pair.settle();
        },
    },
    Stage { name: "established, a target is called", reach: call_target },
    Stage {
        name: "established, a target is called, the server left",
        reach: |pair| {
            call_target(pair);
            ask(pair, Side::B, "BYE", "", Body::None);
        },
    },
    Stage { name: "transferring, a target for the server", reach: join_target },
    Stage {
        name: "transferring, a target for the server, who left",
        reach: |pair| {
            join_target(pair);
            ask(pair, Side::B, "BYE", "", Body::None);
        },
    },
    Stage {
        name: "ending, BYE to the server",
        reach: |pair| {
            establish(pair);
            let bye = pair.party(Side::A).request("BYE", "", Body::None);
            pair.send(Side::A, bye);
            pair.deliver_in(Side::A, 0);
            pair.deliver_out(Side::A);
        },
    },
    Stage {
        name: "ending, BYE waits for ACK",
        reach: |pair| {
            pair.party(Side::A).holds_ack = true;
            establish(pair);
            ask(pair, Side::B, "BYE", "", Body::None);
        },
    },
];

const TO_SUE: &str = "Refer-To: <sip:sue@contoso.com>\r\n";
const RELIABLE: &str = "Require: 100rel\nRSeq: 1";

const CAUSES: &[Cause] = &[
    Cause {
        name: "A CANCEL",
        happen: |pair| {
            let cancel = pair.party(Side::A).cancel();
            arrive(pair, Side::A, cancel)
        },
    },
    Cause {
        name: "A ACK",
        happen: |pair| {
            let number = pair.party(Side::A).last_invite();
            let ack = pair.party(Side::A).ack(number, Body::None);
            arrive(pair, Side::A, ack)
        },
    },
    Cause { name: "A PRACK", happen: prack },
    Cause { name: "A BYE", happen: |pair| request(pair, Side::A, "BYE", "", Body::None) },
    Cause { name: "A INVITE+sdp", happen: |pair| request(pair, Side::A, "INVITE", "", Body::Sdp) },
    Cause { name: "A INVITE", happen: |pair| request(pair, Side::A, "INVITE", "", Body::None) },
    Cause { name: "A UPDATE", happen: |pair| request(pair, Side::A, "UPDATE", "", Body::None) },
    Cause { name: "A UPDATE+sdp", happen: |pair| request(pair, Side::A, "UPDATE", "", Body::Sdp) },
    Cause {
        name: "A UPDATE too short",
        happen: |pair| {
            request(pair, Side::A, "UPDATE", "Supported: timer\r\nSession-Expires: 10\r\n", Body::None)
        },
    },
    Cause { name: "A INFO", happen: |pair| request(pair, Side::A, "INFO", "", Body::None) },
    Cause { name: "A OPTIONS", happen: |pair| request(pair, Side::A, "OPTIONS", "", Body::None) },
    Cause { name: "A REFER", happen: |pair| request(pair, Side::A, "REFER", TO_SUE, Body::None) },
    Cause {
        name: "A BENOTIFY",
        happen: |pair| request(pair, Side::A, "BENOTIFY", "Event: x\r\n", Body::None),
    },
    Cause { name: "A FOO", happen: |pair| request(pair, Side::A, "FOO", "", Body::None) },
    Cause { name: "A 200+sdp", happen: |pair| respond(pair, Side::A, 200, Body::Sdp) },
    Cause { name: "A 488", happen: |pair| respond(pair, Side::A, 488, Body::None) },
    Cause { name: "A 491", happen: |pair| respond(pair, Side::A, 491, Body::None) },
    Cause { name: "A is lost", happen: |pair| lose(pair, Side::A) },
    Cause { name: "B 100", happen: |pair| respond(pair, Side::B, 100, Body::None) },
    Cause { name: "B 180", happen: |pair| respond(pair, Side::B, 180, Body::None) },
    Cause { name: "B 183+sdp", happen: |pair| respond(pair, Side::B, 183, Body::Sdp) },
    Cause {
        name: "B 183+sdp reliable",
        happen: |pair| {
            let Some(invite) = pair.party(Side::B).first_invite() else { return false };
            let bytes = pair.party(Side::B).respond(&invite, 183, "", RELIABLE, Body::Sdp);
            arrive(pair, Side::B, bytes)
        },
    },
    Cause { name: "B 180 of a fork", happen: |pair| fork(pair, 180) },
    Cause { name: "B 200+sdp", happen: |pair| respond(pair, Side::B, 200, Body::Sdp) },
    Cause { name: "B 200 without sdp", happen: |pair| respond(pair, Side::B, 200, Body::None) },
    Cause { name: "B 200+sdp of a fork", happen: |pair| fork(pair, 200) },
    Cause { name: "B 302", happen: |pair| respond(pair, Side::B, 302, Body::None) },
    Cause { name: "B 486", happen: |pair| respond(pair, Side::B, 486, Body::None) },
    Cause { name: "B 491", happen: |pair| respond(pair, Side::B, 491, Body::None) },
    Cause { name: "B 503", happen: |pair| respond(pair, Side::B, 503, Body::None) },
    Cause { name: "B BYE", happen: |pair| request(pair, Side::B, "BYE", "", Body::None) },
    Cause { name: "B INVITE+sdp", happen: |pair| request(pair, Side::B, "INVITE", "", Body::Sdp) },
    Cause { name: "B UPDATE+sdp", happen: |pair| request(pair, Side::B, "UPDATE", "", Body::Sdp) },
    Cause { name: "B INFO", happen: |pair| request(pair, Side::B, "INFO", "", Body::None) },
    Cause { name: "B REFER", happen: |pair| request(pair, Side::B, "REFER", TO_SUE, Body::None) },
    Cause { name: "B is lost", happen: |pair| lose(pair, Side::B) },
    Cause { name: "newcomer CANCEL", happen: |pair| newcomer(pair, Party::cancel) },
    Cause { name: "target 180", happen: |pair| target(pair, 180, Body::None) },
    Cause { name: "target 200+sdp", happen: |pair| target(pair, 200, Body::Sdp) },
    Cause { name: "target 200 without sdp", happen: |pair| target(pair, 200, Body::None) },
    Cause { name: "target 302", happen: |pair| target(pair, 302, Body::None) },
    Cause { name: "target 486", happen: |pair| target(pair, 486, Body::None) },
    Cause { name: "target BYE", happen: |pair| of_target(pair, "BYE", Body::None) },
    Cause { name: "target INVITE+sdp", happen: |pair| of_target(pair, "INVITE", Body::Sdp) },
    Cause { name: "target UPDATE", happen: |pair| of_target(pair, "UPDATE", Body::None) },
    Cause {
        name: "ports",
        happen: |pair| {
            let asked = pair.asked_ports.is_some();
            pair.give_ports(Ok(()));
            asked
        },
    },
    Cause {
        name: "no ports",
        happen: |pair| {
            let asked = pair.asked_ports.is_some();
            pair.give_ports(Err(MediaFailure::NoPorts));
            asked
        },
    },
    Cause {
        name: "connected",
        happen: |pair| {
            let asked = !pair.connects.is_empty();
            pair.give_connection(Ok(()));
            asked
        },
    },
    Cause {
        name: "connection refused",
        happen: |pair| {
            let asked = !pair.connects.is_empty();
            pair.give_connection(Err(ConnectFailureKind::Refused));
            asked
        },
    },
    Cause {
        name: "no media",
        happen: |pair| {
            let Some(call) = pair.call else { return false };
            let fact = Fact::NoMedia { lasted: std::time::Duration::from_secs(30) };
            pair.feed(Input::MediaFact { call, fact, stats: None });
            true
        },
    },
    Cause {
        name: "the operator hangs up",
        happen: |pair| {
            let Some(call) = pair.call else { return false };
            pair.feed(Input::Command(Command::HangUp(call)));
            true
        },
    },
    Cause { name: "the next deadline", happen: |pair| pair.wake().is_some() },
];

/// The whole table.
pub fn of_a_call() -> String {
    let mut out = String::new();
    for stage in STAGES {
        let mut ignored = Vec::new();
        for cause in CAUSES {
            match outcome(stage, cause) {
                None => {}
                Some(told) if told.is_empty() => ignored.push(cause.name),
                Some(told) => out.push_str(&format!("{} + {} -> {told}\n", stage.name, cause.name)),
            }
        }
        out.push_str(&format!("{} ignores: {}\n\n", stage.name, ignored.join(", ")));
    }
    out
}

/// What the gateway does at once; empty when nothing, `None` when the event cannot happen there.
fn outcome(stage: &Stage, cause: &Cause) -> Option<String> {
    let mut pair = Pair::new(1, Shell::Slow);
    (stage.reach)(&mut pair);
    for wire in pair.inward.iter_mut().chain(pair.outward.iter_mut()) {
        wire.clear();
    }
    let before = (pair.state(), pair.media, pair.connects.len(), pair.records.len());
    if !(cause.happen)(&mut pair) {
        return None;
    }
    let mut told = Vec::new();
    for whom in ["A", "B", "newcomer", "target"] {
        let wire = if whom == "B" { Side::B } else { Side::A };
        let sent = pair.outward[wire as usize].iter();
        let sent: Vec<String> =
            sent.filter(|bytes| reader(&pair, wire, bytes) == whom).filter_map(short).collect();
        if !sent.is_empty() {
            told.push(format!("{whom}: {}", sent.join(", ")));
        }
    }
    if pair.connects.len() > before.2 {
        told.push("connects".to_owned());
    }
    let media = [("asks for ports", 0), ("sets media", 1), ("gives ports back", 2)];
    told.extend(
        media.iter().filter(|(_, at)| pair.media[*at] > before.1[*at]).map(|(text, _)| (*text).to_owned()),
    );
    if let Some(record) = pair.records.get(before.3) {
        told.push(format!("record {} {}", record.verdict.code, record.drop_reason));
    }
    let state = pair.state();
    if state == before.0 && told.is_empty() {
        return Some(String::new());
    }
    let state = match (state, before.0) {
        (after, before) if after == before => "same".to_owned(),
        (after, _) => after.unwrap_or("over").to_owned(),
    };
    Some(format!("{state}; {}", told.join("; ")))
}

/// Who a message on that wire is for.
fn reader(pair: &Pair, wire: Side, bytes: &bytes::Bytes) -> &'static str {
    let Ok(message) = Message::parse(bytes.clone(), &Limits::default()) else { return "" };
    match wire {
        Side::B => "B",
        Side::A if pair.parties[0].is_addressed(&message) => "A",
        Side::A if message.call_id() == b"third" => "newcomer",
        Side::A => "target",
    }
}

/// A message in a word or two.
fn short(bytes: &bytes::Bytes) -> Option<String> {
    let message = Message::parse(bytes.clone(), &Limits::default()).ok()?;
    let sdp = match message.header(HeaderId::ContentType) {
        None => "",
        Some(b"application/sdp") => "+sdp",
        Some(_) => "+body",
    };
    let method = message.method();
    Some(match message.status() {
        Some(status) => format!("{} {method}{sdp}", status.code()),
        None => format!("{method}{sdp}"),
    })
}

fn ask_ports(pair: &mut Pair) {
    let invite = pair.party(Side::A).invite(Body::Sdp);
    pair.send(Side::A, invite);
    pair.settle();
}

fn invite(pair: &mut Pair) {
    ask_ports(pair);
    pair.give_ports(Ok(()));
    pair.give_connection(Ok(()));
    pair.settle();
}

fn establish(pair: &mut Pair) {
    invite(pair);
    answer(pair, 200, "", "", Body::Sdp);
}

/// The server's REFER, carried out: the target has its INVITE.
fn call_target(pair: &mut Pair) {
    establish(pair);
    ask(pair, Side::B, "REFER", TO_SUE, Body::None);
    pair.give_callers_connection();
    pair.settle();
}

/// The target has answered, the caller has our re-INVITE.
fn join_target(pair: &mut Pair) {
    call_target(pair);
    target(pair, 200, Body::Sdp);
    pair.settle();
}

fn answer(pair: &mut Pair, status: u16, fork: &str, extra: &str, body: Body) {
    let Some(invite) = pair.party(Side::B).first_invite() else { return };
    let bytes = pair.party(Side::B).respond(&invite, status, fork, extra, body);
    pair.send(Side::B, bytes);
    pair.settle();
}

fn ask(pair: &mut Pair, side: Side, method: &str, extra: &str, body: Body) {
    let bytes = pair.party(side).request(method, extra, body);
    pair.send(side, bytes);
    pair.settle();
}

fn arrive(pair: &mut Pair, side: Side, bytes: bytes::Bytes) -> bool {
    pair.send(side, bytes);
    pair.deliver_in(side, 0);
    true
}

fn request(pair: &mut Pair, side: Side, method: &str, extra: &str, body: Body) -> bool {
    if side == Side::B && pair.party(side).first_invite().is_none() {
        return false;
    }
    if !pair.party(side).knows_dialog() {
        return false;
    }
    let bytes = pair.party(side).request(method, extra, body);
    arrive(pair, side, bytes)
}

/// To the offer that waits, else to the first INVITE.
fn respond(pair: &mut Pair, side: Side, status: u16, body: Body) -> bool {
    let party = pair.party(side);
    let Some(invite) = party.asked.clone().or_else(|| party.first_invite()) else { return false };
    let bytes = party.respond(&invite, status, "", "", body);
    arrive(pair, side, bytes)
}

/// Of the newcomer, once it has sent its INVITE.
fn newcomer(pair: &mut Pair, say: fn(&mut Party) -> bytes::Bytes) -> bool {
    if pair.third.last_invite() == 0 {
        return false;
    }
    let bytes = say(&mut pair.third);
    arrive(pair, Side::A, bytes)
}

/// The target's response to its INVITE.
fn target(pair: &mut Pair, status: u16, body: Body) -> bool {
    let Some(invite) = pair.third.asked.clone() else { return false };
    let bytes = pair.third.respond(&invite, status, "", "", body);
    arrive(pair, Side::A, bytes)
}

/// A request of a target that has answered.
fn of_target(pair: &mut Pair, method: &str, body: Body) -> bool {
    if pair.third.accepted() == 0 {
        return false;
    }
    let bytes = pair.third.request(method, "", body);
    arrive(pair, Side::A, bytes)
}

fn fork(pair: &mut Pair, status: u16) -> bool {
    let Some(invite) = pair.party(Side::B).first_invite() else { return false };
    let body = if status == 200 { Body::Sdp } else { Body::None };
    let bytes = pair.party(Side::B).respond(&invite, status, "-2", "", body);
    arrive(pair, Side::B, bytes)
}

fn lose(pair: &mut Pair, side: Side) -> bool {
    let is_up = pair.up[side as usize];
    if is_up {
        pair.flow_down(side);
    }
    is_up
}

fn prack(pair: &mut Pair) -> bool {
    let party = pair.party(Side::A);
    let reliable = party.responses.iter().rev().find_map(|r| r.header(HeaderId::RSeq).map(<[u8]>::to_vec));
    let number = party.last_invite();
    let Some(rseq) = reliable else { return false };
    let rack = format!("RAck: {} {number} {}\r\n", String::from_utf8_lossy(&rseq), Method::Invite);
    request(pair, Side::A, "PRACK", &rack, Body::None)
}
