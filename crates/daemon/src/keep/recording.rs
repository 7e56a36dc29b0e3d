//! The audio of one call as a WAV file: 8 kHz, 16 bit, the caller's side left, the callee's right. Owns the file and its fate;
//! refuses to know other calls.

use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use audio_codec_algorithms::{decode_alaw, decode_ulaw};
use hound::{SampleFormat, WavSpec, WavWriter};
use relay::{RtpHead, Side};

use super::RATE;
use super::folder::{Folder, Refused};
use super::timeline::{FRAME, Frame, Placed, Timeline};

/// Static payload types (RFC 3551 §6).
pub(super) const PCMU: u8 = 0;
pub(super) const PCMA: u8 = 8;
/// Comfort noise (RFC 3389).
pub(super) const COMFORT_NOISE: u8 = 13;
/// Payloads of other types up to here are taken for events (RFC 4733: 4 octets each).
pub(super) const EVENTS_BYTES_MAX: usize = 16;

const SPEC: WavSpec =
    WavSpec { channels: 2, sample_rate: RATE as u32, bits_per_sample: 16, sample_format: SampleFormat::Int };
/// Octets of a frame in the file: two sides, 16 bit.
const FRAME_BYTES: u64 = FRAME as u64 * 4;
/// Buffered before a write: a second.
const BUFFER_BYTES: usize = FRAME_BYTES as usize * 50;
/// How often the sizes in the header are made true, so that a file that was cut off opens all the same.
const HEADER_INTERVAL: Duration = Duration::from_secs(1);
/// What a file holds before its first sample.
const HEADER_BYTES: u64 = 44;

/// What became of a recording, in one octet: readable from the signalling side without a lock.
#[derive(Debug, Default)]
pub(super) struct Fate(AtomicU8);

/// Why a recording is not there, or not whole.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Lack {
    /// Nothing to be recorded came.
    NoAudio = 0,
    /// It is whole.
    Nothing = 1,
    /// An encoding other than G.711.
    Encoding = 2,
    /// The folder holds as much as it may.
    Full = 3,
    /// The disk.
    System = 4,
    /// Longer than recorded.
    Length = 5,
    /// Too many at once.
    Busy = 6,
}

impl Lack {
    const ALL: [Lack; 7] =
        [Lack::NoAudio, Lack::Nothing, Lack::Encoding, Lack::Full, Lack::System, Lack::Length, Lack::Busy];

    /// A few words for the record; `None` if nothing lacks.
    pub(super) fn words(self) -> Option<&'static str> {
        match self {
            Lack::Nothing => None,
            Lack::NoAudio => Some("no G.711 audio came"),
            Lack::Encoding => Some("an encoding other than G.711 is not recorded"),
            Lack::Full => Some("the folder is full (UMB-REC003)"),
            Lack::System => Some("the file cannot be written (UMB-REC002)"),
            Lack::Length => Some("cut off at call_max"),
            Lack::Busy => Some("too many recordings at once"),
        }
    }
}

/// The bit that says that there is a file.
const FILE: u8 = 0x80;

impl Fate {
    pub(super) fn lacks(&self, lack: Lack) {
        let file = self.0.load(Ordering::Relaxed) & FILE;
        self.0.store(file | lack as u8, Ordering::Relaxed);
    }

    fn has_file(&self) {
        self.0.store(FILE | Lack::Nothing as u8, Ordering::Relaxed);
    }

    /// Whether there is a file, and what lacks.
    pub(super) fn told(&self) -> (bool, Lack) {
        let told = self.0.load(Ordering::Relaxed);
        let lack = Lack::ALL.into_iter().find(|lack| *lack as u8 == told & !FILE);
        (told & FILE != 0, lack.unwrap_or(Lack::NoAudio))
    }
}

enum Stage {
    /// Nothing came yet.
    Waiting,
    Open {
        file: Box<WavWriter<BufWriter<File>>>,
        timeline: Box<Timeline>,
        begun: Instant,
        header: Instant,
    },
    Over,
}

/// One recording.
pub(super) struct Recording {
    stem: String,
    fate: Arc<Fate>,
    call_max: Duration,
    stage: Stage,
    /// Packets that came after their place was written.
    pub(super) late: u64,
}

impl Recording {
    pub(super) fn new(stem: String, fate: Arc<Fate>, call_max: Duration) -> Self {
        Self { stem, fate, call_max, stage: Stage::Waiting, late: 0 }
    }

