//! A thousand digits of 50 ms as telephone-events (RFC 4733) over a network that loses one packet in fifty before and again
//! behind the relay: all arrive, each once, for the lab's detector and for one of the test's own.

use std::time::Duration;

use lab::media::DigitDetector;

use super::end::{EVENT, End};
use super::relays::{Broken, Fault};
use super::{Relay, Umbra};
use crate::harness::size;

const DIGITS: usize = 1_000;
/// Of a hundred packets, on each side of the relay.
const LOST_PERCENT: u64 = 2;
/// In samples: 50 ms, told every 20 ms.
const STEPS: [u16; 3] = [160, 320, 400];
/// RFC 4733 §2.5.1.4: the last packet three times.
const ENDS: usize = 3;
const VOLUME: u8 = 10;
const PATIENCE: Duration = Duration::from_millis(300);
const CHARACTERS: &[u8] = b"0123456789*#ABCD";

/// SplitMix64: the same packets are lost in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn loses(&mut self) -> bool {
        self.next() % 100 < LOST_PERCENT
    }
}

/// What a receiver made of it.
#[derive(Debug, PartialEq)]
struct Heard {
    /// The lab's: a digit is heard with the first packet of an event.
    by_lab: String,
    /// The test's own: with an end packet of the full length, once for each time stamp.
    at_ends: String,
    /// As those do who forget what they have heard.
    without_memory: String,
}

/// Tells digits by their last packets.
#[derive(Default)]
struct AtEnds {
    known: Vec<u32>,
    digits: String,
    every_end: String,
}

impl AtEnds {
    fn takes(&mut self, packet: &[u8]) {
        let timestamp = u32::from_be_bytes(packet[4..8].try_into().unwrap());
        let [event, flags, long, short] = packet[12..16] else { return };
        let is_whole = u16::from_be_bytes([long, short]) == STEPS[STEPS.len() - 1];
        if flags & 0x80 == 0 || !is_whole {
            return;
        }
        let character = char::from(CHARACTERS[usize::from(event)]);
        self.every_end.push(character);
        if !self.known.contains(&timestamp) {
            self.known.push(timestamp);
            self.digits.push(character);
        }
    }
}

/// Digits from one end to the other; what was dialled, and what was heard.
fn probe(
    relay: &mut dyn Relay,
    is_sealed: bool,
    from: usize,
    digits: usize,
    pause: Duration,
) -> (String, Heard) {
    let mut ends = End::pair(relay.homes(), 1, [is_sealed; 2]);
    let [a, b] = &mut ends;
    relay.begins(1, a, b);
    let mut chance = Chance(4_733 + from as u64);
    let (mut dialled, mut lab, mut own) = (String::new(), DigitDetector::new(), AtEnds::default());
    let mut by_lab = String::new();
    for _ in 0..digits {
        let event = (chance.next() % CHARACTERS.len() as u64) as u8;
        dialled.push(char::from(CHARACTERS[usize::from(event)]));
        dials(&mut ends[from], event, &mut chance, pause);
        // Speech between digits; and what came behind it has come.
        let number = ends[from].tally.sent;
        ends[from].speaks();
        assert!(ends[1 - from].hears(number, PATIENCE), "speech does not come through");
        for packet in std::mem::take(&mut ends[1 - from].events) {
            if chance.loses() {
                continue;
            }
            own.takes(&packet);
            let timestamp = u32::from_be_bytes(packet[4..8].try_into().unwrap());
            by_lab.extend(lab.push(timestamp, &packet[12..]));
        }
    }
    relay.ends(1);
    (dialled, Heard { by_lab, at_ends: own.digits, without_memory: own.every_end })
}

fn dials(end: &mut End, event: u8, chance: &mut Chance, pause: Duration) {
    end.timestamp = end.timestamp.wrapping_add(160);
    let began = end.timestamp;
    let lasts = STEPS.iter().map(|step| (*step, false)).take(STEPS.len() - 1);
    let ends = [(STEPS[STEPS.len() - 1], true); ENDS];
    for (number, (duration, is_end)) in lasts.chain(ends).enumerate() {
        let marker = if number == 0 { 0x80 } else { 0 };
        let [long, short] = duration.to_be_bytes();
        let flags = VOLUME | if is_end { 0x80 } else { 0 };
        let packet = end.next(marker | EVENT, began, &[event, flags, long, short]);
        if !chance.loses() {
            end.rtp.send_to(&packet, end.relay().0).unwrap();
        }
        std::thread::sleep(pause);
    }
    end.timestamp = began.wrapping_add(400);
}

#[test]
fn a_thousand_digits_arrive_once_each_in_both_directions_whatever_protects_them() {
    // At the pace of a telephone where the size is a release's.
    let pause = Duration::from_millis(if size("UMBRA_PROBE_SECONDS", 0) > 0 { 20 } else { 0 });
    for is_sealed in [false, true] {
        let mut umbra = Umbra::start(is_sealed);
        for from in [0, 1] {
            let (dialled, heard) = probe(&mut umbra, is_sealed, from, size("UMBRA_DIGITS", DIGITS), pause);
            assert!(heard.by_lab == dialled && heard.at_ends == dialled, "{dialled}\n{heard:#?}");
            println!("digits, sealed {is_sealed}, from end {from}: {} dialled and heard", dialled.len());
            // Whoever forgets hears almost every digit three times.
            assert!(heard.without_memory.len() > 2 * dialled.len(), "{heard:#?}");
        }
    }
}

#[test]
fn the_probe_sees_a_relay_that_loses_the_ends_of_digits() {
    let (dialled, heard) = probe(&mut Broken::new(Fault::LosesEnds), false, 0, 20, Duration::ZERO);
    assert_eq!(dialled.len(), 20);
    assert_eq!(heard.at_ends, "", "{heard:#?}");
}
