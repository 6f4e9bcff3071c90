//! What this node may sign, and the record of it: on disk before a signature leaves.
//!
//! Numbers only go up, and one number has one hash, for ever: signing two hashes at one number is the fault
//! that costs a node its stake.

use crate::follower::FinalHead;
use crate::limits::{NEEDED_PROVIDERS, WINDOW_HEADS};
use crate::store::{Durability, Position, Signed, Store, StoreError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use windlass_protocol::committee::REMEMBERED;
use windlass_protocol::head::{Attestation, Head};
use windlass_protocol::spec::{MAX_COMMITTEE, VerifiedSpec};
use windlass_protocol::{Address, B256, SecretKey};

/// Members whose reports are kept: those of the committees that are remembered.
const MAX_REPORTS: usize = MAX_COMMITTEE * REMEMBERED;

/// Why a head isn't signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A lower number than one signed before.
    #[error("block {wanted} is below block {signed}, which this node signed before")]
    Below {
        /// The head to sign.
        wanted: u64,
        /// The highest one signed.
        signed: u64,
    },
    /// Another hash at the same number.
    #[error(
        "block {number} is {wanted} now, but this node signed {signed} before: its chain provider changed a final block"
    )]
    OtherHash {
        /// The number.
        number: u64,
        /// The head to sign.
        wanted: B256,
        /// What was signed.
        signed: B256,
    },
    /// So old that no client would take it.
    #[error(
        "block {number} is {lag} s old, over the finality lag of {limit} s that clients take: the chain stands still, or no provider shows how it goes on"
    )]
    Late {
        /// The number.
        number: u64,
        /// Seconds since its timestamp.
        lag: u64,
        /// What the chain spec allows.
        limit: u64,
    },
    /// One provider's word is not enough, and too few members report the same.
    #[error("block {0} is reported as final by one provider and too few members")]
    Unconfirmed(u64),
    /// The signing record is lost; this node waits for a head that it can't have signed.
    #[error("block {0} may have been signed before: there is no record, so this node waits for the next one")]
    NoRecord(u64),
    /// The record can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A node's key and the record of what it signed. Whether it is in the committee of a head's epoch is for the caller to
/// know.
pub struct Signing {
    key: SecretKey,
    spec: Arc<VerifiedSpec>,
    store: Arc<Store>,
    last: Option<Position>,
    /// What was signed lately, since this node was started.
    signed: VecDeque<Position>,
    /// The first head seen without a record; only later ones are signed.
    first_seen: Option<u64>,
    /// What other members say is final, unsigned.
    reports: BTreeMap<Address, Position>,
}

impl Signing {
    /// The key with its record. Reads the store.
    pub fn new(key: &SecretKey, spec: Arc<VerifiedSpec>, store: Arc<Store>) -> Result<Self, StoreError> {
        let last = store.get::<Signed>(&())?;
        let (signed, reports) = Default::default();
        Ok(Self { key: key.clone(), spec, store, last, signed, first_seen: None, reports })
    }

    /// Whose signatures these are.
    pub fn address(&self) -> Address {
        self.key.address().0
    }

    /// The highest block signed so far.
    pub fn last(&self) -> Option<u64> {
        self.last.map(|position| position.number)
    }

    /// Takes over what a signature of our own shows that we signed, should the record be older or lost. Writes
    /// the record: call it where blocking is allowed.
    pub fn recall(&mut self, signed: Position) -> Result<(), StoreError> {
        match self.last {
            Some(last) if last.number >= signed.number => Ok(()),
            _ => self.record(signed),
        }
    }

    fn record(&mut self, signed: Position) -> Result<(), StoreError> {
        let mut batch = self.store.batch();
        batch.put::<Signed>(&(), &signed);
        batch.commit(Durability::Disk)?;
        self.last = Some(signed);
        Ok(())
    }

