//! RFC 3891: INVITE with Replaces, from the peer of the named dialog and from others, early, late and in between.

use std::time::Duration;

use bytes::Bytes;
use sip::{HeaderId, Method};

use super::policy::{self, POOL};
use super::refer::{answered, got, guest, invite_as, last_status, value, with_rules, worker};
use super::world::{Place, Script, World, caller, line, offer};
use super::{DEPOSIT, DIVERSION, redirecting};
use crate::codes;
use crate::policy::{ReplacesRule, TransferRules};

/// The Replaces that names the dialog of a far end, as whoever receives it (the gateway) knows it.
fn naming(world: &mut World, place: &Place) -> String {
    let dialog = world.party(&place.0, place.1).dialog.clone().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "{};to-tag={};from-tag={}",
        text(&dialog.call_id),
        text(&dialog.remote_tag),
        text(&dialog.local_tag)
    )
}

fn ready() -> World {
    answered(with_rules(TransferRules::default()))
}

fn under(replaces: ReplacesRule) -> World {
    answered(with_rules(TransferRules { replaces, ..TransferRules::default() }))
}

fn sealed(port: u16) -> Option<Bytes> {
    Some(offer("10.0.0.5", port, Some(0x21)))
}

/// Eve of the same pool asks for the caller's place.
fn eve_replaces_the_caller(
    world: &mut World,
    extra: &str,
    body: Option<Bytes>,
) -> (Place, sip::endpoint::ClientKey) {
    let named = naming(world, &caller());
    let eve = guest(world, "eve", POOL, "10.0.0.5");
    let key =
        invite_as(world, &eve, "eve-1", &format!("Replaces: {named}{extra}\r\nRequire: replaces\r\n"), body);
    (eve, key)
}

fn untouched(world: &mut World) {
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    assert!(got(world, &caller(), &Method::Bye).is_empty() && got(world, &worker(), &Method::Bye).is_empty());
    world.in_dialog(&caller(), Method::Info, "", None);
    assert_eq!(world.caller().last_status(), 200);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_newcomer_of_the_same_pool_takes_the_callers_place_and_the_caller_gets_bye() {
    let mut world = ready();
    let before = world.plans.last().cloned().unwrap();
    let (eve, _) = eve_replaces_the_caller(&mut world, "", sealed(3200));
    let answer = world.party("eve", 0).responses.last().unwrap().clone();
    assert_eq!(answer.status().unwrap().code(), 200);
    assert!(value(&answer, HeaderId::Supported).contains("replaces"));
    assert_eq!(got(&mut world, &caller(), &Method::Bye).len(), 1);
    assert_eq!(got(&mut world, &worker(), &Method::Invite).len(), 2, "the server was offered the new media");
    let after = world.plans.last().cloned().unwrap();
    assert_eq!(after.a.remote_rtp.to_string(), "10.0.0.5:3200");
    assert!(after.a.protection != before.a.protection && after.b.protection != before.b.protection);
    let ours = |protection: &relay::Protection| match protection {
        relay::Protection::Sealed { outbound, .. } => outbound.key.key().to_vec(),
        relay::Protection::Clear => panic!("must be sealed"),
    };
    let all = [&before.a, &before.b, &after.a, &after.b].map(|leg| ours(&leg.protection));
    assert!((0..4).all(|i| (0..i).all(|j| all[i] != all[j])), "every key of ours is fresh");
    assert_eq!(world.records.len(), 0, "it is one call");
    world.in_dialog(&worker(), Method::Info, "", None);
    assert_eq!(world.party("eve", 0).methods(), ["INFO"]);
    world.in_dialog(&eve, Method::Bye, "", None);
    assert_eq!(got(&mut world, &worker(), &Method::Bye).len(), 1);
    world.assert_clean();
    assert_eq!((world.records.len(), world.records[0].verdict.code), (1, codes::COMPLETED));
}

#[test]
fn a_server_may_replace_its_own_leg() {
    let mut world = ready();
    let named = naming(&mut world, &worker());
    let other = guest(&mut world, "process2", "mbx01.contoso.com", "10.0.2.1");
    invite_as(&mut world, &other, "um-1", &format!("Replaces: {named}\r\n"), sealed(4200));
    assert_eq!(last_status(&mut world, &other), 200);
    assert_eq!(got(&mut world, &worker(), &Method::Bye).len(), 1);
    assert_eq!(got(&mut world, &caller(), &Method::Invite).len(), 1);
    assert_eq!(world.plans.last().unwrap().b.remote_rtp.to_string(), "10.0.0.5:4200");
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.party("process2", 0).methods(), ["BYE"]);
    world.assert_clean();
}

