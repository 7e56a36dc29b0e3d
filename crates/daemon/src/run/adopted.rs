//! Call-IDs whose messages belong to another shard than the rule says, because their INVITE with Replaces joined a call
//! there. Owns the table that all shards of a gateway share and its bounds; refuses to know calls.
//!
//! The shard of the rule looks here and passes on, so the messages of one Call-ID stay in order. The shard that holds the
//! call takes an entry out again once its engine knew no dialog of that Call-ID for a while.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

/// Call-IDs adopted at once, over all shards.
const ADOPTED_MAX: usize = 16_384;
/// Longest Call-ID that is remembered.
const CALL_ID_BYTES_MAX: usize = 256;
/// How long after its last dialog a Call-ID is remembered: an INVITE may wait 32 s for its answer, and the answer
/// 64*T1 for its ACK (RFC 3261 §17.2.1).
const QUIET: Duration = Duration::from_secs(64);

/// The table.
#[derive(Default)]
pub(super) struct Adopted {
    by_call_id: DashMap<Bytes, Adoption>,
    /// Entries, and places that are being taken.
    count: AtomicUsize,
}

struct Adoption {
    holder: u16,
    /// Since when the holder has found no dialog, and no message came.
    quiet_since: Option<Instant>,
}

/// Why a Call-ID was not adopted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Adopted {
    /// The shard that holds this Call-ID, when it is not the one of the rule.
    pub(super) fn holder_of(&self, call_id: &[u8]) -> Option<u16> {
        if self.is_empty() {
            return None;
        }
        self.by_call_id.get(call_id).map(|adoption| adoption.holder)
    }

    /// As [`Adopted::holder_of`], for a message that goes there.
    pub(super) fn follow(&self, call_id: &[u8]) -> Option<u16> {
        if self.is_empty() {
            return None;
        }
        let mut adoption = self.by_call_id.get_mut(call_id)?;
        adoption.quiet_since = None;
        Some(adoption.holder)
    }

    /// From now on its messages go to that shard.
    pub(super) fn adopt(&self, call_id: &[u8], holder: u16) -> Result<(), NoRoom> {
        let below = |count: usize| (count < ADOPTED_MAX).then_some(count + 1);
        if call_id.len() > CALL_ID_BYTES_MAX
            || self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, below).is_err()
        {
            return Err(NoRoom);
        }
        match self.by_call_id.entry(Bytes::copy_from_slice(call_id)) {
            Entry::Vacant(vacant) => drop(vacant.insert(Adoption { holder, quiet_since: None })),
            Entry::Occupied(mut known) => {
                *known.get_mut() = Adoption { holder, quiet_since: None };
                self.count.fetch_sub(1, Ordering::AcqRel);
            }
        }
        Ok(())
    }

    /// Takes out what this shard holds no longer.
    pub(super) fn sweep(&self, now: Instant, holder: u16, is_known: impl Fn(&[u8]) -> bool) {
        if self.is_empty() {
            return;
        }
        let mut gone = 0;
        self.by_call_id.retain(|call_id, adoption| {
            if adoption.holder != holder {
                return true;
            }
            let quiet_since = adoption.quiet_since.unwrap_or(now);
            adoption.quiet_since = (!is_known(call_id)).then_some(quiet_since);
            let is_over = adoption.quiet_since.is_some_and(|since| now - since >= QUIET);
            gone += usize::from(is_over);
            !is_over
        });
        self.count.fetch_sub(gone, Ordering::AcqRel);
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(30);

    #[test]
    fn an_adopted_call_id_leads_to_its_holder_until_it_was_quiet_for_a_while() {
        let adopted = Adopted::default();
        let start = Instant::now();
        adopted.adopt(b"c", 3).unwrap();
        assert_eq!(
            (adopted.follow(b"c"), adopted.holder_of(b"c"), adopted.follow(b"d")),
            (Some(3), Some(3), None)
        );
        // Known: for ever. Unknown to others: none of their business.
        for step in 0..10 {
            adopted.sweep(start + STEP * step, 3, |_| true);
            adopted.sweep(start + STEP * step, 2, |_| false);
        }
        // Unknown from here on, but a message comes in between.
        let later = start + STEP * 10;
        adopted.sweep(later, 3, |_| false);
        adopted.sweep(later + STEP, 3, |_| false);
        assert_eq!(adopted.follow(b"c"), Some(3));
        for step in 2..=4 {
            adopted.sweep(later + STEP * step, 3, |_| false);
            assert_eq!(adopted.holder_of(b"c"), Some(3), "{step}");
        }
        adopted.sweep(later + STEP * 5, 3, |_| false);
        assert_eq!(adopted.follow(b"c"), None);
        assert!(adopted.is_empty() && adopted.by_call_id.is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_takes_a_call_id_twice_without_counting_it_twice() {
        let adopted = Adopted::default();
        for number in 0..ADOPTED_MAX - 1 {
            adopted.adopt(number.to_string().as_bytes(), 1).unwrap();
        }
        adopted.adopt(b"7", 2).unwrap();
        assert_eq!(adopted.holder_of(b"7"), Some(2));
        adopted.adopt(b"last", 1).unwrap();
        assert_eq!(adopted.adopt(b"one more", 1), Err(NoRoom));
        let now = Instant::now();
        for at in [now, now + QUIET] {
            adopted.sweep(at, 1, |_| false);
        }
        assert_eq!((adopted.by_call_id.len(), adopted.holder_of(b"7")), (1, Some(2)));
        assert_eq!(adopted.adopt(&[b'x'; CALL_ID_BYTES_MAX + 1], 1), Err(NoRoom));
        adopted.adopt(&[b'x'; CALL_ID_BYTES_MAX], 1).unwrap();
    }
}
