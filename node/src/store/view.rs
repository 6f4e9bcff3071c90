//! The mirror at one height: what slots held, and the trie nodes to prove it.
//!
//! A view takes no lock and no snapshot: it reads the newest versions at or below its height while the
//! follower writes newer ones. What was read counts only after [`View::check`] said that nothing was pruned
//! or rebuilt meanwhile.

use super::column::{self, Family};
use super::{Store, StoreError};
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
    writes: BTreeMap<(TrieId, NibblePath), Option<Vec<u8>>>,
}

impl<'s> View<'s> {
    /// The mirror of `generation` (see [`Store::generation`]) at `height`.
    pub fn new(store: &'s Store, height: u64, generation: u64) -> Self {
        Self { store, height, generation, writes: BTreeMap::new() }
    }

    /// What the follower changes on the way to `height`.
    pub(super) fn of_writer(store: &'s Store, height: u64) -> Self {
        Self::new(store, height, store.generation())
    }

    pub(super) fn into_writes(self) -> BTreeMap<(TrieId, NibblePath), Option<Vec<u8>>> {
        self.writes
    }

    /// What a slot held; zero for nothing.
    pub fn slot(&self, slot: Slot) -> Result<B256, StoreError> {
        self.value(&slot.storage_key())
    }

    /// What a storage key held; zero for nothing.
    pub fn value(&self, key: &B256) -> Result<B256, StoreError> {
        match self.store.newest(Family::Slot, &column::slot_prefix(key), self.height)? {
            Some((_, bytes)) if bytes.is_empty() => Ok(B256::ZERO),
            Some((_, bytes)) => {
                B256::try_from(bytes.as_slice()).map_err(|_| self.store.damaged(Family::Slot))
            }
            None => Ok(B256::ZERO),
        }
    }

    /// The root of the registry's storage trie.
    pub fn root(&self) -> Result<B256, ViewError> {
        Ok(trie::root(self, self.store.trie)?)
    }

    /// The trie nodes that prove these slots, shared ones once.
    pub fn prove(&self, slots: &[Slot]) -> Result<Vec<Bytes>, ViewError> {
        let keys: Vec<B256> = slots.iter().map(|slot| slot.trie_key()).collect();
        Ok(trie::prove_all(self, self.store.trie, &keys)?)
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

    fn load(&self, trie: TrieId, path: &NibblePath) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(node) = self.writes.get(&(trie, *path)) {
            return Ok(node.clone());
        }
        let newest = self.store.newest(Family::Trie, &column::trie_prefix(&trie, path), self.height)?;
        Ok(newest.map(|(_, node)| node).filter(|node| !node.is_empty()))
    }

    fn store(&mut self, trie: TrieId, path: &NibblePath, node: Option<&[u8]>) -> Result<(), StoreError> {
        self.writes.insert((trie, *path), node.map(<[u8]>::to_vec));
        Ok(())
    }
}
