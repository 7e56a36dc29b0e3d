//! The deadlines of calls, ordered by time. Owns nothing but the table; what a timer means is the
//! business of the call it belongs to.

use std::time::Instant;

use sip::{Agenda, AgendaHandle};
use slotmap::SecondaryMap;

use super::io::{CallKey, CallTimer};

/// At most one deadline per call and timer; equal instants in the order they were set.
#[derive(Default)]
pub(crate) struct Timers {
    agenda: Agenda<(CallKey, CallTimer)>,
    running: SecondaryMap<CallKey, [Option<AgendaHandle>; CallTimer::COUNT]>,
}

impl Timers {
    /// Sets or moves a timer.
    pub fn set(&mut self, call: CallKey, timer: CallTimer, at: Instant) {
        self.clear(call, timer);
        let handle = self.agenda.start(at, (call, timer));
        if let Some(entry) = self.running.entry(call) {
            entry.or_default()[timer.place()] = Some(handle);
        }
    }

    /// Stops a timer if it runs.
    pub fn clear(&mut self, call: CallKey, timer: CallTimer) {
        let slot = self.running.get_mut(call).map(|timers| &mut timers[timer.place()]);
        if let Some(handle) = slot.and_then(Option::take) {
            self.agenda.stop(handle);
        }
    }

    /// Stops every timer of a call.
    pub fn clear_call(&mut self, call: CallKey) {
        let timers = self.running.remove(call).unwrap_or_default();
        timers.into_iter().flatten().for_each(|handle| self.agenda.stop(handle));
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<(Instant, CallKey, CallTimer)> {
        self.agenda.first().map(|(at, (call, timer))| (at, call, timer))
    }

    /// Takes the earliest deadline out when it is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<(CallKey, CallTimer)> {
        let (call, timer) = self.agenda.pop_due(now)?;
        if let Some(timers) = self.running.get_mut(call) {
            timers[timer.place()] = None;
        }
        Some((call, timer))
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.agenda.len()
    }
}

impl CallTimer {
    /// How many timers a call can have: one more than the greatest place.
    const COUNT: usize = 12;

    fn place(self) -> usize {
        match self {
            Self::MediaReady => 0,
            Self::Step => 1,
            Self::Setup => 2,
            Self::Progress => 3,
            Self::MaxDuration => 4,
            Self::SessionA => 5,
            Self::SessionB => 6,
            Self::Ending => 7,
            Self::Provisional => 8,
            Self::Transfer => 9,
            Self::Reoffer => 10,
            Self::Reconnect => 11,
        }
    }
}
