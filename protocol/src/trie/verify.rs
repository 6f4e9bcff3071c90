//! Proofs from strangers: is this value, or its absence, what the trie with this root says about a key?
//!
//! Owns every rule that a proof must obey. It never repairs, skips or ignores anything: a proof is exactly
//! the trie nodes that the walk needs, each one canonical and reached by its hash. Work is bounded by
//! [`limits`](crate::limits) before the first hash is taken.

use super::EMPTY_ROOT;
use super::node::{HASHED_FROM_BYTES, NodeError};
use super::pool::ProofPool;
use super::value::ValueError;
use super::walk::{Descent, Walk};
use crate::limits::{MAX_PROOF_BYTES, MAX_PROOF_KEYS, MAX_PROOF_LEVELS, MAX_PROOF_POOL_BYTES};
use alloc::vec::Vec;
use alloy_primitives::{B256, Bytes, keccak256};

/// Which rule a proof broke. All of these are the fault of whoever served it. `level` counts the hashed trie
/// nodes from the root, which is level 0; `index` is the position in the proof or pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The walk needs a trie node that the proof doesn't hold: nothing is shown, least of all absence.
    #[error(
        "the proof is cut short or changed: none of its trie nodes has the hash that level {level} calls for"
    )]
    Truncated {
        /// Level of the missing trie node.
        level: usize,
    },
    /// A trie node is not the one that its parent, or the root, names.
    #[error("the trie node at level {level} is not the one its parent names by hash")]
    HashMismatch {
        /// Level of the foreign trie node.
        level: usize,
    },
    /// The proof holds a trie node that the walk doesn't need.
    #[error("the proof holds a trie node that it doesn't need, at position {index}")]
    UnusedNode {
        /// Position of the needless trie node.
        index: usize,
    },
    /// The pool holds one trie node twice.
    #[error("the proof holds the trie node at position {index} twice")]
    RepeatedNode {
        /// Position of the second one.
        index: usize,
    },
    /// More trie nodes on a path than [`MAX_PROOF_LEVELS`].
    #[error("the proof has more than {MAX_PROOF_LEVELS} levels")]
    TooDeep,
    /// More bytes than [`MAX_PROOF_BYTES`] on a path or [`MAX_PROOF_POOL_BYTES`] in a pool, or more trie nodes
    /// in a pool than all keys together may need.
    #[error("the proof is larger than any honest one")]
    TooLarge,
    /// More keys at once than [`MAX_PROOF_KEYS`].
    #[error("more than {MAX_PROOF_KEYS} keys in one proof")]
    TooManyKeys,
    /// A trie node is malformed or stands where no trie would put it.
    #[error("the trie node at level {level} is malformed: {fault}")]
    Node {
        /// Level of the malformed trie node, or of the one that it is embedded in.
        level: usize,
        /// What is wrong with it.
        #[source]
        fault: NodeError,
    },
    /// A proven leaf of a storage trie isn't a slot.
    #[error("the proven slot is malformed: {0}")]
    SlotValue(#[source] ValueError),
    /// A proven leaf of the account trie isn't an account.
    #[error("the proven account is malformed: {0}")]
    Account(#[source] ValueError),
}

/// What the trie with `root` holds at `key` (already hashed): its leaf's value, or `None` if `proof` shows
/// that it has none. `proof` is the trie nodes in order, root first, and nothing else.
pub fn verify_proof(root: B256, key: &B256, proof: &[Bytes]) -> Result<Option<Vec<u8>>, ProofError> {
    if proof.len() > MAX_PROOF_LEVELS {
        return Err(ProofError::TooDeep);
    }
    if bytes_of(proof) > MAX_PROOF_BYTES {
        return Err(ProofError::TooLarge);
    }
    let mut used = 0;
    let value = walk(root, key, |level, hash| {
        let node = proof.get(level).ok_or(ProofError::Truncated { level })?;
        if keccak256(node).0 != *hash {
            return Err(ProofError::HashMismatch { level });
        }
        used = level + 1;
        Ok(node)
    })?;
    if used < proof.len() {
        return Err(ProofError::UnusedNode { index: used });
    }
    Ok(value.map(<[u8]>::to_vec))
}

/// What the trie with `root` holds at each of `keys` (already hashed), in their order. `nodes` is a pool, in
/// any order, of the trie nodes that these keys need, each one once.
pub fn verify_multiproof(
    root: B256,
    keys: &[B256],
    nodes: &[Bytes],
) -> Result<Vec<Option<Vec<u8>>>, ProofError> {
    if keys.len() > MAX_PROOF_KEYS {
        return Err(ProofError::TooManyKeys);
    }
    let mut pool = ProofPool::new(nodes)?;
    let values = keys.iter().map(|key| pool.lookup(root, key)).collect::<Result<_, _>>()?;
    pool.all_used()?;
    Ok(values)
}

/// Walks from `root` to `key` over the trie nodes that `fetch` finds by level and hash.
pub(super) fn walk<'a>(
    root: B256,
    key: &B256,
    mut fetch: impl FnMut(usize, &[u8; 32]) -> Result<&'a [u8], ProofError>,
) -> Result<Option<&'a [u8]>, ProofError> {
    if root == EMPTY_ROOT {
        return Ok(None);
    }
    let mut walk = Walk::new(key);
    let mut hash = &root.0;
    let mut bytes = 0;
    let mut level = 0;
    loop {
        if level == MAX_PROOF_LEVELS {
            return Err(ProofError::TooDeep);
        }
        let node = fetch(level, hash)?;
        bytes += node.len();
        if bytes > MAX_PROOF_BYTES {
            return Err(ProofError::TooLarge);
        }
        if level > 0 && node.len() < HASHED_FROM_BYTES {
            return Err(ProofError::Node { level, fault: NodeError::ShortHashed });
        }
        match walk.descend(node).map_err(|fault| ProofError::Node { level, fault })? {
            Descent::Value(value) => return Ok(Some(value)),
            Descent::Absent => return Ok(None),
            Descent::Next(next) => hash = next,
        }
        level += 1;
    }
}

/// Refuses a pool that no honest node would send, before any of it is hashed.
pub(super) fn check_pool_size(nodes: &[Bytes]) -> Result<(), ProofError> {
    let too_many = nodes.len() > MAX_PROOF_KEYS * MAX_PROOF_LEVELS;
    if too_many || bytes_of(nodes) > MAX_PROOF_POOL_BYTES { Err(ProofError::TooLarge) } else { Ok(()) }
}

fn bytes_of(nodes: &[Bytes]) -> usize {
    nodes.iter().map(|node| node.len()).sum()
}
