//! The dialogs of one engine: whose leg a Call-ID and a tag of ours belong to. Owns the count of dialogs behind each
//! Call-ID, kept only where other shards may ask for it; refuses to know what a dialog is.

use std::collections::HashMap;

use bytes::Bytes;
use relay::Side;

use super::core::Table;
use super::io::CallKey;

/// A dialog by Call-ID and our tag.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub(crate) struct DialogId {
    /// Call-ID.
    pub call_id: Bytes,
    /// Our tag.
    pub tag: Bytes,
}

/// The table.
pub(crate) struct Dialogs {
    ends: Table<DialogId, (CallKey, Side)>,
    /// Dialogs behind each Call-ID; `None` in a gateway of one shard.
    of_call_id: Option<Table<Bytes, usize>>,
}

impl Dialogs {
    /// No dialogs, in one of so many shards.
    pub fn new(hasher: ahash::RandomState, shards: u16) -> Self {
        let of_call_id = (shards > 1).then(|| HashMap::with_hasher(hasher.clone()));
        Self { ends: HashMap::with_hasher(hasher), of_call_id }
    }

    /// The end of a call that this dialog is.
    pub fn get(&self, id: &DialogId) -> Option<(CallKey, Side)> {
        self.ends.get(id).copied()
    }

    /// That dialog is this end.
    pub fn insert(&mut self, id: DialogId, end: (CallKey, Side)) {
        let call_id = self.of_call_id.is_some().then(|| id.call_id.clone());
        if self.ends.insert(id, end).is_none()
            && let (Some(counts), Some(call_id)) = (&mut self.of_call_id, call_id)
        {
            *counts.entry(call_id).or_default() += 1;
        }
    }

    /// That dialog is over.
    pub fn remove(&mut self, id: &DialogId) {
        if self.ends.remove(id).is_some()
            && let Some(counts) = &mut self.of_call_id
            && let Some(count) = counts.get_mut(&id.call_id)
        {
            *count -= 1;
            if *count == 0 {
                counts.remove(&id.call_id);
            }
        }
    }

    /// Whether a dialog has this Call-ID, in one of several shards.
    pub fn has_call_id(&self, call_id: &[u8]) -> bool {
        self.of_call_id.as_ref().is_some_and(|counts| counts.contains_key(call_id))
    }

    /// Neither a dialog nor a count of one.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.of_call_id.as_ref().is_none_or(HashMap::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(call_id: &'static str, tag: &'static str) -> DialogId {
        DialogId { call_id: Bytes::from_static(call_id.as_bytes()), tag: Bytes::from_static(tag.as_bytes()) }
    }

    #[test]
    fn a_call_id_is_known_until_its_last_dialog_is_over_and_nothing_is_left_behind() {
        let mut dialogs = Dialogs::new(ahash::RandomState::with_seeds(1, 2, 3, 4), 2);
        let end = (CallKey::default(), Side::A);
        dialogs.insert(id("c", "1"), end);
        dialogs.insert(id("c", "1"), end);
        dialogs.insert(id("c", "2"), end);
        dialogs.remove(&id("c", "1"));
        dialogs.remove(&id("c", "1"));
        assert!(dialogs.has_call_id(b"c") && !dialogs.has_call_id(b"d"));
        assert_eq!((dialogs.get(&id("c", "1")), dialogs.get(&id("c", "2"))), (None, Some(end)));
        dialogs.remove(&id("c", "2"));
        assert!(!dialogs.has_call_id(b"c") && dialogs.is_empty());
    }

    #[test]
    fn one_shard_keeps_no_counts() {
        let mut dialogs = Dialogs::new(ahash::RandomState::with_seeds(1, 2, 3, 4), 1);
        dialogs.insert(id("c", "1"), (CallKey::default(), Side::A));
        assert!(dialogs.of_call_id.is_none() && !dialogs.has_call_id(b"c"));
    }
}
