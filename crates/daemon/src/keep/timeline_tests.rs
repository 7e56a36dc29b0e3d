//! Packets on the line of time: order, gaps, jumps, and keys that nobody may read out of it.

use std::time::Duration;

use audio_codec_algorithms::{decode_alaw, decode_ulaw, encode_alaw, encode_ulaw};

use super::super::tones::tests::{key, noise};
use super::*;

const PACKET: Duration = Duration::from_millis(20);

fn head(sequence: u16, timestamp: u32) -> RtpHead {
    RtpHead { payload_type: 0, sequence, timestamp, ssrc: 7, header_bytes: 12 }
}

/// Lays packets down as they arrive, and takes what is complete meanwhile.
struct Line {
    begun: Instant,
    timeline: Timeline,
    out: [Vec<i16>; 2],
    late: usize,
}

impl Line {
    fn new() -> Self {
        let begun = Instant::now();
        Self { begun, timeline: Timeline::new(begun), out: Default::default(), late: 0 }
    }

    fn packet(&mut self, side: Side, arrives: Duration, head: RtpHead, samples: &[i16]) {
        let (at, out) = (self.begun + arrives, &mut self.out);
        self.timeline.take(at, |frame| keep(out, frame));
        let placed = self.timeline.place(side, at, &head, samples.iter().copied());
        self.late += usize::from(placed == Placed::Late);
    }

    fn end(mut self) -> ([Vec<i16>; 2], usize) {
        let out = &mut self.out;
        self.timeline.finish(|frame| keep(out, frame));
        (self.out, self.late)
    }
}

fn keep(out: &mut [Vec<i16>; 2], frame: &Frame) {
    out.iter_mut().zip(&frame.0).for_each(|(out, side)| out.extend(side));
}

#[test]
fn timestamps_place_packets_whatever_order_they_come_in() {
    let mut line = Line::new();
    // The third overtakes the second; the fifth is lost.
    for (arrives, number) in [(0, 0_u16), (40, 2), (41, 1), (60, 3), (100, 5)] {
        let samples = [i16::try_from(number).unwrap() + 1; FRAME];
        line.packet(Side::A, Duration::from_millis(arrives), head(number, 160 * u32::from(number)), &samples);
    }
    let ([left, right], late) = line.end();
    let frames: Vec<i16> = left.chunks(FRAME).map(|frame| frame[80]).collect();
    assert_eq!((frames, late), (vec![1, 2, 3, 4, 0, 6], 0));
    assert!(right.iter().all(|sample| *sample == 0) && right.len() == left.len());
}

#[test]
fn a_packet_whose_frame_is_written_is_late_and_a_clock_that_jumped_begins_anew() {
    let mut line = Line::new();
    for number in 0..100_u16 {
        line.packet(Side::B, PACKET * u32::from(number), head(number, 160 * u32::from(number)), &[1; FRAME]);
    }
    line.packet(Side::B, PACKET * 100, head(3, 480), &[9; FRAME]);
    // A jump of hours, both ways, does not fill the disk and loses nothing.
    line.packet(Side::B, PACKET * 101, head(101, 0x7000_0000), &[5; FRAME]);
    line.packet(Side::B, PACKET * 102, head(102, 7), &[6; FRAME]);
    let ([_, right], late) = line.end();
    assert_eq!(late, 1);
    assert_eq!(right.len(), 103 * FRAME);
    assert!(!right.contains(&9));
    assert_eq!((right[101 * FRAME], right[102 * FRAME]), (5, 6));
}

#[test]
fn both_sides_lie_beside_each_other_by_the_clock() {
    let mut line = Line::new();
    line.packet(Side::A, Duration::ZERO, head(1, 5_000), &[1; FRAME]);
    line.packet(Side::B, Duration::from_millis(1_000), head(9, 77), &[2; FRAME]);
    line.packet(Side::A, Duration::from_millis(1_000), head(2, 13_000), &[3; FRAME]);
    let ([left, right], _) = line.end();
    let at = |samples: &[i16], value| samples.iter().position(|sample| *sample == value);
    assert_eq!((at(&left, 1), at(&left, 3), at(&right, 2)), (Some(0), Some(8_000), Some(8_000)));
}

