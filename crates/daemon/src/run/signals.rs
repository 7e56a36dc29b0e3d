//! Unix signals of the daemon: TERM drains then stops, INT drains once and stops the second time, HUP reloads. Owns
//! their order; refuses to know what a reload reads.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};

use super::{Gateway, Settings};
use crate::observe::{DirectoryStanding, Reading};

/// After the engine hung up what was left, its BYEs may take this long.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How the daemon ended.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Stop {
    /// Every call was over.
    Drained,
    /// Patience ended, or the operator insisted.
    Now,
}

/// Where settings come from, beside those of the start.
pub trait Configured: Send {
    /// Reads everything anew, as SIGHUP asks; the error is for the log.
    fn again(&mut self) -> impl Future<Output = Result<Settings, String>> + Send;
    /// Completes when there is news of something that is watched: settings to take, or none but that things stand differently. To be
    /// asked again after it was cancelled.
    fn news(&mut self) -> impl Future<Output = Option<Settings>> + Send;
    /// What became of the settings that were given last.
    fn settled(&mut self, result: Result<(), String>);
    /// How the live directory stands, and what it was read for since this was asked last.
    fn directory(&mut self) -> (Option<DirectoryStanding>, Option<Reading>);
}

/// The signals, caught from here on: to be made before anybody can see that the daemon runs.
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// Catches them.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Serves until a signal ends it.
    pub async fn run_until_stopped(
        mut self,
        gateway: Gateway,
        drain_max: Duration,
        mut configured: impl Configured,
    ) -> Stop {
        loop {
            let (standing, reading) = configured.directory();
            gateway.directory_stands(standing, reading);
            tokio::select! {
                _ = self.term.recv() => break,
                _ = self.int.recv() => break,
                _ = self.hup.recv() => {
                    let read = configured.again().await;
                    let result = reload(&gateway, read).await;
                    configured.settled(result);
                }
                news = configured.news() => if let Some(settings) = news {
                    let result = gateway.reload(settings).await;
                    configured.settled(result.map_err(|problem| problem.to_string()));
                }
            }
        }
        info!(
            event = "draining",
            drain_max_s = drain_max.as_secs(),
            "no new calls; stopping when the last is over"
        );
        let stop = drain(&gateway, drain_max, &mut self.int).await;
        gateway.stop().await;
        info!(event = "stopped", ?stop, "stopped");
        stop
    }
}

async fn drain(gateway: &Gateway, drain_max: Duration, int: &mut Signal) -> Stop {
    // Patience longer than the clock can count is patience without end.
    gateway.drain(Instant::now().checked_add(drain_max)).await;
    tokio::select! {
        () = gateway.drained() => Stop::Drained,
        () = tokio::time::sleep(drain_max.saturating_add(LAST_WORDS)) => Stop::Now,
        _ = int.recv() => Stop::Now,
    }
}

async fn reload(gateway: &Gateway, read: Result<Settings, String>) -> Result<(), String> {
    let settings = read.inspect_err(|problem| {
        gateway.reload_refused();
        error!(event = "reload_refused", %problem, "configuration refused, the old one stays");
    })?;
    match gateway.reload(settings).await {
        Ok(()) => {
            info!(event = "reloaded", "configuration and certificates are in force for new calls");
            Ok(())
        }
        Err(problem) => {
            error!(event = "reload_refused", %problem, "reload refused, the old one stays");
            Err(problem.to_string())
        }
    }
}
