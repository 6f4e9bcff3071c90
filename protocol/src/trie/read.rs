//! Looking up and proving keys of a stored trie.
//!
//! Owns reading; never writes. It trusts its own store as to contents (a verifier checks the hashes), but a
//! damaged store gives an error, never a panic or an endless walk.

use super::store::{NodeStore, TrieError};
use super::walk::{Descent, Walk};
use super::{EMPTY_ROOT, NibblePath, TrieId};
use alloc::{collections::BTreeSet, vec::Vec};
use alloy_primitives::{B256, Bytes, keccak256};

/// The root of `trie`; [`EMPTY_ROOT`] when it has no trie node.
pub fn root<S: NodeStore>(store: &S, trie: TrieId) -> Result<B256, TrieError<S::Error>> {
    let node = store.load(trie, &NibblePath::ROOT).map_err(TrieError::Store)?;
    Ok(node.map_or(EMPTY_ROOT, keccak256))
}

/// The value of `key` (already hashed), the RLP that its leaf holds; `None` when the trie has no such key.
pub fn lookup<S: NodeStore>(
    store: &S,
    trie: TrieId,
    key: &B256,
) -> Result<Option<Vec<u8>>, TrieError<S::Error>> {
    walk(store, trie, key, |_| ())
}

/// The trie nodes from the root to `key`'s leaf, or to where the trie shows that there is none. Root first;
/// empty for the empty trie.
pub fn prove<S: NodeStore>(store: &S, trie: TrieId, key: &B256) -> Result<Vec<Bytes>, TrieError<S::Error>> {
    let mut proof = Vec::new();
    walk(store, trie, key, |node| proof.push(Bytes::copy_from_slice(node)))?;
    Ok(proof)
}

/// The proofs of several keys as one pool that holds each trie node once, in the order of first use:
/// what [`verify_multiproof`](super::verify_multiproof) takes.
pub fn prove_all<S: NodeStore>(
    store: &S,
    trie: TrieId,
    keys: &[B256],
) -> Result<Vec<Bytes>, TrieError<S::Error>> {
    let mut pool = Vec::new();
    let mut pooled = BTreeSet::new();
    for key in keys {
        for node in prove(store, trie, key)? {
            // By content, not by path: equal subtrees may hang in two places, and a pool repeats nothing.
            if pooled.insert(node.clone()) {
                pool.push(node);
            }
        }
    }
    Ok(pool)
}

fn walk<S: NodeStore>(
    store: &S,
    trie: TrieId,
    key: &B256,
    mut visit: impl FnMut(&[u8]),
) -> Result<Option<Vec<u8>>, TrieError<S::Error>> {
    let mut walk = Walk::new(key);
    loop {
        let path = walk.position();
        let node = match store.load(trie, &path).map_err(TrieError::Store)? {
            Some(node) => node,
            None if path.is_empty() => return Ok(None),
            None => return Err(TrieError::Missing { trie, path }),
        };
        visit(&node);
        match walk.descend(&node).map_err(|fault| TrieError::Damaged { trie, path, fault })? {
            Descent::Value(value) => return Ok(Some(value.to_vec())),
            Descent::Absent => return Ok(None),
            Descent::Next(_) => {}
        }
    }
}
