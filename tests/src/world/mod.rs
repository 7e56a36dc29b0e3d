//! The world: the gateway's engine, the lab's callers and UM servers, a network of ordered streams, media that is only bookkeeping, and one
//! clock, all moved by one seed. A step processes the earliest event. Owns time and order; refuses to know what a good outcome of a call is
//! (the tests do) and what must never happen ([`watch`] does).
//!
//! ```text
//!   callers ──bytes──▶ ┌────────┐ ──bytes──▶ Call Routers, UM services, workers
//!   (lab)   ◀─chunks── │ engine │ ◀─chunks── (lab)
//!                      └────────┘
//!            media ledger · connects · one queue of happenings · one clock
//! ```

pub mod cast;
pub mod ladder;
mod model;
pub mod net;
pub mod random;
mod restless;
pub mod site;
mod stage;
pub mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use b2bua::engine::{
    CallKey, Command, ConnectKey, Engine, EngineConfig, Input, MediaFailure, MediaPorts, QueryKey,
    ResolveFailure,
};
use b2bua::policy::Policy;
use b2bua::record::CallRecord;
use bytes::Bytes;
use lab::frontend::{CallEnd, CallOutcome, CallSpec, CallerCommand};
use lab::media::{MediaFact, MediaKey};
use lab::um::{Fault, UmCommand};
use sip::FlowKey;

use cast::{Actor, ActorId, Cue, Manners};
use ladder::Ladder;
use net::{End, Endpoint, Net, Weather};
use random::Random;
use site::Caller;
use watch::{Violation, Watch};

/// Steps after which a fair run is called endless.
const STEPS_MAX: u64 = 2_000_000;
/// Steps at one instant after which the clock is said to stand still.
const STEPS_AT_ONCE_MAX: u32 = 20_000;
/// Outputs one input may cause, and as many again per call when it concerns all of them.
const OUTPUTS_PER_INPUT_MAX: usize = 100;
/// Every so many steps all calls are compared with their models, and old books closed.
const REVIEW_EVERY: u64 = 64;

/// The weather of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seed of everything.
    pub seed: u64,
    /// The network.
    pub weather: Weather,
    /// How workers answer.
    pub manners: Manners,
    /// Time to open a connection.
    pub connect_time: (Duration, Duration),
    /// Connections of a hundred that take longer than the gateway waits.
    pub slow_connects: u64,
    /// Connections of a hundred that are refused.
    pub refused_connects: u64,
    /// Where the gateway finds the addresses of its second servers.
    pub names: Names,
    /// Media requests of a hundred that fail.
    pub media_failures: u64,
    /// Media requests of a hundred that are answered later than the gateway waits.
    pub media_late: u64,
    /// Calls of a hundred on which no media is ever heard.
    pub silent_calls: u64,
    /// Messages of a hundred that reach the gateway a second time, later: responses, and requests other than INVITE, ACK and CANCEL.
    pub echoes: u64,
    /// `max_calls_allowed` of the gateway.
    pub calls_max: usize,
    /// Steps after which the run is called endless.
    pub steps_max: u64,
    /// What is remembered.
    pub keeps: Keeps,
}

/// Where addresses come from.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Names {
    /// All are configured.
    Configured,
    /// Looked up: now one address, now a dead one before it, now none, now too late.
    LookedUp,
}

/// What a world remembers of calls that are over.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Keeps {
    /// Outcomes, records and plans.
    Everything,
    /// Their number.
    Counts,
}

/// Calls that are over, counted.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Callers who know what became of their call.
    pub outcomes: u64,
    /// Records the gateway wrote.
    pub records: u64,
    /// Records of calls that were answered.
    pub answered: u64,
    /// Media plans.
    pub plans: u64,
}

impl Settings {
    /// Fair weather.
    pub fn fair(seed: u64) -> Self {
        Self {
            seed,
            weather: Weather::fair(),
            manners: Manners::default(),
            connect_time: (Duration::from_millis(1), Duration::from_millis(12)),
            slow_connects: 0,
            refused_connects: 0,
            names: Names::Configured,
            media_failures: 0,
            media_late: 0,
            silent_calls: 0,
            echoes: 0,
            calls_max: site::CALLS_MAX,
            steps_max: STEPS_MAX,
            keeps: Keeps::Everything,
        }
    }
}

