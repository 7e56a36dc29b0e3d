//! Everything we name on the wire: branches, tags, Call-IDs. All from one seed, so that one seed is one trace; a
//! keyed hash of a counter, so that one name does not tell the next.

use super::types::ClientKey;
use crate::Message;
use bytes::{BufMut, Bytes, BytesMut};
use std::hash::{BuildHasher, Hasher};

/// What every branch of RFC 3261 starts with.
const MAGIC_COOKIE: &[u8] = b"z9hG4bK";
/// Hex digits of index and generation, and of the random part, at the end of each branch.
const HANDLE_DIGITS: usize = 16;
const RANDOM_DIGITS: usize = 16;
/// Hex digits of each half of a tag that stands without a transaction.
const HALF_TAG: usize = 16;

/// The source of names.
pub(super) struct Ids {
    names: ahash::RandomState,
    tables: ahash::RandomState,
    /// Together they make a [`Print`].
    prints: [ahash::RandomState; 2],
    made: u64,
}

/// What stands for a key that peers choose: 128 bits of it under two secrets, so that equal prints are equal keys and
/// nobody can aim at one.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub(super) struct Print(u64, u64);

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        let turn = seed.rotate_left(32);
        Self {
            names: ahash::RandomState::with_seeds(seed, turn, !seed, 0x756d_6272_6131),
            tables: ahash::RandomState::with_seeds(!turn, seed, turn, 0x756d_6272_6132),
            prints: [
                ahash::RandomState::with_seeds(seed, !turn, turn, 0x756d_6272_6133),
                ahash::RandomState::with_seeds(turn, !seed, seed, 0x756d_6272_6134),
            ],
            made: 0,
        }
    }

    /// The hasher for tables whose keys peers choose.
    pub(super) fn table_hasher(&self) -> ahash::RandomState {
        self.tables.clone()
    }

    /// The print of a list of parts; where one ends and the next begins counts.
    pub(super) fn print(&self, parts: &[&[u8]]) -> Print {
        let mut hashers = [self.prints[0].build_hasher(), self.prints[1].build_hasher()];
        for hasher in &mut hashers {
            for part in parts {
                hasher.write(part);
                hasher.write_usize(part.len());
            }
        }
        Print(hashers[0].finish(), hashers[1].finish())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.made += 1;
        self.names.hash_one(self.made)
    }

    pub(super) fn token(&mut self, prefix: &[u8], words: usize) -> Bytes {
        let mut out = BytesMut::with_capacity(prefix.len() + words * 16);
        out.put_slice(prefix);
        for _ in 0..words {
            put_hex(&mut out, self.next());
        }
        out.freeze()
    }

    /// A branch that carries the handle of its transaction, so that a response finds it without a table.
    pub(super) fn branch(&mut self, prefix: &[u8], key: ClientKey) -> Bytes {
        let mut out =
            BytesMut::with_capacity(MAGIC_COOKIE.len() + prefix.len() + HANDLE_DIGITS + RANDOM_DIGITS);
        out.put_slice(MAGIC_COOKIE);
        out.put_slice(prefix);
        put_hex(&mut out, u64::from(key.0) << 32 | u64::from(key.1));
        put_hex(&mut out, self.next());
        out.freeze()
    }

    /// A tag that is the same for each retransmission of a request that has no transaction (RFC 3261 §8.2.7), and that
    /// [`Self::is_stateless_tag`] knows again.
    pub(super) fn stateless_tag(&self, message: &Message, branch: &[u8]) -> Bytes {
        let mut hasher = self.names.build_hasher();
        hasher.write(message.call_id());
        hasher.write(message.from_tag().unwrap_or_default());
        hasher.write(branch);
        self.tag_of(hasher.finish())
    }

    /// The same for bytes that are no message.
    pub(super) fn tag_of_bytes(&self, bytes: &[u8]) -> Bytes {
        self.tag_of(self.names.hash_one(bytes))
    }

    /// Whether a tag is one of those: the second half is the first under our secret, so nothing need be remembered.
    pub(super) fn is_stateless_tag(&self, tag: &[u8]) -> bool {
        let value = (tag.len() == 2 * HALF_TAG).then(|| value_of_hex(&tag[..HALF_TAG])).flatten();
        value.is_some_and(|value| self.tag_of(value) == tag)
    }

    fn tag_of(&self, value: u64) -> Bytes {
        let mut out = BytesMut::with_capacity(2 * HALF_TAG);
        put_hex(&mut out, value);
        put_hex(&mut out, self.tables.hash_one(value));
        out.freeze()
    }
}

/// The handle in a branch of ours.
pub(super) fn key_of_branch(branch: &[u8]) -> Option<ClientKey> {
    let from = branch.len().checked_sub(HANDLE_DIGITS + RANDOM_DIGITS)?;
    let value = value_of_hex(&branch[from..from + HANDLE_DIGITS])?;
    Some(ClientKey((value >> 32) as u32, (value & 0xffff_ffff) as u32))
}

fn value_of_hex(digits: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(u64::from);
    digits.iter().try_fold(0u64, |value, byte| Some(value << 4 | digit(byte)?))
}

fn put_hex(out: &mut BytesMut, value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for shift in (0..16).rev() {
        out.put_u8(DIGITS[(value >> (shift * 4)) as usize & 15]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_gives_its_key_back_and_no_two_are_alike() {
        let mut ids = Ids::new(7);
        let key = ClientKey(3, 0xffff_fff0);
        let (one, two) = (ids.branch(b"u-", key), ids.branch(b"u-", key));
        assert_ne!(one, two);
        assert!(one.starts_with(b"z9hG4bKu-"));
        assert_eq!((key_of_branch(&one), key_of_branch(&two)), (Some(key), Some(key)));
        assert_eq!(key_of_branch(b"z9hG4bK1"), None);
        assert_eq!(key_of_branch(b"z9hG4bKzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"), None);
    }

    #[test]
    fn a_print_tells_parts_apart_wherever_they_are_cut() {
        let ids = Ids::new(7);
        let print = |parts: &[&[u8]]| ids.print(parts);
        assert_eq!(print(&[b"ab", b"c"]), print(&[b"ab", b"c"]));
        let all = [print(&[b"ab", b"c"]), print(&[b"a", b"bc"]), print(&[b"abc"]), print(&[b"abc", b""])];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other.0 != one.0 && other.1 != one.1));
        }
        assert_ne!(Ids::new(8).print(&[b"ab", b"c"]), print(&[b"ab", b"c"]));
    }

    #[test]
    fn a_stateless_tag_is_known_again_and_no_other_is() {
        let (ids, others) = (Ids::new(7), Ids::new(8));
        let tag = ids.tag_of_bytes(b"request");
        assert!(ids.is_stateless_tag(&tag));
        assert!(!others.is_stateless_tag(&tag));
        let mut another = tag.to_vec();
        another[3] ^= 1;
        for tag in [&another[..], &tag[1..], &tag[..HALF_TAG], b"", b"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"] {
            assert!(!ids.is_stateless_tag(tag), "{tag:?}");
        }
    }

    #[test]
    fn one_seed_gives_one_sequence_of_names() {
        let names = |seed| {
            let mut ids = Ids::new(seed);
            (ids.token(b"", 1), ids.token(b"c-", 2))
        };
        assert_eq!(names(1), names(1));
        assert_ne!(names(1), names(2));
    }
}
