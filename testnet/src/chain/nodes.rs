//! Trie nodes as they are now, and as they were after each of the last blocks.
//!
//! Owns versioning: which bytes stood at a path of a trie after a given block. The store holds what stands
//! there now, and beside it, for each block of the window that changed the path, what stood there before:
//! reading the newest state is one look-up, an older one two. It never looks into a trie node, and knows
//! neither accounts nor slots.

use super::store::{Batch, Key, Store, StoreError};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use windlass_protocol::trie::{NibblePath, NodeStore, TrieId};

/// Where a trie node stands.
type Place = (TrieId, NibblePath);

/// What a block makes of one place: the bytes before and after, `None` where there is no trie node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

/// What one block changes.
pub(crate) type Writes = BTreeMap<Place, Write>;

/// The tries after each block of the window.
pub(crate) struct NodeHistory {
    store: Arc<Store>,
    /// The newest block: what the store has without further ado.
    tip: u64,
    /// The lowest block of which the store still has a list of changes.
    first: u64,
}

impl NodeHistory {
    /// The tries in `store`, whose newest block is `tip`.
    pub(crate) fn open(store: Arc<Store>, tip: u64) -> Result<Self, StoreError> {
        let first = store.first_changed()?.unwrap_or(tip + 1);
        Ok(Self { store, tip, first })
    }

    /// The oldest block after which the tries can still be read. Taking blocks off doesn't bring back what was
    /// pruned.
    pub(crate) fn oldest(&self) -> u64 {
        self.first.saturating_sub(1)
    }

    /// The tries after block `height`, to read.
    pub(crate) fn at(&self, height: u64) -> Draft<'_> {
        Draft { history: self, height, read: None, writes: Writes::new() }
    }

    /// The tries after block `height`, to make changes on top.
    pub(crate) fn draft(&self, height: u64) -> Draft<'_> {
        Draft { read: Some(RefCell::default()), ..self.at(height) }
    }

    /// Puts what block `height` changes into `batch`. The block counts once [`NodeHistory::moved`] says so.
    pub(crate) fn commit(&self, batch: &mut Batch, height: u64, writes: &Writes) {
        for ((trie, path), write) in writes {
            put(batch, *trie, *path, write.after.as_deref());
        }
        // Nothing came before the first block.
        if height > 0 {
            for ((trie, path), write) in writes {
                batch.put(Key::Past(*trie, *path, height), write.before.as_deref().unwrap_or_default());
            }
            batch.put(Key::Changed(height), encode_places(writes.keys()));
        }
    }

    /// Puts into `batch` what undoes every block above `height`.
    pub(crate) fn rewind(&self, batch: &mut Batch, height: u64) -> Result<(), StoreError> {
        // The newest first, so that what the lowest of them found is what stays.
        for undone in (height + 1..=self.tip).rev() {
            for (trie, path) in self.changed(undone)? {
                let past = Key::Past(trie, path, undone);
                let before = self.store.get(past)?.filter(|node| !node.is_empty());
                put(batch, trie, path, before.as_deref());
                batch.delete(past);
            }
            batch.delete(Key::Changed(undone));
        }
        Ok(())
    }

    /// Puts into `batch` what forgets all that only blocks below `oldest` need.
    pub(crate) fn prune(&self, batch: &mut Batch, oldest: u64) -> Result<(), StoreError> {
        // What stood before block `oldest` is of no use to `oldest` itself.
        for height in self.first..=oldest.min(self.tip) {
            for (trie, path) in self.changed(height)? {
                batch.delete(Key::Past(trie, path, height));
            }
            batch.delete(Key::Changed(height));
        }
        Ok(())
    }

    /// Says that the store now holds blocks up to `tip`, and that everything below `oldest` is forgotten.
    pub(crate) fn moved(&mut self, tip: u64, oldest: u64) {
        self.tip = tip;
        self.first = self.first.max(oldest + 1).min(tip + 1);
    }

    fn changed(&self, height: u64) -> Result<Vec<Place>, StoreError> {
        Ok(self.store.get(Key::Changed(height))?.map(|list| decode_places(&list)).unwrap_or_default())
    }

    fn load(&self, height: u64, (trie, path): Place) -> Result<Option<Vec<u8>>, StoreError> {
        let past = if height < self.tip { self.store.past_after(trie, &path, height)? } else { None };
        match past {
            Some(node) => Ok(Some(node).filter(|node| !node.is_empty())),
            None => self.store.get(Key::Node(trie, path)),
        }
    }
}

