//! Operators' wishes for UM servers, kept over a restart. Owns the file, its form and its bounds; refuses to know what a wish
//! does. A file that cannot be read or written costs the memory of wishes, never the wishes themselves.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use b2bua::Policy;
use b2bua::policy::ServerStatus;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::observe::ServerWish;

/// The file in the state folder.
const FILE: &str = "server-wishes.json";
/// Servers with a wish; a configuration has fewer.
const WISHES_MAX: usize = 1_000;
/// Octets of the file that are read.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// What is kept, by lower-case name of the server.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Kept {
    servers: BTreeMap<String, ServerWish>,
}

/// The wishes of one gateway.
pub(super) struct Wishes {
    file: Option<PathBuf>,
    kept: Mutex<Kept>,
}

impl Wishes {
    /// What was wished before, from the file in that folder; nothing is kept without one.
    pub(super) fn open(folder: Option<&Path>) -> Self {
        let file = folder.map(|folder| folder.join(FILE));
        let kept = file.as_deref().map_or_else(Kept::default, read);
        Self { file, kept: Mutex::new(kept) }
    }

    /// The wishes for servers of that policy, told in one line where there are any.
    pub(super) fn in_force(&self, policy: &Policy) -> Vec<(String, ServerWish)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_server = |name: &&String| policy.server_by_name(name).is_some();
        let wishes: Vec<_> =
            kept.servers.keys().filter(is_server).map(|name| (name.clone(), kept.servers[name])).collect();
        if !wishes.is_empty() {
            let words: Vec<String> =
                wishes.iter().map(|(name, wish)| format!("{name} {}", wish.word())).collect();
            info!(
                event = "server_wishes",
                wishes = words.join(", "),
                "wishes of an operator are in force again"
            );
        }
        wishes
    }

    /// Keeps a wish; one that only repeats the configuration is none.
    pub(super) fn keep(&self, name: &str, wish: ServerWish, configured: ServerStatus) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let name = name.to_ascii_lowercase();
        if wish == ServerWish::Enable && configured == ServerStatus::Enabled {
            kept.servers.remove(&name);
        } else if kept.servers.len() < WISHES_MAX || kept.servers.contains_key(&name) {
            kept.servers.insert(name, wish);
        }
        let Some(file) = &self.file else { return };
        if let Err(error) = write(file, &kept) {
            warn!(event = "server_wishes_not_kept", %error, file = %file.display(), "the wish is in force until a restart only");
        }
    }
}

fn read(file: &Path) -> Kept {
    let text = File::open(file).and_then(|open| {
        let mut text = String::new();
        open.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    });
    let told = |error: &dyn std::fmt::Display| {
        warn!(event = "server_wishes_unreadable", %error, file = %file.display(), "wishes from before the restart are forgotten");
        Kept::default()
    };
    match text {
        Ok(text) => serde_json::from_str(&text).unwrap_or_else(|error| told(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
        Err(error) => told(&error),
    }
}

/// Whole or not at all: beside it first, then in its place.
fn write(file: &Path, kept: &Kept) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = file.with_extension("new");
    let mut new = File::create(&beside)?;
    new.write_all(serde_json::to_string_pretty(kept)?.as_bytes())?;
    new.sync_all()?;
    std::fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_outlive_their_gateway_and_one_that_repeats_the_configuration_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let wishes = Wishes::open(Some(&state));
        wishes.keep("MBX01.contoso.test", ServerWish::Drain, ServerStatus::Enabled);
        wishes.keep("mbx02.contoso.test", ServerWish::Disable, ServerStatus::Enabled);
        wishes.keep("mbx03.contoso.test", ServerWish::Enable, ServerStatus::Disabled);
        wishes.keep("mbx02.contoso.test", ServerWish::Enable, ServerStatus::Enabled);
        let again = Wishes::open(Some(&state));
        let kept = again.kept.lock().unwrap();
        let told: Vec<_> = kept.servers.iter().map(|(name, wish)| (name.as_str(), *wish)).collect();
        assert_eq!(
            told,
            [("mbx01.contoso.test", ServerWish::Drain), ("mbx03.contoso.test", ServerWish::Enable)]
        );
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1, "nothing lies beside it");
    }

    #[test]
    fn a_file_that_is_broken_huge_or_no_file_is_no_wish_and_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{\"servers\":{\"a\":\"sing\"}}", &format!("{{{}", " ".repeat(300 * 1024))] {
            let file = folder.path().join(FILE);
            std::fs::write(file, text).unwrap();
            let wishes = Wishes::open(Some(folder.path()));
            assert!(wishes.kept.lock().unwrap().servers.is_empty());
            // The next wish makes it whole again.
            wishes.keep("a", ServerWish::Drain, ServerStatus::Enabled);
            assert_eq!(Wishes::open(Some(folder.path())).kept.lock().unwrap().servers.len(), 1);
        }
        let taken = tempfile::NamedTempFile::new().unwrap();
        let wishes = Wishes::open(Some(taken.path()));
        wishes.keep("a", ServerWish::Drain, ServerStatus::Enabled);
        assert_eq!(wishes.kept.lock().unwrap().servers.len(), 1, "in force all the same");
        for number in 0..2_000 {
            wishes.keep(&format!("s{number}"), ServerWish::Drain, ServerStatus::Enabled);
        }
        assert_eq!(wishes.kept.lock().unwrap().servers.len(), WISHES_MAX);
    }
}
