//! Calls that UM places (Play-on-Phone, find-me): who may, through which gateway, under which protection, and what the
//! record says of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sip::endpoint::{ClientKey, OutgoingRequest};
use sip::{HeaderId, Method};

use super::outdialog::um;
use super::policy::{self, PBX, POOL};
use super::world::{Place, Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting, value, worker};
use crate::codes;
use crate::engine::{Input, News};
use crate::policy::{
    Allowed, GatewayStatus, MediaBridge, Policy, PoolEncryption, PortSource, ReferRule, VoipSecurity,
};
use crate::record::{CallType, OfferResult, ReasonForCall};

/// As UM addresses a telephone: at its UM IP gateway, which is this one.
const PHONE: &str = "sip:+14255550121@umbra.contoso.com:5061;user=phone;transport=tls";
const FROM_KEN: &str = "<sip:ken@contoso.com>";

fn config() -> Policy {
    policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured)
}

fn phone() -> Place {
    (POOL.to_owned(), 5067)
}

/// A pool behind which a telephone answers by that script, and a Mailbox server.
fn site(policy: Policy, script: Script) -> (World, Place) {
    let mut world = World::new(Arc::new(policy));
    world.script(POOL, 5067, script);
    world.party(POOL, 5067).media = ("10.0.0.5", 3000, 9);
    let um = um(&mut world);
    (world, um)
}

fn call(world: &mut World, um: &Place, uri: &str, from: &str, body: Bytes) -> ClientKey {
    let headers = format!(
        "Max-Forwards: 70\r\nFrom: {from};tag=um1\r\nTo: <{uri}>\r\nCall-ID: um-out-1\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:mbx01.contoso.com:5066;transport=Tls>\r\nSubject: play\r\nMs-Exchange-Command: skip-pin\r\n"
    );
    let request = OutgoingRequest {
        method: Method::Invite,
        uri: Bytes::from(uri.to_owned()),
        headers: headers.into(),
        content_type: Some(Bytes::from_static(b"application/sdp")),
        body,
    };
    world.send_as(um, request)
}

fn sealed() -> Bytes {
    offer("10.0.2.1", 4000, Some(0x5b))
}

fn is_sealed(leg: &relay::LegPlan) -> bool {
    matches!(leg.protection, relay::Protection::Sealed { .. })
}

#[test]
fn um_calls_a_telephone_through_the_gateway_of_its_plan_and_the_record_says_so() {
    let (mut world, um) = site(config(), Script::Answer);
    call(&mut world, &um, PHONE, FROM_KEN, sealed());
    assert_eq!(world.party("um", 1).statuses(), [180, 200]);
    let target = &world.connects[0];
    assert_eq!((target.name.as_str(), target.port, target.transport), (POOL, 5067, sip::Transport::Tls));
    let invite = world.party(POOL, 5067).requests[0].clone();
    assert_eq!(invite.request_uri(), "sip:+14255550121@pool01.contoso.com;user=phone");
    assert_eq!(value(&invite, HeaderId::Subject), "play");
    assert_eq!(invite.max_forwards(), Some(69));
    assert!(value(&invite, HeaderId::From).starts_with("<sip:ken@contoso.com>;tag="));
    assert!(value(&invite, HeaderId::Contact).contains("umbra.contoso.com"));
    assert!(invite.header_named("Ms-Exchange-Command").is_some());
    let plan = world.plans.last().unwrap();
    assert!(is_sealed(&plan.a) && is_sealed(&plan.b));
    assert_eq!(plan.a.remote_rtp, "10.0.2.1:4000".parse().unwrap());
    assert_eq!(plan.b.remote_rtp, "10.0.0.5:3000".parse().unwrap());
    assert_eq!(world.engine.core.servers.calls("mbx01.contoso.com"), 1, "UM counts its own calls too");
    world.advance(Duration::from_secs(5));
    // Both ends may ask inside the call.
    world.in_dialog(&phone(), Method::Invite, "", Some(offer("10.0.0.5", 3002, Some(9))));
    assert_eq!(world.party(POOL, 5067).last_status(), 200);
    world.in_dialog(&um, Method::Info, "", None);
    assert_eq!(world.party("um", 1).last_status(), 200);
    world.in_dialog(&um, Method::Bye, "", None);
    assert_eq!(world.party(POOL, 5067).methods().last().unwrap(), "BYE");
    world.assert_clean();
    let record = &world.records[0];
    assert_eq!((record.call_type, record.reason_for_call), (CallType::PlayOnPhone, ReasonForCall::Outbound));
    assert_eq!((record.caller.as_str(), record.called.as_str()), ("ken@contoso.com", "+14255550121"));
    assert_eq!(record.ip_gateway.as_deref(), Some("lync"));
    assert_eq!(record.server.as_deref(), Some("mbx01.contoso.com"));
    assert_eq!(record.caller_mailbox.as_deref(), Some("ken"));
    assert_eq!((record.offer_result, record.verdict.code), (OfferResult::Answer, codes::COMPLETED));
    assert_eq!((record.security.as_str(), record.dialed.as_str()), ("TLS+SRTP", "+14255550121"));
}

