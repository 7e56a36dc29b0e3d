//! ICE across the gateway: answered to who offers it, in its form, and never offered first.

use bytes::Bytes;
use sdp::{Ice, IceForm, Session};
use sip::Method;

use super::policy::{self, POOL};
use super::world::{World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting, worker};
use crate::policy::IcePolicy;

/// An offer of the caller with these lines at its end.
fn with(lines: &str) -> Option<Bytes> {
    Some([&offer("10.0.0.5", 3000, Some(9))[..], lines.as_bytes()].concat().into())
}

fn fragments(name: &str) -> String {
    format!(
        "a=ice-ufrag:{name}\r\na=ice-pwd:0nVh3c8JQm5tYd1sWb7LfRzE\r\n\
         a=candidate:1 1 UDP 2130706431 10.0.0.5 3000 typ host\r\na=candidate:1 2 UDP 2130705918 10.0.0.5 3001 typ host\r\n"
    )
}

fn call(world: &mut World, body: Option<Bytes>) -> Option<Ice> {
    redirecting(world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, body);
    told(world)
}

/// ICE in the last answer to the caller.
fn told(world: &mut World) -> Option<Ice> {
    assert_eq!(world.caller().last_status(), 200);
    ice(&world.caller().responses.last().unwrap().body())
}

fn ice(body: &[u8]) -> Option<Ice> {
    Session::parse(body).unwrap().audio().unwrap().ice.clone().map(|ice| *ice)
}

#[test]
fn ice_is_answered_to_the_caller_and_not_offered_to_um() {
    let mut world = World::new(policy::secured());
    let ours = call(&mut world, with(&fragments("k2Xp"))).unwrap();
    assert_eq!(ours.form, IceForm::Fragments);
    let plan = world.plans.last().unwrap();
    let expected = relay::IceCredentials::fragments(&ours.name, "k2Xp", ours.password());
    assert_eq!((&plan.a.ice, &plan.b.ice), (&expected, &None));
    let invite = world.party("mbx01.contoso.com", 5066).requests.first().unwrap().body();
    assert_eq!(ice(&invite), None);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_re_invite_with_the_same_words_keeps_ours_and_other_words_begin_anew() {
    let mut world = World::new(policy::secured());
    let first = call(&mut world, with(&fragments("k2Xp"))).unwrap();
    world.in_dialog(&caller(), Method::Invite, "", with(&fragments("k2Xp")));
    assert_eq!(told(&mut world).as_ref(), Some(&first));
    world.in_dialog(&caller(), Method::Invite, "", with(&fragments("k2Xq")));
    let second = told(&mut world).unwrap();
    assert!(second.name != first.name && second.password() != first.password());
    let expected = relay::IceCredentials::fragments(&second.name, "k2Xq", second.password());
    assert_eq!(world.plans.last().unwrap().a.ice, expected);
    world.in_dialog(&caller(), Method::Invite, "", with(""));
    assert_eq!(told(&mut world), None, "a peer that leaves ICE is not answered with it");
    assert_eq!(world.plans.last().unwrap().a.ice, None);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn what_um_offers_inside_the_call_goes_to_the_caller_with_the_same_ice() {
    let mut world = World::new(policy::secured());
    let first = call(&mut world, with(&fragments("k2Xp")));
    world.in_dialog(&worker(), Method::Invite, "", Some(offer("10.0.2.9", 4444, Some(0x5b))));
    let offered = world.caller().requests.iter().rfind(|r| r.method() == &Method::Invite).unwrap().body();
    assert_eq!(ice(&offered), first);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn the_older_form_is_answered_in_the_older_form() {
    let line = |component, port| {
        format!(
            "a=candidate:Zk3v0dP1yHq8mRt5sLw7uXcBnQa2eFgJ4iKoV6TzN9E {component} p8YtRw2Lk5Vb1Xc4Zq7NdA UDP 0.830 10.0.0.5 {port}\r\n"
        )
    };
    let mut world = World::new(policy::secured());
    let ours = call(&mut world, with(&format!("{}{}", line(1, 3000), line(2, 3001)))).unwrap();
    assert_eq!(ours.form, IceForm::Candidates);
    let (name, password) = ours.octets().unwrap();
    let expected = relay::IceCredentials::candidate(&name, &password);
    assert!(expected.is_some() && world.plans.last().unwrap().a.ice == expected);
}

#[test]
fn a_mismatch_is_said_and_a_gateway_without_ice_says_nothing() {
    let mut world = World::new(policy::secured());
    assert_eq!(call(&mut world, with(&fragments("k2Xp").replace("3000 typ", "3002 typ"))), None);
    let body = world.caller().responses.last().unwrap().body();
    assert!(String::from_utf8_lossy(&body).contains("\r\na=ice-mismatch\r\n"));
    let mut policy = policy::secured();
    std::sync::Arc::get_mut(&mut policy).unwrap().gateway.ice = IcePolicy::Off;
    let mut world = World::new(policy);
    assert_eq!(call(&mut world, with(&fragments("k2Xp"))), None);
    let body = world.caller().responses.last().unwrap().body();
    assert!(!String::from_utf8_lossy(&body).contains("ice"));
}
