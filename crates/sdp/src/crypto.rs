//! SDES crypto lines (RFC 4568 §9.1, §9.2): suites, key material, lifetime, MKI, session parameters. Owns
//! parsing, printing and the choice of one line; knows nothing of packets, and never shows a key in `Debug`.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroize;

use crate::audio::Audio;
use crate::limits::{CRYPTO_LINE_BYTES_MAX, LIFETIME_LOG2_MAX, SESSION_PARAMS_MAX};
use crate::mki::Mki;

// Padding is part of the grammar only for the GCM suites, and peers differ on it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const KEY_SALT_BYTES_MAX: usize = 44;
const DECODED_BYTES_MAX: usize = 96;

/// A crypto suite of RFC 4568 §6.2 or RFC 7714.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// `AES_CM_128_HMAC_SHA1_80`
    AesCm128HmacSha1_80,
    /// `AES_CM_128_HMAC_SHA1_32`
    AesCm128HmacSha1_32,
    /// `AEAD_AES_128_GCM`
    AeadAes128Gcm,
    /// `AEAD_AES_256_GCM`
    AeadAes256Gcm,
}

impl Suite {
    /// Every suite this crate can read.
    pub const ALL: [Self; 4] =
        [Self::AesCm128HmacSha1_80, Self::AesCm128HmacSha1_32, Self::AeadAes128Gcm, Self::AeadAes256Gcm];

    /// The suite of that registered name; case as registered.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// Length of the master key in bytes.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            _ => 16,
        }
    }

    /// Length of the master salt in bytes.
    pub const fn salt_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }
}

/// Master key and master salt of one suite. Wiped when dropped; `Debug` shows none of it.
#[derive(Clone)]
pub struct KeySalt {
    bytes: [u8; KEY_SALT_BYTES_MAX],
    key_len: usize,
    len: usize,
}

impl KeySalt {
    /// Takes key and salt, one after the other; `None` unless the length is exactly that of the suite.
    pub fn from_bytes(suite: Suite, key_salt: &[u8]) -> Option<Self> {
        let len = suite.key_bytes() + suite.salt_bytes();
        if key_salt.len() != len {
            return None;
        }
        let mut bytes = [0; KEY_SALT_BYTES_MAX];
        bytes.get_mut(..len)?.copy_from_slice(key_salt);
        Some(Self { bytes, key_len: suite.key_bytes(), len })
    }

    /// Master key, then master salt.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The master key.
    pub fn key(&self) -> &[u8] {
        &self.bytes[..self.key_len]
    }

    /// The master salt.
    pub fn salt(&self) -> &[u8] {
        &self.bytes[self.key_len..self.len]
    }

    fn from_base64(suite: Suite, text: &str) -> Option<Self> {
        let mut decoded = [0u8; DECODED_BYTES_MAX];
        let decoded_len = BASE64.decode_slice(text, &mut decoded).ok();
        let key = decoded_len.and_then(|len| Self::from_bytes(suite, decoded.get(..len)?));
        decoded.zeroize();
        key
    }
}

impl Drop for KeySalt {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl PartialEq for KeySalt {
    // Every byte is looked at, so the time does not tell where two keys differ.
    fn eq(&self, other: &Self) -> bool {
        let differing = self.bytes.iter().zip(&other.bytes).fold(0u8, |all, (a, b)| all | (a ^ b));
        self.len == other.len && differing == 0
    }
}

impl Eq for KeySalt {}

impl std::fmt::Debug for KeySalt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySalt({} bytes, redacted)", self.len)
    }
}

/// How many packets a master key may protect, in the spelling it came in.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lifetime {
    /// `2^n` packets.
    PowerOfTwo(u8),
    /// A plain number of packets.
    Packets(u64),
}

