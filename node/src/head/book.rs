//! Attestations of recent heights, by member: who vouched for what, and which head has enough of them.
//!
//! Pure: no clock, no disk. A member's newest attestation of a height counts; one that contradicts an earlier
//! one of the same member is reported and not taken.

use super::Lineage;
use crate::limits::{COLLECTED_HEADS, MAX_MEMBER_CLOCK_SKEW};
use crate::store::Position;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_protocol::head::{Attestation, Committee};
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::{Address, B256};

/// What became of an attestation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observed {
    /// It says something new.
    New,
    /// It, or a fresher one, is known.
    Known,
    /// Not of a member of any committee there was lately, or of another chain.
    Stranger,
    /// It answers a device's nonce, or its height is none to attest, or it is dated in the future.
    Unfit,
    /// Too far from our own final head to be kept.
    Far,
    /// The member signed another hash at this number before: a fault that can be proven.
    Equivocation(Address),
}

/// One of our own final heads that can be served.
struct Own {
    hash: B256,
    /// Who may attest it.
    committee: Committee,
}

/// The collected attestations.
pub struct Book {
    spec: Arc<VerifiedSpec>,
    lineage: Arc<Lineage>,
    /// By number.
    own: BTreeMap<u64, Own>,
    heights: BTreeMap<u64, BTreeMap<Address, (B256, Attestation)>>,
}

impl Book {
    /// An empty book.
    pub fn new(spec: Arc<VerifiedSpec>, lineage: Arc<Lineage>) -> Self {
        Self { spec, lineage, own: BTreeMap::new(), heights: BTreeMap::new() }
    }

    /// Who is in office, and was lately.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Who is in office from now on.
    pub fn inherit(&mut self, lineage: Arc<Lineage>) {
        self.lineage = lineage;
    }

    /// Adds one of our own final heads, made at this time; heights far below the newest one are forgotten. One of an
    /// epoch whose committee isn't known can't be served.
    pub fn own_head(&mut self, position: Position, timestamp: u64) {
        let Some(committee) = self.lineage.of(self.spec.epoch_at(timestamp)).cloned() else { return };
        self.own.insert(position.number, Own { hash: position.hash, committee });
        let Some((newest, _)) = self.own.last_key_value() else { return };
        let lowest = newest.saturating_sub(self.reach());
        self.own = self.own.split_off(&lowest);
        self.heights = self.heights.split_off(&lowest);
    }

    /// Forgets our own heads: the mirror is being rebuilt. What others said stays.
    pub fn forget_own(&mut self) {
        self.own.clear();
    }

    /// Blocks above and below our newest final head whose attestations are kept.
    pub(super) fn reach(&self) -> u64 {
        COLLECTED_HEADS.saturating_mul(self.spec.head_interval)
    }

    /// Takes an attestation, whoever brought it: the signature says whose it is.
    pub fn observe(&mut self, position: Position, attestation: Attestation, now: u64) -> Observed {
        let Position { number, hash } = position;
        let unfit = !attestation.nonce.is_zero()
            || !self.spec.attestable(number)
            || attestation.attested_at > now.saturating_add(MAX_MEMBER_CLOCK_SKEW);
        if unfit {
            return Observed::Unfit;
        }
        if !self.within_reach(number) {
            return Observed::Far;
        }
        let Some(signer) = attestation.signer(&self.spec, number, hash) else { return Observed::Stranger };
        if !self.lineage.committees().knows(&signer) {
            return Observed::Stranger;
        }
        let members = self.heights.entry(number).or_default();
        let observed = match members.get(&signer) {
            Some((former, _)) if *former != hash => return Observed::Equivocation(signer),
            Some((_, former)) if former.attested_at >= attestation.attested_at => return Observed::Known,
            _ => Observed::New,
        };
        members.insert(signer, (hash, attestation));
        // Without a head of our own there is no middle to measure from: the newest heights stay.
        while self.heights.len() as u64 > 2 * COLLECTED_HEADS + 1 {
            self.heights.pop_first();
        }
        observed
    }

