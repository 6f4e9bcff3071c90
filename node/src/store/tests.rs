//! The data directory: who may open it, what it keeps, what it prunes.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing;
use proptest::prelude::*;
use std::collections::BTreeMap;
use windlass_protocol::B256;

fn position(number: u64) -> Position {
    Position { number, hash: B256::with_last_byte(number as u8) }
}

fn block(number: u64, changes: Vec<(B256, B256)>) -> FinalBlock {
    FinalBlock { position: position(number), header: vec![number as u8].into(), changes, account: None }
}

fn word(byte: u8) -> B256 {
    B256::with_last_byte(byte)
}

#[test]
fn a_second_node_on_one_directory_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let (spec, _) = testing::spec(3);
    let _first = Store::open(directory.path(), &spec).unwrap();
    let error = Store::open(directory.path(), &spec).err().unwrap();
    assert!(matches!(error, StoreError::Locked(_)), "{error}");
    assert!(error.to_string().contains("in use by another node") && !error.to_string().contains('\n'));
}

#[test]
fn a_directory_of_another_network_or_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (spec, _) = testing::spec(3);
    drop(Store::open(directory.path(), &spec).unwrap());
    let (other, _) = testing::spec_with(3, |spec| spec.chain_id = 2);
    let error = Store::open(directory.path(), &other).err().unwrap();
    assert!(matches!(error, StoreError::OtherSpec { found, .. } if found == spec.hash()), "{error}");

    let store = Store::open(directory.path(), &spec).unwrap();
    let mut batch = store.batch();
    batch.put_raw(Family::Meta, b"schema", &rlp::encode(&99u64));
    batch.commit(Durability::Disk).unwrap();
    drop(store);
    let error = Store::open(directory.path(), &spec).err().unwrap();
    assert!(matches!(error, StoreError::Schema { found: 99, .. }), "{error}");
}

#[test]
fn a_block_with_the_wrong_root_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (spec, _) = testing::spec(3);
    let store = Store::open(directory.path(), &spec).unwrap();
    store.apply(&block(1, vec![(word(1), word(1))]), 0, Durability::Process).unwrap();
    let mut wrong = block(2, vec![(word(1), word(2))]);
    wrong.account = Some((Vec::new(), word(9)));
    let refused = store.apply(&wrong, 0, Durability::Process);
    assert!(matches!(refused, Err(ApplyError::RootMismatch { number: 2, .. })));
    assert_eq!(store.cursor().unwrap(), Some(position(1)));
    assert_eq!(View::new(&store, 9, 0).value(&word(1)).unwrap(), word(1));
}

#[test]
fn clearing_the_mirror_keeps_what_the_chain_cannot_tell() {
    let directory = tempfile::tempdir().unwrap();
    let (spec, _) = testing::spec(3);
    let store = Store::open(directory.path(), &spec).unwrap();
    let mut batch = store.batch();
    batch.put::<Signed>(&(), &position(5));
    batch.commit(Durability::Disk).unwrap();
    store.apply(&block(1, vec![(word(1), word(1))]), 0, Durability::Process).unwrap();
    let before = View::new(&store, 1, store.generation());
    store.clear_mirror().unwrap();
    assert!(before.check().is_err(), "a reader under way must notice");
    assert_eq!(store.cursor().unwrap(), None);
    assert_eq!(View::new(&store, 1, store.generation()).value(&word(1)).unwrap(), B256::ZERO);
    assert_eq!(store.get::<Signed>(&()).unwrap(), Some(position(5)));
}

#[test]
fn one_block_is_one_batch_with_its_cursor() {
    let directory = tempfile::tempdir().unwrap();
    let (spec, _) = testing::spec(3);
    let store = Store::open(directory.path(), &spec).unwrap();
    store.apply(&block(1, vec![(word(1), word(1))]), 0, Durability::Process).unwrap();
    // What a crash can cut the log down to: whole batches.
    let (before, _) = store.batches_since(0);
    store.apply(&block(2, vec![(word(1), word(2)), (word(2), word(2))]), 1, Durability::Process).unwrap();
    let (_, batches) = store.batches_since(before);
    assert_eq!(batches.len(), 1, "one entry of the log, which is there whole or not at all");
    assert!(batches[0] > 6, "two slots, trie nodes, header, cursor, what is pruned: {}", batches[0]);
    assert_eq!(store.cursor().unwrap(), Some(position(2)));
}

#[test]
fn a_directory_that_cannot_be_locked_is_not_said_to_be_in_use() {
    let directory = tempfile::tempdir().unwrap();
    // Rights mean nothing to root, who may run this; that it is no file does.
    std::fs::create_dir(directory.path().join("LOCK")).unwrap();
    let error = Store::open(directory.path(), &testing::spec(3).0).err().unwrap();
    assert!(matches!(error, StoreError::Disk { .. }), "{error}");
}

