//! Which figures are taken, in which order, and how they are printed.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use lab::pki::Pki;

use crate::cost;
use crate::generator::{Caller, Outcome, Server};
use crate::messages::Names;
use crate::options::Options;
use crate::subject::{FQDN, Kind, Net, POOL, SERVER, Subject};
use crate::wire::Tls;

/// How long a call is up.
const HOLD: Duration = Duration::from_millis(500);
/// Calls before anything is measured.
const WARM_UP: usize = 200;
/// Calls that measure the cost while others are held.
const PROBE_CALLS: usize = 2_000;
/// Rate at which calls are set up that stay, and taken down.
const RAMP_RATE: u32 = 500;
/// When transactions of set-up calls are over (RFC 3261: 64*T1, and some more).
const SETTLE: Duration = Duration::from_secs(34);
/// A rate is clean when set-up stays below this, in milliseconds.
const CLEAN_P99_MS: f64 = 50.0;

type Result<T = ()> = std::result::Result<T, String>;

/// Takes and prints everything that was asked for.
pub async fn run(options: &Options) -> Result {
    let folder = tempfile::tempdir().map_err(text)?;
    let pki = Pki::open(&folder.path().join("pki")).map_err(text)?;
    let bench = Bench { options, pki, folder: folder.path(), net: Rc::default() };
    let kinds: Vec<Kind> = [Kind::Umbra, Kind::Kamailio]
        .into_iter()
        .filter(|kind| options.only.as_deref().is_none_or(|only| only == kind.name()))
        .collect();
    let base = bench.direct().await?;
    if !options.quick {
        for kind in &kinds {
            bench.climb(*kind).await?;
        }
        for kind in &kinds {
            bench.held(*kind).await?;
        }
        bench.restart().await?;
    }
    bench.paired(&kinds, &base).await
}

struct Bench<'a> {
    options: &'a Options,
    pki: Pki,
    folder: &'a Path,
    net: Rc<std::cell::Cell<u8>>,
}

/// One subject between a caller and a server, all connected.
struct Rig {
    caller: Caller,
    server: Option<Server>,
    subject: Option<Subject>,
}

impl Rig {
    fn pids(&self) -> Vec<u32> {
        self.subject.as_ref().map(Subject::pids).unwrap_or_default()
    }
}

