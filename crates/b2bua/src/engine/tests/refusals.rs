//! Calls that never begin, and requests that belong to none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sip::endpoint::OutgoingRequest;
use sip::{HeaderId, Message, Method};

use super::policy::{self, PBX, POOL};
use super::world::{Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting, value};
use crate::codes;
use crate::engine::{Command, Input};
use crate::policy::{Allowed, GatewayStatus, PoolEncryption, UnknownPeer, VoipSecurity};
use crate::record::OfferResult;

fn request(method: Method, uri: &str, lines: &str) -> OutgoingRequest {
    let name = method.as_str_lossy().to_owned();
    let headers = format!(
        "From: <sip:x@contoso.com>;tag=1\r\nTo: <sip:ken@contoso.com>\r\nCall-ID: out-{name}\r\nCSeq: 1 {name}\r\n{lines}"
    );
    OutgoingRequest {
        method,
        uri: Bytes::from(uri.to_owned()),
        headers: Bytes::from(headers),
        content_type: None,
        body: Bytes::new(),
    }
}

#[test]
fn a_pool_that_requires_srtp_and_a_sip_secured_plan_do_not_fit() {
    let mut world =
        World::new(Arc::new(policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::SipSecured)));
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    let last = world.caller().responses.last().unwrap().clone();
    assert_eq!(world.caller().last_status(), 488);
    assert_eq!(last.reason(), "Incompatible security setting");
    assert!(last.header(HeaderId::MsDiagnostics).unwrap().starts_with(b"61001;"));
    assert!(last.header(HeaderId::Warning).unwrap().starts_with(b"399 umbra.contoso.com "));
    assert!(world.connects.is_empty() && world.allocated == 0);
    world.assert_clean();
    assert_eq!(
        (world.records[0].verdict.code, world.records[0].offer_result),
        (codes::POOL_PLAN_MISMATCH, OfferResult::Rejected)
    );
}

#[test]
fn a_stranger_on_tcp_meets_silence_or_403_as_configured() {
    let mut world = World::new(policy::unsecured());
    world.connect_caller("203.0.113.9", None);
    assert_eq!(world.closed.len(), 1);
    assert!(world.events.contains(&"peer refused".to_owned()));

    let mut reject = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Unsecured);
    reject.gateway.unknown_peer = UnknownPeer::Reject;
    let mut world = World::new(Arc::new(reject));
    world.connect_caller("203.0.113.9", None);
    world.invite("sip:88895@10.0.0.1", "", Some(offer(PBX, 3000, None)));
    assert_eq!(world.caller().last_status(), 403);
    assert_eq!(world.engine.status().transactions, (0, 0));
    assert!(world.connects.is_empty() && world.records.is_empty());
}

#[test]
fn draining_and_full_gateways_say_503_with_a_wait_and_old_calls_go_on() {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    let until = world.now + Duration::from_secs(60);
    world.feed(Input::Drain { until: Some(until) });
    let again = DIVERSION.to_owned();
    let mut second = request(
        Method::Invite,
        DEPOSIT,
        &format!("{again}Max-Forwards: 70\r\nContact: <sip:d@10.0.0.5>\r\n"),
    );
    second.content_type = Some(Bytes::from_static(b"application/sdp"));
    second.body = offer("10.0.0.5", 3000, Some(9));
    world.send_as(&caller(), second);
    assert_eq!(world.caller().last_status(), 503);
    assert!(world.caller().responses.last().unwrap().header(HeaderId::RetryAfter).is_some());
    assert_eq!(world.engine.status().calls, 1);
    assert!(!world.events.contains(&"drained".to_owned()));
    world.advance(Duration::from_secs(61));
    assert!(world.events.contains(&"drained".to_owned()));
    world.assert_clean();
    assert_eq!(world.records.len(), 2);
}

#[test]
fn loops_hops_gateway_status_and_extensions_are_checked_first() {
    let cases = [
        ("X-Umbra-Hop: TOKEN\r\n", 482, codes::LOOP),
        ("Require: gruu\r\n", 420, codes::EXTENSION_REQUIRED),
        ("Supported: timer\r\nSession-Expires: 30\r\n", 422, codes::INTERVAL_TOO_SMALL),
    ];
    for (lines, status, code) in cases {
        let mut world = World::new(policy::secured());
        world.connect_caller("10.0.0.5", Some(POOL));
        let lines = lines.replace("TOKEN", &world.engine.core.hop_token);
        world.invite(DEPOSIT, &lines, Some(offer("10.0.0.5", 3000, Some(9))));
        assert_eq!(world.caller().last_status(), status, "{lines}");
        assert_eq!(world.records[0].verdict.code, code);
    }
    let mut off = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured);
    off.ip_gateways[0].status = GatewayStatus::NoNewCalls;
    let mut world = World::new(Arc::new(off));
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 503);
    world.assert_clean();
}

#[test]
fn requests_outside_calls_get_their_own_answers() {
    let cases = [
        (Method::Options, "Max-Forwards: 0\r\n", 200),
        (Method::Register, "Max-Forwards: 70\r\n", 405),
        (Method::Other(Bytes::from_static(b"FROBNICATE")), "Max-Forwards: 70\r\n", 501),
        (Method::Bye, "Max-Forwards: 70\r\n", 481),
        (Method::Info, "Max-Forwards: 0\r\n", 483),
    ];
    for (method, lines, status) in cases {
        let mut world = World::new(policy::secured());
        world.connect_caller("10.0.0.5", Some(POOL));
        world.send_as(&caller(), request(method.clone(), "sip:umbra.contoso.com", lines));
        assert_eq!(world.caller().last_status(), status, "{method:?}");
        let has_allow = world.caller().responses[0].header(HeaderId::Allow).is_some();
        assert_eq!(has_allow, matches!(status, 200 | 405));
        world.assert_clean();
    }
}

