//! The SRTP transform: one key, one direction, packets whose lengths were checked before.
//!
//! Owns the seam to the cryptographic library and the guards that library needs. Refuses to know
//! MKIs, tables of sources and addresses: [`crate::gate`] does those.

use std::fmt::{self, Display, Write};

use rtp::header::Header;
use webrtc_srtp::context::Context;
use webrtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use webrtc_srtp::protection_profile::ProtectionProfile;

use crate::buffer::{PacketBuffer, SRTCP_INDEX_BYTES};
use crate::head::RtpHead;
use crate::key::{KeyParams, SRTCP_TAG_BYTES, Suite};
use crate::stats::Why;

/// Packets behind the newest that are still told apart from replays.
const REPLAY_WINDOW_PACKETS: usize = 128;
/// Header and source of an SRTCP packet, which stay readable.
const RTCP_READABLE_BYTES: usize = 8;
const RTP_FIXED_BYTES: usize = 12;
/// What the library takes an extension header to have at least.
const EXTENSION_HEADER_BYTES: usize = 4;

/// Opens or protects the packet in a buffer, in place. Rollover and replay state move only on success.
pub(crate) trait Transform: Send {
    fn open_rtp(&mut self, head: &RtpHead, packet: &mut PacketBuffer) -> Result<(), Why>;
    fn open_rtcp(&mut self, packet: &mut PacketBuffer) -> Result<(), Why>;
    fn seal_rtp(&mut self, head: &RtpHead, packet: &mut PacketBuffer) -> Result<(), Why>;
    fn seal_rtcp(&mut self, packet: &mut PacketBuffer) -> Result<(), Why>;
}

/// AES-CM with HMAC-SHA1 by `webrtc-srtp`.
pub(crate) struct WebrtcSrtp {
    context: Context,
    rtp_tag_bytes: usize,
}

impl WebrtcSrtp {
    /// A context that tells replays; `None` if the library refuses the key.
    pub(crate) fn new(params: &KeyParams) -> Option<Self> {
        let profile = match params.suite {
            Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
        };
        let context = Context::new(
            params.key.key(),
            params.key.salt(),
            profile,
            Some(srtp_replay_protection(REPLAY_WINDOW_PACKETS)),
            Some(srtcp_replay_protection(REPLAY_WINDOW_PACKETS)),
        )
        .ok()?;
        Some(WebrtcSrtp { context, rtp_tag_bytes: params.suite.rtp_tag_bytes() })
    }
}

impl Transform for WebrtcSrtp {
    fn open_rtp(&mut self, head: &RtpHead, packet: &mut PacketBuffer) -> Result<(), Why> {
        if packet.as_slice().len() < head.header_bytes + self.rtp_tag_bytes {
            return Err(Why::NotSealed);
        }
        let opened = self.context.decrypt_rtp_with_header(packet.as_slice(), &library_header(head));
        put(packet, opened)
    }

    fn open_rtcp(&mut self, packet: &mut PacketBuffer) -> Result<(), Why> {
        let bytes = packet.as_slice();
        // Shorter than this the library panics, before any authentication.
        let Some(index_at) = bytes.len().checked_sub(SRTCP_INDEX_BYTES + SRTCP_TAG_BYTES) else {
            return Err(Why::NotSealed);
        };
        // With the encryption bit off the library returns the packet without looking at its tag.
        let is_encrypted = bytes.get(index_at).is_some_and(|octet| octet & 0x80 != 0);
        if index_at < RTCP_READABLE_BYTES || !is_encrypted {
            return Err(Why::NotSealed);
        }
        let opened = self.context.decrypt_rtcp(bytes);
        put(packet, opened)
    }

    fn seal_rtp(&mut self, head: &RtpHead, packet: &mut PacketBuffer) -> Result<(), Why> {
        let sealed = self.context.encrypt_rtp_with_header(packet.as_slice(), &library_header(head));
        put(packet, sealed).map_err(|_| Why::NotSealable)
    }

    fn seal_rtcp(&mut self, packet: &mut PacketBuffer) -> Result<(), Why> {
        if packet.as_slice().len() < RTCP_READABLE_BYTES {
            return Err(Why::Malformed);
        }
        let sealed = self.context.encrypt_rtcp(packet.as_slice());
        put(packet, sealed).map_err(|_| Why::NotSealable)
    }
}

/// The header as the library wants it. Its own parser panics on extensions that overrun their length and
/// misjudges others, so it gets the size we measured, told as padding of an extension.
fn library_header(head: &RtpHead) -> Header {
    Header {
        version: 2,
        extension: head.header_bytes > RTP_FIXED_BYTES,
        extensions_padding: head.header_bytes.saturating_sub(RTP_FIXED_BYTES + EXTENSION_HEADER_BYTES),
        sequence_number: head.sequence,
        ssrc: head.ssrc,
        ..Header::default()
    }
}

fn put(packet: &mut PacketBuffer, result: Result<bytes::Bytes, impl Display>) -> Result<(), Why> {
    let bytes = result.map_err(|error| blame(&error))?;
    if packet.fill(&bytes) { Ok(()) } else { Err(Why::TooLong) }
}

/// The library's error type cannot be named from outside, so its words tell a replay from a bad tag.
fn blame(error: &impl Display) -> Why {
    let mut words = Words { text: [0; 64], length: 0 };
    // Words beyond the buffer are cut off, and a replay's are never that long.
    let _ = write!(words, "{error}");
    let text = words.text.get(..words.length).unwrap_or_default();
    if text.ends_with(b"duplicated") { Why::Replayed } else { Why::Unauthentic }
}

/// A line of text without an allocation.
struct Words {
    text: [u8; 64],
    length: usize,
}

impl Write for Words {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = self.text.get_mut(self.length..self.length + part.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.length += part.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::MasterKey;

    /// The SRTCP packet of libsrtp's own check. Its content is no valid compound, so it cannot go through a session.
    const RTCP: &str = "81c8000bcafebabeabababababababababababababababab";

    fn vector() -> serde_json::Value {
        let file = include_str!("../../../tests/data/conformance/srtp/vectors.json");
        let file: serde_json::Value = serde_json::from_str(file).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        vectors.iter().find(|vector| vector["id"] == "libsrtp-srtp_validate-rtcp").unwrap().clone()
    }

    fn octets(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_reference_srtcp_packet_opens_and_seals() {
        let vector = vector();
        let field = |name: &str| octets(vector[name].as_str().unwrap());
        let inline = [field("master_key"), field("master_salt")].concat();
        let key = MasterKey::from_inline(&inline).unwrap();
        let params = KeyParams { suite: Suite::AesCm128HmacSha1_80, key, mki: None };
        let mut packet = PacketBuffer::new();
        packet.fill(&field("srtcp"));
        WebrtcSrtp::new(&params).unwrap().open_rtcp(&mut packet).unwrap();
        assert_eq!(packet.as_slice(), octets(RTCP));
        WebrtcSrtp::new(&params).unwrap().seal_rtcp(&mut packet).unwrap();
        assert_eq!(packet.as_slice(), field("srtcp"));
    }
}
