//! One media thread.
//!
//! Owns its poller, ports, calls and the one packet buffer. In turn: commands, packets, silences,
//! reports. Refuses to wait for anybody: a report that cannot be delivered at once is kept, a fact
//! that finds the keep full is counted and lost.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use relay::{PacketBuffer, Plan, Side};
use tokio::sync::mpsc;

use super::call::Call;
use super::lanes::{Lane, Pair};
use super::overflow::Overflows;
use super::placement::Placement;
use super::readiness::{Bell, Readiness, Ready};
use super::{
    Command, Deliver, Dscp, MediaConfig, MediaError, MediaFailure, MediaGauges, MediaPorts, MediaReport,
    Press,
};
use crate::keep::Tape;

/// Commands carried out before packets get their turn.
const COMMANDS_PER_TURN: usize = 64;
/// Port pairs tried before a call is refused, when others have taken ports of our range.
const BIND_ATTEMPTS_MAX: usize = 16;
/// Undelivered reports after which facts are no longer kept.
const KEPT_FACTS_MAX: usize = 1_024;
/// How often silences are looked for.
const TICK: Duration = Duration::from_millis(250);
/// How soon an undelivered report is tried again.
const RETRY: Duration = Duration::from_millis(5);

pub(super) struct Worker<K> {
    readiness: Readiness,
    commands: Receiver<Command<K>>,
    reports: Deliver<K>,
    kept: VecDeque<MediaReport<K>>,
    addresses: Vec<IpAddr>,
    dscp: Dscp,
    calls: Vec<Option<Call<K>>>,
    vacant: Vec<usize>,
    index: HashMap<K, usize>,
    packet: PacketBuffer,
    overflows: Option<Overflows>,
    /// Where packets of calls go of which something is kept.
    tape: Option<Tape>,
    next_tick: Instant,
    shared: Shared<K>,
}

/// What the threads have in common; none of it is touched for a packet.
pub(super) struct Shared<K> {
    pub(super) placement: Arc<Placement<K>>,
    pub(super) gauges: Arc<MediaGauges>,
}

#[derive(PartialEq, Eq)]
enum Turn {
    Go,
    More,
    Stop,
}

