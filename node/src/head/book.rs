//! Attestations of recent heights, by member: who vouched for what, and which head has enough of them.
//!
//! Pure: no clock, no disk. A member's newest attestation of a height counts; one that contradicts an earlier
//! one of the same member is reported and not taken. Room is bounded for each member: whatever one signs takes
//! nothing from another.

use super::Lineage;
use crate::follower::FinalHead;
use crate::limits::{COLLECTED_HEADS, MAX_MEMBER_CLOCK_SKEW, TOLD_HEADS};
use crate::store::Position;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use windlass_protocol::head::{Attestation, Committee};
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::{Address, B256};

/// What became of an attestation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observed {
    /// This member says something new.
    New(Address),
    /// It, or a fresher one, is known.
    Known,
    /// Not of a member of any committee there was lately, or of another chain.
    Stranger,
    /// It answers a device's nonce, or its height is none to attest, or it is dated in the future, or so long
    /// after its block that no client would take it.
    Unfit,
    /// Below what is still collected.
    Far,
    /// The member signed another hash at this number before: a fault that can be proven. Said once.
    Equivocation(Address),
}

/// One of our own final heads that can be served.
struct Own {
    head: FinalHead,
    /// Who may attest it.
    committee: Committee,
}

/// What one member vouched for, by number.
type Vouched = BTreeMap<u64, (B256, Attestation)>;

/// The collected attestations.
pub struct Book {
    spec: Arc<VerifiedSpec>,
    lineage: Arc<Lineage>,
    /// By number.
    own: BTreeMap<u64, Own>,
    members: BTreeMap<Address, Vouched>,
    /// Where a member's contradiction was reported already.
    faults: BTreeSet<(u64, Address)>,
}

impl Book {
    /// An empty book.
    pub fn new(spec: Arc<VerifiedSpec>, lineage: Arc<Lineage>) -> Self {
        let (own, members, faults) = Default::default();
        Self { spec, lineage, own, members, faults }
    }

    /// Who is in office, and was lately.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The same, to be passed on.
    pub(super) fn lineage_shared(&self) -> Arc<Lineage> {
        self.lineage.clone()
    }

    /// Who is in office from now on. What somebody vouched for who is forgotten goes.
    pub fn inherit(&mut self, lineage: Arc<Lineage>) {
        self.members.retain(|member, _| lineage.committees().knows(member));
        self.lineage = lineage;
    }

    /// Adds our own final heads; heights far below the newest one are forgotten. One of an epoch whose committee
    /// isn't known can't be served.
    pub fn own_heads(&mut self, heads: impl IntoIterator<Item = FinalHead>) {
        for head in heads {
            let committee = self.lineage.of(self.spec.epoch_at(head.timestamp)).cloned();
            self.own.extend(committee.map(|committee| (head.position.number, Own { head, committee })));
        }
        let lowest = self.lowest();
        self.own = self.own.split_off(&lowest);
        self.faults = self.faults.split_off(&(lowest, Address::ZERO));
        for vouched in self.members.values_mut() {
            *vouched = vouched.split_off(&lowest);
        }
    }

    /// Forgets our own heads: the mirror is being rebuilt. What others said stays.
    pub fn forget_own(&mut self) {
        self.own.clear();
    }

    /// Blocks below our newest final head whose attestations are kept.
    pub(super) fn reach(&self) -> u64 {
        COLLECTED_HEADS.saturating_mul(self.spec.head_interval)
    }

    fn lowest(&self) -> u64 {
        self.own.last_key_value().map_or(0, |(newest, _)| newest.saturating_sub(self.reach()))
    }

    /// Takes an attestation, whoever brought it: the signature says whose it is.
    pub fn observe(&mut self, position: Position, attestation: Attestation, now: u64) -> Observed {
        let Position { number, hash } = position;
        let unfit = !attestation.nonce.is_zero()
            || !self.spec.attestable(number)
            || attestation.attested_at > now.saturating_add(MAX_MEMBER_CLOCK_SKEW)
            || self.own.get(&number).is_some_and(|own| self.is_late(&own.head, &attestation));
        if unfit {
            return Observed::Unfit;
        }
        if number < self.lowest() {
            return Observed::Far;
        }
        let Some(signer) = attestation.signer(&self.spec, number, hash) else { return Observed::Stranger };
        if !self.lineage.committees().knows(&signer) {
            return Observed::Stranger;
        }
        let vouched = self.members.entry(signer).or_default();
        match vouched.get(&number) {
            Some((former, _)) if *former != hash => {
                return match self.faults.insert((number, signer)) {
                    true => Observed::Equivocation(signer),
                    false => Observed::Known,
                };
            }
            Some((_, former)) if former.attested_at >= attestation.attested_at => return Observed::Known,
            _ => {}
        }
        vouched.insert(number, (hash, attestation));
        // Above our own newest head there is no bound but this: we may be the one that is behind.
        while vouched.len() as u64 > 2 * COLLECTED_HEADS + 1 {
            vouched.pop_first();
        }
        Observed::New(signer)
    }

