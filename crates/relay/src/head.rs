//! The parts of RTP and RTCP packets that stay readable under SRTP.
//!
//! Owns the bounds: every length is checked here before anything else looks at a packet. Refuses to
//! know keys, payloads and where packets come from.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |   RTP
//! |                           timestamp                           |
//! |                             SSRC                              |
//! |V=2|P|    RC   |   PT 192..223 |             length            |   RTCP
//! |                             SSRC                              |
//! ```

use crate::plan::Channel;
use crate::stats::Why;

const VERSION: u8 = 2;
/// The bit that says that the last octet counts padding.
const PADDING: u8 = 0x20;
/// The bit beside the payload type.
const MARKER: u8 = 0x80;
const RTP_FIXED_BYTES: usize = 12;
const RTCP_FIXED_BYTES: usize = 8;
const RTCP_BYE: u8 = 203;
/// Second octets that mean RTCP where both share a port (RFC 5761 §4).
const RTCP_TYPES: std::ops::RangeInclusive<u8> = 192..=223;

/// What an RTP packet says in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHead {
    /// What the payload is, by the numbers of its leg.
    pub payload_type: u8,
    /// Counts packets.
    pub sequence: u16,
    /// Counts samples.
    pub timestamp: u32,
    /// The source.
    pub ssrc: u32,
    /// Octets before the payload: fixed part, contributing sources, extension.
    pub header_bytes: usize,
}

/// What an RTCP packet says in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RtcpHead {
    pub(crate) ssrc: u32,
}

/// The readable head of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    Rtp(RtpHead),
    Rtcp(RtcpHead),
}

impl Head {
    /// Reads the head of a packet that came in on `channel`.
    pub(crate) fn parse(packet: &[u8], channel: Channel) -> Result<Head, Why> {
        let (Some(first), Some(second)) = (packet.first(), packet.get(1)) else {
            return Err(Why::Malformed);
        };
        if first >> 6 != VERSION {
            return Err(Why::Malformed);
        }
        match (RTCP_TYPES.contains(second), channel) {
            (true, _) => RtcpHead::parse(packet).map(Head::Rtcp),
            (false, Channel::Rtp) => RtpHead::parse(packet).map(Head::Rtp),
            (false, Channel::Rtcp) => Err(Why::Malformed),
        }
    }
}

impl RtpHead {
    /// Head and payload of a readable RTP packet; `None` if it is RTCP, or nothing of the kind.
    pub fn of(packet: &[u8]) -> Option<(RtpHead, &[u8])> {
        let Ok(Head::Rtp(head)) = Head::parse(packet, Channel::Rtp) else { return None };
        let payload = packet.get(head.header_bytes..)?;
        Some((head, payload.get(..payload_octets(packet, &head))?))
    }

    fn parse(packet: &[u8]) -> Result<RtpHead, Why> {
        if packet.len() < RTP_FIXED_BYTES {
            return Err(Why::Malformed);
        }
        let first = octet(packet, 0);
        let mut header_bytes = RTP_FIXED_BYTES + usize::from(first & 0x0F) * 4;
        if first & 0x10 != 0 {
            let words = packet.get(header_bytes + 2..header_bytes + 4).ok_or(Why::Malformed)?;
            header_bytes += 4 + usize::from(word16(words, 0)) * 4;
        }
        if header_bytes > packet.len() {
            return Err(Why::Malformed);
        }
        Ok(RtpHead {
            payload_type: octet(packet, 1) & !MARKER,
            sequence: word16(packet, 2),
            timestamp: word32(packet, 4),
            ssrc: word32(packet, 8),
            header_bytes,
        })
    }
}

impl RtcpHead {
    fn parse(packet: &[u8]) -> Result<RtcpHead, Why> {
        if packet.len() < RTCP_FIXED_BYTES {
            return Err(Why::Malformed);
        }
        Ok(RtcpHead { ssrc: word32(packet, 4) })
    }
}

/// What a walk through a compound RTCP packet found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compound {
    /// Reports and descriptions.
    Reports,
    /// Somebody said goodbye.
    Bye,
}

/// Walks a readable compound packet to its end; each part must fit exactly (RFC 3550 §A.2).
pub(crate) fn walk_compound(packet: &[u8]) -> Result<Compound, Why> {
    let mut rest = packet;
    let mut found = Compound::Reports;
    while !rest.is_empty() {
        if rest.len() < 4 || octet(rest, 0) >> 6 != VERSION {
            return Err(Why::Malformed);
        }
        if octet(rest, 1) == RTCP_BYE {
            found = Compound::Bye;
        }
        let length = (usize::from(word16(rest, 2)) + 1) * 4;
        rest = rest.get(length..).ok_or(Why::Malformed)?;
    }
    Ok(found)
}

