//! A REFER of UM carried out by the gateway: third leg, NOTIFYs, hand-over, and everything that may come between.

use std::sync::Arc;
use std::time::Duration;

use sip::{HeaderId, Method};

use super::policy::{self, PBX, POOL};
use super::refer::{
    TO_BOB, answered, got, guest, invite_as, last_status, reports, value, with_rules, worker,
};
use super::world::{Place, Script, World, caller, offer};
use super::{DIVERSION, redirecting};
use crate::codes;
use crate::policy::{Policy, PoolEncryption, ReferRule, TransferRules, VoipSecurity};

pub(super) fn target() -> Place {
    (POOL.to_owned(), 5067)
}

fn rules() -> TransferRules {
    TransferRules { refer: ReferRule::Execute, ..TransferRules::default() }
}

pub(super) fn executing(script: Script) -> World {
    let mut world = answered(with_rules(rules()));
    world.script(POOL, 5067, script);
    world
}

/// REFER to Bob by the worker.
pub(super) fn refer(world: &mut World) {
    world.in_dialog(
        &worker(),
        Method::Refer,
        &format!("{TO_BOB}Referred-By: <sip:ken@contoso.com>\r\n"),
        None,
    );
    let answers = &world.party("mbx01.contoso.com", 5066).responses;
    assert!(answers.iter().any(|r| *r.method() == Method::Refer && r.status().unwrap().code() == 202));
}

pub(super) fn said(world: &mut World) -> Vec<String> {
    reports(world, &worker()).into_iter().map(|(line, _)| line).collect()
}

fn counter(world: &World, name: &str) -> u64 {
    world.engine.status().counters.iter().find(|(own, _)| *own == name).map_or(0, |(_, count)| *count)
}

fn keys(protection: &relay::Protection) -> (Vec<u8>, Vec<u8>) {
    match protection {
        relay::Protection::Sealed { inbound, outbound } => {
            (inbound.key.key().to_vec(), outbound.key.key().to_vec())
        }
        relay::Protection::Clear => panic!("must be sealed"),
    }
}

pub(super) fn still_with_um(world: &mut World) {
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    assert!(got(world, &worker(), &Method::Bye).is_empty());
    world.in_dialog(&worker(), Method::Info, "", None);
    assert_eq!(world.caller().methods().last().map(String::as_str), Some("INFO"), "UM goes on");
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.caller().last_status(), 200);
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn the_target_takes_the_place_of_um_with_fresh_keys_on_both_legs() {
    let mut world = executing(Script::Answer);
    let before = world.plans.last().cloned().unwrap();
    refer(&mut world);
    let invite = got(&mut world, &target(), &Method::Invite).remove(0);
    assert_eq!(invite.request_uri(), "sip:bob@contoso.com;user=phone");
    assert_eq!(value(&invite, HeaderId::ReferredBy), "<sip:ken@contoso.com>");
    assert_eq!(value(&invite, HeaderId::To), "<sip:bob@contoso.com;user=phone>");
    assert!(value(&invite, HeaderId::From).starts_with("\"Dana Birkby\"<sip:dana@contoso.com>;"));
    assert_eq!(invite.header_named("x-call-id"), Some(&b"a-leg-1"[..]));
    assert_eq!(invite.max_forwards(), Some(69));
    assert_eq!(invite.header(HeaderId::Diversion), None, "a transfer is no deposit");
    let told = reports(&mut world, &worker());
    assert_eq!(told[0], ("SIP/2.0 100 Trying".into(), "active;expires=60".into()));
    assert_eq!(told[1], ("SIP/2.0 200 OK".into(), "terminated;reason=noresource".into()));
    assert_eq!(got(&mut world, &worker(), &Method::Notify)[0].header(HeaderId::Event), Some(&b"refer"[..]));
    assert_eq!(got(&mut world, &worker(), &Method::Bye).len(), 1, "UM is let go");
    assert_eq!(
        got(&mut world, &caller(), &Method::Invite).len(),
        1,
        "the caller was offered the target's media"
    );
    let after = world.plans.last().cloned().unwrap();
    assert_eq!(after.b.remote_rtp.to_string(), "10.0.2.1:4000");
    let (old_a, old_b) = (keys(&before.a.protection), keys(&before.b.protection));
    let (new_a, new_b) = (keys(&after.a.protection), keys(&after.b.protection));
    for old in [&old_a.1, &old_b.1] {
        assert!(new_a.1 != **old && new_b.1 != **old, "a key of ours is used for one pairing only");
    }
    assert_ne!(new_a.1, new_b.1);
    assert!(world.engine.status().servers.iter().all(|s| s.calls == 0), "UM has the call no more");
    // The two of them go on without UM.
    world.in_dialog(&target(), Method::Info, "", None);
    assert_eq!(world.caller().methods().last().map(String::as_str), Some("INFO"));
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.7", 3700, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    world.advance(Duration::from_secs(1900));
    assert_eq!(world.engine.status().calls, 1, "the plan's longest call is one with UM");
    world.in_dialog(&target(), Method::Bye, "", None);
    assert_eq!(last_status(&mut world, &target()), 200);
    world.assert_clean();
    let record = &world.records[0];
    assert_eq!(record.transferred_to.as_deref(), Some("sip:bob@contoso.com;user=phone"));
    assert_eq!((world.records.len(), record.verdict.code), (1, codes::COMPLETED));
    assert_eq!(counter(&world, "transfers_done"), 1);
}

