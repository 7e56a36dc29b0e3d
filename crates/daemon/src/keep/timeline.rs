//! The audio of both sides on one line of time, frame by frame. Owns where a packet belongs, how long it is waited for, and that
//! no pressed key is heard; refuses to know files.
//!
//! ```text
//!        written       waits for late packets         ahead of its time
//!  ──────────────────┬──────────────────────────┬─────────────────────────┐
//!              first ┘      HOLD_FRAMES     now ┘       AHEAD_SAMPLES     ┘ no more than this
//! ```
//!
//! A stream begins where its first packet arrived; from there on its timestamps count. A frame is muted on both sides when a key
//! is heard on either side in it, in the frame before or in the one after: an echo of the key would tell as much.

use std::collections::VecDeque;
use std::time::Instant;

use relay::{RtpHead, Side};

use super::RATE;
use super::tones::has_digit;

/// Samples of a frame: 20 ms.
pub(super) const FRAME: usize = 160;
/// How long a frame waits for its packets: 400 ms.
const HOLD_FRAMES: u64 = 20;
/// How far timestamps may run ahead of the clock: a second.
const AHEAD_SAMPLES: i64 = RATE as i64;

/// 20 ms of both sides.
#[derive(Clone)]
pub(super) struct Frame(pub(super) [[i16; FRAME]; 2]);

const SILENT: Frame = Frame([[0; FRAME]; 2]);

impl Frame {
    fn has_digit(&self) -> bool {
        self.0.iter().any(|side| has_digit(side))
    }
}

/// Whether a packet found its place.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Placed {
    Yes,
    /// Its frame is written already.
    Late,
}

#[derive(Copy, Clone)]
struct Stream {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// Where that timestamp lies on the line.
    at: i64,
}

/// The line.
pub(super) struct Timeline {
    begun: Instant,
    /// Number of the first frame that is kept.
    first: u64,
    frames: VecDeque<Frame>,
    streams: [Option<Stream>; 2],
    /// Whether a key is heard in the frame before the first, and in the first.
    digits: [bool; 2],
}

impl Timeline {
    /// Begins at this moment.
    pub(super) fn new(begun: Instant) -> Self {
        Self { begun, first: 0, frames: VecDeque::new(), streams: [None; 2], digits: [false; 2] }
    }

    /// Lays the samples of a packet down that arrived at `at`; what is older than it by the hold is to be taken before.
    pub(super) fn place(
        &mut self,
        side: Side,
        at: Instant,
        head: &RtpHead,
        samples: impl Iterator<Item = i16>,
    ) -> Placed {
        let which = usize::from(side == Side::B);
        let (now, floor) = (self.sample_at(at), self.floor());
        let known = self.streams[which].filter(|stream| stream.ssrc == head.ssrc);
        let is_newest = known.is_none_or(|stream| (head.sequence.wrapping_sub(stream.sequence) as i16) > 0);
        let by_timestamp =
            known.map(|s| s.at.saturating_add(i64::from(head.timestamp.wrapping_sub(s.timestamp) as i32)));
        let position = match by_timestamp {
            Some(position) if (floor..=now + AHEAD_SAMPLES).contains(&position) => position,
            Some(_) if !is_newest => return Placed::Late,
            // A new stream, or one whose clock jumped or drifted away.
            _ => now.max(floor),
        };
        if is_newest {
            let RtpHead { ssrc, sequence, timestamp, .. } = *head;
            self.streams[which] = Some(Stream { ssrc, sequence, timestamp, at: position });
        }
        self.lay(which, (position - floor) as usize, samples);
        Placed::Yes
    }

    fn lay(&mut self, which: usize, offset: usize, samples: impl Iterator<Item = i16>) {
        for (at, sample) in (offset..).zip(samples) {
            while self.frames.len() <= at / FRAME {
                self.frames.push_back(SILENT);
            }
            if let Some(place) = self.frames.get_mut(at / FRAME).and_then(|f| f.0[which].get_mut(at % FRAME))
            {
                *place = sample;
            }
        }
    }

    /// Gives out what is complete at `now`, in order and without keys.
    pub(super) fn take(&mut self, now: Instant, mut out: impl FnMut(&Frame)) {
        let whole = (self.sample_at(now).max(0) as u64 / FRAME as u64).saturating_sub(HOLD_FRAMES);
        // The frame after the one that is given out must be complete too.
        while self.first + 1 < whole {
            self.give(&mut out);
        }
    }

    /// Gives out what is left.
    pub(super) fn finish(&mut self, mut out: impl FnMut(&Frame)) {
        while !self.frames.is_empty() {
            self.give(&mut out);
        }
    }

    fn give(&mut self, out: &mut impl FnMut(&Frame)) {
        let mut frame = self.frames.pop_front().unwrap_or(SILENT);
        if self.first == 0 {
            self.digits[1] = frame.has_digit();
        }
        let next = self.frames.front().is_some_and(Frame::has_digit);
        if self.digits.contains(&true) || next {
            frame = SILENT;
        }
        self.digits = [self.digits[1], next];
        self.first += 1;
        out(&frame);
    }

    fn floor(&self) -> i64 {
        i64::try_from(self.first * FRAME as u64).unwrap_or(i64::MAX)
    }

    fn sample_at(&self, at: Instant) -> i64 {
        let micros = at.saturating_duration_since(self.begun).as_micros();
        i64::try_from(micros * u128::from(RATE) / 1_000_000).unwrap_or(i64::MAX / 2)
    }
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
