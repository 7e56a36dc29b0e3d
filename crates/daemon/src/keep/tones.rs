//! Tells the two tones of a pressed key (DTMF, ITU-T Q.23) from everything else, window by window. Owns the frequencies and the
//! thresholds; refuses to know which key it was. In doubt it says that it was one: a syllable that is missing costs less than a PIN
//! that is kept.

use std::f32::consts::TAU;
use std::sync::LazyLock;

use super::RATE;

/// Of rows and columns.
const GROUPS_HZ: [[f32; 4]; 2] = [[697.0, 770.0, 852.0, 941.0], [1_209.0, 1_336.0, 1_477.0, 1_633.0]];
/// A phone may be off by so much (Q.24 demands that 1.5 % are heard).
const OFF: [f32; 3] = [0.985, 1.0, 1.015];
/// Share of the power that both tones have together.
const BOTH_MIN: f32 = 0.4;
/// Share of the weaker one.
const EACH_MIN: f32 = 0.04;
/// Mean square below which nothing is left to be heard, 76 dB below full scale: an echo of a key is soft, and tells as much.
const SQUARE_MIN: f32 = (i16::MAX as f32) * (i16::MAX as f32) / 4e7;

/// Twice the cosine of the angle that each frequency turns in a sample.
static TURNS: LazyLock<[[f32; 12]; 2]> = LazyLock::new(|| {
    GROUPS_HZ.map(|group| {
        let mut turns = [0.0; 12];
        let all = group.iter().flat_map(|hz| OFF.map(|off| hz * off));
        turns.iter_mut().zip(all).for_each(|(turn, hz)| *turn = 2.0 * (TAU * hz / RATE as f32).cos());
        turns
    })
});

/// Whether a key is heard in this window of about 20 ms.
pub(super) fn has_digit(window: &[i16]) -> bool {
    let energy: f32 = window.iter().map(|sample| f32::from(*sample).powi(2)).sum();
    let length = window.len() as f32;
    if energy < SQUARE_MIN * length.max(1.0) {
        return false;
    }
    // A sine of N samples has |X|² = N/2 × its energy.
    let share = |turns: &[f32; 12]| {
        turns.iter().map(|turn| power(window, *turn)).fold(0.0, f32::max) / (energy * length / 2.0)
    };
    let [low, high] = [share(&TURNS[0]), share(&TURNS[1])];
    low + high >= BOTH_MIN && low.min(high) >= EACH_MIN
}

/// Goertzel's sum at one frequency.
fn power(window: &[i16], turn: f32) -> f32 {
    let (mut one, mut two) = (0.0_f32, 0.0_f32);
    for sample in window {
        (one, two) = (f32::from(*sample) + turn * one - two, one);
    }
    one * one + two * two - turn * one * two
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A key as a phone sounds it; `levels` are amplitudes, `off` a factor on both frequencies.
    pub(in crate::keep) fn key(
        row: usize,
        column: usize,
        levels: [f32; 2],
        off: f32,
        count: usize,
    ) -> Vec<i16> {
        let hz = [GROUPS_HZ[0][row] * off, GROUPS_HZ[1][column] * off];
        let at = |n: usize, which: usize| levels[which] * (TAU * hz[which] * n as f32 / RATE as f32).sin();
        (0..count).map(|n| (at(n, 0) + at(n, 1)) as i16).collect()
    }

    /// Noise with a seed: uniform, of that amplitude.
    pub(in crate::keep) fn noise(amplitude: i16, count: usize) -> Vec<i16> {
        let mut state = 0x2545_f491_u32;
        let step = |_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (i64::from(state) * i64::from(amplitude) / i64::from(u32::MAX / 2) - i64::from(amplitude)) as i16
        };
        (0..count).map(step).collect()
    }

    #[test]
    fn every_key_is_heard_at_every_level_and_off_by_what_phones_are() {
        for row in 0..4 {
            for column in 0..4 {
                for levels in [[8_000.0, 8_000.0], [20.0, 20.0], [9_000.0, 3_000.0], [2_500.0, 8_000.0]] {
                    for off in [0.982, 0.99, 1.0, 1.01, 1.018] {
                        let tone = key(row, column, levels, off, 160);
                        assert!(has_digit(&tone), "{row} {column} {levels:?} {off}");
                    }
                }
            }
        }
    }

    #[test]
    fn half_a_window_of_a_key_is_enough_and_noise_beside_it_does_not_hide_it() {
        let mut half = vec![0; 80];
        half.extend(key(1, 2, [4_000.0; 2], 1.0, 80));
        assert!(has_digit(&half));
        half.reverse();
        assert!(has_digit(&half));
        let tone = key(3, 1, [4_000.0; 2], 1.0, 160);
        let noisy: Vec<i16> = tone.iter().zip(noise(3_000, 160)).map(|(tone, noise)| tone + noise).collect();
        assert!(has_digit(&noisy));
    }

    #[test]
    fn one_tone_noise_and_silence_are_no_key() {
        for hz in [440.0, 697.0, 770.0, 1_000.0, 1_209.0, 1_477.0, 2_000.0] {
            let tone: Vec<i16> =
                (0..160).map(|n| (9_000.0 * (TAU * hz * n as f32 / RATE as f32).sin()) as i16).collect();
            assert!(!has_digit(&tone), "{hz}");
        }
        let windows = noise(9_000, 160 * 50);
        assert_eq!(windows.chunks(160).filter(|window| has_digit(window)).count(), 0);
        assert!(!has_digit(&[0; 160]) && !has_digit(&[]));
    }
}
