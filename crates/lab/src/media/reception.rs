//! From accepted packets to samples: order by sequence number, silence for losses, bounded length.

use std::time::Duration;

use super::RecordLimits;
use super::rtp::View;
use crate::audio::{BeepDetector, FRAME, Law, RATE, SilenceDetector};

/// Longest gap that is filled with silence; longer ones are a new start.
const GAP_PACKETS_MAX: u16 = 50;
/// Longest audio kept when nobody set limits.
const SAMPLES_MAX: usize = RATE as usize * 300;
/// Samples one packet may bring: 200 ms, the longest packet time Lync uses.
const PACKET_SAMPLES_MAX: usize = 1_600;
const COMFORT_NOISE: u8 = 13;

/// Why a recording ended by itself.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Over {
    Idle,
    Full,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum State {
    Open,
    Over(Over),
    Told,
}

/// What was heard so far.
pub(super) struct Reception {
    law: Law,
    samples: Vec<i16>,
    next: Option<u16>,
    longest: usize,
    idle: Option<SilenceDetector>,
    state: State,
    beep: BeepDetector,
    was_beep_told: bool,
}

impl Reception {
    pub(super) fn new(law: Law) -> Self {
        Reception {
            law,
            samples: Vec::new(),
            next: None,
            longest: SAMPLES_MAX,
            idle: None,
            state: State::Open,
            beep: BeepDetector::new(),
            was_beep_told: false,
        }
    }

    pub(super) fn set_law(&mut self, law: Law) {
        self.law = law;
    }

    pub(super) fn record(&mut self, limits: RecordLimits) {
        self.samples.clear();
        self.longest = ((limits.longest.as_secs_f64() * f64::from(RATE)) as usize).max(FRAME);
        self.idle = limits.idle.map(SilenceDetector::new);
        self.state = State::Open;
    }

    /// Takes a packet; false when it is none of ours (late, doubled, or another payload type).
    pub(super) fn take(&mut self, packet: &View<'_>) -> bool {
        let is_audio = packet.payload_type == self.law.payload_type();
        if !is_audio && packet.payload_type != COMFORT_NOISE {
            return false;
        }
        let ahead = packet.sequence.wrapping_sub(self.next.unwrap_or(packet.sequence));
        if ahead > u16::MAX / 2 {
            return false;
        }
        let mut fresh = Vec::with_capacity(FRAME);
        if ahead <= GAP_PACKETS_MAX {
            fresh.resize(usize::from(ahead) * FRAME, 0);
        }
        if is_audio && packet.payload.len() <= PACKET_SAMPLES_MAX {
            self.law.decode_into(packet.payload, &mut fresh);
        } else {
            fresh.resize(fresh.len() + FRAME, 0);
        }
        self.next = Some(packet.sequence.wrapping_add(1));
        self.push(&fresh);
        true
    }

    /// A packet of a key: it takes a place in the order and is no sound.
    pub(super) fn pass(&mut self, sequence: u16) {
        self.next = Some(sequence.wrapping_add(1));
    }

    /// Hands over what was recorded; nothing is kept until the next recording, and none ends by itself.
    pub(super) fn take_all(&mut self) -> Vec<i16> {
        self.longest = 0;
        self.idle = None;
        self.state = State::Told;
        std::mem::take(&mut self.samples)
    }

    /// A time in which nothing came counts as silence, so that a caller who sends nothing still ends the recording.
    pub(super) fn idle_for(&mut self, samples: usize) {
        if self.idle.is_some() {
            self.push(&vec![0; samples.min(PACKET_SAMPLES_MAX)]);
        }
    }

    fn push(&mut self, fresh: &[i16]) {
        self.beep.push(fresh);
        let room = self.longest.saturating_sub(self.samples.len());
        self.samples.extend_from_slice(&fresh[..fresh.len().min(room)]);
        if self.state != State::Open {
            return;
        }
        if self.idle.as_mut().is_some_and(|idle| idle.push(fresh)) {
            self.state = State::Over(Over::Idle);
        } else if self.samples.len() >= self.longest {
            self.state = State::Over(Over::Full);
        }
    }

    /// Says once that the recording is over.
    pub(super) fn poll_over(&mut self) -> Option<Over> {
        let State::Over(why) = self.state else { return None };
        self.state = State::Told;
        Some(why)
    }

    /// Says once that the beep is over.
    pub(super) fn poll_beep(&mut self) -> bool {
        self.beep.is_over() && !std::mem::replace(&mut self.was_beep_told, true)
    }

    pub(super) fn into_parts(self) -> (Vec<i16>, Option<Duration>) {
        let at = |n: u64| Duration::from_secs_f64(n as f64 / f64::from(RATE));
        (self.samples, self.beep.began().map(at))
    }
}
