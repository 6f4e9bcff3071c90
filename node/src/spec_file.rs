//! The chain spec's file while the node runs: a renewed one is passed on to devices as soon as it lies there.
//!
//! The node itself goes on under the spec it was started with, and takes the renewed one over when it is started again: it
//! follows the chain from committee to committee anyhow. What may not take the present one's place is not passed on.

use crate::clock::unix_seconds;
use crate::limits::SPEC_LOOK;
use crate::on_disk::on_disk;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_protocol::spec::{MAX_SPEC_BYTES, RenewalError, SuccessionError, VerifiedSpec, verify_renewal};

/// The newest spec this node was given, now and from now on.
pub type NewestSpec = watch::Receiver<Arc<VerifiedSpec>>;

/// Why what lies there is not passed on.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("it can't be read: {0}")]
    Read(#[from] io::Error),
    #[error("it has more than {MAX_SPEC_BYTES} bytes")]
    TooLong,
    #[error(transparent)]
    Renewal(#[from] RenewalError),
}

/// Looks at the file now and then.
pub struct SpecFile {
    path: PathBuf,
    newest: watch::Sender<Arc<VerifiedSpec>>,
    /// Of the file as it was looked at last.
    seen: Option<(SystemTime, u64)>,
    /// The version that was said to be old.
    warned: Option<u64>,
}

impl SpecFile {
    /// The file, and the spec that was read from it at the start.
    pub fn new(path: PathBuf, spec: Arc<VerifiedSpec>) -> Self {
        Self { path, newest: watch::Sender::new(spec), seen: None, warned: None }
    }

    /// The newest spec.
    pub fn newest(&self) -> NewestSpec {
        self.newest.subscribe()
    }

    /// Looks until cancelled.
    pub async fn run(mut self, cancelled: CancellationToken) {
        let mut look = tokio::time::interval(SPEC_LOOK);
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return,
                _ = look.tick() => {
                    let now = unix_seconds();
                    on_disk(|| self.look(now));
                    self.warn(now);
                }
            }
        }
    }

    /// Takes what lies there now. Reads the file if it changed.
    fn look(&mut self, now: u64) {
        match self.read(now) {
            Ok(None) => {}
            Ok(Some(renewed)) => {
                tracing::info!(version = renewed.version, "a renewed chain spec is passed on to devices");
                self.newest.send_replace(Arc::new(renewed));
            }
            Err(error) => {
                if matches!(error, LookError::Renewal(RenewalError::Ahead { .. })) {
                    // Its time will come without the file changing.
                    self.seen = None;
                }
                tracing::warn!(path = %self.path.display(), %error, "the chain spec's file isn't passed on");
            }
        }
    }

    /// Says once of each version that it is time for the next one.
    fn warn(&mut self, now: u64) {
        let spec = self.newest.borrow().clone();
        if is_due(&spec, now) && self.warned.replace(spec.version) != Some(spec.version) {
            tracing::warn!(
                version = spec.version,
                good_for = spec.good_until().saturating_sub(now),
                "the chain spec is old: its publisher should renew it (`windlass chain renew`) before fresh devices are refused"
            );
        }
    }

    /// The spec that lies there, if it is another than the newest.
    fn read(&mut self, now: u64) -> Result<Option<VerifiedSpec>, LookError> {
        let metadata = fs::metadata(&self.path)?;
        let seen = Some((metadata.modified()?, metadata.len()));
        if seen == self.seen {
            return Ok(None);
        }
        self.seen = seen;
        let mut bytes = Vec::new();
        File::open(&self.path)?.take(MAX_SPEC_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MAX_SPEC_BYTES {
            return Err(LookError::TooLong);
        }
        let present = self.newest.borrow().clone();
        match verify_renewal(&bytes, &present, now) {
            Ok(renewed) => Ok(Some(renewed)),
            // The very one that is passed on already, as at the start.
            Err(RenewalError::Succession(SuccessionError::NotHigher { .. }))
                if bytes == present.to_bytes() =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether less than half of the trusting period is left.
fn is_due(spec: &VerifiedSpec, now: u64) -> bool {
    spec.good_until().saturating_sub(now) < spec.trusting_period / 2
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;

    const NOW: u64 = 1_800_000_000;

    fn renewed(version: u64, date: u64) -> VerifiedSpec {
        testing::spec_with(3, |spec| {
            spec.version = version;
            spec.date = date;
        })
        .0
    }

    #[test]
    fn only_what_may_take_the_present_ones_place_is_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chain.spec");
        let first = Arc::new(renewed(1, 0));
        let mut file = SpecFile::new(path.clone(), first.clone());
        let newest = file.newest();
        let mut after = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            // Writes within one tick of the file system's clock, of one length, look alike.
            file.seen = None;
            file.look(NOW);
            newest.borrow().version
        };
        assert_eq!(after(&first.to_bytes()), 1);
        // Half written, no spec, too long, dated ahead, another network's, another publisher's.
        let second = renewed(2, NOW).to_bytes();
        let (other, _) = testing::spec_with(3, |spec| (spec.version, spec.deploy_block) = (2, 7));
        let foreign =
            windlass_protocol::spec::SignedSpec::sign(&renewed(2, NOW), &testing::key(7)).to_bytes();
        let ahead = renewed(2, NOW + 3_600).to_bytes();
        for bad in [&second[..40], b"", &[7; MAX_SPEC_BYTES + 1], &ahead, &other.to_bytes(), &foreign] {
            assert_eq!(after(bad), 1);
        }
        assert_eq!(after(&second), 2);
        assert_eq!(after(&first.to_bytes()), 2, "never a lower one");
        assert_eq!(after(&renewed(3, NOW).to_bytes()), 3);
        fs::remove_file(&path).unwrap();
        file.look(NOW);
        assert_eq!(newest.borrow().version, 3, "a file that is gone changes nothing");
    }

    #[test]
    fn it_is_time_for_the_next_version_at_half_of_the_trusting_period_and_said_once_of_each() {
        let spec = renewed(1, NOW);
        let due = spec.good_until() - spec.trusting_period / 2;
        assert!(!is_due(&spec, NOW) && !is_due(&spec, due) && is_due(&spec, due + 1));
        assert!(is_due(&spec, u64::MAX));
        let mut file = SpecFile::new("none".into(), Arc::new(spec));
        file.warn(NOW);
        assert_eq!(file.warned, None);
        file.warn(due + 1);
        assert_eq!(file.warned, Some(1));
        file.newest.send_replace(Arc::new(renewed(2, NOW)));
        file.warn(due + 1);
        assert_eq!(file.warned, Some(2));
    }

    #[test]
    fn a_file_that_did_not_change_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chain.spec");
        let second = renewed(2, 0).to_bytes();
        fs::write(&path, &second).unwrap();
        let mut file = SpecFile::new(path, Arc::new(renewed(1, 0)));
        assert!(file.read(NOW).unwrap().is_some());
        assert!(file.read(NOW).unwrap().is_none());
    }
}
