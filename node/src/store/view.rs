//! The mirror at one height: what slots held, and the trie nodes to prove it.
//!
//! A view takes no lock and no snapshot: it reads what stood at its height while the follower writes what is newer.
//! What was read counts only after [`View::check`] said that nothing was pruned or rebuilt meanwhile.

use super::family::Family;
use super::upper::Upper;
use super::{Store, StoreError, version};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use windlass_protocol::slot::Slot;
use windlass_protocol::trie::{self, NibblePath, NodeStore, TrieError, TrieId};
use windlass_protocol::{B256, Bytes};

/// Why the mirror couldn't be read at a height.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The height was pruned, or the mirror is being rebuilt: ask again under a newer head.
    #[error("the mirror can't be read at height {0} any more")]
    Gone(u64),
    /// The mirrored trie is damaged.
    #[error(transparent)]
    Trie(#[from] TrieError<StoreError>),
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The mirror at one height.
pub struct View<'s> {
    store: &'s Store,
    height: u64,
    generation: u64,
    /// Of the follower's view only: trie nodes on their way into a batch.
    writes: Option<BTreeMap<NibblePath, Option<Vec<u8>>>>,
}

impl<'s> View<'s> {
    /// The mirror of `generation` (see [`Store::generation`]) at `height`.
    pub fn new(store: &'s Store, height: u64, generation: u64) -> Self {
        Self { store, height, generation, writes: None }
    }

    /// What the follower changes on the way to `height`.
    pub(super) fn of_writer(store: &'s Store, height: u64) -> Self {
        Self { writes: Some(BTreeMap::new()), ..Self::new(store, height, store.generation()) }
    }

    pub(super) fn into_writes(self) -> BTreeMap<NibblePath, Option<Vec<u8>>> {
        self.writes.unwrap_or_default()
    }

    /// What a slot held; zero for nothing.
    pub fn slot(&self, slot: Slot) -> Result<B256, StoreError> {
        self.value(&slot.storage_key())
    }

    /// What a storage key held; zero for nothing.
    pub fn value(&self, key: &B256) -> Result<B256, StoreError> {
        match self.store.at(Family::Slot, key.as_slice(), self.height)? {
            Some(found) if !found.bytes.is_empty() => {
                B256::try_from(found.bytes.as_slice()).map_err(|_| self.store.damaged(Family::Slot))
            }
            _ => Ok(B256::ZERO),
        }
    }

    /// The root of the registry's storage trie.
    pub fn root(&self) -> Result<B256, ViewError> {
        trie::root(self, self.store.trie).map_err(|error| self.explain(error))
    }

    /// The trie nodes that prove these slots, shared ones once.
    pub fn prove(&self, slots: &[Slot]) -> Result<Vec<Bytes>, ViewError> {
        let keys: Vec<B256> = slots.iter().map(|slot| slot.trie_key()).collect();
        trie::prove_all(self, self.store.trie, &keys).map_err(|error| self.explain(error))
    }

    /// What is missing because it was pruned, or belongs to another build, is no damage.
    fn explain(&self, error: TrieError<StoreError>) -> ViewError {
        self.check().err().unwrap_or(ViewError::Trie(error))
    }

    /// Whether everything read so far was whole: nothing pruned, nothing rebuilt.
    pub fn check(&self) -> Result<(), ViewError> {
        let whole = self.store.floor.load(Ordering::SeqCst) <= self.height
            && self.store.generation.load(Ordering::SeqCst) == self.generation;
        if whole { Ok(()) } else { Err(ViewError::Gone(self.height)) }
    }
}

impl NodeStore for View<'_> {
    type Error = StoreError;

    fn load(&self, _: TrieId, path: &NibblePath) -> Result<Option<Vec<u8>>, StoreError> {
        let store = self.store;
        if let Some(writes) = &self.writes {
            if let Some(node) = writes.get(path) {
                return Ok(node.clone());
            }
            let now = store.now(Family::Trie, &version::trie_key(path))?;
            return Ok(now.map(|(_, value)| value[8..].to_vec()).filter(|node| !node.is_empty()));
        }
        let kept = Upper::covers(path);
        if kept && let Some(node) = store.upper.at(path, self.height) {
            return Ok(Some(node));
        }
        let seen = store.upper.seen();
        let found = store.at(Family::Trie, &version::trie_key(path), self.height)?;
        let Some(found) = found.filter(|found| !found.bytes.is_empty()) else { return Ok(None) };
        if kept && found.newest {
            store.upper.keep(path, found.since, &found.bytes, seen);
        }
        Ok(Some(found.bytes))
    }

    fn store(&mut self, _: TrieId, path: &NibblePath, node: Option<&[u8]>) -> Result<(), StoreError> {
        self.writes.get_or_insert_default().insert(*path, node.map(<[u8]>::to_vec));
        Ok(())
    }
}
