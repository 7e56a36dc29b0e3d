//! Measuring: level, silence, strongest tone, share of one tone. Goertzel sums, no transform library needed.

use std::f64::consts::TAU;
use std::time::Duration;

use super::{BEEP_HZ, FRAME, RATE};

/// Quieter than this is silence.
pub const SILENCE_DBFS: f64 = -50.0;
/// Level of nothing at all.
const FLOOR_DBFS: f64 = -100.0;
/// Samples looked at when searching the strongest tone: bounds the cost.
const WINDOW_MAX: usize = 8_000;
const WINDOW_MIN: usize = 400;
/// Range and first step of the search in Hz.
const LOWEST_HZ: f64 = 60.0;
const HIGHEST_HZ: f64 = 3_900.0;
/// A tone stands out when it carries this share of the power.
const STANDS_OUT: f64 = 0.25;

/// Root mean square level; -100 for silence or no samples.
pub fn level_dbfs(samples: &[i16]) -> f64 {
    if samples.is_empty() {
        return FLOOR_DBFS;
    }
    let mean = energy(samples) / samples.len() as f64;
    if mean <= 0.0 {
        return FLOOR_DBFS;
    }
    (10.0 * (mean / f64::from(i16::MAX).powi(2)).log10()).max(FLOOR_DBFS)
}

/// Share of the power (0 to 1) that lies on one frequency.
pub fn tone_share(samples: &[i16], hz: f64) -> f64 {
    let total = energy(samples);
    if total <= 0.0 {
        return 0.0;
    }
    // a pure sine of N samples has |X|² = N/2 × its energy
    (goertzel(samples, hz) / (total * samples.len() as f64 / 2.0)).min(1.0)
}

/// The strongest tone in the loudest second, to about 1 Hz; `None` when it is silent or no tone stands out.
pub fn dominant_hz(samples: &[i16]) -> Option<f64> {
    let window = loudest_window(samples);
    if window.len() < WINDOW_MIN || level_dbfs(window) < SILENCE_DBFS {
        return None;
    }
    let width = f64::from(RATE) / window.len() as f64;
    let coarse = strongest(window, LOWEST_HZ, HIGHEST_HZ, width / 2.0);
    let fine = strongest(window, coarse - width / 2.0, coarse + width / 2.0, width / 16.0);
    (tone_share(window, fine) >= STANDS_OUT).then_some(fine)
}

fn strongest(samples: &[i16], from: f64, to: f64, step: f64) -> f64 {
    let mut best = (from, f64::MIN);
    let mut hz = from;
    while hz <= to {
        let power = goertzel(samples, hz);
        if power > best.1 {
            best = (hz, power);
        }
        hz += step;
    }
    best.0
}

/// A tenth of a second is enough to search at a step of 5 Hz; longer windows only sharpen it, so the search window is at most a fifth.
fn loudest_window(samples: &[i16]) -> &[i16] {
    let len = WINDOW_MAX / 5;
    if samples.len() <= len {
        return samples;
    }
    let mut best = (0, f64::MIN);
    for start in (0..=samples.len() - len).step_by(len / 2) {
        let power = energy(&samples[start..start + len]);
        if power > best.1 {
            best = (start, power);
        }
    }
    &samples[best.0..best.0 + len]
}

fn energy(samples: &[i16]) -> f64 {
    samples.iter().map(|s| f64::from(*s).powi(2)).sum()
}

fn goertzel(samples: &[i16], hz: f64) -> f64 {
    let turn = TAU * hz / f64::from(RATE);
    let twice_cos = 2.0 * turn.cos();
    let (mut one, mut two) = (0.0_f64, 0.0_f64);
    for sample in samples {
        let next = f64::from(*sample) + twice_cos * one - two;
        two = one;
        one = next;
    }
    one * one + two * two - twice_cos * one * two
}

/// Says when it has been silent for a while. Counts samples, so it needs no clock.
#[derive(Clone, Debug)]
pub struct SilenceDetector {
    limit: u64,
    quiet: u64,
}

impl SilenceDetector {
    /// Fires after `idle` of silence.
    pub fn new(idle: Duration) -> Self {
        SilenceDetector { limit: samples_in(idle), quiet: 0 }
    }

