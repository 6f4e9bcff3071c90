//! What an update reads and writes, and what happens when the store fails or is damaged.

use super::*;
use core::cell::{Cell, RefCell};

/// A store that notes what is asked of it, refuses needless writes, and fails when told to.
#[derive(Default)]
pub(super) struct Watched {
    pub(super) inner: MemoryStore,
    loads: Cell<usize>,
    stored: RefCell<Vec<NibblePath>>,
    loads_left: Cell<Option<usize>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("disk on fire")]
pub(super) struct OnFire;

impl NodeStore for Watched {
    type Error = OnFire;

    fn load(&self, trie: TrieId, path: &NibblePath) -> Result<Option<Vec<u8>>, OnFire> {
        self.loads.set(self.loads.get() + 1);
        if let Some(left) = self.loads_left.get() {
            self.loads_left.set(Some(left.checked_sub(1).ok_or(OnFire)?));
        }
        let Ok(node) = self.inner.load(trie, path);
        Ok(node)
    }

    fn store(&mut self, trie: TrieId, path: &NibblePath, node: Option<&[u8]>) -> Result<(), OnFire> {
        let Ok(former) = self.inner.load(trie, path);
        assert_ne!(former.as_deref(), node, "a needless write at '{path}'");
        self.stored.get_mut().push(*path);
        let Ok(()) = self.inner.store(trie, path, node);
        Ok(())
    }
}

impl Watched {
    pub(super) fn over(inner: MemoryStore) -> Self {
        Self { inner, ..Self::default() }
    }

    fn with_slots(count: u64) -> Self {
        Self::over(stored(&slots(count)).0)
    }

    /// Applies changes and returns how many trie nodes were read and written.
    pub(super) fn cost(&mut self, changes: &BTreeMap<B256, Option<Vec<u8>>>) -> (usize, usize) {
        self.loads.set(0);
        self.stored.get_mut().clear();
        update(self, TRIE, changes).unwrap();
        let mut stored = self.stored.borrow().clone();
        stored.sort();
        let writes = stored.len();
        stored.dedup();
        assert_eq!(stored.len(), writes, "a path was written twice");
        (self.loads.get(), writes)
    }
}

#[test]
fn one_change_reads_and_writes_its_path_only() {
    let mut store = Watched::with_slots(4096);
    let depth = prove(&store, TRIE, &hashed(5)).unwrap().len();
    assert!(depth > 2);
    let changed = BTreeMap::from([(hashed(5), Some(encode_slot_value(&B256::repeat_byte(9))))]);
    assert_eq!(store.cost(&changed), (depth, depth));
    let (loads, writes) = store.cost(&BTreeMap::from([(hashed(5), None)]));
    assert!(loads <= depth + 1 && writes <= depth + 1, "{loads} reads, {writes} writes for depth {depth}");
    let (loads, writes) = store.cost(&changed);
    assert!(loads <= depth + 1 && writes <= depth + 1, "{loads} reads, {writes} writes for depth {depth}");
}

#[test]
fn a_batch_reads_and_writes_shared_nodes_once() {
    let mut store = Watched::with_slots(4096);
    let value = Some(encode_slot_value(&B256::repeat_byte(9)));
    let batch: BTreeMap<_, _> = (0..512).map(|number| (hashed(number), value.clone())).collect();
    let apart: usize = batch.keys().map(|key| prove(&store, TRIE, key).unwrap().len()).sum();
    let keys: Vec<_> = batch.keys().copied().collect();
    let shared = prove_all(&store, TRIE, &keys).unwrap().len();
    assert!(shared * 3 < apart * 2);
    assert_eq!(store.cost(&batch), (shared, shared));
}

#[test]
fn changes_that_change_nothing_write_nothing() {
    let mut store = Watched::with_slots(300);
    let same: BTreeMap<_, _> = slots(300).into_iter().take(40).collect();
    assert_eq!(store.cost(&same).1, 0);
    let absent = (1000..1100).map(|number| (hashed(number), None)).collect();
    assert_eq!(store.cost(&absent).1, 0);
    assert_eq!(store.cost(&BTreeMap::new()), (1, 0));
}