/// Another detector than the one under test: windows of 205 samples, a step of 40 samples, shares of the window's power.
fn keys_in(samples: &[i16]) -> usize {
    let goertzel = |window: &[i16], hz: f64| {
        let (mut re, mut im) = (0.0_f64, 0.0_f64);
        for (n, sample) in window.iter().enumerate() {
            let angle = std::f64::consts::TAU * hz * n as f64 / 8_000.0;
            re += f64::from(*sample) * angle.cos();
            im += f64::from(*sample) * angle.sin();
        }
        re * re + im * im
    };
    let loudest = |window: &[i16], group: [f64; 4]| {
        group.map(|hz| goertzel(window, hz)).into_iter().fold(0.0, f64::max)
    };
    let is_key = |window: &[i16]| {
        let energy: f64 = window.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        let low = loudest(window, [697.0, 770.0, 852.0, 941.0]);
        let high = loudest(window, [1_209.0, 1_336.0, 1_477.0, 1_633.0]);
        let whole = energy * window.len() as f64 / 2.0;
        // 10 % of a window is far below what any receiver would take for a digit.
        energy > 1e4 && (low + high) / whole > 0.1 && low.min(high) / whole > 0.02
    };
    (0..samples.len().saturating_sub(205)).step_by(40).filter(|at| is_key(&samples[*at..at + 205])).count()
}

#[test]
fn no_key_that_was_pressed_can_be_heard_afterwards_at_any_offset_length_level_or_law() {
    let through = |number: usize, sample: i16| match number % 2 {
        0 => decode_ulaw(encode_ulaw(sample)),
        _ => decode_alaw(encode_alaw(sample)),
    };
    for (number, (offset, length, level)) in (0..160)
        .step_by(23)
        .flat_map(|offset| {
            [320, 400, 800]
                .into_iter()
                .flat_map(move |length| [9_000.0, 700.0].map(|level| (offset, length, level)))
        })
        .enumerate()
    {
        let mut source = vec![0; 1_600 + offset];
        for (row, column) in [(0, 0), (3, 1), (2, 2), (1, 3)] {
            source.extend(key(row, column, [level, level * 0.8], 1.0, length));
            source.extend(vec![0; 480]);
        }
        source.resize(source.len().next_multiple_of(FRAME) + 1_600, 0);
        let heard: Vec<i16> = source.iter().map(|sample| through(number, *sample)).collect();
        assert!(keys_in(&heard) > 8, "the source has keys: {offset} {length} {level}");
        // An echo of it comes back from the other side, a little later and softer, under a voice.
        let mut echo = vec![0; 120];
        echo.extend(heard.iter().map(|sample| sample / 30));
        let mut line = Line::new();
        for (number, packet) in (0_u16..).zip(heard.chunks(FRAME)) {
            let (arrives, head) = (PACKET * u32::from(number), head(number, 160 * u32::from(number)));
            line.packet(Side::A, arrives, head, packet);
            let start = usize::from(number) * FRAME;
            line.packet(Side::B, arrives, head, &echo[start..start + FRAME]);
        }
        let ([left, right], _) = line.end();
        assert_eq!((keys_in(&left), keys_in(&right)), (0, 0), "{offset} {length} {level}");
    }
}

#[test]
fn what_is_no_key_stays() {
    let speech = noise(6_000, FRAME * 100);
    let mut line = Line::new();
    for (number, packet) in (0_u16..).zip(speech.chunks(FRAME)) {
        line.packet(Side::A, PACKET * u32::from(number), head(number, 160 * u32::from(number)), packet);
    }
    assert_eq!(line.end().0[0], speech);
}
