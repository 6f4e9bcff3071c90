//! The trie nodes of the upper levels in memory: what every proof begins with.
//!
//! Owns a bounded copy of what the store holds, never the only one. It takes in only what is the newest of its place, so
//! an entry holds for every height from its block on, until a block changes it.

use crate::limits::CACHED_TRIE_NIBBLES;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use windlass_protocol::trie::NibblePath;

/// Parts with a lock each, so that readers rarely meet a writer.
const PARTS: usize = 16;

/// One trie node, and the block that put it there.
type Kept = (u64, Box<[u8]>);

/// The upper levels of one trie.
#[derive(Default)]
pub(super) struct Upper {
    parts: [RwLock<HashMap<NibblePath, Kept>>; PARTS],
    /// Odd while a batch that changes them is being written.
    changes: AtomicU64,
}

/// What a reader saw before it read the disk: what it found there counts only if nothing changed since.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen(u64);

impl Upper {
    /// Whether a trie node of this place is kept here.
    pub(super) fn covers(path: &NibblePath) -> bool {
        path.len() <= CACHED_TRIE_NIBBLES
    }

    /// The trie node that stood at a place as of `height`, if it is known.
    pub(super) fn at(&self, path: &NibblePath, height: u64) -> Option<Vec<u8>> {
        let part = self.read(path);
        part.get(path).filter(|(since, _)| *since <= height).map(|(_, node)| node.to_vec())
    }

    /// To be asked before the disk is read.
    pub(super) fn seen(&self) -> Seen {
        Seen(self.changes.load(Ordering::SeqCst))
    }

    /// Keeps the newest trie node of a place, read after `seen`.
    pub(super) fn keep(&self, path: &NibblePath, since: u64, node: &[u8], seen: Seen) {
        let mut part = self.write(path);
        // Whoever changes it from here on waits for this lock to take it out again.
        if seen.0.is_multiple_of(2) && self.seen() == seen {
            part.insert(*path, (since, node.into()));
        }
    }

    /// Writes what changes these places, and forgets what was there.
    pub(super) fn change<'p, T>(
        &self,
        paths: impl Iterator<Item = &'p NibblePath>,
        write: impl FnOnce() -> T,
    ) -> T {
        self.changes.fetch_add(1, Ordering::SeqCst);
        let written = write();
        for path in paths.filter(|path| Self::covers(path)) {
            self.write(path).remove(path);
        }
        self.changes.fetch_add(1, Ordering::SeqCst);
        written
    }

    /// The same where everything changes.
    pub(super) fn change_all<T>(&self, write: impl FnOnce() -> T) -> T {
        self.changes.fetch_add(1, Ordering::SeqCst);
        let written = write();
        for part in &self.parts {
            part.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
        self.changes.fetch_add(1, Ordering::SeqCst);
        written
    }

    fn part(&self, path: &NibblePath) -> &RwLock<HashMap<NibblePath, Kept>> {
        let last = path.to_bytes().last().copied().unwrap_or_default();
        &self.parts[usize::from(last) % PARTS]
    }

    fn read(&self, path: &NibblePath) -> RwLockReadGuard<'_, HashMap<NibblePath, Kept>> {
        self.part(path).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, path: &NibblePath) -> RwLockWriteGuard<'_, HashMap<NibblePath, Kept>> {
        self.part(path).write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn path(nibbles: &[u8]) -> NibblePath {
        NibblePath::from_bytes(nibbles).unwrap()
    }

    #[test]
    fn an_entry_holds_from_its_block_on_until_it_is_changed() {
        let (upper, at) = (Upper::default(), path(&[3]));
        upper.keep(&at, 5, b"node", upper.seen());
        assert_eq!(upper.at(&at, 4), None, "what was there before is not known");
        assert_eq!((upper.at(&at, 5), upper.at(&at, 9)), (Some(b"node".to_vec()), Some(b"node".to_vec())));
        upper.change([path(&[4])].iter(), || ());
        assert!(upper.at(&at, 5).is_some(), "another place");
        upper.change([at].iter(), || ());
        assert_eq!(upper.at(&at, 5), None);
    }

    #[test]
    fn what_was_read_before_a_change_is_never_kept() {
        let (upper, at) = (Upper::default(), path(&[3]));
        let seen = upper.seen();
        upper.change([at].iter(), || upper.keep(&at, 5, b"in between", upper.seen()));
        upper.keep(&at, 5, b"from before", seen);
        assert_eq!(upper.at(&at, 9), None);
        let seen = upper.seen();
        upper.change_all(|| ());
        upper.keep(&at, 5, b"from before", seen);
        assert_eq!(upper.at(&at, 9), None);
    }

    #[test]
    fn only_the_upper_levels_are_covered() {
        assert!(Upper::covers(&path(&[1; CACHED_TRIE_NIBBLES])));
        assert!(!Upper::covers(&path(&[1; CACHED_TRIE_NIBBLES + 1])));
    }
}
