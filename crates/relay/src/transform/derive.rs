//! Session keys from a master key (RFC 3711 §4.3), with the key derivation rate 0 that SDES means by saying
//! nothing, so that they are derived once.
//!
//! Owns the pseudo-random function, AES in counter mode with a key as long as the master key (RFC 6188 §3,
//! RFC 7714 §11). Refuses to know what the values are used for.

use super::keystream::apply_once;
use crate::key::MasterKey;

/// Which of the two flows of a key. Each has session values of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Rtp,
    Rtcp,
}

/// What is derived (RFC 3711 §4.3.1, §4.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    CipherKey,
    AuthKey,
    Salt,
}

const fn label(flow: Flow, value: Value) -> u8 {
    let of_value = match value {
        Value::CipherKey => 0,
        Value::AuthKey => 1,
        Value::Salt => 2,
    };
    match flow {
        Flow::Rtp => of_value,
        Flow::Rtcp => of_value + 3,
    }
}

/// Fills `out` with a session value; `None` if AES has no keys of that length.
pub(super) fn derive(master: &MasterKey, flow: Flow, value: Value, out: &mut [u8]) -> Option<()> {
    out.fill(0);
    // The label stands 48 bits from the end of the 112-bit salt, which a counter of 16 bits follows.
    let counter = aligned(master.salt()) ^ u128::from(label(flow, value)) << 64;
    apply_once(master.key(), counter, out)
}

/// A salt before the 16 bits of the counter; shorter ones are filled with zeros at the end.
pub(super) fn aligned(salt: &[u8]) -> u128 {
    let mut block = [0; 16];
    for (to, from) in block.iter_mut().zip(salt) {
        *to = *from;
    }
    u128::from_be_bytes(block)
}
