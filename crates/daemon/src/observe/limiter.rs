//! Keeps repeated warnings to one line a second per sort. Owns the counting; refuses to know the lines.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One line of a sort in this time.
const QUIET: Duration = Duration::from_secs(1);

/// Last line of each sort. The sorts are constants of the program, so the table is bounded.
#[derive(Default)]
pub struct WarnLimiter {
    last: Mutex<BTreeMap<&'static str, Instant>>,
}

impl WarnLimiter {
    /// Nothing said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `line` unless one of its sort was written less than a second ago.
    pub fn warn(&self, sort: &'static str, line: impl FnOnce()) {
        if self.admits(sort, Instant::now()) {
            line();
        }
    }

    fn admits(&self, sort: &'static str, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = last.get(sort).is_some_and(|then| now.saturating_duration_since(*then) < QUIET);
        if !quiet {
            last.insert(sort, now);
        }
        !quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_of_each_sort() {
        let limiter = WarnLimiter::new();
        let start = Instant::now();
        assert!(limiter.admits("expired", start));
        assert!(!limiter.admits("expired", start + Duration::from_millis(999)));
        assert!(limiter.admits("no_certificate", start));
        assert!(limiter.admits("expired", start + QUIET));
    }
}