    /// Notes what another member says is final.
    pub fn report(&mut self, member: Address, position: Position) {
        // At most one per member, of the few committees there were lately.
        self.reports.insert(member, position);
        while self.reports.len() > MAX_REPORTS {
            self.reports.pop_first();
        }
    }

    /// Signs a final head. Writes the record first: call it where blocking is allowed.
    pub fn sign(&mut self, head: FinalHead, members: usize, now: u64) -> Result<Attestation, SignError> {
        let wanted = head.position;
        self.check_record(wanted)?;
        self.check_age(&head, now)?;
        if !self.spec.dev {
            self.check_confirmed(&head, members)?;
        }
        if self.last != Some(wanted) {
            self.record(wanted)?;
            self.signed.push_back(wanted);
            if self.signed.len() > WINDOW_HEADS {
                self.signed.pop_front();
            }
        }
        let statement =
            Head { number: wanted.number, hash: wanted.hash, attested_at: now, nonce: B256::ZERO };
        Ok(statement.attest(&self.spec, &self.key))
    }

    /// Signs a head over a device's nonce that was signed without one before, and no other: a nonce makes nothing final,
    /// and which hashes were signed below the last one is known only since this node was started.
    pub fn vouch(&self, position: Position, now: u64, nonce: B256) -> Option<Attestation> {
        if self.last != Some(position) && !self.signed.contains(&position) {
            return None;
        }
        let statement = Head { number: position.number, hash: position.hash, attested_at: now, nonce };
        Some(statement.attest(&self.spec, &self.key))
    }

    fn check_record(&self, wanted: Position) -> Result<(), SignError> {
        let Some(signed) = self.last else { return Ok(()) };
        if wanted.number < signed.number {
            return Err(SignError::Below { wanted: wanted.number, signed: signed.number });
        }
        if wanted.number == signed.number && wanted.hash != signed.hash {
            let (number, wanted, signed) = (wanted.number, wanted.hash, signed.hash);
            return Err(SignError::OtherHash { number, wanted, signed });
        }
        Ok(())
    }

    /// A fresh signature of a block that is too old replaces an earlier one that clients would still take.
    fn check_age(&self, head: &FinalHead, now: u64) -> Result<(), SignError> {
        let (lag, limit) = (now.saturating_sub(head.timestamp), self.spec.max_finality_lag);
        match lag > limit {
            true => Err(SignError::Late { number: head.position.number, lag, limit }),
            false => Ok(()),
        }
    }