impl Lifetime {
    /// The number of packets.
    pub const fn packets(self) -> u64 {
        match self {
            Self::PowerOfTwo(n) => 1 << (if n > LIFETIME_LOG2_MAX { LIFETIME_LOG2_MAX } else { n }),
            Self::Packets(packets) => packets,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse::<u64>().ok()).flatten();
        match text.strip_prefix("2^") {
            Some(exponent) => {
                let exponent = u8::try_from(number(exponent)?).ok()?;
                (exponent <= LIFETIME_LOG2_MAX).then_some(Self::PowerOfTwo(exponent))
            }
            None => {
                let packets = number(text)?;
                (1..=1 << LIFETIME_LOG2_MAX).contains(&packets).then_some(Self::Packets(packets))
            }
        }
    }
}

impl std::fmt::Display for Lifetime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PowerOfTwo(n) => write!(f, "2^{n}"),
            Self::Packets(packets) => write!(f, "{packets}"),
        }
    }
}

/// Why a crypto line cannot be used.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// Longer than [`CRYPTO_LINE_BYTES_MAX`].
    #[error("crypto line too long")]
    TooLong,
    /// The tag is missing or not a number of one to nine digits.
    #[error("crypto tag is no number of one to nine digits")]
    Tag,
    /// A suite this crate does not know.
    #[error("unknown crypto suite")]
    UnknownSuite,
    /// No `inline:` key, more than one, or one of the wrong length.
    #[error("crypto key is not one inline key of the suite's length")]
    Key,
    /// Lifetime outside 1 to 2^48 packets, or not a number.
    #[error("crypto key lifetime out of range")]
    Lifetime,
    /// The master key identifier does not fit its stated length.
    #[error("master key identifier does not fit its length")]
    Mki,
    /// More than [`SESSION_PARAMS_MAX`] session parameters.
    #[error("too many crypto session parameters")]
    SessionParams,
}

/// One `a=crypto` line (without `a=crypto:`), or the crypto part of an `a=cryptoscale` line.
#[derive(Clone, PartialEq, Eq)]
pub struct CryptoLine {
    /// The tag, unique within the media line.
    pub tag: u32,
    /// The suite.
    pub suite: Suite,
    /// Master key and salt.
    pub key: KeySalt,
    /// How long the key may be used; `None` means the suite's maximum.
    pub lifetime: Option<Lifetime>,
    /// Master key identifier that each packet carries; `None` means packets carry none.
    pub mki: Option<Mki>,
    /// Session parameters as spelled.
    pub session_params: Vec<String>,
}

impl std::fmt::Debug for CryptoLine {
    /// Session parameters are counted only: a line that was pasted together wrongly has keys among them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CryptoLine")
            .field("tag", &self.tag)
            .field("suite", &self.suite)
            .field("key", &self.key)
            .field("lifetime", &self.lifetime)
            .field("mki", &self.mki)
            .field("session_params", &self.session_params.len())
            .finish()
    }
}

impl CryptoLine {
    /// A plain line: no lifetime, no MKI, no session parameters.
    pub const fn new(tag: u32, suite: Suite, key: KeySalt) -> Self {
        Self { tag, suite, key, lifetime: None, mki: None, session_params: Vec::new() }
    }

    /// Parses `1 AES_CM_128_HMAC_SHA1_80 inline:…|2^31|1:1 params`.
    pub fn parse(value: &str) -> Result<Self, CryptoError> {
        if value.len() > CRYPTO_LINE_BYTES_MAX {
            return Err(CryptoError::TooLong);
        }
        let mut words = value.split_ascii_whitespace();
        let tag = parse_tag(words.next())?;
        Self::parse_rest(tag, words)
    }

    /// Parses Microsoft's `1 client AES_CM_128_HMAC_SHA1_80 inline:…`; the role word is not kept.
    pub fn parse_scaled(value: &str) -> Result<Self, CryptoError> {
        if value.len() > CRYPTO_LINE_BYTES_MAX {
            return Err(CryptoError::TooLong);
        }
        let mut words = value.split_ascii_whitespace();
        let tag = parse_tag(words.next())?;
        words.next();
        Self::parse_rest(tag, words)
    }