    /// Whether a client would refuse it as too long after the block.
    fn is_late(&self, own: &FinalHead, attestation: &Attestation) -> bool {
        attestation.attested_at.saturating_sub(own.timestamp) > self.spec.max_finality_lag
    }

    /// The highest of our own heads that a threshold of members attested, with the freshest attestations
    /// that make up the threshold and the time at which all of them had vouched.
    pub fn served(&self) -> Option<(Position, Vec<Attestation>, u64)> {
        self.own.values().rev().find_map(|own| {
            let threshold = self.spec.threshold(own.committee.members().len());
            let mut agreeing: Vec<Attestation> = self.agreeing(own).collect();
            if agreeing.len() < threshold {
                return None;
            }
            agreeing.sort_by_key(|attestation| std::cmp::Reverse(attestation.attested_at));
            agreeing.truncate(threshold);
            let attested_at = agreeing.last().map_or(0, |attestation| attestation.attested_at);
            Some((own.head.position, agreeing, attested_at))
        })
    }

    /// Who of its committee vouched for one of our own heads in time.
    fn agreeing(&self, own: &Own) -> impl Iterator<Item = Attestation> {
        let (head, committee) = (&own.head, &own.committee);
        let members = self.members.iter().filter(|(member, _)| committee.contains(member));
        members.filter_map(move |(_, vouched)| {
            let (hash, attestation) = vouched.get(&head.position.number)?;
            (*hash == head.position.hash && !self.is_late(head, attestation)).then_some(*attestation)
        })
    }

    /// What enough members vouch for above our own newest head, newest first. Whether these were in office then, the block
    /// itself tells, which isn't known here.
    pub fn ahead(&self) -> Vec<(Position, Vec<(Address, Attestation)>)> {
        let threshold = self.spec.threshold(self.lineage.committees().latest().members().len());
        let above = self.own.last_key_value().map_or(0, |(newest, _)| newest + 1);
        let mut heads: BTreeMap<(u64, B256), Vec<(Address, Attestation)>> = BTreeMap::new();
        for (member, vouched) in &self.members {
            for (number, (hash, attestation)) in vouched.range(above..) {
                heads.entry((*number, *hash)).or_default().push((*member, *attestation));
            }
        }
        let enough = heads.into_iter().rev().filter(|(_, vouched)| vouched.len() >= threshold);
        enough.map(|((number, hash), vouched)| (Position { number, hash }, vouched)).collect()
    }

    /// What to pass on: who vouched for our own newest heads, oldest head first. What is said about heights that
    /// aren't final for us is nobody's business: a member that signs far ahead must not crowd out the rest.
    pub fn told(&self) -> Vec<(Position, Attestation)> {
        let newest = self.own.values().rev().take(TOLD_HEADS);
        let mut told: Vec<_> = newest
            .flat_map(|own| self.agreeing(own).map(|attestation| (own.head.position, attestation)))
            .collect();
        told.reverse();
        told
    }

    /// What this member signed at a number, as far as it is known.
    pub fn signed_by(&self, member: &Address, number: u64) -> Option<(B256, Attestation)> {
        self.members.get(member)?.get(&number).copied()
    }

