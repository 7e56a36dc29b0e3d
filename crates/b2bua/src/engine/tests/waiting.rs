//! Provisional responses to a re-INVITE (RFC 3261 §13.3.1.1, §14.2; RFC 3262), from either side to the other.

use std::time::Duration;

use bytes::Bytes;
use sip::{HeaderId, Message, Method};

use super::world::{Place, Script, World, caller, offer};
use super::{call_with, value, worker};

fn both() -> [(Place, Place); 2] {
    [(caller(), worker()), (worker(), caller())]
}

fn offer_of(place: &Place) -> Option<Bytes> {
    let (address, key) = if *place == caller() { ("10.0.0.6", 9) } else { ("10.0.2.9", 0x5b) };
    Some(offer(address, 3700, Some(key)))
}

/// A call in which `asks` has sent a re-INVITE with these lines, and `answers` lets it wait.
fn asking(asks: &Place, answers: &Place, lines: &str) -> World {
    let mut world = call_with("", "");
    // Its CANCEL is answered with 487.
    world.caller().script = Script::RingOnly;
    world.party(&answers.0, answers.1).answers_reoffer = 0;
    world.in_dialog(asks, Method::Invite, lines, offer_of(asks));
    world.party(&asks.0, asks.1).responses.clear();
    world
}

/// `answers` says so to the re-INVITE that waits.
fn says(world: &mut World, answers: &Place, status: u16, lines: &str, body: Option<Bytes>) {
    let now = world.now;
    let party = world.party(&answers.0, answers.1);
    let (key, request) = party.pending.clone().unwrap();
    let kept = std::mem::replace(&mut party.says, lines.to_owned());
    party.respond(now, key, &request, status, None, body);
    party.says = kept;
    world.pump();
}

fn answer_for(world: &mut World, answers: &Place) -> Bytes {
    let party = world.party(&answers.0, answers.1);
    let (_, request) = party.pending.clone().unwrap();
    party.answer_to(&request)
}

fn heard(world: &mut World, asks: &Place) -> Vec<u16> {
    world.party(&asks.0, asks.1).statuses()
}

fn last_heard(world: &mut World, asks: &Place) -> Message {
    world.party(&asks.0, asks.1).responses.last().cloned().unwrap()
}

fn count(world: &mut World, place: &Place, method: &Method) -> usize {
    world.party(&place.0, place.1).requests.iter().filter(|r| r.method() == method).count()
}

