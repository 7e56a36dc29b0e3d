//! Packets that no peer sent: from elsewhere, without a key, under a wrong one, damaged, sent again, sent back; on sealed legs
//! from the peer's own address too. None may come out on the other leg.

use std::net::UdpSocket;
use std::time::Duration;

use webrtc_srtp::context::Context;

use super::end::{EVENT, End, INJECTED, SPEECH, context, rtp};
use super::relays::{Broken, Fault, Rtpengine};
use super::{PORTS, Relay, Umbra};
use crate::harness::{metric_sum, size};

/// Injected before the next packet of the peer, which comes through behind them: fewer than a socket holds.
const BURST: usize = 40;
const PATIENCE: Duration = Duration::from_millis(300);
/// Packets of a peer lost in a row, after which the relay is taken for lost, too.
const LOST_MAX: u32 = 10;
/// Packets of a peer kept for replays.
const KEPT: usize = 64;

#[derive(Debug, Default)]
struct Seen {
    injected: usize,
    let_through: u32,
    spoken: u32,
    lost: u32,
}

/// Makes what is injected on one leg.
struct Injector {
    elsewhere: UdpSocket,
    wrong_key: Context,
    kept: Vec<Vec<u8>>,
    count: usize,
}

impl Injector {
    fn new(relay: &dyn Relay) -> Self {
        let elsewhere = UdpSocket::bind((relay.elsewhere(), 0)).unwrap();
        Self { elsewhere, wrong_key: context(&rand::random()), kept: Vec::new(), count: 0 }
    }

    fn keep(&mut self, packet: Vec<u8>) {
        match self.kept.len() < KEPT {
            true => self.kept.push(packet),
            false => self.kept[self.count % KEPT] = packet,
        }
    }

    fn kept(&self) -> Vec<u8> {
        self.kept.get(self.count % KEPT.min(self.kept.len().max(1))).cloned().unwrap_or_default()
    }

    fn injects(&mut self, end: &End) {
        self.count += 1;
        let (to_rtp, to_rtcp) = end.relay();
        let is_sealed = end.own_key().is_some();
        let (bytes, is_report) = if is_sealed { self.for_sealed(end) } else { self.for_plain(end) };
        // From its own address whatever is said on a plain leg is the peer's.
        let is_from_there = is_sealed && self.count.is_multiple_of(2);
        let (from, to) = match (is_from_there, is_report) {
            (false, false) => (&self.elsewhere, to_rtp),
            (false, true) => (&self.elsewhere, to_rtcp),
            (true, false) => (&end.rtp, to_rtp),
            (true, true) => (&end.rtcp, to_rtcp),
        };
        let _lost = from.send_to(&bytes, to);
    }

    /// The packet, and whether it is for the RTCP port.
    fn for_plain(&mut self, end: &End) -> (Vec<u8>, bool) {
        let speech = |ssrc| rtp(SPEECH, end.sequence, end.timestamp, ssrc, INJECTED);
        match self.count % 7 {
            0 => (speech(end.ssrc), false),
            1 => (speech(!end.ssrc), false),
            2 => (rtp(EVENT, end.sequence, end.timestamp, end.ssrc, &[1, 0x8a, 1, 0x90]), false),
            3 => (report(end.ssrc), true),
            4 => (bye(end.ssrc), true),
            5 => (report(end.ssrc), false),
            _ => (self.kept(), false),
        }
    }

    fn for_sealed(&mut self, end: &End) -> (Vec<u8>, bool) {
        let ahead = end.sequence.wrapping_add(self.count as u16 % 9);
        let speech = |ssrc| rtp(SPEECH, ahead, end.timestamp, ssrc, INJECTED);
        let mut kept = self.kept();
        // By halves, since every other one comes from elsewhere.
        match self.count / 2 % 11 {
            0 => (speech(end.ssrc), false),
            1 => (self.wrong_key.encrypt_rtp(&speech(end.ssrc)).unwrap().to_vec(), false),
            2 => (self.wrong_key.encrypt_rtp(&speech(!end.ssrc)).unwrap().to_vec(), false),
            3 => {
                // One bit, anywhere.
                let at = rand::random::<u32>() as usize % kept.len().max(1);
                kept.get_mut(at).into_iter().for_each(|octet| *octet ^= 1 << (self.count % 8));
                (kept, false)
            }
            4 => (kept, false),
            5 => (self.kept.last().cloned().unwrap_or_default(), false),
            6 => {
                kept.get_mut(2..4).into_iter().for_each(|place| place.copy_from_slice(&ahead.to_be_bytes()));
                (kept, false)
            }
            7 => (report(end.ssrc), true),
            8 => (self.wrong_key.encrypt_rtcp(&report(end.ssrc)).unwrap().to_vec(), true),
            9 => (bye(end.ssrc), true),
            // What the relay itself sent here, under its own key.
            _ => (end.came_last.clone(), false),
        }
    }
}

