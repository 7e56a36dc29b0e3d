//! The voicemail folder: `<alias>/NNNN.wav` with `NNNN.json` and the mail `NNNN.eml` beside, `<alias>/missed-NNNN.json` and `.eml`. One writer per
//! folder. Owns names and files;
//! refuses to know calls.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::mail::{self, MailError};
use crate::audio::{RATE, WavError, dominant_hz, level_dbfs, read_wav, write_wav};
use crate::um::{HeldMessage, MESSAGES_MAX, MessageNote, MissedCall, PinLetter, StoredMessage, VoiceMessage};

/// Messages per mailbox.
const NUMBER_MAX: u32 = 9_999;

/// Why something was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder or a file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The WAV file.
    #[error(transparent)]
    Wav(#[from] WavError),
    /// The mail.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The mailbox is full.
    #[error("{0}: mailbox is full")]
    Full(PathBuf),
}

/// A folder of mailboxes.
#[derive(Clone, Debug)]
pub struct Voicemail {
    root: PathBuf,
}

impl Voicemail {
    /// Mailboxes below `root`; created when first needed.
    pub fn new(root: PathBuf) -> Self {
        Voicemail { root }
    }

    /// Stores a message. Blocks.
    pub fn store(&self, message: &VoiceMessage) -> Result<StoredMessage, StoreError> {
        let (folder, number) = self.next(&message.purpose.for_whom, "")?;
        let wav = folder.join(format!("{number:04}.wav"));
        let json = folder.join(format!("{number:04}.json"));
        write_wav(&wav, &message.samples)?;
        let note = note(message);
        write_json(&json, &note)?;
        let eml = folder.join(format!("{number:04}.eml"));
        let sound = std::fs::read(&wav).map_err(|source| StoreError::File { path: wav.clone(), source })?;
        write(&eml, &mail::voice_message(&note, &format!("{number:04}.wav"), sound)?)?;
        Ok(StoredMessage { wav, json, eml, note })
    }

    /// Notes a missed call. Blocks.
    pub fn note_missed(&self, missed: &MissedCall) -> Result<PathBuf, StoreError> {
        let (folder, number) = self.next(&missed.mailbox, "missed-")?;
        let json = folder.join(format!("missed-{number:04}.json"));
        write_json(&json, missed)?;
        write(&json.with_extension("eml"), &mail::missed_call(missed)?)?;
        Ok(json)
    }

    /// The messages of a mailbox, oldest first; none where it has no folder. A note without its sound, or a file that is none of ours, is passed
    /// over. Blocks.
    pub fn load(&self, alias: &str) -> Result<Vec<HeldMessage>, StoreError> {
        let mut found = Vec::new();
        let mut notes = self.notes(alias)?;
        notes.sort_by(|(one, _), (other, _)| one.cmp(other));
        let older = notes.len().saturating_sub(MESSAGES_MAX);
        for (json, note) in notes.into_iter().skip(older) {
            let Ok(samples) = read_wav(&json.with_extension("wav")) else { continue };
            let received =
                OffsetDateTime::parse(&note.started_utc, &Rfc3339).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            let held = HeldMessage::new(note.caller, note.call_id, received, &samples);
            found.push(if note.heard { held.heard() } else { held });
        }
        Ok(found)
    }

    /// Says in the side file of a message that it was heard; when there is none, nothing happens. Blocks.
    pub fn mark_heard(&self, alias: &str, call_id: &str) -> Result<(), StoreError> {
        for (json, note) in self.notes(alias)?.into_iter().filter(|(_, note)| note.call_id == call_id) {
            write_json(&json, &MessageNote { heard: true, ..note })?;
        }
        Ok(())
    }

    /// The side files of a mailbox's messages.
    fn notes(&self, alias: &str) -> Result<Vec<(PathBuf, MessageNote)>, StoreError> {
        let folder = self.root.join(alias);
        let fail = |source| StoreError::File { path: folder.clone(), source };
        let entries = match std::fs::read_dir(&folder) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(fail)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let json = entry.map_err(fail)?.path();
            if json.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let text = std::fs::read(&json).ok();
            found.extend(text.and_then(|text| Some((json, serde_json::from_slice(&text).ok()?))));
        }
        Ok(found)
    }

    /// Deletes the message of the call with this Call-ID; when there is none, nothing happens. Blocks.
    pub fn delete(&self, alias: &str, call_id: &str) -> Result<(), StoreError> {
        for (json, _) in self.notes(alias)?.into_iter().filter(|(_, note)| note.call_id == call_id) {
            for path in [json.with_extension("wav"), json.with_extension("eml"), json] {
                std::fs::remove_file(&path).map_err(|source| StoreError::File { path, source })?;
            }
        }
        Ok(())
    }

    /// Puts a new PIN where its owner finds it: `<alias>/pin-NNNN.eml`. Blocks.
    pub fn write_pin(&self, letter: &PinLetter) -> Result<PathBuf, StoreError> {
        let (folder, number) = self.next(&letter.mailbox, "pin-")?;
        let path = folder.join(format!("pin-{number:04}.eml"));
        write(&path, &mail::new_pin(letter)?)?;
        Ok(path)
    }

    /// The mailbox's folder and its next free number.
    fn next(&self, alias: &str, prefix: &str) -> Result<(PathBuf, u32), StoreError> {
        let folder = self.root.join(alias);
        let fail = |source| StoreError::File { path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(fail)?;
        let mut highest = 0;
        for entry in std::fs::read_dir(&folder).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            let name = name.to_string_lossy();
            let digits = name.strip_prefix(prefix).and_then(|n| n.split('.').next());
            highest = highest.max(digits.and_then(|n| n.parse().ok()).unwrap_or(0));
        }
        if highest >= NUMBER_MAX {
            return Err(StoreError::Full(folder));
        }
        Ok((folder, highest + 1))
    }
}

