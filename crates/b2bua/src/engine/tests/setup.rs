//! From INVITE to 200: redirects, fail-over, security of both legs.

use std::sync::Arc;
use std::time::Duration;

use sip::{HeaderId, Method};

use super::policy::{self, PBX, POOL};
use super::world::{Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting};
use crate::codes;
use crate::engine::{ConnectFailure, ConnectFailureKind, Input};
use crate::policy::{Allowed, Policy};
use crate::record::{CallType, OfferResult};

fn secured() -> World {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world
}

#[test]
fn a_secured_call_follows_two_redirects_and_both_sides_hang_up_cleanly() {
    let mut world = secured();
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().statuses(), [180, 200]);
    let places: Vec<_> = world.connects.iter().map(|t| (t.name.as_str(), t.port)).collect();
    assert_eq!(
        places,
        [("cas01.contoso.com", 5061), ("mbx01.contoso.com", 5063), ("mbx01.contoso.com", 5066)]
    );
    let plan = world.plans.last().cloned().expect("media runs");
    assert_eq!(plan.a.remote_rtp.to_string(), "10.0.0.5:3000");
    assert_eq!(plan.b.remote_rtp.to_string(), "10.0.2.1:4000");
    let (
        relay::Protection::Sealed { inbound: from_a, outbound: to_a },
        relay::Protection::Sealed { inbound: from_b, outbound: to_b },
    ) = (&plan.a.protection, &plan.b.protection)
    else {
        panic!("both legs are sealed")
    };
    assert_eq!((from_a.key.key()[0], from_b.key.key()[0]), (9, 0x5b));
    assert!(to_a != to_b && to_a != from_a && to_b != from_b);
    assert_eq!(world.party("mbx01.contoso.com", 5066).acks.len(), 1);
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods(), ["INVITE", "BYE"]);
    let record = &world.records[0];
    assert_eq!(
        (record.offer_result, record.redirects, record.call_type),
        (OfferResult::Answer, 2, CallType::CallAnswering)
    );
    assert_eq!(record.verdict.code, codes::COMPLETED);
    assert_eq!(record.security, "TLS+SRTP");
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn the_header_set_of_leg_b_is_the_same_on_every_hop_and_keeps_the_contacts_uri() {
    let mut world = secured();
    let lines = format!(
        "{DIVERSION}history-info: <sip:ken@contoso.com>;index=1\r\nms-subnet: 192.0.2.0\r\nPriority: urgent\r\n"
    );
    world.invite(DEPOSIT, &lines, Some(offer("10.0.0.5", 3000, Some(9))));
    let invites: Vec<_> =
        [("cas01.contoso.com", 5061), ("mbx01.contoso.com", 5063), ("mbx01.contoso.com", 5066)]
            .map(|(name, port)| world.party(name, port).requests[0].clone())
            .to_vec();
    for invite in &invites {
        assert_eq!(invite.header(HeaderId::Diversion), Some(&b"<sip:ken@contoso.com>"[..]));
        assert_eq!(invite.header(HeaderId::HistoryInfo), Some(&b"<sip:ken@contoso.com>;index=1"[..]));
        assert_eq!(invite.header_named("x-call-id"), Some(&b"a-leg-1"[..]));
        assert_eq!(invite.header_named("ms-subnet"), None);
        assert_eq!(invite.max_forwards(), Some(69));
        assert_eq!(invite.body(), invites[0].body());
        assert_eq!(invite.call_id(), invites[0].call_id());
        assert_eq!(invite.from_tag(), invites[0].from_tag());
    }
    assert_eq!(invites[0].request_uri(), DEPOSIT);
    assert_eq!(
        invites[2].request_uri(),
        "sip:ken@mbx01.contoso.com:5066;user=phone;transport=tls;maddr=mbx01.contoso.com"
    );
    let numbers: Vec<u32> = invites.iter().map(|i| i.cseq().number).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn a_sip_secured_call_has_tls_and_plain_media() {
    let mut world = World::new(policy::sip_secured());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some("fe01.contoso.com"));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, None)));
    assert_eq!(world.caller().last_status(), 200);
    let plan = world.plans.last().unwrap();
    assert!(plan.a.protection == relay::Protection::Clear && plan.b.protection == relay::Protection::Clear);
}