    /// Members whose attestation of a height contradicts ours: either they or we are on a wrong chain.
    pub fn dissenters(&self, position: Position) -> Vec<Address> {
        let other =
            |vouched: &Vouched| vouched.get(&position.number).is_some_and(|(hash, _)| *hash != position.hash);
        self.members.iter().filter(|(_, vouched)| other(vouched)).map(|(member, _)| *member).collect()
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

    fn own(position: Position) -> [FinalHead; 1] {
        [FinalHead { position, timestamp: NOW - 40, confirmations: 1 }]
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
        book.own_heads(own(head));
        let first = attest(&book, &members[0], head, NOW - 30);
        assert_eq!(book.observe(head, first, NOW), Observed::New(members[0].address().0));
        assert_eq!(book.served(), None);
        let second = attest(&book, &members[1], head, NOW - 20);
        assert_eq!(book.observe(head, second, NOW), Observed::New(members[1].address().0));
        assert_eq!(book.served().unwrap(), (head, vec![second, first], NOW - 30));
        let third = attest(&book, &members[2], head, NOW);
        book.observe(head, third, NOW);
        assert_eq!(book.served().unwrap(), (head, vec![third, second], NOW - 20));
    }

    #[test]
    fn a_higher_head_is_served_only_once_it_has_enough() {
        let (mut book, members) = book();
        for number in [5, 6] {
            book.own_heads(own(position(number, number as u8)));
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
        book.own_heads(own(head));
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
        assert_eq!(book.observe(head, good, NOW), Observed::New(members[0].address().0));
        assert_eq!(book.observe(head, good, NOW), Observed::Known);
        let forked = position(5, 2);
        let fault = attest(&book, &members[0], forked, NOW + 1);
        assert_eq!(book.observe(forked, fault, NOW), Observed::Equivocation(members[0].address().0));
        // Whoever repeats the pair fills no log with it.
        assert_eq!(book.observe(forked, fault, NOW), Observed::Known);
        book.own_heads(own(position(5 + COLLECTED_HEADS + 1, 1)));
        assert_eq!(book.observe(head, good, NOW), Observed::Far);
    }

    #[test]
    fn a_member_whose_clock_is_ahead_spoils_no_bundle_for_a_client_whose_clock_is_behind() {
        let (mut book, members) = book();
        let head = position(5, 1);
        book.own_heads(own(head));
        for member in &members[..2] {
            book.observe(head, attest(&book, member, head, NOW), NOW);
        }
        // As far ahead as a client with our very clock would still take.
        let ahead = attest(&book, &members[2], head, NOW + windlass_protocol::head::MAX_CLOCK_SKEW);
        assert_eq!(book.observe(head, ahead, NOW), Observed::Unfit);
        let (_, attestations, _) = book.served().unwrap();
        assert!(attestations.iter().all(|attestation| attestation.attested_at <= NOW));
    }

    #[test]
    fn who_vouches_too_late_after_the_block_replaces_nothing_that_clients_take() {
        let (spec, members) = testing::spec_with(3, |spec| spec.max_finality_lag = 60);
        let lineage = Arc::new(Lineage::lasting(&spec));
        let mut book = Book::new(Arc::new(spec), lineage);
        let head = position(5, 1);
        let timely: Vec<_> = members[..2].iter().map(|m| attest(&book, m, head, NOW + 20)).collect();
        let late = attest(&book, &members[0], head, NOW + 21);
        // Before we know the block, its time isn't known either.
        book.observe(head, late, NOW + 21);
        book.own_heads(own(head));
        for attestation in &timely {
            book.observe(head, *attestation, NOW + 21);
        }
        assert_eq!(book.served(), None, "one of two came too late");
        let mut book = Book::new(book.spec.clone(), book.lineage.clone());
        book.own_heads(own(head));
        for attestation in &timely {
            book.observe(head, *attestation, NOW + 21);
        }
        assert_eq!(book.observe(head, late, NOW + 21), Observed::Unfit);
        assert_eq!(book.served().unwrap().2, NOW + 20);
    }

    #[test]
    fn what_enough_members_vouch_for_above_our_own_head_is_known() {
        let (mut book, members) = book();
        book.own_heads(own(position(5, 1)));
        for (member, number, byte) in
            [(0, 5, 1), (1, 5, 1), (0, 6, 6), (1, 6, 6), (2, 6, 7), (0, 8, 8), (2, 8, 8)]
        {
            let head = position(number, byte);
            book.observe(head, attest(&book, &members[member], head, NOW), NOW);
        }
        let ahead =
            |book: &Book| book.ahead().into_iter().map(|(at, who)| (at, who.len())).collect::<Vec<_>>();
        assert_eq!(ahead(&book), [(position(8, 8), 2), (position(6, 6), 2)]);
        book.own_heads(own(position(6, 6)));
        assert_eq!(ahead(&book), [(position(8, 8), 2)]);
    }

    #[test]
    fn a_member_that_signs_far_ahead_crowds_out_nobody() {
        let (mut book, members) = book();
        let garbage = |book: &Book, from: u64, to: u64| -> Vec<_> {
            (from..to)
                .map(|number| position(number, 9))
                .map(|p| (p, attest(book, &members[0], p, NOW)))
                .collect()
        };
        // While we have no head of our own, too.
        for (position, attestation) in garbage(&book, 1_000_000, 1_000_200) {
            book.observe(position, attestation, NOW);
        }
        let head = position(5, 1);
        let honest = attest(&book, &members[1], head, NOW);
        assert_eq!(book.observe(head, honest, NOW), Observed::New(members[1].address().0));
        book.own_heads(own(head));
        for (position, attestation) in garbage(&book, 6, 6 + COLLECTED_HEADS) {
            book.observe(position, attestation, NOW);
        }
        let third = attest(&book, &members[2], head, NOW);
        assert_eq!(book.observe(head, third, NOW), Observed::New(members[2].address().0));
        let told = book.told();
        assert_eq!(told.len(), 2);
        assert!(told.contains(&(head, honest)) && told.contains(&(head, third)));
        assert_eq!(book.served().unwrap().0, head);
    }

    #[test]
    fn memory_is_bounded_whether_or_not_we_have_a_head() {
        let (mut book, members) = book();
        for number in 0..1_000 {
            let head = position(number, 1);
            book.observe(head, attest(&book, &members[0], head, NOW), NOW);
        }
        let kept = |book: &Book| book.members.values().map(|vouched| vouched.len() as u64).sum::<u64>();
        assert!(kept(&book) <= 2 * COLLECTED_HEADS + 1);
        for number in 0..1_000 {
            book.own_heads(own(position(number, 1)));
        }
        assert!(book.own.len() as u64 <= COLLECTED_HEADS + 1);
        assert_eq!(kept(&book), COLLECTED_HEADS + 1);
        assert_eq!(book.told().len(), TOLD_HEADS);
    }
}
