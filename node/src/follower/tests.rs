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
        let (spec, _) = testing::spec(3);
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

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    async fn step(&mut self) -> Result<(), FollowError> {
        self.follower.as_mut().unwrap().step().await
    }

    /// Steps until a round succeeds; a rebuild needs a second one.
    async fn settle(&mut self) {
        for _ in 0..4 {
            if self.step().await.is_ok() {
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
    }
}

fn root(slots: &BTreeMap<B256, B256>) -> B256 {
    use windlass_protocol::trie::{MemoryStore, slot_change, update};
    let leaves =
        slots.iter().map(|(slot, value)| (windlass_protocol::keccak256(slot), slot_change(value))).collect();
    update(&mut MemoryStore::new(), B256::ZERO, &leaves).unwrap()
}

#[derive(Clone, Debug)]
enum Action {
    Extend(Vec<(u8, u8)>),
    Reorg(usize, Vec<(u8, u8)>),
    Finalise(u64),
    Restart,
    DropLog,
    RepeatLog,
    Lag(usize),
}

impl Action {
    fn name(&self) -> &'static str {
        match self {
            Self::Extend(_) => "extend",
            Self::Reorg(..) => "reorg",
            Self::Finalise(_) => "finalise",
            Self::Restart => "restart",
            Self::DropLog => "drop log",
            Self::RepeatLog => "repeat log",
            Self::Lag(_) => "lag",
        }
    }

    async fn run(&self, world: &mut World) {
        match self {
            Self::Extend(pairs) => world.chain.extend(changes(pairs)),
            Self::Reorg(depth, pairs) => {
                world.chain.reorg(*depth);
                world.chain.extend(changes(pairs));
            }
            Self::Finalise(blocks) => world.chain.finalise(*blocks),
            Self::Restart => world.restart(),
            Self::DropLog => {
                world.chain.drop_logs(1);
                world.chain.extend(changes(&[(1, 1), (2, 3)]));
            }
            Self::RepeatLog => {
                world.chain.repeat_logs(1);
                world.chain.extend(changes(&[(3, 3)]));
            }
            Self::Lag(blocks) => {
                // A provider that is behind: whatever comes of the round, nothing may be lost.
                world.chain.lag(*blocks);
                let _ = world.step().await;
                world.chain.lag(0);
            }
        }
    }
}

fn pairs() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((0..8u8, 0..4u8), 0..4)
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => pairs().prop_map(Action::Extend),
        3 => (1..5usize, pairs()).prop_map(|(depth, pairs)| Action::Reorg(depth, pairs)),
        3 => (1..4u64).prop_map(Action::Finalise),
        2 => Just(Action::Restart),
        1 => Just(Action::DropLog),
        1 => Just(Action::RepeatLog),
        2 => (1..4usize).prop_map(Action::Lag),
    ]
}

#[test]
fn random_histories_leave_the_chains_final_state() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let counts = RefCell::new(BTreeMap::<&str, usize>::new());
    let rebuilds = RefCell::new(0);
    let mut runner = TestRunner::new(Config {
        cases: Config::default().cases / 20,
        failure_persistence: None,
        ..Config::default()
    });
    let histories = prop::collection::vec(action(), 20..50);
    let outcome = runner.run(&histories, |actions| {
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
    println!("actions: {:?}, rebuilds: {}", counts.borrow(), rebuilds.borrow());
    outcome.unwrap();
    for name in ["extend", "reorg", "finalise", "restart", "drop log", "repeat log", "lag"] {
        assert!(counts.borrow().get(name).copied().unwrap_or_default() >= 10, "{name} was rare");
    }
    assert!(*rebuilds.borrow() >= 3, "dropped logs were rarely noticed");
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
async fn a_dropped_log_is_never_served_and_rebuilt_from_another_provider() {
    let mut world = World::new();
    world.chain.extend(changes(&[(1, 1)]));
    world.chain.finalise(1);
    world.settle().await;
    world.chain.drop_logs(1);
    world.chain.extend(changes(&[(1, 2), (2, 2)]));
    world.chain.finalise(1);
    let state = world.follower.as_ref().unwrap().state();
    assert!(matches!(world.step().await, Err(FollowError::Contradiction(..))));
    assert_eq!(state.borrow().phase, Phase::Rebuilding);
    assert_eq!(state.borrow().attestable, None);
    assert_eq!(world.chain.distrusted(), 1);
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
    assert!(matches!(world.step().await, Err(FollowError::Contradiction(..))));
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
    assert!(matches!(world.step().await, Err(FollowError::Contradiction(..))));
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
    world.settle().await;
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
