//! How the live directory stands: its metrics, and its part of the status. Owns names and shapes; what it holds was cleaned before.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde::{Deserialize, Serialize};

use super::rfc3339;

/// What a reading came to.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Reading {
    /// Something new is in force.
    Taken,
    /// There was nothing new.
    Unchanged,
    /// What was read does not do.
    Refused,
    /// Nothing was read.
    Failed,
}

impl Reading {
    fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// How the directory of the configuration stands.
#[derive(Clone, Debug)]
pub struct DirectoryStanding {
    /// Which one.
    pub url: String,
    /// When what is in force was last seen there; `None` when nothing of it is in force.
    pub seen_at: Option<SystemTime>,
    /// Entries of what is in force.
    pub entries: usize,
    /// Why there is nothing newer: since when, code, words.
    pub trouble: Option<(SystemTime, &'static str, String)>,
}

/// The directory in the status.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct LiveDirectory {
    /// Which one.
    pub url: String,
    /// When what is in force was last seen there, RFC 3339.
    pub seen_at: Option<String>,
    /// Seconds since then.
    pub age_secs: Option<u64>,
    /// Entries of what is in force.
    pub entries: u64,
    /// Why there is nothing newer.
    pub trouble: Option<DirectoryTrouble>,
}

/// Why there is nothing newer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DirectoryTrouble {
    /// Since when, RFC 3339.
    pub since: String,
    /// Stable code.
    pub code: String,
    /// In words.
    pub what: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DirectoryLabel {
    directory: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReadingLabel {
    result: &'static str,
}

/// What is counted of it.
#[derive(Default)]
pub(super) struct DirectoryMetrics {
    standing: Mutex<Option<DirectoryStanding>>,
    refreshes: Family<ReadingLabel, Counter>,
    up: Family<DirectoryLabel, Gauge>,
    entries: Family<DirectoryLabel, Gauge>,
    age: Family<DirectoryLabel, Gauge>,
}

impl DirectoryMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "umbra_directory_refreshes",
            "Readings of the directory, by result",
            self.refreshes.clone(),
        );
        registry.register("umbra_directory_up", "1 while the last reading was taken", self.up.clone());
        registry.register("umbra_directory_entries", "Entries of the view in force", self.entries.clone());
        let help = "Since the view in force was last seen in the directory";
        registry.register_with_unit("umbra_directory_view_age", help, Unit::Seconds, self.age.clone());
    }

    pub(super) fn read(&self, reading: Reading) {
        self.refreshes.get_or_create(&ReadingLabel { result: reading.as_str() }).inc();
    }

    pub(super) fn stands(&self, standing: Option<DirectoryStanding>) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    /// Before somebody reads the gauges.
    pub(super) fn measure(&self, now: SystemTime) {
        [&self.up, &self.entries, &self.age].into_iter().for_each(Family::clear);
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(standing) = standing.as_ref() else { return };
        let label = DirectoryLabel { directory: standing.url.clone() };
        self.up.get_or_create(&label).set(i64::from(standing.trouble.is_none()));
        self.entries.get_or_create(&label).set(i64::try_from(standing.entries).unwrap_or(i64::MAX));
        if let Some(age) = age(standing, now) {
            self.age.get_or_create(&label).set(i64::try_from(age).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn status(&self, now: SystemTime) -> Option<LiveDirectory> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = standing.as_ref()?;
        Some(LiveDirectory {
            url: standing.url.clone(),
            seen_at: standing.seen_at.map(rfc3339),
            age_secs: age(standing, now),
            entries: standing.entries as u64,
            trouble: standing.trouble.as_ref().map(|(since, code, what)| DirectoryTrouble {
                since: rfc3339(*since),
                code: (*code).to_owned(),
                what: what.clone(),
            }),
        })
    }
}

fn age(standing: &DirectoryStanding, now: SystemTime) -> Option<u64> {
    standing.seen_at.map(|at| now.duration_since(at).unwrap_or_default().as_secs())
}
