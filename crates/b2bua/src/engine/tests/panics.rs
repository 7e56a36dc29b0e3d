//! A fault in the engine over one input: only the call concerned ends, on both legs. The fault is forced at every place
//! where a call does something, in turn.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sip::endpoint::OutgoingRequest;
use sip::{Message, Method};

use super::policy::{self, POOL};
use super::world::{World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting};
use crate::engine::Input;
use crate::policy::Policy;

/// Calls that must not notice anything.
const OTHERS: usize = 3;

fn world() -> World {
    let mut policy = Policy::clone(&policy::secured());
    policy.gateway.max_calls_allowed = 1_000;
    let mut world = World::new(Arc::new(policy));
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    (0..OTHERS).for_each(|number| invite(&mut world, &format!("other-{number}")));
    assert_eq!(world.engine.status().calls, OTHERS);
    world
}

fn invite(world: &mut World, call_id: &str) {
    let headers = format!(
        "Max-Forwards: 70\r\nFrom: <sip:dana@contoso.com>;tag=1\r\nTo: <sip:ken@contoso.com>\r\n\
         Call-ID: {call_id}\r\nCSeq: 1 INVITE\r\nContact: <sip:dana@10.0.0.5:5061>\r\n{DIVERSION}"
    );
    let request = OutgoingRequest {
        method: Method::Invite,
        uri: Bytes::from_static(DEPOSIT.as_bytes()),
        headers: Bytes::from(headers),
        content_type: Some(Bytes::from_static(b"application/sdp")),
        body: offer("10.0.0.5", 3000, Some(9)),
    };
    // The caller acknowledges what opens its dialog.
    world.caller().dialog = None;
    world.send_as(&caller(), request);
}

/// A whole call: set-up, a re-INVITE, an INFO, BYE; each step only if the call is still there.
fn live(world: &mut World) {
    let is_up = |world: &World| world.engine.status().calls > OTHERS;
    invite(world, "victim");
    for (method, body) in
        [(Method::Invite, Some(offer("10.0.0.5", 3002, Some(9)))), (Method::Info, None), (Method::Bye, None)]
    {
        if is_up(world) && world.caller().dialog.is_some() {
            world.in_dialog(&caller(), method, "", body);
        }
    }
    world.advance(Duration::from_secs(40));
}

fn is_victims(message: &&Message) -> bool {
    message.call_id() == b"victim"
}

/// The caller knows that the call is over: a refusal, an answer to its BYE, or a BYE.
fn is_closed_for_the_caller(world: &mut World) -> bool {
    let caller = world.caller();
    let refused = |message: &Message| message.status().is_some_and(|status| status.code() >= 300);
    let invites = caller.responses.iter().filter(is_victims).filter(|m| *m.method() == Method::Invite);
    let is_refused =
        invites.clone().any(refused) && !invites.clone().any(|m| m.status().unwrap().code() == 200);
    let byes = |list: &[Message]| list.iter().filter(is_victims).any(|m| *m.method() == Method::Bye);
    is_refused || byes(&caller.requests) || byes(&caller.responses)
}

/// Panics that a test forces print nothing.
pub(super) fn hush_forced_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some("forced by a test") {
            default(panic);
        }
    }));
}

#[test]
fn a_forced_panic_ends_its_call_on_both_legs_and_no_other_wherever_it_happens() {
    hush_forced_panics();
    let mut forced = 0;
    for at in 0.. {
        let mut world = world();
        world.engine.core.fault_in = Some(at);
        live(&mut world);
        let untouched = world.engine.core.fault_in.take().is_some();
        let ended: Vec<String> = world
            .records
            .iter()
            .map(|r| format!("{} {} {:?}", r.call_id, r.verdict.what, r.verdict.evidence))
            .collect();
        assert_eq!(world.engine.status().calls, OTHERS, "fault {at}: {ended:?}");
        assert!(is_closed_for_the_caller(&mut world), "fault {at}: {:?}", world.caller().statuses());
        assert!(world.records.len() <= 1, "fault {at}: one record for one call");
        if untouched {
            assert_eq!(world.panics, 0);
            break;
        }
        forced += 1;
        assert!(world.panics >= 1);
        world.feed(Input::Drain { until: Some(world.now) });
        world.advance(Duration::from_secs(1));
        world.assert_clean();
    }
    assert!(forced > 30, "only {forced} places");
}
