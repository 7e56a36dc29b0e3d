//! Keying material of one SRTP direction, as negotiated by SDES (RFC 4568).
//!
//! Owns suites, master keys and MKI values as types that cannot be malformed and never print.
//! Refuses to know SDP syntax, base64 and where keys come from.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroize;

/// Longest MKI on the wire (RFC 4568 §6.1 limits its length to 128 octets).
pub const MKI_BYTES_MAX: usize = 128;

/// Octets of the SRTCP tag of AES-CM, whatever the SRTP tag of the suite is (RFC 3711 §5.2).
pub(crate) const SRTCP_TAG_BYTES: usize = 10;
/// Octets of every AEAD tag (RFC 7714 §13.2).
pub(crate) const AEAD_TAG_BYTES: usize = 16;
/// Longest tag of any suite.
pub(crate) const TAG_BYTES_MAX: usize = AEAD_TAG_BYTES;

/// Packets a master key may protect unless its crypto line says less (RFC 3711 §9.2).
pub const LIFETIME_PACKETS_MAX: u64 = 1 << 48;

/// Longest master key and longest salt.
const INLINE_BYTES_MAX: usize = 32 + 14;

/// Crypto suites this relay can protect with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// `AES_CM_128_HMAC_SHA1_80`
    AesCm128HmacSha1_80,
    /// `AES_CM_128_HMAC_SHA1_32`: 4-octet tag on SRTP, 10 octets on SRTCP.
    AesCm128HmacSha1_32,
    /// `AEAD_AES_128_GCM`
    AeadAes128Gcm,
    /// `AEAD_AES_256_GCM`
    AeadAes256Gcm,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Suite; 4] =
        [Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_32, Suite::AeadAes128Gcm, Suite::AeadAes256Gcm];

    /// Octets of the master key.
    pub const fn key_bytes(self) -> usize {
        match self {
            Suite::AeadAes256Gcm => 32,
            _ => 16,
        }
    }

    /// Octets of the master salt.
    pub const fn salt_bytes(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    /// Octets of the SRTP authentication tag.
    pub const fn rtp_tag_bytes(self) -> usize {
        match self {
            Suite::AesCm128HmacSha1_80 => 10,
            Suite::AesCm128HmacSha1_32 => 4,
            Suite::AeadAes128Gcm | Suite::AeadAes256Gcm => AEAD_TAG_BYTES,
        }
    }

    /// Octets of the SRTCP authentication tag.
    pub const fn rtcp_tag_bytes(self) -> usize {
        if self.is_aead() { AEAD_TAG_BYTES } else { SRTCP_TAG_BYTES }
    }

    /// Whether the tag is part of the cipher text.
    pub(crate) const fn is_aead(self) -> bool {
        matches!(self, Suite::AeadAes128Gcm | Suite::AeadAes256Gcm)
    }
}

/// Master key and master salt of one direction; wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    bytes: [u8; INLINE_BYTES_MAX],
    key_bytes: usize,
    bytes_used: usize,
}

impl MasterKey {
    /// Joins a 16-octet key and a 14-octet salt, as the AES-CM suites have them.
    pub fn new(key: [u8; 16], salt: [u8; 14]) -> Self {
        let mut bytes = [0; INLINE_BYTES_MAX];
        bytes[..16].copy_from_slice(&key);
        bytes[16..30].copy_from_slice(&salt);
        MasterKey { bytes, key_bytes: 16, bytes_used: 30 }
    }

    /// Cuts the octets of an SDES `inline:` value into key and salt; `None` unless the length is that of the suite.
    pub fn from_inline(suite: Suite, bytes: &[u8]) -> Option<Self> {
        let (key, salt) = bytes.split_at_checked(suite.key_bytes())?;
        if salt.len() == suite.salt_bytes() { MasterKey::joined(key, salt) } else { None }
    }

    /// A key and a salt of any lengths that AES has; `None` if they are too long.
    pub(crate) fn joined(key: &[u8], salt: &[u8]) -> Option<Self> {
        let bytes_used = key.len() + salt.len();
        let mut bytes = [0; INLINE_BYTES_MAX];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        bytes.get_mut(key.len()..bytes_used)?.copy_from_slice(salt);
        Some(MasterKey { bytes, key_bytes: key.len(), bytes_used })
    }

