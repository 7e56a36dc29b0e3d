//! SRTP and SRTCP reference packets through the relay's front door: what a peer sends sealed must come
//! out clear on the other leg octet for octet, what is sent clear must come out as the reference says,
//! and what must fail must leave no trace.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use relay::{
    Channel, KeyParams, LegPlan, MasterKey, Mki, PacketBuffer, Plan, Protection, Provider, Session, Side,
    Suite, Verdict, Why,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    id: String,
    kind: String,
    #[serde(default)]
    suite: String,
    #[serde(default)]
    master_key: String,
    #[serde(default)]
    master_salt: String,
    #[serde(default)]
    mki: String,
    #[serde(default)]
    rtp: String,
    #[serde(default)]
    srtp: String,
    #[serde(default)]
    rtcp: String,
    #[serde(default)]
    srtcp: String,
    #[serde(default)]
    packets: serde_json::Value,
    #[serde(default)]
    rtcp_packets: Vec<RtcpPacket>,
    #[serde(default)]
    good: String,
    #[serde(default)]
    reject: Vec<Reject>,
}

#[derive(Deserialize)]
struct RtpPacket {
    rtp: String,
    srtp: String,
}

#[derive(Deserialize)]
struct RtcpPacket {
    index: u32,
    rtcp: String,
    srtcp: String,
}

#[derive(Deserialize)]
struct Reject {
    name: String,
    packet: String,
}

/// Every vector of a kind, with each provider.
fn each(kind: &str, count: usize, check: impl Fn(Provider, &Vector)) {
    let vectors = vectors(kind);
    assert_eq!(vectors.len(), count);
    for provider in PROVIDERS {
        vectors.iter().for_each(|vector| check(provider, vector));
    }
}

fn vectors(kind: &str) -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/conformance/srtp/vectors.json");
    let file: File = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let offered = |vector: &Vector| vector.suite.starts_with("AES_CM_128_HMAC_SHA1_");
    file.vectors.into_iter().filter(|vector| vector.kind == kind && offered(vector)).collect()
}

