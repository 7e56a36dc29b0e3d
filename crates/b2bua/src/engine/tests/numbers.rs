//! Payload type numbers: each leg has its own (RFC 3264 §5.1, §6.1), and none changes its meaning (§8.3.2).

use std::sync::Arc;

use bytes::Bytes;
use sdp::{PayloadType, Session};
use sip::{Message, Method};

use super::policy::{self, POOL};
use super::refer::{answered, got, guest, invite_as, with_rules};
use super::world::{Place, World, caller, line, offer};
use super::{DEPOSIT, DIVERSION, redirecting, worker};
use crate::policy::{Policy, TransferRules};

/// What a far end offers with digits under that number.
fn offering(address: &str, key: u8, digits: u8) -> Bytes {
    let text = String::from_utf8(offer(address, 3000, Some(key)).to_vec()).unwrap();
    Bytes::from(text.replace(" 101", &format!(" {digits}")).replace(":101 ", &format!(":{digits} ")))
}

/// A call whose caller offers digits under one number and whose worker answers them under another.
fn call(offered: u8, answered: u8) -> World {
    call_under(policy::secured(), offered, answered)
}

fn call_under(policy: Arc<Policy>, offered: u8, answered: u8) -> World {
    let mut world = World::new(policy);
    redirecting(&mut world, "tls");
    world.party("mbx01.contoso.com", 5066).digits = Some(answered);
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offering("10.0.0.5", 9, offered)));
    assert_eq!(world.caller().last_status(), 200);
    world
}

fn digits(message: &Message) -> u8 {
    let session = Session::parse(&message.body()).unwrap();
    let audio = session.audio().unwrap();
    audio.formats.iter().find(|format| format.is("telephone-event")).unwrap().pt
}

/// The number of digits in the last offer to that party.
fn offered(world: &mut World, place: &Place) -> u8 {
    digits(got(world, place, &Method::Invite).last().unwrap())
}

fn answer_to(world: &mut World, place: &Place) -> u8 {
    digits(world.party(&place.0, place.1).responses.last().unwrap())
}

/// Number heard, number sent on: of leg A, of leg B.
fn crossing(world: &World) -> [String; 2] {
    let plan = world.plans.last().unwrap();
    [&plan.a, &plan.b].map(|leg| format!("{:?}", leg.formats))
}

fn end(mut world: World, place: &Place) {
    world.in_dialog(place, Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn section_6_1_a_worker_that_numbers_digits_its_own_way_gets_them_under_its_number() {
    let mut world = call(101, 96);
    assert_eq!((offered(&mut world, &worker()), answer_to(&mut world, &caller())), (101, 101));
    let expected =
        ["{0: Some(0), 13: Some(13), 101: Some(96)}", "{0: Some(0), 13: Some(13), 101: Some(101)}"];
    assert_eq!(crossing(&world), expected);
    // The other direction: what the worker offers as 96 the caller knows as 101.
    world.in_dialog(&worker(), Method::Invite, "", Some(offering("10.0.2.1", 0x5b, 96)));
    assert_eq!((offered(&mut world, &caller()), answer_to(&mut world, &worker())), (101, 96));
    let expected = ["{0: Some(0), 13: Some(13), 101: Some(96)}", "{0: Some(0), 13: Some(13), 96: Some(101)}"];
    assert_eq!(crossing(&world), expected);
    end(world, &caller());
}

#[test]
fn section_8_3_2_a_number_once_bound_on_a_leg_is_bound_there_for_ever() {
    let mut policy = (*policy::secured()).clone();
    policy.gateway.codecs.push("G726-32".into());
    let mut world = call_under(policy.into(), 101, 101);
    // The caller moves its digits; the worker's keep their number.
    for number in [118, 120] {
        world.in_dialog(&caller(), Method::Invite, "", Some(offering("10.0.0.5", 9, number)));
        assert_eq!((offered(&mut world, &worker()), answer_to(&mut world, &caller())), (101, number));
    }
    // 118 was digits two descriptions ago, and is free on the worker's leg only.
    let more = String::from_utf8(offering("10.0.2.1", 0x5b, 101).to_vec()).unwrap().replace(" 8 ", " 8 118 ");
    let more = Bytes::from(more + "a=rtpmap:118 G726-32/8000\r\n");
    world.in_dialog(&worker(), Method::Invite, "", Some(more));
    let asked = got(&mut world, &caller(), &Method::Invite).last().cloned().unwrap();
    let formats = Session::parse(&asked.body()).unwrap().audio().unwrap().formats.clone();
    let numbers: Vec<(&str, u8)> = formats.iter().map(|f| (f.name.as_str(), f.pt)).collect();
    let expected = [("PCMU", 0), ("PCMA", 8), ("G726-32", 127), ("CN", 13), ("telephone-event", 120)];
    assert_eq!(numbers, expected);
    end(world, &caller());
}

#[test]
fn a_late_offer_settles_both_legs_under_the_numbers_each_chose() {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.party("mbx01.contoso.com", 5066).digits = Some(96);
    world.connect_caller("10.0.0.5", Some(POOL));
    world.caller().holds_ack = true;
    world.invite(DEPOSIT, DIVERSION, None);
    let success = world.caller().responses.last().unwrap().clone();
    let told = Session::parse(&success.body()).unwrap();
    assert_eq!((offered(&mut world, &worker()), digits(&success)), (101, 96));
    let mut spec = sdp::OfferSpec::new("10.0.0.5".parse().unwrap(), 3000);
    spec.formats = vec![PayloadType::pcmu(), PayloadType::telephone_event(110)];
    spec.profile = sdp::Profile::RtpSavp;
    let theirs = &told.audio().unwrap().crypto[0];
    spec.crypto = vec![line(theirs.tag, theirs.suite, 9)];
    let answer = sdp::write_answer(&told, &spec).unwrap();
    let (now, party) = (world.now, world.caller());
    let draft = party.dialog.as_ref().unwrap().ack(success.cseq().number).body("application/sdp", answer);
    let (ack, flow) = (draft.finish().unwrap(), party.flow.unwrap());
    party.endpoint.send_ack(now, &flow, ack);
    world.pump();
    let a = "{0: Some(0), 96: Some(96)}";
    assert_eq!(crossing(&world), [a, "{0: Some(0), 13: None, 101: Some(110)}"]);
    end(world, &caller());
}

#[test]
fn a_newcomer_in_the_callers_place_brings_its_numbers_and_the_worker_keeps_its_own() {
    let mut world = answered(with_rules(TransferRules::default()));
    assert_eq!(offered(&mut world, &worker()), 101);
    let dialog = world.caller().dialog.clone().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (id, to, from) = (text(&dialog.call_id), text(&dialog.remote_tag), text(&dialog.local_tag));
    let eve = guest(&mut world, "eve", POOL, "10.0.0.5");
    let replaces = format!("Replaces: {id};to-tag={to};from-tag={from}\r\nRequire: replaces\r\n");
    invite_as(&mut world, &eve, "eve-1", &replaces, Some(offering("10.0.0.5", 0x21, 97)));
    assert_eq!((offered(&mut world, &worker()), answer_to(&mut world, &eve)), (101, 97));
    let expected = ["{0: Some(0), 13: Some(13), 97: Some(101)}", "{0: Some(0), 13: Some(13), 101: Some(97)}"];
    assert_eq!(crossing(&world), expected);
    end(world, &eve);
}
