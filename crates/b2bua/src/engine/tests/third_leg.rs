//! RFC 4028 on the third leg of a transfer that is carried out here, from its INVITE until it is leg B.

use std::time::Duration;

use sip::{HeaderId, Method};

use super::execute::{executing, refer, said, still_with_um, target};
use super::policy::POOL;
use super::refer::{got, value};
use super::world::{Script, World, caller};
use crate::codes;
use crate::leg::session::supports_timer;

const ALLOWS_UPDATE: &str = "Allow: INVITE, ACK, BYE, CANCEL, UPDATE\r\n";

/// A caller and a target that answered with these lines.
fn handed_over(says: &str) -> World {
    let mut world = executing(Script::Answer);
    says.clone_into(&mut world.party(POOL, 5067).says);
    refer(&mut world);
    assert_eq!(said(&mut world).last().map(String::as_str), Some("SIP/2.0 200 OK"));
    world
}

fn seconds(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn rfc4028_section_7_1_the_invite_to_the_target_asks_for_a_timer_and_leaves_the_refresher_open() {
    let mut world = handed_over("");
    let invite = got(&mut world, &target(), &Method::Invite).remove(0);
    assert_eq!(value(&invite, HeaderId::SessionExpires), "1800");
    assert_eq!(value(&invite, HeaderId::MinSe), "90");
    assert!(supports_timer(&invite));
    world.advance(seconds(4000));
    assert_eq!(world.engine.status().calls, 1, "a target without timers has none");
}

#[test]
fn rfc4028_section_10_we_refresh_the_target_at_half_time_and_nobody_else_hears_of_it() {
    for (allow, method) in [(ALLOWS_UPDATE, Method::Update), ("", Method::Invite)] {
        let mut world =
            handed_over(&format!("Require: timer\r\nSession-Expires: 200;refresher=uac\r\n{allow}"));
        let before = world.caller().requests.len();
        let seen = world.party(POOL, 5067).requests.len();
        world.advance(seconds(99));
        assert_eq!(world.party(POOL, 5067).requests.len(), seen);
        world.advance(seconds(2));
        let refresh = world.party(POOL, 5067).requests.last().cloned().unwrap();
        assert_eq!(*refresh.method(), method);
        assert_eq!(value(&refresh, HeaderId::SessionExpires), "200;refresher=uac");
        world.advance(seconds(1000));
        assert_eq!(world.caller().requests.len(), before, "the caller's session is its own");
        assert_eq!(world.engine.status().by_state, [("established", 1)], "refreshed again and again");
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn rfc4028_section_10_a_target_that_should_refresh_and_does_not_ends_the_call() {
    let mut world = handed_over("Require: timer\r\nSession-Expires: 200;refresher=uas\r\n");
    world.advance(seconds(160));
    world.in_dialog(
        &target(),
        Method::Update,
        "Supported: timer\r\nSession-Expires: 200;refresher=uac\r\n",
        None,
    );
    let answer = world.party(POOL, 5067).responses.last().cloned().unwrap();
    assert_eq!(value(&answer, HeaderId::SessionExpires), "200;refresher=uac");
    world.advance(seconds(160));
    assert_eq!(world.engine.status().calls, 1, "it was refreshed once");
    world.advance(seconds(20));
    for place in [caller(), target()] {
        assert_eq!(got(&mut world, &place, &Method::Bye).len(), 1, "{place:?}");
    }
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::SESSION_EXPIRED);
}

#[test]
fn rfc4028_section_7_2_the_interval_runs_from_the_answer_of_the_target_not_from_the_hand_over() {
    let mut world = executing(Script::Answer);
    let says = format!("Require: timer\r\nSession-Expires: 90;refresher=uac\r\n{ALLOWS_UPDATE}");
    world.party(POOL, 5067).says = says;
    world.caller().answers_reoffer = 0;
    refer(&mut world);
    world.advance(seconds(25));
    let now = world.now;
    world.caller().answer_pending(now);
    world.pump();
    world.advance(seconds(19));
    assert!(got(&mut world, &target(), &Method::Update).is_empty());
    world.advance(seconds(2));
    assert_eq!(got(&mut world, &target(), &Method::Update).len(), 1, "45 s after its 200");
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn rfc4028_section_7_3_a_target_that_wants_a_longer_interval_is_asked_once_more() {
    let mut world = executing(Script::Answer);
    world.party(POOL, 5067).scripted.push_back((Method::Invite, 422, "Min-SE: 3600\r\n".into()));
    refer(&mut world);
    let invites = got(&mut world, &target(), &Method::Invite);
    assert_eq!(invites.iter().map(|invite| invite.cseq().number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(invites[0].call_id(), invites[1].call_id());
    assert_eq!(value(&invites[1], HeaderId::SessionExpires), "3600");
    assert_eq!(value(&invites[1], HeaderId::MinSe), "3600");
    assert_eq!(said(&mut world), ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn rfc4028_section_6_a_target_that_refuses_every_interval_leaves_um_with_the_caller() {
    let mut world = executing(Script::Answer);
    world.party(POOL, 5067).scripted.push_back((Method::Invite, 422, String::new()));
    refer(&mut world);
    assert!(said(&mut world).last().unwrap().starts_with("SIP/2.0 422"));
    still_with_um(&mut world);
}

#[test]
fn rfc4028_section_7_3_a_caller_that_wants_a_longer_interval_is_offered_the_target_once_more() {
    let mut world = executing(Script::Answer);
    world.caller().scripted.push_back((Method::Invite, 422, "Min-SE: 3600\r\n".into()));
    refer(&mut world);
    let offers = got(&mut world, &caller(), &Method::Invite);
    assert_eq!(offers.len(), 2);
    assert_eq!(offers[0].body(), offers[1].body());
    assert_eq!(value(&offers[1], HeaderId::SessionExpires), "3600");
    assert_eq!(said(&mut world), ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"]);
    world.in_dialog(&target(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn rfc4028_section_9_a_target_that_waits_for_its_place_may_refresh_and_is_held_to_our_minimum() {
    let mut world = executing(Script::Answer);
    world.caller().answers_reoffer = 0;
    refer(&mut world);
    world.in_dialog(&target(), Method::Update, "Supported: timer\r\nSession-Expires: 60\r\n", None);
    let answer = world.party(POOL, 5067).responses.last().cloned().unwrap();
    assert_eq!(answer.status().unwrap().code(), 422);
    assert_eq!(value(&answer, HeaderId::MinSe), "90");
    world.in_dialog(
        &target(),
        Method::Update,
        "Supported: timer\r\nSession-Expires: 300;refresher=uac\r\n",
        None,
    );
    let answer = world.party(POOL, 5067).responses.last().cloned().unwrap();
    assert_eq!(answer.status().unwrap().code(), 200);
    assert_eq!(value(&answer, HeaderId::SessionExpires), "300;refresher=uac");
    assert_eq!(value(&answer, HeaderId::Require), "timer");
    let now = world.now;
    world.caller().answer_pending(now);
    world.pump();
    world.advance(seconds(267));
    assert_eq!(world.engine.status().calls, 1);
    world.advance(seconds(3));
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::SESSION_EXPIRED, "what it agreed to holds in its place");
}