fn ends_clean(mut world: World) {
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn rfc3261_section_13_3_1_1_an_18x_to_a_re_invite_reaches_whoever_asked_and_100_does_not() {
    for (asks, answers) in both() {
        let mut world = asking(&asks, &answers, "");
        says(&mut world, &answers, 100, "", None);
        says(&mut world, &answers, 180, "", None);
        says(&mut world, &answers, 182, "", None);
        // RFC 3261 §8.1.3.2: treated as a 183.
        says(&mut world, &answers, 199, "", None);
        assert_eq!(heard(&mut world, &asks), [180, 182, 183], "{asks:?}");
        let last = last_heard(&mut world, &asks);
        assert!(last.header(HeaderId::Contact).is_some() && last.header(HeaderId::RSeq).is_none());
        let body = answer_for(&mut world, &answers);
        says(&mut world, &answers, 200, "", Some(body));
        assert_eq!(heard(&mut world, &asks), [180, 182, 183, 200]);
        ends_clean(world);
    }
}

#[test]
fn rfc3261_section_16_6_a_side_that_rings_for_an_offer_has_as_long_as_a_timer_c_and_no_longer() {
    for (asks, answers) in both() {
        let mut world = asking(&asks, &answers, "");
        world.advance(Duration::from_secs(20));
        says(&mut world, &answers, 180, "", None);
        world.advance(Duration::from_secs(100));
        says(&mut world, &answers, 180, "", None);
        world.advance(Duration::from_secs(79));
        assert_eq!(
            (count(&mut world, &answers, &Method::Cancel), heard(&mut world, &asks)),
            (0, vec![180, 180])
        );
        world.advance(Duration::from_secs(2));
        assert_eq!(count(&mut world, &answers, &Method::Cancel), 1, "a later 18x does not lengthen it");
        assert_eq!(heard(&mut world, &asks), [180, 180, 504]);
        ends_clean(world);
    }
}

#[test]
fn rfc3262_section_4_a_reliable_18x_to_a_re_invite_is_acknowledged_on_its_own_leg() {
    for (asks, answers) in both() {
        let mut world = asking(&asks, &answers, "");
        for rseq in [5, 5, 7, 6] {
            says(&mut world, &answers, 180, &format!("Require: 100rel\r\nRSeq: {rseq}\r\n"), None);
        }
        let party = world.party(&answers.0, answers.1);
        let number = party.pending.as_ref().unwrap().1.cseq().number;
        let pracks = party.requests.iter().filter(|request| *request.method() == Method::Prack);
        let racks: Vec<_> = pracks.map(|prack| value(prack, HeaderId::RAck)).collect();
        assert_eq!(racks, [format!("5 {number} INVITE"), format!("6 {number} INVITE")]);
        assert_eq!(heard(&mut world, &asks), [180, 180], "repeated and out of order: not told");
        let body = answer_for(&mut world, &answers);
        says(&mut world, &answers, 200, "", Some(body));
        ends_clean(world);
    }
}

#[test]
fn rfc3262_section_5_the_answer_in_a_reliable_18x_counts_and_its_2xx_needs_none() {
    for (asks, answers) in both() {
        let mut world = asking(&asks, &answers, "Supported: 100rel\r\n");
        let plans = world.plans.len();
        let body = answer_for(&mut world, &answers);
        says(&mut world, &answers, 183, "Require: 100rel\r\nRSeq: 5\r\n", Some(body));
        let told = last_heard(&mut world, &asks);
        assert!(
            told.body().is_empty() && told.header(HeaderId::RSeq).is_none(),
            "the answer comes in our 2xx"
        );
        says(&mut world, &answers, 200, "", None);
        assert_eq!(heard(&mut world, &asks), [183, 200]);
        assert!(!last_heard(&mut world, &asks).body().is_empty());
        assert!(world.plans.len() > plans);
        ends_clean(world);
    }
}

#[test]
fn rfc3262_section_3_who_requires_100rel_in_a_re_invite_hears_nothing_else_and_its_prack_is_taken() {
    for (asks, answers) in both() {
        let mut world = asking(&asks, &answers, "Require: 100rel\r\n");
        says(&mut world, &answers, 180, "", None);
        says(&mut world, &answers, 183, "", None);
        assert_eq!(heard(&mut world, &asks), [180], "one at a time");
        let told = last_heard(&mut world, &asks);
        assert_eq!(value(&told, HeaderId::Require), "100rel");
        world.advance(Duration::from_millis(500));
        assert_eq!(heard(&mut world, &asks), [180, 180], "until it is acknowledged");
        let rack = |message: &Message| {
            format!("RAck: {} {} INVITE\r\n", value(message, HeaderId::RSeq), message.cseq().number)
        };
        world.in_dialog(&answers, Method::Prack, &rack(&told), None);
        assert_eq!(last_heard(&mut world, &answers).status().unwrap().code(), 481, "not its response");
        world.in_dialog(&asks, Method::Prack, &rack(&told), None);
        assert_eq!(heard(&mut world, &asks), [180, 180, 200, 183]);
        let told = last_heard(&mut world, &asks);
        let body = answer_for(&mut world, &answers);
        says(&mut world, &answers, 200, "", Some(body));
        assert_eq!(heard(&mut world, &asks).last(), Some(&200));
        world.in_dialog(&asks, Method::Prack, &rack(&told), None);
        assert_eq!(heard(&mut world, &asks), [180, 180, 200, 183, 200, 200], "a late PRACK is known");
        ends_clean(world);
    }
}

#[test]
fn rfc3262_section_3_without_a_prack_the_offer_is_refused_after_64_t1_and_the_call_goes_on() {
    for (asks, answers) in both() {
        let mut world = asking(&asks, &answers, "Require: 100rel\r\n");
        says(&mut world, &answers, 180, "", None);
        world.advance(Duration::from_secs(33));
        assert_eq!(count(&mut world, &answers, &Method::Cancel), 1);
        assert_eq!(heard(&mut world, &asks).last(), Some(&504));
        ends_clean(world);
    }
}

#[test]
fn rfc3262_section_5_an_offerless_re_invite_that_requires_100rel_hears_nothing_before_there_is_an_offer() {
    let mut world = call_with("", "");
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 0;
    world.in_dialog(&caller(), Method::Invite, "Require: 100rel\r\n", None);
    world.caller().responses.clear();
    says(&mut world, &worker(), 180, "", None);
    assert!(heard(&mut world, &caller()).is_empty());
}

#[test]
fn rfc4320_section_4_1_an_update_that_goes_on_as_re_invite_hears_no_18x_and_waits_no_longer() {
    let mut world = call_with("", "Allow: INVITE, ACK, BYE\r\n");
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 0;
    world.in_dialog(&caller(), Method::Update, "", offer_of(&caller()));
    world.caller().responses.clear();
    says(&mut world, &worker(), 180, "", None);
    assert!(heard(&mut world, &caller()).is_empty());
    world.advance(Duration::from_secs(33));
    assert_eq!(count(&mut world, &worker(), &Method::Cancel), 1);
}
