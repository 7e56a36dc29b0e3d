//! Legs whose media is of different families.

use std::net::IpAddr;
use std::sync::Arc;

use sdp::Session;
use sip::Method;

use super::policy::{self, POOL};
use super::world::{World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting};
use crate::codes;
use crate::policy::{MediaAddresses, Policy};

const V4: &str = "10.0.0.1";
const V6: &str = "2001:db8::1";

/// A gateway with media addresses of both families.
fn with_both() -> Arc<Policy> {
    let mut policy = policy::secured();
    let both = [V4, V6].map(|text| text.parse::<IpAddr>().unwrap());
    Arc::get_mut(&mut policy).unwrap().gateway.media_addresses = MediaAddresses::of(both);
    policy
}

/// A call whose caller wants media at that address.
fn call(address: &str) -> World {
    let mut world = World::new(with_both());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer(address, 3000, Some(9))));
    world
}

fn told(body: &[u8]) -> String {
    Session::parse(body).unwrap().audio().unwrap().connection.unwrap().to_string()
}

#[test]
fn each_leg_is_told_an_address_of_its_own_family() {
    let mut world = call("2001:db8::5");
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(told(&world.caller().responses.last().unwrap().body()), V6);
    let invite = world.party("mbx01.contoso.com", 5066).requests.first().unwrap().body();
    assert_eq!(told(&invite), V4);
    let plan = world.plans.last().unwrap();
    assert!(plan.a.remote_rtp.is_ipv6() && plan.b.remote_rtp.is_ipv4());
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_caller_may_change_the_family_inside_the_call() {
    let mut world = call("10.0.0.5");
    assert_eq!(told(&world.caller().responses.last().unwrap().body()), V4);
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("2001:db8::5", 3002, Some(9))));
    assert_eq!(told(&world.caller().responses.last().unwrap().body()), V6);
    assert!(world.plans.last().unwrap().a.remote_rtp.is_ipv6());
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn an_offer_of_a_family_that_is_not_here_is_refused() {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("2001:db8::5", 3000, Some(9))));
    assert_eq!((world.caller().last_status(), world.records[0].verdict.code), (488, codes::MEDIA_FAMILY));
    world.assert_clean();
}

#[test]
fn an_answer_of_another_family_than_its_offer_ends_the_call() {
    let mut world = World::new(with_both());
    redirecting(&mut world, "tls");
    world.party("mbx01.contoso.com", 5066).media.0 = "2001:db8::99";
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!((world.caller().last_status(), world.records[0].verdict.code), (488, codes::MEDIA_FAMILY));
    assert!(world.plans.is_empty(), "{:?}", world.plans);
    world.assert_clean();
}
