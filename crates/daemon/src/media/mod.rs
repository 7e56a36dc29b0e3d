//! Media threads: the real sockets under the sans-IO relay.
//!
//! Owns the worker threads and how to speak with them: commands go in through bounded channels, reports
//! come out through one. Each call lives on one worker, which alone owns its ports, sockets, session and
//! buffer. Refuses to know signalling: a call is a key, a plan is what [`relay`] defines.

mod call;
mod direct;
mod lanes;
mod overflow;
mod placement;
mod ports;
mod readiness;
mod worker;

use std::fmt::Debug;
use std::hash::Hash;
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use relay::{Digit, Fact, Plan, PlanError, SessionStats, Side};
use thiserror::Error;
use tokio::sync::mpsc;

pub use lanes::RECEIVE_BUFFER_BYTES;
use placement::Placement;
use ports::Ports;
use readiness::Bell;
use worker::{Shared, Worker};

use crate::keep::Tape;

/// Commands that may wait for one worker.
const COMMANDS_MAX: usize = 4_096;
/// Reports that may wait to be read.
const REPORTS_MAX: usize = 4_096;
/// Worker threads at most.
pub const WORKERS_MAX: usize = 64;

/// What the media threads need to know.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaConfig {
    /// Addresses the RTP and RTCP ports are bound to, at most one of a family. The first is bound at first.
    pub addresses: Vec<IpAddr>,
    /// What marks every packet.
    pub dscp: Dscp,
    /// Ports to use; RTP takes the even ones, RTCP the odd ones above them.
    pub ports: RangeInclusive<u16>,
    /// Threads, 1 to [`WORKERS_MAX`].
    pub workers: usize,
    /// How long a released port pair rests before reuse.
    pub rest: Duration,
}

/// Differentiated services code point (RFC 2474 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dscp(u8);

impl Dscp {
    /// Expedited forwarding, for telephony (RFC 4594 §4.1).
    pub const EF: Dscp = Dscp(46);

    /// One of 0 to 63.
    pub fn new(value: u8) -> Option<Self> {
        (value < 64).then_some(Dscp(value))
    }

    /// By its name in RFC 2474, RFC 2597, RFC 3246 or RFC 5865.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let digits =
            |head: &str| name.strip_prefix(head).filter(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
        let value = match name.as_str() {
            "EF" => 46,
            "VA" | "VOICE-ADMIT" => 44,
            _ if digits("CS").is_some_and(|class| class.len() == 1) => digits("CS")?.parse::<u8>().ok()? * 8,
            _ => {
                let (class, drop) = digits("AF").filter(|both| both.len() == 2)?.split_at(1);
                let (class, drop): (u8, u8) = (class.parse().ok()?, drop.parse().ok()?);
                let is_defined = (1..=4).contains(&class) && (1..=3).contains(&drop);
                is_defined.then_some(class * 8 + drop * 2)?
            }
        };
        Self::new(value)
    }

    /// As a number.
    pub fn value(self) -> u8 {
        self.0
    }
}

/// A digit to be sent as an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Press {
    /// To which side.
    pub side: Side,
    /// Which one.
    pub digit: Digit,
    /// For how long.
    pub lasts: Duration,
}

/// The four ports of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaPorts {
    /// RTP toward the caller.
    pub a_rtp: u16,
    /// RTCP toward the caller.
    pub a_rtcp: u16,
    /// RTP toward the callee.
    pub b_rtp: u16,
    /// RTCP toward the callee.
    pub b_rtcp: u16,
}

/// Why a call got no ports.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MediaFailure {
    /// Every port pair of the worker is in use or resting.
    #[error("no RTP ports left ({resting} pairs are resting)")]
    PortsExhausted {
        /// Pairs that will come back after their rest.
        resting: usize,
    },
    /// The operating system gave no socket.
    #[error("no socket for RTP: {0}")]
    Socket(String),
    /// The call has ports already.
    #[error("the call has RTP ports already")]
    AlreadyAllocated,
}

