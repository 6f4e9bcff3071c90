//! Random histories of a chain against a naive model: whatever happens, the mirror is the chain's final state.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::store::{Store, View};
use crate::testing::{self, FakeChain};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use windlass_protocol::B256;
use windlass_protocol::spec::VerifiedSpec;

mod rebuild;
mod vouched;

fn word(byte: u8) -> B256 {
    B256::with_last_byte(byte)
}

fn changes(pairs: &[(u8, u8)]) -> Vec<(B256, B256)> {
    pairs.iter().map(|(slot, value)| (word(*slot), word(*value))).collect()
}

/// A chain, the directory of its mirror, and the follower between them.
struct World {
    chain: Arc<FakeChain>,
    spec: Arc<VerifiedSpec>,
    directory: tempfile::TempDir,
    follower: Option<Follower<FakeChain>>,
    store: Option<Arc<Store>>,
}

impl World {
    fn new() -> Self {
        Self::of(testing::spec(3).0)
    }

    fn of(spec: VerifiedSpec) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut world =
            Self { chain: FakeChain::new(), spec: Arc::new(spec), directory, follower: None, store: None };
        world.restart();
        world
    }

    fn restart(&mut self) {
        self.follower = None;
        self.store = None;
        let path: &Path = self.directory.path();
        let store = Arc::new(Store::open(path, &self.spec).unwrap());
        self.follower = Some(Follower::new(self.chain.clone(), store.clone(), self.spec.clone()).unwrap());
        self.store = Some(store);
    }

    /// kill -9: what is on disk at this moment, write-ahead log and all, is what the next start finds; the last
    /// `torn` bytes of the log may never have got there.
    fn crash(&mut self, torn: u64) {
        let image = image_of(self.directory.path());
        let logs = std::fs::read_dir(image.path()).unwrap().map(|entry| entry.unwrap().path());
        if let Some(log) = logs.filter(|path| path.extension().is_some_and(|it| it == "log")).max() {
            let bytes = std::fs::metadata(&log).unwrap().len();
            let file = std::fs::File::options().write(true).open(&log).unwrap();
            file.set_len(bytes.saturating_sub(torn)).unwrap();
        }
        self.follower = None;
        self.store = None;
        self.directory = image;
        self.restart();
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    async fn step(&mut self) -> Result<(), FollowError> {
        self.follower.as_mut().unwrap().step().await
    }

    /// Steps until a round succeeds and what it left can be proven: a rebuild takes a second round, and so does an
    /// account proof that wasn't to be had in the first.
    async fn settle(&mut self) {
        let state = self.follower.as_ref().unwrap().state();
        for _ in 0..16 {
            let stepped = self.step().await.is_ok();
            let proven = state.borrow().attestable.map(|head| head.position);
            if stepped && proven == self.store().cursor().unwrap() {
                return;
            }
        }
        panic!("the follower didn't recover: {:?}", self.step().await);
    }

    /// The mirror is the final state of the chain, no more and no less.
    fn check(&self) {
        let finalised = self.chain.finalised();
        if finalised < self.spec.deploy_block {
            assert_eq!(self.store().cursor().unwrap(), None);
            return;
        }
        let cursor = self.store().cursor().unwrap().unwrap();
        assert_eq!(cursor.number, finalised);
        let view = View::new(self.store(), cursor.number, self.store().generation());
        let expected = self.chain.slots(finalised);
        for slot in 0..8 {
            let value = expected.get(&word(slot)).copied().unwrap_or_default();
            assert_eq!(view.value(&word(slot)).unwrap(), value, "slot {slot} at {finalised}");
        }
        assert_eq!(view.root().unwrap(), root(&expected));
        let state = self.follower.as_ref().unwrap().state();
        assert_eq!(state.borrow().attestable.map(|head| head.position), Some(cursor));
        assert_eq!(self.store().tail().unwrap().len() as u64, self.chain.height() - finalised);
        self.check_window(cursor.number);
    }

    /// Every height that can be proven reads as the chain was then.
    fn check_window(&self, newest: u64) {
        for number in self.store().proven_heights(newest.saturating_sub(2)).unwrap() {
            let view = View::new(self.store(), number, self.store().generation());
            let expected = self.chain.slots(number);
            for slot in 0..8 {
                let value = expected.get(&word(slot)).copied().unwrap_or_default();
                assert_eq!(view.value(&word(slot)).unwrap(), value, "slot {slot} at {number}");
            }
            view.check().unwrap();
        }
    }
}

