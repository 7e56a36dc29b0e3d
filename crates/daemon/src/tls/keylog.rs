//! The secrets of TLS connections, written to one file of the process so that Wireshark can open a capture (NSS key log
//! format). Owns that file, its mode and its bound; nothing is written unless [`open`] was called.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::{KeyLog, NoKeyLog};
use tracing::error;

/// A file that has grown to this is left alone: some 70,000 handshakes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// For its owner only.
const MODE: u32 = 0o600;
/// What others may do with a file.
const MODE_OF_OTHERS: u32 = 0o077;

static OPEN: OnceLock<Arc<KeyLogFile>> = OnceLock::new();

/// Writes the secrets of every handshake of this process to that file from now on.
///
/// # Errors
/// The file cannot be made or used: others may read it, it is a link or no file at all; or another one is open already.
pub fn open(path: &Path) -> io::Result<()> {
    let file = Arc::new(KeyLogFile::open(path)?);
    OPEN.set(file).map_err(|_| io::Error::other("another key log file is open"))
}

/// Where secrets are written; `None`: nowhere.
pub fn path() -> Option<&'static Path> {
    OPEN.get().map(|file| file.path.as_path())
}

/// What every TLS configuration is given.
pub(super) fn sink() -> Arc<dyn KeyLog> {
    match OPEN.get() {
        Some(file) => file.clone(),
        None => Arc::new(NoKeyLog),
    }
}

/// A line of the format, from a backend that makes lines itself.
#[cfg(feature = "openssl")]
pub(super) fn line(line: &str) {
    if let Some(file) = OPEN.get() {
        file.write(&format!("{line}\n"));
    }
}

/// The file. Its lines are each one write, so those of several threads never mix.
#[derive(Debug)]
struct KeyLogFile {
    path: PathBuf,
    file: File,
    left: AtomicU64,
}

impl KeyLogFile {
    fn open(path: &Path) -> io::Result<Self> {
        // A link in a folder that others write to would choose the file for us.
        if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            return Err(io::Error::other("not a regular file"));
        }
        let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
        let found = file.metadata()?;
        let named = path.symlink_metadata()?;
        if (named.dev(), named.ino(), found.nlink()) != (found.dev(), found.ino(), 1) {
            return Err(io::Error::other("it has other names"));
        }
        if found.permissions().mode() & MODE_OF_OTHERS != 0 {
            return Err(io::Error::other("others may read it; make it with mode 600, or let it be made"));
        }
        let left = AtomicU64::new(FILE_BYTES_MAX.saturating_sub(found.len()));
        Ok(Self { path: std::path::absolute(path)?, file, left })
    }

    fn write(&self, line: &str) {
        let take = |left: u64| Some(left.saturating_sub(line.len() as u64));
        let Ok(left) = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) else { return };
        let problem = match left {
            0 => return,
            _ if left < line.len() as u64 => format!("it has {FILE_BYTES_MAX} bytes, which is the most"),
            _ => match (&self.file).write_all(line.as_bytes()) {
                Ok(()) => return,
                Err(problem) => problem.to_string(),
            },
        };
        self.left.store(0, Ordering::Relaxed);
        error!(event = "key_log_ended", path = %self.path.display(), problem, "no further TLS secrets are written");
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        self.write(&format!("{label} {} {}\n", hex(client_random), hex(secret)));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn lines_are_appended_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        for secret in [1, 2] {
            let log = KeyLogFile::open(&path).unwrap();
            log.log("CLIENT_RANDOM", &[0xab, 0x0c], &[secret]);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "CLIENT_RANDOM ab0c 01\nCLIENT_RANDOM ab0c 02\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    }

    #[test]
    fn a_file_that_others_read_or_chose_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("open"), "").unwrap();
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(at("mine"), "").unwrap();
        fs::set_permissions(at("mine"), fs::Permissions::from_mode(MODE)).unwrap();
        assert!(KeyLogFile::open(&at("mine")).is_ok());
        symlink(at("mine"), at("link")).unwrap();
        fs::hard_link(at("mine"), at("twin")).unwrap();
        for refused in ["open", "link", "twin", "", "missing/keys"] {
            assert!(KeyLogFile::open(&at(refused)).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_full_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let log = KeyLogFile::open(&folder.path().join("keys")).unwrap();
        log.left.store(20, Ordering::Relaxed);
        for _ in 0..3 {
            log.log("L", &[1, 2, 3], &[4, 5]);
        }
        log.log("L", &[], &[]);
        assert_eq!(fs::read_to_string(&log.path).unwrap(), "L 010203 0405\n");
    }
}