#[test]
fn an_unsecured_call_of_a_pbx_runs_over_tcp_and_the_server_may_hang_up() {
    let mut world = World::new(policy::unsecured());
    redirecting(&mut world, "tcp");
    world.connect_caller(PBX, None);
    world.invite("sip:88895@10.0.0.1;user=phone", "", Some(offer(PBX, 3000, None)));
    assert_eq!(world.caller().last_status(), 200);
    assert!(world.connects.iter().all(|t| t.transport == sip::Transport::Tcp));
    world.in_dialog(&("mbx01.contoso.com".into(), 5065), Method::Bye, "", None);
    assert_eq!(world.caller().methods(), ["BYE"]);
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::COMPLETED);
}

#[test]
fn the_next_server_is_tried_on_connect_failure_on_503_and_on_silence() {
    for script in
        [Script::NoListener, Script::Refuse(503, "Busy"), Script::Silent, Script::Refuse(500, "Oops")]
    {
        let mut world = secured();
        world.script("cas01.contoso.com", 5061, script.clone());
        world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
        world.advance(Duration::from_secs(5));
        assert_eq!(world.caller().last_status(), 200, "{script:?}");
        let is_down = world.events.iter().any(|event| event == "down cas01.contoso.com");
        assert_eq!(
            is_down,
            matches!(script, Script::NoListener | Script::Silent),
            "an answer is a sign of life"
        );
        assert_eq!(world.party("mbx02.contoso.com", 5066).methods(), ["INVITE"]);
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
        assert_eq!(world.records[0].failovers, 1);
    }
}

#[test]
fn a_policy_without_retries_ends_the_call_at_the_first_server_of_that_kind_of_failure() {
    let (yes, no) = (Allowed::Yes, Allowed::No);
    let cases = [
        (Script::Silent, no, yes, 503),
        (Script::Silent, yes, no, 200),
        (Script::NoListener, yes, no, 503),
        (Script::NoListener, no, yes, 200),
        (Script::Refuse(503, "Busy"), no, no, 200),
    ];
    for (script, retry_on_timeout, retry_on_connect_failure, status) in cases {
        let mut policy = Policy::clone(&policy::secured());
        policy.routing.retry_on_timeout = retry_on_timeout;
        policy.routing.retry_on_connect_failure = retry_on_connect_failure;
        let mut world = World::new(Arc::new(policy));
        redirecting(&mut world, "tls");
        world.script("cas01.contoso.com", 5061, script.clone());
        world.connect_caller("10.0.0.5", Some(POOL));
        world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
        world.advance(Duration::from_secs(5));
        assert_eq!(world.caller().last_status(), status, "{script:?}");
        if status == 200 {
            world.in_dialog(&caller(), Method::Bye, "", None);
        }
        world.assert_clean();
    }
}

#[test]
fn media_ports_that_do_not_come_within_two_seconds_end_the_call() {
    let mut world = secured();
    world.has_no_ports = true;
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    world.advance(Duration::from_millis(1_999));
    assert_eq!((world.engine.status().by_state, world.records.len()), (vec![("awaiting media", 1)], 0));
    world.advance(Duration::from_millis(1));
    assert!(world.caller().last_status() >= 500 && world.records.len() == 1 && world.connects.is_empty());
}

#[test]
fn a_connection_may_take_the_time_of_tcp_and_tls_together_and_failing_later_is_nobodys_failure() {
    let mut world = secured();
    world.script("cas01.contoso.com", 5061, Script::Hangs);
    world.script("cas02.contoso.com", 5061, Script::Hangs);
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    world.advance(Duration::from_millis(4_999));
    assert_eq!(world.connects.len(), 1);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.connects.len(), 2);
    let why = ConnectFailure { kind: ConnectFailureKind::Refused, detail: "too late".into() };
    world.feed(Input::ConnectFailed { connect: world.hanging[0], why });
    assert_eq!((world.connects.len(), world.caller().last_status()), (2, 100), "the second is still tried");
    world.advance(Duration::from_secs(60));
    world.assert_clean();
}

