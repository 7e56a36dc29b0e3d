//! Legs whose connection is lost: RFC 3261 §8.1.2 and §18.2.2, RFC 3263 §4.2, and the rule that a connection made for one name
//! never carries another's messages.

use std::sync::Arc;
use std::time::Duration;

use sip::endpoint::{Endpoint, EndpointConfig};
use sip::{HeaderId, Method};

use super::policy::{self, POOL};
use super::world::{Place, Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting};
use crate::codes;
use crate::engine::{FlowLoss, Input, Origin, PeerIdentity};
use crate::policy::{Policy, PoolEncryption, VoipSecurity};

const FRONT_END: &str = "fe01.contoso.com";

fn worker() -> Place {
    ("mbx01.contoso.com".into(), 5066)
}

fn front_end_route() -> String {
    format!("{DIVERSION}Record-Route: <sip:{FRONT_END}:5061;transport=tls;ms-fe={FRONT_END};lr>\r\n")
}

fn pool_route() -> String {
    format!("{DIVERSION}Record-Route: <sip:{POOL}:5061;transport=tls;ms-fe={FRONT_END};lr>\r\n")
}

/// A call in progress whose INVITE carried these lines.
fn answered(policy: Arc<Policy>, lines: &str) -> World {
    let mut world = World::new(policy);
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, lines, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    world.connects.clear();
    world
}

/// The pool is known by DNS alone.
fn pool_without_address() -> Arc<Policy> {
    let mut policy = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured);
    policy.pools[0].address.clear();
    Arc::new(policy)
}

fn lose_caller(world: &mut World) {
    let flow = world.caller().flow.unwrap().key;
    world.feed(Input::FlowDown { flow, why: FlowLoss::ClosedByPeer });
}

fn lose_worker(world: &mut World) {
    let flow = world.party("mbx01.contoso.com", 5066).flow.unwrap().key;
    world.feed(Input::FlowDown { flow, why: FlowLoss::Error });
}

fn reroutes(world: &World) -> Vec<&str> {
    world.events.iter().filter_map(|event| event.strip_prefix("rerouted ")).collect()
}

fn counter(world: &World, name: &str) -> u64 {
    let counters = world.engine.status().counters;
    counters.iter().find(|(own, _)| *own == name).map_or(0, |(_, count)| *count)
}

#[test]
fn a_connection_of_ours_that_is_lost_is_made_again_and_the_call_goes_on() {
    let mut world = answered(policy::secured(), DIVERSION);
    lose_worker(&mut world);
    assert_eq!(world.connects.len(), 1);
    assert_eq!((world.connects[0].name.as_str(), world.connects[0].port), ("mbx01.contoso.com", 5066));
    assert_eq!(reroutes(&world), ["mbx01.contoso.com mbx01.contoso.com:5066 (tls) New"], "said once");
    world.in_dialog(&caller(), Method::Info, "", None);
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods(), ["INVITE", "OPTIONS", "INFO", "BYE"]);
    assert_eq!(reroutes(&world).len(), 1);
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::COMPLETED);
}

#[test]
fn a_server_that_was_restarted_and_knows_no_such_dialog_ends_the_call_at_once() {
    let mut world = answered(policy::secured(), DIVERSION);
    world.party("mbx01.contoso.com", 5066).has_forgotten = true;
    lose_worker(&mut world);
    assert_eq!(world.caller().methods(), ["BYE"]);
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::SESSION_EXPIRED);
}

#[test]
fn a_server_that_stays_away_ends_the_call_and_its_calls_do_not_move_to_another_port() {
    let mut world = answered(policy::secured(), DIVERSION);
    assert!(world.party("mbx01.contoso.com", 5063).flow.is_some(), "the UM service is still connected");
    world.party("mbx01.contoso.com", 5066).script = Script::NoListener;
    lose_worker(&mut world);
    assert_eq!(world.caller().methods(), ["BYE"]);
    assert_eq!(world.party("mbx01.contoso.com", 5063).methods(), ["INVITE"]);
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::CONNECTION_LOST);
    assert_eq!(counter(&world, "reroutes_failed"), 1);
}