    /// Whether anything was written.
    pub(super) fn has_file(&self) -> bool {
        self.fate.told().0
    }

    /// A packet that was forwarded. What is not G.711 leaves silence. An error is told once: the recording is over then.
    pub(super) fn on_rtp(
        &mut self,
        folder: &mut Folder,
        side: Side,
        at: Instant,
        head: &RtpHead,
        payload: &[u8],
    ) -> Result<(), Refused> {
        let decode = match head.payload_type {
            PCMU => decode_ulaw,
            PCMA => decode_alaw,
            COMFORT_NOISE => return Ok(()),
            _ if payload.len() <= EVENTS_BYTES_MAX => return Ok(()),
            _ => {
                self.fate.lacks(Lack::Encoding);
                return Ok(());
            }
        };
        let begun = self.begin(folder, at).and_then(|()| self.on_time(folder, at));
        self.settle(begun)?;
        if let Stage::Open { timeline, .. } = &mut self.stage {
            let placed = timeline.place(side, at, head, payload.iter().map(|octet| decode(*octet)));
            self.late += u64::from(placed == Placed::Late);
        }
        Ok(())
    }

    /// Writes what is complete by now.
    pub(super) fn on_tick(&mut self, folder: &mut Folder, now: Instant) -> Result<(), Refused> {
        let written = self.on_time(folder, now);
        self.settle(written)
    }

    /// Writes what is left.
    pub(super) fn finish(&mut self, folder: &mut Folder) -> Result<(), Refused> {
        let Stage::Open { mut file, mut timeline, .. } = std::mem::replace(&mut self.stage, Stage::Over)
        else {
            return Ok(());
        };
        let mut written = Ok(());
        timeline.finish(|frame| write(&mut written, folder, &mut file, frame));
        let written = written.and_then(|()| file.finalize().map_err(refused));
        self.settle(written)
    }

    fn begin(&mut self, folder: &mut Folder, now: Instant) -> Result<(), Refused> {
        if !matches!(self.stage, Stage::Waiting) {
            return Ok(());
        }
        folder.grow(HEADER_BYTES)?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, folder.create(now, &self.stem)?);
        let file = Box::new(WavWriter::new(file, SPEC).map_err(refused)?);
        self.stage = Stage::Open { file, timeline: Box::new(Timeline::new(now)), begun: now, header: now };
        self.fate.has_file();
        Ok(())
    }

    fn on_time(&mut self, folder: &mut Folder, now: Instant) -> Result<(), Refused> {
        let Stage::Open { file, timeline, begun, header } = &mut self.stage else { return Ok(()) };
        let end = *begun + self.call_max;
        let mut written = Ok(());
        timeline.take(now.min(end), |frame| write(&mut written, folder, file, frame));
        written?;
        if now >= end {
            self.fate.lacks(Lack::Length);
            return self.finish(folder);
        }
        if now.saturating_duration_since(*header) >= HEADER_INTERVAL {
            *header = now;
            file.flush().map_err(refused)?;
        }
        Ok(())
    }

    /// After a failure nothing more is tried; what is in the file stays.
    fn settle(&mut self, written: Result<(), Refused>) -> Result<(), Refused> {
        if let Err(refused) = &written {
            self.fate.lacks(match refused {
                Refused::Full => Lack::Full,
                Refused::System(_) => Lack::System,
            });
            // Dropping the writer makes the header true, as far as the disk lets it.
            self.stage = Stage::Over;
        }
        written
    }
}

fn write(
    written: &mut Result<(), Refused>,
    folder: &mut Folder,
    file: &mut WavWriter<BufWriter<File>>,
    frame: &Frame,
) {
    if written.is_err() {
        return;
    }
    let [left, right] = &frame.0;
    *written = folder.grow(FRAME_BYTES).and_then(|()| {
        let mut both = left.iter().zip(right).flat_map(|(left, right)| [*left, *right]);
        both.try_for_each(|sample| file.write_sample(sample)).map_err(refused)
    });
}

fn refused(error: hound::Error) -> Refused {
    match error {
        hound::Error::IoError(error) => Refused::System(error),
        other => Refused::System(std::io::Error::other(other)),
    }
}

#[cfg(test)]
#[path = "recording_tests.rs"]
mod tests;