/// What the media threads say.
#[derive(Debug, Clone, PartialEq)]
pub enum MediaReport<K> {
    /// Answer to [`MediaPool::allocate`].
    Ready {
        /// The call.
        call: K,
        /// Its ports.
        result: Result<MediaPorts, MediaFailure>,
    },
    /// Something happened to the media of a call.
    Fact {
        /// The call.
        call: K,
        /// What happened.
        fact: Fact,
        /// The counters at that moment.
        stats: Box<SessionStats>,
    },
    /// A plan was not carried out; what was in force before goes on.
    PlanRefused {
        /// The call.
        call: K,
        /// Why.
        error: PlanError,
    },
    /// Relaying a packet of this call failed badly; its ports are closed.
    Failed {
        /// The call.
        call: K,
    },
    /// Answer to [`MediaPool::release`]: ports closed, final counters.
    Released {
        /// The call.
        call: K,
        /// All zero if no plan was ever applied.
        stats: Box<SessionStats>,
    },
}

impl<K: Copy> MediaReport<K> {
    /// The call it is about.
    pub fn call(&self) -> K {
        match self {
            Self::Ready { call, .. }
            | Self::Fact { call, .. }
            | Self::PlanRefused { call, .. }
            | Self::Failed { call }
            | Self::Released { call, .. } => *call,
        }
    }
}

/// Why the media threads do not start, or take no more.
#[derive(Debug, Error)]
pub enum MediaError {
    /// The port range holds less than two even/odd pairs.
    #[error("the RTP port range has {pairs} even/odd pairs (a call takes two)")]
    RangeTooSmall {
        /// Pairs in the range.
        pairs: usize,
    },
    /// Not 1 to [`WORKERS_MAX`].
    #[error("{0} media workers; 1 to {WORKERS_MAX} are possible")]
    Workers(usize),
    /// The operating system refused a thread or a poller.
    #[error("media threads cannot start: {0}")]
    System(#[from] io::Error),
    /// The worker has too much to do to take another call.
    #[error("the media worker is overloaded")]
    Overloaded,
    /// The worker has ended.
    #[error("the media worker has ended")]
    Ended,
}

/// Takes a report without waiting, or gives it back.
pub type Deliver<K> =
    Arc<dyn Fn(MediaReport<K>) -> Result<(), mpsc::error::TrySendError<MediaReport<K>>> + Send + Sync>;

enum Command<K> {
    Allocate { call: K },
    Keep { call: K, number: u64 },
    Apply { call: K, plan: Box<Plan> },
    Press { call: K, press: Press },
    Release { call: K },
    Shutdown,
}

/// Counters of all workers together, and the ports they share.
#[derive(Debug)]
pub struct MediaGauges {
    pairs: usize,
    calls: AtomicUsize,
    unsent: AtomicU64,
    unreported: AtomicU64,
    ports: Mutex<Ports>,
}

impl MediaGauges {
    /// Port pairs of the range; a call takes two.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Calls that hold ports now.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Port pairs that rest after a call.
    pub fn resting(&self) -> usize {
        self.ports().resting(Instant::now())
    }

