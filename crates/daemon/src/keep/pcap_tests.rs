//! Capture files read back by a reader of our own.

use super::*;

/// A frame as a reader finds it.
#[derive(Debug, PartialEq)]
pub(in crate::keep) struct Found {
    pub(in crate::keep) at: Duration,
    pub(in crate::keep) protocol: u8,
    pub(in crate::keep) from: SocketAddr,
    pub(in crate::keep) to: SocketAddr,
    pub(in crate::keep) sequence: u32,
    pub(in crate::keep) acknowledged: u32,
    pub(in crate::keep) payload: Vec<u8>,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Adds up as RFC 1071 wants it of what holds its own checksum.
fn is_whole(parts: &[&[u8]]) -> bool {
    let mut all = parts.concat();
    all.resize(all.len().next_multiple_of(2), 0);
    let sum = all.chunks(2).fold(0_u32, |sum, pair| {
        let sum = sum + u32::from(half(pair, 0));
        (sum & 0xFFFF) + (sum >> 16)
    });
    sum == 0xFFFF
}

/// Every frame of a file; panics where one is not right.
pub(in crate::keep) fn read(file: &[u8]) -> Vec<Found> {
    assert_eq!((word(file, 0), half(file, 4), half(file, 6), word(file, 20)), (0xa1b2_c3d4, 2, 4, 1));
    let (mut rest, mut found) = (&file[24..], Vec::new());
    while !rest.is_empty() {
        let at = Duration::new(u64::from(word(rest, 0)), word(rest, 4) * 1_000);
        let length = word(rest, 8) as usize;
        assert_eq!(word(rest, 12) as usize, length);
        let frame = &rest[16..16 + length];
        rest = &rest[16 + length..];
        found.push(read_frame(at, &frame[12..]));
    }
    found
}

fn read_frame(at: Duration, frame: &[u8]) -> Found {
    let (packet, v4) = (&frame[2..], frame[..2] == [8, 0]);
    let (protocol, from, to, carried, pseudo): (u8, IpAddr, IpAddr, &[u8], Vec<u8>) = if v4 {
        assert!(packet[0] == 0x45 && is_whole(&[&packet[..20]]) && half(packet, 2) as usize == packet.len());
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
        let length = (half(packet, 2) - 20).to_be_bytes();
        (
            packet[9],
            address(12),
            address(16),
            &packet[20..],
            [&packet[12..20], &[0, packet[9]], &length].concat(),
        )
    } else {
        assert!(
            frame[..2] == [0x86, 0xDD] && packet[0] == 0x60 && half(packet, 4) as usize == packet.len() - 40
        );
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
        let length = u32::from(half(packet, 4)).to_be_bytes();
        (
            packet[6],
            address(8),
            address(24),
            &packet[40..],
            [&packet[8..40], &length, &[0, 0, 0, packet[6]]].concat(),
        )
    };
    assert!(is_whole(&[&pseudo, carried]), "the transport's checksum");
    let (sequence, acknowledged, header) = match protocol {
        UDP => {
            assert_eq!(half(carried, 4) as usize, carried.len());
            (0, 0, 8)
        }
        TCP => (word(carried, 4), word(carried, 8), 20),
        other => panic!("protocol {other}"),
    };
    let [from, to] = [(from, half(carried, 0)), (to, half(carried, 2))].map(SocketAddr::from);
    Found { at, protocol, from, to, sequence, acknowledged, payload: carried[header..].to_vec() }
}

fn packet(carrier: Carrier, from: &str, to: &str, payload: &[u8]) -> Packet {
    let [from, to] = [from, to].map(|address| address.parse().unwrap());
    Packet { at: Duration::from_micros(1_795_300_000_123_456), carrier, from, to, payload: payload.into() }
}

#[test]
fn every_frame_has_its_addresses_its_checksums_and_its_payload() {
    let packets = [
        packet(Carrier::Udp, "192.0.2.10:5004", "192.0.2.20:20000", &[0x80, 0, 1]),
        packet(Carrier::Udp, "[2001:db8::1]:5004", "[2001:db8::2]:20002", &[7; 172]),
        packet(Carrier::Udp, "[::ffff:192.0.2.1]:1", "192.0.2.2:2", &[]),
        packet(Carrier::Udp, "192.0.2.1:1", "192.0.2.2:2", &[0xFF; 40_000]),
    ];
    let mut file = Vec::new();
    let mut pcap = Pcap::new(&mut file).unwrap();
    packets.iter().for_each(|packet| pcap.write(packet).unwrap());
    pcap.finish().unwrap();
    let found = read(&file);
    assert_eq!(found.len(), packets.len());
    for (found, packet) in found.iter().zip(&packets) {
        assert_eq!((found.at, found.protocol, &found.payload[..]), (packet.at, UDP, &packet.payload[..]));
        let canonical = |at: SocketAddr| SocketAddr::from((at.ip().to_canonical(), at.port()));
        assert_eq!((found.from, found.to), (canonical(packet.from), canonical(packet.to)));
    }
}

#[test]
fn octets_of_a_connection_are_counted_each_way() {
    let (one, other) = ("192.0.2.10:40000", "192.0.2.20:5061");
    let mut file = Vec::new();
    let mut pcap = Pcap::new(&mut file).unwrap();
    for packet in [
        packet(Carrier::Tcp, one, other, &[b'a'; 3_000]),
        packet(Carrier::Tcp, other, one, b"SIP/2.0 100 Trying\r\n\r\n"),
        packet(Carrier::Tcp, one, other, b"ACK"),
    ] {
        pcap.write(&packet).unwrap();
    }
    pcap.finish().unwrap();
    let found = read(&file);
    let counted: Vec<_> = found.iter().map(|f| (f.sequence, f.acknowledged, f.payload.len())).collect();
    assert_eq!(counted, [(1, 1, 1_400), (1_401, 1, 1_400), (2_801, 1, 200), (1, 3_001, 22), (3_001, 23, 3)]);
}
