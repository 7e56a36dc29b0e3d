//! What a call and a dialog do in every state with every event, as reviewed tables (those of the transactions stand beside their machines), and where
//! any of them leaves the RFC on purpose: a deviation that is gone must leave its list too.

#![allow(clippy::expect_used, clippy::panic)] // helpers of tests

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use sip::transaction::{
    ClientEvent, ClientState, Context, InviteClient, InviteClientEvent, InviteClientState, InviteServer,
    InviteServerEvent, InviteServerState, TimerReason,
};
use sip::{
    Dialog, Limits, Message, Method, OutgoingRequest, RequestDraft, StatusCode, TimerConfig, Transport,
};
use umbra_tests::pair::table;

/// A line of the table of calls that is not what the RFC says.
struct Deviation {
    line: &'static str,
    rfc: &'static str,
    why: &'static str,
}

const OF_A_CALL: &[Deviation] = &[
    Deviation {
        line: "ringing + B BYE -> over; A: 503 INVITE; B: 200 BYE, CANCEL",
        rfc: "RFC 3261 §15: the callee's UA must not send a BYE on an early dialog",
        why: "a server that does it wants to be rid of the call; waiting for its final answer would let the caller ring for minutes",
    },
    Deviation {
        line: "answering + A UPDATE+sdp -> same; A: 500 UPDATE",
        rfc: "RFC 3311 §5.2 has 500 while an offer of the same side is not answered",
        why: "here the answer is out, in a 2xx whose ACK has not come: it is on its way and goes first",
    },
    Deviation {
        line: "renegotiating for the caller + B 302 -> established; A: 500 INVITE; B: ACK",
        rfc: "RFC 3261 §8.1.3.4 lets a redirect be followed",
        why: "inside a dialog it would lead a leg past the gateway",
    },
    Deviation {
        line: "renegotiating for the caller + B 200 without sdp -> ending; A: 488 INVITE, BYE; B: ACK, BYE",
        rfc: "RFC 3261 §14.1 keeps a session as it was when a re-INVITE fails",
        why: "the answering side has changed already; what it changed to is unknown and may not be secure",
    },
    Deviation {
        line: "transferring, a newcomer for the caller + B 200 without sdp -> ending; A: BYE; B: ACK, BYE; newcomer: 488 INVITE",
        rfc: "RFC 3891 §3 leaves the replaced dialog as it is when the new INVITE cannot be accepted",
        why: "the side that stays has changed already; what it changed to is unknown and may not be secure",
    },
    Deviation {
        line: "transferring, a newcomer for the caller + B 302 -> established; B: ACK; newcomer: 500 INVITE",
        rfc: "RFC 3261 §8.1.3.4 lets a redirect be followed",
        why: "inside a dialog it would lead a leg past the gateway, and the newcomer has no part in that dialog",
    },
    Deviation {
        line: "transferring, a target for the server + target BYE -> same; target: 200 BYE",
        rfc: "RFC 3515 §2.4.5 lets the outcome be told as soon as it is known",
        why: "our offer to the caller is open and cannot be taken back; its answer decides, and then both are told",
    },
    Deviation {
        line: "established + A FOO -> same; B: FOO",
        rfc: "RFC 3261 §8.2.1 has 405 or 501 for a method that is not known",
        why: "the method is the business of the two ends; the gateway carries it",
    },
];

#[test]
fn a_call_moves_as_it_was_reviewed() {
    insta::assert_snapshot!(table::of_a_call());
}

#[test]
fn every_listed_deviation_of_a_call_still_deviates() {
    let table = table::of_a_call();
    for Deviation { line, rfc, why } in OF_A_CALL {
        assert!(table.lines().any(|found| found.starts_with(line)), "gone: {line} ({rfc}; {why})");
    }
}

fn context(transport: Transport) -> Context {
    Context { timers: TimerConfig::default(), transport }
}

/// The state and the actions of one step, as the reviewed tables of the transactions print them.
fn told(state: impl std::fmt::Debug, actions: &sip::transaction::Actions) -> String {
    format!("{state:?} {:?}", actions.iter().collect::<Vec<_>>())
}

/// RFC 3261 §13.3.1.4 gives the repeated 2xx to the UAS core; the transaction does it, on every transport, and tells when no ACK came.
#[test]
fn deviation_the_invite_server_transaction_repeats_its_2xx() {
    let state = InviteServerState::Accepted { interval: Duration::from_millis(500) };
    let step = |event| {
        let (next, actions) = InviteServer { state }.step(event, &context(Transport::Tcp));
        told(next.state, &actions)
    };
    assert_eq!(
        step(InviteServerEvent::Timer(TimerReason::Retransmit2xx)),
        "Accepted { interval: 1s } [Transmit, Start(Retransmit2xx, 1s)]"
    );
    assert_eq!(step(InviteServerEvent::Timer(TimerReason::L)), "Terminated [AckMissing]");
    // RFC 6026 §7.1 tells the user of the loss; here the ACK may still come on another connection.
    assert_eq!(step(InviteServerEvent::TransportError), "Accepted { interval: 500ms } [Stop(Retransmit)]");
}

