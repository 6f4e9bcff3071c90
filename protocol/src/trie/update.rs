//! Changing a stored trie by a whole batch at once.
//!
//! Owns how a trie grows, splits, shrinks and collapses. Only the trie nodes on the way to a change are
//! read, each one once, and each one that differs afterwards is written once. Recursion is over the own
//! store and as deep as a path at most: 64 nibbles.

use super::node::{self, HASHED_FROM_BYTES, Link, Node, NodeError, RADIX};
use super::path::{KEY_NIBBLES, NibblePath};
use super::store::{NodeStore, TrieError};
use super::{EMPTY_ROOT, TrieId};
use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};
use alloy_primitives::{B256, keccak256};
use core::mem;

/// Applies `changes` to `trie` and returns its new root. Keys are already hashed; a value is the RLP that its
/// leaf holds; `None` deletes, and deleting an absent key changes nothing.
///
/// # Errors
/// A failing or damaged store, or an empty value. The store may then hold a part of the changes: discard
/// what was written to it.
pub fn update<S: NodeStore>(
    store: &mut S,
    trie: TrieId,
    changes: &BTreeMap<B256, Option<Vec<u8>>>,
) -> Result<B256, TrieError<S::Error>> {
    if let Some((key, _)) = changes.iter().find(|(_, value)| value.as_ref().is_some_and(Vec::is_empty)) {
        return Err(TrieError::EmptyValue { key: *key });
    }
    let changes: Vec<_> = changes
        .iter()
        .map(|(key, value)| Change { key: NibblePath::from_key(key), value: value.as_deref() })
        .collect();
    Update { store, trie }.run(&changes)
}

/// What becomes of one key.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    /// The key's whole path.
    pub(super) key: NibblePath,
    /// Its new value, `None` to delete it.
    pub(super) value: Option<&'a [u8]>,
}

/// One batch on its way into one trie.
pub(super) struct Update<'s, S> {
    pub(super) store: &'s mut S,
    pub(super) trie: TrieId,
}

/// What hangs at one path during an update.
enum Slot {
    /// As the store has it.
    Settled(Link),
    /// In hand, not yet encoded. `stored` if the store holds a former trie node at the same path.
    Loose { node: Option<Node>, stored: bool },
}

impl Slot {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Settled(Link::Empty) | Self::Loose { node: None, .. })
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::Settled(Link::Empty)
    }
}

type Outcome<T, S> = Result<T, TrieError<<S as NodeStore>::Error>>;

