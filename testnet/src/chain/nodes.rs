//! Trie nodes of the last blocks, every version of each.
//!
//! Owns versioning: which bytes stood at a path of a trie after a given block. It never looks into a trie
//! node, and knows neither accounts nor slots.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use windlass_protocol::trie::{NibblePath, NodeStore, TrieId};

/// What one block changes: the new bytes at each path, `None` where a trie node went away.
pub(crate) type Writes = BTreeMap<(TrieId, NibblePath), Option<Vec<u8>>>;

/// One trie node as one block left it.
struct Version {
    height: u64,
    node: Option<Box<[u8]>>,
}

/// Trie nodes by trie and path, each with its versions, oldest first.
#[derive(Default)]
pub(crate) struct NodeHistory {
    tries: HashMap<TrieId, HashMap<NibblePath, Vec<Version>>>,
    /// What each block still in the window changed, oldest first: makes pruning and rewinding as cheap as
    /// the change was.
    changed: VecDeque<(u64, Vec<(TrieId, NibblePath)>)>,
}

impl NodeHistory {
    /// The tries after block `height`, with room for changes on top.
    pub(crate) fn at(&self, height: u64) -> Draft<'_> {
        Draft { history: self, height, writes: Writes::new() }
    }

    /// Takes what block `height` changed. Heights ascend.
    pub(crate) fn commit(&mut self, height: u64, writes: Writes) {
        let mut keys = Vec::with_capacity(writes.len());
        for ((trie, path), node) in writes {
            let node = node.map(Vec::into_boxed_slice);
            self.tries.entry(trie).or_default().entry(path).or_default().push(Version { height, node });
            keys.push((trie, path));
        }
        self.changed.push_back((height, keys));
    }

    /// Forgets every block above `height`.
    pub(crate) fn rewind(&mut self, height: u64) {
        while self.changed.back().is_some_and(|(changed, _)| *changed > height) {
            let Some((_, keys)) = self.changed.pop_back() else { return };
            for key in keys {
                self.edit(key, |versions| versions.retain(|version| version.height <= height));
            }
        }
    }

    /// Forgets what only blocks below `oldest` need.
    pub(crate) fn prune(&mut self, oldest: u64) {
        while self.changed.front().is_some_and(|(changed, _)| *changed <= oldest) {
            let Some((_, keys)) = self.changed.pop_front() else { return };
            for key in keys {
                self.edit(key, |versions| forget_below(versions, oldest));
            }
        }
    }

    fn edit(&mut self, (trie, path): (TrieId, NibblePath), edit: impl FnOnce(&mut Vec<Version>)) {
        let Some(paths) = self.tries.get_mut(&trie) else { return };
        let Some(versions) = paths.get_mut(&path) else { return };
        edit(versions);
        if versions.is_empty() {
            paths.remove(&path);
        }
        if paths.is_empty() {
            self.tries.remove(&trie);
        }
    }
}

/// Keeps the version in force at `oldest` and all later ones; a removal in force at `oldest` says no more
/// than no version at all.
fn forget_below(versions: &mut Vec<Version>, oldest: u64) {
    let in_force = versions.partition_point(|version| version.height <= oldest);
    let mut from = in_force.saturating_sub(1);
    if versions.get(from).is_some_and(|version| version.height <= oldest && version.node.is_none()) {
        from += 1;
    }
    versions.drain(..from);
}

/// The tries after one block, and changes on top that nobody else sees until they are committed.
pub(crate) struct Draft<'a> {
    history: &'a NodeHistory,
    height: u64,
    writes: Writes,
}

impl Draft<'_> {
    /// The changes made on top.
    pub(crate) fn into_writes(self) -> Writes {
        self.writes
    }
}

impl NodeStore for Draft<'_> {
    type Error = Infallible;

    fn load(&self, trie: TrieId, path: &NibblePath) -> Result<Option<Vec<u8>>, Infallible> {
        if let Some(node) = self.writes.get(&(trie, *path)) {
            return Ok(node.clone());
        }
        let Some(versions) = self.history.tries.get(&trie).and_then(|paths| paths.get(path)) else {
            return Ok(None);
        };
        let after = versions.partition_point(|version| version.height <= self.height);
        Ok(after.checked_sub(1).and_then(|index| versions[index].node.as_deref().map(<[u8]>::to_vec)))
    }

    fn store(&mut self, trie: TrieId, path: &NibblePath, node: Option<&[u8]>) -> Result<(), Infallible> {
        self.writes.insert((trie, *path), node.map(<[u8]>::to_vec));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use windlass_protocol::B256;

    const TRIE: TrieId = B256::ZERO;

    fn path() -> NibblePath {
        NibblePath::from_bytes(&[1, 2]).unwrap()
    }

    fn write(node: Option<&[u8]>) -> Writes {
        Writes::from([((TRIE, path()), node.map(<[u8]>::to_vec))])
    }

    fn read(history: &NodeHistory, height: u64) -> Option<Vec<u8>> {
        history.at(height).load(TRIE, &path()).unwrap()
    }

    fn history() -> NodeHistory {
        let mut history = NodeHistory::default();
        history.commit(1, write(Some(b"one")));
        history.commit(3, write(None));
        history.commit(5, write(Some(b"five")));
        history
    }

    #[test]
    fn every_height_reads_its_own_version() {
        let history = history();
        let read: Vec<_> = (0..7).map(|height| read(&history, height)).collect();
        let (one, five) = (Some(b"one".to_vec()), Some(b"five".to_vec()));
        assert_eq!(read, [None, one.clone(), one, None, None, five.clone(), five]);
    }

    #[test]
    fn rewinding_brings_back_what_was() {
        let mut history = history();
        history.rewind(4);
        assert_eq!(read(&history, 9), None);
        history.rewind(2);
        assert_eq!(read(&history, 9), Some(b"one".to_vec()));
        history.rewind(0);
        assert_eq!(read(&history, 9), None);
        assert!(history.tries.is_empty());
    }

    #[test]
    fn pruning_keeps_what_the_window_needs_and_nothing_else() {
        let mut history = history();
        history.prune(2);
        assert_eq!(read(&history, 2), Some(b"one".to_vec()));
        history.prune(4);
        assert_eq!(read(&history, 4), None);
        assert_eq!(history.tries[&TRIE][&path()].len(), 1);
        history.prune(6);
        assert_eq!(read(&history, 6), Some(b"five".to_vec()));
        history.commit(7, write(None));
        history.prune(8);
        assert!(history.tries.is_empty());
    }

    #[test]
    fn a_draft_is_seen_by_itself_only() {
        let history = history();
        let mut draft = history.at(5);
        draft.store(TRIE, &path(), Some(b"draft")).unwrap();
        assert_eq!(draft.load(TRIE, &path()).unwrap(), Some(b"draft".to_vec()));
        assert_eq!(read(&history, 5), Some(b"five".to_vec()));
        assert_eq!(draft.into_writes(), write(Some(b"draft")));
    }
}
