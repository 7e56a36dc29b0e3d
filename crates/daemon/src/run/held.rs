//! Records that wait for the last counters of their media. The engine closes a call at once; the media threads count
//! until its ports are closed, a moment later. Owns that moment and its limit; refuses to know what a record says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use b2bua::engine::CallKey;
use b2bua::record::{CallRecord, MediaSummary};
use relay::SessionStats;

/// Longest wait for the media threads; after that the record goes out with the counters it has.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The records that wait, by call.
#[derive(Default)]
pub(super) struct Held {
    records: BTreeMap<CallKey, (Instant, Box<CallRecord>)>,
}

impl Held {
    /// Keeps a record until its counters come.
    pub(super) fn hold(&mut self, now: Instant, call: CallKey, record: Box<CallRecord>) {
        self.records.insert(call, (now, record));
    }

    /// The ports of a call are closed: its record, complete.
    pub(super) fn complete(&mut self, call: CallKey, stats: &SessionStats) -> Option<Box<CallRecord>> {
        let (_, mut record) = self.records.remove(&call)?;
        let summary = MediaSummary::of(stats);
        if summary != MediaSummary::default() {
            record.measured(summary);
        }
        Some(record)
    }

    /// Records that waited too long.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<(CallKey, CallRecord)> {
        let late = |since: Instant| now.saturating_duration_since(since) >= WAIT_MAX;
        let calls: Vec<CallKey> =
            self.records.iter().filter(|(_, (at, _))| late(*at)).map(|(call, _)| *call).collect();
        calls.into_iter().filter_map(|call| Some((call, *self.records.remove(&call)?.1))).collect()
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Everything that still waits, at the end.
    pub(super) fn take_all(&mut self) -> Vec<(CallKey, CallRecord)> {
        std::mem::take(&mut self.records).into_iter().map(|(call, (_, record))| (call, *record)).collect()
    }
}
