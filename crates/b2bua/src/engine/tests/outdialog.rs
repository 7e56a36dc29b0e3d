//! Requests outside calls: answered, carried on or refused by policy (RFC 3261 §8.2.1, §11, §16.3; RFC 3428).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sip::endpoint::OutgoingRequest;
use sip::{HeaderId, Method, Transport};

use super::policy::{self, PBX, POOL};
use super::world::{Place, Script, World, caller};
use super::{DEPOSIT, call_with, redirecting};
use crate::engine::{ConnectKey, Input, Newcomers, Origin, PeerIdentity};
use crate::policy::{OutOfDialog, Policy, PoolEncryption, VoipSecurity};

const US: &str = "sip:umbra.contoso.com";
pub const MISSED: &[u8] = b"application/ms-rtc-usernotification+xml";

fn config() -> Policy {
    policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured)
}

fn connected(policy: Policy) -> World {
    let mut world = World::new(Arc::new(policy));
    world.connect_caller("10.0.0.5", Some(POOL));
    world
}

pub fn request(method: Method, uri: &str, lines: &str) -> OutgoingRequest {
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

pub fn with_body(mut request: OutgoingRequest, content_type: &[u8], body: &str) -> OutgoingRequest {
    request.content_type = Some(Bytes::copy_from_slice(content_type));
    request.body = Bytes::from(body.to_owned());
    request
}

fn counter(world: &World, name: &str) -> u64 {
    let counters = world.engine.status().counters;
    counters.iter().find(|(own, _)| *own == name).map_or(0, |(_, count)| *count)
}

/// A Mailbox server that connects to us.
pub fn um(world: &mut World) -> Place {
    let place = ("um".to_owned(), 1);
    world.script(&place.0, place.1, Script::Silent);
    let peer = PeerIdentity::Verified { names: vec!["mbx01.contoso.com".into()] };
    let remote = "10.0.2.1:50000".parse().unwrap();
    world.flow_up(place.clone(), Transport::Tls, remote, peer, Origin::Inbound);
    place
}

pub fn message_waiting() -> OutgoingRequest {
    let lines = "Max-Forwards: 70\r\nContact: <sip:m@10.0.2.1>\r\nEvent: message-summary\r\nSubscription-State: terminated\r\n";
    let notify = request(Method::Notify, "sip:ken@umbra.contoso.com", lines);
    with_body(notify, b"application/simple-message-summary", "Messages-Waiting: yes\r\n")
}

#[test]
fn a_connection_that_came_too_late_for_its_call_still_leads_to_whom_it_was_made_for() {
    let mut policy = config();
    policy.mailbox_servers[0].addresses.clear();
    let policy = Arc::new(policy);
    let mut world = World::new(policy.clone());
    let server = ("mbx01.contoso.com".to_owned(), 5062);
    world.script(&server.0, server.1, Script::Silent);
    // Plain TCP to a server known by its name alone: nothing but that name says who is there.
    let remote = "10.0.7.7:5062".parse().unwrap();
    let origin = Origin::Outbound(ConnectKey(u64::MAX));
    world.flow_up_for(server.clone(), Transport::Tcp, remote, PeerIdentity::Address, origin, Some(&server.0));
    for reloads in 0..2 {
        world.send_as(&server, request(Method::Options, US, "Max-Forwards: 0\r\n"));
        let party = world.party(&server.0, server.1);
        assert_eq!(party.responses.len(), reloads + 1);
        assert_eq!(party.last_status(), 200);
        world.feed(Input::Policy(policy.clone()));
    }
    assert_eq!(counter(&world, "requests_of_strangers"), 0);
}

#[test]
fn options_for_this_gateway_is_answered_200_whatever_the_policy_and_max_forwards_say() {
    for rule in [OutOfDialog::Answer, OutOfDialog::Relay, OutOfDialog::Refuse] {
        for uri in [US, "sip:UMBRA.contoso.com:5061;transport=tls", "sip:10.0.0.1"] {
            let mut policy = config();
            policy.routing.out_of_dialog.options = rule;
            let mut world = connected(policy);
            world.send_as(&caller(), request(Method::Options, uri, "Max-Forwards: 0\r\n"));
            assert_eq!(world.caller().last_status(), 200, "{uri} {rule:?}");
            assert!(world.caller().responses[0].header(HeaderId::Allow).is_some());
            assert!(world.connects.is_empty());
            world.assert_clean();
        }
    }
}

#[test]
fn options_for_somebody_else_is_answered_carried_on_or_refused_as_configured() {
    for (rule, status, hops) in [
        (OutOfDialog::Answer, 200, "Max-Forwards: 0\r\n"),
        (OutOfDialog::Relay, 200, "Max-Forwards: 9\r\n"),
        (OutOfDialog::Relay, 483, "Max-Forwards: 0\r\n"),
        (OutOfDialog::Refuse, 405, "Max-Forwards: 9\r\n"),
    ] {
        let mut policy = config();
        policy.routing.out_of_dialog.options = rule;
        let mut world = connected(policy);
        world.script("cas01.contoso.com", 5061, Script::Answer);
        world.send_as(&caller(), request(Method::Options, DEPOSIT, hops));
        assert_eq!(world.caller().last_status(), status);
        let is_relayed = rule == OutOfDialog::Relay && status == 200;
        assert_eq!(world.party("cas01.contoso.com", 5061).methods().len(), usize::from(is_relayed));
        world.assert_clean();
    }
}

#[test]
fn nothing_new_begins_on_a_retired_connection_and_what_is_on_it_stays() {
    let mut policy = config();
    policy.routing.out_of_dialog.options = OutOfDialog::Relay;
    let policy = Arc::new(policy);
    let mut world = connected(Policy::clone(&policy));
    world.script("cas01.contoso.com", 5061, Script::Answer);
    let ask = |world: &mut World| {
        world.send_as(&caller(), request(Method::Options, DEPOSIT, "Max-Forwards: 9\r\n"));
        world.connects.iter().filter(|target| target.name == "cas01.contoso.com").count()
    };
    assert_eq!([ask(&mut world), ask(&mut world), ask(&mut world)], [1, 1, 1], "one connection for all");
    // Nor does the shell hand it out again.
    let flow = world.party("cas01.contoso.com", 5061).flow.take().unwrap().key;
    world.feed(Input::FlowRetired { flow, newcomers: Newcomers::Served });
    world.feed(Input::Policy(policy));
    assert_eq!((ask(&mut world), ask(&mut world)), (2, 2), "a policy does not bring it back");
    assert_ne!(world.party("cas01.contoso.com", 5061).flow.unwrap().key, flow);
    assert!(world.closed.is_empty() && world.flows.contains_key(&flow));
    world.assert_clean();
    assert!(!world.engine.is_using(flow));
}

/// Takes the caller's peer away from a call that is up; the flow it is on.
type Farewell = fn(&mut World);

#[test]
fn a_peer_that_is_not_accepted_any_more_ends_its_calls_in_peace_and_begins_none() {
    let refused: Farewell = |world| {
        let flow = world.caller().flow.unwrap().key;
        world.feed(Input::FlowRetired { flow, newcomers: Newcomers::Refused });
        // A new policy does not let it in again.
        world.feed(Input::Policy(policy::secured()));
    };
    let removed: Farewell = |world| {
        let mut policy = config();
        policy.pools.clear();
        policy.ip_gateways.remove(0);
        policy.hunt_groups.clear();
        world.feed(Input::Policy(Arc::new(policy)));
    };
    for (what, farewell) in [("refused", refused), ("removed", removed)] {
        let mut world = call_with("", "");
        let flow = world.caller().flow.unwrap().key;
        farewell(&mut world);
        for method in [Method::Options, Method::Message, Method::Invite] {
            world.send_as(&caller(), request(method.clone(), DEPOSIT, "Max-Forwards: 70\r\n"));
            assert_eq!(world.caller().last_status(), 403, "{what}: {method:?}");
        }
        assert_eq!(counter(&world, "requests_of_former_peers"), 3, "{what}");
        assert!(world.engine.is_using(flow), "{what}: the call");
        world.in_dialog(&caller(), Method::Info, "", None);
        assert_eq!(world.caller().last_status(), 200, "{what}: INFO crosses");
        world.in_dialog(&caller(), Method::Bye, "", None);
        assert_eq!(world.caller().last_status(), 200, "{what}: BYE");
        assert_eq!(world.party("mbx01.contoso.com", 5066).methods().last().unwrap(), "BYE", "{what}");
        world.assert_clean();
        assert!(!world.engine.is_using(flow), "{what}: nothing is left");
    }
}

#[test]
fn a_peer_that_comes_back_into_the_configuration_is_welcome_again() {
    let mut world = connected(config());
    let mut without = config();
    without.ip_gateways.remove(0);
    without.hunt_groups.clear();
    let ask = |world: &mut World| {
        world.send_as(&caller(), request(Method::Options, US, "Max-Forwards: 70\r\n"));
        world.caller().last_status()
    };
    assert_eq!(ask(&mut world), 200);
    world.feed(Input::Policy(Arc::new(without)));
    assert_eq!(ask(&mut world), 403);
    world.feed(Input::Policy(Arc::new(config())));
    assert_eq!(ask(&mut world), 200);
    world.assert_clean();
}

#[test]
fn an_answer_from_outside_calls_brings_its_warning_along() {
    let mut world = connected(config());
    world.script("cas01.contoso.com", 5061, Script::Answer);
    let warning = "399 cas01.contoso.com \"mailbox is full\"";
    let answer = (Method::Message, 480, format!("Warning: {warning}\r\n"));
    world.party("cas01.contoso.com", 5061).scripted.push_back(answer);
    let asked = request(Method::Message, DEPOSIT, "Max-Forwards: 70\r\n");
    world.send_as(&caller(), with_body(asked, b"text/plain", "hello"));
    assert_eq!(world.caller().last_status(), 480);
    let heard = world.caller().responses.last().unwrap();
    assert_eq!(heard.header(HeaderId::Warning), Some(warning.as_bytes()));
    world.assert_clean();
}

#[test]
fn a_request_of_a_pool_goes_where_its_invite_would_go_along_one_chain_of_redirects() {
    for method in [Method::Message, Method::Service] {
        let mut world = connected(config());
        redirecting(&mut world, "tls");
        world.script("mbx01.contoso.com", 5063, Script::Answer);
        let asked = request(method.clone(), DEPOSIT, "Max-Forwards: 70\r\nSubject: hi\r\n");
        world.send_as(&caller(), with_body(asked, b"text/plain", "hello"));
        assert_eq!(world.caller().last_status(), 200, "{method:?}");
        let first = world.party("cas01.contoso.com", 5061).requests[0].clone();
        let last = world.party("mbx01.contoso.com", 5063).requests[0].clone();
        assert_eq!(first.request_uri(), DEPOSIT, "byte for byte, as in an INVITE");
        assert_eq!(
            last.request_uri(),
            "sip:ken@mbx01.contoso.com:5063;user=phone;transport=tls;maddr=mbx01.contoso.com"
        );
        for sent in [&first, &last] {
            assert_eq!(
                (sent.method(), sent.max_forwards(), &sent.body()[..]),
                (&method, Some(69), &b"hello"[..])
            );
            assert_eq!(sent.header(HeaderId::Subject), Some(&b"hi"[..]));
            assert!(sent.header_named("X-Umbra-Hop").is_some());
            assert!(sent.call_id().starts_with(world.engine.core.call_id_prefix.as_bytes()));
            assert_ne!(sent.from_tag(), Some(&b"1"[..]), "a tag of our own");
            // RFC 3428 §4: a MESSAGE has no Contact.
            assert_eq!(sent.header(HeaderId::Contact).is_none(), method == Method::Message);
        }
        assert_eq!(counter(&world, "requests_forwarded_outside_calls"), 1);
        world.assert_clean();
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_passed_over_and_marked_down() {
    let mut world = connected(config());
    world.script("cas01.contoso.com", 5061, Script::NoListener);
    world.script("cas02.contoso.com", 5061, Script::Answer);
    world.send_as(&caller(), request(Method::Message, DEPOSIT, "Max-Forwards: 70\r\n"));
    assert_eq!(world.caller().last_status(), 200);
    assert!(world.events.contains(&"down cas01.contoso.com".to_owned()));
    world.assert_clean();
}

#[test]
fn with_no_server_left_the_answer_is_503_and_with_none_in_time_504() {
    let mut world = connected(config());
    world.send_as(&caller(), request(Method::Message, DEPOSIT, "Max-Forwards: 70\r\n"));
    assert_eq!((world.caller().last_status(), world.connects.len()), (503, 2));
    world.script("cas01.contoso.com", 5061, Script::Answer);
    world.party("cas01.contoso.com", 5061).is_mute = true;
    world.advance(Duration::from_secs(20));
    world.send_as(&caller(), request(Method::Service, DEPOSIT, "Max-Forwards: 70\r\n"));
    world.send_as(&caller(), request(Method::Info, DEPOSIT, "Max-Forwards: 70\r\n"));
    world.advance(Duration::from_secs(33));
    assert!(world.party("cas01.contoso.com", 5061).methods().contains(&"SERVICE".to_owned()));
    assert!(world.engine.core.forwards.is_empty());
    world.assert_clean();
}

#[test]
fn redirects_out_of_the_plan_or_without_end_are_not_followed() {
    let loops = "<sip:ken@cas01.contoso.com:5061;transport=tls>";
    for contact in
        ["<sip:ken@evil.example:5061;transport=tls>", "<sip:ken@mbx01.contoso.com:5062;transport=tcp>", loops]
    {
        let mut world = connected(config());
        for cas in ["cas01.contoso.com", "cas02.contoso.com"] {
            world.script(cas, 5061, Script::Redirect(contact.into()));
        }
        world.send_as(&caller(), request(Method::Message, DEPOSIT, "Max-Forwards: 70\r\n"));
        assert_eq!((world.caller().last_status(), world.connects.len()), (503, 1), "{contact}");
        world.assert_clean();
    }
}

#[test]
fn a_missed_call_notification_passes_by_whatever_method_it_comes() {
    for method in [Method::Info, Method::Notify, Method::Service, Method::Message] {
        for (rule, status) in [(OutOfDialog::Relay, 200), (OutOfDialog::Refuse, 405)] {
            let mut policy = config();
            policy.routing.out_of_dialog.missed_call = rule;
            policy.routing.out_of_dialog.message = OutOfDialog::Refuse;
            policy.routing.out_of_dialog.service = OutOfDialog::Refuse;
            let mut world = connected(policy);
            world.script("cas01.contoso.com", 5061, Script::Answer);
            let asked = request(method.clone(), DEPOSIT, "Max-Forwards: 70\r\n");
            world.send_as(&caller(), with_body(asked, MISSED, "<UserNotification/>"));
            assert_eq!(world.caller().last_status(), status, "{method:?}");
            let router = world.party("cas01.contoso.com", 5061);
            assert_eq!(router.requests.len(), usize::from(status == 200));
            if let Some(sent) = router.requests.first() {
                assert_eq!(
                    (sent.content_type(), &sent.body()[..]),
                    (Some(MISSED), &b"<UserNotification/>"[..])
                );
            }
            world.assert_clean();
        }
    }
}

#[test]
fn message_waiting_reaches_a_pool_without_a_connection_by_its_dns_name_over_tls() {
    let mut policy = config();
    policy.pools[0].address.clear();
    policy.ip_gateways[0].port_source = crate::policy::PortSource::Srv;
    let mut world = World::new(Arc::new(policy));
    let um = um(&mut world);
    world.script(POOL, 5099, Script::Silent);
    world.dns.insert(POOL.into(), vec!["10.0.7.1:5099".parse().unwrap(), "10.0.7.2:5099".parse().unwrap()]);
    world.dead.push([10, 0, 7, 1].into());
    world.send_as(&um, message_waiting());
    assert_eq!(world.party("um", 1).last_status(), 200);
    assert_eq!(world.questions[0].name, POOL);
    assert_eq!(world.connects.len(), 2);
    assert!(world.connects.iter().all(|target| target.transport == Transport::Tls && target.name == POOL));
    let got = world.party(POOL, 5099).requests[0].clone();
    assert_eq!((got.request_uri(), got.max_forwards()), ("sip:ken@contoso.com".into(), Some(69)));
    world.assert_clean();
}

#[test]
fn message_waiting_for_a_pool_that_cannot_be_reached_or_may_not_be_told_is_refused() {
    let mut world = World::new(Arc::new(config()));
    let um_place = um(&mut world);
    world.send_as(&um_place, message_waiting());
    assert_eq!(world.party("um", 1).last_status(), 503);
    world.assert_clean();
    let mut policy = config();
    policy.routing.out_of_dialog.notify = OutOfDialog::Refuse;
    let mut world = connected(policy);
    let um_place = um(&mut world);
    world.send_as(&um_place, message_waiting());
    assert_eq!(world.party("um", 1).last_status(), 405);
    world.assert_clean();
}

#[test]
fn what_keeps_state_or_has_no_use_here_is_refused_by_its_own_status() {
    let other = Method::Other(Bytes::from_static(b"FROBNICATE"));
    for (method, status) in [
        (Method::Register, 405),
        (Method::Subscribe, 405),
        (Method::Publish, 405),
        (other, 501),
        (Method::Notify, 481),
        (Method::Refer, 481),
        (Method::Bye, 481),
    ] {
        let mut world = connected(config());
        world.send_as(&caller(), request(method.clone(), DEPOSIT, "Max-Forwards: 70\r\n"));
        assert_eq!(world.caller().last_status(), status, "{method:?}");
        assert_eq!(world.caller().responses[0].header(HeaderId::Allow).is_some(), status == 405);
        world.assert_clean();
    }
}

#[test]
fn rfc_3261_section_8_2_2_unknown_schemes_get_416_and_unknown_demands_420() {
    for method in [Method::Options, Method::Message] {
        for (uri, demand, status) in [
            ("http://x.example", "", 416),
            (DEPOSIT, "Require: weird\r\n", 420),
            (US, "Require: weird\r\n", 420),
        ] {
            let mut world = connected(config());
            world.send_as(&caller(), request(method.clone(), uri, &format!("Max-Forwards: 70\r\n{demand}")));
            assert_eq!(world.caller().last_status(), status, "{method:?} {uri}");
            let unsupported = world.caller().responses[0].header(HeaderId::Unsupported);
            assert_eq!(unsupported, (status == 420).then_some(&b"weird"[..]));
            assert!(world.connects.is_empty());
            world.assert_clean();
        }
    }
}

#[test]
fn um_servers_send_no_messages_through_this_gateway() {
    let mut world = connected(config());
    let um = um(&mut world);
    for method in [Method::Message, Method::Service] {
        world.send_as(&um, request(method, "sip:ken@umbra.contoso.com", "Max-Forwards: 70\r\n"));
        assert_eq!(world.party("um", 1).last_status(), 405);
    }
    assert!(world.caller().requests.is_empty());
    world.assert_clean();
}

#[test]
fn a_request_of_ours_that_comes_back_is_a_loop_by_token_and_by_call_id() {
    let mut world = connected(config());
    let token = format!("Max-Forwards: 70\r\nX-Umbra-Hop: {}\r\n", world.engine.core.hop_token);
    world.send_as(&caller(), request(Method::Message, DEPOSIT, &token));
    assert_eq!(world.caller().last_status(), 482);
    let prefix = world.engine.core.call_id_prefix.clone();
    let mut service = request(Method::Service, DEPOSIT, "Max-Forwards: 70\r\n");
    let headers = String::from_utf8(service.headers.to_vec()).unwrap();
    service.headers = Bytes::from(headers.replace("out-SERVICE", &format!("{prefix}9")));
    world.send_as(&caller(), service);
    assert_eq!(world.caller().last_status(), 482);
    assert!(world.connects.is_empty());
    world.assert_clean();
}

#[test]
fn benotify_is_never_answered() {
    let mut world = connected(config());
    world.send_as(
        &caller(),
        request(Method::Benotify, DEPOSIT, "Max-Forwards: 70\r\nEvent: message-summary\r\n"),
    );
    assert!(world.caller().responses.is_empty() && world.connects.is_empty());
    assert_eq!(counter(&world, "one_way_requests"), 1);
}

#[test]
fn a_plain_connection_does_not_reach_a_plan_that_demands_tls() {
    let mut world = World::new(Arc::new(config()));
    world.connect_caller(PBX, None);
    world.script("cas01.contoso.com", 5061, Script::Answer);
    world.send_as(&caller(), request(Method::Message, DEPOSIT, "Max-Forwards: 70\r\n"));
    assert!(world.caller().last_status() >= 400 && world.connects.is_empty());
    world.assert_clean();
}

#[test]
fn the_table_of_awaited_answers_is_bounded() {
    let mut world = connected(config());
    world.script("cas01.contoso.com", 5061, Script::Answer);
    world.party("cas01.contoso.com", 5061).is_mute = true;
    world.script("cas02.contoso.com", 5061, Script::NoListener);
    for number in 0..1_001 {
        let mut message = request(Method::Message, DEPOSIT, "Max-Forwards: 70\r\n");
        let headers = String::from_utf8(message.headers.to_vec()).unwrap();
        message.headers = Bytes::from(headers.replace("out-MESSAGE", &format!("out-{number}")));
        world.send_as(&caller(), message);
    }
    assert_eq!(world.engine.core.forwards.len(), 1_000);
    assert_eq!((world.caller().last_status(), counter(&world, "forwards_refused")), (503, 1));
    world.advance(Duration::from_secs(40));
    assert!(world.engine.core.forwards.is_empty(), "nobody waits for ever");
    world.assert_clean();
}
