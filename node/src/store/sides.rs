//! The two mirrors of a directory: emptying one, building one beside the other, and changing over.

use super::column::Live;
use super::family::Family;
use super::{Durability, Store, StoreError};
use std::path::Path;
use std::sync::atomic::Ordering;

/// A file in the data directory that asks the node which runs on it, or the next one that does, to build its mirror anew.
const REBUILD_REQUEST: &str = "rebuild-requested";

/// Asks the node of a data directory to build its mirror anew, whether it is running or not.
pub fn request_rebuild(data_dir: &Path) -> std::io::Result<()> {
    std::fs::File::create(data_dir.join(REBUILD_REQUEST))?.sync_all()
}

impl Store {
    /// Empties the mirror, to be rebuilt from the chain. What the node signed, routes and tickets stay.
    pub fn clear_mirror(&self) -> Result<(), StoreError> {
        self.generation.fetch_add(1, Ordering::SeqCst);
        let mut batch = self.batch();
        for family in Family::OF_MIRROR {
            batch.clear(family);
        }
        self.upper.change_all(|| batch.commit(Durability::Disk))?;
        self.floor.store(0, Ordering::SeqCst);
        Ok(())
    }

    /// An empty mirror in the same directory, beside this one, which goes on being read: to be built, and then
    /// [adopted](Self::adopt). One at a time; one that was begun before is thrown away.
    pub fn beside(&self) -> Result<Self, StoreError> {
        let beside = self.of_other_side();
        beside.discard()?;
        Ok(beside)
    }

    /// Reads the mirror that was built beside from now on, and throws the former one away. What decides is one entry:
    /// whenever the process dies, the next one finds one whole mirror.
    pub fn adopt(&self, built: &Self) -> Result<(), StoreError> {
        // Who reads the former one learns that it is no more before it is.
        self.generation.fetch_add(1, Ordering::SeqCst);
        let mut batch = self.batch();
        batch.put::<Live>(&(), &built.side().number());
        batch.commit(Durability::Disk)?;
        self.upper.change_all(|| self.read_side(built.side()));
        self.floor.store(built.floor.load(Ordering::SeqCst), Ordering::SeqCst);
        self.of_other_side().discard()
    }

    /// Whether somebody asked for the mirror to be built anew; see [`request_rebuild`].
    pub fn is_rebuild_requested(&self) -> bool {
        self.path.join(REBUILD_REQUEST).exists()
    }

    /// The request was fulfilled.
    pub fn end_rebuild_request(&self) -> Result<(), StoreError> {
        match std::fs::remove_file(self.path.join(REBUILD_REQUEST)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::File { path: self.path.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// Empties a mirror that nobody reads, down to its files.
    pub(super) fn discard(&self) -> Result<(), StoreError> {
        for family in Family::OF_MIRROR {
            if self.is_empty(family)? {
                continue;
            }
            let mut batch = self.batch();
            batch.clear(family);
            batch.commit(Durability::Process)?;
            self.db.compact_range_cf(&self.family(family), None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{FinalBlock, Position, Signed, View};
    use super::*;
    use crate::testing;
    use windlass_protocol::B256;

    fn word(byte: u8) -> B256 {
        B256::with_last_byte(byte)
    }

    fn apply(store: &Store, number: u64, value: u8) {
        let position = Position { number, hash: word(number as u8) };
        let changes = vec![(word(1), word(value))];
        let block = FinalBlock { position, header: vec![value].into(), changes, account: None };
        store.apply(&block, number, Durability::Process).unwrap();
    }

    fn value(store: &Store, height: u64) -> B256 {
        View::new(store, height, store.generation()).value(&word(1)).unwrap()
    }

    fn former_is_gone(store: &Store) -> bool {
        let other = store.of_other_side();
        Family::OF_MIRROR.into_iter().all(|family| other.is_empty(family).unwrap())
    }

    #[test]
    fn a_mirror_built_beside_is_read_only_once_it_is_adopted() {
        let directory = tempfile::tempdir().unwrap();
        let (spec, _) = testing::spec(3);
        let store = Store::open(directory.path(), &spec).unwrap();
        let mut batch = store.batch();
        batch.put::<Signed>(&(), &Position { number: 7, hash: word(7) });
        batch.commit(Durability::Disk).unwrap();
        apply(&store, 1, 10);
        let beside = store.beside().unwrap();
        apply(&beside, 1, 20);
        apply(&beside, 2, 21);
        let reader = View::new(&store, 1, store.generation());
        reader.check().unwrap();
        // The old one goes on meanwhile.
        apply(&store, 2, 11);
        assert_eq!((value(&store, 2), value(&beside, 2)), (word(11), word(21)));
        let root = View::new(&beside, 2, 0).root().unwrap();
        let reader = View::new(&store, 2, store.generation());
        reader.check().unwrap();
        store.adopt(&beside).unwrap();
        assert!(reader.check().is_err(), "a reader under way must notice");
        assert_eq!((value(&store, 2), store.cursor().unwrap().unwrap().number), (word(21), 2));
        assert_eq!(View::new(&store, 2, store.generation()).root().unwrap(), root);
        assert!(former_is_gone(&store));
        assert_eq!(store.get::<Signed>(&()).unwrap().unwrap().number, 7);
        drop((beside, store));
        let store = Store::open(directory.path(), &spec).unwrap();
        assert_eq!((value(&store, 2), store.cursor().unwrap().unwrap().number), (word(21), 2));
        // And the other way round.
        let beside = store.beside().unwrap();
        apply(&beside, 5, 30);
        store.adopt(&beside).unwrap();
        assert_eq!(value(&store, 5), word(30));
    }

    #[test]
    fn a_mirror_that_was_not_adopted_is_gone_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let (spec, _) = testing::spec(3);
        let store = Store::open(directory.path(), &spec).unwrap();
        apply(&store, 1, 10);
        let beside = store.beside().unwrap();
        apply(&beside, 9, 20);
        drop((beside, store));
        let store = Store::open(directory.path(), &spec).unwrap();
        assert_eq!((value(&store, 1), store.cursor().unwrap().unwrap().number), (word(10), 1));
        assert!(former_is_gone(&store));
    }
}
