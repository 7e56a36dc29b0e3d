//! The greeting and the beep. No speech: three soft notes stand for "please leave a message".

use std::sync::LazyLock;

use super::tone::{silence, tone};

/// The beep's frequency: none of the greeting's notes, none of a DTMF tone.
pub const BEEP_HZ: f64 = 1_400.0;
/// The greeting's notes (C5, E5, G5), the last the longest.
pub const GREETING_HZ: [f64; 3] = [523.25, 659.25, 783.99];

const NOTE_LEVEL_DBFS: f64 = -19.0;
const BEEP_LEVEL_DBFS: f64 = -16.0;
const NOTE: usize = 1_920;
const LAST_NOTE: usize = 3_840;
const PAUSE: usize = 480;
const BEEP: usize = 2_400;

/// The greeting: just over a second.
pub fn greeting() -> Vec<i16> {
    // The same for every call; a sine is not cheap.
    static GREETING: LazyLock<Vec<i16>> = LazyLock::new(compose);
    GREETING.clone()
}

fn compose() -> Vec<i16> {
    let mut samples = silence(PAUSE);
    for (n, hz) in GREETING_HZ.iter().enumerate() {
        let last = n + 1 == GREETING_HZ.len();
        samples.extend(tone(*hz, NOTE_LEVEL_DBFS, if last { LAST_NOTE } else { NOTE }));
        samples.extend(silence(PAUSE));
    }
    samples
}

/// The beep: 0.3 s.
pub fn beep() -> Vec<i16> {
    static BEEP_TONE: LazyLock<Vec<i16>> = LazyLock::new(|| tone(BEEP_HZ, BEEP_LEVEL_DBFS, BEEP));
    BEEP_TONE.clone()
}
