//! Random histories of inserts, changes and deletes, each state compared with the trie that alloy-trie builds
//! from the leaves alone, and with our own trie built at once.

use super::cost::Watched;
use super::*;
use alloc::vec;
use alloy_trie::{HashBuilder, Nibbles};
use core::{cell::RefCell, mem};
use proptest::collection::vec as list_of;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

type Leaves = BTreeMap<B256, Vec<u8>>;
type Batch = BTreeMap<B256, Option<Vec<u8>>>;

/// Keys that share prefixes of every length, so that all shapes of a trie come up: three bases, left at some
/// nibble, with one of two tails.
fn any_key() -> impl Strategy<Value = B256> {
    (prop_oneof![4 => Just(0_u8), 1 => 1..3_u8], 0..64_usize, 0..16_u8, 0..2_u8).prop_map(
        |(base, leave, nibble, tail)| {
            let mut nibbles = vec![base * 5; 64];
            nibbles[leave] = nibble;
            nibbles[leave + 1..].fill(tail * 7);
            key(&nibbles)
        },
    )
}

/// One byte (so that leaves get embedded), a slot, or about an account.
fn any_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (1..0x80_u8).prop_map(|byte| vec![byte]),
        list_of(any::<u8>(), 1..34),
        list_of(any::<u8>(), 60..80),
    ]
}

/// Keys to choose from, and batches of (which key, its new value).
type Script = (Vec<B256>, Vec<Vec<(prop::sample::Index, Option<Vec<u8>>)>>);

fn any_script() -> impl Strategy<Value = Script> {
    let change = (any::<prop::sample::Index>(), prop::option::weighted(0.55, any_value()));
    (list_of(any_key(), 1..24), list_of(list_of(change, 0..12), 1..12))
}

fn reference_root(leaves: &Leaves) -> B256 {
    let mut builder = HashBuilder::default();
    leaves.iter().for_each(|(key, value)| builder.add_leaf(Nibbles::unpack(key), value));
    builder.root()
}

/// What the histories did; a kind that was rare would mean that they test less than they say.
#[derive(Debug, Default)]
struct Done {
    inserts: usize,
    changes: usize,
    deletes: usize,
    deletes_of_absent: usize,
    emptied: usize,
    present: usize,
    absent: usize,
    too_deep: usize,
    embedded: usize,
}

impl Done {
    fn count(&mut self, leaves: &Leaves, key: &B256, value: &Option<Vec<u8>>) {
        match (leaves.get(key), value) {
            (None, Some(_)) => self.inserts += 1,
            (Some(_), Some(_)) => self.changes += 1,
            (Some(_), None) => self.deletes += 1,
            (None, None) => self.deletes_of_absent += 1,
        }
    }
}

fn apply(store: &mut MemoryStore, leaves: &mut Leaves, batch: &Batch, done: &mut Done) -> B256 {
    for (key, value) in batch {
        done.count(leaves, key, value);
        match value {
            Some(value) => leaves.insert(*key, value.clone()),
            None => leaves.remove(key),
        };
    }
    let mut watched = Watched::over(mem::take(store));
    watched.cost(batch);
    *store = watched.inner;
    let root = root(store, TRIE).unwrap();
    done.emptied += usize::from(leaves.is_empty() && !batch.is_empty());
    root
}

fn check_proofs(store: &MemoryStore, root: B256, leaves: &Leaves, keys: &[B256], done: &mut Done) {
    for key in keys {
        let expected = leaves.get(key).cloned();
        assert_eq!(lookup(store, TRIE, key).unwrap(), expected);
        let proof = prove(store, TRIE, key).unwrap();
        let theirs = alloy_trie::proof::verify_proof(root, Nibbles::unpack(key), expected.clone(), &proof);
        assert_eq!(theirs, Ok(()));
        if proof.len() > crate::limits::MAX_PROOF_LEVELS {
            assert_eq!(verify_proof(root, key, &proof), Err(ProofError::TooDeep));
            done.too_deep += 1;
            continue;
        }
        done.present += usize::from(expected.is_some());
        done.absent += usize::from(expected.is_none());
        done.embedded += proof.last().map_or(0, |node| usize::from(has_embedded(node)));
        assert_eq!(verify_proof(root, key, &proof), Ok(expected));
    }
}

fn has_embedded(rlp: &[u8]) -> bool {
    use super::node::{NodeView, Reference, decode};
    match decode(rlp).unwrap() {
        NodeView::Branch(children) => children.iter().any(|child| matches!(child, Reference::Embedded(_))),
        NodeView::Extension { child, .. } => matches!(child, Reference::Embedded(_)),
        NodeView::Leaf { .. } => false,
    }
}

fn run(script: &Script, done: &mut Done) {
    let (keys, batches) = script;
    let mut store = MemoryStore::new();
    let mut leaves = Leaves::new();
    for batch in batches {
        let batch: Batch = batch.iter().map(|(index, value)| (*index.get(keys), value.clone())).collect();
        let updated = apply(&mut store, &mut leaves, &batch, done);
        assert_eq!(updated, reference_root(&leaves));
        check_proofs(&store, updated, &leaves, keys, done);
        // Nothing stale is left behind and nothing is missing: the same store as one built at once.
        let rebuilt = stored(&leaves.iter().map(|(key, value)| (*key, Some(value.clone()))).collect());
        assert_eq!(store, rebuilt.0);
    }
}

#[test]
fn random_histories_have_the_roots_that_alloy_trie_computes() {
    let done = RefCell::new(Done::default());
    let mut runner = TestRunner::new(Config {
        cases: Config::default().cases,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&any_script(), |script| {
        run(&script, &mut done.borrow_mut());
        Ok(())
    });
    result.unwrap();
    let done = done.into_inner();
    std::println!("{done:?}");
    let kinds = [done.inserts, done.changes, done.deletes, done.deletes_of_absent, done.present, done.absent];
    assert!(kinds.iter().all(|&count| count > 300), "{done:?}");
    assert!(done.emptied > 20 && done.too_deep > 20 && done.embedded > 300, "{done:?}");
}

/// Everything away again, in one batch and one by one: no trie node may stay.
#[test]
fn deleting_every_key_empties_the_store() {
    let leaves = slots(500);
    let (mut at_once, _) = stored(&leaves);
    let deletes: Batch = leaves.keys().map(|key| (*key, None)).collect();
    let mut one_by_one = at_once.clone();
    assert_eq!(update(&mut at_once, TRIE, &deletes), Ok(EMPTY_ROOT));
    assert!(at_once.is_empty());
    for key in leaves.keys() {
        update(&mut one_by_one, TRIE, &BTreeMap::from([(*key, None)])).unwrap();
    }
    assert!(one_by_one.is_empty());
}

/// Two tries in one store don't touch each other.
#[test]
fn tries_of_one_store_are_apart() {
    let (mut store, first) = stored(&slots(100));
    let other = B256::repeat_byte(0x88);
    let second = update(&mut store, other, &slots(40)).unwrap();
    assert_eq!((root(&store, TRIE), root(&store, other)), (Ok(first), Ok(second)));
    let deletes: Batch = slots(40).into_keys().map(|key| (key, None)).collect();
    update(&mut store, other, &deletes).unwrap();
    assert_eq!(store, stored(&slots(100)).0);
}
