//! Media between the peers: for measuring signalling alone.

use std::sync::Arc;

use sdp::Session;
use sip::Method;

use super::policy::{self, POOL};
use super::world::{World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting};
use crate::policy::{MediaMode, Policy, PoolEncryption, VoipSecurity};

fn policy_of(level: PoolEncryption, security: VoipSecurity) -> Arc<Policy> {
    let mut policy = policy::policy(level, security);
    policy.gateway.media_mode = MediaMode::Unanchored;
    Arc::new(policy)
}

#[test]
fn unanchored_media_goes_from_peer_to_peer_under_the_peers_own_keys_and_takes_no_ports() {
    let mut world = World::new(policy_of(PoolEncryption::RequireEncryption, VoipSecurity::Secured));
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    let audio = |body: &[u8]| Session::parse(body).unwrap().audio().cloned().unwrap();
    let offered = audio(&world.party("mbx01.contoso.com", 5066).requests[0].body());
    assert_eq!(offered.remote().unwrap().0.to_string(), "10.0.0.5:3000");
    assert_eq!(offered.crypto[0].key.key()[0], 9);
    let answered = audio(&world.caller().responses.last().unwrap().body());
    assert_eq!(answered.remote().unwrap().0.to_string(), "10.0.2.1:4000");
    assert_eq!(answered.crypto[0].key.key()[0], 0x5b);
    assert_eq!((world.allocated, world.plans.len()), (0, 0));
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
    assert_eq!((world.released, world.records.len()), (0, 1));
}

#[test]
fn unanchored_media_is_decided_like_any_other() {
    let mut world = World::new(policy_of(PoolEncryption::RequireEncryption, VoipSecurity::Secured));
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, None)));
    assert_eq!(world.caller().last_status(), 488);
    world.assert_clean();
}

#[test]
fn unanchored_media_keeps_the_numbers_of_the_peers() {
    let mut world = World::new(policy_of(PoolEncryption::RequireEncryption, VoipSecurity::Secured));
    redirecting(&mut world, "tls");
    world.party("mbx01.contoso.com", 5066).digits = Some(96);
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    let answer = Session::parse(&world.caller().responses.last().unwrap().body()).unwrap();
    let digits = answer.audio().unwrap().formats.iter().find(|format| format.is("telephone-event")).unwrap();
    assert_eq!(digits.pt, 96, "the caller sends straight to the worker");
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}
