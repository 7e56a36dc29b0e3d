//! Admission: whether a new call may come in at all. Looked at before anything is parsed; a call that is refused here
//! leaves no transaction, no port and no key. Owns limits, admission rate and the signs of overload; refuses to know
//! routes and bodies. Only INVITEs outside a dialog pass here: calls in progress are never asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::endpoint::Flow;
use sip::{HeaderId, Message, StatusCode};

use super::Engine;
use super::admit::story_of;
use super::core::Core;
use super::io::Event;
use super::ledger::{Counted, Ledger, give, take_below, taken};
use crate::call::story::{Missed, Outcome};
use crate::codes;
use crate::policy::{GatewayStatus, Peer, Policy};
use crate::record::OfferResult;
use crate::verdict::Refusal;

/// Seconds after which a refused caller may try again, least and most.
const RETRY_AFTER_SECS: (u32, u32) = (5, 20);
/// The admission rate may be used up in one burst of this length.
const BURST: Duration = Duration::from_secs(1);
/// Long waits mean overload when there was nothing else for this long: a queue stands, a hiccup passes.
const LATE: Duration = Duration::from_millis(500);
/// Reports further apart than this do not belong together.
const REPORTS_APART: Duration = Duration::from_secs(1);
/// So long after the last long wait new calls are taken again.
const CALM: Duration = Duration::from_secs(1);
/// While new calls are refused, a wait of this share of the limit is still too long.
const CALM_SHARE: u32 = 2;
/// Refusals that get a record each second; the others are counted.
const RECORDS_PER_SECOND: u32 = 10;

/// The gate of one shard.
pub(crate) struct Gate {
    started: Instant,
    ledger: Arc<dyn Ledger>,
    calls: Arc<AtomicU64>,
    clock: Arc<AtomicU64>,
    ip_gateways: BTreeMap<String, Arc<AtomicU64>>,
    /// Since when every report told of a long wait, and the last of them.
    late: Option<(Instant, Instant)>,
    /// When work last waited too long, while new calls are refused for it.
    overloaded: Option<Instant>,
    recorded: (Option<Instant>, u32),
}

/// A call's places in the counts; they are free again when it goes.
pub(crate) struct Seat(Vec<Arc<AtomicU64>>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.iter().for_each(|counter| give(counter));
    }
}

/// Why nobody comes in.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Closed {
    Draining,
    Disabled(usize),
    NoNewCalls(usize),
    Overloaded,
    Calls { have: usize, allowed: usize },
    GatewayCalls { ip_gateway: usize, have: usize, allowed: usize },
    Rate(u32),
}

impl Gate {
    pub fn new(started: Instant, ledger: Arc<dyn Ledger>) -> Self {
        Self {
            started,
            calls: ledger.counter(Counted::Calls),
            clock: ledger.counter(Counted::AdmissionClock),
            ledger,
            ip_gateways: BTreeMap::new(),
            late: None,
            overloaded: None,
            recorded: (None, 0),
        }
    }

    /// Whether a call would come in now. Takes nothing.
    fn look(&mut self, now: Instant, policy: &Policy, ip_gateway: Option<usize>) -> Result<(), Closed> {
        if self.overloaded.is_some_and(|since| now.saturating_duration_since(since) < CALM) {
            return Err(Closed::Overloaded);
        }
        let (have, allowed) = (taken(&self.calls), policy.gateway.max_calls_allowed);
        if have >= allowed {
            return Err(Closed::Calls { have, allowed });
        }
        if let Some(index) = ip_gateway
            && let Some(gateway) = policy.ip_gateways.get(index)
        {
            match gateway.status {
                GatewayStatus::Enabled => {}
                GatewayStatus::Disabled => return Err(Closed::Disabled(index)),
                GatewayStatus::NoNewCalls => return Err(Closed::NoNewCalls(index)),
            }
            if let Some(allowed) = gateway.max_calls_allowed {
                let have = taken(self.ip_gateway(&gateway.name));
                if have >= allowed {
                    return Err(Closed::GatewayCalls { ip_gateway: index, have, allowed });
                }
            }
        }
        match policy.gateway.calls_per_second_max {
            Some(rate) if !is_due(self.clock.load(Ordering::Acquire), self.nanos(now), rate) => {
                Err(Closed::Rate(rate))
            }
            _ => Ok(()),
        }
    }