/// A folder's files as they are at one moment: RocksDB clears away behind itself what it no longer needs, so a copy
/// during which files went or came is taken anew.
fn image_of(folder: &Path) -> tempfile::TempDir {
    let names = || {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        entries.collect::<std::collections::BTreeSet<_>>()
    };
    loop {
        let (image, before) = (tempfile::tempdir().unwrap(), names());
        let copied =
            before.iter().all(|name| std::fs::copy(folder.join(name), image.path().join(name)).is_ok());
        if copied && names() == before {
            return image;
        }
    }
}

fn root(slots: &BTreeMap<B256, B256>) -> B256 {
    use windlass_protocol::trie::{MemoryStore, slot_change, update};
    let leaves =
        slots.iter().map(|(slot, value)| (windlass_protocol::keccak256(slot), slot_change(value))).collect();
    update(&mut MemoryStore::new(), B256::ZERO, &leaves).unwrap()
}

/// What may happen to a chain, a provider, a process and its disk.
#[derive(Clone, Debug)]
enum Action {
    Extend(Vec<(u8, u8)>),
    Reorg(usize, Vec<(u8, u8)>),
    Finalise(u64),
    Restart,
    /// kill -9, the last bytes of the log lost.
    Kill(u64),
    DropLog,
    RepeatLog,
    ForgeLog,
    ForgeAccount,
    WithholdAccount(usize),
    /// Behind by so many blocks for one round.
    Lag(usize),
    /// So many answers fail.
    Fail(usize),
    /// kill -9 with everything above going on: in the middle of a round.
    KillMidRound(usize),
    /// So many final blocks are others now, and more follow: what only the one provider of a development chain may do.
    TakeBack(u64, Vec<(u8, u8)>),
    /// The operator asks for the mirror to be built anew.
    Rebuild,
}

const ACTIONS: [&str; 15] = [
    "extend",
    "reorg",
    "finalise",
    "restart",
    "kill -9",
    "drop log",
    "repeat log",
    "forge log",
    "forge account",
    "withhold account",
    "lag",
    "fail",
    "kill -9 in a round",
    "take back final blocks",
    "rebuild beside",
];

impl Action {
    fn name(&self) -> &'static str {
        let index = match self {
            Self::Extend(_) => 0,
            Self::Reorg(..) => 1,
            Self::Finalise(_) => 2,
            Self::Restart => 3,
            Self::Kill(_) => 4,
            Self::DropLog => 5,
            Self::RepeatLog => 6,
            Self::ForgeLog => 7,
            Self::ForgeAccount => 8,
            Self::WithholdAccount(_) => 9,
            Self::Lag(_) => 10,
            Self::Fail(_) => 11,
            Self::KillMidRound(_) => 12,
            Self::TakeBack(..) => 13,
            Self::Rebuild => 14,
        };
        ACTIONS[index]
    }

    async fn run(&self, world: &mut World) {
        let chain = world.chain.clone();
        match self {
            Self::Extend(pairs) => chain.extend(changes(pairs)),
            Self::Reorg(depth, pairs) => {
                chain.reorg(*depth);
                chain.extend(changes(pairs));
            }
            Self::Finalise(blocks) => chain.finalise(*blocks),
            Self::Restart => world.restart(),
            Self::Kill(torn) => world.crash(*torn),
            Self::DropLog => {
                chain.drop_logs(1);
                chain.extend(changes(&[(1, 1), (2, 3)]));
            }
            Self::RepeatLog => {
                chain.repeat_logs(1);
                chain.extend(changes(&[(3, 3)]));
            }
            Self::ForgeLog => {
                chain.forge_logs(1);
                chain.extend(changes(&[(4, 1)]));
            }
            Self::ForgeAccount => {
                chain.forge_accounts(1);
                chain.extend(changes(&[(5, 2)]));
            }
            Self::WithholdAccount(answers) => chain.withhold_accounts(*answers),
            Self::Lag(blocks) => {
                // A provider that is behind: whatever comes of the round, nothing may be lost.
                chain.lag(*blocks);
                let _ = world.step().await;
                chain.lag(0);
            }
            Self::Fail(answers) => {
                chain.fail(*answers);
                // Failures after the round are the next rounds'.
                let _ = world.step().await;
            }
            Self::TakeBack(blocks, pairs) => {
                let (height, finalised) = (chain.height(), chain.finalised());
                chain.break_finality(finalised.saturating_sub(*blocks));
                // Higher than before, or it would be taken for a provider that lags.
                while chain.height() <= height {
                    chain.extend(changes(pairs));
                }
                chain.finalise(*blocks + 1);
            }
            Self::Rebuild => {
                if world.chain.finalised() >= world.spec.deploy_block {
                    world.settle().await;
                    world.request_rebuild();
                    world.rebuild().await;
                }
            }
            Self::KillMidRound(answers) => {
                for value in 0..3 {
                    chain.extend(changes(&[(6, value), (7, value)]));
                }
                chain.finalise(2);
                // The round breaks off between two blocks; what it wrote so far is all there is.
                chain.fail_after(*answers);
                let _ = world.step().await;
                world.crash(0);
                chain.fail(0);
            }
        }
    }
}

