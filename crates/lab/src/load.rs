//! Many calls at a steady rate, counted. Owns pacing and sums; the calls themselves are the Front End's.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::frontend::{CallOutcome, CallSpec, Caller, CallerError};

/// Most calls of one run.
pub const CALLS_MAX: usize = 1_000_000;

/// A run.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// How many calls.
    pub calls: usize,
    /// Calls per second; zero or less = all at once, as far as `at_once_max` allows.
    pub per_second: f64,
    /// Calls at the same time; reaching it delays the next call and is counted.
    pub at_once_max: usize,
    /// Each call.
    pub call: CallSpec,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// Calls placed.
    pub placed: usize,
    /// Answered with 2xx, media as agreed.
    pub answered: usize,
    /// Answered calls that heard at least one packet.
    pub heard: usize,
    /// Calls that could not be placed.
    pub not_placed: usize,
    /// Calls that had to wait for a free place.
    pub delayed: usize,
    /// Final statuses; 0 = none came.
    pub by_status: BTreeMap<u16, usize>,
    /// INVITE to final response of answered calls, ascending.
    pub setup: Vec<Duration>,
    /// First call to last end.
    pub lasted: Duration,
}

impl LoadReport {
    /// Set-up time not exceeded by this share (0 to 1) of the answered calls.
    pub fn setup_quantile(&self, share: f64) -> Option<Duration> {
        let last = self.setup.len().checked_sub(1)?;
        let index = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
        self.setup.get(index).copied()
    }

    fn count(&mut self, outcome: Result<CallOutcome, CallerError>) {
        let Ok(outcome) = outcome else {
            self.not_placed += 1;
            return;
        };
        *self.by_status.entry(outcome.status).or_default() += 1;
        if !outcome.answered() || outcome.answer_fault.is_some() {
            return;
        }
        self.answered += 1;
        self.heard += usize::from(outcome.heard.packets > 0);
        self.setup.extend(outcome.setup);
    }
}

/// Places the calls and waits for the end of the last.
pub async fn run(caller: &Caller, spec: &LoadSpec) -> LoadReport {
    let mut report = LoadReport::default();
    let mut calls = JoinSet::new();
    let start = Instant::now();
    let at_once_max = spec.at_once_max.clamp(1, Caller::CALLS_MAX);
    for n in 0..spec.calls.min(CALLS_MAX) {
        if spec.per_second > 0.0 {
            sleep_until(start + Duration::from_secs_f64(n as f64 / spec.per_second)).await;
        }
        while let Some(Ok(outcome)) = calls.try_join_next() {
            report.count(outcome);
        }
        if calls.len() >= at_once_max {
            report.delayed += 1;
            if let Some(Ok(outcome)) = calls.join_next().await {
                report.count(outcome);
            }
        }
        let (caller, call) = (caller.clone(), spec.call.clone());
        report.placed += 1;
        calls.spawn(async move { caller.place_call(call).await });
    }
    while let Some(Ok(outcome)) = calls.join_next().await {
        report.count(outcome);
    }
    report.setup.sort_unstable();
    report.lasted = start.elapsed();
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_nothing_are_nothing_and_bounds_hold() {
        let mut report = LoadReport::default();
        assert_eq!(report.setup_quantile(0.5), None);
        report.setup = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(report.setup_quantile(0.0), Some(Duration::from_millis(1)));
        assert_eq!(report.setup_quantile(2.0), Some(Duration::from_millis(100)));
    }

    #[test]
    fn a_call_that_could_not_be_placed_is_counted_apart() {
        let mut report = LoadReport::default();
        report.count(Err(CallerError::Closed));
        assert_eq!((report.not_placed, report.answered), (1, 0));
    }
}
