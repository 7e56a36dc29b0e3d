//! STUN messages as far as a connectivity check needs them (RFC 8489, RFC 8445 §7.3).
//!
//! Owns the grammar of a Binding request, the two forms of its integrity and of its fingerprint, and the one
//! response. Every length is checked before it is used, nothing is allocated. Refuses to know legs, addresses that
//! may ask, and how often.
//!
//! ```text
//!  |0 0|   type 0x0001 / 0x0101    |        length of the rest     |
//!  |        magic cookie (before RFC 5389: of the transaction)     |
//!  |                  transaction, 12 octets                       |
//!  |  attributes: type, length, value, filled to whole 32 bits …   |
//!  |  0x0008 MESSAGE-INTEGRITY: HMAC-SHA1 of all before it         |
//!  |  0x8028 FINGERPRINT: CRC-32 of all before it                  |
//! ```

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// Largest check that is read: what fits an IPv6 path of the smallest MTU (RFC 8489 §6.1).
pub const STUN_BYTES_MAX: usize = 1_280;
/// Most attributes that are looked at in one check.
pub const STUN_ATTRIBUTES_MAX: usize = 32;

const HEADER_BYTES: usize = 20;
const ATTRIBUTE_HEAD_BYTES: usize = 4;
const MAC_BYTES: usize = 20;
const INTEGRITY_BYTES: usize = ATTRIBUTE_HEAD_BYTES + MAC_BYTES;
const FINGERPRINT_BYTES: usize = ATTRIBUTE_HEAD_BYTES + 4;
const COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_RESPONSE: u16 = 0x0101;
/// What a CRC is combined with to be a fingerprint (RFC 8489 §14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554E;
/// Blocks that the text is filled to before RFC 5389 (RFC 3489 §11.2.8).
const PADDED_BLOCK_BYTES: usize = 64;
/// The version of [MS-ICE2] whose checks carry HMAC-SHA1.
const VERSION_MAX: u32 = 2;

mod attribute {
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const REALM: u16 = 0x0014;
    pub(super) const NONCE: u16 = 0x0015;
    /// Beside MESSAGE-INTEGRITY it may be left unread (RFC 8489 §9.1.1).
    pub(super) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PRIORITY: u16 = 0x0024;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    /// Of [MS-ICE2]: in requests and responses alike.
    pub(super) const IMPLEMENTATION_VERSION: u16 = 0x8070;
    /// From here on an attribute need not be understood.
    pub(super) const OPTIONAL: u16 = 0x8000;
}

type HmacSha1 = Hmac<Sha1>;

/// Whether a datagram is STUN by its first octet, where RTP and STUN share a port (RFC 7983 §7).
pub(crate) fn is_stun(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| *first <= 3)
}

/// Which text the integrity of a message covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Integrity {
    /// The length field ends behind the attribute, the text is as it is (RFC 8489 §14.5).
    Exact,
    /// The length field is as sent, the text filled with zeros to whole blocks: RFC 3489, and what Microsoft kept of it.
    Padded,
}

/// Which table a fingerprint was computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fingerprint {
    /// That of ITU-T V.42.
    Standard,
    /// The one with a digit missing in one of its entries, which Microsoft's clients use.
    Misprinted,
}

/// A Binding request, nothing of it believed.
pub(crate) struct Request<'p> {
    bytes: &'p [u8],
    username: &'p [u8],
    integrity_at: usize,
    mac: &'p [u8],
    fingerprint: Option<(usize, u32)>,
    version: Option<u32>,
    use_candidate: bool,
}

