//! The deadlines of calls, ordered by time. Owns nothing but the table; what a timer means is the
//! business of the call it belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::io::{CallKey, CallTimer};

/// At most one deadline per call and timer.
#[derive(Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Instant, CallKey, CallTimer)>,
    at: BTreeMap<(CallKey, CallTimer), Instant>,
}

impl Timers {
    /// Sets or moves a timer.
    pub fn set(&mut self, call: CallKey, timer: CallTimer, at: Instant) {
        self.clear(call, timer);
        self.order.insert((at, call, timer));
        self.at.insert((call, timer), at);
    }

    /// Stops a timer if it runs.
    pub fn clear(&mut self, call: CallKey, timer: CallTimer) {
        if let Some(at) = self.at.remove(&(call, timer)) {
            self.order.remove(&(at, call, timer));
        }
    }

    /// Stops every timer of a call.
    pub fn clear_call(&mut self, call: CallKey) {
        for timer in CallTimer::ALL {
            self.clear(call, timer);
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<(Instant, CallKey, CallTimer)> {
        self.order.first().copied()
    }

    /// Takes the earliest deadline out when it is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<(CallKey, CallTimer)> {
        let (at, call, timer) = self.next()?;
        if at > now {
            return None;
        }
        self.clear(call, timer);
        Some((call, timer))
    }

    /// How many run.
    pub fn len(&self) -> usize {
        debug_assert_eq!(self.order.len(), self.at.len());
        self.at.len()
    }
}

impl CallTimer {
    /// Every timer a call can have.
    pub const ALL: [Self; 10] = [
        Self::MediaReady,
        Self::Step,
        Self::Setup,
        Self::Progress,
        Self::MaxDuration,
        Self::SessionA,
        Self::SessionB,
        Self::Ending,
        Self::Provisional,
        Self::Transfer,
    ];
}
