//! What a deployment has done so far, on disk, so that an interrupted one can go on.
//!
//! Written before each transaction leaves. Holds no secret.

use super::Terms;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use windlass_protocol::{Address, B256};

use crate::state;

/// Why the journal isn't usable.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("the deployment journal {path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a journal.
    #[error("{path} is not a deployment journal ({source}): move it away to deploy anew")]
    Malformed {
        /// Where.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Of another chain, account or terms.
    #[error(
        "{path} is the journal of a deployment with another {what}: use the same again, or move it away to deploy anew"
    )]
    Other {
        /// Where.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    chain_id: u64,
    genesis_hash: B256,
    account: Address,
    terms: B256,
    first_nonce: u64,
    /// Per contract, every transaction that was about to create it.
    transactions: Vec<Vec<B256>>,
    /// The probe of eligibility, likewise.
    probe: Vec<B256>,
}

/// The journal of one deployment.
#[derive(Debug)]
pub struct Journal {
    path: Option<PathBuf>,
    begun: Option<Begun>,
}

impl Journal {
    /// Kept in memory: for chains that end with this process.
    pub fn in_memory() -> Self {
        Self { path: None, begun: None }
    }

    /// Kept in a file; goes on with what is there.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let file = |source| JournalError::File { path: path.to_owned(), source };
        let begun = match state::read(path).map_err(file)? {
            None => None,
            Some(bytes) => Some(
                serde_json::from_slice(&bytes)
                    .map_err(|source| JournalError::Malformed { path: path.to_owned(), source })?,
            ),
        };
        Ok(Self { path: Some(path.to_owned()), begun })
    }

    /// Starts with the account's next `nonce`, or checks that what is there is this very deployment.
    pub(super) fn begin(
        &mut self,
        chain_id: u64,
        genesis_hash: B256,
        account: Address,
        nonce: u64,
        terms: &Terms,
    ) -> Result<(), JournalError> {
        let terms = terms.digest();
        let Some(begun) = &self.begun else {
            let (transactions, probe) = (Vec::new(), Vec::new());
            self.begun = Some(Begun {
                chain_id,
                genesis_hash,
                account,
                terms,
                first_nonce: nonce,
                transactions,
                probe,
            });
            return self.save();
        };
        let same = [
            (begun.chain_id == chain_id && begun.genesis_hash == genesis_hash, "chain"),
            (begun.account == account, "account"),
            (begun.terms == terms, "treasury, ages, fees, stake or predecessor"),
        ];
        if let Some((_, what)) = same.iter().find(|(same, _)| !same) {
            return Err(JournalError::Other { path: self.path.clone().unwrap_or_default(), what });
        }
        // Nothing was sent yet: the account may have gone on meanwhile.
        if let Some(begun) = self.begun.as_mut().filter(|begun| begun.transactions.is_empty()) {
            begun.first_nonce = nonce;
            return self.save();
        }
        Ok(())
    }

    /// The nonce of the first contract's creation.
    pub(super) fn first_nonce(&self) -> u64 {
        self.begun.as_ref().map_or(0, |begun| begun.first_nonce)
    }

    /// What was sent to create the `index`-th contract, oldest first.
    pub(super) fn transactions(&self, index: usize) -> &[B256] {
        self.begun.as_ref().and_then(|begun| begun.transactions.get(index)).map_or(&[], Vec::as_slice)
    }

    /// Notes a transaction that is about to be sent.
    pub(super) fn record(&mut self, index: usize, transaction: B256) -> Result<(), JournalError> {
        if let Some(begun) = &mut self.begun {
            if begun.transactions.len() <= index {
                begun.transactions.resize(index + 1, Vec::new());
            }
            begun.transactions[index].push(transaction);
        }
        self.save()
    }

    /// The probes of eligibility that were sent, oldest first.
    pub(super) fn probes(&self) -> &[B256] {
        self.begun.as_ref().map_or(&[], |begun| &begun.probe)
    }

    /// Notes a probe that is about to be sent.
    pub(super) fn record_probe(&mut self, transaction: B256) -> Result<(), JournalError> {
        if let Some(begun) = &mut self.begun {
            begun.probe.push(transaction);
        }
        self.save()
    }

    /// Removes the file: the deployment is complete.
    ///
    /// # Errors
    /// [`JournalError::File`].
    pub fn finish(self) -> Result<(), JournalError> {
        let Some(path) = self.path else { return Ok(()) };
        std::fs::remove_file(&path).map_err(|source| JournalError::File { path, source })
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        self.path.as_ref().map_or_else(|| "the journal".to_owned(), |path| path.display().to_string())
    }

    fn save(&self) -> Result<(), JournalError> {
        let (Some(path), Some(begun)) = (&self.path, &self.begun) else { return Ok(()) };
        let bytes = serde_json::to_vec_pretty(begun).expect("hashes and numbers always serialise");
        state::write(path, &bytes).map_err(|source| JournalError::File { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn terms() -> Terms {
        Terms::development(vec![Address::repeat_byte(1)]).unwrap()
    }

    #[test]
    fn what_was_begun_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chain.spec.journal");
        let (genesis, account) = (B256::repeat_byte(1), Address::repeat_byte(2));
        let mut first = Journal::open(&path).unwrap();
        first.begin(5, genesis, account, 7, &terms()).unwrap();
        first.record(1, B256::repeat_byte(9)).unwrap();
        first.record_probe(B256::repeat_byte(8)).unwrap();
        let mut second = Journal::open(&path).unwrap();
        second.begin(5, genesis, account, 9, &terms()).unwrap();
        assert_eq!(second.first_nonce(), 7);
        assert_eq!(second.transactions(1), [B256::repeat_byte(9)]);
        assert!(second.transactions(0).is_empty() && second.transactions(4).is_empty());
        assert_eq!(second.probes(), [B256::repeat_byte(8)]);
        second.finish().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn before_anything_is_sent_the_nonce_moves_with_the_account() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (genesis, account) = (B256::repeat_byte(1), Address::repeat_byte(2));
        for nonce in [7, 9] {
            let mut journal = Journal::open(&path).unwrap();
            journal.begin(5, genesis, account, nonce, &terms()).unwrap();
            assert_eq!(journal.first_nonce(), nonce);
        }
    }

    #[test]
    fn another_deployments_journal_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (genesis, account) = (B256::repeat_byte(1), Address::repeat_byte(2));
        Journal::open(&path).unwrap().begin(5, genesis, account, 7, &terms()).unwrap();
        let open = || Journal::open(&path).unwrap();
        let what = |result: Result<(), JournalError>| match result {
            Err(JournalError::Other { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(what(open().begin(6, genesis, account, 7, &terms())), "chain");
        assert_eq!(what(open().begin(5, B256::ZERO, account, 7, &terms())), "chain");
        assert_eq!(what(open().begin(5, genesis, Address::ZERO, 7, &terms())), "account");
        let other = Terms { grace: 1, ..terms() };
        assert!(what(open().begin(5, genesis, account, 7, &other)).contains("treasury"));
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(Journal::open(&path), Err(JournalError::Malformed { .. })));
    }
}
