//! The keystream of AES in counter mode, from any counter on.
//!
//! Owns an expanded key. RustCrypto's, because it takes three fifths of the time that aws-lc-rs' interface takes on a packet of
//! speech. Refuses to know what a counter is made of.

use aes::cipher::consts::U16;
use aes::cipher::{
    BlockCipher, BlockEncrypt, BlockSizeUser, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper,
};
use aes::{Aes128, Aes192, Aes256};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use zeroize::Zeroizing;

/// Octets of the longest AES key.
const KEY_BYTES_MAX: usize = 32;

/// An AES key, wiped on drop.
pub(super) enum CounterKey {
    Aes128(Box<Aes128>),
    Aes192(Box<Aes192>),
    Aes256(Box<Aes256>),
    /// Expanded for each packet: the 700 octets that this saves are more than a few packets a minute are worth.
    Seldom(Zeroizing<[u8; KEY_BYTES_MAX]>, usize),
}

impl CounterKey {
    /// Expands a key; `None` if AES has none of that length.
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        Some(match key.len() {
            16 => CounterKey::Aes128(Box::new(Aes128::new_from_slice(key).ok()?)),
            24 => CounterKey::Aes192(Box::new(Aes192::new_from_slice(key).ok()?)),
            32 => CounterKey::Aes256(Box::new(Aes256::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }

    /// Keeps a key for few packets; `None` if AES has none of that length.
    pub(super) fn seldom(key: &[u8]) -> Option<Self> {
        let mut kept = Zeroizing::new([0; KEY_BYTES_MAX]);
        kept.get_mut(..key.len())?.copy_from_slice(key);
        matches!(key.len(), 16 | 24 | 32).then_some(CounterKey::Seldom(kept, key.len()))
    }

    /// Adds the keystream that begins at `counter`, in place; both directions are the same.
    pub(super) fn apply(&self, counter: u128, bytes: &mut [u8]) -> Option<()> {
        match self {
            CounterKey::Aes128(aes) => apply(aes.as_ref(), counter, bytes),
            CounterKey::Aes192(aes) => apply(aes.as_ref(), counter, bytes),
            CounterKey::Aes256(aes) => apply(aes.as_ref(), counter, bytes),
            CounterKey::Seldom(key, length) => apply_once(key.get(..*length)?, counter, bytes),
        }
    }
}

/// The same with a key that is not kept; `None` if AES has none of that length.
pub(super) fn apply_once(key: &[u8], counter: u128, bytes: &mut [u8]) -> Option<()> {
    match key.len() {
        16 => apply(&Aes128::new_from_slice(key).ok()?, counter, bytes),
        24 => apply(&Aes192::new_from_slice(key).ok()?, counter, bytes),
        32 => apply(&Aes256::new_from_slice(key).ok()?, counter, bytes),
        _ => None,
    }
}

fn apply<C>(aes: &C, counter: u128, bytes: &mut [u8]) -> Option<()>
where
    C: BlockCipher + BlockEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let core = CtrCore::<&C, Ctr128BE>::inner_iv_init(aes, &counter.to_be_bytes().into());
    StreamCipherCoreWrapper::from_core(core).try_apply_keystream(bytes).ok()
}
