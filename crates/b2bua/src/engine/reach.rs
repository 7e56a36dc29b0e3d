//! From a place to a flow for those that wait for one: an existing flow, else look the name up and try its addresses in
//! turn. Owns questions and connection wishes outside call set-up, one of each per place however many wait; refuses to
//! know what the flow is wanted for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sip::FlowKey;
use sip::endpoint::ServerKey;

use super::core::Core;
use super::flows::FlowEntry;
use super::io::{
    ConnectFailure, ConnectFailureKind, ConnectKey, Output, QueryKey, Question, ResolveFailure,
    ResolveFailureKind, Target,
};
use super::probes::ProbeKey;
use crate::codes::{self, Code};
use crate::place::{ADDRESSES_MAX, Place, RouteFault};
use crate::policy::{Peer, Policy};

/// Those that may wait for one place.
const WAITING_MAX: usize = 16_384;

/// Who waits.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Waiter {
    /// The messages of a leg, by their parked flow.
    Leg(FlowKey),
    /// A request outside any call, by its server transaction.
    Forward(ServerKey),
    /// OPTIONS to a UM server.
    Probe(ProbeKey),
}

/// Why there is no flow to a place.
#[derive(Clone, Debug)]
pub(crate) struct Unreached {
    /// The registry's word for it.
    pub code: Code,
    /// What happened, cleaned.
    pub what: String,
}

impl Unreached {
    fn new(code: Code, what: &str) -> Self {
        Self { code, what: crate::verdict::clean(what) }
    }

    /// Nothing was tried, because the way leads elsewhere.
    pub fn is_route_fault(&self) -> bool {
        self.code == codes::ROUTE_FOREIGN || self.code == codes::ROUTE_TRANSPORT
    }

    /// What counts it.
    pub fn counter(&self) -> &'static str {
        if self.code == codes::ROUTE_FOREIGN {
            "reroutes_refused_foreign"
        } else if self.code == codes::ROUTE_TRANSPORT {
            "reroutes_refused_transport"
        } else {
            "reroutes_failed"
        }
    }
}

impl From<RouteFault> for Unreached {
    fn from(fault: RouteFault) -> Self {
        let code = match fault {
            RouteFault::Unreadable | RouteFault::Foreign(_) => codes::ROUTE_FOREIGN,
            RouteFault::Transport(_) => codes::ROUTE_TRANSPORT,
        };
        Self::new(code, &fault.to_string())
    }
}

/// The places that are looked for now.
#[derive(Default)]
pub(crate) struct Reach {
    trips: BTreeMap<Place, Trip>,
    queries: BTreeMap<QueryKey, Place>,
    connects: BTreeMap<ConnectKey, Place>,
    deadlines: BTreeSet<(Instant, Place)>,
    outcomes: VecDeque<(Waiter, Result<Arc<FlowEntry>, Unreached>)>,
}

struct Trip {
    step: Step,
    rest: VecDeque<SocketAddr>,
    until: Instant,
    waiting: Vec<Waiter>,
}

#[derive(Copy, Clone)]
enum Step {
    Resolving(QueryKey),
    Connecting(ConnectKey),
}

impl Reach {
    /// When a place has had its time.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Somebody's wait is over.
    pub fn poll_outcome(&mut self) -> Option<(Waiter, Result<Arc<FlowEntry>, Unreached>)> {
        self.outcomes.pop_front()
    }

    /// The name a connection wish of ours is for.
    pub fn name_of(&self, connect: ConnectKey) -> Option<&str> {
        self.connects.get(&connect).map(|place| place.name.as_str())
    }

    /// Nothing is looked for.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.trips.is_empty()
            && self.queries.is_empty()
            && self.connects.is_empty()
            && self.deadlines.is_empty()
    }

    fn forget_step(&mut self, step: Step) {
        match step {
            Step::Resolving(query) => self.queries.remove(&query),
            Step::Connecting(connect) => self.connects.remove(&connect),
        };
    }

    fn finish(&mut self, place: &Place, outcome: &Result<Arc<FlowEntry>, Unreached>) {
        let Some(trip) = self.trips.remove(place) else { return };
        self.forget_step(trip.step);
        self.deadlines.remove(&(trip.until, place.clone()));
        self.outcomes.extend(trip.waiting.into_iter().map(|waiter| (waiter, outcome.clone())));
    }
}

impl Core {
    /// A flow to a place of that peer, at once when there is one; else the waiter is told later.
    pub fn reach(
        &mut self,
        now: Instant,
        peer: Peer,
        place: &Place,
        waiter: Waiter,
    ) -> Option<Arc<FlowEntry>> {
        if let Some(entry) = self.flows.to_place(peer, place) {
            return Some(entry.clone());
        }
        if let Some(trip) = self.reach.trips.get_mut(place) {
            if trip.waiting.len() >= WAITING_MAX {
                let full = Unreached::new(codes::CONNECTION_LOST, "too many wait for this connection");
                self.reach.outcomes.push_back((waiter, Err(full)));
            } else {
                trip.waiting.push(waiter);
            }
            return None;
        }
        let literal: Vec<IpAddr> = place.name.parse().into_iter().collect();
        let known = if place.addresses.is_empty() { &literal } else { &place.addresses };
        let rest =
            known.iter().take(ADDRESSES_MAX).map(|address| SocketAddr::new(*address, place.port)).collect();
        self.set_out(now, place, rest, vec![waiter]);
        None
    }