    /// Takes a place in the count of a UM IP gateway, too.
    fn join(&mut self, seat: &mut Seat, policy: &Policy, ip_gateway: usize) -> Result<(), Closed> {
        let Some(gateway) = policy.ip_gateways.get(ip_gateway) else { return Ok(()) };
        let allowed = gateway.max_calls_allowed.unwrap_or(usize::MAX);
        let counter = self.ip_gateway(&gateway.name).clone();
        take_below(&counter, allowed).map_err(|have| Closed::GatewayCalls { ip_gateway, have, allowed })?;
        seat.0.push(counter);
        Ok(())
    }

    /// Comes in: takes a place in every count, or none.
    fn enter(&mut self, now: Instant, policy: &Policy, ip_gateway: Option<usize>) -> Result<Seat, Closed> {
        self.look(now, policy, ip_gateway)?;
        let mut seat = Seat(Vec::with_capacity(2));
        let allowed = policy.gateway.max_calls_allowed;
        take_below(&self.calls, allowed).map_err(|have| Closed::Calls { have, allowed })?;
        seat.0.push(self.calls.clone());
        if let Some(index) = ip_gateway {
            self.join(&mut seat, policy, index)?;
        }
        if let Some(rate) = policy.gateway.calls_per_second_max {
            self.take_turn(now, rate)?;
        }
        Ok(seat)
    }

    fn take_turn(&self, now: Instant, rate: u32) -> Result<(), Closed> {
        let now = self.nanos(now);
        let step = interval(rate);
        let taken = self.clock.fetch_update(Ordering::AcqRel, Ordering::Acquire, |next| {
            is_due(next, now, rate).then(|| next.max(now).saturating_add(step))
        });
        taken.map(|_| ()).map_err(|_| Closed::Rate(rate))
    }

    fn ip_gateway(&mut self, name: &str) -> &Arc<AtomicU64> {
        if !self.ip_gateways.contains_key(name) {
            self.ip_gateways.insert(name.to_owned(), self.ledger.counter(Counted::IpGateway(name)));
        }
        &self.ip_gateways[name]
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }

    fn stays_late(&mut self, now: Instant, is_long: bool) -> bool {
        let together = |last: Instant| now.saturating_duration_since(last) < REPORTS_APART;
        let since = self.late.filter(|(_, last)| together(*last)).map_or(now, |(since, _)| since);
        self.late = is_long.then_some((since, now));
        let stays = is_long && now.saturating_duration_since(since) >= LATE;
        self.late = self.late.filter(|_| !stays);
        stays
    }

    /// A flood of refusals must not become a flood of records.
    fn may_record(&mut self, now: Instant) -> bool {
        let (since, count) = self.recorded;
        let is_new = since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1));
        self.recorded = if is_new { (Some(now), 1) } else { (since, count.saturating_add(1)) };
        self.recorded.1 <= RECORDS_PER_SECOND
    }
}

fn interval(rate: u32) -> u64 {
    1_000_000_000 / u64::from(rate.max(1))
}

/// The clock of the rate runs ahead by one interval for each call; it may be ahead by a burst.
fn is_due(next: u64, now: u64, rate: u32) -> bool {
    let burst = u64::try_from(BURST.as_nanos()).unwrap_or(u64::MAX);
    next.saturating_add(interval(rate)) <= now.saturating_add(burst.max(interval(rate)))
}

impl Core {
    /// Whether these bytes may be a new call and would be refused: costs a few comparisons.
    pub fn look_at_gate(&mut self, now: Instant, peer: Option<Peer>, bytes: &Bytes) -> Result<(), Closed> {
        if !bytes.starts_with(b"INVITE ") {
            return Ok(());
        }
        if self.is_draining() {
            return Err(Closed::Draining);
        }
        self.gate.look(now, &self.policy, ip_gateway_of(peer))
    }

    /// Lets a call in; what it returns must live as long as the call.
    pub fn enter_gate(&mut self, now: Instant, peer: Option<Peer>) -> Result<Seat, Refusal> {
        let entered = match self.is_draining() {
            true => Err(Closed::Draining),
            false => self.gate.enter(now, &self.policy, ip_gateway_of(peer)),
        };
        entered.map_err(|closed| self.gate_refusal(&closed))
    }

    /// A call that UM placed leaves through this UM IP gateway and counts as one of its calls.
    pub fn join_gateway(&mut self, seat: &mut Seat, ip_gateway: usize) -> Result<(), Refusal> {
        let joined = self.gate.join(seat, &self.policy, ip_gateway);
        joined.map_err(|closed| self.gate_refusal(&closed))
    }

