//! Sound as the lab makes and judges it: G.711, tones, spoken prompts and beep, level, silence, strongest tone, WAV files and a picture in block
//! characters. Samples are 8 kHz mono 16 bit everywhere. Refuses to know packets and calls.

mod detect;
mod g711;
mod prompt;
mod tone;
mod wav;
mod waveform;

pub use detect::{BeepDetector, SILENCE_DBFS, SilenceDetector, dominant_hz, level_dbfs, tone_share};
pub use g711::Law;
pub use prompt::{BEEP_HZ, Prompt, Speech, beep, greeting};
pub use tone::{silence, tone};
pub use wav::{WavError, read_wav, write_wav};
pub use waveform::waveform;

/// Samples per second.
pub const RATE: u32 = 8_000;
/// Samples in a 20 ms packet.
pub const FRAME: usize = 160;
