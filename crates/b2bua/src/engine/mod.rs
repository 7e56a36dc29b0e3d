//! The engine: one value that owns all signalling state of its shard. Feed one input, then drain
//! outputs and ask for the next deadline. Owns the order in which facts reach calls; what a call does
//! with them is its own business. Refuses to know sockets, clocks, threads and files.

mod admit;
pub(crate) mod core;
mod deposits;
mod dialogs;
mod dispatch;
pub(crate) mod flows;
mod forward;
pub(crate) mod gate;
mod io;
pub(crate) mod keys;
pub(crate) mod ledger;
mod outdialog;
pub(crate) mod parked;
mod probes;
pub(crate) mod reach;
mod recover;
mod replaces;
mod shard;
mod timers;
pub(crate) mod users;

#[cfg(test)]
pub(crate) mod tests;

pub use io::{
    CallAnswered, CallKey, CallStarted, CallStatus, CallTimer, Command, ConnectFailure, ConnectFailureKind,
    ConnectKey, Delivery, EngineConfig, EngineStatus, Event, FlowLoss, FlowUp, Input, MediaCommand,
    MediaFailure, MediaPorts, Newcomers, News, Notification, Notified, Origin, Output, PeerIdentity,
    QueryKey, Question, Reason, ResolveFailure, ResolveFailureKind, ServerStatus, Target, Way,
};

pub use deposits::Deposit;

pub use crate::health::{Door, DoorHealth, ProbeFault, Probed};
pub use crate::server_choice::{Change, Turn};
pub use ledger::{Counted, Ledger, OneShard};
pub use replaces::NamedDialog;
pub use shard::{Names, Sharding, call_id_of};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use slotmap::SlotMap;

use self::core::{Announced, Answer, Core, Drain};
use self::users::{FlowUsers, LegFlows};
use crate::call::{Call, State};
use crate::codes;
use crate::policy::{Policy, UnknownPeer};
use crate::verdict::Refusal;

/// All signalling state of one shard.
pub struct Engine {
    /// Boxed: a table grows by doubling, and a call is large.
    calls: SlotMap<CallKey, Box<Call>>,
    /// Calls that this input reached: only they can have ended, so an input costs the same however many calls are held.
    touched: Vec<CallKey>,
    /// Calls whose input panicked.
    broken: Vec<CallKey>,
    /// Which calls speak on a flow, as of the end of the last input.
    users: FlowUsers,
    /// Calls that lost flows made it look at.
    #[cfg(test)]
    visits: usize,
    core: Core,
}

impl Engine {
    /// An engine without flows and calls.
    pub fn new(config: EngineConfig, policy: Arc<Policy>) -> Self {
        Self {
            calls: SlotMap::with_key(),
            touched: Vec::new(),
            broken: Vec::new(),
            users: FlowUsers::default(),
            #[cfg(test)]
            visits: 0,
            core: Core::new(config, policy),
        }
    }