#[test]
fn a_rewound_mirror_is_what_it_was_and_goes_on_as_if_nothing_had_been_above() {
    let directory = tempfile::tempdir().unwrap();
    let (spec, _) = testing::spec(3);
    let store = Store::open(directory.path(), &spec).unwrap();
    let writes = |number: u64| -> Vec<_> {
        // Set, overwritten, deleted and set again, each at another height.
        (0..6u8)
            .map(|slot| (word(slot), word(if number.is_multiple_of(3) { 0 } else { slot + number as u8 })))
            .collect()
    };
    for number in 1..=4 {
        store.apply(&block(number, writes(number)), 2, Durability::Process).unwrap();
    }
    let view = |height| View::new(&store, height, store.generation());
    let (before, reader) = (view(2).root().unwrap(), view(4));
    for number in 5..=9 {
        store.apply(&block(number, writes(number + 1)), 2, Durability::Process).unwrap();
    }
    assert!(store.reaches_back_to(2) && !store.reaches_back_to(1));
    store.rewind_to(position(2)).unwrap();
    assert!(reader.check().is_err(), "a reader under way must notice");
    assert_eq!((store.cursor().unwrap(), view(9).root().unwrap()), (Some(position(2)), before));
    assert!(store.get::<Headers>(&3).unwrap().is_none() && store.get::<Headers>(&2).unwrap().is_some());
    // Against one that never knew of anything else, pruned all the way.
    let (other, fresh) = (tempfile::tempdir().unwrap(), testing::spec(3).0);
    let fresh = Store::open(other.path(), &fresh).unwrap();
    for number in 1..=2 {
        fresh.apply(&block(number, writes(number)), number, Durability::Process).unwrap();
    }
    for number in 3..=12 {
        for store in [&store, &fresh] {
            store.apply(&block(number, writes(number)), number, Durability::Process).unwrap();
        }
        let root = |store: &Store| View::new(store, number, store.generation()).root().unwrap();
        assert_eq!(root(&store), root(&fresh), "at {number}");
    }
    let keys = |store: &Store| {
        let keys = |family| store.scan(family, |key, _| Some((family, key.to_vec()))).unwrap();
        [Family::Slot, Family::Trie, Family::Past].map(keys)
    };
    assert_eq!(keys(&store), keys(&fresh), "nothing of what was above is left behind");
}

fn history() -> impl Strategy<Value = Vec<Vec<(u8, u8)>>> {
    // Few slots and few values, zero among them, so that slots are overwritten and deleted often.
    prop::collection::vec(prop::collection::vec((0..6u8, 0..4u8), 0..5), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 20))]

    /// At every height from the floor on, the mirror reads and roots as a naive history of maps says, however
    /// the floor moves, and after a restart too.
    #[test]
    fn every_height_above_the_floor_reads_as_it_was(history in history(), lag in 1..6u64) {
        let directory = tempfile::tempdir().unwrap();
        let (spec, _) = testing::spec(3);
        let mut store = Store::open(directory.path(), &spec).unwrap();
        let mut model: Vec<BTreeMap<B256, B256>> = vec![BTreeMap::new()];
        for (index, changes) in history.iter().enumerate() {
            let number = index as u64 + 1;
            let changes: Vec<_> = changes.iter().map(|(slot, value)| (word(*slot), word(*value))).collect();
            let mut state = model[index].clone();
            state.extend(changes.iter().copied());
            model.push(state);
            let floor = number.saturating_sub(lag);
            store.apply(&block(number, changes), floor, Durability::Process).unwrap();
            if index % 7 == 3 {
                drop(store);
                store = Store::open(directory.path(), &spec).unwrap();
            }
            for height in floor.max(1)..=number {
                let view = View::new(&store, height, store.generation());
                for slot in 0..6 {
                    let expected = model[height as usize].get(&word(slot)).copied().unwrap_or_default();
                    prop_assert_eq!(view.value(&word(slot)).unwrap(), expected);
                }
                let mut memory = windlass_protocol::trie::MemoryStore::new();
                let leaves = model[height as usize]
                    .iter()
                    .map(|(slot, value)| {
                        (windlass_protocol::keccak256(slot), windlass_protocol::trie::slot_change(value))
                    })
                    .collect();
                let root = windlass_protocol::trie::update(&mut memory, B256::ZERO, &leaves).unwrap();
                prop_assert_eq!(view.root().unwrap(), root);
                prop_assert!(view.check().is_ok());
            }
            if floor > 1 {
                prop_assert!(View::new(&store, floor - 1, store.generation()).check().is_err());
            }
        }
    }

    /// What nobody can read any more goes: the directory doesn't grow with the number of blocks.
    #[test]
    fn old_versions_are_pruned(values in prop::collection::vec(0..3u8, 30..40)) {
        let directory = tempfile::tempdir().unwrap();
        let (spec, _) = testing::spec(3);
        let store = Store::open(directory.path(), &spec).unwrap();
        for (index, value) in values.iter().enumerate() {
            let number = index as u64 + 1;
            store.apply(&block(number, vec![(word(1), word(*value))]), number - 1, Durability::Process).unwrap();
        }
        prop_assert!(store.entries(Family::Slot) <= 3, "{} slots", store.entries(Family::Slot));
        prop_assert!(store.entries(Family::Trie) <= 3, "{} trie nodes", store.entries(Family::Trie));
        prop_assert!(store.entries(Family::Past) <= 4, "{} replaced", store.entries(Family::Past));
    }
}

impl Store {
    /// Damages the trie: one of its nodes is gone, the root not.
    pub(crate) fn lose_a_trie_node(&self) {
        let keys = self.scan(Family::Trie, |key, _| Some(key.to_vec())).unwrap();
        let mut batch = self.batch();
        batch.delete_raw(Family::Trie, keys.last().unwrap());
        batch.commit(Durability::Disk).unwrap();
    }

    fn entries(&self, family: Family) -> usize {
        self.scan(family, |_, _| Some(())).unwrap().len()
    }
}