impl<'p> Request<'p> {
    /// Reads a request that has a name and an integrity; anything else is `None`.
    pub(crate) fn parse(bytes: &'p [u8]) -> Option<Self> {
        let length = usize::from(word16(bytes, 2)?);
        let is_whole = length % 4 == 0 && bytes.len() == HEADER_BYTES + length;
        if bytes.len() > STUN_BYTES_MAX || !is_whole || word16(bytes, 0)? != BINDING_REQUEST {
            return None;
        }
        let (mut username, mut integrity) = (None, None);
        let (mut fingerprint, mut version, mut use_candidate) = (None, None, false);
        let mut at = HEADER_BYTES;
        for _ in 0..=STUN_ATTRIBUTES_MAX {
            if at == bytes.len() {
                let (integrity_at, mac) = integrity?;
                let username = username?;
                return Some(Request {
                    bytes,
                    username,
                    integrity_at,
                    mac,
                    fingerprint,
                    version,
                    use_candidate,
                });
            }
            let (kind, length) = (word16(bytes, at)?, usize::from(word16(bytes, at + 2)?));
            let start = at + ATTRIBUTE_HEAD_BYTES;
            let value = bytes.get(start..start + length)?;
            // Nothing follows a fingerprint, and only a fingerprint counts behind the integrity (RFC 8489 §14.5, §14.7).
            match (kind, fingerprint, integrity) {
                (_, Some(_), _) => return None,
                (attribute::FINGERPRINT, ..) => fingerprint = Some((at, word32(value)?)),
                (_, _, Some(_)) => {}
                (attribute::MESSAGE_INTEGRITY, ..) if length == MAC_BYTES => integrity = Some((at, value)),
                (attribute::USERNAME, ..) => username = username.or(Some(value)),
                (attribute::USE_CANDIDATE, ..) => use_candidate = true,
                (attribute::IMPLEMENTATION_VERSION, ..) => version = version.or(word32(value)),
                (
                    attribute::PRIORITY
                    | attribute::REALM
                    | attribute::NONCE
                    | attribute::MESSAGE_INTEGRITY_SHA256,
                    ..,
                ) => {}
                (attribute::OPTIONAL.., ..) => {}
                _ => return None,
            }
            at = start + length.next_multiple_of(4);
        }
        None
    }

    pub(crate) fn username(&self) -> &'p [u8] {
        self.username
    }

    /// Whether it wants its pair to be used (RFC 8445 §7.1.2).
    pub(crate) fn nominates(&self) -> bool {
        self.use_candidate
    }

    pub(crate) fn has_cookie(&self) -> bool {
        self.bytes.get(4..8) == Some(&COOKIE[..])
    }

    /// The fingerprint it carries; `Err` if that is none of this message.
    pub(crate) fn fingerprint(&self, integrity: Integrity) -> Result<Option<Fingerprint>, NotStun> {
        let Some((at, stated)) = self.fingerprint else { return Ok(None) };
        let covered = self.bytes.get(..at).ok_or(NotStun)?;
        // Most messages meet the misprinted entry never: both agree, and the integrity tells which peer this is.
        let order = match integrity {
            Integrity::Exact => [Fingerprint::Standard, Fingerprint::Misprinted],
            Integrity::Padded => [Fingerprint::Misprinted, Fingerprint::Standard],
        };
        let found = order.into_iter().find(|table| table.of(covered) == stated);
        found.map(Some).ok_or(NotStun)
    }

    /// Whether the sender holds the key.
    pub(crate) fn is_authentic(&self, key: &[u8], integrity: Integrity) -> bool {
        let length = match integrity {
            Integrity::Exact => self.integrity_at + INTEGRITY_BYTES,
            Integrity::Padded => self.bytes.len(),
        };
        let covered = self.bytes.get(..self.integrity_at).unwrap_or_default();
        mac(key, covered, length, integrity).is_some_and(|mac| mac.verify_slice(self.mac).is_ok())
    }

    /// The answer: the address this request came from, proved and marked as the request was.
    pub(crate) fn response(
        &self,
        from: SocketAddr,
        key: &[u8],
        integrity: Integrity,
        fingerprint: Option<Fingerprint>,
    ) -> Option<Response> {
        let mut response = Response::new(self.bytes.get(4..HEADER_BYTES)?.try_into().ok()?);
        response.mapped_address(from);
        if let Some(version) = self.version {
            let version = version.min(VERSION_MAX).to_be_bytes();
            response.attribute(attribute::IMPLEMENTATION_VERSION, &version);
        }
        response.finish(key, integrity, fingerprint)
    }
}

/// A fingerprint that belongs to something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotStun;

/// Room for the longest response: header, IPv6 address, version, integrity, fingerprint take 84 octets.
const RESPONSE_BYTES_MAX: usize = 96;

/// A Binding response.
pub(crate) struct Response {
    bytes: [u8; RESPONSE_BYTES_MAX],
    length: usize,
}

