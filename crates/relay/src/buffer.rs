//! The bytes of one datagram, in a buffer that is made once and used for every packet.
//!
//! Owns the room a packet may take and grow into. Refuses to know what the bytes mean.

use crate::key::{MKI_BYTES_MAX, TAG_BYTES_MAX};

/// Largest datagram that is relayed.
pub const PACKET_BYTES_MAX: usize = 1500;

/// Octets of the word that holds SRTCP's encryption bit and index.
pub(crate) const SRTCP_INDEX_BYTES: usize = 4;

/// What protection may add to a packet: index, MKI and tag.
const GROWTH_BYTES_MAX: usize = SRTCP_INDEX_BYTES + MKI_BYTES_MAX + TAG_BYTES_MAX;

/// A reusable packet buffer.
pub struct PacketBuffer {
    bytes: Box<[u8]>,
    length: usize,
}

impl PacketBuffer {
    /// An empty buffer with room for any packet and its protection.
    pub fn new() -> Self {
        PacketBuffer { bytes: vec![0; PACKET_BYTES_MAX + GROWTH_BYTES_MAX].into(), length: 0 }
    }

    /// Where to receive into: one octet more than a packet may have, so that too long ones show.
    pub fn space(&mut self) -> &mut [u8] {
        let room = (PACKET_BYTES_MAX + 1).min(self.bytes.len());
        self.bytes.get_mut(..room).unwrap_or_default()
    }

    /// Says how many octets of [`PacketBuffer::space`] were filled.
    pub fn set_len(&mut self, length: usize) {
        self.length = length.min(self.bytes.len());
    }

    /// Replaces the packet; `false`, and an empty packet, if it does not fit.
    pub fn fill(&mut self, packet: &[u8]) -> bool {
        match self.bytes.get_mut(..packet.len()) {
            Some(room) => {
                room.copy_from_slice(packet);
                self.length = packet.len();
                true
            }
            None => {
                self.length = 0;
                false
            }
        }
    }

    /// The packet.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.length).unwrap_or_default()
    }

    /// Forgets what stands behind the first `length` octets.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Puts `more` behind the packet; `false`, and nothing done, if there is no room.
    pub(crate) fn append(&mut self, more: &[u8]) -> bool {
        self.insert_before_tail(more, 0)
    }

    /// Cuts `count` octets out that end `tail` octets before the end of the packet; `false` if there are not as many.
    pub(crate) fn cut_before_tail(&mut self, count: usize, tail: usize) -> bool {
        let Some(start) = self.length.checked_sub(count + tail) else { return false };
        self.bytes.copy_within(start + count..self.length, start);
        self.length -= count;
        true
    }

    /// Puts `insert` in, `tail` octets before the end of the packet; `false` if there is no room.
    pub(crate) fn insert_before_tail(&mut self, insert: &[u8], tail: usize) -> bool {
        let Some(start) = self.length.checked_sub(tail) else { return false };
        if self.length + insert.len() > self.bytes.len() {
            return false;
        }
        self.bytes.copy_within(start..self.length, start + insert.len());
        if let Some(room) = self.bytes.get_mut(start..start + insert.len()) {
            room.copy_from_slice(insert);
        }
        self.length += insert.len();
        true
    }
}

impl Default for PacketBuffer {
    fn default() -> Self {
        PacketBuffer::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inserted_before_the_tail_can_be_cut_again() {
        let mut buffer = PacketBuffer::new();
        assert!(buffer.fill(b"bodyTAIL"));
        assert!(buffer.insert_before_tail(b"mki", 4));
        assert_eq!(buffer.as_slice(), b"bodymkiTAIL");
        assert!(buffer.cut_before_tail(3, 4));
        assert_eq!(buffer.as_slice(), b"bodyTAIL");
    }

    #[test]
    fn impossible_cuts_and_inserts_change_nothing() {
        let mut buffer = PacketBuffer::new();
        buffer.fill(b"abc");
        assert!(!buffer.cut_before_tail(2, 2));
        assert!(!buffer.insert_before_tail(b"x", 4));
        assert!(!buffer.insert_before_tail(&[0; 4096], 1));
        assert_eq!(buffer.as_slice(), b"abc");
    }

    #[test]
    fn a_packet_that_does_not_fit_leaves_the_buffer_empty() {
        let mut buffer = PacketBuffer::new();
        assert!(!buffer.fill(&[0; 4096]));
        assert!(buffer.as_slice().is_empty());
    }
}