#[test]
fn an_empty_value_is_refused_before_anything_is_written() {
    let mut store = Watched::with_slots(20);
    let changes = BTreeMap::from([(hashed(0), None), (hashed(1), Some(Vec::new()))]);
    assert_eq!(update(&mut store, TRIE, &changes), Err(TrieError::EmptyValue { key: hashed(1) }));
    assert!(store.stored.borrow().is_empty());
}

#[test]
fn a_failing_store_is_reported_wherever_it_fails() {
    let changes: BTreeMap<_, _> = [(hashed(1), None), (hashed(2), None)].into();
    let mut healthy = Watched::with_slots(300);
    let (needed, _) = healthy.cost(&changes);
    for left in 0..needed {
        let mut store = Watched::with_slots(300);
        store.loads_left.set(Some(left));
        assert_eq!(update(&mut store, TRIE, &changes), Err(TrieError::Store(OnFire)));
    }
    let store = Watched { loads_left: Cell::new(Some(0)), ..Watched::with_slots(300) };
    assert_eq!(root(&store, TRIE), Err(TrieError::Store(OnFire)));
    assert_eq!(lookup(&store, TRIE, &hashed(1)), Err(TrieError::Store(OnFire)));
    assert_eq!(prove(&store, TRIE, &hashed(1)), Err(TrieError::Store(OnFire)));
}

/// A store whose trie node right under the root, on the way to `hashed(1)`, became `node`.
fn damaged(node: Option<&[u8]>) -> (MemoryStore, NibblePath) {
    let (mut store, _) = stored(&slots(300));
    let path = NibblePath::from_key(&hashed(1)).prefix(1);
    store.store(TRIE, &path, node).unwrap();
    (store, path)
}

#[test]
fn a_missing_trie_node_is_named() {
    let (mut store, path) = damaged(None);
    let missing = TrieError::Missing { trie: TRIE, path };
    assert_eq!(lookup(&store, TRIE, &hashed(1)), Err(missing.clone()));
    assert_eq!(prove(&store, TRIE, &hashed(1)), Err(missing.clone()));
    assert_eq!(update(&mut store, TRIE, &BTreeMap::from([(hashed(1), None)])), Err(missing));
}

/// Deeper than any key: a branch whose children would be 65 nibbles from the root.
#[test]
fn a_branch_below_the_deepest_is_named() {
    let bottom = branch(&[(0, string(&[7; 32])), (1, string(&[7; 32]))]);
    let last = branch(&[(0, reference(&bottom)), (1, string(&[7; 32]))]);
    let top = list(&[path(&[0; 63], false), reference(&last)]);
    let mut store = MemoryStore::new();
    let place = |depth: usize| NibblePath::from_key(&B256::ZERO).prefix(depth);
    for (depth, node) in [(0, top), (63, last), (64, bottom)] {
        store.store(TRIE, &place(depth), Some(&node)).unwrap();
    }
    let damaged = TrieError::Damaged { trie: TRIE, path: place(64), fault: NodeError::PathLength };
    assert_eq!(lookup(&store, TRIE, &B256::ZERO), Err(damaged.clone()));
    assert_eq!(update(&mut store, TRIE, &BTreeMap::from([(B256::ZERO, None)])), Err(damaged));
}

#[test]
fn a_damaged_trie_node_is_named() {
    let misplaced_leaf = list(&[path(&[1, 2], true), string(&[7; 40])]);
    let long_extension = list(&[path(&[0; 63], false), string(&[7; 32])]);
    let cases: [(&[u8], NodeError); 4] = [
        (b"junk", NodeError::Rlp(alloy_rlp::Error::UnexpectedString)),
        (&[0xc0], NodeError::ItemCount),
        (&misplaced_leaf, NodeError::PathLength),
        (&long_extension, NodeError::PathLength),
    ];
    for (node, fault) in cases {
        let (mut store, path) = damaged(Some(node));
        let damaged = TrieError::Damaged { trie: TRIE, path, fault };
        assert_eq!(lookup(&store, TRIE, &hashed(1)), Err(damaged.clone()));
        assert_eq!(update(&mut store, TRIE, &BTreeMap::from([(hashed(1), None)])), Err(damaged));
    }
}
