//! Deadlines in order: a binary heap whose entries know their place, so that stopping one costs as little as starting
//! it and nothing stays behind. Equal instants come in the order they were started. It knows nothing of what they mean.

use std::num::NonZeroU32;
use std::time::Instant;

/// Names one running deadline. A handle of one that has fired or was stopped names nothing.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct AgendaHandle {
    slot: u32,
    stamp: NonZeroU32,
}

/// Running deadlines, soonest first.
#[derive(Debug)]
pub struct Agenda<T> {
    heap: Vec<Entry<T>>,
    /// Where the entry of a handle stands in the heap.
    slots: Vec<Slot>,
    free: Vec<u32>,
    started: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    order: u64,
    slot: u32,
    what: T,
}

#[derive(Copy, Clone, Debug)]
struct Slot {
    place: u32,
    stamp: NonZeroU32,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { heap: Vec::new(), slots: Vec::new(), free: Vec::new(), started: 0 }
    }
}

impl<T: Copy> Agenda<T> {
    /// Starts a deadline.
    pub fn start(&mut self, at: Instant, what: T) -> AgendaHandle {
        self.started += 1;
        let place = self.heap.len();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { place: 0, stamp: NonZeroU32::MIN });
            self.slots.len() as u32 - 1
        });
        self.heap.push(Entry { at, order: self.started, slot, what });
        self.rise(place);
        AgendaHandle { slot, stamp: self.slots[slot as usize].stamp }
    }

    /// Stops a deadline that still runs.
    pub fn stop(&mut self, handle: AgendaHandle) {
        let found = self.slots.get(handle.slot as usize).filter(|slot| slot.stamp == handle.stamp);
        if let Some(slot) = found {
            self.take(slot.place as usize);
        }
    }

    /// The soonest.
    #[must_use]
    pub fn first(&self) -> Option<(Instant, T)> {
        self.heap.first().map(|entry| (entry.at, entry.what))
    }

    /// Takes the soonest out when it is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<T> {
        self.heap.first().filter(|entry| entry.at <= now)?;
        Some(self.take(0).what)
    }

    /// How many run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn take(&mut self, place: usize) -> Entry<T> {
        let entry = self.heap.swap_remove(place);
        let slot = &mut self.slots[entry.slot as usize];
        slot.stamp = slot.stamp.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.free.push(entry.slot);
        if place < self.heap.len() {
            // The last entry came here from another branch, so it may belong above or below.
            let risen = self.rise(place);
            self.sink(risen);
        }
        entry
    }

    fn is_before(&self, one: usize, other: usize) -> bool {
        let key = |place: usize| (self.heap[place].at, self.heap[place].order);
        key(one) < key(other)
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 && self.is_before(place, (place - 1) / 2) {
            self.exchange(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
        self.note(place);
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let mut least = place;
            for child in [left, right] {
                if child < self.heap.len() && self.is_before(child, least) {
                    least = child;
                }
            }
            if least == place {
                return self.note(place);
            }
            self.exchange(place, least);
            place = least;
        }
    }

    fn exchange(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        self.note(one);
        self.note(other);
    }

    fn note(&mut self, place: usize) {
        let slot = self.heap[place].slot;
        self.slots[slot as usize].place = place as u32;
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // the origin of a virtual clock
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[test]
    fn equal_instants_come_in_the_order_they_were_started() {
        let now = Instant::now();
        let mut agenda = Agenda::default();
        let handles: Vec<_> = (0..5).map(|number| agenda.start(now, number)).collect();
        agenda.stop(handles[1]);
        agenda.stop(handles[1]);
        let order: Vec<_> = std::iter::from_fn(|| agenda.pop_due(now)).collect();
        assert_eq!(order, [0, 2, 3, 4]);
        agenda.stop(handles[0]);
        assert!(agenda.is_empty());
    }

    proptest! {
        #[test]
        fn it_orders_and_forgets_like_a_sorted_map(
            steps in proptest::collection::vec((0u8..4, 0u64..40), 1..300),
        ) {
            let start = Instant::now();
            let (mut agenda, mut model) = (Agenda::default(), BTreeMap::new());
            let mut handles = Vec::new();
            for (number, (kind, value)) in steps.into_iter().enumerate() {
                let at = start + Duration::from_millis(value);
                match kind {
                    0 | 1 => {
                        handles.push((agenda.start(at, number), (at, number)));
                        model.insert((at, number), number);
                    }
                    2 if !handles.is_empty() => {
                        let (handle, key) = handles[value as usize % handles.len()];
                        agenda.stop(handle);
                        model.remove(&key);
                    }
                    _ => {
                        let due = model.first_key_value().filter(|(key, _)| key.0 <= at).map(|(key, _)| *key);
                        prop_assert_eq!(agenda.pop_due(at), due.and_then(|key| model.remove(&key)));
                    }
                }
                let first = model.first_key_value().map(|(key, what)| (key.0, *what));
                prop_assert_eq!((agenda.first(), agenda.len()), (first, model.len()));
            }
        }
    }
}
