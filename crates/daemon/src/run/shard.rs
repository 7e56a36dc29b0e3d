//! One signalling thread: the loop around a poller. Owns the order of a turn (errands, what can be read, deadlines, one
//! write for each connection that has something to say) and its budgets; refuses to know what messages mean.
//!
//! A message goes from the socket into the engine and its answers into the connections' buffers without leaving the
//! thread. How long work waited before its turn is measured here and told to the engine, which refuses new calls when
//! the wait stays too long.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use b2bua::Policy;
use b2bua::engine::{FlowLoss, Input};
use bytes::Bytes;
use mio::{Events, Interest, Poll, Token};
use sip::FlowKey;
use tracing::{debug, error};

use super::pump::Pump;
use crate::media::MediaReport;
use crate::net::{
    Arrived, Control, DATAGRAM_BYTES_MAX, Due, Endpoint, Errand, Errands, FlowFacts, Found, Heard, Leave,
    Opened, ReadEnd, Sender, Standing, is_keep_alive, sender,
};

/// Events taken from the poller at once.
const EVENTS_MAX: usize = 1_024;
/// Bytes read from one connection before others get their turn; the buffer is the thread's, not the connection's.
const READ_BYTES: usize = 64 * 1024;
/// Errands done before connections get their turn.
const ERRANDS_PER_TURN: usize = 256;
/// Datagrams read from one socket in a turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// How often gauges are refreshed and the end of a drain is looked for.
const TICK: Duration = Duration::from_millis(250);
/// How often UDP flows without traffic and adopted Call-IDs without dialogs are looked for.
const SWEEP: Duration = Duration::from_secs(30);
/// How soon a full inbox of another shard is tried again.
const RETRY: Duration = Duration::from_millis(1);
/// The engine hears of the waiting at most this often.
const WAIT_INTERVAL: Duration = Duration::from_millis(100);
/// A poll that took longer than this had nothing to do when it began.
const IDLE_POLL: Duration = Duration::from_micros(200);
/// How long the end waits for last bytes and for the last media counters.
const END_MAX: Duration = Duration::from_millis(1_500);

/// Token of knocks at the inbox.
pub(super) const KNOCK: Token = Token(usize::MAX);
/// Token of the first UDP socket; the others count down from it.
const FIRST_PORT: usize = usize::MAX - 1;

/// A signalling thread before and while it runs.
pub(super) struct Shard {
    pub(super) poll: Poll,
    pub(super) errands: Errands,
    pub(super) pump: Pump,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    turn: Turn,
    scratch: Box<[u8]>,
    messages: Vec<Bytes>,
    dirty: Vec<FlowKey>,
}

/// What the present turn knows about time.
struct Turn {
    /// Connections that have something to read, each with the time since when.
    ready: VecDeque<(FlowKey, Instant)>,
    /// Sockets that have datagrams, by number.
    ready_ports: Vec<usize>,
    /// When the poller last returned.
    woke: Instant,
    /// Shortest wait of the present interval: a queue that stands keeps everybody waiting, a hiccup does not.
    wait_min: Option<Duration>,
    wait_told: Instant,
    next_tick: Instant,
    next_sweep: Instant,
    /// Another shard's inbox is full: no more is read until it has room.
    is_backed_up: bool,
    stopping: Option<Instant>,
}

impl Shard {
    /// Ready to run.
    pub(super) fn new(
        poll: Poll,
        errands: Errands,
        mut pump: Pump,
        policy: Arc<ArcSwap<Policy>>,
    ) -> io::Result<Self> {
        for (number, port) in pump.ports.iter_mut().enumerate() {
            poll.registry().register(port.source(), Token(FIRST_PORT - number), Interest::READABLE)?;
        }
        let now = Instant::now();
        let turn = Turn {
            ready: VecDeque::new(),
            ready_ports: (0..pump.ports.len()).collect(),
            woke: now,
            wait_min: None,
            wait_told: now,
            next_tick: now + TICK,
            next_sweep: now + SWEEP,
            is_backed_up: false,
            stopping: None,
        };
        let scratch = vec![0; READ_BYTES.max(DATAGRAM_BYTES_MAX)].into_boxed_slice();
        Ok(Self { poll, errands, pump, policy, turn, scratch, messages: Vec::new(), dirty: Vec::new() })
    }

