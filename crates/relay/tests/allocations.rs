//! A packet costs no allocation, whatever its legs are: counted, in a program of its own, because the allocator is one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::alloc::System;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use umbra_relay::{
    Channel, Formats, KeyParams, LegPlan, MasterKey, PacketBuffer, Plan, Protection, Reports, Session, Side,
    Suite, Verdict,
};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PACKETS: usize = 10_000;
/// What a session sets up with the first packets of each source, and with our first reports, is not counted.
const WARM_UP: usize = 1_000;
/// A report is due now and then, too.
const PACKETS_PER_LOOK: usize = 12;

fn at(side: Side) -> SocketAddr {
    match side {
        Side::A => ([192, 0, 2, 1], 4000).into(),
        Side::B => ([192, 0, 2, 2], 5000).into(),
    }
}

fn key(suite: Suite, fill: u8) -> KeyParams {
    let inline = vec![fill; suite.key_bytes() + suite.salt_bytes()];
    KeyParams::new(suite, MasterKey::from_inline(suite, &inline).unwrap())
}

fn leg(side: Side, protection: Protection, formats: Formats) -> LegPlan {
    LegPlan { formats, ..LegPlan::at(at(side), protection) }
}

fn plan(a: LegPlan, b: LegPlan) -> Plan {
    let reports = Some(Reports { name: [1; 12], seed: 1, clock_hz: 8_000 });
    Plan { a, b, inactivity: Duration::from_secs(30), reports }
}

/// Speech as payload type 97, sealed by the peer where there is a key.
fn packets(now: Instant, theirs: Option<&KeyParams>) -> Vec<Vec<u8>> {
    let protection = theirs.map_or(Protection::Clear, |theirs| Protection::Sealed {
        inbound: key(theirs.suite, 0x77),
        outbound: theirs.clone(),
    });
    let inside = leg(Side::A, Protection::Clear, Formats::any());
    let mut peer = Session::new(plan(inside, leg(Side::B, protection, Formats::any())), now).unwrap();
    let mut buffer = PacketBuffer::new();
    let seal = |number: usize| {
        let mut packet = vec![0x80, 97];
        packet.extend((number as u16).to_be_bytes());
        packet.extend((160 * number as u32).to_be_bytes());
        packet.extend([0, 0, 0, 9]);
        packet.extend([0x55; 160]);
        buffer.fill(&packet);
        let verdict = peer.handle_packet(now, Side::A, Channel::Rtp, at(Side::A), &mut buffer);
        assert!(matches!(verdict, Verdict::Forward { .. }));
        buffer.as_slice().to_vec()
    };
    (0..WARM_UP + PACKETS).map(seal).collect()
}

/// Allocations of relaying all packets from A to B.
#[allow(clippy::disallowed_methods, reason = "some instant to count from")]
fn allocations(a: Option<Suite>, b: Option<Suite>) -> usize {
    let mut now = Instant::now();
    let protection = |suite: Option<Suite>, fill| match suite {
        None => Protection::Clear,
        Some(suite) => Protection::Sealed { inbound: key(suite, fill), outbound: key(suite, fill + 1) },
    };
    let mut formats = Formats::same([0]);
    formats.pass(97, 8);
    let (near, far) =
        (leg(Side::A, protection(a, 1), formats), leg(Side::B, protection(b, 3), Formats::any()));
    let mut session = Session::new(plan(near, far), now).unwrap();
    let packets = packets(now, a.map(|suite| key(suite, 1)).as_ref());
    let (mut buffer, mut report) = (PacketBuffer::new(), PacketBuffer::new());
    let mut made = 0;
    let mut relay = |packets: &[Vec<u8>]| {
        for (number, packet) in packets.iter().enumerate() {
            now += Duration::from_millis(20);
            buffer.fill(packet);
            let verdict = session.handle_packet(now, Side::A, Channel::Rtp, at(Side::A), &mut buffer);
            assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
            assert_eq!(buffer.as_slice()[1], 8);
            if number.is_multiple_of(PACKETS_PER_LOOK) {
                session.handle_timeout(now);
                while session.poll_packet(now, &mut report).is_some() {
                    made += 1;
                }
                while session.poll_fact().is_some() {}
            }
        }
    };
    let (first, rest) = packets.split_at(WARM_UP);
    relay(first);
    let region = Region::new(COUNTED);
    relay(rest);
    let counted = region.change().allocations;
    assert!(made > 40, "reports were made, too: {made}");
    counted
}

#[test]
fn ten_thousand_packets_cost_no_allocation() {
    let (cm, gcm) = (Some(Suite::AesCm128HmacSha1_80), Some(Suite::AeadAes256Gcm));
    for (a, b) in [(None, None), (cm, None), (None, cm), (cm, cm), (gcm, gcm)] {
        assert_eq!(allocations(a, b), 0, "{a:?} to {b:?}");
    }
}