impl<S: NodeStore> Update<'_, S> {
    /// Applies sorted changes and returns the new root.
    pub(super) fn run(&mut self, changes: &[Change<'_>]) -> Outcome<B256, S> {
        let path = NibblePath::ROOT;
        let former = self.store.load(self.trie, &path).map_err(TrieError::Store)?;
        let node = former.as_deref().map(|rlp| self.decode(&path, rlp)).transpose()?;
        let (node, changed) = self.change(path, node, changes)?;
        if !changed {
            return Ok(former.map_or(EMPTY_ROOT, keccak256));
        }
        // The root is stored and hashed whatever its length: it has no parent to be embedded in.
        let rlp = node.map(|node| node.encode());
        self.store.store(self.trie, &path, rlp.as_deref()).map_err(TrieError::Store)?;
        Ok(rlp.map_or(EMPTY_ROOT, keccak256))
    }

    /// Applies the changes below `at` to what is linked there.
    fn rebuild(&mut self, at: NibblePath, link: Link, changes: &[Change<'_>]) -> Outcome<Slot, S> {
        let node = self.open(&at, &link)?;
        let (node, changed) = self.change(at, node, changes)?;
        let stored = matches!(link, Link::Hash(_));
        Ok(if changed { Slot::Loose { node, stored } } else { Slot::Settled(link) })
    }

    /// Applies the changes below `at` to the node in hand. Returns what becomes of it and whether it differs.
    fn change(
        &mut self,
        at: NibblePath,
        node: Option<Node>,
        changes: &[Change<'_>],
    ) -> Outcome<(Option<Node>, bool), S> {
        match node {
            None => self.grow(at, changes),
            Some(Node::Leaf { path, value }) => self.change_leaf(at, path, value, changes),
            Some(Node::Extension { path, child }) => self.change_extension(at, path, child, changes),
            Some(Node::Branch(links)) => self.change_branch(at, links.map(Slot::Settled), changes),
        }
    }

    /// Makes a subtree of the inserts among the changes.
    fn grow(&mut self, at: NibblePath, changes: &[Change<'_>]) -> Outcome<(Option<Node>, bool), S> {
        let inserts = |change: &Change<'_>| change.value.is_some();
        let (Some(first), Some(last)) = (changes.iter().position(inserts), changes.iter().rposition(inserts))
        else {
            return Ok((None, false));
        };
        if let (true, Some(value)) = (first == last, changes[first].value) {
            let path = changes[first].key.suffix(at.len());
            return Ok((Some(Node::Leaf { path, value: value.to_vec() }), true));
        }
        // Sorted, so everything in between shares what the outermost two share.
        let shared = changes[first].key.common(&changes[last].key);
        let branch_at = changes[first].key.prefix(shared);
        let (branch, _) = self.change_branch(branch_at, Default::default(), &changes[first..=last])?;
        let node =
            self.attach(at, branch_at.suffix(at.len()), Slot::Loose { node: branch, stored: false })?;
        Ok((node, true))
    }

    fn change_leaf(
        &mut self,
        at: NibblePath,
        path: NibblePath,
        value: Vec<u8>,
        changes: &[Change<'_>],
    ) -> Outcome<(Option<Node>, bool), S> {
        let key = at.join(&path);
        let found = changes.binary_search_by(|change| change.key.cmp(&key));
        let others = changes.iter().filter(|change| change.key != key && change.value.is_some()).count();
        let kept = found.map_or(true, |index| changes[index].value == Some(value.as_slice()));
        if kept && others == 0 {
            return Ok((Some(Node::Leaf { path, value }), false));
        }
        let (node, _) = match found {
            Ok(_) => self.grow(at, changes)?,
            Err(index) => {
                let mut all = changes.to_vec();
                all.insert(index, Change { key, value: Some(&value) });
                self.grow(at, &all)?
            }
        };
        Ok((node, true))
    }

    fn change_extension(
        &mut self,
        at: NibblePath,
        path: NibblePath,
        child: Link,
        changes: &[Change<'_>],
    ) -> Outcome<(Option<Node>, bool), S> {
        let child_at = at.join(&path);
        // Only inserts beside the extension split it; deletes there find nothing.
        let beside = changes.iter().filter(|change| change.value.is_some());
        let cut = beside.map(|change| change.key.common(&child_at)).min().unwrap_or(child_at.len());
        if cut < child_at.len() {
            return self.split_extension(at, path, child, cut - at.len(), changes);
        }
        let within = below(changes, &child_at);
        if within.is_empty() {
            return Ok((Some(Node::Extension { path, child }), false));
        }
        match self.rebuild(child_at, child, within)? {
            Slot::Settled(child) => Ok((Some(Node::Extension { path, child }), false)),
            loose => Ok((self.attach(at, path, loose)?, true)),
        }
    }

    /// Puts a branch into an extension, after `cut` of its nibbles.
    fn split_extension(
        &mut self,
        at: NibblePath,
        path: NibblePath,
        child: Link,
        cut: usize,
        changes: &[Change<'_>],
    ) -> Outcome<(Option<Node>, bool), S> {
        let (head, rest) = (path.prefix(cut), path.suffix(cut + 1));
        let mut slots: [Slot; RADIX] = Default::default();
        slots[usize::from(path.nibble(cut))] = if rest.is_empty() {
            Slot::Settled(child)
        } else {
            // Nothing was stored inside the extension, so this path is free.
            Slot::Loose { node: Some(Node::Extension { path: rest, child }), stored: false }
        };
        let branch_at = at.join(&head);
        let (node, _) = self.change_branch(branch_at, slots, below(changes, &branch_at))?;
        Ok((self.attach(at, head, Slot::Loose { node, stored: false })?, true))
    }

    fn change_branch(
        &mut self,
        at: NibblePath,
        mut slots: [Slot; RADIX],
        changes: &[Change<'_>],
    ) -> Outcome<(Option<Node>, bool), S> {
        for group in changes.chunk_by(|a, b| a.key.nibble(at.len()) == b.key.nibble(at.len())) {
            let nibble = group[0].key.nibble(at.len());
            let slot = &mut slots[usize::from(nibble)];
            *slot = match mem::take(slot) {
                Slot::Settled(link) => self.rebuild(at.child(nibble), link, group)?,
                Slot::Loose { node, stored } => {
                    Slot::Loose { node: self.change(at.child(nibble), node, group)?.0, stored }
                }
            };
        }
        let changed = slots.iter().any(|slot| matches!(slot, Slot::Loose { .. }));
        let occupied = slots.iter().filter(|slot| !slot.is_empty()).count();
        if occupied >= 2 || !changed {
            let mut links: Box<[Link; RADIX]> = Default::default();
            for (nibble, slot) in slots.into_iter().enumerate() {
                links[nibble] = self.settle(&at.child(nibble as u8), slot)?;
            }
            return Ok((Some(Node::Branch(links)), changed));
        }
        Ok((self.collapse(at, slots)?, true))
    }

    /// What is left of a branch that has fewer than two children.
    fn collapse(&mut self, at: NibblePath, slots: [Slot; RADIX]) -> Outcome<Option<Node>, S> {
        let mut left = None;
        for (nibble, slot) in slots.into_iter().enumerate() {
            let head = NibblePath::ROOT.child(nibble as u8);
            if slot.is_empty() {
                self.settle(&at.join(&head), slot)?;
            } else {
                left = self.attach(at, head, slot)?;
            }
        }
        Ok(left)
    }

    /// Hangs what is `head` below `at` directly under `at`: a branch gets an extension, anything else is
    /// merged with the nibbles before it, and its former place is freed. Only what is loose can already
    /// hang there, with an empty `head`.
    fn attach(&mut self, at: NibblePath, head: NibblePath, slot: Slot) -> Outcome<Option<Node>, S> {
        let child_at = at.join(&head);
        let (node, stored) = match slot {
            Slot::Settled(link) => match self.open(&child_at, &link)? {
                Some(Node::Branch(_)) => {
                    return Ok(Some(Node::Extension { path: head, child: link }));
                }
                node => (node, matches!(link, Link::Hash(_))),
            },
            Slot::Loose { node, stored } => (node, stored),
        };
        if head.is_empty() {
            return Ok(node);
        }
        if let Some(branch @ Node::Branch(_)) = node {
            let child = self.settle(&child_at, Slot::Loose { node: Some(branch), stored })?;
            return Ok(Some(Node::Extension { path: head, child }));
        }
        self.free(&child_at, stored)?;
        Ok(node.map(|node| match node {
            Node::Leaf { path, value } => Node::Leaf { path: head.join(&path), value },
            Node::Extension { path, child } => Node::Extension { path: head.join(&path), child },
            branch => branch,
        }))
    }

    /// Writes what is in hand to its path and returns the link to it.
    fn settle(&mut self, at: &NibblePath, slot: Slot) -> Outcome<Link, S> {
        let (node, stored) = match slot {
            Slot::Settled(link) => return Ok(link),
            Slot::Loose { node, stored } => (node, stored),
        };
        let Some(rlp) = node.map(|node| node.encode()) else {
            self.free(at, stored)?;
            return Ok(Link::Empty);
        };
        if rlp.len() < HASHED_FROM_BYTES {
            self.free(at, stored)?;
            return Ok(Link::Embedded(rlp));
        }
        self.store.store(self.trie, at, Some(&rlp)).map_err(TrieError::Store)?;
        Ok(Link::Hash(keccak256(&rlp)))
    }

    fn free(&mut self, at: &NibblePath, stored: bool) -> Outcome<(), S> {
        if stored {
            self.store.store(self.trie, at, None).map_err(TrieError::Store)?;
        }
        Ok(())
    }

    /// The trie node that is linked at `at`.
    fn open(&self, at: &NibblePath, link: &Link) -> Outcome<Option<Node>, S> {
        let trie = self.trie;
        match link {
            Link::Empty => Ok(None),
            Link::Embedded(rlp) => self.decode(at, rlp).map(Some),
            Link::Hash(_) => {
                let rlp = self.store.load(trie, at).map_err(TrieError::Store)?;
                self.decode(at, &rlp.ok_or(TrieError::Missing { trie, path: *at })?).map(Some)
            }
        }
    }

    /// Decodes a trie node and checks that the paths it leads to are as long as keys are.
    fn decode(&self, at: &NibblePath, rlp: &[u8]) -> Outcome<Node, S> {
        let damaged = |fault| TrieError::Damaged { trie: self.trie, path: *at, fault };
        let node = Node::from(node::decode(rlp).map_err(damaged)?);
        let fits = match &node {
            Node::Leaf { path, .. } => at.len() + path.len() == KEY_NIBBLES,
            Node::Extension { path, .. } => at.len() + path.len() < KEY_NIBBLES,
            Node::Branch(_) => at.len() < KEY_NIBBLES,
        };
        if fits { Ok(node) } else { Err(damaged(NodeError::PathLength)) }
    }
}

/// The changes whose keys start with `head`: together, since changes are sorted.
fn below<'c, 'v>(changes: &'c [Change<'v>], head: &NibblePath) -> &'c [Change<'v>] {
    let start = changes.partition_point(|change| change.key < *head);
    let end = start + changes[start..].partition_point(|change| change.key.starts_with(head));
    &changes[start..end]
}