#[test]
fn a_request_for_a_lost_peer_goes_to_the_first_route_and_carries_the_route_set_unchanged() {
    let mut world = answered(policy::secured(), &front_end_route());
    lose_caller(&mut world);
    assert!(world.connects.is_empty() && reroutes(&world).is_empty(), "nothing is to be sent yet");
    world.script(FRONT_END, 5061, Script::Silent);
    world.in_dialog(&worker(), Method::Info, "", None);
    assert_eq!((world.connects[0].name.as_str(), world.connects[0].port), (FRONT_END, 5061));
    let got = world.party(FRONT_END, 5061).requests[0].clone();
    assert_eq!(got.request_uri(), "sip:dana@10.0.0.5:5061");
    let route = got.header(HeaderId::Route).unwrap();
    assert_eq!(route, b"<sip:fe01.contoso.com:5061;transport=tls;ms-fe=fe01.contoso.com;lr>");
    assert_eq!(world.party("mbx01.contoso.com", 5066).last_status(), 200, "and its answer comes back");
    world.in_dialog(&worker(), Method::Bye, "", None);
    assert_eq!(world.party(FRONT_END, 5061).methods(), ["INFO", "BYE"]);
    assert_eq!((world.connects.len(), reroutes(&world).len()), (1, 1));
    world.assert_clean();
}

#[test]
fn without_a_route_set_the_remote_target_is_the_next_hop() {
    let mut world = answered(policy::secured(), DIVERSION);
    lose_caller(&mut world);
    world.script(POOL, 5061, Script::Silent);
    world.in_dialog(&worker(), Method::Bye, "", None);
    // The target is an address, so the certificate must carry the pool's own name.
    assert_eq!((world.connects[0].name.as_str(), world.connects[0].port), (POOL, 5061));
    assert_eq!(world.connects[0].address.to_string(), "10.0.0.5");
    assert_eq!(world.party(POOL, 5061).methods(), ["BYE"]);
    world.assert_clean();
}