#[test]
fn another_peer_never_takes_a_dialog_over_unless_the_plan_lets_it() {
    for (rule, status) in
        [(ReplacesRule::SamePeer, 403), (ReplacesRule::SamePlan, 200), (ReplacesRule::Refuse, 603)]
    {
        let mut world = under(rule);
        let named = naming(&mut world, &worker());
        let other = guest(&mut world, "mbx02", "mbx02.contoso.com", "10.0.2.2");
        invite_as(&mut world, &other, "um-2", &format!("Replaces: {named}\r\n"), sealed(4200));
        assert_eq!(last_status(&mut world, &other), status, "{rule:?}");
        if status == 200 {
            world.in_dialog(&other, Method::Bye, "", None);
            world.assert_clean();
        } else {
            untouched(&mut world);
        }
    }
    // A server is no caller: the caller's dialog is never its own.
    let mut world = under(ReplacesRule::SamePlan);
    let named = naming(&mut world, &caller());
    let other = guest(&mut world, "mbx02", "mbx02.contoso.com", "10.0.2.2");
    invite_as(&mut world, &other, "um-3", &format!("Replaces: {named}\r\n"), sealed(4200));
    assert_eq!(last_status(&mut world, &other), 403);
    untouched(&mut world);
}

#[test]
fn a_replaces_that_matches_nothing_is_answered_481_and_a_broken_one_400() {
    let mut world = ready();
    let named = naming(&mut world, &caller());
    let wrong_tag = named.replace("from-tag=", "from-tag=x");
    let eve = guest(&mut world, "eve", POOL, "10.0.0.5");
    let cases = [
        ("Replaces: nobody;to-tag=1;from-tag=2\r\n".to_owned(), 481),
        (format!("Replaces: {wrong_tag}\r\n"), 481),
        (format!("Replaces: {named}\r\nReplaces: {named}\r\n"), 400),
        (format!("Replaces: {named}\r\nJoin: {named}\r\n"), 400),
        ("Replaces: half;to-tag=1\r\n".to_owned(), 400),
        (format!("Replaces: {named}\r\nRequire: weird\r\n"), 420),
    ];
    for (number, (lines, status)) in cases.iter().enumerate() {
        invite_as(&mut world, &eve, &format!("eve-{number}"), lines, sealed(3200));
        assert_eq!(last_status(&mut world, &eve), *status, "{lines}");
    }
    assert_eq!(world.records.len(), cases.len(), "each leaves its verdict");
    untouched(&mut world);
}

#[test]
fn early_only_does_not_replace_an_answered_call() {
    let mut world = ready();
    let (eve, _) = eve_replaces_the_caller(&mut world, ";early-only", sealed(3200));
    assert_eq!(last_status(&mut world, &eve), 486);
    untouched(&mut world);
}

#[test]
fn an_early_dialog_that_the_gateway_did_not_begin_is_not_replaced() {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.script("mbx01.contoso.com", 5066, Script::RingOnly);
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    let ringing = world.caller().responses.last().unwrap().clone();
    assert_eq!(ringing.status().unwrap().code(), 180);
    let tag = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap()).into_owned();
    let named = format!("a-leg-1;to-tag={};from-tag={}", tag(ringing.to_tag()), tag(ringing.from_tag()));
    let eve = guest(&mut world, "eve", POOL, "10.0.0.5");
    invite_as(&mut world, &eve, "eve-1", &format!("Replaces: {named}\r\n"), sealed(3200));
    assert_eq!(last_status(&mut world, &eve), 481);
    // The leg to the ringing server is one it did begin; caller and server would both have an offer open.
    let sent = got(&mut world, &worker(), &Method::Invite).remove(0);
    let call_id = String::from_utf8_lossy(sent.call_id()).into_owned();
    let far = tag(Some(&world.party("mbx01.contoso.com", 5066).tag));
    let named = format!("{call_id};to-tag={};from-tag={far};early-only", tag(sent.from_tag()));
    let other = guest(&mut world, "process2", "mbx01.contoso.com", "10.0.2.1");
    invite_as(&mut world, &other, "um-1", &format!("Replaces: {named}\r\n"), sealed(4200));
    assert_eq!(last_status(&mut world, &other), 488);
    let now = world.now;
    world.party("mbx01.contoso.com", 5066).answer_pending(now);
    world.pump();
    assert_eq!(world.caller().last_status(), 200, "the call went on unchanged");
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn rfc3891_section_3_a_server_that_has_answered_is_no_early_dialog_while_our_2xx_waits_for_a_prack() {
    for (flag, status) in [(";early-only", 486), ("", 500)] {
        let mut world = World::new(policy::secured());
        redirecting(&mut world, "tls");
        world.script("mbx01.contoso.com", 5066, Script::EarlyMedia);
        world.connect_caller("10.0.0.5", Some(POOL));
        let lines = format!("{DIVERSION}Supported: 100rel\r\n");
        world.invite(DEPOSIT, &lines, Some(offer("10.0.0.5", 3000, Some(9))));
        let now = world.now;
        world.party("mbx01.contoso.com", 5066).answer_pending(now);
        world.pump();
        assert_eq!(world.engine.status().by_state, [("awaiting PRACK", 1)]);
        let named = naming(&mut world, &worker());
        let other = guest(&mut world, "process2", "mbx01.contoso.com", "10.0.2.1");
        invite_as(&mut world, &other, "um-1", &format!("Replaces: {named}{flag}\r\n"), sealed(4200));
        assert_eq!(last_status(&mut world, &other), status);
        assert_eq!(world.engine.status().by_state, [("awaiting PRACK", 1)]);
        world.advance(Duration::from_secs(40));
        world.assert_clean();
    }
}