#[test]
fn a_target_that_refuses_leaves_um_with_the_caller_as_if_nothing_had_happened() {
    let mut world = executing(Script::Refuse(486, "Busy Here"));
    let plans = world.plans.len();
    refer(&mut world);
    assert_eq!(said(&mut world), ["SIP/2.0 100 Trying", "SIP/2.0 486 Busy Here"]);
    assert_eq!(world.plans.len(), plans);
    assert!(got(&mut world, &caller(), &Method::Invite).is_empty());
    still_with_um(&mut world);
}

#[test]
fn um_may_hang_up_before_the_target_answers_and_still_hears_how_it_ended() {
    let mut world = executing(Script::RingOnly);
    refer(&mut world);
    world.in_dialog(&worker(), Method::Bye, "", None);
    assert_eq!(last_status(&mut world, &worker()), 200);
    assert!(got(&mut world, &caller(), &Method::Bye).is_empty(), "the caller stays");
    assert_eq!(world.plans.last().unwrap().b.direction, relay::Direction::Inactive);
    // The caller waits alone: nothing it says ends its dialog.
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    assert_eq!(world.caller().last_status(), 491);
    world.in_dialog(&caller(), Method::Invite, "", None);
    assert_eq!(world.caller().last_status(), 491, "with and without an offer");
    world.in_dialog(&caller(), Method::Info, "", None);
    assert_eq!(world.caller().last_status(), 500);
    let now = world.now;
    world.party(POOL, 5067).answer_pending(now);
    world.pump();
    assert_eq!(said(&mut world).last().map(String::as_str), Some("SIP/2.0 200 OK"));
    assert!(got(&mut world, &worker(), &Method::Bye).is_empty(), "it has hung up already");
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(got(&mut world, &target(), &Method::Bye).len(), 1);
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_caller_left_alone_is_told_why_its_call_ends() {
    let mut world = executing(Script::RingOnly);
    refer(&mut world);
    world.in_dialog(&worker(), Method::Bye, "", None);
    let now = world.now;
    let (key, request) = world.party(POOL, 5067).pending.take().unwrap();
    world.party(POOL, 5067).respond(now, key, &request, 603, None, None);
    world.pump();
    let bye = got(&mut world, &caller(), &Method::Bye).remove(0);
    assert_eq!(value(&bye, HeaderId::Reason), "SIP;cause=603");
    assert_eq!(said(&mut world).last().map(String::as_str), Some("SIP/2.0 603 Decline"));
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::TRANSFER_FAILED);
}