#[test]
fn a_connection_the_peer_opened_with_the_very_name_is_used_again() {
    let mut world = answered(policy::secured(), &pool_route());
    lose_caller(&mut world);
    world.connect_caller("10.0.0.5", Some(POOL));
    world.in_dialog(&worker(), Method::Info, "", None);
    assert_eq!(world.caller().methods(), ["INFO"]);
    assert!(world.connects.is_empty());
    assert_eq!(reroutes(&world), ["lync pool01.contoso.com:5061 (tls) Existing"]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_connection_made_for_another_name_of_the_same_pool_is_not_used() {
    let mut world = answered(policy::secured(), &front_end_route());
    lose_caller(&mut world);
    world.connect_caller("10.0.0.5", Some(POOL));
    world.script(FRONT_END, 5061, Script::Silent);
    world.in_dialog(&worker(), Method::Info, "", None);
    assert!(world.caller().methods().is_empty());
    assert_eq!(world.party(FRONT_END, 5061).methods(), ["INFO"]);
    world.in_dialog(&worker(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_peer_that_speaks_on_another_connection_of_its_own_gets_the_answers_there() {
    let mut world = answered(policy::secured(), &front_end_route());
    lose_caller(&mut world);
    world.connect_caller("10.0.0.5", Some(POOL));
    world.in_dialog(&caller(), Method::Info, "", None);
    world.in_dialog(&worker(), Method::Bye, "", None);
    assert_eq!(world.caller().methods(), ["BYE"]);
    assert!(world.connects.is_empty() && reroutes(&world).is_empty());
    world.assert_clean();
}

#[test]
fn a_route_to_a_name_that_is_none_of_the_peers_is_refused_and_ends_the_call() {
    for host in ["evil.example", "mbx01.contoso.com", "10.0.2.1", "pool01.contoso.com;maddr=10.6.6.6"] {
        let lines = format!("{DIVERSION}Record-Route: <sip:{host};lr>\r\n");
        let mut world = answered(policy::secured(), &lines);
        lose_caller(&mut world);
        world.in_dialog(&worker(), Method::Info, "", None);
        assert!(world.connects.is_empty() && world.questions.is_empty(), "{host}");
        assert_eq!(counter(&world, "reroutes_refused_foreign"), 1, "{host}");
        assert_eq!(world.party("mbx01.contoso.com", 5066).methods().last().unwrap(), "BYE");
        world.assert_clean();
        assert_eq!(world.records[0].verdict.code, codes::ROUTE_FOREIGN, "{host}");
    }
}

#[test]
fn a_route_over_another_transport_than_the_legs_is_refused() {
    for uri in ["sip:pool01.contoso.com;transport=tcp", "sip:pool01.contoso.com;transport=ws"] {
        let lines = format!("{DIVERSION}Record-Route: <{uri};lr>\r\n");
        let mut world = answered(policy::secured(), &lines);
        lose_caller(&mut world);
        world.in_dialog(&worker(), Method::Info, "", None);
        assert!(world.connects.is_empty());
        assert_eq!(counter(&world, "reroutes_refused_transport"), 1);
        world.assert_clean();
        assert_eq!(world.records[0].verdict.code, codes::ROUTE_TRANSPORT);
    }
}

#[test]
fn what_is_sent_while_the_name_is_looked_up_goes_out_in_order() {
    let mut world = answered(pool_without_address(), &pool_route());
    lose_caller(&mut world);
    world.script(POOL, 5061, Script::Silent);
    world.dns_is_silent = true;
    world.in_dialog(&worker(), Method::Info, "", None);
    world.in_dialog(&worker(), Method::Message, "", None);
    world.in_dialog(&worker(), Method::Bye, "", None);
    assert_eq!(world.questions.len(), 1, "one question for one place");
    assert!(world.connects.is_empty());
    world.answer_dns();
    assert_eq!(world.party(POOL, 5061).methods(), ["INFO", "MESSAGE", "BYE"]);
    world.assert_clean();
}

#[test]
fn the_addresses_of_a_name_are_tried_in_turn_and_not_for_ever() {
    let addresses = |last: u8| (1..=last).map(|n| format!("10.0.7.{n}:5061").parse().unwrap()).collect();
    for (count, is_reached) in [(3, true), (4, false)] {
        let mut world = answered(pool_without_address(), &pool_route());
        lose_caller(&mut world);
        world.script(POOL, 5061, Script::Silent);
        world.dns.insert(POOL.into(), addresses(count));
        world.dead = (1..count).map(|n| [10, 0, 7, n].into()).collect();
        world.in_dialog(&worker(), Method::Bye, "", None);
        let tried: Vec<_> = world.connects.iter().map(|target| target.address.to_string()).collect();
        assert_eq!(tried, ["10.0.7.1", "10.0.7.2", "10.0.7.3"]);
        assert_eq!(world.party(POOL, 5061).methods().len(), usize::from(is_reached));
        world.assert_clean();
    }
}

#[test]
fn a_silent_name_server_ends_the_call_within_the_budget() {
    let mut world = answered(pool_without_address(), &pool_route());
    lose_caller(&mut world);
    world.dns_is_silent = true;
    world.in_dialog(&worker(), Method::Info, "", None);
    world.advance(Duration::from_secs(3));
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods().last().unwrap(), "BYE");
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::CONNECTION_LOST);
}

#[test]
fn many_legs_that_lost_one_connection_ask_once_and_share_the_new_one() {
    let mut world = World::new(pool_without_address());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    for call in 0..4 {
        world.caller().dialog = None;
        world.invite_as(call, DEPOSIT, &pool_route(), Some(offer("10.0.0.5", 3000, Some(9))));
    }
    assert_eq!(world.engine.status().calls, 4);
    world.connects.clear();
    lose_caller(&mut world);
    world.script(POOL, 5061, Script::Silent);
    world.dns_is_silent = true;
    let calls: Vec<_> = world.engine.status().call_list.iter().map(|call| call.call).collect();
    for call in calls {
        world.feed(Input::Command(crate::engine::Command::HangUp(call)));
    }
    world.answer_dns();
    assert_eq!((world.questions.len(), world.connects.len()), (1, 1));
    assert_eq!(world.party(POOL, 5061).methods(), ["BYE", "BYE", "BYE", "BYE"]);
    world.assert_clean();
}

#[test]
fn a_peer_that_opened_its_connection_has_time_to_come_back_and_no_more() {
    let mut world = answered(policy::secured(), &pool_route());
    lose_caller(&mut world);
    world.advance(Duration::from_secs(31));
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    assert!(world.connects.is_empty());
    world.advance(Duration::from_secs(2));
    assert_eq!(world.connects.len(), 1);
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::CONNECTION_LOST);
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods().last().unwrap(), "BYE");
}

/// A caller behind this sent-by whose connection is lost while the server rings.
fn ringing_from(sent_by: &str) -> World {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.script("mbx01.contoso.com", 5066, Script::RingOnly);
    let config = EndpointConfig { via_host: sent_by.to_owned().into(), ..EndpointConfig::default() };
    world.caller().endpoint = Endpoint::new(config, 77);
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    world.connects.clear();
    lose_caller(&mut world);
    world
}

#[test]
fn a_response_whose_connection_is_gone_goes_to_the_address_it_came_from_and_the_port_of_the_via() {
    let mut world = ringing_from(FRONT_END);
    world.script(FRONT_END, 40000, Script::Silent);
    let now = world.now;
    world.party("mbx01.contoso.com", 5066).answer_pending(now);
    world.pump();
    let target = world.connects[0].clone();
    assert_eq!(
        (target.name.as_str(), target.port, target.address.to_string()),
        (FRONT_END, 40000, "10.0.0.5".into())
    );
    assert_eq!(world.party(FRONT_END, 40000).last_status(), 200);
    world.advance(Duration::from_secs(40));
    assert_eq!(world.records[0].verdict.code, codes::ACK_MISSING);
    world.assert_clean();
}

#[test]
fn a_response_that_cannot_be_delivered_ends_the_call_on_both_legs() {
    let mut world = ringing_from("far.example");
    let now = world.now;
    world.party("mbx01.contoso.com", 5066).answer_pending(now);
    world.pump();
    // far.example is no name of the pool; the BYE has its own way, which nobody answers either.
    assert!(world.connects.iter().all(|target| target.name == POOL));
    world.advance(Duration::from_secs(40));
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods(), ["INVITE", "BYE"]);
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
    let record = &world.records[0];
    assert_eq!((record.verdict.code, record.drop_reason.as_str()), (codes::ROUTE_FOREIGN, "ConnectionLost"));
}

