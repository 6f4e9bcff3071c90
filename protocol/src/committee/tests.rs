//! Walking from committee to committee: the honest way leads on, every other one is refused.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::head::HeadError;
use crate::head::tests::attest;
use crate::header::tests::header_rlp;
use crate::spec::tests::{example, key, verified};
use crate::trie::{ACCOUNT_TRIE, Account, MemoryStore, prove, prove_all, slot_change, update};
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec;

/// Seconds of an epoch, and the epoch in which the spec was made.
const LENGTH: u64 = 100;
const START: u32 = 1_000;

fn spec() -> VerifiedSpec {
    let date = u64::from(START) * LENGTH;
    let spec = ChainSpec { epoch_length: LENGTH, trusting_period: 700, date, dev: false, ..example() };
    verified(&ChainSpec { max_finality_lag: 50, ..spec })
}

/// The members made of these key bytes.
fn list(keys: &[u8]) -> Vec<Address> {
    let mut members: Vec<Address> = keys.iter().map(|byte| key(*byte).address().0).collect();
    members.sort_unstable();
    members
}

/// A head at this time under which these epochs have these committees, signed by these keys.
struct Scene {
    at: u64,
    committees: Vec<(u32, Vec<Address>)>,
    signers: Vec<u8>,
}

impl Scene {
    /// In the second half of an epoch.
    fn late(epoch: u32, signers: &[u8]) -> Self {
        Self { at: u64::from(epoch) * LENGTH + 60, committees: Vec::new(), signers: signers.to_vec() }
    }

    fn with(mut self, epoch: u32, members: Vec<Address>) -> Self {
        self.committees.push((epoch, members));
        self
    }

    /// A step from `after` to `last`, which comes with this list.
    fn step(&self, spec: &VerifiedSpec, after: u32, last: u32, members: Vec<Address>) -> CommitteeStep {
        let (mut store, registry) = (MemoryStore::default(), keccak256(spec.contracts.registry.address));
        let slot = |epoch: &u32| Slot::Committee(*epoch).trie_key();
        let mut leaves: BTreeMap<B256, _> = (1..40u64)
            .map(|fleet| (Slot::Fleet(fleet).trie_key(), slot_change(&B256::with_last_byte(1))))
            .collect();
        leaves.extend(
            self.committees.iter().map(|(epoch, list)| (slot(epoch), slot_change(&committee_hash(list)))),
        );
        let storage_root = update(&mut store, registry, &leaves).unwrap();
        let account =
            Account { storage_root, code_hash: spec.contracts.registry.code_hash, ..Account::default() };
        let accounts = BTreeMap::from([(registry, Some(account.encode()))]);
        let state_root = update(&mut store, ACCOUNT_TRIE, &accounts).unwrap();
        let header = header_rlp(7, self.at, state_root);
        let keys: Vec<B256> = (after + 1..=last).map(|epoch| slot(&epoch)).collect();
        let attestations =
            self.signers.iter().map(|byte| attest(spec, &header, *byte, self.at + 1)).collect();
        let bundle = Bundle {
            header: header.into(),
            attestations,
            account: prove(&store, ACCOUNT_TRIE, &registry).unwrap(),
            storage: prove_all(&store, registry, &keys).unwrap(),
        };
        CommitteeStep { bundle, last, members }
    }
}

fn now(epoch: u32) -> Option<u64> {
    Some(u64::from(epoch) * LENGTH + 99)
}

/// Walks from the spec: a step that must hold.
fn walked(spec: &VerifiedSpec, committees: &mut Committees, step: &CommitteeStep, at: Option<u64>) {
    let step = verify_step(spec, committees, at, step).unwrap();
    committees.take(&step);
}

