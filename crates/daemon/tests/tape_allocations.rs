//! Keeping a packet costs the media thread no allocation: counted, in a program of its own, because the allocator is one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::alloc::System;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use b2bua::policy::MediaAddresses;
use relay::{Channel, Side, Tap, Verdict};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use umbra::keep::{
    CaptureSettings, Captured, CapturedMedia, KeepSettings, KeepWriter, Passed, Room, Sent, Tape,
};
use umbra::observe::Metrics;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Fewer than fill a chunk: what the writer does with one is its own business.
const PACKETS: usize = 300;
const ATTEMPTS: usize = 5;
const STRETCH: Duration = Duration::from_millis(5);
const CALM_STRETCHES: usize = 3;
const STRETCHES_MAX: usize = 400;

fn keep(tape: &mut Tape, now: Instant) {
    let (packet, to) = ([0x80; 172], SocketAddr::from((Ipv4Addr::LOCALHOST, 4000)));
    tape.on_clear(&packet);
    let sent = Sent::of(&Verdict::Forward { side: Side::B, channel: Channel::Rtp, to }, &packet);
    let (side, channel, from) = (Side::A, Channel::Rtp, Some(to));
    tape.passed(Passed { call: 0, at: now, side, channel, from, ports: [2, 4], sent });
}

/// Allocations and reallocations while a fresh tape keeps its packets.
fn counted() -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let captures = CaptureSettings {
        folder: folder.path().to_owned(),
        calls: Captured::All,
        media: CapturedMedia::Rtp,
        ring_bytes: 1 << 20,
        room: Room { bytes_max: 1 << 20, files_max: 1 },
    };
    let settings = KeepSettings { recordings: None, captures: Some(captures) };
    let addresses = MediaAddresses::of([Ipv4Addr::LOCALHOST.into()]);
    let (writer, keeper, mut tapes) =
        KeepWriter::start(&settings, addresses, 1, &Arc::new(Metrics::new())).unwrap();
    let (mut tape, now) = (tapes.pop().unwrap(), Instant::now());
    // The first packet takes a chunk.
    keep(&mut tape, now);
    settle();
    let region = Region::new(COUNTED);
    (1..PACKETS).for_each(|_| keep(&mut tape, now));
    let counted = region.change();
    drop((tape, keeper));
    writer.join();
    (counted.allocations, counted.reallocations)
}

/// Waits until the writer's thread has begun: until nobody allocates for a while.
fn settle() {
    let is_busy = || {
        let region = Region::new(COUNTED);
        std::thread::sleep(STRETCH);
        region.change().allocations > 0
    };
    let mut calm = 0;
    for _ in 0..STRETCHES_MAX {
        calm = if is_busy() { 0 } else { calm + 1 };
        if calm == CALM_STRETCHES {
            return;
        }
    }
}

#[test]
fn a_packet_that_is_kept_costs_no_allocation() {
    // The writer's thread allocates now and then; what keeping costs is in every attempt.
    let attempts: Vec<_> = (0..ATTEMPTS).map(|_| counted()).collect();
    println!("{PACKETS} packets: {attempts:?}");
    assert!(attempts.contains(&(0, 0)), "{attempts:?}");
}
