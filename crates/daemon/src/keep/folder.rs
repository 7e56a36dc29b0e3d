//! A folder that may grow so far and no further. Owns the count of files and octets, and that nobody else can read what is
//! written; refuses to delete anything: how long files are kept is for whoever keeps them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A full folder is looked at again no sooner.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Only the gateway's own user may read and write.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// How much may lie in a folder.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Room {
    /// Octets of all files together.
    pub bytes_max: u64,
    /// Files.
    pub files_max: u64,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// As much lies there as may.
    #[error("the folder holds as much as it may")]
    Full,
    /// The system's words.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// The folder, for files of one kind.
pub(super) struct Folder {
    path: PathBuf,
    /// How their names end, with the dot.
    ending: &'static str,
    room: Room,
    bytes: u64,
    files: u64,
    looked: Option<Instant>,
}

impl Folder {
    pub(super) fn new(path: &Path, ending: &'static str, room: Room) -> Self {
        Self { path: path.to_owned(), ending, room, bytes: 0, files: 0, looked: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a file could be made now. Leaves the folder, made if it was missing, and nothing in it.
    pub(super) fn try_out(&mut self, now: Instant) -> io::Result<()> {
        self.look(now)?;
        let path = self.path.join(format!(".trial-{}{}", std::process::id(), self.ending));
        OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        std::fs::remove_file(&path)
    }

    /// A new file; one that is there already is never touched.
    pub(super) fn create(&mut self, now: Instant, stem: &str) -> Result<File, Refused> {
        let is_due = |looked: Instant| now.saturating_duration_since(looked) >= LOOK_AGAIN;
        if self.looked.is_none() || self.is_full() && self.looked.is_some_and(is_due) {
            self.look(now)?;
        }
        if self.is_full() {
            return Err(Refused::Full);
        }
        let path = self.path.join(format!("{stem}{}", self.ending));
        let open = || OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.look(now)?;
                open()?
            }
            other => other?,
        };
        self.files += 1;
        Ok(file)
    }

    /// A file is about to grow; `Full` if it may not.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), Refused> {
        if self.bytes + bytes > self.room.bytes_max {
            return Err(Refused::Full);
        }
        self.bytes += bytes;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.files >= self.room.files_max || self.bytes >= self.room.bytes_max
    }

    /// Counts what lies there; makes the folder if it is missing.
    fn look(&mut self, now: Instant) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.path)?;
        (self.bytes, self.files) = (0, 0);
        for entry in std::fs::read_dir(&self.path)?.flatten() {
            if entry.file_name().to_string_lossy().ends_with(self.ending) {
                self.files += 1;
                self.bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        self.looked = Some(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_takes_files_and_octets_up_to_its_room_and_looks_again_when_some_are_gone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("deep/er");
        let mut folder = Folder::new(&path, ".wav", Room { bytes_max: 100, files_max: 2 });
        let now = Instant::now();
        folder.create(now, "a").unwrap().write_all(&[0; 60]).unwrap();
        folder.grow(60).unwrap();
        assert!(matches!(folder.grow(41), Err(Refused::Full)));
        folder.create(now, "b").unwrap();
        assert!(matches!(folder.create(now, "c"), Err(Refused::Full)));
        std::fs::remove_file(path.join("b.wav")).unwrap();
        assert!(matches!(folder.create(now, "c"), Err(Refused::Full)));
        folder.create(now + LOOK_AGAIN, "c").unwrap();
        assert_eq!(folder.bytes, 60);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("a.wav"))), (FOLDER_MODE, FILE_MODE));
    }

    #[test]
    fn a_trial_makes_the_folder_and_leaves_nothing_in_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("new");
        let mut folder = Folder::new(&path, ".wav", Room { bytes_max: 100, files_max: 1 });
        folder.try_out(Instant::now()).unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        folder.create(Instant::now(), "a").unwrap();
    }

    #[test]
    fn what_is_there_is_never_overwritten_nor_followed() {
        let place = tempfile::tempdir().unwrap();
        let room = Room { bytes_max: 100, files_max: 9 };
        let mut folder = Folder::new(place.path(), ".wav", room);
        std::os::unix::fs::symlink("/tmp/elsewhere", place.path().join("a.wav")).unwrap();
        let refused = folder.create(Instant::now(), "a");
        assert!(
            matches!(refused, Err(Refused::System(error)) if error.kind() == io::ErrorKind::AlreadyExists)
        );
        let mut nowhere = Folder::new(Path::new("/dev/null/x"), ".wav", room);
        assert!(nowhere.try_out(Instant::now()).is_err());
        assert!(matches!(nowhere.create(Instant::now(), "a"), Err(Refused::System(_))));
    }
}
