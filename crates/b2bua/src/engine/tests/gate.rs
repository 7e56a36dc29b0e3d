//! Admission: who is refused before anything of the call is kept, and that calls in progress never are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sip::endpoint::OutgoingRequest;
use sip::{HeaderId, Method};

use super::policy::{self, POOL};
use super::world::{World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting, value};
use crate::codes;
use crate::engine::Input;
use crate::policy::{GatewayStatus, Policy};

fn world(change: impl FnOnce(&mut Policy)) -> World {
    let mut policy = Policy::clone(&policy::secured());
    policy.gateway.max_calls_allowed = 1_000;
    change(&mut policy);
    let mut world = World::new(Arc::new(policy));
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world
}

fn call(world: &mut World, number: usize) -> u16 {
    let headers = format!(
        "Max-Forwards: 70\r\nFrom: <sip:dana@contoso.com>;tag={number}\r\nTo: <sip:ken@contoso.com>\r\n\
         Call-ID: gate-{number}\r\nCSeq: 1 INVITE\r\nContact: <sip:dana@10.0.0.5:5061>\r\n{DIVERSION}"
    );
    let request = OutgoingRequest {
        method: Method::Invite,
        uri: Bytes::from_static(DEPOSIT.as_bytes()),
        headers: Bytes::from(headers),
        content_type: Some(Bytes::from_static(b"application/sdp")),
        body: offer("10.0.0.5", 3000, Some(9)),
    };
    // The caller acknowledges what opens its dialog; a refusal leaves it the one it had.
    let before = world.caller().dialog.take();
    world.send_as(&caller(), request);
    let caller = world.caller();
    caller.dialog = caller.dialog.take().or(before);
    caller.last_status()
}

fn last_code(world: &World) -> crate::Code {
    world.records.last().unwrap().verdict.code
}

fn end(mut world: World) {
    world.feed(Input::Drain { until: Some(world.now) });
    world.advance(Duration::from_secs(1));
    world.assert_clean();
}

#[test]
fn a_refused_call_leaves_no_transaction_no_port_and_no_second_leg_and_waits_differ() {
    let mut world = world(|policy| policy.gateway.max_calls_allowed = 1);
    assert_eq!(call(&mut world, 0), 200);
    let before = (world.engine.status().transactions, world.allocated, world.connects.len());
    let mut waits = BTreeSet::new();
    for number in 1..20 {
        assert_eq!(call(&mut world, number), 503);
        let answer = world.caller().responses.last().unwrap();
        waits.insert(answer.header(HeaderId::RetryAfter).unwrap().to_vec());
    }
    assert_eq!((world.engine.status().transactions, world.allocated, world.connects.len()), before);
    assert!(waits.len() > 4, "{waits:?}");
    assert_eq!(last_code(&world), codes::CALLS_MAX);
    end(world);
}

#[test]
fn a_flood_of_refusals_is_counted_not_recorded() {
    let mut world = world(|policy| policy.gateway.max_calls_allowed = 1);
    call(&mut world, 0);
    let mut waits = BTreeSet::new();
    for number in 1..100 {
        assert_eq!(call(&mut world, number), 503);
        waits.insert(value(world.caller().responses.last().unwrap(), HeaderId::RetryAfter).parse().unwrap());
    }
    assert_eq!((waits.first(), waits.last()), (Some(&5u32), Some(&20)), "spread over all of 5 to 20 s");
    assert_eq!(world.records.len(), 10);
    world.advance(Duration::from_secs(1));
    call(&mut world, 100);
    assert_eq!(world.records.len(), 11);
    let status = world.engine.status();
    assert!(status.counters.contains(&("calls_refused_at_gate", 100)), "{:?}", status.counters);
    end(world);
}

#[test]
fn one_gateways_limit_is_its_own_and_its_status_decides_at_once() {
    let mut full = world(|policy| policy.ip_gateways[0].max_calls_allowed = Some(2));
    assert_eq!([0, 1, 2].map(|number| call(&mut full, number)), [200, 200, 503]);
    assert_eq!(last_code(&full), codes::GATEWAY_CALLS_MAX);
    full.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(full.caller().last_status(), 200);
    full.advance(Duration::from_secs(1));
    assert_eq!(call(&mut full, 3), 200, "the place is free again");
    end(full);
    for (status, code, answer) in [
        (GatewayStatus::NoNewCalls, codes::NO_NEW_CALLS, 503),
        (GatewayStatus::Disabled, codes::GATEWAY_DISABLED, 403),
    ] {
        let mut world = world(|policy| policy.ip_gateways[0].status = status);
        assert_eq!(call(&mut world, 0), answer);
        assert_eq!((last_code(&world), world.engine.status().transactions), (code, (0, 0)));
    }
}

#[test]
fn the_admission_rate_lets_a_burst_in_and_then_so_many_a_second() {
    let mut world = world(|policy| {
        policy.gateway.calls_per_second_max = Some(10);
        policy.mailbox_servers.iter_mut().chain(&mut policy.call_routers).for_each(|server| {
            server.max_calls_allowed = 1_000;
        });
    });
    let mut admitted = 0;
    for number in 0..100 {
        admitted += usize::from(call(&mut world, number) == 200);
    }
    assert_eq!((admitted, last_code(&world)), (10, codes::ADMISSION_RATE));
    // Ten times the rate for ten seconds.
    let mut admitted = 0;
    for number in 100..1_100 {
        world.advance(Duration::from_millis(10));
        admitted += usize::from(call(&mut world, number) == 200);
    }
    assert!((99..=101).contains(&admitted), "{admitted}");
    world.in_dialog(&caller(), Method::Info, "", None);
    assert_eq!(world.caller().last_status(), 200, "calls in progress are never refused");
    end(world);
}

#[test]
fn waiting_work_closes_the_gate_for_new_calls_only_and_calm_opens_it() {
    let mut world = world(|policy| policy.gateway.queue_wait_max = Duration::from_millis(100));
    assert_eq!(call(&mut world, 0), 200);
    world.feed(Input::QueueWait(Duration::from_millis(100)));
    assert_eq!(call(&mut world, 1), 200, "a busy gateway is no overloaded one");
    for _ in 0..3 {
        world.feed(Input::QueueWait(Duration::from_millis(900)));
        world.advance(Duration::from_millis(100));
    }
    assert_eq!(call(&mut world, 5), 200, "a hiccup passes");
    world.feed(Input::QueueWait(Duration::from_millis(1)));
    for _ in 0..6 {
        world.feed(Input::QueueWait(Duration::from_millis(101)));
        world.advance(Duration::from_millis(100));
    }
    assert_eq!((call(&mut world, 2), last_code(&world)), (503, codes::OVERLOADED));
    // In-dialog requests, CANCEL, ACK and BYE pass.
    world.in_dialog(&caller(), Method::Info, "", None);
    assert_eq!(world.caller().last_status(), 200);
    world.advance(Duration::from_millis(900));
    world.feed(Input::QueueWait(Duration::from_millis(60)));
    world.advance(Duration::from_millis(900));
    assert_eq!(call(&mut world, 3), 503, "more than half the limit is still too long");
    world.feed(Input::QueueWait(Duration::from_millis(50)));
    world.advance(Duration::from_millis(200));
    assert_eq!(call(&mut world, 4), 200, "normal again well within 5 s");
    world.feed(Input::QueueWait(Duration::from_millis(10)));
    assert_eq!(world.events.iter().filter(|event| event.as_str() == "overload").count(), 2);
    end(world);
}
