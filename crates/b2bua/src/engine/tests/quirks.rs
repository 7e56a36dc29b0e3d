//! Each quirk that acts inside the engine: what it does, that it is counted, and what its switch changes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sip::HeaderId;

use super::policy::{self, PBX, POOL};
use super::world::{Script, World, offer};
use super::{DEPOSIT, DIVERSION, redirecting};
use crate::policy::{PoolEncryption, VoipSecurity};
use crate::quirks::{Quirk, QuirkSet};

/// A pool at a Secured plan, with that quirk off for the pool.
fn without(quirk: Option<Quirk>) -> World {
    of(PoolEncryption::RequireEncryption, VoipSecurity::Secured, quirk)
}

fn of(level: PoolEncryption, security: VoipSecurity, quirk: Option<Quirk>) -> World {
    let mut policy = policy::policy(level, security);
    let off = QuirkSet::from_iter(quirk);
    policy.ip_gateways[0].dialect = policy.ip_gateways[0].dialect.without(off);
    let mut world = World::new(Arc::new(policy));
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world
}

fn counted(world: &World, quirk: Quirk) -> u64 {
    let counters = world.engine.status().counters;
    counters.iter().find(|(name, _)| *name == quirk.counter()).map_or(0, |(_, count)| *count)
}

fn sealed() -> Option<Bytes> {
    Some(offer("10.0.0.5", 3000, Some(9)))
}

#[test]
fn a_diversion_that_um_would_refuse_is_repaired_and_counted_once_per_call() {
    let broken = "Diversion: \"Doe, Jane <sip:ken@contoso.com>\r\n";
    for (off, expected) in [
        (None, &b"\"Doe, Jane\"<sip:ken@contoso.com>"[..]),
        (Some(Quirk::DiversionQuoting), b"\"Doe, Jane <sip:ken@contoso.com>"),
    ] {
        let mut world = without(off);
        world.invite(DEPOSIT, broken, sealed());
        let invite = world.party("mbx01.contoso.com", 5066).requests[0].clone();
        assert_eq!(invite.header(HeaderId::Diversion), Some(expected));
        assert_eq!(counted(&world, Quirk::DiversionQuoting), u64::from(off.is_none()));
    }
}

#[test]
fn a_180_with_a_description_becomes_183_unless_the_quirk_is_off() {
    for (off, status) in [(None, 183), (Some(Quirk::ProgressFor180WithSdp), 180)] {
        let mut world = without(off);
        world.script("mbx01.contoso.com", 5066, Script::RingWithSdp);
        world.invite(DEPOSIT, DIVERSION, sealed());
        assert_eq!(world.caller().last_status(), status);
        assert!(!world.caller().responses.last().unwrap().body().is_empty());
        assert_eq!(counted(&world, Quirk::ProgressFor180WithSdp), u64::from(off.is_none()));
    }
}

#[test]
fn a_caller_hears_of_progress_from_us_only_while_the_quirk_is_on() {
    for off in [None, Some(Quirk::FirstProgress)] {
        let mut world = without(off);
        world.script("mbx01.contoso.com", 5066, Script::Answer);
        for cas in ["cas01.contoso.com", "cas02.contoso.com"] {
            world.script(cas, 5061, Script::Silent);
        }
        let mut slow = (*policy::secured()).clone();
        slow.routing.first_answer_timeout = Duration::from_secs(30);
        slow.ip_gateways[0].dialect = slow.ip_gateways[0].dialect.without(QuirkSet::from_iter(off));
        world.feed(crate::engine::Input::Policy(Arc::new(slow)));
        world.invite(DEPOSIT, DIVERSION, sealed());
        world.advance(Duration::from_secs(10));
        assert_eq!(world.caller().statuses().contains(&183), off.is_none());
        assert_eq!(counted(&world, Quirk::FirstProgress), u64::from(off.is_none()));
    }
}

fn with_crypto(profile: &str, lines: &str) -> Option<Bytes> {
    let text = String::from_utf8(offer("10.0.0.5", 3000, None).to_vec()).unwrap();
    assert!(text.contains("RTP/AVP"));
    let text = text.replace("RTP/AVP", profile);
    let text = text.split_inclusive("\r\n").map(|line| match line.starts_with("m=audio") {
        true => format!("{line}{lines}"),
        false => line.to_owned(),
    });
    Some(Bytes::from(text.collect::<String>()))
}

const WITH_MKI: &str =
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:HhwaGBYUEhAODAoIBgQCAAEDBQcJCw0PERMVFxkb|2^31|1:1\r\n";
const WITHOUT: &str =
    "a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:HhwaGBYUEhAODAoIBgQCAAEDBQcJCw0PERMVFxkb|2^31\r\n";