fn pairs() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((0..8u8, 0..4u8), 0..4)
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => pairs().prop_map(Action::Extend),
        6 => (1..5usize, pairs()).prop_map(|(depth, pairs)| Action::Reorg(depth, pairs)),
        6 => (1..4u64).prop_map(Action::Finalise),
        2 => Just(Action::Restart),
        2 => (0..4_000u64).prop_map(Action::Kill),
        1 => Just(Action::DropLog),
        2 => Just(Action::RepeatLog),
        1 => Just(Action::ForgeLog),
        2 => Just(Action::ForgeAccount),
        2 => (1..3usize).prop_map(Action::WithholdAccount),
        3 => (1..4usize).prop_map(Action::Lag),
        3 => (1..9usize).prop_map(Action::Fail),
        2 => (0..12usize).prop_map(Action::KillMidRound),
        2 => (1..12u64, pairs()).prop_map(|(blocks, pairs)| Action::TakeBack(blocks, pairs)),
        1 => Just(Action::Rebuild),
    ]
}

/// The mean length of the histories below.
const HISTORY: u32 = 40;

/// After every step of every history the mirror is a replay of the chain, and its root the chain's.
/// `WINDLASS_STEPS` for more than the 2,000 of the short form.
#[test]
fn random_histories_leave_the_chains_final_state() {
    let steps = std::env::var("WINDLASS_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let counts = RefCell::new(BTreeMap::<&str, usize>::new());
    let rebuilds = RefCell::new(0);
    let config = Config { cases: steps / HISTORY, failure_persistence: None, ..Config::default() };
    let histories = prop::collection::vec(action(), HISTORY as usize - 20..HISTORY as usize + 20);
    let outcome = TestRunner::new(config).run(&histories, |actions| {
        let mut world = World::new();
        runtime.block_on(async {
            for action in &actions {
                *counts.borrow_mut().entry(action.name()).or_default() += 1;
                action.run(&mut world).await;
                world.settle().await;
                world.check();
            }
        });
        *rebuilds.borrow_mut() += world.chain.distrusted();
        Ok(())
    });
    let total: usize = counts.borrow().values().sum();
    println!("{total} steps: {:?}, rebuilds or doubts: {}", counts.borrow(), rebuilds.borrow());
    outcome.unwrap();
    for name in ACTIONS {
        let count = counts.borrow().get(name).copied().unwrap_or_default();
        assert!(count >= total / 100, "{name} was rare: {count} of {total}");
    }
    assert!(*rebuilds.borrow() >= total / 100, "false logs and proofs were rarely noticed");
}

#[tokio::test]
async fn a_first_sync_asks_for_less_until_the_provider_answers() {
    let mut world = World::new();
    for number in 0..200u8 {
        world.chain.extend(changes(&[(number % 8, number % 5)]));
    }
    world.chain.finalise(200);
    world.chain.limit_ranges(7);
    world.settle().await;
    world.check();
    assert_eq!(world.chain.distrusted(), 0);
}

#[tokio::test]
async fn a_dropped_log_is_never_served_and_costs_nothing_that_was_proven() {
    let mut world = World::new();
    world.chain.extend(changes(&[(1, 1)]));
    world.chain.finalise(1);
    world.settle().await;
    let generation = world.store().generation();
    for lie in [FakeChain::drop_logs, FakeChain::forge_logs] {
        let proven = world.store().cursor().unwrap();
        lie(&world.chain, 1);
        world.chain.extend(changes(&[(1, 2), (2, 2)]));
        world.chain.finalise(1);
        let state = world.follower.as_ref().unwrap().state();
        let before = world.chain.distrusted();
        let error = world.step().await.unwrap_err().to_string();
        assert!(error.contains("the chain proves") && error.contains("anew"), "{error}");
        assert_eq!(world.chain.distrusted(), before + 1, "another provider is asked next");
        // What was proven goes on being served, and nothing else is.
        assert_eq!(world.store().cursor().unwrap(), proven);
        assert_eq!(state.borrow().attestable.map(|head| head.position), proven);
        assert_eq!(world.store().tail().unwrap().len(), 0);
        world.settle().await;
        world.check();
        assert_eq!(world.store().generation(), generation, "and nobody who reads is disturbed");
    }
}

#[tokio::test]
async fn a_chain_whose_roots_no_logs_lead_to_is_said_to_be_none_of_ours() {
    let mut world = World::new();
    world.chain.extend(changes(&[(1, 1)]));
    world.chain.finalise(1);
    world.settle().await;
    world.chain.drop_logs(usize::MAX);
    world.chain.extend(changes(&[(2, 2)]));
    world.chain.finalise(1);
    for times in 1..=2 * crate::limits::MISMATCHES {
        let error = world.step().await.unwrap_err().to_string();
        assert_eq!(error.contains("not eligible"), times >= crate::limits::MISMATCHES, "{times}: {error}");
        assert_eq!(world.store().cursor().unwrap().unwrap().number, 1);
    }
    world.chain.drop_logs(0);
    world.settle().await;
    world.check();
}

#[tokio::test]
async fn a_lie_that_shows_only_later_costs_what_came_after_the_last_proof_and_no_more() {
    let mut world = World::new();
    for value in 1..4 {
        world.chain.extend(changes(&[(1, value), (value, 7)]));
        world.chain.finalise(1);
        world.settle().await;
    }
    let (proven, generation) = (world.store().cursor().unwrap().unwrap(), world.store().generation());
    // A log is left out, and the proof that would have shown it withheld; the next one shows it.
    world.chain.drop_logs(1);
    world.chain.withhold_accounts(usize::MAX);
    world.chain.extend(changes(&[(4, 4), (5, 5)]));
    world.chain.finalise(1);
    world.step().await.unwrap();
    assert_eq!(world.store().cursor().unwrap().unwrap().number, proven.number + 1);
    let state = world.follower.as_ref().unwrap().state();
    assert_eq!(state.borrow().attestable.unwrap().position, proven, "what isn't proven isn't attested");
    assert!(state.borrow().unproven.as_ref().unwrap().contains("no account proof at block 4"));
    world.chain.withhold_accounts(0);
    world.chain.extend(changes(&[(6, 6)]));
    world.chain.finalise(1);
    let error = world.step().await.unwrap_err();
    assert!(
        matches!(error, FollowError::Contradiction { from: Some(from), .. } if from == proven.number),
        "{error}"
    );
    assert_eq!((state.borrow().phase, state.borrow().attestable), (Phase::Rebuilding, None));
    assert_eq!(world.store().generation(), generation + 1, "who reads learns of it");
    assert_eq!(world.store().cursor().unwrap(), Some(proven));
    world.settle().await;
    world.check();
    assert_eq!(state.borrow().unproven, None);
}

#[tokio::test]
async fn a_lie_in_a_catch_up_does_not_cost_the_mirror_it_began_with() {
    let mut world = World::new();
    world.chain.extend(changes(&[(1, 1), (2, 2)]));
    world.chain.finalise(1);
    world.settle().await;
    let proven = world.store().cursor().unwrap();
    for number in 0..200u8 {
        // Each writes a slot of its own, so that nothing later covers up what is left out.
        world.chain.extend(changes(&[(number % 8, number % 5), (number + 50, 1)]));
    }
    world.chain.finalise(200);
    // In several ranges: what is false is mirrored before it shows.
    world.chain.limit_ranges(50);
    world.chain.drop_ranges(1);
    let error = world.step().await.unwrap_err();
    assert!(matches!(error, FollowError::Contradiction { from: Some(1), .. }), "{error}");
    assert_eq!(world.store().cursor().unwrap(), proven);
    world.settle().await;
    world.check();
    // A first sync has nothing to go back to.
    let chain = world.chain.clone();
    let mut world = World::new();
    world.chain = chain;
    world.restart();
    world.chain.drop_ranges(1);
    let error = world.step().await.unwrap_err();
    assert!(matches!(error, FollowError::Contradiction { from: None, .. }), "{error}");
    world.settle().await;
    world.check();
}

#[tokio::test]
async fn a_final_block_that_changes_stops_the_serving() {
    let mut world = World::new();
    for value in 1..4 {
        world.chain.extend(changes(&[(1, value)]));
    }
    world.chain.finalise(3);
    world.settle().await;
    world.chain.break_finality(1);
    for value in 5..9 {
        world.chain.extend(changes(&[(1, value)]));
    }
    world.chain.finalise(4);
    assert!(matches!(world.step().await, Err(FollowError::Contradiction { .. })));
    world.settle().await;
    world.check();

    // The same while the node was down.
    world.chain.break_finality(2);
    world.chain.extend(changes(&[(1, 9)]));
    for value in 5..9 {
        world.chain.extend(changes(&[(2, value)]));
    }
    world.chain.finalise(5);
    world.restart();
    assert!(matches!(world.step().await, Err(FollowError::Contradiction { .. })));
    world.settle().await;
    world.check();
}

#[tokio::test]
async fn nothing_is_attestable_before_the_registry_is_deployed() {
    let mut world = World::new();
    world.settle().await;
    world.check();
    let state = world.follower.as_ref().unwrap().state();
    assert!(state.borrow().attestable.is_none() && state.borrow().latest.is_some());
}

#[tokio::test]
async fn a_restart_takes_up_the_tail_without_asking_again() {
    let mut world = World::new();
    for value in 1..6 {
        world.chain.extend(changes(&[(1, value)]));
    }
    world.chain.finalise(2);
    world.settle().await;
    world.restart();
    // A provider that would now answer wrongly isn't asked for what is in the tail.
    world.chain.drop_logs(100);
    world.chain.finalise(3);
    world.settle().await;
    world.check();
    assert_eq!(world.chain.distrusted(), 0);
}

#[tokio::test]
async fn served_heights_stay_readable_until_they_are_released() {
    let mut world = World::new();
    for value in 1..30 {
        world.chain.extend(changes(&[(1, value)]));
        world.chain.finalise(1);
        world.settle().await;
    }
    let at = |height| View::new(world.store(), height, 0);
    assert_eq!(at(10).value(&word(1)).unwrap(), word(10));
    assert!(at(10).check().is_ok());
    world.store().release_below(20);
    world.chain.extend(changes(&[(1, 99)]));
    world.chain.finalise(1);
    world.settle().await;
    let at = |height| View::new(world.store(), height, 0);
    assert!(at(19).check().is_err());
    assert_eq!(at(20).value(&word(1)).unwrap(), word(20));
    assert!(at(20).check().is_ok());
}

#[tokio::test]
async fn an_account_proof_that_was_withheld_is_asked_for_again() {
    let mut world = World::new();
    world.chain.extend(changes(&[(1, 1)]));
    world.chain.finalise(1);
    // While catching up, and once more right after.
    world.chain.withhold_accounts(2);
    world.step().await.unwrap();
    let state = world.follower.as_ref().unwrap().state();
    assert_eq!(state.borrow().attestable, None);
    world.settle().await;
    world.check();
}

#[tokio::test]
async fn a_provider_of_another_chain_costs_nothing_that_was_mirrored() {
    let mut world = World::new();
    for value in 1..4 {
        world.chain.extend(changes(&[(1, value)]));
    }
    world.chain.finalise(3);
    world.settle().await;
    let before = world.store().cursor().unwrap();
    world.chain.replace();
    assert!(matches!(world.step().await, Err(FollowError::Source(_))));
    assert_eq!(world.store().cursor().unwrap(), before);
    let state = world.follower.as_ref().unwrap().state();
    assert!(state.borrow().attestable.is_some(), "what was proven stays provable");
}

#[tokio::test]
async fn a_tail_that_would_grow_too_long_is_not_kept_at_all() {
    let mut world = World::new();
    world.chain.extend(changes(&[(1, 1)]));
    world.chain.finalise(1);
    world.settle().await;
    world.follower.as_mut().unwrap().most_tail = 5;
    for value in 0..5 {
        world.chain.extend(changes(&[(2, value)]));
    }
    world.step().await.unwrap();
    for value in 0..3 {
        world.chain.extend(changes(&[(2, value)]));
        assert!(matches!(world.step().await, Err(FollowError::Stalled(_))));
        assert_eq!(world.store().tail().unwrap().len(), 5);
    }
    assert_eq!(world.chain.distrusted(), 3, "another provider may know better");
    world.chain.finalise(4);
    world.settle().await;
    world.check();
}

#[tokio::test]
async fn a_provider_that_is_behind_our_base_is_left() {
    let mut world = World::new();
    for value in 1..4 {
        world.chain.extend(changes(&[(1, value)]));
    }
    world.chain.finalise(3);
    world.settle().await;
    world.restart();
    world.chain.lag(2);
    assert!(matches!(world.step().await, Err(FollowError::Source(_))));
    assert_eq!(world.chain.distrusted(), 1);
    world.chain.lag(0);
    world.settle().await;
    world.check();
}

/// A fork of the final chain from block 1 on, longer than the chain.
fn fork(world: &World) {
    world.chain.break_finality(1);
    for value in 5..9 {
        world.chain.extend(changes(&[(1, value)]));
    }
    world.chain.finalise(4);
}

async fn three_final_blocks(world: &mut World) {
    for value in 1..4 {
        world.chain.extend(changes(&[(1, value)]));
        world.chain.finalise(1);
        world.settle().await;
    }
}

#[tokio::test]
async fn one_providers_fork_does_not_cost_a_mirror_that_another_confirms() {
    let mut world = World::new();
    three_final_blocks(&mut world).await;
    let (before, generation) = (world.store().cursor().unwrap(), world.store().generation());
    // What is asked for now comes from a fork, while another provider still has our block as final.
    world.chain.confirm(before.unwrap());
    fork(&world);
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        assert!(matches!(world.step().await, Err(FollowError::Source(_))));
        assert_eq!((world.store().cursor().unwrap(), world.store().generation()), (before, generation));
        if !restarted {
            let state = world.follower.as_ref().unwrap().state();
            assert!(state.borrow().attestable.is_some(), "what was proven stays provable");
        }
    }
    assert_eq!(world.chain.distrusted(), 2);
}

