//! The highest verified head and the newest chain spec on disk, small files for each network, so that "never back" holds from one command to
//! the next.

use crate::state;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use windlass_client::{HeadStore, HighestHead, Walked};
use windlass_protocol::spec::{MAX_SPEC_BYTES, SignedSpec};
use windlass_protocol::{Address, B256, wire};

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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptCommittee {
    members: Vec<Address>,
    from: u32,
    through: u32,
}

impl HeadFiles {
    /// Under the state folder, which needn't exist yet.
    pub(crate) fn new(state_dir: PathBuf) -> Self {
        Self { folder: state_dir.join("heads") }
    }

    fn path(&self, spec: B256) -> PathBuf {
        self.folder.join(format!("{spec:x}.json"))
    }

    fn committee_path(&self, spec: B256) -> PathBuf {
        self.folder.join(format!("{spec:x}.committee.json"))
    }

    fn spec_path(&self, network: B256) -> PathBuf {
        self.folder.join(format!("{network:x}.spec"))
    }

    /// Two processes at once: only one may compare and replace. Waiting is short.
    fn lock(&self) -> io::Result<File> {
        std::fs::create_dir_all(&self.folder)?;
        let lock = File::options().create(true).truncate(false).write(true).open(self.folder.join("lock"))?;
        lock.lock()?;
        Ok(lock)
    }
}

/// What is in a file, `None` where there is none.
fn load<T: DeserializeOwned>(path: &Path, lost: &str) -> io::Result<Option<T>> {
    let with_path = |reason: String| io::Error::other(format!("{}: {reason}", path.display()));
    let Some(bytes) = state::read(path).map_err(|error| with_path(error.to_string()))? else {
        return Ok(None);
    };
    let kept = serde_json::from_slice(&bytes);
    kept.map(Some).map_err(|error| with_path(format!("damaged ({error}); delete it to {lost}")))
}

impl HeadStore for HeadFiles {
    fn load(&self, spec: B256) -> io::Result<Option<HighestHead>> {
        // Going on without it would let an old head pass as new.
        let kept: Option<Kept> = load(&self.path(spec), "accept any attested head once")?;
        Ok(kept.map(|kept| HighestHead { number: kept.number, hash: kept.hash }))
    }

    fn store(&self, spec: B256, head: HighestHead) -> io::Result<()> {
        let _lock = self.lock()?;
        // Another process may have come further meanwhile.
        if self.load(spec)?.is_some_and(|kept| kept.number >= head.number) {
            return Ok(());
        }
        let kept = Kept { number: head.number, hash: head.hash };
        state::write(&self.path(spec), &serde_json::to_vec(&kept).map_err(io::Error::other)?)
    }

    fn load_spec(&self, network: B256) -> io::Result<Option<Vec<u8>>> {
        state::read_bounded(&self.spec_path(network), MAX_SPEC_BYTES as u64)
    }

    fn store_spec(&self, network: B256, signed: &[u8]) -> io::Result<()> {
        let _lock = self.lock()?;
        let version = |bytes: &[u8]| {
            let signed: SignedSpec = wire::decode(bytes, MAX_SPEC_BYTES).ok()?;
            Some(signed.claimed().ok()?.version)
        };
        let kept = self.load_spec(network)?.and_then(|kept| version(&kept));
        // Another process may have come further meanwhile.
        if kept.is_some_and(|kept| version(signed) <= Some(kept)) {
            return Ok(());
        }
        state::write(&self.spec_path(network), signed)
    }

    fn load_committee(&self, spec: B256) -> io::Result<Option<Walked>> {
        let kept: Option<KeptCommittee> =
            load(&self.committee_path(spec), "walk from the chain spec's committee again")?;
        Ok(kept.map(|KeptCommittee { members, from, through }| Walked { members, from, through }))
    }

    fn store_committee(&self, spec: B256, walked: Walked) -> io::Result<()> {
        let _lock = self.lock()?;
        if self.load_committee(spec)?.is_some_and(|kept| kept.through >= walked.through) {
            return Ok(());
        }
        let Walked { members, from, through } = walked;
        let kept = KeptCommittee { members, from, through };
        state::write(&self.committee_path(spec), &serde_json::to_vec(&kept).map_err(io::Error::other)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use windlass_protocol::spec::ChainSpec;

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
    fn only_a_higher_version_replaces_a_kept_spec() {
        let folder = tempfile::tempdir().unwrap();
        let files = HeadFiles::new(folder.path().join("state"));
        let key = windlass_client::SecretKey::from_bytes(&[8; 32]).unwrap();
        let spec = |version| {
            let spec = ChainSpec { version, ..crate::deploy::tests::example_spec() };
            SignedSpec::sign(&spec, &key).to_bytes()
        };
        let network = B256::repeat_byte(1);
        assert_eq!(files.load_spec(network).unwrap(), None);
        for version in [2, 7, 3] {
            files.store_spec(network, &spec(version)).unwrap();
        }
        assert_eq!(files.load_spec(network).unwrap(), Some(spec(7)));
        assert_eq!(files.load_spec(B256::repeat_byte(2)).unwrap(), None);
        // What can't be read is replaced, a file that is too long is no spec.
        std::fs::write(files.spec_path(network), "half a spec").unwrap();
        files.store_spec(network, &spec(3)).unwrap();
        assert_eq!(files.load_spec(network).unwrap(), Some(spec(3)));
        std::fs::write(files.spec_path(network), [7; MAX_SPEC_BYTES + 1]).unwrap();
        assert!(files.load_spec(network).is_err());
    }

    #[test]
    fn how_far_a_client_walked_is_kept_and_only_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let files = HeadFiles::new(folder.path().join("state"));
        let spec = B256::repeat_byte(1);
        let walked = |through| Walked { members: vec![Address::repeat_byte(7)], from: 2, through };
        assert_eq!(files.load_committee(spec).unwrap(), None);
        for through in [5, 9, 4] {
            files.store_committee(spec, walked(through)).unwrap();
        }
        assert_eq!(files.load_committee(spec).unwrap(), Some(walked(9)));
        assert_eq!(files.load_committee(B256::repeat_byte(2)).unwrap(), None);
        std::fs::write(files.committee_path(spec), "{").unwrap();
        assert!(files.load_committee(spec).unwrap_err().to_string().contains("delete it"));
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
