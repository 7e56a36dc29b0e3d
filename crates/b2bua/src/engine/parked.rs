//! Messages of legs whose connection is gone, and the flows that stand in for it until there is another. Owns the queue
//! and its order; which place a message goes to is the business of the call (`call::reroute`).
//!
//! A parked flow is a flow for transactions and calls, but no bytes leave on it. The first message on it sets out for the
//! next hop; what follows waits behind it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sip::endpoint::Flow;
use sip::{FlowKey, Message};

use super::Engine;
use super::core::Core;
use super::flows::FlowEntry;
use super::io::{CallKey, Event, Output, Way};
use super::reach::{Unreached, Waiter};
use crate::place::{Place, RouteFault};
use crate::policy::Peer;

/// Messages that wait for one connection. Relayed requests are bounded per call; a BYE and some ACKs come on top.
const PARKED_MAX: usize = 32;
/// Marks keys of flows that have no connection; the shell's own keys are below.
const PARKED_BIT: u64 = 1 << 63;

/// What a parked flow carries.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Carries {
    /// Requests in the dialog of the leg.
    Requests,
    /// Responses to requests of the peer.
    Responses,
}

/// A flow without a connection.
pub(crate) struct Parked {
    pub call: CallKey,
    pub side: Side,
    pub carries: Carries,
    /// The lost flow: its transport and far end.
    pub lost: Flow,
    queue: Vec<Bytes>,
    stage: Stage,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Stage {
    /// Nothing was to be sent so far.
    Quiet,
    /// The next hop is looked for.
    Reaching,
    /// There is a connection; only what was on its way comes by here.
    Attached(FlowKey),
}

/// All of them.
#[derive(Default)]
pub(crate) struct ParkedFlows {
    flows: BTreeMap<FlowKey, Parked>,
    by_call: BTreeMap<CallKey, Vec<FlowKey>>,
    attached: Vec<FlowKey>,
    next: u64,
}

/// Whether a flow has no connection.
pub(crate) fn is_parked(flow: FlowKey) -> bool {
    flow.0 & PARKED_BIT != 0
}

impl ParkedFlows {
    /// A stand-in for a lost flow.
    pub fn park(&mut self, lost: &Flow, call: CallKey, side: Side, carries: Carries) -> Flow {
        let key = FlowKey(PARKED_BIT | self.next);
        self.next += 1;
        let parked = Parked { call, side, carries, lost: *lost, queue: Vec::new(), stage: Stage::Quiet };
        self.flows.insert(key, parked);
        self.by_call.entry(call).or_default().push(key);
        Flow { key, ..*lost }
    }

    /// That one.
    pub fn get(&self, key: FlowKey) -> Option<&Parked> {
        self.flows.get(&key)
    }

    /// Forgets one and what waits on it.
    pub fn remove(&mut self, key: FlowKey) -> Option<Parked> {
        let parked = self.flows.remove(&key)?;
        if let Some(keys) = self.by_call.get_mut(&parked.call) {
            keys.retain(|known| *known != key);
            if keys.is_empty() {
                self.by_call.remove(&parked.call);
            }
        }
        Some(parked)
    }

    /// Forgets those of a call that is over; its last messages still get their connection.
    pub fn forget_call(&mut self, call: CallKey) {
        for key in self.by_call.get(&call).cloned().unwrap_or_default() {
            if self.flows.get(&key).is_some_and(|parked| parked.stage == Stage::Quiet) {
                self.remove(key);
            }
        }
    }

