//! Whose a data directory is: one network's, and under which version of its chain spec it was opened last.
//!
//! A renewed spec takes a directory over as it is: what is in it rests on nothing that a renewal may change. A lower
//! version and another network are refused by name.

use super::column::{Schema, SpecBytes, SpecHash, Word};
use super::family::{Family, SCHEMA};
use super::{Durability, Store, StoreError, migrate};
use windlass_protocol::spec::{SuccessionError, VerifiedSpec, verify_spec};

/// What may be done about who owns a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    /// Claim what is new, take over what is older.
    Write,
    /// Only look.
    Read,
}

impl Store {
    /// Checks that the directory is this spec's network's, and writes down that this spec has it now. The record is one
    /// batch: after a crash it names the older spec or this one.
    pub(super) fn check_owner(&self, spec: &VerifiedSpec, access: Access) -> Result<(), StoreError> {
        match self.schema()? {
            Some(found) if migrate::leads_from(found) => {}
            Some(found) => return Err(StoreError::Schema { path: self.path.clone(), found }),
            None => return self.claim(spec, access),
        }
        let Some(Word(found)) = self.get::<SpecHash>(&())? else { return Err(self.damaged(Family::Meta)) };
        let kept = self.get::<SpecBytes>(&())?;
        if found == spec.hash() {
            // A release that kept only the hash left the spec itself out.
            return if kept.is_some() { Ok(()) } else { self.claim(spec, access) };
        }
        let other = |why: Option<SuccessionError>| StoreError::OtherSpec {
            path: self.path.clone(),
            found,
            configured: spec.hash(),
            why: why.map(|why| format!(" ({why})")).unwrap_or_default(),
        };
        let older = kept.and_then(|bytes| verify_spec(&bytes, spec.publisher()).ok());
        let older = older.filter(|older| older.hash() == found).ok_or_else(|| other(None))?;
        match spec.succeeds(&older) {
            Ok(()) => {
                tracing::info!(
                    from = older.version,
                    to = spec.version,
                    "the renewed chain spec takes over the data directory as it is"
                );
                self.claim(spec, access)
            }
            Err(SuccessionError::NotHigher { present, offered }) => {
                Err(StoreError::OlderSpec { path: self.path.clone(), found: present, configured: offered })
            }
            Err(why) => Err(other(Some(why))),
        }
    }

    fn claim(&self, spec: &VerifiedSpec, access: Access) -> Result<(), StoreError> {
        if access == Access::Read {
            return Ok(());
        }
        let mut batch = self.batch();
        // One that has a schema is brought to the present one by its steps.
        if self.schema()?.is_none() {
            batch.put::<Schema>(&(), &SCHEMA);
        }
        batch.put::<SpecHash>(&(), &Word(spec.hash()));
        batch.put::<SpecBytes>(&(), &spec.to_bytes().into());
        batch.commit(Durability::Disk)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Position, Signed};
    use super::*;
    use crate::testing;
    use std::path::Path;
    use windlass_protocol::B256;
    use windlass_protocol::spec::{ChainSpec, SignedSpec};

    fn version(version: u64) -> VerifiedSpec {
        testing::spec_with(3, |spec| spec.version = version).0
    }

    fn refused(directory: &Path, spec: &VerifiedSpec) -> StoreError {
        let written = Store::open(directory, spec).err().unwrap();
        let read = Store::open_read_only(directory, spec).err().unwrap();
        assert_eq!(written.to_string(), read.to_string());
        assert!(!written.to_string().contains('\n'), "{written}");
        written
    }

    #[test]
    fn a_renewed_spec_takes_a_directory_over_with_all_that_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let signed = Position { number: 5, hash: B256::repeat_byte(5) };
        let store = Store::open(directory.path(), &version(1)).unwrap();
        let mut batch = store.batch();
        batch.put::<Signed>(&(), &signed);
        batch.commit(Durability::Disk).unwrap();
        drop(store);
        // Who only looks leaves it the older spec's.
        drop(Store::open_read_only(directory.path(), &version(3)).unwrap());
        drop(Store::open(directory.path(), &version(1)).unwrap());
        let store = Store::open(directory.path(), &version(3)).unwrap();
        assert_eq!(store.get::<Signed>(&()).unwrap(), Some(signed));
        drop(store);
        // From then on the older one is refused, in words.
        for lower in [1, 2] {
            let error = refused(directory.path(), &version(lower));
            assert!(
                matches!(error, StoreError::OlderSpec { found: 3, configured, .. } if configured == lower)
            );
            assert!(error.to_string().contains("version 3"), "{error}");
        }
        drop(Store::open(directory.path(), &version(3)).unwrap());
    }

    /// One that makes another network, and what it is called.
    type Change = (&'static str, fn(&mut ChainSpec));

    #[test]
    fn another_network_is_refused_and_the_difference_named() {
        let directory = tempfile::tempdir().unwrap();
        drop(Store::open(directory.path(), &version(1)).unwrap());
        let changes: [Change; 4] = [
            ("contracts", |spec| spec.contracts.registry.code_hash = B256::repeat_byte(7)),
            ("deploy block", |spec| spec.deploy_block = 9),
            ("head interval", |spec| spec.head_interval = 9),
            ("genesis hash", |spec| spec.genesis_hash = B256::repeat_byte(7)),
        ];
        for (word, change) in changes {
            let (other, _) = testing::spec_with(3, |spec| {
                spec.version = 2;
                change(spec);
            });
            let error = refused(directory.path(), &other);
            assert!(
                matches!(error, StoreError::OtherSpec { .. }) && error.to_string().contains(word),
                "{error}"
            );
        }
        // The same terms by another publisher.
        let spec = ChainSpec { version: 2, ..(*version(1)).clone() };
        let bytes = SignedSpec::sign(&spec, &testing::key(9)).to_bytes();
        let other = verify_spec(&bytes, testing::key(9).address()).unwrap();
        assert!(matches!(refused(directory.path(), &other), StoreError::OtherSpec { .. }));
        drop(Store::open(directory.path(), &version(1)).unwrap());
    }

    #[test]
    fn two_specs_of_one_version_are_not_each_others_successors() {
        let directory = tempfile::tempdir().unwrap();
        drop(Store::open(directory.path(), &version(1)).unwrap());
        let (twin, _) = testing::spec_with(3, |spec| spec.date = 1);
        assert!(matches!(
            refused(directory.path(), &twin),
            StoreError::OlderSpec { found: 1, configured: 1, .. }
        ));
    }

    #[test]
    fn a_directory_that_kept_only_the_hash_is_taken_under_its_own_spec_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &version(1)).unwrap();
        let mut batch = store.batch();
        batch.delete::<SpecBytes>(&());
        batch.commit(Durability::Disk).unwrap();
        drop(store);
        assert!(matches!(refused(directory.path(), &version(2)), StoreError::OtherSpec { .. }));
        // Opened once more under its own, it can be taken over.
        drop(Store::open(directory.path(), &version(1)).unwrap());
        drop(Store::open(directory.path(), &version(2)).unwrap());
    }

    #[test]
    fn a_kept_spec_that_is_damaged_vouches_for_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &version(1)).unwrap();
        let mut bytes = version(1).to_bytes();
        bytes[9] ^= 1;
        let mut batch = store.batch();
        batch.put::<SpecBytes>(&(), &bytes.into());
        batch.commit(Durability::Disk).unwrap();
        drop(store);
        assert!(matches!(refused(directory.path(), &version(2)), StoreError::OtherSpec { .. }));
    }
}
