//! What a cipher does with one packet whose index is known.
//!
//! Owns the words between the state of sources and the arithmetic on octets. Refuses to know state: the same
//! packet at the same place always gives the same octets.

use crate::buffer::PacketBuffer;
use crate::key::KeyParams;
use crate::stats::Why;

use super::derive::Flow;

/// Where a packet stands in the flow of its key, and how much of it stays readable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) ssrc: u32,
    pub(super) index: u64,
    pub(super) clear_bytes: usize,
}

/// The word that ends the protected part of an SRTCP packet (RFC 3711 §3.4): `E` and the index.
#[derive(Debug, Clone, Copy)]
pub(super) struct RtcpWord(u32);

impl RtcpWord {
    const ENCRYPTED: u32 = 1 << 31;

    /// The word of an encrypted packet; `None` if there is no such index.
    pub(super) fn encrypted(index: u64) -> Option<Self> {
        let index = u32::try_from(index).ok()?;
        (index & Self::ENCRYPTED == 0).then_some(RtcpWord(index | Self::ENCRYPTED))
    }

    /// The four octets that stand `tail` octets before the end of a packet.
    pub(super) fn before_tail(packet: &[u8], tail: usize) -> Option<Self> {
        let end = packet.len().checked_sub(tail)?;
        let word = packet.get(..end)?.last_chunk()?;
        Some(RtcpWord(u32::from_be_bytes(*word)))
    }

    pub(super) fn is_encrypted(self) -> bool {
        self.0 & Self::ENCRYPTED != 0
    }

    pub(super) fn index(self) -> u64 {
        u64::from(self.0 & !Self::ENCRYPTED)
    }

    pub(super) fn octets(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

/// One flow of one key: confidentiality and authentication in place. A packet that does not open is left in an
/// undefined state.
pub(super) trait Cipher: Sized + Send {
    fn new(params: &KeyParams, flow: Flow) -> Option<Self>;

    fn seal_rtp(&self, place: &Place, packet: &mut PacketBuffer) -> Result<(), Why>;
    fn open_rtp(&self, place: &Place, packet: &mut PacketBuffer) -> Result<(), Why>;
    fn seal_rtcp(&self, place: &Place, word: RtcpWord, packet: &mut PacketBuffer) -> Result<(), Why>;
    fn open_rtcp(&self, place: &Place, word: RtcpWord, packet: &mut PacketBuffer) -> Result<(), Why>;

    /// Finds the word of a protected packet; `None` if the packet is too short to be one.
    fn rtcp_word(packet: &[u8]) -> Option<RtcpWord>;

    /// Whether a packet that says it is not encrypted is authentic.
    fn check_unencrypted_rtcp(
        &self,
        place: &Place,
        word: RtcpWord,
        packet: &mut PacketBuffer,
    ) -> Result<(), Why>;
}
