//! Capture files (the classic libpcap format, microseconds, Ethernet) of frames that were never on a wire as they stand here: what was
//! protected is in the clear, and around it are an Ethernet, an IP and a UDP or TCP header with the true addresses and ports.
//! Owns the bytes; refuses to know calls.
//!
//! ```text
//!  per file   magic a1b2c3d4 │ 2 │ 4 │ 0 │ 0 │ snap length │ link type 1
//!  per frame  seconds │ microseconds │ length kept │ length │ Ethernet 14 │ IPv4 20 or IPv6 40 │ UDP 8 or TCP 20 │ payload
//! ```

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const MAGIC: u32 = 0xa1b2_c3d4;
const SNAP_BYTES: u32 = 65_535;
const LINK_ETHERNET: u32 = 1;
/// Locally administered addresses, which nobody has.
const MAC_TO: [u8; 6] = [2, 0, 0, 0, 0, 2];
const MAC_FROM: [u8; 6] = [2, 0, 0, 0, 0, 1];
const HOPS: u8 = 64;
const UDP: u8 = 17;
const TCP: u8 = 6;
/// Payload of one TCP segment, and of a UDP datagram at most.
const SEGMENT_BYTES: usize = 1_400;
const DATAGRAM_BYTES_MAX: usize = 65_000;
/// PSH and ACK.
const TCP_FLAGS: u8 = 0x18;

/// What carried a payload.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Carrier {
    Udp,
    /// With or without TLS.
    Tcp,
}

/// A payload with its place and time.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    /// Since 1970.
    pub(super) at: Duration,
    pub(super) carrier: Carrier,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) payload: Box<[u8]>,
}

/// A file that is being written.
pub(super) struct Pcap<W> {
    out: W,
    /// Octets sent so far each way of a connection.
    sequences: HashMap<(SocketAddr, SocketAddr), u32>,
}

impl<W: Write> Pcap<W> {
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC.to_be_bytes())?;
        out.write_all(&[0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0])?;
        out.write_all(&SNAP_BYTES.to_be_bytes())?;
        out.write_all(&LINK_ETHERNET.to_be_bytes())?;
        Ok(Self { out, sequences: HashMap::new() })
    }

    pub(super) fn write(&mut self, packet: &Packet) -> io::Result<()> {
        match packet.carrier {
            Carrier::Udp => {
                let payload = packet.payload.get(..DATAGRAM_BYTES_MAX).unwrap_or(&packet.payload);
                let length = (payload.len() + 8) as u16;
                let [from, to] = [packet.from.port(), packet.to.port()].map(u16::to_be_bytes);
                let header = [from, to, length.to_be_bytes(), [0, 0]].concat();
                self.frame(packet, UDP, header, 6, payload)
            }
            Carrier::Tcp => packet.payload.chunks(SEGMENT_BYTES).try_for_each(|segment| {
                let header = self.tcp_header(packet, segment.len() as u32);
                self.frame(packet, TCP, header, 16, segment)
            }),
        }
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn tcp_header(&mut self, packet: &Packet, length: u32) -> Vec<u8> {
        let acknowledged = self.sequences.get(&(packet.to, packet.from)).copied().unwrap_or(1);
        let sequence = self.sequences.entry((packet.from, packet.to)).or_insert(1);
        let mut header = Vec::with_capacity(20);
        header.extend(packet.from.port().to_be_bytes());
        header.extend(packet.to.port().to_be_bytes());
        header.extend(sequence.to_be_bytes());
        header.extend(acknowledged.to_be_bytes());
        header.extend([5 << 4, TCP_FLAGS, 0xFF, 0xFF, 0, 0, 0, 0]);
        *sequence = sequence.wrapping_add(length);
        header
    }

    /// One frame; `checksum` is where that of the transport header stands.
    fn frame(
        &mut self,
        packet: &Packet,
        protocol: u8,
        mut header: Vec<u8>,
        checksum: usize,
        payload: &[u8],
    ) -> io::Result<()> {
        let length = header.len() + payload.len();
        let (kind, network, pseudo) = network(packet, protocol, length);
        let sum = match sum(&[&pseudo, &header, payload]) {
            // Zero would mean that there is none (RFC 768).
            0 if protocol == UDP => 0xFFFF,
            sum => sum,
        };
        if let Some(place) = header.get_mut(checksum..checksum + 2) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
        let bytes = (MAC_TO.len() + MAC_FROM.len() + 2 + network.len() + length) as u32;
        let seconds = packet.at.as_secs() as u32;
        for word in [seconds, packet.at.subsec_micros(), bytes, bytes] {
            self.out.write_all(&word.to_be_bytes())?;
        }
        for part in [&MAC_TO[..], &MAC_FROM, &kind, &network, &header, payload] {
            self.out.write_all(part)?;
        }
        Ok(())
    }
}

/// Ethernet type, IP header, and the pseudo header of the transport's checksum (RFC 768, RFC 8200 §8.1).
fn network(packet: &Packet, protocol: u8, length: usize) -> ([u8; 2], Vec<u8>, Vec<u8>) {
    match (packet.from.ip().to_canonical(), packet.to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (from, to) = (from.octets(), to.octets());
            let total = ((length + 20) as u16).to_be_bytes();
            let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, HOPS, protocol, 0, 0];
            header.extend(from);
            header.extend(to);
            let sum = sum(&[&header]).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            let short = (length as u16).to_be_bytes();
            let pseudo = [&from[..], &to, &[0, protocol], &short].concat();
            ([0x08, 0x00], header, pseudo)
        }
        (from, to) => {
            let (from, to) = (octets(from), octets(to));
            let short = (length as u16).to_be_bytes();
            let header = [&[0x60, 0, 0, 0, short[0], short[1], protocol, HOPS], &from[..], &to].concat();
            let pseudo = [&from[..], &to, &[0, 0, short[0], short[1], 0, 0, 0, protocol]].concat();
            ([0x86, 0xDD], header, pseudo)
        }
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The Internet checksum (RFC 1071) over parts of which only the last may have an odd length.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 =
        words.map(|word| u64::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]))).sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
#[path = "pcap_tests.rs"]
pub(super) mod tests;