#[test]
fn the_telephone_may_hang_up_and_um_may_give_up() {
    let (mut world, um) = site(config(), Script::Answer);
    call(&mut world, &um, PHONE, FROM_KEN, sealed());
    world.in_dialog(&phone(), Method::Bye, "", None);
    assert_eq!(world.party("um", 1).methods(), ["BYE"]);
    world.assert_clean();
    let (mut world, um) = site(config(), Script::RingOnly);
    let key = call(&mut world, &um, PHONE, FROM_KEN, sealed());
    let now = world.now;
    world.party("um", 1).endpoint.cancel(now, key);
    world.pump();
    assert_eq!(world.party("um", 1).last_status(), 487);
    assert_eq!(world.party(POOL, 5067).methods(), ["INVITE", "CANCEL"]);
    world.assert_clean();
    let record = &world.records[0];
    assert_eq!((record.call_type, record.offer_result), (CallType::PlayOnPhone, OfferResult::None));
}

#[test]
fn without_a_gateway_that_allows_it_um_hears_403_with_61005() {
    type Change = fn(&mut Policy);
    let changes: [Change; 4] = [
        |policy| policy.ip_gateways.iter_mut().for_each(|gateway| gateway.outcalls_allowed = Allowed::No),
        |policy| policy.ip_gateways.iter_mut().for_each(|gateway| gateway.status = GatewayStatus::Disabled),
        |policy| policy.hunt_groups.clear(),
        |policy| policy.dial_plans[0].mailbox_servers = vec![1],
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut policy = config();
        change(&mut policy);
        let (mut world, um) = site(policy, Script::Answer);
        call(&mut world, &um, PHONE, FROM_KEN, sealed());
        assert_eq!(world.party("um", 1).last_status(), 403, "{number}");
        let refused = world.party("um", 1).responses.last().unwrap().clone();
        assert!(value(&refused, HeaderId::MsDiagnostics).starts_with("61005;"), "{number}");
        assert!(value(&refused, HeaderId::MsDiagnostics).contains("UMB-GW004"), "{number}");
        assert!(world.connects.is_empty() && world.allocated == 0);
        world.assert_clean();
        assert_eq!(world.records[0].verdict.code, codes::OUTCALLS_NOT_ALLOWED);
    }
}

#[test]
fn a_call_router_places_no_calls_unless_its_host_is_a_mailbox_server_too() {
    for (shares, status) in [(false, 403), (true, 200)] {
        let mut policy = config();
        if shares {
            policy.mailbox_servers[0].name = "cas01.contoso.com".into();
        }
        let (mut world, _) = site(policy, Script::Answer);
        let router = super::refer::guest(&mut world, "router", "cas01.contoso.com", "10.0.1.1");
        call(&mut world, &router, PHONE, FROM_KEN, sealed());
        assert_eq!(world.party("router", 0).last_status(), status, "{shares}");
        if shares {
            world.in_dialog(&router, Method::Bye, "", None);
        }
        world.assert_clean();
    }
}