fn note(message: &VoiceMessage) -> MessageNote {
    let started = OffsetDateTime::now_utc() - age(message.age);
    MessageNote {
        mailbox: message.purpose.for_whom.clone(),
        caller: message.purpose.caller.clone(),
        purpose: message.purpose.clone(),
        server: message.server.clone(),
        call_id: message.call_id.clone(),
        security: message.security.to_owned(),
        codec: message.law.name().to_owned(),
        started_utc: started.format(&Rfc3339).unwrap_or_default(),
        duration_s: message.samples.len() as f64 / f64::from(RATE),
        level_dbfs: level_dbfs(&message.samples),
        dominant_hz: dominant_hz(&message.samples),
        end: message.end,
        x_call_id: message.x_call_id.clone(),
        heard: false,
    }
}

fn age(age: Duration) -> time::Duration {
    time::Duration::try_from(age).unwrap_or(time::Duration::ZERO)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let text = serde_json::to_vec_pretty(value).map_err(io::Error::other);
    let text = text.map_err(|source| StoreError::File { path: path.to_owned(), source })?;
    write(path, &text)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    std::fs::write(path, bytes).map_err(|source| StoreError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Law, read_wav, tone};
    use crate::um::{CallKind, CallPurpose, Directory, EndReason, MailboxConfig};

    fn purpose() -> CallPurpose {
        CallPurpose {
            kind: CallKind::CallAnswering,
            for_whom: "ken".to_owned(),
            caller: "sip:dana@contoso.test".to_owned(),
            diversion_reason: Some("no-answer".to_owned()),
            phone_context: None,
        }
    }

    #[test]
    fn messages_are_numbered_and_come_back_with_their_note() {
        let folder = tempfile::tempdir().unwrap();
        let voicemail = Voicemail::new(folder.path().to_owned());
        let message = VoiceMessage {
            purpose: purpose(),
            server: "mbx01.contoso.test".to_owned(),
            call_id: "c".to_owned(),
            x_call_id: None,
            security: "Secured",
            law: Law::Mu,
            samples: tone(440.0, -15.0, 16_000),
            age: Duration::from_secs(2),
            end: EndReason::CallerHungUp,
        };
        let first = voicemail.store(&message).unwrap();
        let second = voicemail.store(&message).unwrap();
        assert_eq!(first.wav, folder.path().join("ken/0001.wav"));
        assert_eq!(second.wav, folder.path().join("ken/0002.wav"));
        assert_eq!(read_wav(&second.wav).unwrap(), message.samples);
        let note: MessageNote = serde_json::from_slice(&std::fs::read(&second.json).unwrap()).unwrap();
        assert_eq!(note.purpose, message.purpose);
        assert!((note.dominant_hz.unwrap() - 440.0).abs() < 3.0);
        assert!((note.duration_s - 2.0).abs() < 0.001);
        assert!(note.started_utc.ends_with('Z'));
        assert!(second.eml.is_file());
        voicemail.delete("ken", "another").unwrap();
        assert!(first.wav.exists() && second.wav.exists());
        voicemail.delete("ken", "c").unwrap();
        let left = std::fs::read_dir(folder.path().join("ken")).unwrap().count();
        assert_eq!(left, 0, "all files of a message go");
    }

    #[test]
    fn messages_are_found_again_in_order_with_what_was_heard() {
        let folder = tempfile::tempdir().unwrap();
        let voicemail = Voicemail::new(folder.path().to_owned());
        assert!(voicemail.load("ken").unwrap().is_empty(), "no folder is no message");
        let message = |call_id: &str| VoiceMessage {
            purpose: purpose(),
            server: "mbx01.contoso.test".to_owned(),
            call_id: call_id.to_owned(),
            x_call_id: None,
            security: "Secured",
            law: Law::Mu,
            samples: tone(440.0, -15.0, 8_000),
            age: Duration::from_secs(1),
            end: EndReason::CallerHungUp,
        };
        for call_id in ["one", "two"] {
            voicemail.store(&message(call_id)).unwrap();
        }
        voicemail.mark_heard("ken", "one").unwrap();
        std::fs::write(folder.path().join("ken/0003.json"), "{").unwrap();
        let ken = MailboxConfig { alias: "ken".to_owned(), ..MailboxConfig::default() };
        let directory = Directory::of(vec![ken]).unwrap();
        for held in voicemail.load("ken").unwrap() {
            assert_eq!(held.samples().len(), 8_000);
            directory.deposit("ken", held).unwrap();
        }
        let waiting = directory.waiting("ken").unwrap();
        assert_eq!((waiting.new, waiting.old), (1, 1));
        assert!(directory.heard("ken", "one").is_none() && directory.heard("ken", "two").is_some());
    }

    #[test]
    fn missed_calls_have_their_own_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let voicemail = Voicemail::new(folder.path().to_owned());
        let missed = MissedCall {
            mailbox: "ken".to_owned(),
            purpose: purpose(),
            server: "mbx01".to_owned(),
            call_id: "c".to_owned(),
            x_call_id: None,
        };
        voicemail.note_missed(&missed).unwrap();
        let path = voicemail.note_missed(&missed).unwrap();
        assert_eq!(path, folder.path().join("ken/missed-0002.json"));
        assert!(path.with_extension("eml").is_file());
    }
}
