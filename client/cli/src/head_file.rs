//! The highest verified head on disk, one small file per chain spec, so that "never back" holds from one command to
//! the next.

use crate::state;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use windlass_client::{HeadStore, HighestHead};
use windlass_protocol::B256;

/// Heads in a folder.
#[derive(Debug)]
pub(crate) struct HeadFiles {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    number: u64,
    hash: B256,
}

impl HeadFiles {
    /// Under the state folder, which needn't exist yet.
    pub(crate) fn new(state_dir: PathBuf) -> Self {
        Self { folder: state_dir.join("heads") }
    }

    fn path(&self, spec: B256) -> PathBuf {
        self.folder.join(format!("{spec:x}.json"))
    }
}

impl HeadStore for HeadFiles {
    fn load(&self, spec: B256) -> io::Result<Option<HighestHead>> {
        let path = self.path(spec);
        let with_path = |reason: String| io::Error::other(format!("{}: {reason}", path.display()));
        let Some(bytes) = state::read(&path).map_err(|error| with_path(error.to_string()))? else {
            return Ok(None);
        };
        // Going on without it would let an old head pass as new.
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| {
            with_path(format!("damaged ({error}); delete it to accept any attested head once"))
        })?;
        Ok(Some(HighestHead { number: kept.number, hash: kept.hash }))
    }

    fn store(&self, spec: B256, head: HighestHead) -> io::Result<()> {
        // Two processes at once: only one may compare and replace. Waiting is short.
        std::fs::create_dir_all(&self.folder)?;
        let lock = File::options().create(true).truncate(false).write(true).open(self.folder.join("lock"))?;
        lock.lock()?;
        // Another process may have come further meanwhile.
        if self.load(spec)?.is_some_and(|kept| kept.number >= head.number) {
            return Ok(());
        }
        let kept = Kept { number: head.number, hash: head.hash };
        state::write(&self.path(spec), &serde_json::to_vec(&kept).map_err(io::Error::other)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_highest_head_is_kept_per_spec() {
        let folder = tempfile::tempdir().unwrap();
        let files = HeadFiles::new(folder.path().join("state"));
        let (one, two) = (B256::repeat_byte(1), B256::repeat_byte(2));
        let head = |number| HighestHead { number, hash: B256::repeat_byte(number as u8) };
        assert_eq!(files.load(one).unwrap(), None);
        files.store(one, head(7)).unwrap();
        files.store(one, head(5)).unwrap();
        assert_eq!(files.load(one).unwrap(), Some(head(7)));
        assert_eq!(files.load(two).unwrap(), None);
        files.store(one, head(9)).unwrap();
        let later = HeadFiles::new(folder.path().join("state"));
        assert_eq!(later.load(one).unwrap(), Some(head(9)));
    }

    #[test]
    fn a_damaged_file_is_said_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let files = HeadFiles::new(folder.path().to_owned());
        let spec = B256::repeat_byte(1);
        files.store(spec, HighestHead { number: 1, hash: spec }).unwrap();
        std::fs::write(files.path(spec), "{\"number\":").unwrap();
        assert!(files.load(spec).unwrap_err().to_string().contains("delete it"));
        assert!(files.store(spec, HighestHead { number: 2, hash: spec }).is_err());
    }
}