    fn set_out(&mut self, now: Instant, place: &Place, rest: VecDeque<SocketAddr>, waiting: Vec<Waiter>) {
        if !rest.is_empty() {
            return self.try_next(now, place, rest, waiting);
        }
        let query = self.query_key();
        let question = Question {
            name: place.name.clone(),
            transport: place.transport,
            port: place.port,
            port_source: place.port_source,
        };
        self.reach.queries.insert(query, place.clone());
        self.outputs.push_back(Output::Resolve { query, question });
        let until = now + self.policy.routing.connect_timeout;
        self.keep_trip(place, Trip { step: Step::Resolving(query), rest, until, waiting });
    }

    fn try_next(
        &mut self,
        now: Instant,
        place: &Place,
        mut rest: VecDeque<SocketAddr>,
        waiting: Vec<Waiter>,
    ) {
        let Some(next) = rest.pop_front() else { return };
        let connect = self.connect_key();
        self.reach.connects.insert(connect, place.clone());
        let target = Target {
            name: place.name.clone(),
            address: next.ip(),
            port: next.port(),
            transport: place.transport,
        };
        self.outputs.push_back(Output::Connect { connect, target });
        let until = now + connect_budget(&self.policy, place);
        self.keep_trip(place, Trip { step: Step::Connecting(connect), rest, until, waiting });
    }

    fn keep_trip(&mut self, place: &Place, trip: Trip) {
        self.reach.deadlines.insert((trip.until, place.clone()));
        self.reach.trips.insert(place.clone(), trip);
    }

    /// An answer to a question of this module; `false` when it was none.
    pub fn on_place_resolved(
        &mut self,
        now: Instant,
        query: QueryKey,
        result: Result<Vec<SocketAddr>, ResolveFailure>,
    ) {
        let Some(place) = self.reach.queries.get(&query).cloned() else { return };
        match result {
            Ok(found) if !found.is_empty() => {
                let rest: VecDeque<_> = found.into_iter().take(ADDRESSES_MAX).collect();
                self.go_on(now, &place, rest);
            }
            Ok(_) => self.reach.finish(&place, &Err(no_address())),
            Err(why) => self.reach.finish(&place, &Err(unresolved(&why))),
        }
    }

    fn go_on(&mut self, now: Instant, place: &Place, rest: VecDeque<SocketAddr>) {
        let Some(trip) = self.reach.trips.remove(place) else { return };
        self.reach.forget_step(trip.step);
        self.reach.deadlines.remove(&(trip.until, place.clone()));
        self.try_next(now, place, rest, trip.waiting);
    }

    /// The flow that a wish of this module asked for.
    pub fn on_place_connected(&mut self, connect: ConnectKey, entry: &Arc<FlowEntry>) {
        if let Some(place) = self.reach.connects.get(&connect).cloned() {
            self.reach.finish(&place, &Ok(entry.clone()));
        }
    }

    /// There is none at that address; the next one is tried.
    pub fn on_place_refused(&mut self, now: Instant, connect: ConnectKey, why: &ConnectFailure) {
        if let Some(place) = self.reach.connects.get(&connect).cloned() {
            self.next_or_fail(now, &place, &unconnected(why));
        }
    }

    fn next_or_fail(&mut self, now: Instant, place: &Place, why: &Unreached) {
        let Some(trip) = self.reach.trips.get_mut(place) else { return };
        match std::mem::take(&mut trip.rest) {
            rest if rest.is_empty() => self.reach.finish(place, &Err(why.clone())),
            rest => self.go_on(now, place, rest),
        }
    }

    /// Places whose time is over.
    pub fn on_reach_deadline(&mut self, now: Instant) {
        while let Some((_, place)) = self.reach.deadlines.first().filter(|(at, _)| *at <= now).cloned() {
            match self.reach.trips.get(&place).map(|trip| trip.step) {
                Some(Step::Connecting(_)) => {
                    let why = Unreached::new(codes::CONNECTION_LOST, "no connection in time");
                    self.next_or_fail(now, &place, &why);
                }
                Some(Step::Resolving(_)) => {
                    let why = Unreached::new(codes::DNS_SILENT, "no answer from name resolution in time");
                    self.reach.finish(&place, &Err(why));
                }
                None => {
                    self.reach.deadlines.pop_first();
                }
            }
        }
    }
}

fn connect_budget(policy: &Policy, place: &Place) -> Duration {
    let tls = if place.transport.is_secure() { policy.routing.tls_timeout } else { Duration::ZERO };
    policy.routing.connect_timeout + tls
}

fn no_address() -> Unreached {
    Unreached::new(codes::SERVER_UNRESOLVED, "the name has no address")
}

/// The registry's word for a name that led nowhere.
pub(crate) fn resolve_code(why: &ResolveFailure) -> Code {
    match why.kind {
        ResolveFailureKind::NoAddress | ResolveFailureKind::Failed => codes::SERVER_UNRESOLVED,
        ResolveFailureKind::Silent => codes::DNS_SILENT,
    }
}

fn unresolved(why: &ResolveFailure) -> Unreached {
    Unreached::new(resolve_code(why), &why.detail)
}

fn unconnected(why: &ConnectFailure) -> Unreached {
    let code = match why.kind {
        ConnectFailureKind::TlsName | ConnectFailureKind::TlsChain | ConnectFailureKind::TlsOther => {
            codes::SERVER_TLS
        }
        _ => codes::CONNECTION_LOST,
    };
    Unreached::new(code, &format!("{:?}: {}", why.kind, why.detail))
}