#[test]
fn rtp_avp_with_crypto_lines_is_optional_srtp_or_with_the_quirk_off_plain_rtp() {
    let level = PoolEncryption::SupportEncryption;
    let mut world = of(level, VoipSecurity::Secured, None);
    world.invite(DEPOSIT, DIVERSION, with_crypto("RTP/AVP", WITHOUT));
    assert_eq!(world.caller().last_status(), 200);
    assert!(matches!(world.plans.last().unwrap().a.protection, relay::Protection::Sealed { .. }));
    assert_eq!(counted(&world, Quirk::OptionalSrtp), 1);
    let mut world = of(level, VoipSecurity::Secured, Some(Quirk::OptionalSrtp));
    world.invite(DEPOSIT, DIVERSION, with_crypto("RTP/AVP", WITHOUT));
    assert_eq!(world.caller().last_status(), 488, "plain RTP does not fit a Secured plan");
    assert!(world.plans.is_empty());
    let mut world = of(level, VoipSecurity::SipSecured, Some(Quirk::OptionalSrtp));
    world.invite(DEPOSIT, DIVERSION, with_crypto("RTP/AVP", WITHOUT));
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(counted(&world, Quirk::OptionalSrtp), 0);
}

#[test]
fn the_crypto_line_without_mki_is_answered_or_with_the_quirk_off_the_first() {
    let both = format!("{WITH_MKI}{WITHOUT}");
    for (off, tag) in [(None, 2), (Some(Quirk::MkiLessCrypto), 1)] {
        let mut world = without(off);
        world.invite(DEPOSIT, DIVERSION, with_crypto("RTP/SAVP", &both));
        let answer = world.caller().responses.last().unwrap().body();
        let answer = sdp::Session::parse(&answer).unwrap();
        assert_eq!(answer.audio().unwrap().crypto[0].tag, tag);
        assert_eq!(counted(&world, Quirk::MkiLessCrypto), u64::from(off.is_none()));
    }
    let mut world = without(None);
    world.invite(DEPOSIT, DIVERSION, with_crypto("RTP/SAVP", WITHOUT));
    assert_eq!(counted(&world, Quirk::MkiLessCrypto), 0, "nothing was passed over");
}

#[test]
fn headers_of_the_connection_stop_and_are_counted_where_they_stop() {
    for off in [None, Some(Quirk::MsHopByHop)] {
        let mut world = without(off);
        world.invite(DEPOSIT, &format!("{DIVERSION}ms-keep-alive: UAC;hop-hop=yes\r\n"), sealed());
        let invite = world.party("mbx01.contoso.com", 5066).requests[0].clone();
        assert_eq!(invite.header_named("ms-keep-alive").is_some(), off.is_some());
        assert_eq!(counted(&world, Quirk::MsHopByHop), u64::from(off.is_none()));
    }
}

#[test]
fn a_quirk_that_is_off_for_the_pool_stays_on_for_the_pbx() {
    let mut policy = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Unsecured);
    policy.ip_gateways[0].dialect =
        policy.ip_gateways[0].dialect.without(QuirkSet::from_iter([Quirk::DiversionQuoting]));
    let mut world = World::new(Arc::new(policy));
    redirecting(&mut world, "tcp");
    world.connect_caller(PBX, None);
    let broken = "Diversion: \"Doe, Jane <sip:ken@contoso.com>\r\n";
    world.invite("sip:88895@10.0.0.1;user=phone", broken, Some(offer(PBX, 3000, None)));
    assert_eq!(counted(&world, Quirk::DiversionQuoting), 1);
}

#[test]
fn a_caller_name_that_could_steer_a_terminal_stays_behind_while_the_address_crosses() {
    let mut world = without(None);
    let headers = "Max-Forwards: 70\r\nFrom: \"\x1b[2J\"<sip:dana@contoso.com>;tag=8612;epid=c2\r\n\
        To: \"\x07\"<sip:ken@contoso.com>\r\nCall-ID: a-leg-1\r\nCSeq: 1 INVITE\r\nContact: <sip:dana@10.0.0.5:5061>\r\n";
    let request = sip::endpoint::OutgoingRequest {
        method: sip::Method::Invite,
        uri: Bytes::from_static(DEPOSIT.as_bytes()),
        headers: Bytes::from(headers),
        content_type: Some(Bytes::from_static(b"application/sdp")),
        body: sealed().unwrap(),
    };
    world.send_as(&super::world::caller(), request);
    assert_eq!(world.caller().last_status(), 200);
    let invite = world.party("mbx01.contoso.com", 5066).requests[0].clone();
    let from = invite.header(HeaderId::From).unwrap();
    assert!(from.starts_with(b"<sip:dana@contoso.com>;tag="), "{}", from.escape_ascii());
    assert_eq!(invite.header(HeaderId::To), Some(&b"<sip:ken@contoso.com>"[..]));
}

#[test]
fn a_line_with_a_control_character_is_left_out_of_leg_b_and_counted() {
    let mut world = without(None);
    world.invite(DEPOSIT, &format!("{DIVERSION}Subject: \x1b[2Jhello\r\n"), sealed());
    let invite = world.party("mbx01.contoso.com", 5066).requests[0].clone();
    assert_eq!(invite.header(HeaderId::Subject), None);
    let counters = world.engine.status().counters;
    assert!(counters.contains(&("header_lines_unclean", 1)), "{counters:?}");
}