/// Gives an RTP packet another payload type.
pub(crate) fn write_payload_type(packet: &mut [u8], payload_type: u8) {
    if let Some(octet) = packet.get_mut(1) {
        *octet = *octet & MARKER | payload_type & !MARKER;
    }
}

/// Gives an RTP packet another sequence number.
pub(crate) fn write_sequence(packet: &mut [u8], sequence: u16) {
    if let Some(octets) = packet.get_mut(2..4) {
        octets.copy_from_slice(&sequence.to_be_bytes());
    }
}

/// Octets of payload in a readable RTP packet: neither header nor padding.
pub(crate) fn payload_octets(packet: &[u8], rtp: &RtpHead) -> usize {
    let is_padded = octet(packet, 0) & PADDING != 0;
    let padding = packet.last().copied().filter(|_| is_padded).map_or(0, usize::from);
    packet.len().saturating_sub(rtp.header_bytes + padding)
}

fn octet(packet: &[u8], at: usize) -> u8 {
    packet.get(at).copied().unwrap_or(0)
}

fn word16(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octet(packet, at), octet(packet, at + 1)])
}

pub(crate) fn word32(packet: &[u8], at: usize) -> u32 {
    u32::from(word16(packet, at)) << 16 | u32::from(word16(packet, at + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rtp_header_counts_sources_and_extension() {
        let mut packet = vec![0x92, 0x80 | 8, 0x12, 0x34, 0, 0, 0, 9, 1, 2, 3, 4];
        packet.extend([0; 8]); // two contributing sources
        packet.extend([0xBE, 0xDE, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]); // an extension other parsers choke on
        packet.extend([0xAA; 3]);
        let Ok(Head::Rtp(head)) = Head::parse(&packet, Channel::Rtp) else { panic!("not RTP") };
        assert_eq!((head.payload_type, head.sequence, head.timestamp), (8, 0x1234, 9));
        assert_eq!((head.ssrc, head.header_bytes), (0x0102_0304, 28));
    }

    #[test]
    fn payload_is_what_is_neither_header_nor_padding() {
        let mut packet = vec![0x80, 8, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 4];
        let Ok(Head::Rtp(head)) = Head::parse(&packet, Channel::Rtp) else { panic!("not RTP") };
        assert_eq!(payload_octets(&packet, &head), 4);
        packet[0] |= PADDING;
        assert_eq!(payload_octets(&packet, &head), 0);
        packet[15] = 3;
        assert_eq!(payload_octets(&packet, &head), 1);
        packet[15] = 255;
        assert_eq!(payload_octets(&packet, &head), 0, "more padding than packet");
    }

    #[test]
    fn no_cut_of_a_packet_reads_beyond_its_end() {
        let mut packet = vec![0x9F, 0, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4];
        packet.extend([0; 60]);
        packet.extend([0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        for length in 0..packet.len() {
            assert_eq!(Head::parse(&packet[..length], Channel::Rtp), Err(Why::Malformed), "{length}");
        }
        assert!(Head::parse(&packet, Channel::Rtp).is_ok());
    }

    #[test]
    fn rtcp_is_told_from_rtp_by_its_type() {
        let report = [0x80, 201, 0, 1, 0, 0, 0, 7];
        assert_eq!(Head::parse(&report, Channel::Rtp), Ok(Head::Rtcp(RtcpHead { ssrc: 7 })));
        assert_eq!(Head::parse(&report, Channel::Rtcp), Ok(Head::Rtcp(RtcpHead { ssrc: 7 })));
        let speech = [0x80, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 7];
        assert_eq!(Head::parse(&speech, Channel::Rtcp), Err(Why::Malformed));
    }

    #[test]
    fn another_version_is_neither() {
        for first in [0x00, 0x40, 0xC0] {
            let packet = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(Head::parse(&packet, Channel::Rtp), Err(Why::Malformed));
        }
    }

    #[test]
    fn a_compound_must_end_where_its_parts_end() {
        let mut compound = vec![0x80, 201, 0, 1, 0, 0, 0, 7];
        assert_eq!(walk_compound(&compound), Ok(Compound::Reports));
        compound.extend([0x81, 203, 0, 1, 0, 0, 0, 7]);
        assert_eq!(walk_compound(&compound), Ok(Compound::Bye));
        compound.extend([0x80, 202, 0, 9, 0, 0, 0, 0]);
        assert_eq!(walk_compound(&compound), Err(Why::Malformed));
        assert_eq!(walk_compound(&[0x80, 201, 0]), Err(Why::Malformed));
    }
}