#[test]
fn a_call_that_is_just_over_is_declined() {
    let mut world = ready();
    let named = naming(&mut world, &caller());
    world.party("mbx01.contoso.com", 5066).answers.insert("BYE", 0);
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.engine.status().by_state, [("ending", 1)]);
    let eve = guest(&mut world, "eve", POOL, "10.0.0.5");
    invite_as(&mut world, &eve, "eve-1", &format!("Replaces: {named}\r\n"), sealed(3200));
    assert_eq!(last_status(&mut world, &eve), 603);
    let now = world.now;
    let (key, bye) = world.party("mbx01.contoso.com", 5066).pending.take().unwrap();
    world.party("mbx01.contoso.com", 5066).respond(now, key, &bye, 200, None, None);
    world.pump();
    world.assert_clean();
}

#[test]
fn when_the_other_side_refuses_the_newcomer_the_matched_dialog_is_left_unchanged() {
    let mut world = ready();
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 488;
    let plans = world.plans.len();
    let (eve, _) = eve_replaces_the_caller(&mut world, "", sealed(3200));
    assert_eq!(last_status(&mut world, &eve), 488);
    assert_eq!(world.plans.len(), plans);
    untouched(&mut world);
    // Glare on a dialog the newcomer knows nothing of.
    let mut world = ready();
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 491;
    let (eve, _) = eve_replaces_the_caller(&mut world, "", sealed(3200));
    assert_eq!(last_status(&mut world, &eve), 500);
    untouched(&mut world);
}

#[test]
fn a_newcomer_that_would_weaken_the_media_is_refused() {
    let mut world = ready();
    let (eve, _) = eve_replaces_the_caller(&mut world, "", Some(offer("10.0.0.5", 3200, None)));
    assert_eq!(last_status(&mut world, &eve), 488);
    assert_eq!(got(&mut world, &worker(), &Method::Invite).len(), 1, "the server heard nothing of it");
    untouched(&mut world);
}

#[test]
fn a_cancelled_newcomer_changes_nothing() {
    let mut world = ready();
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 0;
    let (eve, key) = eve_replaces_the_caller(&mut world, "", sealed(3200));
    world.advance(Duration::from_secs(1));
    let now = world.now;
    world.party("eve", 0).endpoint.cancel(now, key);
    world.pump();
    assert_eq!(last_status(&mut world, &eve), 487);
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 200;
    untouched(&mut world);
}

#[test]
fn a_newcomer_that_waits_too_long_for_the_other_side_is_refused() {
    let mut world = ready();
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 0;
    let (eve, _) = eve_replaces_the_caller(&mut world, "", sealed(3200));
    world.advance(Duration::from_secs(33));
    assert_eq!(last_status(&mut world, &eve), 487);
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 200;
    untouched(&mut world);
}

