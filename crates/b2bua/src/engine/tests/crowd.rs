//! A hundred calls at once, each in one of four states; a fault in one of them ends that one on both legs, and the others
//! go on to their own ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sip::endpoint::{OutgoingRequest, ServerKey};
use sip::{Dialog, Message, Method};

use super::panics::hush_forced_panics;
use super::policy::{self, POOL};
use super::world::{Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting, worker};
use crate::codes;
use crate::policy::Policy;

/// Calls held when the fault strikes.
const CROWD: usize = 100;
/// Faults are forced at up to this many places of each state.
const DEPTHS: u32 = 3;

/// Where a call stands when the fault strikes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Stands {
    /// Answered and acknowledged.
    Talking,
    /// 180 heard, no answer yet.
    Ringing,
    /// The caller owes its ACK.
    Unacknowledged,
    /// A re-INVITE of the caller is with the server.
    Reoffering,
}

const STATES: [Stands; 4] = [Stands::Talking, Stands::Ringing, Stands::Unacknowledged, Stands::Reoffering];

/// What the two parties know of one call: each has room for one at a time.
struct Held {
    stands: Stands,
    invite: Option<OutgoingRequest>,
    dialog: Option<Dialog>,
    /// What the server has not answered.
    pending: Option<(ServerKey, Message)>,
    /// The Call-ID of leg B.
    b: Vec<u8>,
}

struct Crowd {
    world: World,
    calls: Vec<Held>,
}

impl Crowd {
    fn gather() -> Self {
        let mut policy = Policy::clone(&policy::secured());
        policy.gateway.max_calls_allowed = 1_000;
        let servers = policy.mailbox_servers.iter_mut().chain(&mut policy.call_routers);
        servers.for_each(|server| server.max_calls_allowed = 1_000);
        let mut world = World::new(Arc::new(policy));
        redirecting(&mut world, "tls");
        // Every call ends at the same worker.
        let service = world.party("cas01.contoso.com", 5061).script.clone();
        world.script("cas02.contoso.com", 5061, service);
        world.connect_caller("10.0.0.5", Some(POOL));
        let mut crowd = Self { world, calls: Vec::new() };
        (0..CROWD).for_each(|number| crowd.join(STATES[number % STATES.len()], number));
        assert_eq!(crowd.world.engine.status().calls, CROWD);
        crowd
    }

