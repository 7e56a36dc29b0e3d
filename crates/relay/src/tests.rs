//! A point in time for tests, where the clock may be asked.

use std::time::Instant;

#[allow(clippy::disallowed_methods, reason = "tests need some instant to count from")]
pub(crate) fn start() -> Instant {
    Instant::now()
}