#[test]
fn message_waiting_reaches_the_pool_only_when_its_gateway_allows_it() {
    for allowed in [Allowed::Yes, Allowed::No] {
        let mut config = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured);
        config.ip_gateways.iter_mut().for_each(|g| g.message_waiting_indicator_allowed = allowed);
        let mut world = World::new(Arc::new(config));
        world.connect_caller("10.0.0.5", Some(POOL));
        world.script("um", 1, super::world::Script::Silent);
        let remote = "10.0.2.1:50000".parse().unwrap();
        let peer = crate::engine::PeerIdentity::Verified { names: vec!["mbx01.contoso.com".into()] };
        world.flow_up(("um".into(), 1), sip::Transport::Tls, remote, peer, crate::engine::Origin::Inbound);
        let lines = "Max-Forwards: 70\r\nContact: <sip:m@10.0.2.1>\r\nEvent: message-summary\r\nSubscription-State: terminated\r\n";
        let mut notify = request(Method::Notify, "sip:ken@umbra.contoso.com", lines);
        notify.content_type = Some(Bytes::from_static(b"application/simple-message-summary"));
        notify.body = Bytes::from_static(b"Messages-Waiting: yes\r\n");
        world.send_as(&("um".into(), 1), notify);
        if allowed == Allowed::Yes {
            assert_eq!(world.party("um", 1).last_status(), 200);
            let got = world.caller().requests[0].clone();
            assert_eq!(
                (got.request_uri(), got.body()),
                ("sip:ken@contoso.com".into(), "Messages-Waiting: yes\r\n".into())
            );
        } else {
            assert_eq!(world.party("um", 1).last_status(), 403);
            assert!(world.caller().requests.is_empty());
        }
        world.assert_clean();
    }
}

#[test]
fn a_hang_up_by_the_operator_ends_both_legs() {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    let call = world.engine.status().call_list[0].call;
    world.feed(Input::Command(Command::HangUp(call)));
    assert_eq!(world.caller().methods(), ["BYE"]);
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods(), ["INVITE", "BYE"]);
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::HUNG_UP_BY_OPERATOR);
}

#[test]
fn a_hang_up_by_the_operator_while_it_rings_is_480_to_the_caller_and_a_cancel_that_says_so() {
    for script in [Script::RingOnly, Script::EarlyMedia, Script::Silent] {
        let mut world = World::new(policy::secured());
        redirecting(&mut world, "tls");
        world.script("mbx01.contoso.com", 5066, script.clone());
        world.connect_caller("10.0.0.5", Some(POOL));
        world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
        let call = world.engine.status().call_list[0].call;
        world.feed(Input::Command(Command::HangUp(call)));
        let answer = world.caller().responses.last().unwrap().clone();
        assert_eq!(answer.status().unwrap().code(), 480, "{script:?}");
        let warning = answer.header_named("warning").unwrap();
        assert_eq!(warning, b"399 umbra.contoso.com \"ended by the operator\"");
        let cancels: Vec<Message> = world.party("mbx01.contoso.com", 5066).requests.clone();
        // RFC 3261 §9.1: no CANCEL before something was heard.
        if script != Script::Silent {
            let cancel = cancels.last().unwrap();
            assert_eq!(*cancel.method(), Method::Cancel);
            assert_eq!(value(cancel, HeaderId::Reason), "SIP;cause=480;text=\"Temporarily Unavailable\"");
        }
        assert_eq!(world.records[0].verdict.code, codes::HUNG_UP_BY_OPERATOR);
        assert_eq!(world.records[0].drop_reason, "Operator");
        world.assert_clean();
        assert_eq!(world.records.len(), 1);
    }
}

fn invite_under(call_id: &str, max_forwards: u32) -> OutgoingRequest {
    let lines = format!("{DIVERSION}Max-Forwards: {max_forwards}\r\nContact: <sip:d@10.0.0.5>\r\n");
    let mut invite = request(Method::Invite, DEPOSIT, &lines);
    let headers = String::from_utf8(invite.headers.to_vec()).unwrap();
    invite.headers = Bytes::from(headers.replace("out-INVITE", call_id));
    invite
}

#[test]
fn a_call_id_of_our_own_coming_back_is_a_loop_and_that_of_a_gateway_of_nearly_that_name_is_none() {
    let mut world = World::new(policy::secured());
    world.connect_caller("10.0.0.5", Some(POOL));
    let prefix = world.engine.core.call_id_prefix.clone();
    world.send_as(&caller(), invite_under(&format!("{prefix}77"), 70));
    assert_eq!(world.caller().last_status(), 482);
    assert_eq!(world.records[0].verdict.code, codes::LOOP);
    let (instance, shard) = prefix.split_once('-').unwrap();
    let (most, last) = instance.split_at(instance.len() - 1);
    let other = format!("{most}{}-{shard}77", if last == "0" { "1" } else { "0" });
    world.send_as(&caller(), invite_under(&other, 70));
    assert_ne!(world.records.last().unwrap().verdict.code, codes::LOOP);
}

#[test]
fn rfc_3261_section_16_3_an_invite_with_no_hop_left_goes_no_further() {
    let mut world = World::new(policy::secured());
    world.connect_caller("10.0.0.5", Some(POOL));
    world.send_as(&caller(), invite_under("far-1", 0));
    assert_eq!((world.caller().last_status(), world.records[0].verdict.code), (483, codes::HOPS_USED_UP));
    assert!(world.connects.is_empty());
    world.assert_clean();
}