    /// Works until told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        // Begin with whatever the engine wants before any input.
        self.pump.drain_outputs();
        while !self.is_over() {
            let asked = Instant::now();
            let patience = self.patience(asked);
            if let Err(error) = self.poll.poll(&mut events, Some(patience))
                && error.kind() != io::ErrorKind::Interrupted
            {
                error!(%error, "a signalling thread cannot poll and ends");
                return;
            }
            let woke = Instant::now();
            // What became ready while the last turn went on waits since then, at the most.
            let since = if woke - asked > IDLE_POLL { woke } else { self.turn.woke };
            self.turn.woke = woke;
            self.sort(&events, since);
            self.do_errands();
            self.turn.is_backed_up = self.pump.retry_posts();
            if !self.turn.is_backed_up {
                self.read_ports(since);
                self.read_connections();
            }
            self.watch_time();
            self.write();
        }
        for (call, record) in self.pump.held.take_all() {
            self.pump.report_ended(Some(call), record);
        }
    }

    fn patience(&self, now: Instant) -> Duration {
        let turn = &self.turn;
        let can_read = !turn.ready.is_empty() || !turn.ready_ports.is_empty();
        if !self.errands.is_empty() || can_read && !turn.is_backed_up {
            return Duration::ZERO;
        }
        if turn.is_backed_up {
            return RETRY;
        }
        let engine = self.pump.engine.poll_deadline().map(|(at, _)| at);
        let deadlines = [engine, self.pump.slots.next_deadline(), turn.stopping, Some(turn.next_tick)];
        let next = deadlines.into_iter().flatten().min().unwrap_or(turn.next_tick);
        next.saturating_duration_since(now)
    }

    fn is_over(&self) -> bool {
        let is_quiet = self.pump.slots.is_empty() && self.pump.held.is_empty();
        self.turn.stopping.is_some_and(|until| is_quiet || until <= Instant::now())
    }

    fn sort(&mut self, events: &Events, since: Instant) {
        for event in events {
            if event.token() == KNOCK {
                continue;
            }
            let port = FIRST_PORT - event.token().0;
            if port < self.pump.ports.len() {
                if !self.turn.ready_ports.contains(&port) {
                    self.turn.ready_ports.push(port);
                }
                continue;
            }
            let Some(key) = self.pump.slots.key_of(event.token()) else { continue };
            if event.is_writable() {
                self.pump.slots.touch(key);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.make_ready(key, since, event.is_read_closed());
            }
        }
    }

    fn make_ready(&mut self, key: FlowKey, since: Instant, is_end: bool) {
        let Some(connection) = self.pump.slots.connection(key) else { return };
        if connection.become_ready(is_end) {
            self.turn.ready.push_back((key, since));
        }
    }

    // --- errands -----------------------------------------------------------------------------------------------

    fn do_errands(&mut self) {
        self.errands.heard();
        for _ in 0..ERRANDS_PER_TURN {
            let Some(errand) = self.errands.take() else { return };
            match (self.turn.stopping, errand) {
                (None, errand) => self.do_errand(errand),
                // At the end only the last counters matter.
                (Some(_), Errand::Media(report @ MediaReport::Released { .. })) => self.pump.on_media(report),
                (Some(_), _) => {}
            }
        }
    }

    fn do_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Adopt(arrived) => {
                if let Some(standing) = self.adopt(*arrived, Opened::ByPeer) {
                    let key = standing.facts.key;
                    self.pump.up(standing);
                    self.read_early(key);
                }
            }
            Errand::Dialled { endpoint, result: Ok(arrived) } => self.take_dialled(endpoint, *arrived),
            Errand::Dialled { endpoint, result: Err(why) } => self.pump.dial_failed(&endpoint, &why),
            Errand::Connected { connect, facts } => {
                let origin = b2bua::engine::Origin::Outbound(connect);
                self.pump.feed(super::pump::flow_up(*facts, origin));
            }
            Errand::ConnectFailed { connect, why } => self.pump.feed(Input::ConnectFailed { connect, why }),
            Errand::Up { facts, inbound } => self.pump.learn(*facts, inbound),
            Errand::Down { flow, why } => self.pump.forget(flow, why),
            Errand::Retire(flow, newcomers) => self.pump.retire(flow, newcomers),
            Errand::Message { flow, bytes, since } => {
                self.turn.sample(since);
                self.pump.place(flow, bytes, since);
            }
            Errand::Held { flow, bytes, since } => {
                self.turn.sample(since);
                self.pump.take_held(flow, bytes);
            }
            Errand::Name { flow, bytes, asker } => self.pump.name(flow, bytes, asker),
            Errand::Send { flow, bytes } => self.pump.send_own(flow, &bytes),
            Errand::Close(flow) => self.pump.close_own(flow),
            Errand::Answer(input) => self.pump.feed(*input),
            Errand::Media(report) => self.pump.on_media(report),
            Errand::Control(Control::Stop) => self.begin_end(),
            Errand::Control(control) => self.pump.on_control(control),
        }
    }

    fn take_dialled(&mut self, endpoint: Endpoint, mut arrived: Arrived) {
        let credentials = arrived.credentials.take();
        match self.adopt(arrived, Opened::ByUs) {
            Some(standing) => {
                let key = standing.facts.key;
                self.pump.dialled(endpoint, standing, credentials);
                self.read_early(key);
            }
            None => self.pump.dial_failed(&endpoint, &no_room()),
        }
    }

    fn adopt(&mut self, mut arrived: Arrived, opened: Opened) -> Option<Standing> {
        let tls = arrived.tls.take();
        let Arrived { transport, local, remote, ref peer, .. } = arrived;
        let peer = peer.clone();
        match self.pump.slots.adopt(Instant::now(), arrived, &self.pump.context.limits) {
            Ok(key) => {
                let facts = FlowFacts { key, transport, local, remote, peer, made_for: None };
                Some(Standing { facts, opened, tls })
            }
            Err(error) => {
                debug!(%error, %remote, "the poller did not take a connection");
                self.pump.context.metrics.dropped("not_adopted");
                None
            }
        }
    }

    fn begin_end(&mut self) {
        self.turn.stopping = Some(Instant::now() + END_MAX);
        for key in self.pump.slots.connections() {
            if let Some(connection) = self.pump.slots.connection(key) {
                connection.leave(Instant::now(), Leave::AtOnce);
                self.pump.context.flows.leave(key);
                self.pump.slots.touch(key);
                self.pump.slots.arm(key, &self.pump.context.limits);
            }
        }
        for port in &mut self.pump.ports {
            port.close_all(&mut self.pump.slots);
        }
    }

    // --- reading -----------------------------------------------------------------------------------------------

    fn read_early(&mut self, key: FlowKey) {
        let now = Instant::now();
        let Some(connection) = self.pump.slots.connection(key) else { return };
        let read = connection.read_early(now, &mut self.messages);
        self.deliver(key, now);
        match read {
            Ok(()) => {
                // A message that only began has its own deadline from now on.
                self.pump.slots.touch(key);
                self.pump.slots.arm(key, &self.pump.context.limits);
            }
            Err(end) => self.end(key, &end),
        }
    }

    /// One read for each connection that is ready; who has more stands behind the others.
    fn read_connections(&mut self) {
        for _ in 0..self.turn.ready.len() {
            if let Some((key, since)) = self.turn.ready.pop_front() {
                self.read(key, since);
            }
        }
    }

    fn read(&mut self, key: FlowKey, since: Instant) {
        let Some(connection) = self.pump.slots.connection(key) else { return };
        if !connection.may_read() {
            // The write that makes room makes it ready again.
            return;
        }
        let now = Instant::now();
        let read = connection.read(now, &mut self.scratch, &mut self.messages);
        if !self.messages.is_empty() {
            self.turn.sample(since);
        }
        self.deliver(key, since);
        match read {
            Ok(Heard::More) => self.turn.ready.push_back((key, since)),
            Ok(_) => {
                if let Some(connection) = self.pump.slots.connection(key) {
                    if connection.rest() {
                        // The peer closed while its last bytes were on the way.
                        self.turn.ready.push_back((key, since));
                    }
                    if connection.wants_write() || connection.has_left() {
                        self.pump.slots.touch(key);
                    }
                    self.pump.slots.arm(key, &self.pump.context.limits);
                }
            }
            Err(end) => self.end(key, &end),
        }
    }

    fn deliver(&mut self, key: FlowKey, since: Instant) {
        let mut messages = std::mem::take(&mut self.messages);
        for bytes in messages.drain(..) {
            self.pump.on_message(key, bytes, since);
        }
        self.messages = messages;
    }

    /// Nothing more will be read from it.
    fn end(&mut self, key: FlowKey, end: &ReadEnd) {
        let Some(connection) = self.pump.slots.connection(key) else { return };
        let was_open = connection.is_open();
        match end {
            ReadEnd::Closed if was_open => connection.leave(Instant::now(), Leave::AtOnce),
            ReadEnd::FramingLost { fault, answer } => {
                debug!(flow = key.0, %fault, "framing lost, closing");
                self.pump.context.metrics.dropped("framing_lost");
                if let Some(answer) = answer {
                    // A peer that leaves its answers lying gets none.
                    let _full = connection.send(answer);
                }
                connection.leave(Instant::now(), Leave::HearOut);
                self.turn.ready.push_back((key, Instant::now()));
            }
            ReadEnd::Closed | ReadEnd::Error => {
                self.pump.slots.remove(key);
            }
        }
        self.pump.slots.arm(key, &self.pump.context.limits);
        self.pump.slots.touch(key);
        if was_open {
            self.pump.down(key, end.loss());
        }
    }

    fn read_ports(&mut self, since: Instant) {
        for number in std::mem::take(&mut self.turn.ready_ports) {
            // A socket that still has datagrams stands behind the connections.
            if self.read_port(number, since) == Heard::More {
                self.turn.ready_ports.push(number);
            }
        }
    }

    fn read_port(&mut self, number: usize, since: Instant) -> Heard {
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some(port) = self.pump.ports.get(number) else { return Heard::End };
            match port.receive(&mut self.scratch) {
                Ok((count, remote)) => self.on_datagram(number, count, remote, since),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Drained,
                Err(_) => {}
            }
        }
        Heard::More
    }

    fn on_datagram(&mut self, number: usize, count: usize, remote: std::net::SocketAddr, since: Instant) {
        let said = self.scratch.get(..count).unwrap_or_default();
        let who = sender(&self.policy.load(), remote.ip());
        if is_keep_alive(said) || self.turn.stopping.is_some() {
            return;
        }
        if who != Sender::Peer {
            self.pump.context.metrics.unknown_peer();
        }
        if who == Sender::Unwelcome {
            return;
        }
        let bytes = Bytes::copy_from_slice(said);
        let now = Instant::now();
        let Some(port) = self.pump.ports.get_mut(number) else { return };
        let found = match who {
            Sender::Peer => port.flow(now, number, remote, &mut self.pump.slots, &self.pump.context.limits),
            _ => Some(port.strangers(now, number, remote, &mut self.pump.slots)),
        };
        let key = match found {
            None => return self.pump.context.metrics.dropped("too_many_udp_flows"),
            Some(Found::Old(key)) => key,
            Some(Found::New(facts)) => {
                let key = facts.key;
                self.pump.up(Standing { facts, opened: Opened::ByPeer, tls: None });
                key
            }
        };
        self.turn.sample(since);
        match who {
            // Answered here and now: the flow belongs to the next stranger at once.
            Sender::Rejected => self.pump.take_message(key, bytes),
            _ => self.pump.on_message(key, bytes, since),
        }
    }

    // --- time and writing --------------------------------------------------------------------------------------

    fn watch_time(&mut self) {
        let now = Instant::now();
        while let Some((key, due)) = self.pump.slots.pop_due(now, &self.pump.context.limits) {
            self.on_due(key, due);
        }
        if self.turn.stopping.is_some() {
            return;
        }
        if self.pump.engine.poll_deadline().is_some_and(|(at, _)| at <= now) {
            self.pump.feed(Input::Timeout);
        }
        if let Some(waited) = self.turn.wait_to_tell(now) {
            self.pump.feed(Input::QueueWait(waited));
        }
        if now >= self.turn.next_tick {
            self.turn.next_tick = now + TICK;
            self.pump.on_tick();
        }
        if now >= self.turn.next_sweep {
            self.turn.next_sweep = now + SWEEP;
            self.pump.sweep_adopted(now);
            for number in 0..self.pump.ports.len() {
                let Some(port) = self.pump.ports.get_mut(number) else { continue };
                for flow in port.forget_idle(now, &mut self.pump.slots) {
                    self.pump.slots.remove(flow);
                    self.pump.down(flow, FlowLoss::Idle);
                }
            }
        }
    }

    fn on_due(&mut self, key: FlowKey, due: Due) {
        let why = match due {
            Due::Nothing => return,
            Due::Idle => FlowLoss::Idle,
            Due::PartialMessage => {
                self.pump.context.metrics.dropped("partial_message");
                self.refuse_partial(key);
                FlowLoss::Idle
            }
            Due::Stuck => {
                self.pump.context.metrics.dropped("slow_reader");
                self.pump.slots.remove(key);
                return self.pump.down(key, FlowLoss::Error);
            }
            Due::Left => {
                self.pump.slots.remove(key);
                return;
            }
        };
        if let Some(connection) = self.pump.slots.connection(key) {
            connection.leave(Instant::now(), Leave::AtOnce);
        }
        self.pump.slots.touch(key);
        self.pump.slots.arm(key, &self.pump.context.limits);
        self.pump.down(key, why);
    }

    fn refuse_partial(&mut self, key: FlowKey) {
        let Some(connection) = self.pump.slots.connection(key) else { return };
        if let Some(answer) = connection.refusal_of_partial() {
            // A peer that leaves its answers lying gets none.
            let _full = connection.send(&answer);
        }
    }

    /// One write for each connection that has something to say.
    fn write(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.pump.slots.take_dirty(&mut dirty);
        let now = Instant::now();
        for key in dirty.drain(..) {
            let Some(connection) = self.pump.slots.connection(key) else { continue };
            let flushed = connection.flush(now);
            let (was_open, has_left) = (connection.is_open(), connection.has_left());
            if flushed.is_err() || has_left {
                self.pump.slots.remove(key);
                if was_open {
                    self.pump.down(key, FlowLoss::Error);
                }
                continue;
            }
            if connection.resume() {
                self.turn.ready.push_back((key, now));
            }
            if connection.is_stuck() {
                self.pump.slots.arm(key, &self.pump.context.limits);
            }
        }
        self.dirty = dirty;
    }
}

impl Turn {
    fn sample(&mut self, since: Instant) {
        let waited = since.elapsed();
        self.wait_min = Some(self.wait_min.map_or(waited, |least| least.min(waited)));
    }

    fn wait_to_tell(&mut self, now: Instant) -> Option<Duration> {
        if now - self.wait_told < WAIT_INTERVAL {
            return None;
        }
        self.wait_told = now;
        self.wait_min.take()
    }
}

fn no_room() -> b2bua::engine::ConnectFailure {
    let kind = b2bua::engine::ConnectFailureKind::Local;
    b2bua::engine::ConnectFailure { kind, detail: String::from("the poller did not take the connection") }
}