#[test]
fn a_2xx_that_finds_nobody_is_recorded_as_a_lost_connection_and_not_as_a_missing_ack() {
    let mut world = ringing_from(FRONT_END);
    world.script(FRONT_END, 40000, Script::NoListener);
    let now = world.now;
    world.party("mbx01.contoso.com", 5066).answer_pending(now);
    world.pump();
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods(), ["INVITE", "BYE"], "at once");
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
    let record = &world.records[0];
    assert_eq!(
        (record.verdict.code, record.drop_reason.as_str()),
        (codes::CONNECTION_LOST, "ConnectionLost")
    );
}

#[test]
fn a_connection_the_peer_opened_carries_requests_for_the_names_of_its_certificate_only() {
    let mut world = World::new(policy::secured());
    world.script("two", 1, Script::Silent);
    let peer = PeerIdentity::Verified { names: vec![POOL.into(), FRONT_END.into()] };
    let remote = "10.0.0.5:5061".parse().unwrap();
    let key = world.flow_up(("two".into(), 1), sip::Transport::Tls, remote, peer, Origin::Inbound);
    let place = |name: &str| crate::place::Place {
        name: name.into(),
        addresses: Vec::new(),
        port: 5061,
        port_source: crate::policy::PortSource::Configured,
        transport: sip::Transport::Tls,
    };
    let peer = crate::policy::Peer::IpGateway(0);
    let flows = &world.engine.core.flows;
    assert_eq!(flows.to_place(peer, &place(POOL)).unwrap().flow.key, key);
    assert_eq!(flows.to_place(peer, &place(FRONT_END)).unwrap().flow.key, key);
    assert!(flows.to_place(peer, &place("fe02.contoso.com")).is_none());
    assert!(flows.to_place(crate::policy::Peer::IpGateway(1), &place(POOL)).is_none());
}

#[test]
fn a_lost_connection_makes_the_engine_look_at_the_calls_on_it_and_at_no_others() {
    const CALLS: u32 = 5;
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    let idle = world.connect_caller("10.0.0.6", Some(POOL));
    let first = world.connect_caller("10.0.0.5", Some(POOL));
    for call in 0..CALLS {
        if call == CALLS - 2 {
            world.connect_caller("10.0.0.5", Some(POOL));
        }
        world.invite_as(call, DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
        assert_eq!(world.caller().last_status(), 200);
    }
    let second = world.caller().flow.unwrap().key;
    assert!(first != second && world.engine.status().calls == CALLS as usize);
    for (flow, calls) in [(idle, 0), (second, 2), (first, CALLS as usize - 2), (first, 0)] {
        world.engine.visits = 0;
        world.feed(Input::FlowDown { flow, why: FlowLoss::ClosedByPeer });
        assert_eq!(world.engine.visits, calls);
    }
}
