//! Call records on disk: `YYYY-MM-DD.jsonl` and `um_cdr_YYYY-MM-DD.csv`. Owns the files and the calendar; refuses to
//! know calls. All file work happens on one thread of its own behind a bounded queue: a slow disk costs records, which
//! are counted, never signalling.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use b2bua::CallRecord;
use b2bua::record::CSV_COLUMNS;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::error;

use super::{Metrics, WarnLimiter};

/// Records that may wait for the disk.
const QUEUE_MAX: usize = 8_192;
/// Records that wait already go to disk together, at most so many in one write per file.
const BATCH_MAX: usize = 64;

/// Where and what is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordSettings {
    /// Folder, made when missing.
    pub folder: PathBuf,
    /// Write `YYYY-MM-DD.jsonl`.
    pub jsonl: Written,
    /// Write `um_cdr_YYYY-MM-DD.csv`.
    pub um_csv: Written,
}

/// Whether a file is written.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Written {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// Hands records over without waiting.
#[derive(Clone)]
pub struct RecordSender {
    queue: SyncSender<Box<CallRecord>>,
    metrics: Arc<Metrics>,
}

impl RecordSender {
    /// Queues a record, or counts its loss.
    pub fn send(&self, record: Box<CallRecord>) {
        if self.queue.try_send(record).is_err() {
            self.metrics.dropped("call_record");
        }
    }
}

/// The writing thread.
pub struct RecordWriter {
    thread: JoinHandle<()>,
}

impl RecordWriter {
    /// Makes the folder and starts the thread.
    pub fn start(settings: RecordSettings, metrics: Arc<Metrics>) -> io::Result<(Self, RecordSender)> {
        std::fs::create_dir_all(&settings.folder)?;
        let (queue, waiting) = sync_channel(QUEUE_MAX);
        let counted = metrics.clone();
        let thread = std::thread::Builder::new()
            .name(String::from("call-records"))
            .spawn(move || write_all(&settings, &waiting, &counted))?;
        Ok((Self { thread }, RecordSender { queue, metrics }))
    }

    /// Waits until everything queued is on disk; every sender must be gone.
    pub fn join(self) {
        if self.thread.join().is_err() {
            error!("the call record writer had panicked");
        }
    }
}

fn write_all(settings: &RecordSettings, waiting: &Receiver<Box<CallRecord>>, metrics: &Metrics) {
    let warnings = WarnLimiter::new();
    let mut files = DayFiles::default();
    while let Ok(record) = waiting.recv() {
        // Nothing waits for more to come.
        let batch: Vec<_> = std::iter::once(record).chain(waiting.try_iter().take(BATCH_MAX - 1)).collect();
        let added = batch.iter().try_for_each(|record| files.add(settings, record));
        if let Err(error) = added.and_then(|()| files.flush()) {
            // How many of them are on disk nobody knows.
            batch.iter().for_each(|_| metrics.dropped("call_record"));
            warnings.warn("records", || {
                error!(%error, folder = %settings.folder.display(), "cannot write call record");
            });
            // A full disk or a removed folder may come back: open anew with the next record.
            files = DayFiles::default();
        }
    }
}

/// The files of one day.
#[derive(Default)]
struct DayFiles {
    day: String,
    jsonl: Option<Lines>,
    csv: Option<Lines>,
}

impl DayFiles {
    fn add(&mut self, settings: &RecordSettings, record: &CallRecord) -> io::Result<()> {
        let start = utc(record.started_at);
        let stamp = start.format(&Rfc3339).map_err(io::Error::other)?;
        self.turn_to(settings, &start.date().to_string())?;
        if let Some(lines) = &mut self.jsonl {
            json_line(&mut lines.pending, record, &stamp)?;
        }
        if let Some(lines) = &mut self.csv {
            csv_line(&mut lines.pending, record.csv_row(&stamp).iter().map(String::as_str))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.jsonl.iter_mut().chain(&mut self.csv).try_for_each(Lines::flush)
    }

    fn turn_to(&mut self, settings: &RecordSettings, day: &str) -> io::Result<()> {
        if self.day == day {
            return Ok(());
        }
        self.flush()?;
        let folder = &settings.folder;
        std::fs::create_dir_all(folder)?;
        self.jsonl = match settings.jsonl {
            Written::Yes => Some(append(&folder.join(format!("{day}.jsonl")))?),
            Written::No => None,
        };
        self.csv = match settings.um_csv {
            Written::Yes => Some(with_header(&folder.join(format!("um_cdr_{day}.csv")))?),
            Written::No => None,
        };
        day.clone_into(&mut self.day);
        Ok(())
    }
}

/// A file, and what is not in it yet.
struct Lines {
    file: File,
    pending: Vec<u8>,
}

impl Lines {
    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.pending);
        self.pending.clear();
        written
    }
}

fn append(path: &Path) -> io::Result<Lines> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(Lines { file, pending: Vec::new() })
}

fn with_header(path: &Path) -> io::Result<Lines> {
    let mut lines = append(path)?;
    if lines.file.metadata()?.len() == 0 {
        csv_line(&mut lines.pending, CSV_COLUMNS.iter().copied())?;
    }
    Ok(lines)
}

fn json_line(out: &mut Vec<u8>, record: &CallRecord, stamp: &str) -> io::Result<()> {
    let mut value = serde_json::to_value(record)?;
    if let Some(object) = value.as_object_mut() {
        object.insert(String::from("call_start_time"), stamp.into());
    }
    serde_json::to_writer(&mut *out, &value)?;
    out.push(b'\n');
    Ok(())
}

fn csv_line<'a>(out: &mut Vec<u8>, fields: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(out);
    for field in fields {
        writer.write_field(&*one_line(field)).map_err(io::Error::other)?;
    }
    writer.write_record(None::<&[u8]>).map_err(io::Error::other)?;
    writer.flush()
}

/// No control character reaches a line: a record is one line for every tool, and a terminal shows what is there.
fn one_line(field: &str) -> Cow<'_, str> {
    match field.contains(char::is_control) {
        true => field.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        false => field.into(),
    }
}

/// The wall-clock time of an instant, as the clock stands now.
fn utc(instant: Instant) -> OffsetDateTime {
    let age = instant.elapsed();
    let then = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let then = OffsetDateTime::from(then);
    then.replace_millisecond(then.millisecond()).unwrap_or(then)
}

#[cfg(test)]
#[path = "records_tests.rs"]
pub(super) mod tests;