#[test]
fn a_caller_that_hangs_up_while_the_target_rings_ends_everything() {
    for um_stays in [true, false] {
        let mut world = executing(Script::RingOnly);
        refer(&mut world);
        if !um_stays {
            world.in_dialog(&worker(), Method::Bye, "", None);
        }
        world.in_dialog(&caller(), Method::Bye, "", None);
        assert_eq!(got(&mut world, &target(), &Method::Cancel).len(), 1);
        assert_eq!(said(&mut world).last().map(String::as_str), Some("SIP/2.0 487 Request Terminated"));
        assert_eq!(got(&mut world, &worker(), &Method::Bye).len(), usize::from(um_stays));
        world.assert_clean();
        assert_eq!(world.records.len(), 1);
    }
}

#[test]
fn a_caller_that_hangs_up_just_when_the_target_has_answered_ends_everything() {
    let mut world = executing(Script::Answer);
    world.caller().answers_reoffer = 0;
    refer(&mut world);
    assert_eq!(world.engine.status().by_state, [("transferring", 1)]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    for place in [worker(), target()] {
        assert_eq!(got(&mut world, &place, &Method::Bye).len(), 1, "{place:?}");
    }
    assert_eq!(said(&mut world).last().map(String::as_str), Some("SIP/2.0 487 Request Terminated"));
    let now = world.now;
    let pending = world.caller().pending.take();
    if let Some((key, request)) = pending {
        world.caller().respond(now, key, &request, 487, None, None);
        world.pump();
    }
    world.assert_clean();
}

#[test]
fn a_target_that_answers_after_its_cancel_gets_ack_and_bye() {
    let mut world = executing(Script::Silent);
    refer(&mut world);
    world.in_dialog(&caller(), Method::Bye, "", None);
    let now = world.now;
    world.party(POOL, 5067).answer_pending(now);
    world.pump();
    assert_eq!(world.party(POOL, 5067).acks.len(), 1);
    assert_eq!(got(&mut world, &target(), &Method::Bye).len(), 1);
    world.assert_clean();
}

#[test]
fn a_target_that_never_answers_is_given_up_in_time() {
    let mut world = executing(Script::RingOnly);
    refer(&mut world);
    world.advance(Duration::from_secs(59));
    assert_eq!(said(&mut world).len(), 1);
    world.advance(Duration::from_secs(2));
    assert_eq!(said(&mut world).last().map(String::as_str), Some("SIP/2.0 408 Request Timeout"));
    assert_eq!(got(&mut world, &target(), &Method::Cancel).len(), 1);
    still_with_um(&mut world);
}

#[test]
fn a_gateway_that_cannot_be_reached_is_reported_as_503() {
    let mut world = executing(Script::NoListener);
    refer(&mut world);
    assert_eq!(said(&mut world).last().map(String::as_str), Some("SIP/2.0 503 Service Unavailable"));
    still_with_um(&mut world);
}

#[test]
fn redirects_of_the_target_lead_to_other_users_but_never_to_another_place() {
    let mut world = executing(Script::Redirect(
        "<sip:bob-mobile@elsewhere.example>;q=0.5, <http://x.example>;q=1".into(),
    ));
    refer(&mut world);
    let uris: Vec<_> = got(&mut world, &target(), &Method::Invite).iter().map(|i| i.request_uri()).collect();
    assert_eq!(uris, ["sip:bob@contoso.com;user=phone", "sip:bob-mobile@elsewhere.example"]);
    assert!(world.connects.iter().all(|place| place.name != "elsewhere.example"));
    assert!(said(&mut world).last().unwrap().starts_with("SIP/2.0 302"), "the second one leads nowhere new");
    let numbers: Vec<_> =
        got(&mut world, &target(), &Method::Invite).iter().map(|i| i.cseq().number).collect();
    assert_eq!(numbers, [1, 2]);
    still_with_um(&mut world);
}

#[test]
fn one_transfer_at_a_time_is_carried_out() {
    let mut world = executing(Script::RingOnly);
    refer(&mut world);
    world.in_dialog(&worker(), Method::Refer, TO_BOB, None);
    assert_eq!(last_status(&mut world, &worker()), 491);
    let now = world.now;
    let (key, request) = world.party(POOL, 5067).pending.take().unwrap();
    world.party(POOL, 5067).respond(now, key, &request, 486, None, None);
    world.pump();
    refer(&mut world);
    let last = got(&mut world, &worker(), &Method::Notify).pop().unwrap();
    let number = world.party("mbx01.contoso.com", 5066).dialog.as_ref().unwrap().local_cseq.unwrap();
    assert_eq!(
        value(&last, HeaderId::Event),
        format!("refer;id={number}"),
        "a later REFER is told by its number"
    );
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_caller_that_refuses_the_new_media_stays_with_um() {
    let mut world = executing(Script::Answer);
    world.caller().answers_reoffer = 488;
    refer(&mut world);
    assert!(said(&mut world).last().unwrap().starts_with("SIP/2.0 488"));
    assert_eq!(got(&mut world, &target(), &Method::Bye).len(), 1);
    still_with_um(&mut world);
}

#[test]
fn glare_with_the_caller_is_tried_again() {
    let mut world = executing(Script::Answer);
    world.caller().answers_reoffer = 491;
    refer(&mut world);
    assert_eq!(said(&mut world), ["SIP/2.0 100 Trying"]);
    world.caller().answers_reoffer = 200;
    world.advance(Duration::from_secs(3));
    assert_eq!(said(&mut world).last().map(String::as_str), Some("SIP/2.0 200 OK"));
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn glare_without_end_is_given_up() {
    let mut world = executing(Script::Answer);
    world.caller().answers_reoffer = 491;
    refer(&mut world);
    world.advance(Duration::from_secs(20));
    assert!(said(&mut world).last().unwrap().starts_with("SIP/2.0 491"));
    assert_eq!(got(&mut world, &caller(), &Method::Invite).len(), 4);
    still_with_um(&mut world);
}

#[test]
fn a_refer_while_an_offer_is_open_waits_with_the_caller() {
    let mut world = executing(Script::Answer);
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 0;
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    refer(&mut world);
    assert_eq!(said(&mut world), ["SIP/2.0 100 Trying"], "the target is there, the caller is busy");
    let now = world.now;
    world.party("mbx01.contoso.com", 5066).answer_pending(now);
    world.pump();
    assert_eq!(world.caller().last_status(), 200);
    world.advance(Duration::from_secs(3));
    assert_eq!(said(&mut world).last().map(String::as_str), Some("SIP/2.0 200 OK"));
    world.in_dialog(&target(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn refer_sub_false_is_obeyed() {
    let mut world = executing(Script::Answer);
    world.in_dialog(
        &worker(),
        Method::Refer,
        &format!("{TO_BOB}Refer-Sub: false\r\nSupported: norefersub\r\n"),
        None,
    );
    let answers = &world.party("mbx01.contoso.com", 5066).responses;
    let accepted = answers.iter().find(|r| *r.method() == Method::Refer).unwrap();
    assert_eq!(value(accepted, HeaderId::ReferSub), "false");
    assert!(said(&mut world).is_empty());
    assert_eq!(got(&mut world, &worker(), &Method::Bye).len(), 1);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn um_may_end_its_subscription() {
    let mut world = executing(Script::RingOnly);
    refer(&mut world);
    world.in_dialog(&worker(), Method::Subscribe, "Event: refer;id=77\r\nExpires: 0\r\n", None);
    assert_eq!(last_status(&mut world, &worker()), 481);
    world.in_dialog(&worker(), Method::Subscribe, "Event: refer\r\nExpires: 0\r\n", None);
    assert_eq!(last_status(&mut world, &worker()), 200);
    assert_eq!(reports(&mut world, &worker()).last().unwrap().1, "terminated;reason=timeout");
    let now = world.now;
    world.party(POOL, 5067).answer_pending(now);
    world.pump();
    assert_eq!(said(&mut world).len(), 2, "nothing more is told");
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn rfc_6665_section_4_2_2_a_notify_answered_481_is_the_last_one() {
    let mut world = executing(Script::RingOnly);
    world.party("mbx01.contoso.com", 5066).answers.insert("NOTIFY", 481);
    refer(&mut world);
    let now = world.now;
    world.party(POOL, 5067).answer_pending(now);
    world.pump();
    assert_eq!(said(&mut world), ["SIP/2.0 100 Trying"]);
}

#[test]
fn a_target_that_cannot_be_called_is_declined_at_once() {
    let mut world = executing(Script::Answer);
    for refer_to in [
        "<http://x.example/>",
        "<sip:bob@contoso.com;method=BYE>",
        "<sip:umbra.contoso.com:5061;transport=tls>",
        "<sip:dana@10.0.0.5:5061>",
    ] {
        world.in_dialog(&worker(), Method::Refer, &format!("Refer-To: {refer_to}\r\n"), None);
        assert_eq!(last_status(&mut world, &worker()), 603, "{refer_to}");
    }
    assert!(got(&mut world, &target(), &Method::Invite).is_empty());
    still_with_um(&mut world);
}

#[test]
fn a_user_at_our_own_host_is_called_at_the_callers_side() {
    let mut world = executing(Script::RingOnly);
    world.in_dialog(&worker(), Method::Refer, "Refer-To: <sip:2001@umbra.contoso.com;user=phone>\r\n", None);
    let invite = got(&mut world, &target(), &Method::Invite).remove(0);
    assert_eq!(invite.request_uri(), "sip:2001@10.0.0.5:5061;user=phone");
}

#[test]
fn a_sips_target_is_called_where_there_is_tls() {
    let mut world = executing(Script::RingOnly);
    world.in_dialog(&worker(), Method::Refer, "Refer-To: <sips:bob@contoso.com>\r\n", None);
    assert_eq!(got(&mut world, &target(), &Method::Invite)[0].request_uri(), "sips:bob@contoso.com");
}

#[test]
fn a_refer_of_the_caller_is_carried_even_so() {
    let mut world = executing(Script::Answer);
    world.in_dialog(&caller(), Method::Refer, TO_BOB, None);
    assert_eq!(got(&mut world, &worker(), &Method::Refer).len(), 1);
    assert!(got(&mut world, &target(), &Method::Invite).is_empty());
}

#[test]
fn a_target_that_hangs_up_while_the_caller_is_asked_ends_the_call() {
    let mut world = executing(Script::Answer);
    world.caller().answers_reoffer = 0;
    refer(&mut world);
    world.in_dialog(&target(), Method::Info, "", None);
    assert_eq!(last_status(&mut world, &target()), 500);
    world.in_dialog(&target(), Method::Bye, "", None);
    assert_eq!(last_status(&mut world, &target()), 200);
    let now = world.now;
    world.caller().answer_pending(now);
    world.pump();
    assert_eq!(got(&mut world, &caller(), &Method::Bye).len(), 1);
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_target_whose_answer_would_weaken_the_media_is_hung_up_on() {
    let mut world = executing(Script::AnswerBroken);
    refer(&mut world);
    assert!(said(&mut world).last().unwrap().starts_with("SIP/2.0 488"));
    assert_eq!(got(&mut world, &target(), &Method::Bye).len(), 1);
    still_with_um(&mut world);
}

#[test]
fn an_unsecured_call_is_transferred_over_tcp_to_its_pbx() {
    let mut policy: Policy = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Unsecured);
    policy.dial_plans[0].transfers = rules();
    let mut world = World::new(Arc::new(policy));
    redirecting(&mut world, "tcp");
    world.script(PBX, 5067, Script::Answer);
    world.connect_caller(PBX, None);
    world.invite("sip:88895@10.0.0.1;user=phone", DIVERSION, Some(offer(PBX, 3000, None)));
    let um = ("mbx01.contoso.com".to_owned(), 5065);
    world.in_dialog(&um, Method::Refer, "Refer-To: <sips:bob@contoso.com>\r\n", None);
    assert_eq!(last_status(&mut world, &um), 603, "sips means TLS on every hop");
    world.in_dialog(&um, Method::Refer, "Refer-To: <tel:+14255550199>\r\n", None);
    let invite = got(&mut world, &(PBX.to_owned(), 5067), &Method::Invite).remove(0);
    assert_eq!(invite.request_uri(), "tel:+14255550199");
    assert_eq!(world.connects.last().map(|place| place.transport), Some(sip::Transport::Tcp));
    assert_eq!(reports(&mut world, &um).last().unwrap().0, "SIP/2.0 200 OK");
    assert_eq!(world.plans.last().unwrap().b.protection, relay::Protection::Clear);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_transferred_call_that_comes_back_for_its_mailbox_is_no_loop() {
    let mut world = executing(Script::RingOnly);
    refer(&mut world);
    let sent = got(&mut world, &target(), &Method::Invite).remove(0);
    let call_id = String::from_utf8(sent.call_id().to_vec()).unwrap();
    let front_end = guest(&mut world, "bob", POOL, "10.0.0.5");
    invite_as(
        &mut world,
        &front_end,
        &call_id,
        "Diversion: <sip:bob@contoso.com>\r\n",
        Some(offer("10.0.0.5", 3900, Some(7))),
    );
    assert_eq!(last_status(&mut world, &front_end), 200, "Bob's mailbox answers");
    world.in_dialog(&front_end, Method::Bye, "", None);
    assert_eq!(world.records.len(), 1);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_replaces_in_the_refer_to_goes_to_the_target_in_its_own_words() {
    let mut world = executing(Script::RingOnly);
    let second = guest(&mut world, "eve", POOL, "10.0.0.5");
    world.script(
        "cas02.contoso.com",
        5061,
        Script::Redirect("<sip:ken@mbx01.contoso.com:5066;transport=tls>".into()),
    );
    world.party("mbx01.contoso.com", 5066).dialog = None;
    invite_as(&mut world, &second, "a-leg-2", DIVERSION, Some(offer("10.0.0.5", 3100, Some(8))));
    assert_eq!(last_status(&mut world, &second), 200);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let um = world.party("mbx01.contoso.com", 5066).dialog.clone().unwrap();
    let far = world.party("eve", 0).dialog.clone().unwrap();
    let invite = got(&mut world, &worker(), &Method::Invite).remove(0);
    let own = world.party("mbx01.contoso.com", 5066).tag.clone();
    world.party("mbx01.contoso.com", 5066).dialog = sip::Dialog::uas(&invite, own).ok();
    let lines = format!(
        "Refer-To: <sip:umbra.contoso.com?Replaces={}%3Bto-tag%3D{}%3Bfrom-tag%3D{}>\r\n",
        text(&um.call_id),
        text(&um.remote_tag),
        text(&um.local_tag)
    );
    world.in_dialog(&worker(), Method::Refer, &lines, None);
    let sent = got(&mut world, &target(), &Method::Invite).remove(0);
    assert_eq!(sent.request_uri(), "sip:eve@pool01.contoso.com:5067;transport=tls");
    let wanted = format!("a-leg-2;to-tag={};from-tag={}", text(&far.local_tag), text(&far.remote_tag));
    assert_eq!(value(&sent, HeaderId::Replaces), wanted);
}

#[test]
fn an_operator_ends_a_call_in_the_middle_of_a_transfer() {
    for script in [Script::RingOnly, Script::Answer] {
        let mut world = executing(script);
        world.caller().answers_reoffer = 0;
        refer(&mut world);
        let call = world.engine.status().call_list[0].call;
        world.feed(crate::engine::Input::Command(crate::engine::Command::HangUp(call)));
        assert_eq!(got(&mut world, &caller(), &Method::Bye).len(), 1);
        assert_eq!(got(&mut world, &worker(), &Method::Bye).len(), 1);
        let now = world.now;
        if let Some((key, request)) = world.caller().pending.take() {
            world.caller().respond(now, key, &request, 487, None, None);
            world.pump();
        }
        world.assert_clean();
    }
}
