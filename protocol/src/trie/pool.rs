//! A pool of trie nodes that prove several keys at once, read one key at a time.
//!
//! Owns the rule that a pool is exactly what its keys need: no trie node twice, none unused. It never
//! believes a trie node that isn't reached by its hash.

use super::verify::{ProofError, check_pool_size, walk};
use alloc::vec::Vec;
use alloy_primitives::{B256, Bytes, keccak256};

/// Trie nodes by hash, with a note of which were needed.
#[derive(Clone, Debug, Default)]
pub struct ProofPool {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    hash: B256,
    index: usize,
    node: Bytes,
    used: bool,
}

impl ProofPool {
    /// Takes the trie nodes of a proof, in any order; bounded, and none twice.
    pub fn new(nodes: &[Bytes]) -> Result<Self, ProofError> {
        check_pool_size(nodes)?;
        let entry = |(index, node): (usize, &Bytes)| Entry {
            hash: keccak256(node),
            index,
            node: node.clone(),
            used: false,
        };
        let mut entries: Vec<_> = nodes.iter().enumerate().map(entry).collect();
        entries.sort_unstable_by_key(|entry| (entry.hash, entry.index));
        match entries.windows(2).find(|pair| pair[0].hash == pair[1].hash) {
            Some(pair) => Err(ProofError::RepeatedNode { index: pair[1].index }),
            None => Ok(Self { entries }),
        }
    }

    /// What the trie with `root` holds at `key` (already hashed): its leaf's value, or `None` if the pool
    /// shows that it has none.
    pub fn lookup(&mut self, root: B256, key: &B256) -> Result<Option<Vec<u8>>, ProofError> {
        let mut used = Vec::new();
        let value = walk(root, key, |level, hash| {
            let position = self.position(hash).ok_or(ProofError::Truncated { level })?;
            used.push(position);
            Ok(&self.entries[position].node)
        })?;
        let value = value.map(<[u8]>::to_vec);
        for position in used {
            self.entries[position].used = true;
        }
        Ok(value)
    }

    /// The trie nodes on the path from `root` to `key`, root first.
    pub fn path(&self, root: B256, key: &B256) -> Result<Vec<Bytes>, ProofError> {
        let mut nodes = Vec::new();
        walk(root, key, |level, hash| {
            let position = self.position(hash).ok_or(ProofError::Truncated { level })?;
            nodes.push(self.entries[position].node.clone());
            Ok(&self.entries[position].node)
        })?;
        Ok(nodes)
    }

    /// Refuses the pool if some trie node served no look-up.
    pub fn all_used(&self) -> Result<(), ProofError> {
        let unused = self.entries.iter().filter(|entry| !entry.used).map(|entry| entry.index).min();
        unused.map_or(Ok(()), |index| Err(ProofError::UnusedNode { index }))
    }

    fn position(&self, hash: &[u8; 32]) -> Option<usize> {
        self.entries.binary_search_by(|entry| entry.hash.0.cmp(hash)).ok()
    }
}
