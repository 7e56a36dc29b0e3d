//! WAV files, by the hound crate: 8 kHz, mono, 16 bit.

use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use thiserror::Error;

use super::RATE;

/// Longest file read: an hour.
const SAMPLES_MAX: usize = 8_000 * 3_600;

/// Why a WAV file could not be read or written.
#[derive(Debug, Error)]
pub enum WavError {
    /// The file or its contents.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What hound says.
        source: hound::Error,
    },
    /// Not 8 kHz mono 16 bit, or longer than an hour.
    #[error("{0}: not an 8 kHz mono 16 bit recording of at most an hour")]
    Shape(PathBuf),
}

const SPEC: WavSpec =
    WavSpec { channels: 1, sample_rate: RATE, bits_per_sample: 16, sample_format: SampleFormat::Int };

/// Writes samples.
pub fn write_wav(path: &Path, samples: &[i16]) -> Result<(), WavError> {
    let fail = |source| WavError::File { path: path.to_owned(), source };
    let mut writer = WavWriter::create(path, SPEC).map_err(fail)?;
    for sample in samples {
        writer.write_sample(*sample).map_err(fail)?;
    }
    writer.finalize().map_err(fail)
}

/// Reads samples.
pub fn read_wav(path: &Path) -> Result<Vec<i16>, WavError> {
    let fail = |source| WavError::File { path: path.to_owned(), source };
    let reader = WavReader::open(path).map_err(fail)?;
    if reader.spec() != SPEC || reader.len() as usize > SAMPLES_MAX {
        return Err(WavError::Shape(path.to_owned()));
    }
    reader.into_samples::<i16>().collect::<Result<_, _>>().map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::super::tone;
    use super::*;

    #[test]
    fn samples_come_back_from_a_file_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let samples = tone(440.0, -10.0, 1_600);
        write_wav(&path, &samples).unwrap();
        assert_eq!(read_wav(&path).unwrap(), samples);
    }

    #[test]
    fn another_rate_or_no_wav_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.wav");
        let spec = WavSpec { sample_rate: 44_100, ..SPEC };
        WavWriter::create(&path, spec).unwrap().finalize().unwrap();
        assert!(matches!(read_wav(&path), Err(WavError::Shape(_))));
        std::fs::write(&path, b"nonsense").unwrap();
        assert!(matches!(read_wav(&path), Err(WavError::File { .. })));
    }
}