    /// Takes the next samples; true when the silence is long enough.
    pub fn push(&mut self, samples: &[i16]) -> bool {
        if level_dbfs(samples) < SILENCE_DBFS {
            self.quiet = self.quiet.saturating_add(samples.len() as u64);
        } else {
            self.quiet = 0;
        }
        self.quiet >= self.limit
    }
}

fn samples_in(time: Duration) -> u64 {
    (time.as_secs_f64() * f64::from(RATE)) as u64
}

/// Watches for the beep in a stream of samples.
#[derive(Clone, Debug, Default)]
pub struct BeepDetector {
    pending: Vec<i16>,
    taken: u64,
    hits: u32,
    began: Option<u64>,
    ended: Option<u64>,
}

/// Frames in a row that must carry the beep (or must not, for its end).
const BEEP_FRAMES: u32 = 4;
const BEEP_SHARE: f64 = 0.7;

impl BeepDetector {
    /// A new watcher.
    pub fn new() -> Self {
        BeepDetector::default()
    }

    /// Takes the next samples.
    pub fn push(&mut self, samples: &[i16]) {
        if self.ended.is_some() {
            return;
        }
        self.pending.extend_from_slice(samples);
        let whole = self.pending.len() / FRAME * FRAME;
        let frames: Vec<i16> = self.pending.drain(..whole).collect();
        for frame in frames.chunks_exact(FRAME) {
            self.on_frame(frame);
        }
    }

    fn on_frame(&mut self, frame: &[i16]) {
        let beeps = level_dbfs(frame) >= SILENCE_DBFS && tone_share(frame, BEEP_HZ) >= BEEP_SHARE;
        self.taken += FRAME as u64;
        self.hits = if beeps { self.hits + 1 } else { 0 };
        match self.began {
            None if self.hits >= BEEP_FRAMES => {
                self.began = Some(self.taken - u64::from(self.hits) * FRAME as u64);
            }
            Some(_) if !beeps && self.ended.is_none() => self.ended = Some(self.taken),
            _ => {}
        }
    }

    /// Sample at which the beep began.
    pub fn began(&self) -> Option<u64> {
        self.began
    }

    /// The beep was heard and is over.
    pub fn is_over(&self) -> bool {
        self.ended.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{beep, greeting, silence, tone};
    use super::*;

    #[test]
    fn the_stronger_of_two_tones_dominates() {
        let strong = tone(440.0, -12.0, 8_000);
        let weak = tone(1_900.0, -25.0, 8_000);
        let both: Vec<i16> = strong.iter().zip(&weak).map(|(a, b)| a + b).collect();
        assert!((dominant_hz(&both).unwrap() - 440.0).abs() < 3.0);
    }

    #[test]
    fn noise_and_silence_have_no_dominant_tone() {
        let mut state = 1u32;
        let noise: Vec<i16> = (0..8_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 18) as i16
            })
            .collect();
        assert_eq!(dominant_hz(&noise), None);
        assert_eq!(dominant_hz(&silence(8_000)), None);
        assert_eq!(dominant_hz(&[]), None);
    }

    #[test]
    fn a_tone_after_long_silence_is_still_found() {
        let mut samples = silence(40_000);
        samples.extend(tone(1_234.0, -20.0, 4_000));
        assert!((dominant_hz(&samples).unwrap() - 1_234.0).abs() < 4.0);
    }

    #[test]
    fn silence_must_last_to_count() {
        let mut detector = SilenceDetector::new(Duration::from_millis(100));
        assert!(!detector.push(&silence(400)));
        assert!(!detector.push(&tone(440.0, -20.0, 400)));
        assert!(!detector.push(&silence(799)));
        assert!(detector.push(&silence(1)));
    }

    #[test]
    fn the_beep_is_heard_after_the_greeting_and_not_in_it() {
        let mut detector = BeepDetector::new();
        detector.push(&greeting());
        assert_eq!(detector.began(), None);
        detector.push(&beep());
        assert!(detector.began().is_some());
        assert!(!detector.is_over());
        detector.push(&silence(800));
        assert!(detector.is_over());
        let start = greeting().len() as u64;
        assert!(detector.began().unwrap().abs_diff(start) < 400);
    }
}