    /// Takes one input in; afterwards drain [`Engine::poll_output`].
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.core.named = None;
        match input {
            Input::FlowUp(up) => self.on_flow_up(now, &up),
            Input::FlowDown { flow, why: _ } => self.on_flow_down(now, flow),
            Input::FlowRetired { flow, newcomers } => self.core.flows.retire(flow, newcomers),
            Input::ConnectFailed { connect, why } => self.on_connect_failed(now, connect, &why),
            Input::Message { flow, bytes } => self.on_message(now, flow, bytes),
            Input::Referred { flow, bytes, named } => {
                self.core.named = Some(named.0);
                self.on_message(now, flow, bytes);
            }
            Input::Resolved { query, result } => match self.core.queries.remove(&query) {
                Some(call) => {
                    self.with_call(Some(call), |call, core| call.on_resolved(core, now, query, result))
                }
                None => self.core.on_place_resolved(now, query, result),
            },
            Input::MediaReady { call, result } => {
                self.with_call(Some(call), |call, core| call.on_media_ready(core, now, result));
            }
            Input::MediaFact { call, fact, stats } => {
                self.with_call(Some(call), |call, core| {
                    call.on_media_fact(core, now, fact, stats.as_deref())
                });
            }
            Input::Policy(policy) => {
                self.core.flows.identify_again(&policy);
                self.core.policy = policy;
                self.core.choose_doors(now);
            }
            Input::Told(news) => self.core.on_news(now, &news),
            Input::Command(Command::HangUp(call)) => self.hang_up(now, call),
            Input::Command(Command::Server { name, wish }) => self.core.servers.wish(now, &name, wish),
            Input::Drain { until } => {
                self.core.drain = Some(Drain { until, announced: Announced::No });
                self.core.end_probes();
            }
            Input::QueueWait(waited) => self.core.on_queue_wait(now, waited),
            Input::Timeout => self.on_timeout(now),
        }
        self.settle(now);
    }

    /// The next wish; `None` when there is none until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.core.outputs.pop_front()
    }

    /// When to feed [`Input::Timeout`], and why.
    pub fn poll_deadline(&self) -> Option<(Instant, Reason)> {
        let sip = self.core.endpoint.poll_deadline().map(|(at, reason)| (at, Reason::Sip(reason)));
        let call = self.core.timers.next().map(|(at, call, timer)| (at, Reason::Call { call, timer }));
        let reach = self.core.reach.next_deadline().map(|at| (at, Reason::Reach));
        let probe = self.core.probes.next_deadline().map(|at| (at, Reason::Probe));
        let drain = self.core.drain.as_ref().and_then(|d| d.until).map(|at| (at, Reason::DrainEnd));
        [sip, call, reach, probe, drain].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// How the engine stands, every call looked at.
    pub fn status(&self) -> EngineStatus {
        let mut by_state: BTreeMap<&'static str, usize> = BTreeMap::new();
        for call in self.calls.values() {
            *by_state.entry(call.state.name()).or_default() += 1;
        }
        EngineStatus {
            by_state: by_state.into_iter().collect(),
            call_list: self.calls.iter().map(|(key, call)| self.call_status(key, call)).collect(),
            ..self.gauges()
        }
    }

    /// The part of [`Engine::status`] that costs the same however many calls are held; its lists of calls are empty.
    pub fn gauges(&self) -> EngineStatus {
        let counts = self.core.endpoint.counts();
        EngineStatus {
            calls: self.calls.len(),
            by_state: Vec::new(),
            flows: self.core.flows.len(),
            transactions: (counts.client, counts.server),
            timers: self.core.timers.len(),
            counters: self.core.counters.iter().map(|(name, count)| (*name, *count)).collect(),
            draining: self.core.is_draining(),
            servers: self.server_status(),
            call_list: Vec::new(),
        }
    }

    fn call_status(&self, key: CallKey, call: &Call) -> CallStatus {
        CallStatus {
            shard: self.core.config.shard,
            call: key,
            call_id: call.story.call_id.clone(),
            state: call.state.name(),
            caller: call.story.caller.clone(),
            called: call.story.called.clone(),
            dial_plan: call.plan_name().to_owned(),
            server: call.story.server.clone().unwrap_or_default(),
            since: call.story.started_at,
        }
    }

    /// Whether a call or a transaction is on that flow.
    pub fn is_using(&self, flow: sip::FlowKey) -> bool {
        self.users.has(flow) || self.core.endpoint.is_using(flow)
    }

    /// Name of the state a call is in, `None` when there is no such call.
    pub fn state_of(&self, call: CallKey) -> Option<&'static str> {
        self.calls.get(call).map(|call| call.state.name())
    }

    fn server_status(&self) -> Vec<ServerStatus> {
        let entries = self.core.servers.iter();
        entries
            .map(|(name, state)| ServerStatus {
                name: name.clone(),
                calls: state.calls(),
                down_until: state.down_until,
                doors: state.doors.iter().map(|((role, over), door)| (*role, *over, door.clone())).collect(),
                wish: state.wish,
                changes: state.changes.iter().cloned().collect(),
            })
            .collect()
    }

    fn with_call(&mut self, key: Option<CallKey>, act: impl FnOnce(&mut Call, &mut Core)) {
        if let Some(call) = key.and_then(|key| self.calls.get_mut(key)) {
            self.touched.push(call.key);
            act(call, &mut self.core);
            self.core.fault_point();
        }
    }

    fn on_flow_up(&mut self, now: Instant, up: &FlowUp) {
        let wanted = match up.origin {
            Origin::Outbound(connect) => self.core.connects.remove(&connect),
            Origin::Inbound => None,
        };
        let reached = match up.origin {
            Origin::Outbound(connect) => self.core.reach.name_of(connect),
            Origin::Inbound => None,
        };
        let wished = wanted.as_ref().map(|(_, name)| name.as_str()).or(reached);
        let name = wished.or(up.made_for.as_deref()).map(str::to_owned);
        let policy = self.core.policy.clone();
        let entry = self.core.flows.insert(up, &policy, name.as_deref());
        match (up.origin, wanted) {
            (Origin::Outbound(connect), Some((call, _))) => {
                self.with_call(Some(call), |call, core| {
                    if !call.on_transfer_connected(core, now, connect, &entry) {
                        call.on_connected(core, now, connect, &entry);
                    }
                });
            }
            (Origin::Outbound(connect), None) => self.core.on_place_connected(connect, &entry),
            (Origin::Inbound, _) if entry.peer.is_none() => self.refuse_stranger(&entry),
            (Origin::Inbound, _) => {}
        }
    }

    fn refuse_stranger(&mut self, entry: &flows::FlowEntry) {
        let core = &mut self.core;
        core.count("peers_refused");
        core.event(Event::PeerRefused {
            remote: entry.remote,
            names: entry.names.clone(),
            transport: entry.transport,
        });
        let stays = core.policy.gateway.unknown_peer == UnknownPeer::Reject || !entry.transport.is_reliable();
        if !stays || entry.transport.is_secure() {
            core.flows.remove(entry.flow.key);
            core.outputs.push_back(Output::Close { flow: entry.flow.key });
        }
    }

    fn on_flow_down(&mut self, now: Instant, flow: sip::FlowKey) {
        if let Some(lost) = self.core.flows.remove(flow) {
            for invite in self.core.endpoint.servers_on(flow) {
                let call = self.core.invites.get(&invite).copied();
                self.with_call(call, |call, core| call.park_answer(core, invite, &lost.flow));
            }
            for call in self.users.of(flow) {
                #[cfg(test)]
                {
                    self.visits += 1;
                }
                self.with_call(Some(call), |call, core| call.on_flow_down(core, now, &lost));
            }
        }
        self.core.endpoint.handle_flow_down(now, flow);
    }

    fn on_connect_failed(&mut self, now: Instant, connect: ConnectKey, why: &ConnectFailure) {
        match self.core.connects.remove(&connect) {
            Some((call, _)) => {
                self.with_call(Some(call), |call, core| {
                    if !call.on_transfer_unconnected(core, now, connect) {
                        call.on_connect_failed(core, now, connect, why);
                    }
                });
            }
            None => self.core.on_place_refused(now, connect, why),
        }
    }

    // BYE where the call is answered. A caller who still waits gets 480: the gateway works (no 5xx, which would make a
    // pool look for another one), nobody withdrew the INVITE (no 487: RFC 3261 §21.4.25 keeps that for CANCEL and BYE), and no
    // user declined it everywhere (no 603). 480 says what is true: it cannot be had now (§21.4.18). Warning carries the words.
    fn hang_up(&mut self, now: Instant, call: CallKey) {
        let refusal =
            Refusal::new(codes::HUNG_UP_BY_OPERATOR, &self.core.policy.gateway.fqdn, "ended by the operator");
        self.with_call(Some(call), |call, core| call.terminate(core, now, &refusal, "Operator"));
    }

    // The end of a drain. To a caller who still waits it is a matter of this gateway only: 503, another one may take the call.
    fn cut_off(&mut self, now: Instant, call: CallKey) {
        let what = "the drain's patience was over";
        let refusal = Refusal::new(codes::DRAINING, &self.core.policy.gateway.fqdn, what);
        self.with_call(Some(call), |call, core| call.terminate(core, now, &refusal, "Drained"));
    }

    fn on_timeout(&mut self, now: Instant) {
        self.core.endpoint.handle_timeout(now);
        self.dispatch_endpoint(now);
        while let Some((call, timer)) = self.core.timers.pop_due(now) {
            self.with_call(Some(call), |call, core| call.on_timer(core, now, timer));
            self.dispatch_endpoint(now);
        }
        self.core.on_reach_deadline(now);
        self.core.on_probe_deadline(now);
        let patience_over = self.core.drain.as_ref().and_then(|d| d.until).is_some_and(|until| until <= now);
        if patience_over {
            if let Some(drain) = &mut self.core.drain {
                drain.until = None;
            }
            let calls: Vec<CallKey> = self.calls.keys().collect();
            calls.into_iter().for_each(|call| self.cut_off(now, call));
        }
    }

    /// After every input: endpoint drained, ended calls gone, the end of a drain told.
    fn settle(&mut self, now: Instant) {
        self.dispatch_endpoint(now);
        for key in self.touched.drain(..) {
            let Some(call) = self.calls.get_mut(key) else { continue };
            let spoken = call.leg_flows();
            self.users.update(key, call.spoken, if is_over(call) { [None, None] } else { spoken });
            call.spoken = spoken;
            self.core.tell_deposit(key, call);
            if is_over(call)
                && let Some(mut call) = self.calls.remove(key)
            {
                call.forget(&mut self.core);
            }
        }
        debug_assert!(!self.calls.values().any(|call| is_over(call)), "a call ended unseen");
        debug_assert!(self.knows_every_flow(), "a call changed its flows unseen");
        if self.calls.is_empty() {
            self.check_empty();
            if let Some(drain) = &mut self.core.drain
                && drain.announced == Announced::No
            {
                drain.announced = Announced::Yes;
                self.core.event(Event::Drained);
            }
        }
    }

    fn knows_every_flow(&self) -> bool {
        let pairs = |flows: LegFlows| match flows {
            [Some(a), Some(b)] if a != b => 2,
            [None, None] => 0,
            _ => 1,
        };
        let is_noted = self.calls.values().all(|call| call.spoken == call.leg_flows());
        is_noted && self.calls.values().map(|call| pairs(call.spoken)).sum::<usize>() == self.users.len()
    }

    // No call, so nothing that only a call may have put there.
    fn check_empty(&self) {
        debug_assert_eq!(self.core.timers.len(), 0, "a timer outlived its call");
        debug_assert!(self.core.dialogs.is_empty(), "a dialog outlived its call");
        debug_assert!(self.core.invites.is_empty(), "an INVITE outlived its call");
        debug_assert!(
            self.core.queries.is_empty() && self.core.connects.is_empty(),
            "a question outlived its call"
        );
    }
}

fn is_over(call: &Call) -> bool {
    matches!(call.state, State::Ended)
}
