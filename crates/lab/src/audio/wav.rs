//! WAV files: 8 kHz, mono, 16 bit by the hound crate, which knows no mu-law; that is read here.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use thiserror::Error;

use super::{Law, RATE};

/// Longest file read: an hour.
const SAMPLES_MAX: usize = 8_000 * 3_600;
/// The `fmt ` chunk of mu-law: format 7, one channel, 8,000 samples and octets a second, one octet of eight bits a sample.
const MU_LAW_FORMAT: [u8; 16] = [7, 0, 1, 0, 0x40, 0x1f, 0, 0, 0x40, 0x1f, 0, 0, 1, 0, 8, 0];
const CHUNK_HEAD: usize = 8;

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
    /// Not 8 kHz mono, 16 bit or mu-law, or longer than an hour.
    #[error("{0}: not an 8 kHz mono recording (16 bit or mu-law) of at most an hour")]
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
    let reader = match WavReader::open(path) {
        Err(hound::Error::Unsupported) => return read_mu_law(path),
        opened => opened.map_err(fail)?,
    };
    if reader.spec() != SPEC || reader.len() as usize > SAMPLES_MAX {
        return Err(WavError::Shape(path.to_owned()));
    }
    reader.into_samples::<i16>().collect::<Result<_, _>>().map_err(fail)
}

fn read_mu_law(path: &Path) -> Result<Vec<i16>, WavError> {
    let fail = |source| WavError::File { path: path.to_owned(), source: hound::Error::IoError(source) };
    let mut file = Vec::new();
    let limited = std::fs::File::open(path).map_err(fail)?.take(SAMPLES_MAX as u64);
    BufReader::new(limited).read_to_end(&mut file).map_err(fail)?;
    let data = mu_law_data(&file).ok_or_else(|| WavError::Shape(path.to_owned()))?;
    let mut samples = Vec::with_capacity(data.len());
    Law::Mu.decode_into(data, &mut samples);
    Ok(samples)
}

/// The sound in a mu-law WAV file (8 kHz, mono), octet by octet; `None` when it is no such file.
pub(super) fn mu_law_data(file: &[u8]) -> Option<&[u8]> {
    let mut rest = file.strip_prefix(b"RIFF")?.get(4..)?.strip_prefix(b"WAVE")?;
    let mut is_mu_law = false;
    loop {
        let (head, after) = rest.split_at_checked(CHUNK_HEAD)?;
        let (name, length) = head.split_at(4);
        let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
        let body = after.get(..length)?;
        match name {
            b"fmt " => is_mu_law = body.starts_with(&MU_LAW_FORMAT),
            b"data" => return is_mu_law.then_some(body),
            _ => {}
        }
        // Chunks begin at even places.
        rest = after.get(length + length % 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Prompt, tone};
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

    #[test]
    fn mu_law_is_read_and_cut_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.wav");
        let file = Prompt::Goodbye.file();
        std::fs::write(&path, file).unwrap();
        assert_eq!(read_wav(&path).unwrap().len(), mu_law_data(file).unwrap().len());
        for cut in 0..60 {
            assert_eq!(mu_law_data(&file[..cut]), None, "{cut}");
        }
    }
}