    fn join(&mut self, stands: Stands, number: usize) {
        let world = &mut self.world;
        let (name, port) = worker();
        world.caller().holds_ack = stands == Stands::Unacknowledged;
        let ringing = stands == Stands::Ringing;
        world.party(&name, port).script = if ringing { Script::RingOnly } else { Script::Answer };
        world.party(&name, port).dialog = None;
        world.caller().dialog = None;
        world.invite_as(number as u32, DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
        let invite = world.caller().invite.clone();
        if stands == Stands::Reoffering {
            world.party(&name, port).answers_reoffer = 0;
            world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.5", 3002, Some(9))));
            world.party(&name, port).answers_reoffer = 200;
        }
        let dialog = world.caller().dialog.take();
        let server = world.party(&name, port);
        let b = server.requests.last().unwrap().call_id().to_vec();
        let pending = server.pending.take();
        assert_eq!(pending.is_some(), matches!(stands, Stands::Ringing | Stands::Reoffering));
        self.calls.push(Held { stands, invite, dialog, pending, b });
    }

    /// Both parties turn to one call, and something of it happens.
    fn go_on(&mut self, number: usize) {
        let held = &mut self.calls[number];
        let (invite, dialog, pending) = (held.invite.clone(), held.dialog.take(), held.pending.take());
        let (world, (name, port)) = (&mut self.world, worker());
        let now = world.now;
        world.party(&name, port).pending = pending;
        let party = world.caller();
        (party.invite, party.dialog, party.holds_ack) = (invite, dialog, false);
        match held.stands {
            Stands::Talking => {
                world.in_dialog(&caller(), Method::Info, "", None);
            }
            Stands::Ringing | Stands::Reoffering => world.party(&name, port).answer_pending(now),
            Stands::Unacknowledged => {
                let answer = party.responses.iter().rfind(|m| is_of(m, number) && is_answer(m)).cloned();
                let dialog = Dialog::uac(party.invite.as_ref().unwrap(), &answer.unwrap()).unwrap();
                let (flow, ack) = (party.flow.unwrap(), dialog.ack(1).finish().unwrap());
                party.endpoint.send_ack(now, &flow, ack);
                party.dialog = Some(dialog);
            }
        }
        world.pump();
    }

    /// The caller hangs up the call that both parties have turned to.
    fn hang_up(&mut self) {
        self.world.in_dialog(&caller(), Method::Bye, "", None);
    }

    /// Whether a leg heard BYE, or CANCEL, or had its own INVITE refused.
    fn is_told(&mut self, number: usize) -> (bool, bool) {
        let b = self.calls[number].b.clone();
        let party = self.world.caller();
        let refused =
            |m: &Message| *m.method() == Method::Invite && m.status().is_some_and(|s| s.code() >= 300);
        let a = party.requests.iter().any(|m| is_of(m, number) && *m.method() == Method::Bye)
            || party.responses.iter().any(|m| is_of(m, number) && refused(m) && m.cseq().number == 1);
        let (name, port) = worker();
        let ends = |m: &&Message| matches!(*m.method(), Method::Bye | Method::Cancel);
        let b = self.world.party(&name, port).requests.iter().filter(ends).any(|m| m.call_id() == b);
        (a, b)
    }
}

fn call_id(number: usize) -> Bytes {
    Bytes::from(format!("a-leg-{number}"))
}

fn is_of(message: &Message, number: usize) -> bool {
    message.call_id() == call_id(number)
}

fn is_answer(message: &Message) -> bool {
    *message.method() == Method::Invite && message.status().is_some_and(|status| status.code() == 200)
}

/// A call that breaks at that place; false when what happens to it has fewer places.
fn strike(victim: usize, depth: u32) -> bool {
    let mut crowd = Crowd::gather();
    let stands = crowd.calls[victim].stands;
    crowd.world.engine.core.fault_in = Some(depth);
    crowd.go_on(victim);
    if crowd.world.engine.core.fault_in.take().is_some() {
        return false;
    }
    assert_eq!(crowd.world.panics, 1);
    crowd.world.advance(Duration::from_secs(1));
    assert_eq!(crowd.is_told(victim), (true, true), "{stands:?} at {depth}: who was told, caller and server");
    assert_eq!(crowd.world.records.len(), 1, "{stands:?} at {depth}: the others go on");
    for number in (0..CROWD).filter(|number| *number != victim) {
        crowd.go_on(number);
        crowd.hang_up();
        let heard = &crowd.world.caller().responses;
        let of_it = || heard.iter().filter(|m| is_of(m, number));
        assert!(of_it().any(is_answer), "call {number} was not answered after {stands:?} at {depth}");
        let bye = of_it().rfind(|m| *m.method() == Method::Bye).and_then(Message::status);
        assert_eq!(bye.map(|status| status.code()), Some(200), "call {number} after {stands:?} at {depth}");
        assert!(!crowd.world.caller().requests.iter().any(|m| is_of(m, number)), "call {number} was hung up");
    }
    let faults = crowd.world.records.iter().filter(|record| record.verdict.code == codes::INTERNAL).count();
    assert_eq!((faults, crowd.world.records.len()), (1, CROWD), "{stands:?} at {depth}");
    assert!(crowd.world.engine.status().counters.contains(&("engine_panics", 1)));
    crowd.world.assert_clean();
    true
}

#[test]
fn a_fault_in_one_of_a_hundred_calls_ends_that_one_and_is_counted_once() {
    hush_forced_panics();
    for victim in 40..40 + STATES.len() {
        let struck = (0..DEPTHS).take_while(|depth| strike(victim, *depth)).count();
        assert!(struck > 0, "call {victim}: no fault was reached");
    }
}