    fn within_reach(&self, number: u64) -> bool {
        self.own.last_key_value().is_none_or(|(newest, _)| newest.abs_diff(number) <= self.reach())
    }

    /// The highest of our own heads that a threshold of members attested, with the freshest attestations
    /// that make up the threshold and the time at which all of them had vouched.
    pub fn served(&self) -> Option<(Position, Vec<Attestation>, u64)> {
        self.own.iter().rev().find_map(|(number, Own { hash, committee })| {
            let threshold = self.spec.threshold(committee.members().len());
            let mut agreeing = self.agreeing(*number, *hash, committee);
            if agreeing.len() < threshold {
                return None;
            }
            agreeing.sort_by_key(|attestation| std::cmp::Reverse(attestation.attested_at));
            agreeing.truncate(threshold);
            let attested_at = agreeing.last().map_or(0, |attestation| attestation.attested_at);
            Some((Position { number: *number, hash: *hash }, agreeing, attested_at))
        })
    }

    fn agreeing(&self, number: u64, hash: B256, committee: &Committee) -> Vec<Attestation> {
        let members = self.heights.get(&number).into_iter().flatten();
        let agreeing = members.filter(|(member, (theirs, _))| *theirs == hash && committee.contains(member));
        agreeing.map(|(_, (_, attestation))| *attestation).collect()
    }

    /// What this member signed at a number, as far as it is known.
    pub fn signed_by(&self, member: &Address, number: u64) -> Option<(B256, Attestation)> {
        self.heights.get(&number)?.get(member).copied()
    }

    /// Who vouched for our own newest `heights` heads, oldest first. What is said about heights that aren't final
    /// for us is nobody's business: a member that signs far ahead must not crowd out the rest.
    pub fn newest(&self, heights: usize) -> Vec<(Position, Attestation)> {
        let mut all: Vec<_> = self
            .heights
            .iter()
            .rev()
            .filter(|(number, _)| self.own.contains_key(number))
            .take(heights)
            .flat_map(|(number, members)| {
                members
                    .values()
                    .map(|(hash, attestation)| (Position { number: *number, hash: *hash }, *attestation))
            })
            .collect();
        all.reverse();
        all
    }