    fn gate_refusal(&mut self, closed: &Closed) -> Refusal {
        let (least, most) = RETRY_AFTER_SECS;
        // Varied, so that refused callers do not come back all at once.
        let wait = least + self.keys.below(most - least + 1);
        let gateway = &self.policy.gateway;
        let name = |index: usize| self.policy.ip_gateways.get(index).map_or("", |gateway| &gateway.name);
        let own = gateway.fqdn.as_str();
        let refusal = match *closed {
            Closed::Draining => Refusal::new(codes::DRAINING, own, "the gateway is about to stop"),
            Closed::Disabled(index) => {
                let what = format!("UM IP gateway {} is Disabled", name(index));
                return Refusal::new(codes::GATEWAY_DISABLED, name(index), what);
            }
            Closed::NoNewCalls(index) => {
                let what = format!("UM IP gateway {} takes no new calls", name(index));
                Refusal::new(codes::NO_NEW_CALLS, name(index), what)
            }
            Closed::Overloaded => {
                let what = format!("work waited longer than {} ms", gateway.queue_wait_max.as_millis());
                Refusal::new(codes::OVERLOADED, own, what)
            }
            Closed::Calls { have, allowed } => {
                let what = format!("{have} calls in progress, {allowed} allowed");
                Refusal::new(codes::CALLS_MAX, own, what)
            }
            Closed::GatewayCalls { ip_gateway, have, allowed } => {
                let what = format!("{have} calls of {} in progress, {allowed} allowed", name(ip_gateway));
                Refusal::new(codes::GATEWAY_CALLS_MAX, name(ip_gateway), what)
            }
            Closed::Rate(rate) => {
                let what = format!("more than {rate} new calls in a second");
                Refusal::new(codes::ADMISSION_RATE, own, what)
            }
        };
        refusal.retry_after(wait)
    }

    /// The shell measured how long work waits. Refusing begins when the wait stays above the limit and ends some time
    /// after it fell clearly below.
    pub fn on_queue_wait(&mut self, now: Instant, waited: Duration) {
        let limit = self.policy.gateway.queue_wait_max;
        let (is_calm, is_late) = match self.gate.overloaded {
            Some(since) => {
                let is_long = waited > limit / CALM_SHARE;
                (!is_long && now.saturating_duration_since(since) >= CALM, is_long)
            }
            None => (false, self.gate.stays_late(now, waited > limit)),
        };
        if is_late && self.gate.overloaded.replace(now).is_none() {
            self.count("overloads");
            self.event(Event::Overload { waited, begins: true });
        }
        if is_calm {
            self.gate.overloaded = None;
            self.event(Event::Overload { waited, begins: false });
        }
    }
}

impl Engine {
    /// Answers a new call without keeping anything of it; `false`: it is none, or a transaction knows it already.
    pub(super) fn refuse_at_gate(
        &mut self,
        now: Instant,
        flow: &Flow,
        bytes: &Bytes,
        closed: &Closed,
    ) -> bool {
        // Over UDP the same INVITE comes again: without a transaction it would be refused, counted or even let in twice.
        if !flow.transport.is_reliable() {
            return false;
        }
        let core = &mut self.core;
        let Ok(mut invite) = Message::parse(bytes.clone(), &core.config.limits) else { return false };
        // An INVITE with Replaces belongs to a call in progress too.
        if invite.to_tag().is_some() || invite.header(HeaderId::Replaces).is_some() {
            return false;
        }
        let refusal = core.gate_refusal(closed);
        let (status, reason, block) = core.refusal_parts(&refusal);
        let status = StatusCode::new(status).unwrap_or(StatusCode::BAD_REQUEST);
        if !core.endpoint.refuse_stateless(flow, &mut invite, status, reason.as_bytes(), &block) {
            return false;
        }
        core.count("calls_refused");
        core.count("calls_refused_at_gate");
        let Some(entry) = core.flows.get(flow.key) else { return true };
        if core.gate.may_record(now) {
            let outcome = Outcome {
                verdict: refusal.verdict.clone(),
                offer_result: OfferResult::Rejected,
                drop_reason: "Refused",
                missed: Missed::No,
            };
            let record = Box::new(story_of(now, entry, &invite).record(&core.policy, now, outcome));
            core.event(Event::CallEnded { call: None, record });
        } else {
            let remote = entry.remote;
            core.event(Event::Refused { code: refusal.code(), remote });
        }
        true
    }
}

fn ip_gateway_of(peer: Option<Peer>) -> Option<usize> {
    match peer {
        Some(Peer::IpGateway(index)) => Some(index),
        _ => None,
    }
}