fn octets(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

const PROVIDERS: [Provider; 2] = [Provider::InPlace, Provider::WebrtcSrtp];

fn params(provider: Provider, vector: &Vector) -> KeyParams {
    let suite = match vector.suite.as_str() {
        "AES_CM_128_HMAC_SHA1_80" => Suite::AesCm128HmacSha1_80,
        "AES_CM_128_HMAC_SHA1_32" => Suite::AesCm128HmacSha1_32,
        other => panic!("{other} is not offered"),
    };
    let inline = [octets(&vector.master_key), octets(&vector.master_salt)].concat();
    let mki = octets(&vector.mki);
    let mki = (!mki.is_empty()).then(|| Mki::new(&mki).unwrap());
    KeyParams { mki, provider, ..KeyParams::new(suite, MasterKey::from_inline(suite, &inline).unwrap()) }
}

fn another_key() -> KeyParams {
    KeyParams::new(Suite::AesCm128HmacSha1_80, MasterKey::new([0x5A; 16], [0xC3; 14]))
}

fn peer(side: Side) -> SocketAddr {
    match side {
        Side::A => ([127, 0, 0, 1], 4000).into(),
        Side::B => ([127, 0, 0, 1], 5000).into(),
    }
}

fn leg(side: Side, protection: Protection) -> LegPlan {
    LegPlan::at(peer(side), protection)
}

/// A sealed leg A under `a`, a clear leg B.
fn session(a: Protection) -> Session {
    let plan = Plan {
        a: leg(Side::A, a),
        b: leg(Side::B, Protection::Clear),
        inactivity: Duration::ZERO,
        reports: None,
    };
    Session::new(plan, Instant::now()).unwrap()
}

fn opening(provider: Provider, vector: &Vector) -> Session {
    session(Protection::Sealed { inbound: params(provider, vector), outbound: another_key() })
}

fn sealing(provider: Provider, vector: &Vector) -> Session {
    session(Protection::Sealed { inbound: another_key(), outbound: params(provider, vector) })
}

/// Passes one packet through; the octets that would be sent on.
fn pass(session: &mut Session, side: Side, channel: Channel, packet: &str) -> Result<Vec<u8>, Why> {
    let mut buffer = PacketBuffer::new();
    assert!(buffer.fill(&octets(packet)));
    match session.handle_packet(Instant::now(), side, channel, peer(side), &mut buffer) {
        Verdict::Forward { side: to, .. } => {
            assert_eq!(to, !side);
            Ok(buffer.as_slice().to_vec())
        }
        Verdict::Drop(why) => Err(why),
    }
}

#[test]
fn single_srtp_packets_open_and_seal_as_the_reference() {
    each("srtp", 2, |provider, vector| {
        let opened = pass(&mut opening(provider, vector), Side::A, Channel::Rtp, &vector.srtp);
        assert_eq!(opened, Ok(octets(&vector.rtp)), "{}", vector.id);
        let sealed = pass(&mut sealing(provider, vector), Side::B, Channel::Rtp, &vector.rtp);
        assert_eq!(sealed, Ok(octets(&vector.srtp)), "{}", vector.id);
    });
}

/// The reference RTCP packet claims more words than it has; that is the sealed side's secret until opened.
#[test]
fn single_srtcp_packets_whose_content_is_no_compound_are_not_forwarded() {
    each("srtcp", 2, |provider, vector| {
        let opened = pass(&mut opening(provider, vector), Side::A, Channel::Rtcp, &vector.srtcp);
        assert_eq!(opened, Err(Why::Malformed), "{}: authentic, yet no RTCP", vector.id);
        let refused = pass(&mut sealing(provider, vector), Side::B, Channel::Rtcp, &vector.rtcp);
        assert_eq!(refused, Err(Why::Malformed), "{}", vector.id);
    });
}

#[test]
fn sequences_open_and_seal_across_the_rollover_with_a_late_packet() {
    each("sequence", 4, |provider, vector| {
        let (mut opening, mut sealing) = (opening(provider, vector), sealing(provider, vector));
        let packets: Vec<RtpPacket> = serde_json::from_value(vector.packets.clone()).unwrap();
        assert_eq!(packets.len(), 7);
        for (at, packet) in packets.iter().enumerate() {
            let opened = pass(&mut opening, Side::A, Channel::Rtp, &packet.srtp);
            assert_eq!(opened, Ok(octets(&packet.rtp)), "{} packet {at}", vector.id);
            let sealed = pass(&mut sealing, Side::B, Channel::Rtp, &packet.rtp);
            assert_eq!(sealed, Ok(octets(&packet.srtp)), "{} packet {at}", vector.id);
        }
        for (at, packet) in packets.iter().enumerate() {
            let again = pass(&mut opening, Side::A, Channel::Rtp, &packet.srtp);
            assert!(again.is_err(), "{} packet {at} was replayed", vector.id);
        }
    });
}

#[test]
fn srtcp_sequences_open_and_seal_with_a_ten_octet_tag() {
    each("sequence", 4, |provider, vector| {
        let (mut opening, mut sealing) = (opening(provider, vector), sealing(provider, vector));
        for packet in &vector.rtcp_packets {
            let opened = pass(&mut opening, Side::A, Channel::Rtcp, &packet.srtcp);
            assert_eq!(opened, Ok(octets(&packet.rtcp)), "{} index {}", vector.id, packet.index);
            let again = pass(&mut opening, Side::A, Channel::Rtcp, &packet.srtcp);
            assert_eq!(again, Err(Why::Replayed), "{} index {}", vector.id, packet.index);
        }
        let first = if provider == Provider::InPlace { 0 } else { 1 };
        for packet in vector.rtcp_packets.iter().filter(|packet| packet.index >= first) {
            let sealed = pass(&mut sealing, Side::B, Channel::Rtcp, &packet.rtcp);
            assert_eq!(sealed, Ok(octets(&packet.srtcp)), "{} index {}", vector.id, packet.index);
        }
    });
}

#[test]
fn packets_that_must_fail_are_counted_and_change_nothing() {
    each("negative", 1, |provider, vector| {
        assert_eq!(vector.reject.len(), 12);
        let mut session = opening(provider, vector);
        for round in 0..3 {
            for reject in &vector.reject {
                let verdict = pass(&mut session, Side::A, Channel::Rtp, &reject.packet);
                assert!(verdict.is_err(), "{} was forwarded in round {round}", reject.name);
            }
            let good = pass(&mut session, Side::A, Channel::Rtp, &vector.good);
            match round {
                0 => assert!(good.is_ok(), "the good packet passes after the bad ones"),
                _ => assert_eq!(good, Err(Why::Replayed)),
            }
        }
        let stats = session.stats();
        assert_eq!(stats.a.packets_received, 1);
        assert_eq!(stats.a.dropped.total(), 12 * 3 + 2);
        assert_eq!(stats.b.packets_sent, 1);
    });
}

/// Without guards the cryptographic library keeps about 190 octets for each source it is shown.
#[cfg(target_os = "linux")]
#[test]
fn forged_sources_take_no_memory() {
    const FORGED: u32 = 100_000;
    const GROWTH_MAX: u64 = 4 << 20;
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let vector = vectors("negative").remove(0);
    let mut session = opening(Provider::WebrtcSrtp, &vector);
    let mut buffer = PacketBuffer::new();
    let mut flood = |session: &mut Session, from: u32, count: u32| {
        for forged in from..from + count {
            for (channel, kind) in [(Channel::Rtp, 0), (Channel::Rtcp, 201)] {
                let mut packet = vec![0x80, kind, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
                let at = if kind == 0 { 8 } else { 4 };
                packet[at..at + 4].copy_from_slice(&forged.to_be_bytes());
                packet.extend([0x80; 13]);
                packet.extend([0x01; 11]); // the right MKI, so that only the tag is wrong
                assert!(buffer.fill(&packet));
                let verdict =
                    session.handle_packet(Instant::now(), Side::A, channel, peer(Side::A), &mut buffer);
                assert_eq!(verdict, Verdict::Drop(Why::Unauthentic));
            }
        }
    };
    flood(&mut session, 0, 1_000);
    let before = resident();
    flood(&mut session, 1_000, FORGED);
    let growth = resident().saturating_sub(before);
    assert!(growth < GROWTH_MAX, "{growth} octets for {FORGED} forged sources");
    assert!(pass(&mut session, Side::A, Channel::Rtp, &vector.good).is_ok());
}