    /// Packets the operating system did not take.
    pub fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Facts that were lost because nobody read them in time.
    pub fn unreported(&self) -> u64 {
        self.unreported.load(Ordering::Relaxed)
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Handle<K> {
    commands: SyncSender<Command<K>>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

/// The media threads.
pub struct MediaPool<K> {
    workers: Vec<Handle<K>>,
    placement: Arc<Placement<K>>,
    gauges: Arc<MediaGauges>,
}

impl<K: Copy + Eq + Hash + Debug + Send + Sync + 'static> MediaPool<K> {
    /// Starts the threads; the receiver yields what they report.
    pub fn start(config: &MediaConfig) -> Result<(Self, mpsc::Receiver<MediaReport<K>>), MediaError> {
        let (reports, receiver) = mpsc::channel(REPORTS_MAX);
        let pool = Self::start_with(config, Arc::new(move |report| reports.try_send(report)), Vec::new())?;
        Ok((pool, receiver))
    }

    /// Starts the threads; they hand over what they report, and packets of kept calls by their tapes.
    pub fn start_with(
        config: &MediaConfig,
        deliver: Deliver<K>,
        tapes: Vec<Tape>,
    ) -> Result<Self, MediaError> {
        let workers = config.workers;
        if workers == 0 || workers > WORKERS_MAX {
            return Err(MediaError::Workers(workers));
        }
        let pairs = ports::pairs(&config.ports).count();
        if pairs < 2 {
            return Err(MediaError::RangeTooSmall { pairs });
        }
        let ports = Mutex::new(Ports::new(&config.ports, config.rest, StdRng::from_os_rng()));
        let counter = AtomicUsize::default();
        let [unsent, unreported] = <[AtomicU64; 2]>::default();
        let gauges = Arc::new(MediaGauges { pairs, calls: counter, unsent, unreported, ports });
        let placement = Arc::new(Placement::new(workers));
        let mut pool = MediaPool { workers: Vec::new(), placement, gauges };
        let mut tapes = tapes.into_iter();
        for number in 0..workers {
            pool.workers.push(pool.spawn(config, number, deliver.clone(), tapes.next())?);
        }
        Ok(pool)
    }

    /// Asks for ports; a [`MediaReport::Ready`] follows.
    pub fn allocate(&self, call: K) -> Result<(), MediaError> {
        let worker = self.workers.get(self.placement.place(call)).ok_or(MediaError::Ended)?;
        let result = match worker.commands.try_send(Command::Allocate { call }) {
            Ok(()) => return wake(worker),
            Err(TrySendError::Full(_)) => MediaError::Overloaded,
            Err(TrySendError::Disconnected(_)) => MediaError::Ended,
        };
        self.placement.leave(&call);
        Err(result)
    }

    /// Keeps the packets of a call that asked for ports, under this number.
    pub fn keep(&self, call: K, number: u64) -> Result<(), MediaError> {
        self.tell(&call, Command::Keep { call, number })
    }

    /// Puts a plan into force, the first or another; unknown calls are ignored.
    pub fn apply(&self, call: K, plan: Box<Plan>) -> Result<(), MediaError> {
        self.tell(&call, Command::Apply { call, plan })
    }

    /// Sends a digit as an event; unknown calls are ignored.
    pub fn press(&self, call: K, press: Press) -> Result<(), MediaError> {
        self.tell(&call, Command::Press { call, press })
    }

    /// Closes the ports of a call; a [`MediaReport::Released`] follows, unless the call is unknown.
    pub fn release(&self, call: K) -> Result<(), MediaError> {
        self.tell(&call, Command::Release { call })
    }

    /// Counters of all workers together.
    pub fn gauges(&self) -> Arc<MediaGauges> {
        self.gauges.clone()
    }

    /// Ends and joins the threads; every port is closed when this returns.
    pub fn shutdown(mut self) {
        self.end();
    }

    /// Waits while the worker's queue is full: unlike a new call, a plan or a release cannot be refused.
    fn tell(&self, call: &K, command: Command<K>) -> Result<(), MediaError> {
        let Some(at) = self.placement.find(call) else { return Ok(()) };
        let worker = self.workers.get(at).ok_or(MediaError::Ended)?;
        worker.commands.send(command).map_err(|_| MediaError::Ended)?;
        wake(worker)
    }

    fn spawn(
        &self,
        config: &MediaConfig,
        number: usize,
        reports: Deliver<K>,
        tape: Option<Tape>,
    ) -> Result<Handle<K>, MediaError> {
        let (commands, receiver) = sync_channel(COMMANDS_MAX);
        let shared = Shared { placement: self.placement.clone(), gauges: self.gauges.clone() };
        let (mut worker, bell) = Worker::new(config, receiver, reports, tape, shared)?;
        let thread =
            std::thread::Builder::new().name(format!("media-{number}")).spawn(move || worker.run())?;
        Ok(Handle { commands, bell, thread: Some(thread) })
    }
}

impl<K> MediaPool<K> {
    fn end(&mut self) {
        for worker in &self.workers {
            // A worker that has ended already needs no telling.
            let _ = worker.commands.send(Command::Shutdown);
            let _ = worker.bell.ring();
        }
        for thread in self.workers.iter_mut().filter_map(|worker| worker.thread.take()) {
            if thread.join().is_err() {
                tracing::error!("a media worker had panicked");
            }
        }
    }
}

impl<K> Drop for MediaPool<K> {
    fn drop(&mut self) {
        self.end();
    }
}

fn wake<K>(worker: &Handle<K>) -> Result<(), MediaError> {
    worker.bell.ring().map_err(MediaError::System)
}

#[cfg(test)]
mod tests;