#[test]
fn a_head_of_the_second_half_leads_to_the_proposed_committee() {
    let spec = spec();
    let mut committees = Committees::first(&spec);
    assert_eq!(committees.through(), START);
    let new = list(&[4, 5, 6]);
    let step =
        Scene::late(START, &[1, 2]).with(START + 1, new.clone()).step(&spec, START, START + 1, new.clone());
    walked(&spec, &mut committees, &step, now(START));
    assert_eq!(committees.through(), START + 1);
    assert_eq!(committees.of(START + 1).unwrap().members(), new);
    assert_eq!(committees.of(START).unwrap().members(), &spec.committee[..]);
    assert_eq!(committees.of(START + 2), None);
    let old = key(1).address().0;
    assert_eq!((committees.retired(&old), committees.knows(&old)), (Some(START), true));
    assert_eq!(committees.retired(&new[0]), None);
    // Taken twice it leads nowhere.
    let again = verify_step(&spec, &Committees::first(&spec), now(START), &step).unwrap();
    committees.take(&again);
    assert_eq!(committees.through(), START + 1);
}

#[test]
fn an_empty_slot_keeps_the_committee_and_many_are_one_step() {
    let spec = spec();
    let mut committees = Committees::first(&spec);
    let step = Scene::late(START + 5, &[1, 3]).step(&spec, START, START + 6, vec![]);
    walked(&spec, &mut committees, &step, now(START + 5));
    assert_eq!((committees.through(), committees.latest().members()), (START + 6, &spec.committee[..]));
    // A head of a first half says as much of its own epoch.
    let early = Scene { at: u64::from(START + 7) * LENGTH, ..Scene::late(0, &[1, 2]) };
    walked(&spec, &mut committees, &early.step(&spec, START + 6, START + 7, vec![]), now(START + 7));
    assert_eq!(committees.through(), START + 7);
}

/// The error of a step from the spec's committee.
fn refused(spec: &VerifiedSpec, step: &CommitteeStep, at: Option<u64>) -> StepError {
    verify_step(spec, &Committees::first(spec), at, step).expect_err("the step was taken")
}

#[test]
fn a_head_of_the_first_half_settles_nothing_about_the_next_epoch() {
    let spec = spec();
    let new = list(&[4, 5, 6]);
    for into in [0, 49] {
        let scene = Scene { at: u64::from(START) * LENGTH + into, ..Scene::late(0, &[1, 2]) };
        let step = scene.with(START + 1, new.clone()).step(&spec, START, START + 1, new.clone());
        assert!(matches!(refused(&spec, &step, now(START)), StepError::Early { .. }), "{into} s");
    }
    let scene = Scene { at: u64::from(START) * LENGTH + 50, ..Scene::late(0, &[1, 2]) };
    let step = scene.with(START + 1, new.clone()).step(&spec, START, START + 1, new);
    assert!(verify_step(&spec, &Committees::first(&spec), now(START), &step).is_ok());
}

#[test]
fn too_few_strangers_and_the_new_members_themselves_are_refused() {
    let spec = spec();
    let new = list(&[4, 5, 6]);
    let step = |signers: &[u8]| {
        Scene::late(START, signers).with(START + 1, new.clone()).step(&spec, START, START + 1, new.clone())
    };
    let head = |signers: &[u8]| match refused(&spec, &step(signers), now(START)) {
        StepError::Bundle(BundleError::Head(error)) => error,
        other => panic!("{other}"),
    };
    assert!(matches!(head(&[1]), HeadError::TooFew { .. }));
    assert!(matches!(head(&[1, 9]), HeadError::NotCommittee { .. }));
    assert!(matches!(head(&[4, 5, 6]), HeadError::NotCommittee { .. }));
    assert!(matches!(head(&[1, 1]), HeadError::Repeated { .. }));
}

#[test]
fn a_list_that_is_not_the_slots_is_refused() {
    let spec = spec();
    let new = list(&[4, 5, 6]);
    let scene = || Scene::late(START, &[1, 2]).with(START + 1, new.clone());
    let with = |members: Vec<Address>| refused(&spec, &scene().step(&spec, START, START + 1, members), None);
    assert!(matches!(with(list(&[4, 5])), StepError::List(ListError::OtherHash { .. })));
    let mut unsorted = new.clone();
    unsorted.reverse();
    assert!(matches!(with(unsorted), StepError::List(ListError::Illegal)));
    assert!(matches!(with(vec![]), StepError::List(ListError::Illegal)), "present, and no list");
    let unproposed = Scene::late(START, &[1, 2]).step(&spec, START, START + 1, new);
    assert!(matches!(refused(&spec, &unproposed, None), StepError::Unproposed(_)));
}

