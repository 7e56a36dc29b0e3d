//! Digits in INFO on the caller's side, and as events in RTP on that of UM.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use relay::{Digit, Fact, Side};
use sdp::Session;
use sip::{HeaderId, Method};

use super::policy::{self, POOL};
use super::world::{World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting, value, worker};
use crate::engine::Input;
use crate::policy::{Digits, Policy};

const RELAY: &str = "application/dtmf-relay";

fn by_info(digits: Digits) -> Arc<Policy> {
    let mut policy = policy::secured();
    let gateways = &mut Arc::get_mut(&mut policy).unwrap().ip_gateways;
    gateways.iter_mut().for_each(|gateway| gateway.dialect.digits = digits);
    policy
}

/// A call whose caller knows no events.
fn call(digits: Digits) -> World {
    let mut world = World::new(by_info(digits));
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(without_events()));
    assert_eq!(world.caller().last_status(), 200);
    world
}

fn without_events() -> Bytes {
    let text = String::from_utf8(offer("10.0.0.5", 3000, Some(9)).to_vec()).unwrap();
    let kept = text.replace(" 101\r\n", "\r\n");
    kept.split_inclusive("\r\n").filter(|line| !line.contains(":101 ")).collect::<String>().into()
}

fn events_in(body: &[u8]) -> bool {
    Session::parse(body).unwrap().audio().unwrap().formats.iter().any(|f| f.is("telephone-event"))
}

#[test]
fn um_is_offered_events_that_the_caller_does_not_know_and_the_caller_is_not_told_of_them() {
    let mut world = call(Digits::Info);
    let invite = world.party("mbx01.contoso.com", 5066).requests.first().unwrap().body();
    assert!(events_in(&invite) && !events_in(&without_events()));
    let answer = world.caller().responses.last().unwrap().body();
    assert!(!events_in(&answer));
    let plan = world.plans.last().unwrap();
    assert_eq!(plan.a.events, None);
    let events = plan.b.events.expect("events on the leg of UM");
    assert_eq!((events.heard, events.sent), (101, 101));
    assert_eq!(plan.b.formats.sent(101), Err(relay::Why::UnsharedFormat));
}

#[test]
fn a_digit_in_info_goes_out_as_an_event_and_is_answered_here() {
    let mut world = call(Digits::Info);
    let before = world.party("mbx01.contoso.com", 5066).methods();
    world.info(&caller(), RELAY, "Signal=5\r\nDuration=160\r\n");
    world.info(&caller(), "application/dtmf", "#");
    assert_eq!(world.pressed, [(Side::B, '5', 160), (Side::B, '#', 100)]);
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods(), before, "UM hears of no INFO");
    world.info(&caller(), "text/plain", "5");
    world.info(&caller(), RELAY, "Signal=55\r\n");
    assert_eq!(world.pressed.len(), 2);
    let last = world.party("mbx01.contoso.com", 5066).requests.last().unwrap().clone();
    assert_eq!((last.method(), &last.body()[..]), (&Method::Info, &b"Signal=55\r\n"[..]), "carried as it is");
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn an_event_of_um_goes_out_as_info_whose_answer_stays_here() {
    let mut world = call(Digits::Info);
    let key = world.engine.status().call_list[0].call;
    let digit = Digit::from_letter('7').unwrap();
    let fact = Fact::Digit { side: Side::B, digit, lasted: Duration::from_millis(120) };
    world.feed(Input::MediaFact { call: key, fact, stats: None });
    let info = world.caller().requests.last().unwrap().clone();
    assert_eq!((info.method(), value(&info, HeaderId::ContentType).as_str()), (&Method::Info, RELAY));
    assert_eq!(&info.body()[..], b"Signal=7\r\nDuration=120\r\n");
    world.in_dialog(&worker(), Method::Options, "", None);
    assert_eq!(world.party("mbx01.contoso.com", 5066).statuses().iter().filter(|s| **s == 200).count(), 1);
    let shown = format!("{:?}", world.events);
    assert!(shown.contains("redacted") || !shown.contains("Digit"), "{shown}");
    world.in_dialog(&worker(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn where_both_know_events_or_nothing_is_configured_everything_passes() {
    let mut world = call(Digits::Pass);
    world.info(&caller(), RELAY, "Signal=5\r\nDuration=160\r\n");
    assert!(world.pressed.is_empty() && world.plans.last().unwrap().b.events.is_none());
    let last = world.party("mbx01.contoso.com", 5066).requests.last().unwrap().clone();
    assert_eq!(&last.body()[..], b"Signal=5\r\nDuration=160\r\n");
    let mut world = World::new(by_info(Digits::Info));
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    world.info(&caller(), RELAY, "Signal=5\r\nDuration=160\r\n");
    assert!(world.pressed.is_empty() && world.plans.last().unwrap().b.events.is_none());
}