fn put(batch: &mut Batch, trie: TrieId, path: NibblePath, node: Option<&[u8]>) {
    match node {
        Some(node) => batch.put(Key::Node(trie, path), node),
        None => batch.delete(Key::Node(trie, path)),
    }
}

fn encode_places<'a>(places: impl Iterator<Item = &'a Place>) -> Vec<u8> {
    let mut list = Vec::new();
    for (trie, path) in places {
        list.extend_from_slice(trie.as_slice());
        list.push(path.len() as u8);
        list.extend(path.to_bytes());
    }
    list
}

/// The places of a list; what follows something unreadable is left out.
fn decode_places(mut list: &[u8]) -> Vec<Place> {
    let mut places = Vec::new();
    while let Some((trie, rest)) = list.split_first_chunk::<32>()
        && let Some((length, rest)) = rest.split_first()
        && let Some((path, rest)) = rest.split_at_checked(usize::from(*length))
        && let Some(path) = NibblePath::from_bytes(path)
    {
        places.push((TrieId::from(trie), path));
        list = rest;
    }
    places
}

/// The tries after one block, and changes on top that nobody else sees until they are committed.
pub(crate) struct Draft<'a> {
    history: &'a NodeHistory,
    height: u64,
    /// What was read on the way, so that a change knows what it replaces without reading it again.
    read: Option<RefCell<HashMap<Place, Option<Vec<u8>>>>>,
    writes: Writes,
}

impl Draft<'_> {
    /// The changes made on top.
    pub(crate) fn into_writes(self) -> Writes {
        self.writes
    }
}

