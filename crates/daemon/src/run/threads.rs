//! The threads of a gateway: one signalling thread for each shard, and the media threads they share. Owns their start
//! and their end; refuses to know what they do.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::ArcSwap;
use b2bua::Policy;
use b2bua::engine::{Counted, Engine, EngineConfig, Ledger, Sharding};
use dashmap::DashMap;
use mio::Poll;
use tokio::sync::watch;
use tracing::error;

use super::adopted::Adopted;
use super::gateway::StartError;
use super::held::Held;
use super::pump::{Over, Pump};
use super::settings::Settings;
use super::shard::{KNOCK, Shard};
use crate::keep::{KeepSettings, KeepWriter, Keeper, Keeping, Tape};
use crate::media::{Deliver, MediaGauges, MediaPool};
use crate::net::{Errands, Inbox, MediaKey, NetContext, SHARDS_MAX, Slots, UdpPort, inbox};
use crate::observe::{RecordSender, Reporter};
use crate::trace::Lines;

/// The ways into shards that do not run yet.
pub(super) struct Built {
    shards: Vec<(Poll, Inbox, Errands)>,
    ports: Vec<UdpPort>,
}

impl Built {
    /// Pollers and inboxes; the first shard gets the UDP sockets.
    pub(super) fn new(shards: u16, udp: Vec<std::net::UdpSocket>) -> io::Result<Self> {
        let build = |_| {
            let poll = Poll::new()?;
            let (inbox, errands) = inbox(poll.registry(), KNOCK)?;
            io::Result::Ok((poll, inbox, errands))
        };
        let shards = (0..usize::from(shards).clamp(1, SHARDS_MAX)).map(build).collect::<io::Result<_>>()?;
        Ok(Self { shards, ports: udp.into_iter().map(UdpPort::new).collect::<io::Result<_>>()? })
    }

    pub(super) fn inboxes(&self) -> Vec<Inbox> {
        self.shards.iter().map(|(_, inbox, _)| inbox.clone()).collect()
    }
}

/// The running threads.
pub(super) struct Threads {
    shards: Vec<JoinHandle<()>>,
    media: Arc<MediaPool<MediaKey>>,
    drained: Vec<watch::Receiver<bool>>,
    writer: Option<KeepWriter>,
}

impl Threads {
    /// Starts them all.
    pub(super) fn start(
        built: Built,
        settings: &Settings,
        context: &Arc<NetContext>,
        policy: &Arc<ArcSwap<Policy>>,
        records: Option<&RecordSender>,
    ) -> Result<Self, StartError> {
        let now = policy.load_full();
        let (writer, keeper, tapes) = start_keeping(settings, &now, context)?;
        let deliver = deliver(context.shards.clone());
        let media = Arc::new(MediaPool::start_with(&settings.media, deliver, tapes)?);
        let count = u16::try_from(built.shards.len()).unwrap_or(u16::MAX);
        let sharding = Sharding::new(count, &now.gateway.fqdn, rand::random());
        let started = Instant::now();
        let ledger: Arc<dyn Ledger> = Arc::new(SharedLedger::default());
        let adopted = Arc::new(Adopted::default());
        let mut ports = built.ports;
        let mut threads = Self { shards: Vec::new(), media: media.clone(), drained: Vec::new(), writer };
        for (number, (poll, _, errands)) in (0..count).zip(built.shards) {
            let (drained, is_drained) = watch::channel(false);
            let keeping = keeper.as_ref().map(Keeper::keeping);
            let pump = Pump {
                number,
                engine: Engine::new(engine_config((number, count), started, ledger.clone()), now.clone()),
                context: context.clone(),
                slots: Slots::new(number, poll.registry().try_clone()?),
                ports: std::mem::take(&mut ports),
                media: media.clone(),
                reporter: Reporter::new(context.metrics.clone(), records.cloned()),
                lines: Lines::new(settings.tap.clone(), keeping.as_ref().and_then(Keeping::copies)),
                keeping,
                drained,
                sharding: sharding.clone(),
                adopted: adopted.clone(),
                held: Held::default(),
                over: Over::No,
                pending: VecDeque::new(),
                backlog: (0..count).map(|_| VecDeque::new()).collect(),
            };
            let shard = Shard::new(poll, errands, pump, policy.clone())?;
            let thread = std::thread::Builder::new().name(format!("sip-{number}"));
            threads.shards.push(thread.spawn(move || shard.run())?);
            threads.drained.push(is_drained);
        }
        Ok(threads)
    }

    /// Counters of the media threads.
    pub(super) fn media(&self) -> Arc<MediaGauges> {
        self.media.gauges()
    }

    /// One for each shard: whether its last call of a drain is over.
    pub(super) fn drained(&self) -> Vec<watch::Receiver<bool>> {
        self.drained.clone()
    }

    /// Waits for all of them; they must have been told to stop. Blocks.
    pub(super) fn join(self) {
        for thread in self.shards {
            if thread.join().is_err() {
                error!("a signalling thread had panicked");
            }
        }
        match Arc::try_unwrap(self.media) {
            Ok(media) => media.shutdown(),
            Err(_) => error!("the media threads are still in use"),
        }
        if let Some(writer) = self.writer {
            writer.join();
        }
    }
}

/// The writer of recordings and captures, where any are wanted.
fn start_keeping(
    settings: &Settings,
    policy: &Policy,
    context: &NetContext,
) -> io::Result<(Option<KeepWriter>, Option<Keeper>, Vec<Tape>)> {
    if settings.keep == KeepSettings::default() {
        return Ok((None, None, Vec::new()));
    }
    let addresses = policy.gateway.media_addresses;
    let started = KeepWriter::start(&settings.keep, addresses, settings.media.workers, &context.metrics)?;
    let (writer, keeper, tapes) = started;
    Ok((Some(writer), Some(keeper), tapes))
}

/// Reports of the media threads go to the shard that holds the call.
fn deliver(shards: Vec<Inbox>) -> Deliver<MediaKey> {
    Arc::new(move |report| match shards.get(usize::from(report.call().0)) {
        Some(inbox) => inbox.offer_report(report),
        None => Ok(()),
    })
}

/// The counts of all shards of one gateway, by name. A name once counted stays: there are as many as were configured.
#[derive(Default)]
struct SharedLedger {
    counters: DashMap<String, Arc<AtomicU64>>,
}

impl Ledger for SharedLedger {
    fn counter(&self, of: Counted<'_>) -> Arc<AtomicU64> {
        let name = match of {
            Counted::Calls => String::from("calls"),
            Counted::AdmissionClock => String::from("clock"),
            Counted::IpGateway(name) => format!("ip_gateway {name}"),
            Counted::Server(name) => format!("server {name}"),
        };
        self.counters.entry(name).or_default().clone()
    }
}

fn engine_config((shard, shards): (u16, u16), started: Instant, ledger: Arc<dyn Ledger>) -> EngineConfig {
    let mut config = EngineConfig::new(rand::random(), rand::random(), started);
    config.shard = shard;
    config.shards = shards;
    config.ledger = ledger;
    config.product = concat!("Umbra/", env!("CARGO_PKG_VERSION")).to_owned();
    config
}