#[tokio::test]
async fn one_providers_word_against_a_proven_mirror_stops_the_serving_and_changes_nothing() {
    let mut world = World::of(testing::spec_with(3, |spec| spec.dev = false).0);
    three_final_blocks(&mut world).await;
    let (before, generation) = (world.store().cursor().unwrap(), world.store().generation());
    let honest = world.chain.image();
    fork(&world);
    let mut state = world.follower.as_ref().unwrap().state();
    for round in 0..4 {
        let error = world.step().await.unwrap_err();
        assert!(matches!(error, FollowError::Disputed(_)), "{error}");
        assert!(error.to_string().contains("name more in `providers`") && !error.to_string().contains('\n'));
        assert_eq!((world.store().cursor().unwrap(), world.store().generation()), (before, generation));
        assert_eq!((state.borrow().phase, state.borrow().attestable), (Phase::Disputed, None));
        if round == 1 {
            world.restart();
            state = world.follower.as_ref().unwrap().state();
        }
    }
    // It comes back to the chain: nothing was lost.
    world.chain.restore(honest.clone());
    world.step().await.unwrap();
    assert_eq!(state.borrow().attestable.unwrap().position, before.unwrap());
    assert_eq!(state.borrow().phase, Phase::Following);

    // A second one that says the same decides: what both chains share is kept.
    fork(&world);
    world.chain.agree(1);
    let error = world.step().await.unwrap_err();
    assert!(matches!(error, FollowError::Contradiction { from: Some(1), .. }), "{error}");
    assert_eq!(world.store().generation(), generation + 1);
    world.settle().await;
    let cursor = world.store().cursor().unwrap().unwrap();
    assert_eq!((cursor.number, cursor.hash), (5, world.chain.hash(5)));
}

#[tokio::test]
async fn a_final_block_that_most_providers_contradict_is_not_mirrored() {
    let mut world = World::new();
    three_final_blocks(&mut world).await;
    let before = world.store().cursor().unwrap();
    let honest = world.chain.image();
    // The one that is asked goes its own way above what is final; two others don't.
    world.chain.extend(changes(&[(1, 7)]));
    world.chain.finalise(1);
    for (others, distrusted) in [(1, 0), (2, 1)] {
        // One against one decides nothing: neither is believed.
        world.chain.contradict(others);
        let error = world.step().await.unwrap_err().to_string();
        assert!(error.contains("for 1 provider and another one for"), "{error}");
        assert_eq!(world.store().cursor().unwrap(), before);
        assert_eq!(world.chain.distrusted(), distrusted);
        let state = world.follower.as_ref().unwrap().state();
        assert!(state.borrow().attestable.is_some(), "what was proven stays provable");
    }
    world.chain.contradict(0);
    world.chain.restore(honest);
    world.settle().await;
    world.check();
}