impl Bench<'_> {
    async fn rig(&self, kind: Option<Kind>) -> Result<(Rig, Net)> {
        self.net.set(self.net.get().wrapping_add(1));
        let net = Net(64 + (std::process::id() % 128) as u8, self.net.get());
        let names = Names { caller: format!("{}:5061", net.caller()), server: format!("{}", net.server()) };
        let tls = Tls::new(&self.pki);
        let acceptor = tls.acceptor(&self.pki.identity(SERVER).map_err(text)?);
        let server = Server::start(net.server(), acceptor, names.clone()).await.map_err(text)?;
        let subject = match kind {
            Some(kind) => Some(Subject::start(kind, net, &self.pki, self.folder, &self.options.umbra)?),
            None => None,
        };
        let caller = Caller::new(names);
        let (to, name) = if kind.is_some() { (net.subject(), FQDN) } else { (net.server(), SERVER) };
        let connector = tls.connector(&self.pki.identity(POOL).map_err(text)?);
        caller.connect(&connector, net.caller(), to, name).await.map_err(text)?;
        let warm = caller.place(WARM_UP, 100, Some(Duration::from_millis(50))).await;
        if warm.lost() > 0 {
            return Err(format!(
                "{}: {} of {WARM_UP} calls lost before measuring: {:?}",
                name_of(kind),
                warm.lost(),
                warm.failed
            ));
        }
        Ok((Rig { caller, server: Some(server), subject }, net))
    }

    /// Set-up time without anybody in between.
    async fn direct(&self) -> Result<Outcome> {
        let (rig, _) = self.rig(None).await?;
        let outcome = rig.caller.place(self.options.calls as usize, self.options.rate, Some(HOLD)).await;
        println!(
            "direct       {:>5}/s  {} calls  lost {}  set-up p50 {:.2} p99 {:.2} ms (caller straight to server)",
            self.options.rate,
            outcome.placed,
            outcome.lost(),
            outcome.setup_ms(50.0),
            outcome.setup_ms(99.0)
        );
        Ok(outcome)
    }

    async fn paired(&self, kinds: &[Kind], base: &Outcome) -> Result {
        let mut costs: Vec<(Kind, Vec<f64>)> = kinds.iter().map(|kind| (*kind, Vec::new())).collect();
        let mut lost = 0;
        for round in 1..=self.options.rounds {
            for (kind, costs) in &mut costs {
                let (rig, _) = self.rig(Some(*kind)).await?;
                let measured = measure(&rig, self.options.calls as usize, self.options.rate).await;
                println!(
                    "{} round {round}  {}  added p99 {:.2} ms",
                    kind_word(*kind),
                    measured.line(self.options.rate),
                    measured.outcome.setup_ms(99.0) - base.setup_ms(99.0)
                );
                costs.push(measured.per_1000());
                lost += if *kind == Kind::Umbra { measured.outcome.lost() } else { 0 };
            }
        }
        for kind in kinds {
            let (rig, _) = self.rig(Some(*kind)).await?;
            self.held_memory(&rig, *kind, 1_000).await?;
        }
        let medians: Vec<f64> = costs.iter_mut().map(|(_, list)| median(list)).collect();
        for ((kind, _), median) in costs.iter().zip(&medians) {
            println!(
                "{} median {median:.3} CPU-s per 1,000 calls at {}/s",
                kind_word(*kind),
                self.options.rate
            );
        }
        if lost > 0 {
            return Err(format!("umbra lost {lost} calls: no ratio"));
        }
        if let [umbra, kamailio] = medians.as_slice() {
            println!("umbra/kamailio cpu ratio: {:.2}", umbra / kamailio);
        }
        Ok(())
    }

    /// The highest clean rate over one connection per leg.
    async fn climb(&self, kind: Kind) -> Result {
        for rate in &self.options.rates {
            let (rig, _) = self.rig(Some(kind)).await?;
            let measured = measure(&rig, (*rate as usize) * 5, *rate).await;
            let clean = measured.outcome.lost() == 0 && measured.outcome.setup_ms(99.0) < CLEAN_P99_MS;
            println!(
                "{} climb    {}  {}",
                kind_word(kind),
                measured.line(*rate),
                if clean { "clean" } else { "NOT CLEAN" }
            );
            for (what, count) in measured.outcome.failed.iter().take(3) {
                println!("             {count} × {what}");
            }
        }
        Ok(())
    }

    /// Memory per held call, and what a call costs beside so many others.
    async fn held(&self, kind: Kind) -> Result {
        for held in &self.options.held {
            let (rig, _) = self.rig(Some(kind)).await?;
            self.held_memory(&rig, kind, *held as usize).await?;
            let measured = measure(&rig, PROBE_CALLS, RAMP_RATE).await;
            println!("{} {held:>6} held, others {}", kind_word(kind), measured.line(RAMP_RATE));
            let ended = rig.caller.hang_up(RAMP_RATE * 2).await;
            println!("{} {held:>6} held, {ended} ended in order", kind_word(kind));
        }
        Ok(())
    }

    async fn held_memory(&self, rig: &Rig, kind: Kind, held: usize) -> Result {
        let before = cost::memory_kib(&rig.pids());
        let outcome = rig.caller.place(held, RAMP_RATE, None).await;
        if outcome.answered < held {
            return Err(format!(
                "{}: {} of {held} calls to hold were answered: {:?}",
                kind.name(),
                outcome.answered,
                outcome.failed
            ));
        }
        let fresh = cost::memory_kib(&rig.pids());
        if !self.options.quick {
            tokio::time::sleep(SETTLE).await;
        }
        let settled = cost::memory_kib(&rig.pids());
        let per = |after: u64| (after as f64 - before as f64) / held as f64;
        println!(
            "{} {held:>6} held: {:.1} KiB per call right after set-up, {:.1} KiB {} (Pss {before} KiB idle, {settled} KiB)",
            kind_word(kind),
            per(fresh),
            per(settled),
            if self.options.quick { "at once" } else { "when transactions are over" }
        );
        Ok(())
    }

    /// The server dies and returns: what do calls placed afterwards cost?
    async fn restart(&self) -> Result {
        let (mut rig, net) = self.rig(Some(Kind::Umbra)).await?;
        let held = rig.caller.place(100, 100, None).await;
        if let Some(server) = rig.server.take() {
            server.kill();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let tls = Tls::new(&self.pki);
        let acceptor = tls.acceptor(&self.pki.identity(SERVER).map_err(text)?);
        let names = Names { caller: format!("{}:5061", net.caller()), server: format!("{}", net.server()) };
        rig.server = Some(Server::start(net.server(), acceptor, names).await.map_err(text)?);
        let later = rig.caller.place(500, 100, Some(HOLD)).await;
        println!(
            "umbra    far end restarted under {} held calls: {} of {} later calls ended as they should {:?}",
            held.answered, later.ended, later.placed, later.failed
        );
        Ok(())
    }
}

struct Measured {
    outcome: Outcome,
    cpu: f64,
    own: f64,
    wall: f64,
}

impl Measured {
    fn per_1000(&self) -> f64 {
        self.cpu * 1_000.0 / self.outcome.placed as f64
    }

    fn line(&self, rate: u32) -> String {
        format!(
            "{rate:>5}/s  {} calls  lost {}  {:.3} CPU-s per 1,000  set-up p50 {:.2} p99 {:.2} ms  generator busy {:.0} %",
            self.outcome.placed,
            self.outcome.lost(),
            self.per_1000(),
            self.outcome.setup_ms(50.0),
            self.outcome.setup_ms(99.0),
            self.own * 100.0 / self.wall
        )
    }
}

async fn measure(rig: &Rig, calls: usize, rate: u32) -> Measured {
    let pids = rig.pids();
    let (cpu, own, started) = (cost::cpu_seconds(&pids), cost::own_cpu_seconds(), Instant::now());
    let outcome = rig.caller.place(calls, rate, Some(HOLD)).await;
    let (wall, cpu, own) =
        (started.elapsed().as_secs_f64(), cost::cpu_seconds(&pids) - cpu, cost::own_cpu_seconds() - own);
    Measured { outcome, cpu, own, wall }
}

fn median(list: &mut [f64]) -> f64 {
    list.sort_by(f64::total_cmp);
    list.get(list.len() / 2).copied().unwrap_or(f64::NAN)
}

fn kind_word(kind: Kind) -> String {
    format!("{:<8}", kind.name())
}

fn name_of(kind: Option<Kind>) -> &'static str {
    kind.map_or("direct", Kind::name)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
