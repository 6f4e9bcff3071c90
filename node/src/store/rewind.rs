//! Taking the mirror back to a height below which nothing was pruned.

use super::column::Rewinding;
use super::family::Family;
use super::version::{self, Former};
use super::{Accounts, Cursor, Durability, Headers, Position, Store, StoreError, Tail};
use crate::limits::REWRITTEN_AT_ONCE;
use rocksdb::IteratorMode;
use std::sync::atomic::Ordering;

impl Store {
    /// Whether everything that was at this height can still be read.
    pub fn reaches_back_to(&self, height: u64) -> bool {
        self.floor.load(Ordering::SeqCst) <= height
    }

    /// Makes the mirror what it was at a height that it [reaches back to](Self::reaches_back_to): what blocks above wrote
    /// is gone, and so are unfinalised ones. What the node signed stays. Reads what was written above, for as long as
    /// that takes: call it where blocking is allowed.
    pub fn rewind_to(&self, position: Position) -> Result<(), StoreError> {
        self.begin_rewinding(position)?;
        self.go_on_rewinding()
    }

    fn begin_rewinding(&self, position: Position) -> Result<(), StoreError> {
        // Who reads above learns that it is no more before it is.
        self.generation.fetch_add(1, Ordering::SeqCst);
        let mut batch = self.batch();
        batch.put::<Rewinding>(&(), &position);
        batch.commit(Durability::Disk)
    }

    /// Takes back what is left to, a bounded batch after the other; whenever the process dies, the next one goes on.
    pub(super) fn go_on_rewinding(&self) -> Result<(), StoreError> {
        let Some(position) = self.get::<Rewinding>(&())? else { return Ok(()) };
        while self.take_back(position.number)? {}
        let mut batch = self.batch();
        batch.delete_range::<Headers>(position.number + 1, u64::MAX);
        batch.delete_range::<Accounts>(position.number + 1, u64::MAX);
        batch.delete_range::<Tail>(0, u64::MAX);
        batch.put::<Cursor>(&(), &position);
        batch.delete::<Rewinding>(&());
        batch.commit(Durability::Disk)
    }

    /// Puts back what the newest blocks above `height` replaced, one batch of it, and says whether there may be more.
    fn take_back(&self, height: u64) -> Result<bool, StoreError> {
        let mut batch = self.batch();
        let mut more = false;
        for entry in self.db.iterator_cf(&self.family(Family::Past), IteratorMode::End) {
            let (key, former) = entry.map_err(|e| self.disk(e))?;
            let damaged = || self.damaged(Family::Past);
            let (above, family, of) = version::parse_past_key(&key).ok_or_else(damaged)?;
            more = above > height && batch.bytes() > REWRITTEN_AT_ONCE;
            if above <= height || more {
                break;
            }
            match Former::decode(&former).ok_or_else(damaged)?.stood {
                Some(stood) => batch.put_raw(family, of, stood),
                None => batch.delete_raw(family, of),
            }
            batch.delete_raw(Family::Past, &key);
        }
        self.upper.change_all(|| batch.commit(Durability::Process))?;
        Ok(more)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{FinalBlock, View};
    use super::*;
    use crate::testing;
    use windlass_protocol::{B256, keccak256};

    const SLOTS: u64 = 20_000;

    fn apply(store: &Store, number: u64) {
        let changes = (0..SLOTS)
            .map(|slot| {
                (keccak256(slot.to_be_bytes()), B256::left_padding_from(&(slot + number).to_be_bytes()))
            })
            .collect();
        let position = Position { number, hash: B256::with_last_byte(number as u8) };
        let block = FinalBlock { position, header: vec![number as u8].into(), changes, account: None };
        store.apply(&block, 1, Durability::Process).unwrap();
    }

    /// More than one batch, cut between two of them: what the next start makes of it is the same.
    #[test]
    fn a_rewind_that_was_cut_goes_on_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let (spec, _) = testing::spec(3);
        let store = Store::open(directory.path(), &spec).unwrap();
        apply(&store, 1);
        let view = |store: &Store| View::new(store, 1, store.generation()).root().unwrap();
        let before = view(&store);
        apply(&store, 2);
        assert_ne!(View::new(&store, 2, 0).root().unwrap(), before);
        let position = Position { number: 1, hash: B256::with_last_byte(1) };
        store.begin_rewinding(position).unwrap();
        assert!(store.take_back(1).unwrap(), "all of it fits one batch: make it larger");
        drop(store);
        let store = Store::open(directory.path(), &spec).unwrap();
        assert_eq!((store.cursor().unwrap(), view(&store)), (Some(position), before));
        assert_eq!(View::new(&store, 9, 0).root().unwrap(), before, "nothing newer is left");
        assert!(store.get::<Rewinding>(&()).unwrap().is_none());
        assert!(store.is_empty(Family::Past).unwrap() || !store.take_back(1).unwrap());
    }
}
