//! Taking the mirror back to a height whose versions are all still there.

use super::column::{self, Family};
use super::{Accounts, Cursor, Durability, Headers, Position, Store, StoreError, Tail};
use std::sync::atomic::Ordering;

impl Store {
    /// Whether everything that was at this height can still be read.
    pub fn reaches_back_to(&self, height: u64) -> bool {
        self.floor.load(Ordering::SeqCst) <= height
    }

    /// Makes the mirror what it was at a height that it [reaches back to](Self::reaches_back_to): what blocks above wrote
    /// is gone, and so are unfinalised ones. What the node signed stays. Reads all slots and trie nodes: for what is
    /// rare, where blocking is allowed.
    pub fn rewind_to(&self, position: Position) -> Result<(), StoreError> {
        let height = position.number;
        // Who reads above learns that it is no more before it is.
        self.generation.fetch_add(1, Ordering::SeqCst);
        let mut batch = self.batch();
        for family in [Family::Slot, Family::Trie] {
            self.for_each_key(family, |key| {
                let version = column::height_of_version(key)?;
                if version > height {
                    batch.delete_raw(family, key);
                }
                Some(())
            })?;
        }
        // What they made stale isn't any more.
        self.for_each_key(Family::Stale, |key| {
            let (from, _, _) = column::parse_stale(key)?;
            if from > height {
                batch.delete_raw(Family::Stale, key);
            }
            Some(())
        })?;
        batch.delete_range::<Headers>(height + 1, u64::MAX);
        batch.delete_range::<Accounts>(height + 1, u64::MAX);
        batch.delete_range::<Tail>(0, u64::MAX);
        batch.put::<Cursor>(&(), &position);
        batch.commit(Durability::Disk)
    }
}