impl Response {
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn new(transaction: [u8; 16]) -> Self {
        let mut response = Response { bytes: [0; RESPONSE_BYTES_MAX], length: 0 };
        response.put(&BINDING_RESPONSE.to_be_bytes());
        response.put(&[0, 0]);
        response.put(&transaction);
        response
    }

    /// The port and address are combined with what stands behind the length field: with the cookie where there is one, as
    /// RFC 8489 §14.2 has it, with the whole transaction where there is none.
    fn mapped_address(&mut self, from: SocketAddr) {
        let mut value = [0; 20];
        let (family, octets) = match from.ip() {
            IpAddr::V4(address) => {
                copy(&mut value, 4, &address.octets());
                (1, 8)
            }
            IpAddr::V6(address) => {
                copy(&mut value, 4, &address.octets());
                (2, 20)
            }
        };
        copy(&mut value, 1, &[family]);
        copy(&mut value, 2, &from.port().to_be_bytes());
        let mask = self.bytes.get(4..HEADER_BYTES).unwrap_or_default();
        value.iter_mut().skip(2).take(2).zip(mask).for_each(|(place, mask)| *place ^= mask);
        value.iter_mut().skip(4).zip(mask).for_each(|(place, mask)| *place ^= mask);
        self.attribute(attribute::XOR_MAPPED_ADDRESS, value.get(..octets).unwrap_or_default());
    }

    fn finish(mut self, key: &[u8], integrity: Integrity, fingerprint: Option<Fingerprint>) -> Option<Self> {
        let covered = self.length + INTEGRITY_BYTES;
        let whole = covered + fingerprint.map_or(0, |_| FINGERPRINT_BYTES);
        let length = match integrity {
            Integrity::Exact => covered,
            Integrity::Padded => whole,
        };
        let mac = mac(key, self.as_slice(), length, integrity)?.finalize().into_bytes();
        self.attribute(attribute::MESSAGE_INTEGRITY, &mac);
        self.state_length(whole);
        if let Some(table) = fingerprint {
            let value = table.of(self.as_slice()).to_be_bytes();
            self.attribute(attribute::FINGERPRINT, &value);
        }
        Some(self)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.put(&kind.to_be_bytes());
        self.put(&u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
        self.put(value);
    }

    fn state_length(&mut self, whole: usize) {
        copy(&mut self.bytes, 2, &field(whole));
    }

    fn put(&mut self, more: &[u8]) {
        copy(&mut self.bytes, self.length, more);
        self.length += more.len();
    }
}

impl Fingerprint {
    /// Of a message, of which the fingerprint itself is left out (its length is stated in the header already).
    fn of(self, covered: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for octet in covered {
            let index = (crc ^ u32::from(*octet)) & 0xFF;
            let entry = CRC.get(index as usize).copied().unwrap_or(0);
            crc = self.entry(entry) ^ (crc >> 8);
        }
        !crc ^ FINGERPRINT_XOR
    }

    fn entry(self, entry: u32) -> u32 {
        match (self, entry) {
            (Fingerprint::Misprinted, 0x8BBE_B8EA) => 0x08BB_E8EA,
            _ => entry,
        }
    }
}

/// CRC-32 of ITU-T V.42, octet by octet.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xEDB8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// The MAC of what stands before the attribute; `whole` is the length of the message as the text states it.
fn mac(key: &[u8], covered: &[u8], whole: usize, integrity: Integrity) -> Option<HmacSha1> {
    let mut mac = HmacSha1::new_from_slice(key).ok()?;
    mac.update(covered.get(..2)?);
    mac.update(&field(whole));
    mac.update(covered.get(4..)?);
    if integrity == Integrity::Padded {
        let missing = covered.len().next_multiple_of(PADDED_BLOCK_BYTES) - covered.len();
        mac.update([0; PADDED_BLOCK_BYTES].get(..missing)?);
    }
    Some(mac)
}

/// The length field of a message of so many octets.
fn field(whole: usize) -> [u8; 2] {
    u16::try_from(whole.saturating_sub(HEADER_BYTES)).unwrap_or(u16::MAX).to_be_bytes()
}

fn copy(to: &mut [u8], at: usize, from: &[u8]) {
    if let Some(place) = to.get_mut(at..at + from.len()) {
        place.copy_from_slice(from);
    }
}

fn word16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

#[cfg(test)]
#[path = "stun_tests.rs"]
mod tests;
