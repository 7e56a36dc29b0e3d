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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use rand::SeedableRng;
use rand::rngs::StdRng;
use relay::{Channel, PacketBuffer, Plan, Side};
use tokio::sync::mpsc;

use super::call::{Batch, Call, Pair, Slot};
use super::ports::{Ports, Share};
use super::{
    Command, Deliver, Dscp, Knock, MediaConfig, MediaError, MediaFailure, MediaGauges, MediaPorts,
    MediaReport,
};

/// Events taken from the poller at once.
const EVENTS_MAX: usize = 256;
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

const WAKE: Token = Token(usize::MAX);

pub(super) struct Worker<K> {
    poll: Poll,
    commands: Receiver<Command<K>>,
    reports: Deliver<K>,
    knock: Arc<Knock>,
    kept: VecDeque<MediaReport<K>>,
    addresses: Vec<IpAddr>,
    dscp: Dscp,
    ports: Ports,
    calls: Vec<Option<Call<K>>>,
    vacant: Vec<usize>,
    index: HashMap<K, usize>,
    /// Sockets whose last batch ended early.
    unfinished: VecDeque<Token>,
    packet: PacketBuffer,
    next_tick: Instant,
    gauges: Arc<MediaGauges>,
}

#[derive(PartialEq, Eq)]
enum Turn {
    Go,
    More,
    Stop,
}