#[test]
fn of_several_gateways_the_first_of_the_hunt_groups_is_taken_and_its_limit_holds() {
    let mut policy = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured);
    policy.hunt_groups.swap(0, 1);
    policy.ip_gateways[1].max_calls_allowed = Some(0);
    let (mut world, um) = site(policy, Script::Answer);
    call(&mut world, &um, PHONE, FROM_KEN, sealed());
    assert_eq!(world.party("um", 1).last_status(), 503);
    world.assert_clean();
    let verdict = &world.records[0].verdict;
    assert_eq!((verdict.code, verdict.who.as_str()), (codes::GATEWAY_CALLS_MAX, "pbx"));
}

#[test]
fn a_pbx_known_by_address_is_called_over_plain_tcp_when_its_plan_is_unsecured() {
    let mut policy = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Unsecured);
    policy.hunt_groups.remove(0);
    let mut world = World::new(Arc::new(policy));
    world.script(PBX, 5067, Script::Answer);
    let place = ("um".to_owned(), 1);
    world.script(&place.0, place.1, Script::Silent);
    let remote = "10.0.2.1:50000".parse().unwrap();
    let (identity, origin) = (crate::engine::PeerIdentity::Address, crate::engine::Origin::Inbound);
    world.flow_up(place.clone(), sip::Transport::Tcp, remote, identity, origin);
    call(&mut world, &place, "sip:1001@10.0.0.1:5060", FROM_KEN, offer("10.0.2.1", 4000, None));
    assert_eq!(world.party("um", 1).last_status(), 200);
    let invite = world.party(PBX, 5067).requests[0].clone();
    assert_eq!(invite.request_uri(), "sip:1001@10.0.0.9");
    assert!(invite.header_named("Ms-Exchange-Command").is_some());
    let plan = world.plans.last().unwrap();
    assert!(!is_sealed(&plan.a) && !is_sealed(&plan.b));
    world.in_dialog(&place, Method::Bye, "", None);
    world.assert_clean();
    assert_eq!(world.records[0].security, "TCP+RTP");
}

#[test]
fn both_legs_get_the_decision_of_plan_and_pool() {
    let refused = |policy: Policy, body: Bytes, code: codes::Code| {
        let (mut world, um) = site(policy, Script::Answer);
        call(&mut world, &um, PHONE, FROM_KEN, body);
        assert_eq!(world.party("um", 1).last_status(), 488, "{code}");
        assert!(world.plans.is_empty(), "{code}");
        world.assert_clean();
        assert_eq!(world.records[0].verdict.code, code);
    };
    let clear = || offer("10.0.2.1", 4000, None);
    let mismatch = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::SipSecured);
    refused(mismatch.clone(), clear(), codes::POOL_PLAN_MISMATCH);
    refused(config(), clear(), codes::SRTP_REQUIRED);
    // A bridge lets either keep its own: RTP with UM, SRTP with the pool.
    let mut bridged = mismatch;
    bridged.dial_plans[0].media_bridge = MediaBridge::Transcrypt;
    refused(bridged.clone(), sealed(), codes::SRTP_NOT_TAKEN);
    let (mut world, um) = site(bridged, Script::Answer);
    call(&mut world, &um, PHONE, FROM_KEN, clear());
    assert_eq!(world.party("um", 1).last_status(), 200);
    let plan = world.plans.last().unwrap();
    assert!(!is_sealed(&plan.a) && is_sealed(&plan.b));
    world.in_dialog(&um, Method::Bye, "", None);
    world.assert_clean();
    assert_eq!(world.records[0].security, "TLS+RTP/TLS+SRTP");
}

#[test]
fn a_telephone_that_answers_a_sealed_offer_in_the_clear_gets_no_packet() {
    let (mut world, um) = site(config(), Script::AnswerBroken);
    call(&mut world, &um, PHONE, FROM_KEN, sealed());
    assert!(world.party("um", 1).last_status() >= 400);
    assert!(world.plans.is_empty());
    assert!(world.party(POOL, 5067).methods().contains(&"BYE".to_owned()));
    world.assert_clean();
}