#[test]
fn the_replaced_side_may_hang_up_first_and_the_newcomer_still_gets_its_place() {
    let mut world = ready();
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 0;
    let (eve, _) = eve_replaces_the_caller(&mut world, "", sealed(3200));
    assert_eq!(world.engine.status().by_state, [("transferring", 1)]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.caller().last_status(), 200);
    let now = world.now;
    world.party("mbx01.contoso.com", 5066).answer_pending(now);
    world.pump();
    assert_eq!(last_status(&mut world, &eve), 200);
    assert!(got(&mut world, &caller(), &Method::Bye).is_empty());
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    world.in_dialog(&eve, Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn the_side_that_stays_may_hang_up_and_the_newcomer_is_declined() {
    let mut world = ready();
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 0;
    let (eve, _) = eve_replaces_the_caller(&mut world, "", sealed(3200));
    world.in_dialog(&worker(), Method::Bye, "", None);
    assert_eq!(last_status(&mut world, &eve), 603);
    assert_eq!(got(&mut world, &caller(), &Method::Bye).len(), 1);
    let now = world.now;
    if let Some((key, request)) = world.party("mbx01.contoso.com", 5066).pending.take() {
        world.party("mbx01.contoso.com", 5066).respond(now, key, &request, 487, None, None);
        world.pump();
    }
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn the_replaced_side_gone_and_the_newcomer_refused_leaves_nobody() {
    let mut world = ready();
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 0;
    let (eve, _) = eve_replaces_the_caller(&mut world, "", sealed(3200));
    world.in_dialog(&caller(), Method::Bye, "", None);
    let now = world.now;
    let (key, request) = world.party("mbx01.contoso.com", 5066).pending.take().unwrap();
    world.party("mbx01.contoso.com", 5066).respond(now, key, &request, 488, None, None);
    world.pump();
    assert_eq!(last_status(&mut world, &eve), 488);
    assert_eq!(got(&mut world, &worker(), &Method::Bye).len(), 1);
    world.assert_clean();
}

#[test]
fn while_an_offer_is_open_a_newcomer_is_asked_to_come_again() {
    let mut world = ready();
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 0;
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    let (eve, _) = eve_replaces_the_caller(&mut world, "", sealed(3200));
    let answer = world.party("eve", 0).responses.last().unwrap().clone();
    assert_eq!((last_status(&mut world, &eve), value(&answer, HeaderId::RetryAfter)), (500, "1".into()));
    let now = world.now;
    world.party("mbx01.contoso.com", 5066).answer_pending(now);
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 200;
    world.pump();
    untouched(&mut world);
}

#[test]
fn a_newcomer_without_an_offer_gets_one_and_answers_in_its_ack() {
    let mut world = ready();
    let named = naming(&mut world, &caller());
    let eve = guest(&mut world, "eve", POOL, "10.0.0.5");
    world.party("eve", 0).holds_ack = true;
    invite_as(&mut world, &eve, "eve-1", &format!("Replaces: {named}\r\n"), None);
    let answer = world.party("eve", 0).responses.last().unwrap().clone();
    assert_eq!(answer.status().unwrap().code(), 200);
    let offered = sdp::Session::parse(&answer.body()).unwrap();
    assert_eq!(offered.audio().unwrap().security(), sdp::MediaSecurity::Required);
    let mut spec = sdp::OfferSpec::new("10.0.0.5".parse().unwrap(), 3300);
    spec.profile = sdp::Profile::RtpSavp;
    spec.formats.retain(|f| f.is("PCMU"));
    let theirs = offered.audio().unwrap().crypto[0].clone();
    spec.crypto = vec![line(theirs.tag, theirs.suite, 0x44)];
    let body = sdp::write_answer(&offered, &spec).unwrap();
    let now = world.now;
    let party = world.party("eve", 0);
    let ack = party.dialog.as_ref().unwrap().ack(1).body("application/sdp", body).finish().unwrap();
    let flow = party.flow.unwrap();
    party.endpoint.send_ack(now, &flow, ack);
    world.pump();
    assert_eq!(world.plans.last().unwrap().a.remote_rtp.to_string(), "10.0.0.5:3300");
    world.in_dialog(&worker(), Method::Bye, "", None);
    assert_eq!(world.party("eve", 0).methods(), ["BYE"]);
    world.assert_clean();
}

#[test]
fn a_newcomer_may_carry_a_session_timer_of_its_own() {
    let mut world = ready();
    let named = naming(&mut world, &caller());
    let eve = guest(&mut world, "eve", POOL, "10.0.0.5");
    let lines = format!("Replaces: {named}\r\nSupported: timer\r\nSession-Expires: 600;refresher=uac\r\n");
    invite_as(&mut world, &eve, "eve-1", &lines, sealed(3200));
    let answer = world.party("eve", 0).responses.last().unwrap().clone();
    assert_eq!(value(&answer, HeaderId::SessionExpires), "600;refresher=uac");
    world.advance(Duration::from_secs(610));
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::SESSION_EXPIRED);
}
