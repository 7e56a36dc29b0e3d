//! Thousands of packets with a bad tag, from the peer's own address, with its source and its next sequence numbers. The call
//! goes on, its packets arrive, and the log stays quiet.

use std::time::{Duration, Instant};

use super::end::{End, INJECTED, SPEECH, context, rtp};
use super::relays::{self, Broken, Fault};
use super::{PORTS, Relay, Umbra};

/// Bad ones before each good one.
const BURST: u16 = 10;
const ROUNDS: u32 = 1_000;
const PATIENCE: Duration = Duration::from_millis(300);
/// Good packets lost in a row, after which the call is over.
const LOST_MAX: u32 = 10;

#[derive(Debug, Default)]
struct Seen {
    bad: u32,
    spoken: u32,
    lost: u32,
    let_through: u32,
    is_over: bool,
}

impl Seen {
    /// Less than one in a thousand is lost.
    fn is_well(&self) -> bool {
        !self.is_over && self.let_through == 0 && self.lost * 1_000 < self.spoken
    }
}

fn probe(relay: &mut dyn Relay, rounds: u32) -> Seen {
    let [mut a, mut b] = End::pair(relay.homes(), 1, [true; 2]);
    relay.begins(1, &mut a, &mut b);
    let mut seen = Seen::default();
    let mut lost_in_a_row = 0;
    while seen.spoken < 2 * rounds && !seen.is_over {
        for (speaker, listener) in [(0, 1), (1, 0)] {
            let ends = [&mut a, &mut b];
            if speaker == 0 {
                seen.bad += forges(ends[speaker]);
            }
            let number = ends[speaker].tally.sent;
            ends[speaker].speaks();
            let has_come = ends[listener].hears(number, PATIENCE);
            lost_in_a_row = if has_come { 0 } else { lost_in_a_row + 1 };
            (seen.spoken, seen.lost) = (seen.spoken + 1, seen.lost + u32::from(!has_come));
            seen.is_over |= lost_in_a_row == LOST_MAX;
        }
    }
    seen.let_through = a.tally.foreign + b.tally.foreign + a.tally.doubles + b.tally.doubles;
    relay.ends(1);
    seen
}

/// Under its very key, and then a bit of the tag is wrong.
fn forges(end: &End) -> u32 {
    let mut sealing = context(&end.own_key().unwrap());
    for ahead in 0..BURST {
        // Near ones, and some that would move the rollover counter.
        let sequence = end.sequence.wrapping_add(if ahead % 5 == 4 { 30_000 + ahead } else { ahead });
        let speech = rtp(SPEECH, sequence, end.timestamp, end.ssrc, INJECTED);
        let mut packet = sealing.encrypt_rtp(&speech).unwrap().to_vec();
        *packet.last_mut().unwrap() ^= 1 << (ahead % 8);
        end.rtp.send_to(&packet, end.relay().0).unwrap();
    }
    u32::from(BURST)
}

/// The gateway's lines while the probe ran, and what it saw.
fn in_gateway(level: &str, rounds: u32) -> (Seen, usize, Duration) {
    let mut umbra = Umbra::start_as(true, PORTS, |config| {
        config.replace("level = \"info\"", &format!("level = \"{level}\""))
    });
    // The call's own lines come with or without bad tags.
    probe(&mut umbra, 1);
    let lines = |umbra: &Umbra| umbra.stage.umbra.process.output().lines().count();
    let (before, began) = (lines(&umbra), Instant::now());
    probe(&mut umbra, 1);
    let own = lines(&umbra) - before;
    let before = lines(&umbra);
    let seen = probe(&mut umbra, rounds);
    let lasted = began.elapsed();
    let said = (lines(&umbra) - before).saturating_sub(own);
    println!("bad tags, log at {level}: {seen:?}, {said} lines in {lasted:?}");
    (seen, said, lasted)
}

#[test]
fn ten_thousand_bad_tags_neither_end_a_call_nor_cost_it_packets_nor_fill_the_log() {
    let (seen, lines, lasted) = in_gateway("info", ROUNDS);
    assert!(seen.bad >= 10_000 && seen.is_well(), "{seen:?}");
    assert!(lines <= 1 + lasted.as_secs() as usize, "{lines} lines in {lasted:?}");
}

#[test]
fn the_probe_sees_a_relay_that_loses_patience_and_a_log_with_a_line_for_each_packet() {
    let seen = probe(&mut Broken::new(Fault::LosesPatience), ROUNDS);
    println!("stand-in: {seen:?}");
    assert!(!seen.is_well() && seen.is_over && seen.bad < 4 * relays::PATIENCE, "{seen:?}");
    let seen = probe(&mut Broken::new(Fault::PassesAnything), 10);
    assert!(!seen.is_well(), "{seen:?}");
    let (_, lines, lasted) = in_gateway("trace", 100);
    assert!(lines > 1 + lasted.as_secs() as usize, "{lines} lines in {lasted:?}");
}