/// RFC 3261 §9.1 lets the user give up a cancelled INVITE after 64*T1; the transaction does it.
#[test]
fn deviation_the_invite_client_transaction_gives_up_after_cancel() {
    let step = |event| {
        let (next, actions) =
            InviteClient { state: InviteClientState::Proceeding }.step(event, &context(Transport::Tcp));
        told(next.state, &actions)
    };
    assert_eq!(step(InviteClientEvent::Cancelled), "Proceeding [Start(CancelGiveUp, 32s)]");
    assert_eq!(step(InviteClientEvent::Timer(TimerReason::CancelGiveUp)), "Terminated [FailTimeout]");
}

/// RFC 3261 §17.1.2.2 hands a non-INVITE time-out to the user in Proceeding as in Trying; nothing deviates, and a late final is absorbed.
#[test]
fn a_plain_client_transaction_that_is_over_takes_nothing_more() {
    let state = ClientState::Terminated;
    let (next, actions) =
        sip::transaction::Client { state }.step(ClientEvent::Final, &context(Transport::Udp));
    assert_eq!(told(next.state, &actions), "Terminated []");
}

fn parse(text: String) -> Message {
    Message::parse(Bytes::from(text), &Limits::default()).expect("parses")
}

fn request(method: &str, cseq: u32, to_tag: &str, contact: &str) -> Message {
    parse(format!(
        "{method} sip:b@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK{cseq}\r\nMax-Forwards: 70\r\n\
         From: <sip:a@h>;tag=a\r\nTo: <sip:b@h>{to_tag}\r\nCall-ID: c\r\nCSeq: {cseq} {method}\r\n{contact}\
         Content-Length: 0\r\n\r\n"
    ))
}

const CONTACT: &str = "Contact: <sip:a@1.2.3.4>\r\n";

fn sent() -> OutgoingRequest {
    RequestDraft::new(Method::Invite, Bytes::from_static(b"sip:b@h")).finish().expect("is complete")
}

fn response(status: u16, tag: Option<&[u8]>, contact: bool) -> Message {
    let invite = request("INVITE", 7, "", CONTACT);
    let status = StatusCode::new(status).expect("is a status");
    let mut builder = sip::response_to(&invite, status, None, tag);
    if contact {
        builder = builder.header(sip::HeaderId::Contact, "<sip:b@5.6.7.8>");
    }
    let bytes = builder.finish(None, b"").expect("is complete");
    Message::parse(bytes, &Limits::default()).expect("parses")
}

/// No dialog, early, confirmed, each with every message that may make, move or use it.
fn table_of_a_dialog() -> String {
    let mut out = String::new();
    let made = |dialog: Result<Dialog, sip::dialog::DialogError>| match dialog {
        Ok(dialog) => format!("{:?}", dialog.state),
        Err(why) => format!("none: {why}"),
    };
    for (status, tag) in
        [(100, None), (180, None), (180, Some(&b"b"[..])), (200, None), (200, Some(&b"b"[..]))]
    {
        for contact in [true, false] {
            let dialog = Dialog::uac(&sent(), &response(status, tag, contact));
            let tag = if tag.is_some() { "tag" } else { "no tag" };
            let shown = if contact { "Contact" } else { "no Contact" };
            writeln!(out, "client: none + {status}, {tag}, {shown} -> {}", made(dialog)).expect("writes");
        }
    }
    for contact in [CONTACT, ""] {
        let dialog = Dialog::uas(&request("INVITE", 7, "", contact), Bytes::from_static(b"b"));
        let shown = if contact.is_empty() { "no Contact" } else { "Contact" };
        writeln!(out, "server: none + INVITE, {shown} -> {}", made(dialog)).expect("writes");
    }
    let early = Dialog::uas(&request("INVITE", 7, "", CONTACT), Bytes::from_static(b"b")).expect("begins");
    let mut confirmed = early.clone();
    confirmed.confirm();
    for (name, dialog) in [("early", early), ("confirmed", confirmed)] {
        for (method, cseq) in [
            ("INFO", 6),
            ("INFO", 7),
            ("INFO", 8),
            ("INVITE", 8),
            ("BYE", 8),
            ("ACK", 7),
            ("ACK", 6),
            ("CANCEL", 7),
        ] {
            let mut dialog = dialog.clone();
            let taken = match dialog.accept_request(&request(method, cseq, ";tag=b", CONTACT)) {
                Ok(()) => "taken".to_owned(),
                Err(why) => format!("500: {why}"),
            };
            let next = dialog.remote_cseq.unwrap_or_default();
            writeln!(out, "server: {name}, last 7 + {cseq} {method} -> {taken}, last {next}")
                .expect("writes");
        }
        let mut dialog = dialog.clone();
        let first = dialog.request(Method::Bye).finish().is_ok().then_some(dialog.local_cseq).flatten();
        writeln!(out, "server: {name} + own BYE -> CSeq {}", first.unwrap_or_default()).expect("writes");
    }
    let mut client = Dialog::uac(&sent(), &response(180, Some(b"b"), true)).expect("begins");
    client.confirm_with(&response(200, Some(b"b"), true)).expect("is confirmed");
    writeln!(out, "client: early + 200 -> {:?}", client.state).expect("writes");
    let info = client.request(Method::Info).finish().is_ok().then_some(client.local_cseq).flatten();
    writeln!(out, "client: confirmed, INVITE was 7 + own INFO -> CSeq {}", info.unwrap_or_default())
        .expect("writes");
    out
}

#[test]
fn a_dialog_moves_as_rfc_3261_says() {
    insta::assert_snapshot!(table_of_a_dialog());
}
