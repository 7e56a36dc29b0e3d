//! Counts that all shards of one gateway share, so that its limits hold over all of them: exact, by atomic counters.
//! Owns the names of the counts; refuses to know where they are kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum Counted<'a> {
    /// Calls of the gateway.
    Calls,
    /// Calls of the UM IP gateway with this name.
    IpGateway(&'a str),
    /// Calls on the UM server with this lower-case name.
    Server(&'a str),
    /// When the admission rate lets the next call in; nanoseconds since the start.
    AdmissionClock,
}

/// Where the counts are kept. The same name gives the same counter to every shard.
pub trait Ledger: Send + Sync {
    /// That counter, at zero when it is new.
    fn counter(&self, of: Counted<'_>) -> Arc<AtomicU64>;
}

/// The ledger of a gateway with one shard: nobody shares anything.
#[derive(Copy, Clone, Debug, Default)]
pub struct OneShard;

impl Ledger for OneShard {
    fn counter(&self, _: Counted<'_>) -> Arc<AtomicU64> {
        Arc::default()
    }
}

/// Takes a place below a limit, or none.
pub(crate) fn take_below(counter: &AtomicU64, limit: usize) -> Result<(), usize> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let taken = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
        (count < limit).then_some(count.saturating_add(1))
    });
    taken.map(|_| ()).map_err(|count| usize::try_from(count).unwrap_or(usize::MAX))
}

/// Gives a place back.
pub(crate) fn give(counter: &AtomicU64) {
    // Never below zero: a place is given back once.
    let _before = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
}

/// How many places are taken.
pub(crate) fn taken(counter: &AtomicU64) -> usize {
    usize::try_from(counter.load(Ordering::Acquire)).unwrap_or(usize::MAX)
}
