//! RTP packets of our own making (RFC 3550 §5.1): fixed header, one source.

/// Bytes of the fixed header.
pub(super) const HEADER_BYTES: usize = 12;
const VERSION: u8 = 2;

/// What the lab reads of a packet that the relay already accepted.
pub(super) struct View<'p> {
    pub(super) payload_type: u8,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
    pub(super) payload: &'p [u8],
}

/// The counters of one source.
pub(super) struct Sender {
    pub(super) ssrc: u32,
    sequence: u16,
    pub(super) timestamp: u32,
    pub(super) packets: u32,
    pub(super) octets: u32,
    marked: bool,
}

impl Sender {
    pub(super) fn new(seed: u64) -> Self {
        // SplitMix64 finaliser: neighbouring seeds give unlike values
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        Sender {
            ssrc: (z >> 32) as u32,
            // below 2^15, so that an SRTP peer's rollover guess starts right (RFC 3711 §3.3.1)
            sequence: (z as u16) & 0x7fff,
            timestamp: (z >> 8) as u32,
            packets: 0,
            octets: 0,
            marked: false,
        }
    }

    /// Writes the next packet into `out`.
    pub(super) fn write(&mut self, payload_type: u8, payload: &[u8], samples: u32, out: &mut Vec<u8>) {
        self.write_at(payload_type, self.timestamp, payload, samples, out);
    }

    /// The next packet begins a new talkspurt or event: it gets the marker bit.
    pub(super) fn mark(&mut self) {
        self.marked = false;
    }

    /// The same with the time at which its event began.
    pub(super) fn write_at(
        &mut self,
        payload_type: u8,
        timestamp: u32,
        payload: &[u8],
        samples: u32,
        out: &mut Vec<u8>,
    ) {
        out.clear();
        out.push(VERSION << 6);
        out.push(if self.marked { payload_type } else { 0x80 | payload_type });
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(payload);
        self.marked = true;
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(samples);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
    }
}

/// Reads a packet; `None` when it is no RTP packet.
pub(super) fn view(packet: &[u8]) -> Option<View<'_>> {
    let (first, second) = (*packet.first()?, *packet.get(1)?);
    if first >> 6 != VERSION {
        return None;
    }
    let mut start = HEADER_BYTES + usize::from(first & 0x0f) * 4;
    if first & 0x10 != 0 {
        let words = packet.get(start + 2..start + 4)?;
        start += 4 + usize::from(u16::from_be_bytes([words[0], words[1]])) * 4;
    }
    let word = |at: usize| packet.get(at..at + 4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]));
    let padding = if first & 0x20 != 0 { usize::from(*packet.last()?) } else { 0 };
    let end = packet.len().checked_sub(padding)?;
    Some(View {
        payload_type: second & 0x7f,
        sequence: u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]),
        timestamp: word(4)?,
        ssrc: word(8)?,
        payload: packet.get(start..end)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_packet_reads_back() {
        let mut sender = Sender::new(7);
        let mut packet = Vec::new();
        sender.write(0, &[1, 2, 3], 3, &mut packet);
        let first = view(&packet).unwrap();
        assert_eq!((first.payload_type, first.payload), (0, &[1u8, 2, 3][..]));
        let sequence = first.sequence;
        sender.write(0, &[4], 1, &mut packet);
        assert_eq!(view(&packet).unwrap().sequence, sequence + 1);
    }

    #[test]
    fn truncated_extensions_and_false_padding_are_no_packets() {
        let fixed = [0x80u8, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
        for cut in 0..fixed.len() {
            assert!(view(&fixed[..cut]).is_none(), "{cut}");
        }
        let mut extended = fixed.to_vec();
        extended[0] |= 0x10;
        assert!(view(&extended).is_none());
        extended.extend_from_slice(&[0, 0, 0xff, 0xff]);
        assert!(view(&extended).is_none());
        let mut padded = fixed.to_vec();
        padded[0] |= 0x20;
        padded.push(200);
        assert!(view(&padded).is_none());
    }
}