    /// Members whose attestation of a height contradicts ours: either they or we are on a wrong chain.
    pub fn dissenters(&self, position: Position) -> Vec<Address> {
        let members = self.heights.get(&position.number).into_iter().flatten();
        members.filter(|(_, (hash, _))| *hash != position.hash).map(|(member, _)| *member).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use windlass_protocol::SecretKey;
    use windlass_protocol::head::Head;

    const NOW: u64 = 1_000_000;

    fn position(number: u64, byte: u8) -> Position {
        Position { number, hash: B256::repeat_byte(byte) }
    }

    fn attest(book: &Book, member: &SecretKey, position: Position, attested_at: u64) -> Attestation {
        let head = Head { number: position.number, hash: position.hash, attested_at, nonce: B256::ZERO };
        head.attest(&book.spec, member)
    }

    fn book() -> (Book, Vec<SecretKey>) {
        let (spec, members) = testing::spec(3);
        let lineage = Arc::new(Lineage::lasting(&spec));
        (Book::new(Arc::new(spec), lineage), members)
    }

    #[test]
    fn a_head_is_served_at_the_threshold_with_the_freshest() {
        let (mut book, members) = book();
        let head = position(5, 1);
        book.own_head(head, NOW);
        let first = attest(&book, &members[0], head, NOW - 30);
        assert_eq!(book.observe(head, first, NOW), Observed::New);
        assert_eq!(book.served(), None);
        let second = attest(&book, &members[1], head, NOW - 20);
        assert_eq!(book.observe(head, second, NOW), Observed::New);
        assert_eq!(book.served().unwrap(), (head, vec![second, first], NOW - 30));
        let third = attest(&book, &members[2], head, NOW);
        book.observe(head, third, NOW);
        assert_eq!(book.served().unwrap(), (head, vec![third, second], NOW - 20));
    }

    #[test]
    fn a_higher_head_is_served_only_once_it_has_enough() {
        let (mut book, members) = book();
        for number in [5, 6] {
            book.own_head(position(number, number as u8), NOW);
            book.observe(
                position(number, number as u8),
                attest(&book, &members[0], position(number, number as u8), NOW),
                NOW,
            );
        }
        let on_five = attest(&book, &members[1], position(5, 5), NOW);
        book.observe(position(5, 5), on_five, NOW);
        assert_eq!(book.served().unwrap().0.number, 5);
        let on_other_six = attest(&book, &members[1], position(6, 9), NOW);
        book.observe(position(6, 9), on_other_six, NOW);
        assert_eq!(book.served().unwrap().0.number, 5, "another hash doesn't count");
        assert_eq!(book.dissenters(position(6, 6)), [members[1].address().0]);
        let on_six = attest(&book, &members[2], position(6, 6), NOW);
        book.observe(position(6, 6), on_six, NOW);
        assert_eq!(book.served().unwrap().0.number, 6);
    }

    #[test]
    fn what_proves_nothing_is_not_taken() {
        let (mut book, members) = book();
        let head = position(5, 1);
        book.own_head(head, NOW);
        let stranger = SecretKey::from_bytes(&[99; 32]).unwrap();
        let good = attest(&book, &members[0], head, NOW);
        assert_eq!(book.observe(head, attest(&book, &stranger, head, NOW), NOW), Observed::Stranger);
        // A member's signature of another block recovers to somebody else.
        assert_eq!(book.observe(position(6, 1), good, NOW), Observed::Stranger);
        let early = attest(&book, &members[0], head, NOW + MAX_MEMBER_CLOCK_SKEW + 1);
        assert_eq!(book.observe(head, early, NOW), Observed::Unfit);
        let mut nonced = good;
        nonced.nonce = B256::repeat_byte(1);
        assert_eq!(book.observe(head, nonced, NOW), Observed::Unfit);
        let far = position(5 + COLLECTED_HEADS + 1, 1);
        assert_eq!(book.observe(far, attest(&book, &members[0], far, NOW), NOW), Observed::Far);
        assert_eq!(book.observe(head, good, NOW), Observed::New);
        assert_eq!(book.observe(head, good, NOW), Observed::Known);
        let forked = position(5, 2);
        let fault = attest(&book, &members[0], forked, NOW + 1);
        assert_eq!(book.observe(forked, fault, NOW), Observed::Equivocation(members[0].address().0));
    }

    #[test]
    fn a_member_that_signs_far_ahead_keeps_nobody_from_being_passed_on() {
        let (mut book, members) = book();
        let head = position(5, 1);
        book.own_head(head, NOW);
        let honest = attest(&book, &members[1], head, NOW);
        book.observe(head, honest, NOW);
        for number in 6..5 + COLLECTED_HEADS {
            let garbage = position(number, 9);
            book.observe(garbage, attest(&book, &members[0], garbage, NOW), NOW);
        }
        assert_eq!(book.newest(4), [(head, honest)]);
    }

    #[test]
    fn memory_is_bounded_whether_or_not_we_have_a_head() {
        let (mut book, members) = book();
        for number in 0..1_000 {
            let head = position(number, 1);
            book.observe(head, attest(&book, &members[0], head, NOW), NOW);
        }
        assert!(book.heights.len() as u64 <= 2 * COLLECTED_HEADS + 1);
        for number in 0..1_000 {
            book.own_head(position(number, 1), NOW);
        }
        assert!(book.own.len() as u64 <= COLLECTED_HEADS + 1);
        assert!(book.newest(2).len() <= 2);
    }
}