/// The pool at two addresses, told apart by their ports.
fn two_addresses(first: Script, second: Script) -> (World, Place) {
    let mut policy = config();
    policy.pools[0].address.clear();
    policy.ip_gateways[0].port_source = PortSource::Srv;
    let (mut world, um) = site(policy, first);
    world.script(POOL, 5068, second);
    let addresses = ["10.0.7.1:5067", "10.0.7.2:5068"].map(|address| address.parse().unwrap());
    world.dns.insert(POOL.into(), addresses.to_vec());
    (world, um)
}

#[test]
fn rfc_3263_section_4_3_the_addresses_of_the_pool_are_tried_in_turn() {
    for first in [Script::NoListener, Script::Refuse(503, "Busy"), Script::Hangs] {
        let (mut world, um) = two_addresses(first.clone(), Script::Answer);
        call(&mut world, &um, PHONE, FROM_KEN, sealed());
        world.advance(Duration::from_secs(8));
        assert_eq!(world.party("um", 1).last_status(), 200, "{first:?}");
        let tried: Vec<u16> = world.connects.iter().map(|target| target.port).collect();
        assert_eq!(tried, [5067, 5068], "{first:?}");
        assert!(!world.events.iter().any(|event| event.starts_with("down")), "a gateway is no server");
        world.in_dialog(&um, Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn a_pool_that_is_nowhere_is_503_with_its_own_code() {
    let (mut world, um) = two_addresses(Script::NoListener, Script::NoListener);
    call(&mut world, &um, PHONE, FROM_KEN, sealed());
    assert_eq!(world.party("um", 1).last_status(), 503);
    assert_eq!(world.connects.len(), 2);
    world.assert_clean();
    let verdict = &world.records[0].verdict;
    assert_eq!((verdict.code, verdict.who.as_str()), (codes::GATEWAY_NOT_REACHED, "lync"));
}

#[test]
fn a_final_answer_of_the_pool_reaches_um_as_it_is_and_only_503_is_tried_elsewhere() {
    for status in [404, 408, 480, 486, 500, 504, 603] {
        let (mut world, um) = two_addresses(Script::Refuse(status, "Own Words"), Script::Answer);
        call(&mut world, &um, PHONE, FROM_KEN, sealed());
        let last = world.party("um", 1).responses.last().unwrap().clone();
        assert_eq!((world.party("um", 1).last_status(), last.reason().as_ref()), (status, &b"Own Words"[..]));
        assert_eq!(world.connects.len(), 1, "{status}");
        assert!(last.header(HeaderId::Warning).is_none());
        world.assert_clean();
        let record = &world.records[0];
        assert_eq!(
            (record.verdict.code, record.offer_result),
            (codes::CALLED_PARTY_REFUSED, OfferResult::Rejected)
        );
    }
}

#[test]
fn a_number_that_nobody_can_place_is_explained_in_verdict_and_warning() {
    let (mut world, um) = site(config(), Script::Refuse(404, "Not Found"));
    call(&mut world, &um, "sip:5550121@umbra.contoso.com;user=phone", FROM_KEN, sealed());
    let last = world.party("um", 1).responses.last().unwrap().clone();
    assert_eq!(world.party("um", 1).last_status(), 404);
    let warning = value(&last, HeaderId::Warning);
    assert!(warning.starts_with("399 umbra.contoso.com \"5550121 is neither an E.164 number"), "{warning}");
    world.assert_clean();
    let evidence = &world.records[0].verdict.evidence;
    assert!(evidence.iter().any(|line| line.contains("normalise it")), "{evidence:?}");
}

#[test]
fn a_telephone_that_takes_its_time_is_waited_for_as_long_as_set_up_may_last() {
    let (mut world, um) = site(config(), Script::Silent);
    call(&mut world, &um, PHONE, FROM_KEN, sealed());
    world.advance(Duration::from_secs(20));
    assert!(world.party("um", 1).statuses().is_empty());
    let now = world.now;
    world.party(POOL, 5067).answer_pending(now);
    world.pump();
    assert_eq!(world.party("um", 1).last_status(), 200);
    world.in_dialog(&um, Method::Bye, "", None);
    world.assert_clean();
    let (mut world, um) = site(config(), Script::Silent);
    call(&mut world, &um, PHONE, FROM_KEN, sealed());
    world.advance(Duration::from_secs(33));
    assert_eq!(world.party("um", 1).last_status(), 408);
    world.party(POOL, 5067).script = Script::RingOnly;
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::SETUP_TIMEOUT);
}

#[test]
fn a_redirect_of_the_pool_changes_whom_to_call_and_not_where_and_ends() {
    let (mut world, um) = site(config(), Script::Redirect("<sip:mobile@other.example>".into()));
    call(&mut world, &um, PHONE, FROM_KEN, sealed());
    let uris: Vec<_> = world.party(POOL, 5067).requests.iter().map(sip::Message::request_uri).collect();
    assert_eq!(uris[0], "sip:+14255550121@pool01.contoso.com;user=phone");
    assert_eq!(uris.len(), 4, "three redirects are followed");
    assert!(uris[1..].iter().all(|uri| *uri == "sip:mobile@other.example"));
    assert!(world.connects.iter().all(|target| target.name == POOL));
    assert!(world.party("um", 1).last_status() >= 400);
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::REDIRECT_HOPS);
}

#[test]
fn a_call_placed_while_a_message_is_taken_is_find_me_and_names_its_parent() {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    world.script(POOL, 5067, Script::Answer);
    world.party(POOL, 5067).media = ("10.0.0.5", 3100, 9);
    let um = um(&mut world);
    // On behalf of the caller.
    call(&mut world, &um, PHONE, "<sip:dana@contoso.com>", sealed());
    assert_eq!(world.party("um", 1).last_status(), 200);
    world.in_dialog(&um, Method::Bye, "", None);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
    let record = &world.records[0];
    assert_eq!((record.call_type, record.reason_for_call), (CallType::FindMe, ReasonForCall::Outbound));
    assert_eq!(record.parent_call_id.as_deref(), Some("a-leg-1"));
    assert_eq!(world.records[1].parent_call_id, None);
}

#[test]
fn a_call_placed_while_another_shard_takes_the_message_is_find_me_too() {
    // The deposit is here, UM's call comes to the other shard.
    let mut taking = World::sharded(policy::secured(), 0, 2);
    redirecting(&mut taking, "tls");
    taking.connect_caller("10.0.0.5", Some(POOL));
    taking.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(taking.caller().last_status(), 200);
    let begins = std::mem::take(&mut taking.told);
    assert!(matches!(&begins[..], [News::Deposit { shard: 0, deposit: Some(_), .. }]), "{begins:?}");
    let mut asked = World::sharded(policy::secured(), 1, 2);
    asked.script(POOL, 5067, Script::Answer);
    asked.party(POOL, 5067).media = ("10.0.0.5", 3100, 9);
    begins.into_iter().for_each(|news| asked.feed(Input::Told(news)));
    let um = um(&mut asked);
    call(&mut asked, &um, PHONE, "<sip:dana@contoso.com>", sealed());
    asked.in_dialog(&um, Method::Bye, "", None);
    asked.advance(Duration::from_secs(40));
    // When the message is taken, a call is the user's own again.
    taking.in_dialog(&caller(), Method::Bye, "", None);
    let ends = std::mem::take(&mut taking.told);
    assert!(matches!(&ends[..], [News::Deposit { deposit: None, .. }]), "{ends:?}");
    ends.into_iter().for_each(|news| asked.feed(Input::Told(news)));
    asked.party("um", 1).dialog = None;
    call(&mut asked, &um, PHONE, "<sip:dana@contoso.com>", sealed());
    asked.in_dialog(&um, Method::Bye, "", None);
    asked.assert_clean();
    taking.assert_clean();
    let told: Vec<_> =
        asked.records.iter().map(|record| (record.call_type, record.parent_call_id.as_deref())).collect();
    assert_eq!(told, [(CallType::FindMe, Some("a-leg-1")), (CallType::PlayOnPhone, None)]);
}

#[test]
fn a_refer_of_um_crosses_to_the_telephone_where_the_plan_carries_it_and_a_doubtful_target_is_told() {
    // What cannot be carried out here is refused, not done otherwise.
    for (rule, status) in [(ReferRule::Relay, 200), (ReferRule::Execute, 603), (ReferRule::Refuse, 603)] {
        let mut policy = config();
        policy.dial_plans[0].transfers.refer = rule;
        let (mut world, um) = site(policy, Script::Answer);
        call(&mut world, &um, PHONE, FROM_KEN, sealed());
        world.in_dialog(&um, Method::Refer, "Refer-To: <sip:5550199@contoso.com;user=phone>\r\n", None);
        assert_eq!(world.party("um", 1).last_status(), status, "{rule:?}");
        let crossed = world.party(POOL, 5067).methods().contains(&"REFER".to_owned());
        assert_eq!(crossed, status == 200, "{rule:?}");
        let last = world.party("um", 1).responses.last().unwrap().clone();
        if crossed {
            assert!(value(&last, HeaderId::Warning).contains("5550199 is neither"), "{rule:?}");
        }
        world.in_dialog(&um, Method::Bye, "", None);
        world.assert_clean();
        let evidence = &world.records[0].verdict.evidence;
        assert_eq!(evidence.iter().any(|line| line.contains("5550199 is neither")), crossed, "{rule:?}");
    }
}

#[test]
fn a_refer_out_of_a_call_toward_um_has_the_same_hint_carried_or_carried_out() {
    for rule in [ReferRule::Relay, ReferRule::Execute] {
        let mut policy = config();
        policy.dial_plans[0].transfers.refer = rule;
        let mut world = super::refer::answered(Arc::new(policy));
        world.in_dialog(&worker(), Method::Refer, "Refer-To: <sip:77@contoso.com>\r\n", None);
        let party = world.party("mbx01.contoso.com", 5066);
        assert!((200..300).contains(&party.last_status()), "{rule:?}");
        let said = party.responses.iter().any(|r| value(r, HeaderId::Warning).contains("77 is neither"));
        assert!(said, "{rule:?}");
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
        let evidence = &world.records[0].verdict.evidence;
        assert!(evidence.iter().any(|line| line.contains("77 is neither")), "{rule:?} {evidence:?}");
    }
}

#[test]
fn a_call_of_um_that_comes_from_this_gateway_is_a_loop() {
    let (mut world, um) = site(config(), Script::Answer);
    let token = format!("X-Umbra-Hop: {}\r\n", world.engine.core.hop_token);
    let mut request = OutgoingRequest {
        method: Method::Invite,
        uri: Bytes::from_static(PHONE.as_bytes()),
        headers: Bytes::new(),
        content_type: Some(Bytes::from_static(b"application/sdp")),
        body: sealed(),
    };
    request.headers = format!(
        "Max-Forwards: 70\r\nFrom: {FROM_KEN};tag=1\r\nTo: <{PHONE}>\r\nCall-ID: um-2\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:mbx01.contoso.com:5066>\r\n{token}"
    )
    .into();
    world.send_as(&um, request);
    assert_eq!(world.party("um", 1).last_status(), 482);
    world.assert_clean();
}

#[test]
fn a_user_whose_mailbox_policy_forbids_it_hears_nothing_on_the_telephone() {
    let (mut world, um) = site(super::notifications::forbidding(), Script::Answer);
    call(&mut world, &um, PHONE, FROM_KEN, sealed());
    assert_eq!(world.party("um", 1).last_status(), 403);
    assert!(world.connects.is_empty());
    world.assert_clean();
    assert!(world.records[0].verdict.what.contains("mailbox policy strict"));
}