impl<K: Copy + Eq + Hash + Debug + Send + Sync + 'static> Worker<K> {
    pub(super) fn new(
        config: &MediaConfig,
        commands: Receiver<Command<K>>,
        reports: Deliver<K>,
        tape: Option<Tape>,
        shared: Shared<K>,
    ) -> Result<(Self, Arc<Bell>), MediaError> {
        let readiness = Readiness::new()?;
        let bell = readiness.bell();
        let worker = Worker {
            readiness,
            commands,
            reports,
            kept: VecDeque::new(),
            addresses: config.addresses.clone(),
            dscp: config.dscp,
            calls: Vec::new(),
            vacant: Vec::new(),
            index: HashMap::new(),
            packet: PacketBuffer::new(),
            overflows: Overflows::open(),
            tape,
            next_tick: Instant::now() + TICK,
            shared,
        };
        Ok((worker, bell))
    }

    /// Works until told to stop, or until nobody is left to tell it.
    pub(super) fn run(&mut self) {
        let mut ready = Ready::new();
        // Read once a turn: to see what time it is costs a packet a hundredth of its time.
        let (mut turn, mut now) = (Turn::Go, Instant::now());
        while turn != Turn::Stop {
            if let Err(error) = self.readiness.wait(&mut ready, self.patience(&turn, now)) {
                tracing::error!(%error, "a media worker cannot poll and ends");
                return;
            }
            now = Instant::now();
            turn = self.obey(now);
            for number in ready.sockets() {
                self.on_readable(now, number as usize);
            }
            if now >= self.next_tick {
                self.on_tick(now);
            }
            self.deliver();
        }
    }

    fn patience(&self, turn: &Turn, now: Instant) -> Option<Duration> {
        if *turn == Turn::More {
            return Some(Duration::ZERO);
        }
        if !self.kept.is_empty() {
            return Some(RETRY);
        }
        let until_tick = self.next_tick.saturating_duration_since(now);
        (!self.index.is_empty()).then_some(until_tick)
    }

    fn obey(&mut self, now: Instant) -> Turn {
        for _ in 0..COMMANDS_PER_TURN {
            match self.commands.try_recv() {
                Ok(Command::Allocate { call }) => {
                    let result = self.allocate(now, call);
                    if result.as_ref().is_err_and(|failure| *failure != MediaFailure::AlreadyAllocated) {
                        self.shared.placement.leave(&call);
                    }
                    self.report(MediaReport::Ready { call, result });
                }
                Ok(Command::Keep { call, number }) => self.keep(call, number),
                Ok(Command::Apply { call, plan }) => self.apply(now, call, *plan),
                Ok(Command::Press { call, press }) => self.press(now, call, press),
                Ok(Command::Release { call }) => {
                    if let Some(closed) = self.close(now, call) {
                        // What is reported is over for the writer too.
                        self.hand_over();
                        self.report(MediaReport::Released {
                            call,
                            stats: Box::new(closed.last_stats(self.overflows.as_ref())),
                        });
                    }
                }
                Ok(Command::Shutdown) => return Turn::Stop,
                Err(std::sync::mpsc::TryRecvError::Empty) => return Turn::Go,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Turn::Stop,
            }
        }
        Turn::More
    }

    fn allocate(&mut self, now: Instant, key: K) -> Result<MediaPorts, MediaFailure> {
        if self.index.contains_key(&key) {
            return Err(MediaFailure::AlreadyAllocated);
        }
        let a = self.bind_pair(now)?;
        let b = match self.bind_pair(now) {
            Ok(pair) => pair,
            Err(failure) => {
                self.shared.gauges.ports().put_back(a.port);
                return Err(failure);
            }
        };
        let ports = MediaPorts { a_rtp: a.port, a_rtcp: a.port + 1, b_rtp: b.port, b_rtcp: b.port + 1 };
        self.adopt(Call::new(key, a, b))?;
        Ok(ports)
    }

    /// Binds a free pair, passing over ports that someone else holds.
    fn bind_pair(&mut self, now: Instant) -> Result<Pair, MediaFailure> {
        let mut refusal = None;
        for _ in 0..BIND_ATTEMPTS_MAX {
            let Some(port) = self.shared.gauges.ports().take(now) else { break };
            let address = self.addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            match Pair::bind(address, port, self.dscp) {
                Ok(pair) => return Ok(pair),
                Err(error) => {
                    self.shared.gauges.ports().give_back(now, port);
                    refusal = Some(error.to_string());
                }
            }
        }
        Err(match refusal {
            Some(error) => MediaFailure::Socket(error),
            None => MediaFailure::PortsExhausted { resting: self.shared.gauges.resting() },
        })
    }

    fn adopt(&mut self, call: Call<K>) -> Result<(), MediaFailure> {
        let at = self.vacant.pop().unwrap_or(self.calls.len());
        for (lane, socket) in call.lanes.ports() {
            if let Err(error) = self.readiness.watch(socket, number(at, lane)) {
                call.ports.into_iter().for_each(|port| self.shared.gauges.ports().put_back(port));
                if at < self.calls.len() {
                    self.vacant.push(at);
                }
                return Err(MediaFailure::Socket(error.to_string()));
            }
        }
        self.index.insert(call.key, at);
        if at == self.calls.len() {
            self.calls.push(Some(call));
        } else if let Some(place) = self.calls.get_mut(at) {
            *place = Some(call);
        }
        self.shared.gauges.calls.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn keep(&mut self, key: K, number: u64) {
        if let Some(call) = self.index.get(&key).and_then(|at| self.calls.get_mut(*at)?.as_mut()) {
            call.kept = Some(number);
        }
    }

    fn hand_over(&mut self) {
        if let Some(tape) = &mut self.tape {
            tape.hand_over();
        }
    }

    fn apply(&mut self, now: Instant, key: K, plan: Plan) {
        let Some(at) = self.index.get(&key).copied() else { return };
        if let Err(error) = self.follow_families(at, &plan) {
            tracing::warn!(%error, "no socket for RTP of the family of a peer");
            self.close(now, key);
            return self.report(MediaReport::Failed { call: key });
        }
        let Some(call) = self.calls.get_mut(at).and_then(Option::as_mut) else { return };
        let is_first = !call.has_plan();
        if let Err(error) = call.apply(plan, now) {
            self.report(MediaReport::PlanRefused { call: key, error });
            return;
        }
        if is_first {
            self.guarded(at, |call, packet, tape, unsent| call.hear_early(now, packet, tape, unsent));
        }
        self.follow_peers(at);
    }

    fn follow_peers(&mut self, at: usize) {
        if let Some(call) = self.calls.get_mut(at).and_then(Option::as_mut) {
            call.follow_peers(self.dscp, |lane, socket| self.readiness.watch(socket, number(at, lane)));
        }
    }

    /// Sends the packets of an event at once: they have their own times in them.
    fn press(&mut self, now: Instant, key: K, press: Press) {
        if let Some(at) = self.index.get(&key).copied() {
            self.guarded(at, |call, packet, tape, unsent| call.press(now, press, packet, tape, unsent));
        }
    }

    /// Gives each side sockets of the family of its peer, on the ports that were announced. Who is faster than its first plan
    /// and of the other family is heard from then on only.
    fn follow_families(&mut self, at: usize, plan: &Plan) -> io::Result<()> {
        let Some(call) = self.calls.get_mut(at).and_then(Option::as_mut) else { return Ok(()) };
        for side in [Side::A, Side::B] {
            let remote = plan.leg(side).remote_rtp.ip();
            if call.lanes.speak_with(side, remote) {
                continue;
            }
            let like = |own: &&IpAddr| own.is_ipv4() == remote.is_ipv4();
            let address = self.addresses.iter().find(like).ok_or(io::ErrorKind::AddrNotAvailable)?;
            let pair = Pair::bind(*address, call.port(side), self.dscp)?;
            call.lanes.replace(side, pair, |lane, socket| self.readiness.watch(socket, number(at, lane)))?;
        }
        Ok(())
    }

    /// Takes the call out; its sockets close when the value is dropped.
    fn close(&mut self, now: Instant, key: K) -> Option<Call<K>> {
        let at = self.index.remove(&key)?;
        let call = self.calls.get_mut(at)?.take()?;
        self.vacant.push(at);
        call.ports.into_iter().for_each(|port| self.shared.gauges.ports().give_back(now, port));
        self.shared.gauges.calls.fetch_sub(1, Ordering::Relaxed);
        self.shared.placement.leave(&key);
        Some(call)
    }

    fn on_readable(&mut self, now: Instant, number: usize) {
        let (at, lane) = (number / Lane::COUNT, Lane::of(number));
        self.guarded(at, |call, packet, tape, unsent| call.relay_one(now, lane, packet, tape, unsent));
    }

    fn on_tick(&mut self, now: Instant) {
        self.next_tick = now + TICK;
        for at in 0..self.calls.len() {
            self.follow_peers(at);
            self.guarded(at, |call, packet, tape, unsent| call.on_time(now, packet, tape, unsent));
        }
        self.hand_over();
    }

    /// Works on one call. A fault in it must not end the others of this thread.
    fn guarded(
        &mut self,
        at: usize,
        work: impl FnOnce(&mut Call<K>, &mut PacketBuffer, &mut Option<Tape>, &mut u64),
    ) {
        let Some(call) = self.calls.get_mut(at).and_then(Option::as_mut) else { return };
        let (key, packet, tape, mut unsent) = (call.key, &mut self.packet, &mut self.tape, 0);
        if catch_unwind(AssertUnwindSafe(|| work(call, packet, tape, &mut unsent))).is_err() {
            self.close(Instant::now(), key);
            self.report(MediaReport::Failed { call: key });
        }
        if unsent > 0 {
            self.shared.gauges.unsent.fetch_add(unsent, Ordering::Relaxed);
        }
        self.report_facts(at);
    }

    fn report_facts(&mut self, at: usize) {
        loop {
            let Some(call) = self.calls.get_mut(at).and_then(Option::as_mut) else { return };
            let key = call.key;
            let Some(session) = call.session_mut() else { return };
            let Some(fact) = session.poll_fact() else { return };
            let (call, stats) = (key, Box::new(session.stats()));
            if self.kept.len() < KEPT_FACTS_MAX {
                self.report(MediaReport::Fact { call, fact, stats });
            } else {
                self.shared.gauges.unreported.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Answers are kept until taken: there are no more of them than commands.
    fn report(&mut self, report: MediaReport<K>) {
        self.kept.push_back(report);
    }

    fn deliver(&mut self) {
        while let Some(report) = self.kept.pop_front() {
            match (self.reports)(report) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(report)) => {
                    self.kept.push_front(report);
                    return;
                }
                // Nobody listens any more; the shutdown that follows closes everything.
                Err(mpsc::error::TrySendError::Closed(_)) => self.kept.clear(),
            }
        }
    }
}

/// The number of a socket: that of its call's place, and of its lane.
fn number(at: usize, lane: Lane) -> u64 {
    (at * Lane::COUNT + lane.number()) as u64
}
