//! RFC 4028 inside whole calls: each leg has a session of its own.

use std::time::Duration;

use sip::{HeaderId, Message, Method};

use super::policy::{self, POOL};
use super::world::{Place, Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION, call_with, redirecting, value, worker};
use crate::codes;

const ALLOWS_UPDATE: &str = "Allow: INVITE, ACK, BYE, CANCEL, UPDATE\r\n";

fn at(world: &mut World, place: &Place) -> Vec<Message> {
    world.party(&place.0, place.1).requests.clone()
}

fn methods(world: &mut World, place: &Place) -> Vec<String> {
    world.party(&place.0, place.1).methods()
}

fn is_up(world: &World) -> bool {
    world.engine.status().by_state == [("established", 1)]
}

fn seconds(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A call whose leg to the worker, or to the caller, is refreshed by us every 100 s.
fn refreshed_by_us(place: &Place, allow: &str) -> World {
    let ours = match *place == caller() {
        true => format!("Supported: timer\r\nSession-Expires: 200;refresher=uas\r\n{allow}"),
        false => format!("Require: timer\r\nSession-Expires: 200;refresher=uac\r\n{allow}"),
    };
    match *place == caller() {
        true => call_with(&ours, ""),
        false => call_with("", &ours),
    }
}

fn both() -> [Place; 2] {
    [caller(), worker()]
}

#[test]
fn section_7_1_the_invite_to_um_asks_for_a_timer_and_leaves_the_refresher_open() {
    let mut world = call_with("", "");
    let invite = at(&mut world, &worker())[0].clone();
    assert_eq!(value(&invite, HeaderId::SessionExpires), "1800");
    assert_eq!(value(&invite, HeaderId::MinSe), "90");
    assert!(crate::leg::session::supports_timer(&invite));
}

#[test]
fn section_7_3_a_422_is_followed_by_one_invite_with_its_interval_on_the_same_call_id() {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    let party = world.party("mbx01.contoso.com", 5066);
    party.scripted.push_back((Method::Invite, 422, "Min-SE: 3600\r\n".into()));
    party.says = "Session-Expires: 3600;refresher=uas\r\n".into();
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    let invites = at(&mut world, &worker());
    assert_eq!(invites.len(), 2);
    assert_eq!(invites[0].call_id(), invites[1].call_id());
    assert_eq!(invites[0].cseq().number + 1, invites[1].cseq().number);
    assert_eq!(invites[0].body(), invites[1].body());
    assert_eq!(value(&invites[1], HeaderId::SessionExpires), "3600");
    assert_eq!(value(&invites[1], HeaderId::MinSe), "3600");
    assert!(!world.events.iter().any(|event| event.starts_with("failed")), "{:?}", world.events);
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.records[0].failovers, 0, "the same server was asked again");
    world.assert_clean();
}

