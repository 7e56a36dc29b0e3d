//! Master keys with salts, and their texts.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// A 16-octet master key and its 14-octet salt, as SDES writes them (RFC 4568 §6.1).
pub type Inline = [u8; 30];

/// A fresh one.
pub fn fresh() -> Inline {
    rand::random()
}

/// As the `inline:` value of a crypto line.
pub fn to_base64(key: &Inline) -> String {
    BASE64_STANDARD.encode(key)
}

/// From a crypto line's `inline:` value.
pub fn from_base64(text: &str) -> Option<Inline> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

/// As hex.
pub fn to_hex(key: &Inline) -> String {
    key.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// From hex.
pub fn from_hex(text: &str) -> Option<Inline> {
    let octets = (0..text.len() / 2).map(|at| u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok());
    octets.collect::<Option<Vec<u8>>>()?.try_into().ok()
}