/// Something the test wants to happen.
#[derive(Clone, Debug)]
pub enum Act {
    /// A caller places a call under this number.
    Call(u64, Caller, CallEnd),
    /// Something is wrong with a server from now on, or no longer.
    Fault(ActorId, Fault),
    /// Connections to it are neither taken nor refused.
    BlackHole(ActorId),
    /// A caller asks whether the gateway is there.
    Options(Caller),
    /// A worker tells a mailbox's pool that a message waits.
    Notify(ActorId),
    /// A worker ends all its calls.
    HangUpAll(ActorId),
    /// The connection of a caller breaks.
    BreakCaller(Caller),
    /// One of the connections to servers breaks.
    BreakServer,
    /// A new policy.
    Policy(Arc<Policy>),
    /// Take no more calls; hang up the rest after that long.
    Drain(Option<Duration>),
    /// The operator hangs up the oldest call.
    HangUpOldest,
}

enum Happening {
    Act(Act),
    CallerConnects(ActorId),
    Chunk { flow: FlowKey, to: End, bytes: Bytes },
    Datagram { flow: FlowKey, to: End, bytes: Bytes },
    Echo { flow: FlowKey, bytes: Bytes },
    Connected { endpoint: Endpoint },
    Nobody { connect: ConnectKey },
    Resolved { query: QueryKey, result: Result<Vec<SocketAddr>, ResolveFailure> },
    CallerUnreached { connect: ConnectKey },
    Down { flow: FlowKey, end: End },
    Breaks { flow: FlowKey },
    MediaReady { call: CallKey, result: Result<MediaPorts, MediaFailure> },
    GatewayFact { call: CallKey, fact: relay::Fact },
    ActorMedia { actor: ActorId, key: MediaKey, fact: Box<MediaFact> },
}

/// What came of a placed call, seen by the caller; `Err` when it could not be placed.
pub type Outcome = Result<Box<CallOutcome>, String>;

/// Everything.
pub struct World {
    settings: Settings,
    random: Random,
    epoch: Instant,
    now: Duration,
    at_once: u32,
    steps: u64,
    engine: Engine,
    pending: VecDeque<Input>,
    cast: Vec<Actor>,
    black_holes: Vec<ActorId>,
    /// When each of the cast wants to be woken.
    wake: Vec<Option<Duration>>,
    lines: BTreeMap<ActorId, Vec<FlowKey>>,
    net: Net,
    queue: BTreeMap<(Duration, u64), Happening>,
    happenings: u64,
    media_ports: u16,
    watch: Watch,
    ladder: Ladder,
    counts: Counts,
    /// What callers saw, by call number.
    pub outcomes: BTreeMap<u64, Outcome>,
    /// What the gateway recorded, in order.
    pub records: Vec<CallRecord>,
    /// Media plans by call.
    pub plans: Vec<(CallKey, relay::Plan)>,
    /// The drain was announced as complete.
    pub drained: u32,
}

impl World {
    /// A site where all callers connect at the beginning.
    pub fn new(settings: Settings) -> Self {
        // The zero of virtual time; its value is not looked at.
        let epoch = Instant::now();
        let seed = settings.seed;
        let mut policy = site::policy();
        if settings.names == Names::LookedUp {
            site::forget_addresses(&mut policy);
        }
        policy.gateway.max_calls_allowed = settings.calls_max;
        let engine = Engine::new(EngineConfig::new(seed, [seed as u8; 32], epoch), Arc::new(policy));
        let cast = cast::cast(Random::new(!seed).draw(), &settings.manners);
        let mut world = Self {
            random: Random::new(seed),
            epoch,
            now: Duration::ZERO,
            at_once: 0,
            steps: 0,
            engine,
            pending: VecDeque::new(),
            ladder: Ladder::new(cast.iter().map(|actor| actor.name.clone()).collect()),
            wake: vec![None; cast.len()],
            cast,
            black_holes: Vec::new(),
            lines: BTreeMap::new(),
            net: Net::default(),
            queue: BTreeMap::new(),
            happenings: 0,
            media_ports: 0,
            watch: Watch::default(),
            counts: Counts::default(),
            outcomes: BTreeMap::new(),
            records: Vec::new(),
            plans: Vec::new(),
            drained: 0,
            settings,
        };
        for actor in 0..world.cast.len() {
            for _ in 0..world.cast[actor].caller.map_or(0, |_| world.cast[actor].lines()) {
                world.plan(Duration::ZERO, Happening::CallerConnects(actor));
            }
        }
        world
    }

    /// Schedules an act at that time of the run.
    pub fn at(&mut self, at: Duration, act: Act) {
        self.plan(at, Happening::Act(act));
    }

    /// An actor by its name in the ladder, for example `cas01` or `mbx02/worker0`.
    pub fn actor(&self, name: &str) -> ActorId {
        self.cast.iter().position(|actor| actor.name == name).unwrap_or_default()
    }

    /// Names of all servers of the play.
    pub fn servers(&self) -> Vec<ActorId> {
        (0..self.cast.len()).filter(|id| self.cast[*id].caller.is_none()).collect()
    }