#[test]
fn no_epoch_with_a_committee_of_its_own_is_stepped_over() {
    let spec = spec();
    let new = list(&[4, 5, 6]);
    // The retired committee signs a genuine later head: its own proof shows that it was replaced.
    let retired = Scene::late(START + 3, &[1, 2]).with(START + 1, new.clone());
    let over = retired.step(&spec, START, START + 3, vec![]);
    assert!(matches!(refused(&spec, &over, None), StepError::Skipped(epoch) if epoch == START + 1));
    let onto = retired.step(&spec, START, START + 1, new);
    assert!(
        matches!(refused(&spec, &onto, None), StepError::Retired { replaced, .. } if replaced == START + 1)
    );
    // Leaving a slot unproven is no way round.
    let mut hidden = Scene::late(START + 3, &[1, 2]).step(&spec, START, START + 2, vec![]);
    hidden.last = START + 3;
    assert!(matches!(refused(&spec, &hidden, None), StepError::Bundle(_)));
}

#[test]
fn past_the_trusting_period_nobody_vouches_for_anybody() {
    let spec = spec();
    let new = list(&[4, 5, 6]);
    let step = Scene::late(START, &[1, 2]).with(START + 1, new.clone()).step(&spec, START, START + 1, new);
    let ends = u64::from(START + 1) * LENGTH + 700;
    assert!(verify_step(&spec, &Committees::first(&spec), Some(ends), &step).is_ok());
    let late = refused(&spec, &step, Some(ends + 1));
    assert_eq!(late, StepError::Expired { through: START, period: 700 });
    assert!(late.to_string().contains("newer chain spec"), "{late}");
}

#[test]
fn steps_go_forward_and_have_a_bound() {
    let spec = spec();
    let scene = Scene::late(START + 90, &[1, 2]);
    for last in [0, START, START + MAX_STEP_EPOCHS + 1, u32::MAX] {
        let mut step = scene.step(&spec, START, START + 1, vec![]);
        step.last = last;
        assert!(matches!(refused(&spec, &step, None), StepError::Length { .. }), "{last}");
    }
    let longest = scene.step(&spec, START, START + MAX_STEP_EPOCHS, vec![]);
    assert!(verify_step(&spec, &Committees::first(&spec), None, &longest).is_ok());
    // An older head than what was walked to.
    let mut committees = Committees::first(&spec);
    walked(&spec, &mut committees, &longest, None);
    let back = Scene::late(START + 2, &[1, 2]).step(
        &spec,
        START + MAX_STEP_EPOCHS,
        START + MAX_STEP_EPOCHS + 1,
        vec![],
    );
    assert!(matches!(verify_step(&spec, &committees, None, &back), Err(StepError::Early { .. })));
}

#[test]
fn a_walk_is_taken_up_where_it_ended_and_never_before_the_spec() {
    let spec = spec();
    let new = list(&[4, 5, 6]);
    let resumed = Committees::resume(&spec, new.clone(), START + 2, START + 5).unwrap();
    assert_eq!((resumed.through(), resumed.latest().from()), (START + 5, START + 2));
    assert_eq!(Committees::resume(&spec, new.clone(), 0, START - 1), None);
    assert_eq!(Committees::resume(&spec, new, START + 6, START + 5), None);
    assert_eq!(Committees::resume(&spec, vec![], START, START + 5), None);
}

#[test]
fn who_reads_the_registry_walks_by_value_and_list() {
    let spec = spec();
    let mut committees = Committees::first(&spec);
    let mut newest = Vec::new();
    for round in 0..12u8 {
        newest = list(&[round + 20, round + 40]);
        committees.advance(committee_hash(&newest), &newest).unwrap();
        committees.advance(B256::ZERO, &[]).unwrap();
    }
    assert_eq!((committees.through(), committees.latest().members()), (START + 24, &newest[..]));
    assert!(committees.advance(B256::repeat_byte(1), &newest).is_err());
    assert_eq!(committees.terms.len(), REMEMBERED, "memory is bounded");
    assert_eq!(committees.of(START), None);
}