    fn check_confirmed(&mut self, head: &FinalHead, members: usize) -> Result<(), SignError> {
        let wanted = head.position;
        // Without a record, only what is above everything we may have seen before.
        if self.last.is_none() && wanted.number <= *self.first_seen.get_or_insert(wanted.number) {
            return Err(SignError::NoRecord(wanted.number));
        }
        let agreeing = self.reports.values().filter(|reported| **reported == wanted).count();
        if head.confirmations < NEEDED_PROVIDERS && agreeing * 3 <= members {
            return Err(SignError::Unconfirmed(wanted.number));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;

    fn head(number: u64, byte: u8, confirmations: usize) -> FinalHead {
        let position = Position { number, hash: B256::repeat_byte(byte) };
        FinalHead { position, timestamp: 0, confirmations }
    }

    fn signing(dev: bool, directory: &std::path::Path) -> Signing {
        let (spec, members) = testing::spec_with(3, |spec| spec.dev = dev);
        let store = Arc::new(Store::open(directory, &spec).unwrap());
        Signing::new(&members[0], Arc::new(spec), store).unwrap()
    }

    #[test]
    fn never_two_hashes_at_one_number_and_never_back_not_even_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut member = signing(true, directory.path());
        assert!(member.sign(head(5, 1, 1), 3, 100).is_ok());
        assert!(member.sign(head(5, 1, 1), 3, 120).is_ok(), "the same head again, fresher");
        drop(member);
        let mut member = signing(true, directory.path());
        assert!(matches!(member.sign(head(5, 2, 1), 3, 130), Err(SignError::OtherHash { number: 5, .. })));
        assert!(matches!(member.sign(head(4, 1, 1), 3, 130), Err(SignError::Below { wanted: 4, signed: 5 })));
        assert_eq!(member.sign(head(5, 1, 1), 3, 130).unwrap().attested_at, 130);
        assert!(member.sign(head(6, 3, 1), 3, 140).is_ok());
    }

    #[test]
    fn outside_development_one_provider_is_not_enough() {
        let directory = tempfile::tempdir().unwrap();
        let mut member = signing(false, directory.path());
        assert!(matches!(member.sign(head(5, 1, 2), 3, 100), Err(SignError::NoRecord(5))));
        assert!(matches!(member.sign(head(6, 1, 1), 3, 100), Err(SignError::Unconfirmed(6))));
        member.report(Address::repeat_byte(1), head(6, 1, 1).position);
        assert!(member.sign(head(6, 1, 1), 3, 100).is_err(), "a third is not more than a third");
        member.report(Address::repeat_byte(2), head(6, 2, 1).position);
        assert!(member.sign(head(6, 1, 1), 3, 100).is_err(), "another hash doesn't count");
        member.report(Address::repeat_byte(2), head(6, 1, 1).position);
        assert!(member.sign(head(6, 1, 1), 3, 100).is_ok());
        assert!(member.sign(head(7, 1, 2), 3, 100).is_ok(), "two providers are");
    }

    #[test]
    fn without_a_record_nothing_is_signed_up_to_what_may_have_been_before() {
        let directory = tempfile::tempdir().unwrap();
        let mut member = signing(false, directory.path());
        for number in [9, 9, 4, 8] {
            // Lower ones come when another provider, which is behind, is asked.
            let refused = member.sign(head(number, 1, 2), 3, 100);
            assert!(matches!(refused, Err(SignError::NoRecord(_))), "{number}: {refused:?}");
        }
        assert!(member.sign(head(10, 1, 2), 3, 100).is_ok());
    }

    #[test]
    fn a_nonce_gets_no_signature_that_the_head_alone_did_not_get() {
        let directory = tempfile::tempdir().unwrap();
        let mut member = signing(true, directory.path());
        let (nonce, signed) = (B256::repeat_byte(7), head(5, 1, 1).position);
        assert_eq!(member.vouch(signed, 100, nonce), None);
        member.sign(head(5, 1, 1), 3, 100).unwrap();
        assert_eq!(member.vouch(signed, 101, nonce).unwrap().nonce, nonce);
        member.sign(head(6, 1, 1), 3, 102).unwrap();
        assert!(member.vouch(signed, 103, nonce).is_some(), "signed a moment ago");
        // As after a final block was taken back: that would be two hashes at one number.
        assert_eq!(member.vouch(head(5, 2, 1).position, 103, nonce), None);
        assert_eq!(member.vouch(head(4, 1, 1).position, 103, nonce), None);
        assert_eq!(member.vouch(head(7, 1, 1).position, 103, nonce), None);
        drop(member);
        let member = signing(true, directory.path());
        assert_eq!(member.vouch(signed, 104, nonce), None, "nobody remembers it");
        assert!(member.vouch(head(6, 1, 1).position, 104, nonce).is_some());
    }

    #[test]
    fn a_signature_of_ours_that_comes_back_counts_as_the_record() {
        let directory = tempfile::tempdir().unwrap();
        let mut member = signing(true, directory.path());
        member.recall(head(7, 1, 1).position).unwrap();
        member.recall(head(5, 1, 1).position).unwrap();
        drop(member);
        let mut member = signing(true, directory.path());
        assert!(matches!(member.sign(head(6, 1, 1), 3, 100), Err(SignError::Below { .. })));
        assert!(matches!(member.sign(head(7, 2, 1), 3, 100), Err(SignError::OtherHash { .. })));
        assert!(member.sign(head(7, 1, 1), 3, 100).is_ok());
    }
}