/// A sender report with a name that nobody has.
fn report(ssrc: u32) -> Vec<u8> {
    let mut bytes = vec![0x80, 200, 0, 6];
    bytes.extend(ssrc.to_be_bytes());
    bytes.resize(28, 0);
    bytes.extend([0x81, 202, 0, 7]);
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend([1, INJECTED.len() as u8]);
    bytes.extend(INJECTED);
    bytes.resize(60, 0);
    bytes
}

/// A report and a goodbye.
fn bye(ssrc: u32) -> Vec<u8> {
    [&report(ssrc)[..], &[0x81, 203, 0, 1], &ssrc.to_be_bytes()].concat()
}

/// So many injected into a call, by turns on both legs; the first before anybody has spoken.
fn probe(relay: &mut dyn Relay, is_sealed: bool, count: usize) -> Seen {
    let mut ends = End::pair(relay.homes(), 1, [is_sealed; 2]);
    let [a, b] = &mut ends;
    relay.begins(1, a, b);
    let mut injectors = [Injector::new(relay), Injector::new(relay)];
    let (mut seen, mut lost_in_a_row) = (Seen::default(), 0);
    while seen.injected < count && lost_in_a_row < LOST_MAX {
        for side in [0, 1] {
            for _ in 0..BURST {
                injectors[side].injects(&ends[side]);
            }
            seen.injected += BURST;
            let number = ends[side].tally.sent;
            let packet = ends[side].speaks();
            let has_come = ends[1 - side].hears(number, PATIENCE);
            injectors[side].keep(packet);
            lost_in_a_row = if has_come { 0 } else { lost_in_a_row + 1 };
            (seen.spoken, seen.lost) = (seen.spoken + 1, seen.lost + u32::from(!has_come));
        }
    }
    std::thread::sleep(PATIENCE);
    for end in &mut ends {
        end.drains();
        seen.let_through += end.tally.foreign + end.tally.doubles + end.events.len() as u32;
    }
    relay.ends(1);
    seen
}

fn lets_nothing_through(is_sealed: bool) {
    let mut umbra = Umbra::start(is_sealed);
    let seen = probe(&mut umbra, is_sealed, size("UMBRA_INJECTED", 20_000));
    umbra.stage.umbra.wait_for_records(1, Duration::from_secs(10));
    let refused = metric_sum(&umbra.stage.metrics(), "umbra_rtp_refused_packets_total");
    println!("injected, sealed {is_sealed}: {seen:?}, refused {refused}");
    assert_eq!(seen.let_through, 0, "{seen:?}");
    // They were looked at and refused, and did not get lost on their way.
    assert!(refused > 0.99 * seen.injected as f64, "{seen:?}, {refused} refused");
    assert!(seen.lost * 100 < seen.spoken, "{seen:?}\n{}", umbra.stage.umbra.process.output());
}

#[test]
fn nothing_injected_into_a_plain_call_reaches_the_other_leg() {
    lets_nothing_through(false);
}

#[test]
fn nothing_injected_into_a_sealed_call_reaches_the_other_leg() {
    lets_nothing_through(true);
}

#[test]
fn the_probe_sees_what_rtpengine_and_a_relay_that_passes_anything_let_through() {
    for is_sealed in [false, true] {
        let mut relays: Vec<Box<dyn Relay>> = vec![Box::new(Broken::new(Fault::PassesAnything))];
        // Where packets have tags rtpengine looks at them.
        if !is_sealed {
            relays.extend(Rtpengine::start(PORTS).map(|relay| Box::new(relay) as Box<dyn Relay>));
        }
        for relay in &mut relays {
            let seen = probe(&mut **relay, is_sealed, 2_000);
            println!("{}, sealed {is_sealed}: {seen:?}", relay.name());
            assert!(seen.let_through > 0, "{}: {seen:?}", relay.name());
        }
    }
}