#[test]
fn section_7_3_a_422_that_names_no_larger_interval_sends_the_call_to_the_next_server() {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.party("cas01.contoso.com", 5061).scripted.push_back((Method::Invite, 422, String::new()));
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(world.party("mbx02.contoso.com", 5066).methods(), ["INVITE"]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn section_9_the_answer_to_the_caller_names_the_refresher_and_requires_timer_only_of_who_knows_it() {
    let cases = [
        ("Supported: timer\r\nSession-Expires: 1800\r\n", "1800;refresher=uac", "timer"),
        ("Supported: timer\r\nSession-Expires: 7200;refresher=uas\r\n", "1800;refresher=uas", "timer"),
        ("Supported: timer\r\nSession-Expires: 7200\r\nMin-SE: 2400\r\n", "2400;refresher=uac", "timer"),
        ("Supported: timer\r\n", "1800;refresher=uas", "timer"),
        ("Session-Expires: 900\r\n", "900;refresher=uas", ""),
        ("", "", ""),
    ];
    for (lines, interval, require) in cases {
        let mut world = call_with(lines, "");
        let answer = world.caller().responses.last().unwrap().clone();
        assert_eq!(value(&answer, HeaderId::SessionExpires), interval, "{lines}");
        assert_eq!(value(&answer, HeaderId::Require), require, "{lines}");
    }
}

#[test]
fn section_9_an_invite_below_the_minimum_gets_422_with_min_se() {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    let lines = format!("{DIVERSION}Supported: timer\r\nSession-Expires: 60\r\n");
    world.invite(DEPOSIT, &lines, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 422);
    assert_eq!(value(world.caller().responses.last().unwrap(), HeaderId::MinSe), "90");
    world.assert_clean();
}

#[test]
fn section_10_our_refresh_goes_out_at_half_time_by_update_and_touches_one_leg_only() {
    for place in both() {
        let mut world = refreshed_by_us(&place, ALLOWS_UPDATE);
        let before = [methods(&mut world, &caller()).len(), methods(&mut world, &worker()).len()];
        world.advance(seconds(99));
        assert_eq!([methods(&mut world, &caller()).len(), methods(&mut world, &worker()).len()], before);
        world.advance(seconds(2));
        let update = at(&mut world, &place).pop().unwrap();
        assert_eq!(*update.method(), Method::Update, "{place:?}");
        assert!(update.body().is_empty());
        assert_eq!(value(&update, HeaderId::SessionExpires), "200;refresher=uac");
        assert!(update.header(HeaderId::Contact).is_some());
        let after = methods(&mut world, &caller()).len() + methods(&mut world, &worker()).len();
        assert_eq!(after, before[0] + before[1] + 1, "the other leg has its own session");
        world.advance(seconds(1000));
        assert!(is_up(&world), "refreshed again and again");
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn section_7_4_without_update_the_refresh_is_a_re_invite_with_the_very_same_description() {
    for place in both() {
        let mut world = refreshed_by_us(&place, "Allow: INVITE, ACK, BYE\r\n");
        let told = match place == caller() {
            true => world.caller().responses.last().unwrap().body(),
            false => at(&mut world, &place)[0].body(),
        };
        let plans = world.plans.len();
        world.advance(seconds(101));
        let refresh = at(&mut world, &place).pop().unwrap();
        assert_eq!(*refresh.method(), Method::Invite, "{place:?}");
        assert_eq!(refresh.body(), told, "same bytes, so the same version in o=");
        assert!(!world.party(&place.0, place.1).acks.is_empty(), "its 2xx is acknowledged");
        assert!(is_up(&world));
        assert!(
            world.plans[plans..].iter().all(|plan| *plan == world.plans[plans - 1]),
            "media goes on as it was"
        );
        world.in_dialog(&worker(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn section_10_a_refresh_answered_408_or_481_ends_the_call_on_both_legs() {
    for place in both() {
        for (status, allow) in [(408, ALLOWS_UPDATE), (481, ALLOWS_UPDATE), (481, ""), (408, "")] {
            let mut world = refreshed_by_us(&place, allow);
            let method = if allow.is_empty() { Method::Invite } else { Method::Update };
            world.party(&place.0, place.1).scripted.push_back((method, status, String::new()));
            world.advance(seconds(101));
            assert_eq!(methods(&mut world, &caller()).last().map(String::as_str), Some("BYE"));
            assert_eq!(methods(&mut world, &worker()).last().map(String::as_str), Some("BYE"));
            assert_eq!(world.records[0].verdict.code, codes::SESSION_EXPIRED);
            world.assert_clean();
        }
    }
}

#[test]
fn rfc_3261_section_12_2_1_2_a_refresh_that_nobody_answers_ends_the_call_before_its_session_is_over() {
    for place in both() {
        for allow in [ALLOWS_UPDATE, ""] {
            let mut world = refreshed_by_us(&place, allow);
            world.advance(seconds(99));
            world.deaf(&place);
            world.advance(seconds(34));
            assert_eq!(world.records.len(), 1, "{place:?} {allow}");
            assert_eq!(world.records[0].verdict.code, codes::SESSION_EXPIRED);
            let other = if place == caller() { worker() } else { caller() };
            assert_eq!(methods(&mut world, &other).last().map(String::as_str), Some("BYE"));
            world.assert_clean();
        }
    }
}

#[test]
fn section_7_3_a_422_to_a_refresh_raises_the_interval_at_once() {
    for place in both() {
        let mut world = refreshed_by_us(&place, ALLOWS_UPDATE);
        let party = world.party(&place.0, place.1);
        party.scripted.push_back((Method::Update, 422, "Min-SE: 500\r\n".into()));
        world.advance(seconds(101));
        let refresh = at(&mut world, &place).pop().unwrap();
        assert_eq!(value(&refresh, HeaderId::SessionExpires), "500;refresher=uac");
        assert_eq!(value(&refresh, HeaderId::MinSe), "500");
        assert!(is_up(&world));
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn rfc_3261_section_14_1_after_491_we_wait_as_long_as_the_owner_of_the_call_id_must() {
    for (place, least, most) in [(caller(), 0, 2_000), (worker(), 2_100, 4_000)] {
        for allow in [ALLOWS_UPDATE, ""] {
            let mut world = refreshed_by_us(&place, allow);
            let method = if allow.is_empty() { Method::Invite } else { Method::Update };
            world.party(&place.0, place.1).scripted.push_back((method, 491, String::new()));
            world.advance(seconds(100));
            let tries = at(&mut world, &place).len();
            world.advance(Duration::from_millis(least).saturating_sub(Duration::from_millis(10)));
            assert_eq!(at(&mut world, &place).len(), tries, "not before {least} ms");
            world.advance(Duration::from_millis(most - least + 20));
            assert_eq!(at(&mut world, &place).len(), tries + 1, "not after {most} ms");
            assert!(is_up(&world));
            world.in_dialog(&caller(), Method::Bye, "", None);
            world.assert_clean();
        }
    }
}

#[test]
fn a_peer_that_allows_update_but_refuses_it_is_refreshed_by_re_invite_from_then_on() {
    for status in [405, 501] {
        let mut world = refreshed_by_us(&worker(), "");
        world.in_dialog(
            &worker(),
            Method::Update,
            "Supported: timer\r\nSession-Expires: 200;refresher=uas\r\n",
            None,
        );
        world.party("mbx01.contoso.com", 5066).scripted.push_back((Method::Update, status, String::new()));
        world.advance(seconds(250));
        assert_eq!(methods(&mut world, &worker()), ["INVITE", "UPDATE", "INVITE", "INVITE"]);
        assert!(is_up(&world));
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn a_refresh_refused_in_passing_is_tried_again_until_the_session_is_over() {
    let mut world = refreshed_by_us(&worker(), ALLOWS_UPDATE);
    for _ in 0..50 {
        let answer = (Method::Update, 500, "Retry-After: 3\r\n".to_owned());
        world.party("mbx01.contoso.com", 5066).scripted.push_back(answer);
    }
    world.advance(seconds(101 + 4));
    assert_eq!(methods(&mut world, &worker()), ["INVITE", "UPDATE", "UPDATE"]);
    world.advance(seconds(60));
    assert!(is_up(&world), "the session still lasts");
    world.advance(seconds(10));
    assert_eq!(world.records[0].verdict.code, codes::SESSION_EXPIRED);
    world.assert_clean();
}

#[test]
fn section_10_a_peer_that_does_not_refresh_in_time_has_its_call_ended_on_both_legs() {
    let theirs = [
        call_with("Supported: timer\r\nSession-Expires: 200\r\n", ""),
        call_with("", "Require: timer\r\nSession-Expires: 200;refresher=uas\r\n"),
    ];
    for mut world in theirs {
        world.advance(seconds(167));
        assert!(is_up(&world));
        // 32 s before the interval is over.
        world.advance(seconds(2));
        assert_eq!(world.records[0].verdict.code, codes::SESSION_EXPIRED);
        assert_eq!(methods(&mut world, &caller()).last().map(String::as_str), Some("BYE"));
        assert_eq!(methods(&mut world, &worker()).last().map(String::as_str), Some("BYE"));
        world.assert_clean();
    }
}

#[test]
fn section_9_a_refresh_of_the_peer_is_answered_with_the_session_headers_and_keeps_the_call() {
    for place in both() {
        let mut world = match place == caller() {
            true => call_with("Supported: timer\r\nSession-Expires: 200\r\n", ""),
            false => call_with("", "Require: timer\r\nSession-Expires: 200;refresher=uas\r\n"),
        };
        let lines = "Supported: timer\r\nSession-Expires: 200;refresher=uac\r\n";
        let (address, key) = if place == caller() { ("10.0.0.5", 9) } else { ("10.0.2.1", 0x5b) };
        for round in 0..6 {
            world.advance(seconds(100));
            let (method, body) = match round % 2 {
                0 => (Method::Update, None),
                _ => (Method::Invite, Some(offer(address, 3000, Some(key)))),
            };
            world.in_dialog(&place, method, lines, body);
            let party = world.party(&place.0, place.1);
            assert_eq!(party.last_status(), 200);
            let answer = party.responses.last().unwrap();
            assert_eq!(value(answer, HeaderId::SessionExpires), "200;refresher=uac", "{place:?} {round}");
            assert_eq!(value(answer, HeaderId::Require), "timer");
        }
        assert!(is_up(&world));
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn section_7_4_an_offer_carried_to_the_other_leg_refreshes_that_legs_own_session() {
    let mut world = refreshed_by_us(&worker(), ALLOWS_UPDATE);
    world.advance(seconds(90));
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    let carried = at(&mut world, &worker()).pop().unwrap();
    assert_eq!(value(&carried, HeaderId::SessionExpires), "200;refresher=uac");
    world.advance(seconds(95));
    assert_eq!(methods(&mut world, &worker()), ["INVITE", "INVITE"], "half time counts from the offer");
    world.advance(seconds(10));
    assert_eq!(methods(&mut world, &worker()), ["INVITE", "INVITE", "UPDATE"]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn section_7_3_a_422_to_an_offer_on_its_way_concerns_our_interval_and_not_the_asker() {
    let mut world = refreshed_by_us(&worker(), ALLOWS_UPDATE);
    world.party("mbx01.contoso.com", 5066).scripted.push_back((
        Method::Invite,
        422,
        "Min-SE: 700\r\n".into(),
    ));
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    let carried = at(&mut world, &worker());
    assert_eq!(carried.len(), 3);
    assert_eq!(carried[1].body(), carried[2].body());
    assert_eq!(value(&carried[2], HeaderId::SessionExpires), "700;refresher=uac");
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_refresh_by_re_invite_that_only_gets_100_ends_with_the_session_and_not_before() {
    let mut world = refreshed_by_us(&worker(), "");
    world.party("mbx01.contoso.com", 5066).script = Script::Silent;
    world.party("mbx01.contoso.com", 5066).scripted.push_back((Method::Invite, 100, String::new()));
    world.advance(seconds(101 + 33));
    assert_eq!(methods(&mut world, &worker()), ["INVITE", "INVITE", "CANCEL"]);
    world.advance(seconds(40));
    assert_eq!(world.records[0].verdict.code, codes::SESSION_EXPIRED);
    world.assert_clean();
}

#[test]
fn glare_with_our_own_refresh_is_answered_491_on_both_legs_and_settles_afterwards() {
    let mut world = refreshed_by_us(&worker(), "");
    world.party("mbx01.contoso.com", 5066).scripted.push_back((Method::Invite, 100, String::new()));
    world.advance(seconds(101));
    assert_eq!(world.engine.status().by_state, [("refreshing", 1)]);
    world.in_dialog(&worker(), Method::Invite, "", Some(offer("10.0.2.9", 4444, Some(0x5b))));
    assert_eq!(world.party("mbx01.contoso.com", 5066).last_status(), 491);
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    assert_eq!(world.caller().last_status(), 491);
    let now = world.now;
    world.party("mbx01.contoso.com", 5066).answer_pending(now);
    world.pump();
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_refresh_that_is_due_while_an_offer_is_open_waits_for_its_end() {
    let mut world = refreshed_by_us(&worker(), "");
    world.party("mbx01.contoso.com", 5066).scripted.push_back((Method::Invite, 100, String::new()));
    world.advance(seconds(90));
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    world.advance(seconds(15));
    assert_eq!(methods(&mut world, &worker()), ["INVITE", "INVITE"], "one INVITE at a time");
    let now = world.now;
    world.party("mbx01.contoso.com", 5066).says = String::new();
    world.party("mbx01.contoso.com", 5066).answer_pending(now);
    world.pump();
    assert_eq!(world.caller().last_status(), 200);
    world.advance(seconds(101));
    assert_eq!(methods(&mut world, &worker()), ["INVITE", "INVITE", "INVITE"]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_bye_that_crosses_our_refresh_ends_the_call_in_both_orders() {
    for place in both() {
        for (method, allow) in [(Method::Update, ALLOWS_UPDATE), (Method::Invite, "")] {
            let mut world = refreshed_by_us(&worker(), allow);
            world.party("mbx01.contoso.com", 5066).scripted.push_back((method, 0, String::new()));
            world.advance(seconds(101));
            world.in_dialog(&place, Method::Bye, "", None);
            assert_eq!(world.party(&place.0, place.1).last_status(), 200);
            let now = world.now;
            if world.party("mbx01.contoso.com", 5066).pending.is_some() {
                world.party("mbx01.contoso.com", 5066).refuse_pending(now, 481);
            }
            world.pump();
            world.assert_clean();
            assert_eq!(world.records.len(), 1);
            assert_eq!(world.records[0].verdict.code, codes::COMPLETED);
        }
    }
}
