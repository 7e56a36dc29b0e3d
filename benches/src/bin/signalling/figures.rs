//! Which figures are taken, in which order, and how they are printed.

use std::time::{Duration, Instant};

use umbra_benches::load::{Bench, Kind, Outcome, Result, Rig, cost, median};

use crate::options::Options;

/// How long a call is up.
const HOLD: Duration = Duration::from_millis(500);
/// Calls that measure the cost while others are held.
const PROBE_CALLS: usize = 2_000;
/// Rate at which calls are set up that stay, and taken down.
const RAMP_RATE: u32 = 500;
/// When transactions of set-up calls are over (RFC 3261: 64*T1, and some more).
const SETTLE: Duration = Duration::from_secs(34);
/// A rate is clean when set-up stays below this, in milliseconds.
const CLEAN_P99_MS: f64 = 50.0;

/// Takes and prints everything that was asked for.
pub async fn run(options: &Options) -> Result {
    let figures = Figures { options, bench: Bench::open(&options.umbra)? };
    let kinds: Vec<Kind> = [Kind::Umbra, Kind::Kamailio]
        .into_iter()
        .filter(|kind| options.only.as_deref().is_none_or(|only| only == kind.name()))
        .collect();
    let base = figures.direct().await?;
    if !options.quick {
        for kind in &kinds {
            figures.climb(*kind).await?;
        }
        for kind in &kinds {
            figures.held(*kind).await?;
        }
        figures.restart().await?;
    }
    figures.paired(&kinds, &base).await
}

struct Figures<'a> {
    options: &'a Options,
    bench: Bench,
}

impl Figures<'_> {
    /// Set-up time without anybody in between.
    async fn direct(&self) -> Result<Outcome> {
        let rig = self.bench.rig(None).await?;
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
                let rig = self.bench.rig(Some(*kind)).await?;
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
            let rig = self.bench.rig(Some(*kind)).await?;
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
            let rig = self.bench.rig(Some(kind)).await?;
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
            let rig = self.bench.rig(Some(kind)).await?;
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
        let mut rig = self.bench.rig(Some(Kind::Umbra)).await?;
        let held = rig.caller.place(100, 100, None).await;
        if let Some(server) = rig.server.take() {
            server.kill();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        rig.server = Some(self.bench.server(rig.net).await?);
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

fn kind_word(kind: Kind) -> String {
    format!("{:<8}", kind.name())
}
