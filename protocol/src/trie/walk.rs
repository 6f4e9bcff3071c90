//! The walk from a root towards one key, a trie node at a time, shared by verifier and store.
//!
//! Owns which child comes next and what counts as absence: only an empty child, a leaf of another key or
//! an extension that leads elsewhere. It never fetches or hashes a trie node, and it loops, never recurses.

use super::node::{self, NodeError, NodeView, Reference};
use super::path::{KEY_NIBBLES, NibblePath};
use alloy_primitives::B256;

/// How far one walk has come.
pub(super) struct Walk {
    key: NibblePath,
    depth: usize,
    branch_due: bool,
}

/// Where one trie node leads.
pub(super) enum Descent<'a> {
    /// The key's leaf, with its value.
    Value(&'a [u8]),
    /// The trie has no such key.
    Absent,
    /// On to the trie node with this hash.
    Next(&'a [u8; 32]),
}

impl Walk {
    pub(super) fn new(key: &B256) -> Self {
        Self { key: NibblePath::from_key(key), depth: 0, branch_due: false }
    }

    /// The path of the trie node that comes next.
    pub(super) fn position(&self) -> NibblePath {
        self.key.prefix(self.depth)
    }

    /// Goes through one trie node and the ones embedded in it.
    pub(super) fn descend<'a>(&mut self, rlp: &'a [u8]) -> Result<Descent<'a>, NodeError> {
        let mut rlp = rlp;
        // Each turn goes on with bytes inside the former ones, so this ends.
        loop {
            match self.step(rlp)? {
                Step::Embedded(inner) => rlp = inner,
                Step::Done(descent) => return Ok(descent),
            }
        }
    }

    fn step<'a>(&mut self, rlp: &'a [u8]) -> Result<Step<'a>, NodeError> {
        let view = node::decode(rlp)?;
        if self.branch_due && !matches!(view, NodeView::Branch(_)) {
            return Err(NodeError::ExtensionChild);
        }
        let child = match view {
            NodeView::Leaf { path, value } => return self.arrive(&path, value).map(Step::Done),
            NodeView::Extension { path, child } => {
                if self.depth + path.len() >= KEY_NIBBLES {
                    return Err(NodeError::PathLength);
                }
                if !path.follows(&self.key, self.depth) {
                    return Ok(Step::Done(Descent::Absent));
                }
                self.depth += path.len();
                self.branch_due = true;
                child
            }
            NodeView::Branch(children) => {
                if self.depth >= KEY_NIBBLES {
                    return Err(NodeError::PathLength);
                }
                let nibble = self.key.nibble(self.depth);
                self.depth += 1;
                self.branch_due = false;
                children[usize::from(nibble)]
            }
        };
        Ok(match child {
            Reference::Empty => Step::Done(Descent::Absent),
            Reference::Hash(hash) => Step::Done(Descent::Next(hash)),
            Reference::Embedded(inner) => Step::Embedded(inner),
        })
    }

    fn arrive<'a>(&self, path: &NibblePath, value: &'a [u8]) -> Result<Descent<'a>, NodeError> {
        if self.depth + path.len() != KEY_NIBBLES {
            return Err(NodeError::PathLength);
        }
        Ok(if path.follows(&self.key, self.depth) { Descent::Value(value) } else { Descent::Absent })
    }
}

enum Step<'a> {
    Embedded(&'a [u8]),
    Done(Descent<'a>),
}
