//! Directories that are kept from one run to the next: whose they are, and who has them open.
//!
//! Owns a directory's mark and lock. A directory without the mark is left alone, whatever is in it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// More than any mark has, in bytes.
const MAX_MARK_BYTES: u64 = 256;

/// What a directory is for. The file's name marks it; its text rises with every change of what lies beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) file: &'static str,
    pub(crate) text: &'static str,
    /// What the directory holds, as in "in use by another chain".
    pub(crate) what: &'static str,
}

/// Why a directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It can't be made, read or written.
    #[error("cannot use {}: {source}", .path.display())]
    File {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use by another {what}: stop that one, or choose another directory", .path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// What it holds.
        what: &'static str,
    },
    /// There is something else in it.
    #[error("{} holds something else than a {what}: choose a new directory or an empty one", .path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Another release wrote it.
    #[error(
        "{} was written by another release ('{found}', this one writes '{}'): choose a new directory",
        .path.display(), written.trim_end()
    )]
    Format {
        /// The directory.
        path: PathBuf,
        /// What its mark says.
        found: String,
        /// What this release writes.
        written: &'static str,
    },
}

impl DirectoryError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }
}

/// A directory that nobody else uses until this is dropped, or its process has ended.
#[derive(Debug)]
pub(crate) struct Claim {
    _lock: File,
}

impl Claim {
    /// Makes `directory` one of this kind, or finds that it is one, and locks it.
    pub(crate) fn new(directory: &Path, mark: Mark) -> Result<Self, DirectoryError> {
        let (path, what) = (directory.to_owned(), mark.what);
        let file = directory.join(mark.file);
        fs::create_dir_all(directory).map_err(DirectoryError::file(directory))?;
        let entries = fs::read_dir(directory).map_err(DirectoryError::file(directory))?.flatten();
        let alone = entries.filter(|entry| entry.file_name() != mark.file).count() == 0;
        if !alone && !file.exists() {
            return Err(DirectoryError::Foreign { path, what });
        }
        let lock = File::options().read(true).write(true).create(true).truncate(false).open(&file);
        let mut lock = lock.map_err(DirectoryError::file(&file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DirectoryError::Locked { path, what }),
            Err(TryLockError::Error(source)) => return Err(DirectoryError::file(&file)(source)),
        }
        let mut found = Vec::new();
        (&lock).take(MAX_MARK_BYTES).read_to_end(&mut found).map_err(DirectoryError::file(&file))?;
        if found == mark.text.as_bytes() {
            return Ok(Self { _lock: lock });
        }
        // The mark is written before anything else: alone, and cut short, it was the last thing somebody did.
        if alone && let Some(rest) = mark.text.as_bytes().strip_prefix(&found[..]) {
            lock.write_all(rest).map_err(DirectoryError::file(&file))?;
            return Ok(Self { _lock: lock });
        }
        let found = String::from_utf8_lossy(&found).trim_end().to_owned();
        Err(DirectoryError::Format { path, found, written: mark.text })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MARK: Mark = Mark { file: "mark", text: "a thing, format 2\n", what: "thing" };

    fn refused(directory: &Path) -> DirectoryError {
        Claim::new(directory, MARK).unwrap_err()
    }

    #[test]
    fn a_directory_has_one_user_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let claim = Claim::new(directory.path(), MARK).unwrap();
        assert!(matches!(refused(directory.path()), DirectoryError::Locked { .. }));
        drop(claim);
        fs::write(directory.path().join("more"), "").unwrap();
        Claim::new(directory.path(), MARK).unwrap();
    }

    #[test]
    fn other_directories_are_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("letters");
        fs::write(&own, "dear").unwrap();
        assert!(matches!(refused(directory.path()), DirectoryError::Foreign { .. }));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(matches!(refused(&own), DirectoryError::File { .. }));
        let other = directory.path().join("other");
        fs::create_dir(&other).unwrap();
        for (mark, beside) in [("a thing, format 9\n", true), ("", true), ("a thing", true), ("x", false)] {
            fs::write(other.join(MARK.file), mark).unwrap();
            if beside {
                fs::write(other.join("beside"), "").unwrap();
            }
            assert!(matches!(refused(&other), DirectoryError::Format { .. }), "{mark}");
            let _ = fs::remove_file(other.join("beside"));
        }
    }

    #[test]
    fn a_directory_whose_making_was_cut_short_is_made() {
        for cut in [0, 1, MARK.text.len() - 1] {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(MARK.file), &MARK.text[..cut]).unwrap();
            drop(Claim::new(directory.path(), MARK).unwrap());
            Claim::new(directory.path(), MARK).unwrap();
            assert_eq!(fs::read_to_string(directory.path().join(MARK.file)).unwrap(), MARK.text);
        }
    }
}
