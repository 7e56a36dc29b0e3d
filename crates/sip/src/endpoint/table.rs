//! A bounded table with handles of index and generation, and the deadlines of its entries. Neither knows SIP.

use super::types::{ClientKey, ServerKey};
use crate::agenda::{Agenda, AgendaHandle};
use crate::transaction::TimerReason;
use std::time::{Duration, Instant};

/// Shortest timer: an interval of nothing would spin.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

struct Slot<T> {
    generation: u32,
    /// Boxed: slots stay when their entries have gone, and the table grows by doubling.
    value: Option<Box<T>>,
}

/// Entries by (index, generation).
pub(super) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    entries_max: usize,
}

impl<T> Table<T> {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), entries_max: entries_max.min(u32::MAX as usize - 1) }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.entries_max
    }

    /// The handle the next insert will give: a branch carries it before the entry exists.
    pub(super) fn next(&self) -> (u32, u32) {
        match self.free.last() {
            Some(index) => (*index, self.slots[*index as usize].generation),
            None => (u32::try_from(self.slots.len()).unwrap_or(u32::MAX), 0),
        }
    }

    pub(super) fn insert(&mut self, value: T) -> (u32, u32) {
        let (index, generation) = self.next();
        if self.free.pop().is_some() {
            self.slots[index as usize].value = Some(Box::new(value));
        } else {
            self.slots.push(Slot { generation, value: Some(Box::new(value)) });
        }
        (index, generation)
    }

    pub(super) fn get(&self, index: u32, generation: u32) -> Option<&T> {
        self.slots.get(index as usize).filter(|slot| slot.generation == generation)?.value.as_deref()
    }

    pub(super) fn get_mut(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize).filter(|slot| slot.generation == generation)?.value.as_deref_mut()
    }

    pub(super) fn remove(&mut self, index: u32, generation: u32) -> Option<T> {
        let slot = self.slots.get_mut(index as usize).filter(|slot| slot.generation == generation)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(*value)
    }
}

/// Whose timer it is.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub(super) enum Owner {
    Client(ClientKey),
    Server(ServerKey),
}

/// Names one running timer.
pub(super) type TimerHandle = AgendaHandle;

/// All running timers, soonest first; equal instants in the order they were started.
#[derive(Default)]
pub(super) struct Deadlines(Agenda<(Owner, TimerReason)>);

impl Deadlines {
    pub(super) fn start(
        &mut self,
        now: Instant,
        after: Duration,
        owner: Owner,
        reason: TimerReason,
    ) -> TimerHandle {
        self.0.start(now + after.max(INTERVAL_MIN), (owner, reason))
    }

    pub(super) fn stop(&mut self, handle: TimerHandle) {
        self.0.stop(handle);
    }

    pub(super) fn first(&self) -> Option<(Instant, TimerReason)> {
        self.0.first().map(|(at, (_, reason))| (at, reason))
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Owner, TimerReason)> {
        self.0.pop_due(now)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The neighbours of a transaction among those of its flow.
#[derive(Copy, Clone, Default)]
pub(super) struct Siblings {
    pub(super) newer: Option<Owner>,
    pub(super) older: Option<Owner>,
}