impl NodeStore for Draft<'_> {
    type Error = StoreError;

    fn load(&self, trie: TrieId, path: &NibblePath) -> Result<Option<Vec<u8>>, StoreError> {
        let place = (trie, *path);
        if let Some(write) = self.writes.get(&place) {
            return Ok(write.after.clone());
        }
        let node = self.history.load(self.height, place)?;
        if let Some(read) = &self.read {
            read.borrow_mut().insert(place, node.clone());
        }
        Ok(node)
    }

    fn store(&mut self, trie: TrieId, path: &NibblePath, node: Option<&[u8]>) -> Result<(), StoreError> {
        let (place, after) = ((trie, *path), node.map(<[u8]>::to_vec));
        if let Some(write) = self.writes.get_mut(&place) {
            write.after = after;
            return Ok(());
        }
        let before = match self.read.as_mut().and_then(|read| read.get_mut().remove(&place)) {
            Some(before) => before,
            None => self.history.load(self.height, place)?,
        };
        self.writes.insert(place, Write { before, after });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TRIE: TrieId = TrieId::repeat_byte(1);

    fn path() -> NibblePath {
        NibblePath::from_bytes(&[1, 2]).unwrap()
    }

    fn write(history: &NodeHistory, node: Option<&[u8]>) -> Writes {
        let mut draft = history.draft(history.tip);
        draft.store(TRIE, &path(), node).unwrap();
        draft.into_writes()
    }

    fn commit(history: &mut NodeHistory, height: u64, node: Option<&[u8]>) {
        let (writes, mut batch) = (write(history, node), Batch::default());
        history.commit(&mut batch, height, &writes);
        history.store.write(batch).unwrap();
        history.moved(height, 0);
    }

    fn rewind(history: &mut NodeHistory, height: u64) {
        let mut batch = Batch::default();
        history.rewind(&mut batch, height).unwrap();
        history.store.write(batch).unwrap();
        history.moved(height, 0);
    }

    fn prune(history: &mut NodeHistory, oldest: u64) {
        let mut batch = Batch::default();
        history.prune(&mut batch, oldest).unwrap();
        history.store.write(batch).unwrap();
        history.moved(history.tip, oldest);
    }

    fn read(history: &NodeHistory, height: u64) -> Option<Vec<u8>> {
        history.at(height).load(TRIE, &path()).unwrap()
    }

    fn past(history: &NodeHistory) -> usize {
        let versions =
            (0..9).filter(|height| history.store.get(Key::Past(TRIE, path(), *height)).unwrap().is_some());
        versions.count()
    }

    fn history() -> NodeHistory {
        let mut history = NodeHistory::open(Arc::new(Store::in_memory().unwrap()), 0).unwrap();
        commit(&mut history, 1, Some(b"one"));
        history.moved(2, 0);
        commit(&mut history, 3, None);
        history.moved(4, 0);
        commit(&mut history, 5, Some(b"five"));
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
        rewind(&mut history, 4);
        assert_eq!(read(&history, 9), None);
        rewind(&mut history, 2);
        assert_eq!(read(&history, 9), Some(b"one".to_vec()));
        rewind(&mut history, 0);
        assert_eq!(read(&history, 9), None);
        assert_eq!(past(&history), 0);
    }

    #[test]
    fn pruning_keeps_what_the_window_needs_and_nothing_else() {
        let mut history = history();
        prune(&mut history, 2);
        assert_eq!((read(&history, 2), past(&history)), (Some(b"one".to_vec()), 2));
        prune(&mut history, 4);
        assert_eq!((read(&history, 4), past(&history)), (None, 1));
        prune(&mut history, 5);
        assert_eq!((read(&history, 5), past(&history)), (Some(b"five".to_vec()), 0));
        commit(&mut history, 7, None);
        prune(&mut history, 7);
        assert_eq!((read(&history, 7), past(&history)), (None, 0));
        assert_eq!(history.store.get(Key::Node(TRIE, path())).unwrap(), None);
    }

    #[test]
    fn what_was_pruned_is_remembered_over_a_restart() {
        let mut history = history();
        prune(&mut history, 2);
        let again = NodeHistory::open(history.store.clone(), history.tip).unwrap();
        assert_eq!((again.first, again.tip), (3, 5));
        assert_eq!(read(&again, 3), None);
    }

    #[test]
    fn what_was_pruned_does_not_come_back_with_a_rewind() {
        let mut history = history();
        prune(&mut history, 3);
        rewind(&mut history, 4);
        assert_eq!(history.oldest(), 3);
        rewind(&mut history, 3);
        let again = NodeHistory::open(history.store.clone(), history.tip).unwrap();
        assert_eq!((history.oldest(), again.oldest()), (3, 3));
        commit(&mut history, 4, Some(b"four"));
        assert_eq!(history.oldest(), 3);
    }

    #[test]
    fn a_draft_is_seen_by_itself_only() {
        let history = history();
        let mut draft = history.draft(5);
        draft.store(TRIE, &path(), Some(b"draft")).unwrap();
        draft.store(TRIE, &path(), Some(b"again")).unwrap();
        assert_eq!(draft.load(TRIE, &path()).unwrap(), Some(b"again".to_vec()));
        assert_eq!(read(&history, 5), Some(b"five".to_vec()));
        let write = Write { before: Some(b"five".to_vec()), after: Some(b"again".to_vec()) };
        assert_eq!(draft.into_writes(), Writes::from([((TRIE, path()), write)]));
    }

    #[test]
    fn lists_of_places_survive_and_cut_ones_end_early() {
        let places = [(TRIE, path()), (TrieId::ZERO, NibblePath::ROOT)];
        let list = encode_places(places.iter());
        assert_eq!(decode_places(&list), places);
        assert_eq!(decode_places(&list[..list.len() - 1]), places[..1]);
    }
}