    /// The octets of the master key.
    pub fn key(&self) -> &[u8] {
        self.bytes.get(..self.key_bytes).unwrap_or_default()
    }

    /// The octets of the master salt.
    pub(crate) fn salt(&self) -> &[u8] {
        self.bytes.get(self.key_bytes..self.bytes_used).unwrap_or_default()
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(redacted)")
    }
}

/// Why an MKI cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MkiError {
    /// An MKI without octets is no MKI.
    #[error("the MKI is empty")]
    Empty,
    /// Longer than [`MKI_BYTES_MAX`].
    #[error("the MKI has {0} octets, more than {MKI_BYTES_MAX}")]
    TooLong(usize),
}

/// Master key identifier as it stands on the wire, 1 to 128 octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mki(Box<[u8]>);

impl Mki {
    /// Checks the length and keeps the octets.
    pub fn new(wire: &[u8]) -> Result<Self, MkiError> {
        match wire.len() {
            0 => Err(MkiError::Empty),
            length if length > MKI_BYTES_MAX => Err(MkiError::TooLong(length)),
            _ => Ok(Mki(wire.into())),
        }
    }

    /// The MKI as the number `value` in `length` octets, most significant first, as SDES writes `value:length`.
    pub fn from_value(value: u128, length: usize) -> Result<Self, MkiError> {
        if length > MKI_BYTES_MAX {
            return Err(MkiError::TooLong(length));
        }
        let mut wire = vec![0; length];
        for (to, from) in wire.iter_mut().rev().zip(value.to_le_bytes()) {
            *to = from;
        }
        Mki::new(&wire)
    }

    /// The octets on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Who does the transform. Packets are the same; cost and what can be asked of it are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provider {
    /// Our own, in place: no allocation, and the rollover counter survives a re-key.
    #[default]
    InPlace,
    /// The `webrtc-srtp` crate.
    WebrtcSrtp,
}

/// Whether what replaces a key has its session keys, so that no index may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SameKey {
    Yes,
    No,
}

/// Everything needed to protect, or to open, one direction of one leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyParams {
    /// Cipher and tag.
    pub suite: Suite,
    /// Master key and salt.
    pub key: MasterKey,
    /// Present when the negotiated line carries an MKI.
    pub mki: Option<Mki>,
    /// SRTP packets, and SRTCP packets, that the key may protect; at most [`LIFETIME_PACKETS_MAX`].
    pub lifetime: u64,
    /// Who does the transform.
    pub provider: Provider,
}

impl KeyParams {
    /// A key for the longest time, without an MKI, and the usual provider.
    pub fn new(suite: Suite, key: MasterKey) -> Self {
        KeyParams { suite, key, mki: None, lifetime: LIFETIME_PACKETS_MAX, provider: Provider::default() }
    }

    /// Whether the session keys are the same, whatever else was agreed.
    pub(crate) fn is_same_key(&self, other: &KeyParams) -> SameKey {
        let is_same = self.key == other.key && self.suite.is_aead() == other.suite.is_aead();
        if is_same { SameKey::Yes } else { SameKey::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mki_value_is_written_big_endian_in_its_length() {
        assert_eq!(Mki::from_value(1, 1).unwrap().as_bytes(), [1]);
        assert_eq!(Mki::from_value(0x0102, 4).unwrap().as_bytes(), [0, 0, 1, 2]);
        assert_eq!(Mki::from_value(1, 20).unwrap().as_bytes()[19], 1);
    }

    #[test]
    fn an_mki_of_impossible_length_is_refused() {
        assert_eq!(Mki::new(&[]), Err(MkiError::Empty));
        assert_eq!(Mki::from_value(1, 129), Err(MkiError::TooLong(129)));
        assert!(Mki::new(&[7; MKI_BYTES_MAX]).is_ok());
    }

    #[test]
    fn an_inline_value_of_another_length_is_no_key() {
        for (suite, length) in Suite::ALL.into_iter().zip([30, 30, 28, 44]) {
            for given in 0..=64 {
                let key = MasterKey::from_inline(suite, &vec![1; given]);
                assert_eq!(key.is_some(), given == length, "{suite:?} {given}");
            }
        }
    }

    #[test]
    fn keys_never_print() {
        let key = MasterKey::new([0xA7; 16], [0xA7; 14]);
        let shown = format!("{key:?}");
        assert!(!shown.contains("167") && !shown.to_lowercase().contains("a7"));
    }
}