impl<K: Copy + Eq + Hash + Debug + Send + 'static> Worker<K> {
    pub(super) fn new(
        config: &MediaConfig,
        number: usize,
        commands: Receiver<Command<K>>,
        reports: Deliver<K>,
        gauges: Arc<MediaGauges>,
    ) -> Result<(Self, Arc<Knock>), MediaError> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let knock = Arc::new(Knock { waker, pending: AtomicBool::new(false) });
        let share = Share { offset: number, stride: config.workers };
        let worker = Worker {
            poll,
            commands,
            reports,
            knock: knock.clone(),
            kept: VecDeque::new(),
            addresses: config.addresses.clone(),
            dscp: config.dscp,
            ports: Ports::new(&config.ports, share, config.rest, StdRng::from_os_rng()),
            calls: Vec::new(),
            vacant: Vec::new(),
            index: HashMap::new(),
            unfinished: VecDeque::new(),
            packet: PacketBuffer::new(),
            next_tick: Instant::now() + TICK,
            gauges,
        };
        Ok((worker, knock))
    }

    /// Works until told to stop, or until nobody is left to tell it.
    pub(super) fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut turn = Turn::Go;
        while turn != Turn::Stop {
            if let Err(error) = self.poll.poll(&mut events, self.patience(&turn))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "a media worker cannot poll and ends");
                return;
            }
            self.knock.heard();
            turn = self.obey();
            let now = Instant::now();
            for _ in 0..self.unfinished.len() {
                if let Some(token) = self.unfinished.pop_front() {
                    self.on_readable(now, token);
                }
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.on_readable(now, event.token());
            }
            if now >= self.next_tick {
                self.on_tick(now);
            }
            self.deliver();
        }
    }

    fn patience(&self, turn: &Turn) -> Option<Duration> {
        if !self.unfinished.is_empty() || *turn == Turn::More {
            return Some(Duration::ZERO);
        }
        if !self.kept.is_empty() {
            return Some(RETRY);
        }
        let until_tick = self.next_tick.saturating_duration_since(Instant::now());
        (!self.index.is_empty()).then_some(until_tick)
    }

    fn obey(&mut self) -> Turn {
        for _ in 0..COMMANDS_PER_TURN {
            let now = Instant::now();
            match self.commands.try_recv() {
                Ok(Command::Allocate { call }) => {
                    let result = self.allocate(now, call);
                    self.report(MediaReport::Ready { call, result });
                }
                Ok(Command::Apply { call, plan }) => self.apply(now, call, *plan),
                Ok(Command::Release { call }) => {
                    if let Some(closed) = self.close(now, call) {
                        self.report(MediaReport::Released { call, stats: Box::new(closed.stats()) });
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
                self.ports.put_back(a.port);
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
            let Some(port) = self.ports.take(now) else { break };
            let address = self.addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            match Pair::bind(address, port, self.dscp) {
                Ok(pair) => return Ok(pair),
                Err(error) => {
                    self.give_back(now, port);
                    refusal = Some(error.to_string());
                }
            }
        }
        Err(match refusal {
            Some(error) => MediaFailure::Socket(error),
            None => MediaFailure::PortsExhausted { resting: self.ports.resting() },
        })
    }

    fn give_back(&mut self, now: Instant, port: u16) {
        let until = self.ports.give_back(now, port);
        self.gauges.rests(Some(until));
    }

    fn adopt(&mut self, mut call: Call<K>) -> Result<(), MediaFailure> {
        let at = self.vacant.pop().unwrap_or(self.calls.len());
        for (number, socket) in call.sockets.iter_mut().enumerate() {
            let token = Token(at * Slot::ALL.len() + number);
            if let Err(error) = self.poll.registry().register(socket, token, Interest::READABLE) {
                for port in call.ports {
                    self.ports.put_back(port);
                }
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
        self.gauges.calls.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn apply(&mut self, now: Instant, key: K, plan: Plan) {
        let Some(at) = self.index.get(&key).copied() else { return };
        if let Err(error) = self.follow_families(at, &plan) {
            tracing::warn!(%error, "no socket for RTP of the family of a peer");
            self.close(now, key);
            return self.report(MediaReport::Failed { call: key });
        }
        let Some(call) = self.calls.get_mut(at).and_then(Option::as_mut) else { return };
        let is_first = call.session.is_none();
        if let Err(error) = call.apply(plan, now) {
            self.report(MediaReport::PlanRefused { call: key, error });
        } else if is_first {
            // Who was faster than this plan is heard now.
            let first = at * Slot::ALL.len();
            self.unfinished.extend((first..first + Slot::ALL.len()).map(Token));
        }
    }

    /// Gives each side sockets of the family of its peer, on the ports that were announced. Who is faster than its first plan
    /// and of the other family is heard from then on only.
    fn follow_families(&mut self, at: usize, plan: &Plan) -> io::Result<()> {
        let Some(call) = self.calls.get_mut(at).and_then(Option::as_mut) else { return Ok(()) };
        for side in [Side::A, Side::B] {
            let remote = plan.leg(side).remote_rtp.ip();
            if call.speaks_with(side, remote) {
                continue;
            }
            let like = |own: &&IpAddr| own.is_ipv4() == remote.is_ipv4();
            let address = self.addresses.iter().find(like).ok_or(io::ErrorKind::AddrNotAvailable)?;
            let pair = Pair::bind(*address, call.port(side), self.dscp)?;
            for (channel, mut socket) in [(Channel::Rtp, pair.rtp), (Channel::Rtcp, pair.rtcp)] {
                let slot = Slot { side, channel };
                let token = Token(at * Slot::ALL.len() + slot.index());
                self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
                if let Some(mut former) = call.replace(slot, socket) {
                    self.poll.registry().deregister(&mut former)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the call out; its sockets close when the value is dropped.
    fn close(&mut self, now: Instant, key: K) -> Option<Call<K>> {
        let at = self.index.remove(&key)?;
        let call = self.calls.get_mut(at)?.take()?;
        self.vacant.push(at);
        for port in call.ports {
            self.give_back(now, port);
        }
        self.gauges.calls.fetch_sub(1, Ordering::Relaxed);
        Some(call)
    }

    fn on_readable(&mut self, now: Instant, token: Token) {
        let at = token.0 / Slot::ALL.len();
        let Some(slot) = Slot::ALL.get(token.0 % Slot::ALL.len()).copied() else { return };
        let Some(call) = self.calls.get_mut(at).and_then(Option::as_mut) else { return };
        let key = call.key;
        let (packet, mut unsent) = (&mut self.packet, 0);
        // A fault in one call must not end the others of this thread.
        let batch = catch_unwind(AssertUnwindSafe(|| call.relay_batch(now, slot, packet, &mut unsent)));
        if unsent > 0 {
            self.gauges.unsent.fetch_add(unsent, Ordering::Relaxed);
        }
        match batch {
            Ok(Batch::Drained) => {}
            Ok(Batch::More) => self.unfinished.push_back(token),
            Err(_) => {
                self.close(now, key);
                self.report(MediaReport::Failed { call: key });
            }
        }
        self.report_facts(at);
    }

    fn on_tick(&mut self, now: Instant) {
        self.next_tick = now + TICK;
        for at in 0..self.calls.len() {
            let Some(call) = self.calls.get_mut(at).and_then(Option::as_mut) else { continue };
            if let Some(session) = &mut call.session
                && session.poll_deadline().is_some_and(|due| due <= now)
            {
                session.handle_timeout(now);
                let mut unsent = 0;
                call.speak(now, &mut self.packet, &mut unsent);
                self.gauges.unsent.fetch_add(unsent, Ordering::Relaxed);
                self.report_facts(at);
            }
        }
    }

    fn report_facts(&mut self, at: usize) {
        loop {
            let Some(call) = self.calls.get_mut(at).and_then(Option::as_mut) else { return };
            let Some(session) = &mut call.session else { return };
            let Some(fact) = session.poll_fact() else { return };
            let (call, stats) = (call.key, Box::new(session.stats()));
            if self.kept.len() < KEPT_FACTS_MAX {
                self.report(MediaReport::Fact { call, fact, stats });
            } else {
                self.gauges.unreported.fetch_add(1, Ordering::Relaxed);
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