#[test]
fn a_late_200_of_a_server_that_was_given_up_gets_ack_and_bye() {
    let mut world = secured();
    world.script("cas01.contoso.com", 5061, Script::Silent);
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    world.advance(Duration::from_secs(5));
    assert_eq!(world.caller().last_status(), 200);
    let now = world.now;
    world.party("cas01.contoso.com", 5061).answer_pending(now);
    world.pump();
    let late = world.party("cas01.contoso.com", 5061);
    assert_eq!(late.methods(), ["INVITE", "CANCEL", "BYE"]);
    assert_eq!(late.acks.len(), 1);
    assert_eq!(world.engine.status().calls, 1);
}

#[test]
fn nobody_left_is_503_with_diagnostics_well_before_the_caller_gives_up() {
    let mut world = World::new(policy::secured());
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 503);
    let diagnostics =
        world.caller().responses.last().unwrap().header(HeaderId::MsDiagnostics).unwrap().to_vec();
    assert!(diagnostics.starts_with(b"62001;"), "{}", diagnostics.escape_ascii());
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::NO_SERVER_LEFT);
}

#[test]
fn servers_that_are_full_are_told_from_a_plan_that_has_none() {
    let full = ("no server of the dial plan has free capacity", codes::SERVERS_FULL);
    let none = ("the dial plan has no server to call", codes::NO_SERVER_LEFT);
    let plans =
        [(vec![0], vec![0], full), (vec![0], vec![], full), (vec![], vec![0], full), (vec![], vec![], none)];
    for (routers, mailbox, (what, code)) in plans {
        let mut policy = Policy::clone(&policy::secured());
        policy.dial_plans[0].call_routers = routers;
        policy.dial_plans[0].mailbox_servers = mailbox;
        policy
            .call_routers
            .iter_mut()
            .chain(&mut policy.mailbox_servers)
            .for_each(|s| s.max_calls_allowed = 0);
        let mut world = World::new(Arc::new(policy));
        world.connect_caller("10.0.0.5", Some(POOL));
        world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
        assert_eq!((world.caller().last_status(), world.records[0].verdict.code), (503, code));
        assert_eq!(world.records[0].verdict.what, what);
        assert!(world.connects.is_empty());
        world.assert_clean();
    }
}

#[test]
fn a_refusal_of_um_reaches_the_caller_with_its_words() {
    let mut world = secured();
    world.script("mbx01.contoso.com", 5066, Script::Refuse(480, "Mailbox is asleep"));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    let last = world.caller().responses.last().unwrap().clone();
    assert_eq!(
        (world.caller().last_status(), last.reason()),
        (480, bytes::Bytes::from_static(b"Mailbox is asleep"))
    );
    assert!(last.header(HeaderId::MsDiagnostics).unwrap().starts_with(b"15030"));
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::UM_REFUSED);
}

#[test]
fn a_redirect_to_a_stranger_or_in_a_circle_is_refused_by_name() {
    let cases = [
        ("<sip:ken@evil.example:5066;transport=tls>", codes::REDIRECT_ESCAPE),
        ("<sip:ken@cas01.contoso.com:5061;transport=tls>", codes::REDIRECT_LOOP),
        ("<sip:ken@mbx01.contoso.com:5065;transport=tcp>", codes::REDIRECT_WEAKER),
        ("<sip:ken@mbx01.contoso.com:5066;transport=sctp>", codes::REDIRECT_WEAKER),
        ("<sip:ken@mbx01.contoso.com:5066;transport=tls;maddr=evil.example>", codes::REDIRECT_MADDR),
        ("<tel:+123>", codes::REDIRECT_UNUSABLE),
    ];
    for (contact, code) in cases {
        let mut world = World::new(policy::secured());
        world.script("cas01.contoso.com", 5061, Script::Redirect(contact.into()));
        world.script("cas02.contoso.com", 5061, Script::Redirect(contact.replace("cas01", "cas02")));
        world.connect_caller("10.0.0.5", Some(POOL));
        world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
        assert_eq!(world.caller().last_status(), 503, "{contact}");
        world.assert_clean();
        assert_eq!(world.records[0].verdict.code, code, "{contact}");
        assert!(world.connects.iter().all(|t| t.name.starts_with("cas")));
    }
}

