//! Whether somebody speaks: the level of G.711 packets.
//!
//! Owns the threshold and the sums. Refuses to know any other encoding: packets of those say nothing here.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use audio_codec_algorithms::{decode_alaw, decode_ulaw};

/// Static payload types of the two laws (RFC 3551 §6).
const PCMU: u8 = 0;
const PCMA: u8 = 8;
/// One octet in so many is looked at: 20 of a packet of 20 ms are enough for a level.
const STRIDE: usize = 8;
/// Mean square of a packet above which it is voice: 50 dB below the largest square wave (dBov).
const VOICE_SQUARE_MIN: u64 = ((i16::MAX as u64) * (i16::MAX as u64)) / 100_000;

/// Squares of what the octets of a law stand for.
struct Squares([u32; 256]);

static MU: LazyLock<Squares> = LazyLock::new(|| Squares::of(decode_ulaw));
static A: LazyLock<Squares> = LazyLock::new(|| Squares::of(decode_alaw));

impl Squares {
    fn of(decode: impl Fn(u8) -> i16) -> Self {
        let mut squares = [0; 256];
        for (octet, square) in (0..=u8::MAX).zip(&mut squares) {
            *square = i32::from(decode(octet)).pow(2) as u32;
        }
        Squares(squares)
    }

    fn mean(&self, payload: &[u8]) -> u64 {
        let looked_at = payload.iter().step_by(STRIDE);
        let count = looked_at.len().max(1) as u64;
        looked_at.map(|octet| u64::from(self.0.get(usize::from(*octet)).copied().unwrap_or(0))).sum::<u64>()
            / count
    }
}

/// What was heard of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Voice {
    /// G.711 packets, whatever was in them.
    pub packets: u64,
    /// Of those, the ones with voice.
    pub voiced: u64,
    /// From the beginning of the session to the first voice.
    pub first: Option<Duration>,
    /// From the beginning of the session to the last voice.
    pub last: Option<Duration>,
    /// Sum of the mean squares of voiced packets.
    pub squares: u64,
}

impl Voice {
    /// Level of the voiced packets in dB below overload (dBov, RFC 6464 §3): zero or less.
    pub fn level_dbov(&self) -> Option<f32> {
        let mean = self.squares.checked_div(self.voiced)? as f32;
        Some((10.0 * (mean / f32::from(i16::MAX).powi(2)).log10()).min(0.0))
    }

    pub(crate) fn on_packet(&mut self, epoch: Instant, now: Instant, payload_type: u8, payload: &[u8]) {
        let mean = match payload_type {
            PCMU => MU.mean(payload),
            PCMA => A.mean(payload),
            _ => return,
        };
        self.packets += 1;
        if mean < VOICE_SQUARE_MIN {
            return;
        }
        let at = now.saturating_duration_since(epoch);
        self.voiced += 1;
        self.squares = self.squares.saturating_add(mean);
        self.first.get_or_insert(at);
        self.last = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use audio_codec_algorithms::{encode_alaw, encode_ulaw};

    fn tone(amplitude: f32) -> Vec<i16> {
        (0..160).map(|at| (amplitude * (at as f32 * 0.61).sin()) as i16).collect()
    }

    fn heard(payload_type: u8, encode: impl Fn(i16) -> u8, amplitude: f32) -> Voice {
        let start = crate::tests::start();
        let payload: Vec<u8> = tone(amplitude).into_iter().map(encode).collect();
        let mut voice = Voice::default();
        for seconds in [1, 2, 3] {
            voice.on_packet(start, start + Duration::from_secs(seconds), payload_type, &payload);
        }
        voice
    }

    #[test]
    fn a_tone_is_voice_in_either_law_at_its_level() {
        for voice in [heard(PCMU, encode_ulaw, 3_276.7), heard(PCMA, encode_alaw, 3_276.7)] {
            assert_eq!((voice.packets, voice.voiced), (3, 3));
            assert_eq!(
                (voice.first, voice.last),
                (Some(Duration::from_secs(1)), Some(Duration::from_secs(3)))
            );
            // A sine of a tenth of the largest amplitude: 20 dB, and 3 dB for its shape.
            let level = voice.level_dbov().unwrap();
            assert!((-24.0..-22.0).contains(&level), "{level}");
        }
    }

    #[test]
    fn quiet_packets_are_no_voice() {
        for voice in
            [heard(PCMU, encode_ulaw, 40.0), heard(PCMA, encode_alaw, 40.0), heard(PCMU, |_| 0xFF, 0.0)]
        {
            assert_eq!((voice.packets, voice.voiced, voice.level_dbov()), (3, 0, None));
        }
    }

    #[test]
    fn other_encodings_say_nothing() {
        assert_eq!(heard(111, encode_ulaw, 9_000.0), Voice::default());
        let mut voice = Voice::default();
        voice.on_packet(crate::tests::start(), crate::tests::start(), PCMU, &[]);
        assert_eq!((voice.packets, voice.voiced), (1, 0));
    }
}
