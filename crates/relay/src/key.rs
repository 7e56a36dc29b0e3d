//! Keying material of one SRTP direction, as negotiated by SDES (RFC 4568).
//!
//! Owns suites, master keys and MKI values as types that cannot be malformed and never print.
//! Refuses to know SDP syntax, base64 and where keys come from.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroize;

/// Octets of an AES-128 master key.
pub const MASTER_KEY_BYTES: usize = 16;
/// Octets of an AES-CM master salt.
pub const MASTER_SALT_BYTES: usize = 14;
/// Longest MKI on the wire (RFC 4568 §6.1 limits its length to 128 octets).
pub const MKI_BYTES_MAX: usize = 128;

/// Octets of the SRTCP authentication tag, whatever the RTP tag of the suite is (RFC 3711 §5.2).
pub const SRTCP_TAG_BYTES: usize = 10;

/// Crypto suites this relay can protect with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// `AES_CM_128_HMAC_SHA1_80`
    AesCm128HmacSha1_80,
    /// `AES_CM_128_HMAC_SHA1_32`: 4-octet tag on SRTP, 10 octets on SRTCP.
    AesCm128HmacSha1_32,
}

impl Suite {
    /// Octets of the SRTP authentication tag.
    pub const fn rtp_tag_bytes(self) -> usize {
        match self {
            Suite::AesCm128HmacSha1_80 => 10,
            Suite::AesCm128HmacSha1_32 => 4,
        }
    }
}

/// Master key and master salt of one direction; wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    key: [u8; MASTER_KEY_BYTES],
    salt: [u8; MASTER_SALT_BYTES],
}

impl MasterKey {
    /// Joins a 16-octet key and a 14-octet salt.
    pub fn new(key: [u8; MASTER_KEY_BYTES], salt: [u8; MASTER_SALT_BYTES]) -> Self {
        MasterKey { key, salt }
    }

    /// Cuts the 30 octets of an SDES `inline:` value into key and salt; `None` if the length differs.
    pub fn from_inline(bytes: &[u8]) -> Option<Self> {
        let (key, salt) = bytes.split_at_checked(MASTER_KEY_BYTES)?;
        Some(MasterKey { key: key.try_into().ok()?, salt: salt.try_into().ok()? })
    }

    /// The 16 octets of the master key.
    pub fn key(&self) -> &[u8; MASTER_KEY_BYTES] {
        &self.key
    }

    /// The 14 octets of the master salt.
    pub fn salt(&self) -> &[u8; MASTER_SALT_BYTES] {
        &self.salt
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
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

/// Everything needed to protect, or to open, one direction of one leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyParams {
    /// Cipher and tag.
    pub suite: Suite,
    /// Master key and salt.
    pub key: MasterKey,
    /// Present when the negotiated line carries an MKI.
    pub mki: Option<Mki>,
}

impl KeyParams {
    /// Octets of the MKI on the wire; 0 without one.
    pub fn mki_bytes(&self) -> usize {
        self.mki.as_ref().map_or(0, |mki| mki.as_bytes().len())
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
        assert!(MasterKey::from_inline(&[1; 30]).is_some());
        assert!(MasterKey::from_inline(&[1; 29]).is_none());
        assert!(MasterKey::from_inline(&[1; 31]).is_none());
        assert!(MasterKey::from_inline(&[]).is_none());
    }

    #[test]
    fn keys_never_print() {
        let key = MasterKey::new([0xA7; 16], [0xA7; 14]);
        let shown = format!("{key:?}");
        assert!(!shown.contains("167") && !shown.to_lowercase().contains("a7"));
    }
}