#[test]
fn contacts_are_tried_in_order_of_their_q() {
    let mut world = secured();
    let contacts = "<sip:ken@mbx02.contoso.com:5066;transport=tls>;q=0.5, <sip:ken@mbx01.contoso.com:5066;transport=tls>";
    world.script("cas01.contoso.com", 5061, Script::Redirect(contacts.into()));
    world.script("mbx01.contoso.com", 5066, Script::NoListener);
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    let places: Vec<_> = world.connects.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(places, ["cas01.contoso.com", "mbx01.contoso.com", "mbx02.contoso.com"]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    let record = &world.records[0];
    assert_eq!((record.failovers, record.server.as_deref()), (1, Some("mbx02.contoso.com")));
}

#[test]
fn the_routers_second_choice_is_remembered_while_the_first_redirects_on() {
    let mut world = secured();
    let contact = |mbx: &str| format!("<sip:ken@{mbx}:5063;transport=tls>");
    let both = [contact("mbx01.contoso.com"), contact("mbx02.contoso.com") + ";q=0.5"].join(", ");
    world.script("cas01.contoso.com", 5061, Script::Redirect(both));
    world.script("mbx01.contoso.com", 5066, Script::NoListener);
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    let places: Vec<_> = world.connects.iter().map(|t| (t.name.as_str(), t.port)).collect();
    let (first, second) = ("mbx01.contoso.com", "mbx02.contoso.com");
    assert_eq!(
        places,
        [("cas01.contoso.com", 5061), (first, 5063), (first, 5066), (second, 5063), (second, 5066)]
    );
}

#[test]
fn a_caller_who_cancels_leaves_a_missed_call_and_nothing_else() {
    let mut world = secured();
    world.script("mbx01.contoso.com", 5066, Script::RingOnly);
    let key = world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 180);
    let now = world.now;
    world.caller().endpoint.cancel(now, key);
    world.pump();
    assert_eq!(world.caller().last_status(), 487);
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods(), ["INVITE", "CANCEL"]);
    world.assert_clean();
    assert_eq!(
        (world.records[0].call_type, world.records[0].offer_result),
        (CallType::MissedCall, OfferResult::None)
    );
}

#[test]
fn a_silent_server_still_gives_the_caller_a_word_within_ten_seconds() {
    let mut world = secured();
    world.script("cas01.contoso.com", 5061, Script::Silent);
    world.script("cas02.contoso.com", 5061, Script::Silent);
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    world.advance(Duration::from_secs(10));
    assert!(!world.caller().statuses().is_empty());
    world.assert_clean();
}

#[test]
fn an_answer_that_drops_the_encryption_never_reaches_the_caller() {
    let mut world = secured();
    world.script("mbx01.contoso.com", 5066, Script::AnswerBroken);
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 488);
    assert!(world.plans.is_empty(), "no packet may flow");
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods(), ["INVITE", "BYE"]);
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_200_that_crosses_the_callers_cancel_gets_ack_and_bye() {
    let mut world = secured();
    world.script("cas01.contoso.com", 5061, Script::Silent);
    let key = world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    world.advance(Duration::from_millis(500));
    let now = world.now;
    world.caller().endpoint.cancel(now, key);
    world.pump();
    assert_eq!(world.caller().last_status(), 487);
    let now = world.now;
    world.party("cas01.contoso.com", 5061).answer_pending(now);
    world.pump();
    let late = world.party("cas01.contoso.com", 5061);
    assert_eq!(late.methods(), ["INVITE", "CANCEL", "BYE"]);
    assert_eq!(late.acks.len(), 1);
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn early_media_is_relayed_in_183_and_the_200_repeats_its_answer() {
    let mut world = secured();
    world.script("mbx01.contoso.com", 5066, Script::EarlyMedia);
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    let early = world.caller().responses.last().unwrap().clone();
    assert_eq!(world.caller().last_status(), 183);
    assert!(!early.body().is_empty() && world.plans.len() == 1);
    let now = world.now;
    world.party("mbx01.contoso.com", 5066).answer_pending(now);
    world.pump();
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(world.caller().responses.last().unwrap().body(), early.body());
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_connection_that_breaks_under_an_invite_moves_the_call_to_the_next_server() {
    let mut world = secured();
    world.script("cas01.contoso.com", 5061, Script::Silent);
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    let flow = world.party("cas01.contoso.com", 5061).flow.unwrap().key;
    world.feed(crate::engine::Input::FlowDown { flow, why: crate::engine::FlowLoss::Error });
    assert_eq!(world.caller().last_status(), 200);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
    assert_eq!(world.records[0].failovers, 1);
}