    /// How many.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Nothing is on its way any more, so stand-ins with a connection are no longer needed.
    pub fn forget_attached(&mut self) {
        for key in std::mem::take(&mut self.attached) {
            self.remove(key);
        }
    }
}

impl Core {
    /// A parked flow has its connection: what waited goes out in order, transactions go on there.
    pub fn attach_parked(&mut self, key: FlowKey, to: &Flow) {
        let Some(parked) = self.parked.flows.get_mut(&key) else { return };
        parked.stage = Stage::Attached(to.key);
        for bytes in std::mem::take(&mut parked.queue) {
            self.outputs.push_back(Output::Send { flow: to.key, bytes });
        }
        self.parked.attached.push(key);
        self.endpoint.move_flow(key, to);
    }
}

impl Engine {
    /// Bytes for a flow without a connection.
    pub(super) fn on_parked_bytes(&mut self, now: Instant, key: FlowKey, bytes: Bytes) {
        let owner = self.core.parked.get(key).and_then(|parked| self.calls.get(parked.call));
        let (Some(parked), Some(owner)) = (self.core.parked.flows.get_mut(&key), owner) else {
            return self.core.count("messages_of_ended_legs");
        };
        match parked.stage {
            Stage::Attached(flow) => return self.core.outputs.push_back(Output::Send { flow, bytes }),
            _ if parked.queue.len() >= PARKED_MAX => return self.core.count("parked_messages_dropped"),
            Stage::Reaching => return parked.queue.push(bytes),
            Stage::Quiet => {
                parked.stage = Stage::Reaching;
                parked.queue.push(bytes.clone());
            }
        }
        let heading = match Message::parse(bytes, &self.core.config.limits) {
            Ok(message) => owner.heading(&self.core.policy, parked, &message),
            Err(_) => Err(RouteFault::Unreadable),
        };
        match heading {
            Ok((peer, place)) => self.set_out_for(now, key, peer, &place),
            Err(fault) => self.on_unrouted(now, key, &fault.into()),
        }
    }

    fn set_out_for(&mut self, now: Instant, key: FlowKey, peer: Peer, place: &Place) {
        let found = self.core.reach(now, peer, place, Waiter::Leg(key));
        let way = if found.is_some() { Way::Existing } else { Way::New };
        if let Some(parked) = self.core.parked.get(key)
            && let Some(call) = self.calls.get(parked.call)
        {
            let leg = call.leg(parked.side);
            let event = Event::LegRerouted {
                call: parked.call,
                call_id: crate::verdict::clean(&String::from_utf8_lossy(&leg.call_id)),
                peer: leg.peer.name.clone(),
                next_hop: place.describe(),
                way,
            };
            self.core.event(event);
        }
        match way {
            Way::Existing => self.core.count("legs_moved_to_another_flow"),
            Way::New => self.core.count("legs_rerouted"),
        }
        if let Some(entry) = found {
            self.on_leg_reached(key, &entry);
        }
    }

    fn on_leg_reached(&mut self, key: FlowKey, entry: &FlowEntry) {
        let reaching = |parked: &&Parked| parked.stage == Stage::Reaching;
        let Some(parked) = self.core.parked.get(key).filter(reaching) else { return };
        let (call, side, carries) = (parked.call, parked.side, parked.carries);
        self.core.attach_parked(key, &entry.flow);
        if carries == Carries::Requests {
            self.with_call(Some(call), |call, _| call.on_attached(side, key, entry));
        }
    }

    fn on_unrouted(&mut self, now: Instant, key: FlowKey, why: &Unreached) {
        let is_settled = |parked: &Parked| matches!(parked.stage, Stage::Attached(_));
        if self.core.parked.get(key).is_none_or(is_settled) {
            return;
        }
        let Some(parked) = self.core.parked.remove(key) else { return };
        self.core.count(why.counter());
        self.with_call(Some(parked.call), |call, core| call.on_unrouted(core, now, &parked, key, why));
        // What waits for an answer there gets none.
        self.core.endpoint.handle_flow_down(now, key);
    }

    /// One wait that is over.
    pub(super) fn on_reached(
        &mut self,
        now: Instant,
        waiter: Waiter,
        outcome: Result<Arc<FlowEntry>, Unreached>,
    ) {
        match (waiter, outcome) {
            (Waiter::Leg(key), Ok(entry)) => self.on_leg_reached(key, &entry),
            (Waiter::Leg(key), Err(why)) => self.on_unrouted(now, key, &why),
            (Waiter::Forward(key), Ok(entry)) => self.core.on_forward_reached(now, key, &entry),
            (Waiter::Forward(key), Err(why)) => self.core.on_forward_unreached(now, key, &why),
            (Waiter::Probe(key), Ok(entry)) => self.core.on_probe_reached(now, key, &entry),
            (Waiter::Probe(key), Err(why)) => self.core.on_probe_failed(now, key, &why.what),
        }
    }
}