    /// The workers among them.
    pub fn workers(&self) -> Vec<ActorId> {
        (0..self.cast.len()).filter(|id| self.cast[*id].is_worker()).collect()
    }

    /// Calls that are over.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The dice, for tests that draw their acts from the same seed.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Running hash of everything that happened.
    pub fn hash(&self) -> u64 {
        self.ladder.hash()
    }

    /// The ladder of these Call-IDs, or the last lines of everything.
    pub fn story(&self, call_ids: &[String]) -> String {
        self.ladder.print(call_ids)
    }

    /// How the engine stands.
    pub fn status(&self) -> b2bua::engine::EngineStatus {
        self.engine.status()
    }

    /// Virtual time since the beginning.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Runs until nothing is left to happen, then checks that nothing is left over. `Err` is the broken rule with seed, step and ladder.
    pub fn run(&mut self) -> Result<(), String> {
        while self.step()? {}
        self.finish()
    }

    /// Nothing may be left over now.
    fn finish(&mut self) -> Result<(), String> {
        self.watch.doubt_all();
        self.compare();
        let open = self.net.up(End::Gateway).count();
        self.watch.finish(&self.engine.status(), open);
        for actor in self.cast.iter().filter(|actor| actor.calls() > 0) {
            let rule = format!("{} still has {} calls", actor.name, actor.calls());
            self.watch.break_rule(rule, Vec::new());
        }
        self.verdict()
    }

    /// Runs until that time of the run.
    pub fn run_until(&mut self, until: Duration) -> Result<(), String> {
        while self.next_time().is_some_and(|at| at <= until) {
            self.step()?;
        }
        self.now = self.now.max(until);
        Ok(())
    }

    /// Processes the earliest event; false when there is none.
    pub fn step(&mut self) -> Result<bool, String> {
        let Some(at) = self.next_time() else { return Ok(false) };
        if at > self.now {
            self.at_once = 0;
            self.now = at;
        }
        self.at_once += 1;
        self.steps += 1;
        if self.at_once > STEPS_AT_ONCE_MAX || self.steps > self.settings.steps_max {
            let deadline = self.engine.poll_deadline().map(|(_, why)| why);
            self.watch.break_rule(format!("time goes on (engine waits for {deadline:?})"), Vec::new());
        }
        self.process();
        if self.steps.is_multiple_of(REVIEW_EVERY) {
            self.watch.doubt_all();
            self.watch.close_old(self.now);
        }
        self.compare();
        self.verdict()?;
        Ok(true)
    }

    fn compare(&mut self) {
        self.watch.compare(|call| self.engine.state_of(CallKey::from_u64(call)));
    }

    fn next_time(&self) -> Option<Duration> {
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        let engine = self.engine.poll_deadline().map(|(at, _)| self.since_epoch(at));
        let actors = self.wake.iter().filter_map(|at| *at);
        actors.chain(queued).chain(engine).min().map(|at| at.max(self.now))
    }

    // What is queued comes first, then the engine's timers, then the actors'.
    fn process(&mut self) {
        if self.queue.keys().next().is_some_and(|(at, _)| *at <= self.now)
            && let Some((_, happening)) = self.queue.pop_first()
        {
            return self.happen(happening);
        }
        let is_due = |at: Instant| at.saturating_duration_since(self.epoch) <= self.now;
        if self.engine.poll_deadline().is_some_and(|(at, _)| is_due(at)) {
            return self.tell_engine(Input::Timeout);
        }
        let due = self.wake.iter().position(|at| at.is_some_and(|at| at <= self.now));
        if let Some(actor) = due {
            self.tell_actor(actor, Cue::Input(lab::machine::Input::Timeout));
        }
    }

    fn verdict(&self) -> Result<(), String> {
        match self.watch.violation() {
            None => Ok(()),
            Some(Violation { rule, call_ids }) => Err(format!(
                "broken rule: {rule}\nseed {}, step {}, {:.6} s, calls {call_ids:?}\n{}",
                self.settings.seed,
                self.steps,
                self.now.as_secs_f64(),
                self.ladder.print(call_ids)
            )),
        }
    }

