//! What the committee vouches for above our own final heads. Where chain providers contradict each other and neither side
//! has more of them, it says which one is believed.
//!
//! Pure. It never makes anything final: what it points at is fetched, proven and checked like any other block.

use super::Lineage;
use crate::chain::Block;
use crate::store::Position;
use std::sync::Arc;
use windlass_protocol::Address;
use windlass_protocol::head::{Attestation, HeadError, Trust, VerifiedHead, verify_head};
use windlass_protocol::spec::VerifiedSpec;

/// Blocks that members vouch for, above our own newest final head.
#[derive(Clone, Default)]
pub struct Vouched {
    /// Who is in office; `None` before anything is known.
    lineage: Option<Arc<Lineage>>,
    /// Newest first, each with those who vouch for it.
    heads: Vec<(Position, Vec<(Address, Attestation)>)>,
}

/// Why what members say doesn't decide.
#[derive(Debug, thiserror::Error)]
pub enum Undecided {
    /// Nobody vouches for this block, or not enough do.
    #[error("too few members vouch for this block")]
    Nobody,
    /// The committee of its epoch isn't known.
    #[error("the committee of epoch {0} isn't known")]
    Epoch(u32),
    /// The signatures don't make a head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// They did, too long ago for the committee still to be trusted with it.
    #[error("they vouched {age} s ago, more than {limit} s")]
    Old {
        /// Seconds since then.
        age: u64,
        /// The spec's finality lag.
        limit: u64,
    },
}

impl Vouched {
    /// What they say, newest first, and who is in office.
    pub fn new(lineage: Arc<Lineage>, heads: Vec<(Position, Vec<(Address, Attestation)>)>) -> Self {
        Self { lineage: Some(lineage), heads }
    }

    /// Whether both say the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        let same = match (&self.lineage, &other.lineage) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same && self.heads == other.heads
    }

    /// The blocks above `base` up to `newest`, newest first.
    pub fn between(&self, base: u64, newest: u64) -> impl Iterator<Item = Position> {
        let positions = self.heads.iter().map(|(position, _)| *position);
        positions.filter(move |position| (base + 1..=newest).contains(&position.number))
    }

    /// Believes a block as a device would: a threshold of the committee of its epoch vouches for it, and did so lately. A
    /// committee that has left office can't speak for a block of today.
    pub fn verify(&self, spec: &VerifiedSpec, block: &Block, now: u64) -> Result<VerifiedHead, Undecided> {
        let position = Position { number: block.header.number, hash: block.header.hash };
        let Some((_, vouched)) = self.heads.iter().find(|(of, _)| *of == position) else {
            return Err(Undecided::Nobody);
        };
        let epoch = spec.epoch_at(block.header.timestamp);
        let committee = self.lineage.as_ref().and_then(|lineage| lineage.of(epoch));
        let committee = committee.ok_or(Undecided::Epoch(epoch))?;
        let theirs = vouched.iter().filter(|(member, _)| committee.contains(member));
        let attestations: Vec<Attestation> = theirs.map(|(_, attestation)| *attestation).collect();
        let trust = Trust { spec, committee, now: Some(now), nonce: None };
        let head = verify_head(&trust, &block.rlp, &attestations)?;
        let (age, limit) = (head.age(now), spec.max_finality_lag);
        if age > limit { Err(Undecided::Old { age, limit }) } else { Ok(head) }
    }
}

/// What members vouch for, as the follower sees it.
pub type KnownVouched = tokio::sync::watch::Receiver<Arc<Vouched>>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{self, FakeChain};
    use windlass_protocol::head::Head;
    use windlass_protocol::{B256, SecretKey};

    /// Blocks of the made-up chain are a second apart from here on.
    const GENESIS: u64 = 1_000_000;

    fn vouch(spec: &VerifiedSpec, block: &Block, keys: &[&SecretKey], at: u64) -> Vouched {
        let position = Position { number: block.header.number, hash: block.header.hash };
        let head = Head { number: position.number, hash: position.hash, attested_at: at, nonce: B256::ZERO };
        let vouched = keys.iter().map(|key| (key.address().0, head.attest(spec, key))).collect();
        Vouched::new(testing::lineage(spec).borrow().clone(), vec![(position, vouched)])
    }

    #[test]
    fn a_block_is_believed_only_of_a_threshold_in_office_that_vouched_lately() {
        let (spec, members) = testing::spec_with(3, |spec| spec.max_finality_lag = 60);
        let chain = FakeChain::new();
        chain.extend(Vec::new());
        let (block, ..) = chain.proven(1);
        let (now, stranger) = (GENESIS + 30, testing::key(0x70));
        let two = [&members[0], &members[1]];
        let said = vouch(&spec, &block, &two, now);
        assert_eq!(said.verify(&spec, &block, now).unwrap().signers(), 2);
        assert_eq!(said.between(0, 1).count(), 1);
        assert_eq!(said.between(1, 9).chain(said.between(0, 0)).count(), 0);

        let alone = vouch(&spec, &block, &[&members[0], &stranger], now).verify(&spec, &block, now);
        assert!(matches!(alone, Err(Undecided::Head(HeadError::TooFew { signers: 1, .. }))));
        let late = vouch(&spec, &block, &two, GENESIS + 62).verify(&spec, &block, GENESIS + 62);
        assert!(matches!(late, Err(Undecided::Head(HeadError::Lag { .. }))));
        // Signed as if it had been in time, and shown long after.
        let old = vouch(&spec, &block, &two, now).verify(&spec, &block, now + 61);
        assert!(matches!(old, Err(Undecided::Old { age: 61, limit: 60 })));
        chain.reorg(1);
        chain.extend(vec![(B256::with_last_byte(1), B256::with_last_byte(2))]);
        let (other, ..) = chain.proven(1);
        assert!(matches!(said.verify(&spec, &other, now), Err(Undecided::Nobody)));
    }

    #[test]
    fn a_committee_that_left_office_decides_nothing() {
        let (spec, members) = testing::spec_with(3, |spec| {
            spec.epoch_length = 10;
            spec.date = GENESIS;
        });
        let chain = FakeChain::new();
        (0..12).for_each(|_| chain.extend(Vec::new()));
        let (block, ..) = chain.proven(12);
        let mut said = vouch(&spec, &block, &[&members[0], &members[1]], GENESIS + 13);
        // Known only for the epoch of the spec's date, which ended with block 9.
        said.lineage = Some(Arc::new(Lineage::first(&spec)));
        let epoch = spec.epoch_at(block.header.timestamp);
        let outcome = said.verify(&spec, &block, GENESIS + 13);
        assert!(matches!(outcome, Err(Undecided::Epoch(of)) if of == epoch));
    }
}
