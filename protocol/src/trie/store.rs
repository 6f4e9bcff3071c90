//! Where trie nodes are kept.
//!
//! Owns the seam between the trie and its storage. A trie node of 32 bytes or more is stored under its trie
//! and path; a shorter one lives inside its parent. The root, whatever its length, is stored at the empty path.

use super::{NibblePath, NodeError, TrieId};
use alloc::{collections::BTreeMap, vec::Vec};
use alloy_primitives::B256;
use core::convert::Infallible;

/// Trie nodes by trie and path.
///
/// One store is one version of its tries: a store that keeps several is bound to one height before the trie
/// sees it. One [`update`](super::update()) writes a path at most once, only when its trie node differs, and
/// doesn't read it afterwards.
pub trait NodeStore {
    /// Why a trie node couldn't be read or written.
    type Error;

    /// The RLP of the trie node at `path`, `None` if there is none.
    fn load(&self, trie: TrieId, path: &NibblePath) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Puts the RLP of a trie node at `path`, in place of a former one; `None` removes it.
    fn store(&mut self, trie: TrieId, path: &NibblePath, node: Option<&[u8]>) -> Result<(), Self::Error>;
}

/// Why a trie couldn't be read or changed: the store failed, or what it holds is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrieError<E> {
    /// The store failed.
    #[error("the store of trie nodes failed: {0}")]
    Store(#[source] E),
    /// A trie node is referenced but not in the store.
    #[error("trie {trie} has no node at path '{path}' though its parent says so: rebuild it from the chain")]
    Missing {
        /// The damaged trie.
        trie: TrieId,
        /// Where the trie node should be.
        path: NibblePath,
    },
    /// The store holds something else than a trie node.
    #[error("trie {trie} is damaged at path '{path}' ({fault}): rebuild it from the chain")]
    Damaged {
        /// The damaged trie.
        trie: TrieId,
        /// Where the damaged trie node is stored.
        path: NibblePath,
        /// What is wrong with it.
        fault: NodeError,
    },
    /// A change would store an empty value, which a trie can't hold: deleting is `None`.
    #[error("an empty value for key {key}: to delete it, pass no value")]
    EmptyValue {
        /// The key of the change.
        key: B256,
    },
}

/// Trie nodes in memory, for tests and small tries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStore {
    nodes: BTreeMap<(TrieId, NibblePath), Vec<u8>>,
}

impl MemoryStore {
    /// A store without a trie node.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many trie nodes it holds, of all tries.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it holds no trie node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl NodeStore for MemoryStore {
    type Error = Infallible;

    fn load(&self, trie: TrieId, path: &NibblePath) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.nodes.get(&(trie, *path)).cloned())
    }

    fn store(&mut self, trie: TrieId, path: &NibblePath, node: Option<&[u8]>) -> Result<(), Infallible> {
        match node {
            Some(rlp) => self.nodes.insert((trie, *path), rlp.to_vec()),
            None => self.nodes.remove(&(trie, *path)),
        };
        Ok(())
    }
}