    fn since_epoch(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    fn instant(&self) -> Instant {
        self.epoch + self.now
    }

    fn plan(&mut self, at: Duration, happening: Happening) {
        self.happenings += 1;
        self.queue.insert((at.max(self.now), self.happenings), happening);
    }

    fn plan_in(&mut self, from: Duration, to: Duration, happening: Happening) {
        let at = self.now + self.random.between(from, to);
        self.plan(at, happening);
    }

    fn note(&mut self, text: String) {
        self.ladder.note(self.now, text);
    }

    fn news(&mut self, text: String) {
        self.ladder.news(self.now, text);
    }

    fn act(&mut self, act: Act) {
        let name = act_name(&act, &self.cast);
        match act {
            Act::Call(..) => self.news(name),
            _ => self.note(name),
        }
        match act {
            Act::Call(id, caller, end) => self.place(id, caller, end),
            Act::Fault(actor, fault) => self.set_fault(actor, fault),
            Act::BlackHole(actor) => self.black_holes.push(actor),
            Act::Options(caller) => {
                let asks: Vec<ActorId> =
                    (0..self.cast.len()).filter(|id| self.cast[*id].caller == Some(caller)).collect();
                let uri = "sip:umbra.contoso.com".to_owned();
                if let Some(actor) = self.random.pick(&asks).copied() {
                    self.tell_actor(actor, Cue::Caller(CallerCommand::Options { id: self.steps, uri }));
                }
            }
            Act::Notify(actor) => self.tell_actor(actor, Cue::Notify(format!("ken@{}", site::DOMAIN))),
            Act::HangUpAll(actor) => self.tell_actor(actor, Cue::Um(UmCommand::HangUpAll)),
            Act::BreakCaller(caller) => {
                let of_it = |id: &ActorId| self.cast[*id].caller == Some(caller);
                let lines = self.lines.iter().filter(|(id, _)| of_it(id)).flat_map(|(_, flows)| flows);
                let up: Vec<FlowKey> = lines.copied().collect();
                if let Some(flow) = self.random.pick(&up).copied() {
                    self.break_connection(flow);
                }
            }
            Act::BreakServer => {
                let is_out = |c: &&net::Connection| c.endpoint.is_some();
                let up: Vec<FlowKey> = self.net.up(End::Gateway).filter(is_out).map(|c| c.key).collect();
                if let Some(flow) = self.random.pick(&up).copied() {
                    self.break_connection(flow);
                }
            }
            Act::Policy(policy) => self.tell_engine(Input::Policy(policy)),
            Act::Drain(after) => {
                let until = after.map(|after| self.instant() + after);
                self.tell_engine(Input::Drain { until });
            }
            Act::HangUpOldest => {
                let oldest = self.engine.status().call_list.into_iter().min_by_key(|call| call.since);
                if let Some(call) = oldest {
                    self.tell_engine(Input::Command(Command::HangUp(call.call)));
                }
            }
        }
    }

    fn place(&mut self, id: u64, caller: Caller, end: CallEnd) {
        let members: Vec<ActorId> =
            (0..self.cast.len()).filter(|id| self.cast[*id].caller == Some(caller)).collect();
        let actor = members[id as usize % members.len()];
        if self.lines.get(&actor).is_none_or(Vec::is_empty) {
            let later = self.now + Duration::from_millis(100);
            return self.plan(later, Happening::Act(Act::Call(id, caller, end)));
        }
        let spec = CallSpec {
            shape: caller.shape(),
            talk: None,
            end,
            time_limit: Duration::from_secs(60),
            ..CallSpec::call_answering(caller.mailbox(), "dana", site::DOMAIN)
        };
        self.tell_actor(actor, Cue::Caller(CallerCommand::Place { id, spec: Box::new(spec) }));
    }

    fn set_fault(&mut self, actor: ActorId, fault: Fault) {
        self.black_holes.retain(|hole| *hole != actor);
        self.cast[actor].is_listening = fault != Fault::Dead;
        if fault == Fault::Dead {
            let cut: Vec<FlowKey> =
                self.net.up(End::Far).filter(|c| c.actor == actor).map(|c| c.key).collect();
            cut.into_iter().for_each(|flow| self.break_connection(flow));
        }
        self.tell_actor(actor, Cue::Um(UmCommand::Fault(fault)));
    }
}

/// A panic inside a step, or a failed assertion of a test, is told with its story too.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() && self.watch.violation().is_none() {
            let at = self.now.as_secs_f64();
            eprintln!(
                "seed {}, step {}, {at:.6} s\n{}",
                self.settings.seed,
                self.steps,
                self.ladder.print(&[])
            );
        }
    }
}

fn act_name(act: &Act, cast: &[Actor]) -> String {
    let name = |id: &ActorId| cast.get(*id).map_or("nobody", |actor| actor.name.as_str()).to_owned();
    match act {
        Act::Call(id, caller, end) => format!("call {id} by {caller:?}, {end:?}"),
        Act::Fault(actor, fault) => format!("{} becomes {fault:?}", name(actor)),
        Act::BlackHole(actor) => format!("{} becomes a black hole", name(actor)),
        Act::HangUpAll(actor) => format!("{} hangs up all calls", name(actor)),
        Act::Notify(actor) => format!("{} has a message for somebody", name(actor)),
        Act::Policy(_) => "new policy".to_owned(),
        other => format!("{other:?}"),
    }
}
