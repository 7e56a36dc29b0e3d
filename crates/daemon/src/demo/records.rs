//! The gateway's call records as they are on disk. Owns reading them back; refuses to know what they mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Patience for the writing thread.
const WRITTEN_MAX: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Both files.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// The JSON lines.
    pub(super) lines: Vec<Value>,
    /// The CSV of the first day found.
    pub(super) csv: Option<PathBuf>,
    /// Where the JSON lines of the last day are.
    pub(super) jsonl: Option<PathBuf>,
}

impl Records {
    /// Reads until so many calls are on record, or patience ends.
    pub(super) async fn read(folder: &Path, calls: usize) -> Self {
        let until = Instant::now() + WRITTEN_MAX;
        loop {
            let records = Self::read_now(folder);
            if records.lines.len() >= calls || Instant::now() >= until {
                return records;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn read_now(folder: &Path) -> Self {
        let mut records = Self::default();
        let Ok(entries) = std::fs::read_dir(folder) else { return records };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            match path.extension().and_then(|end| end.to_str()) {
                Some("jsonl") => {
                    let text = std::fs::read_to_string(&path).unwrap_or_default();
                    records.lines.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
                    records.jsonl = Some(path);
                }
                Some("csv") if records.csv.is_none() => records.csv = Some(path),
                _ => {}
            }
        }
        records
    }

    /// The record of the call with this Call-ID on the caller's side.
    pub(super) fn of(&self, call_id: &str) -> Option<&Value> {
        self.lines.iter().find(|line| line["call_id"] == call_id)
    }
}