    fn parse_rest<'a>(tag: u32, mut words: impl Iterator<Item = &'a str>) -> Result<Self, CryptoError> {
        let suite = words.next().and_then(Suite::from_name).ok_or(CryptoError::UnknownSuite)?;
        let key_params = words.next().ok_or(CryptoError::Key)?;
        // Several keys in one line need their MKIs to choose by; nobody here sends them (RFC 4568 §6.1).
        let info = key_params.strip_prefix("inline:").ok_or(CryptoError::Key)?;
        let mut fields = info.split('|');
        let key = fields.next().and_then(|text| KeySalt::from_base64(suite, text)).ok_or(CryptoError::Key)?;
        let (lifetime, mki) = parse_key_limits(fields)?;
        let session_params: Vec<String> = words.take(SESSION_PARAMS_MAX + 1).map(str::to_owned).collect();
        if session_params.len() > SESSION_PARAMS_MAX {
            return Err(CryptoError::SessionParams);
        }
        Ok(Self { tag, suite, key, lifetime, mki, session_params })
    }

    /// Whether every session parameter is one that may be ignored: a window size hint, or an optional one (those
    /// begin with `-`). Anything else (`UNENCRYPTED_SRTP`, `KDR` …) changes the packets, so the line is of no use.
    pub fn is_usable(&self) -> bool {
        self.session_params.iter().all(|param| param.starts_with('-') || param.starts_with("WSH="))
    }
}

impl std::fmt::Display for CryptoLine {
    /// Prints the attribute's value **with the key**: for the wire only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = [0u8; 2 * KEY_SALT_BYTES_MAX];
        let len = BASE64.encode_slice(self.key.as_bytes(), &mut text).map_err(|_| std::fmt::Error)?;
        let key = std::str::from_utf8(&text[..len]).map_err(|_| std::fmt::Error)?;
        let written = write!(f, "{} {} inline:{key}", self.tag, self.suite.name());
        text.zeroize();
        written?;
        if let Some(lifetime) = self.lifetime {
            write!(f, "|{lifetime}")?;
        }
        if let Some(mki) = &self.mki {
            write!(f, "|{mki}")?;
        }
        self.session_params.iter().try_for_each(|param| write!(f, " {param}"))
    }
}

fn parse_tag(word: Option<&str>) -> Result<u32, CryptoError> {
    let word = word.ok_or(CryptoError::Tag)?;
    if !(1..=9).contains(&word.len()) || !word.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CryptoError::Tag);
    }
    word.parse().map_err(|_| CryptoError::Tag)
}

fn parse_key_limits<'a>(
    mut fields: impl Iterator<Item = &'a str>,
) -> Result<(Option<Lifetime>, Option<Mki>), CryptoError> {
    let (first, second) = (fields.next(), fields.next());
    if fields.next().is_some() {
        return Err(CryptoError::Mki);
    }
    let lifetime = |text| Lifetime::parse(text).ok_or(CryptoError::Lifetime).map(Some);
    let mki = |text| Mki::parse(text).ok_or(CryptoError::Mki).map(Some);
    match (first, second) {
        (None, _) => Ok((None, None)),
        // Only an MKI has a colon, so a lone field tells by itself which one it is.
        (Some(only), None) if only.contains(':') => Ok((None, mki(only)?)),
        (Some(only), None) => Ok((lifetime(only)?, None)),
        (Some(first), Some(second)) => Ok((lifetime(first)?, mki(second)?)),
    }
}

/// Chooses the offered line to answer: the first without MKI whose suite is allowed, else the first allowed one.
pub fn pick_crypto(offer: &Audio, allowed: &[Suite]) -> Option<CryptoLine> {
    let usable = || offer.crypto.iter().filter(|line| allowed.contains(&line.suite));
    usable().find(|line| line.mki.is_none()).or_else(|| usable().next()).cloned()
}

/// As [`pick_crypto`], for a peer that means the order of its lines: the first whose suite is allowed.
pub fn pick_crypto_as_offered(offer: &Audio, allowed: &[Suite]) -> Option<CryptoLine> {
    offer.crypto.iter().find(|line| allowed.contains(&line.suite)).cloned()
}

#[cfg(test)]
#[path = "crypto_tests.rs"]
mod tests;
