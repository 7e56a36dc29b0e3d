//! Sine waves.

use std::f64::consts::{SQRT_2, TAU};

use super::RATE;

/// Samples over which a tone rises and falls, so that it does not click.
const RAMP: usize = 80;

/// A sine of `hz` at `level_dbfs` (root mean square; full scale is -3) of `samples` length, with short ramps.
pub fn tone(hz: f64, level_dbfs: f64, samples: usize) -> Vec<i16> {
    let peak = f64::from(i16::MAX) * SQRT_2 * 10f64.powf(level_dbfs / 20.0);
    let peak = peak.min(f64::from(i16::MAX));
    let step = TAU * hz / f64::from(RATE);
    (0..samples)
        .map(|n| {
            let edge = n.min(samples - 1 - n);
            let ramp = (edge as f64 / RAMP as f64).min(1.0);
            ((step * n as f64).sin() * peak * ramp) as i16
        })
        .collect()
}

/// Digital silence.
pub fn silence(samples: usize) -> Vec<i16> {
    vec![0; samples]
}

#[cfg(test)]
mod tests {
    use super::super::{dominant_hz, level_dbfs};
    use super::*;

    #[test]
    fn a_tone_has_the_frequency_and_level_asked_for() {
        for (hz, level) in [(440.0, -15.0), (697.0, -20.0), (3_000.0, -10.0)] {
            let made = tone(hz, level, 8_000);
            assert!((dominant_hz(&made).unwrap() - hz).abs() < 3.0, "{hz}");
            assert!((level_dbfs(&made) - level).abs() < 0.3, "{hz}");
        }
    }

    #[test]
    fn a_tone_of_no_length_is_empty() {
        assert!(tone(440.0, -10.0, 0).is_empty());
    }
}
