//! RTP and RTCP on one port (RFC 5761): taken from a peer that offers it, offered to nobody else.

use bytes::Bytes;
use sdp::Session;
use sip::{Message, Method};

use super::policy::{self, POOL};
use super::refer::got;
use super::world::{World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting, worker};

fn muxed(address: &str, key: u8) -> Bytes {
    let text = String::from_utf8(offer(address, 3000, Some(key)).to_vec()).unwrap();
    Bytes::from(text + "a=rtcp-mux\r\n")
}

fn call(body: Bytes) -> World {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(body));
    assert_eq!(world.caller().last_status(), 200);
    world
}

fn says_mux(message: &Message) -> bool {
    Session::parse(&message.body()).unwrap().audio().unwrap().rtcp_mux
}

fn offered_to(world: &mut World, place: &(String, u16)) -> bool {
    says_mux(got(world, place, &Method::Invite).last().unwrap())
}

fn in_use(world: &World) -> (bool, bool) {
    let plan = world.plans.last().unwrap();
    (plan.a.rtcp_mux, plan.b.rtcp_mux)
}

#[test]
fn section_5_1_1_who_offers_it_gets_it_and_the_other_leg_does_not_hear_of_it() {
    let mut world = call(muxed("10.0.0.5", 9));
    let answer = world.caller().responses.last().unwrap().clone();
    assert!(says_mux(&answer) && !offered_to(&mut world, &worker()));
    assert_eq!(in_use(&world), (true, false));
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    assert!(text.contains("a=rtcp:20001\r\n"), "the other port stays open for a peer that uses it: {text}");
    // The worker offers it too, later: its leg has it then, and the caller is asked to keep what it has.
    world.in_dialog(&worker(), Method::Invite, "", Some(muxed("10.0.2.1", 0x5b)));
    assert!(offered_to(&mut world, &caller()));
    // This caller answers without it: the ports are apart again.
    assert_eq!(in_use(&world), (false, true));
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn who_does_not_offer_it_is_not_answered_with_it() {
    let mut world = call(offer("10.0.0.5", 3000, Some(9)));
    assert!(!says_mux(&world.caller().responses.last().unwrap().clone()));
    assert_eq!(in_use(&world), (false, false));
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn section_4_payload_types_that_look_like_rtcp_need_a_port_of_their_own() {
    let mut policy = (*policy::secured()).clone();
    policy.gateway.codecs.push("G726-32".into());
    let mut world = World::new(policy.into());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    let text = String::from_utf8(muxed("10.0.0.5", 9).to_vec()).unwrap().replace(" 8 ", " 8 77 ");
    let text = text + "a=rtpmap:77 G726-32/8000\r\n";
    world.invite(DEPOSIT, DIVERSION, Some(Bytes::from(text)));
    assert!(!says_mux(&world.caller().responses.last().unwrap().clone()));
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}
