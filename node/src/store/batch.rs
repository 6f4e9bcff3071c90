//! Batches: changes across column families that are written whole or not at all.

use super::family::Family;
use super::{Column, Store, StoreError};
use rocksdb::{BoundColumnFamily, WriteBatch, WriteOptions};
use std::sync::Arc;

/// Whether a batch is on disk when it returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// It survives the process, not a power cut: what the chain can tell again.
    Process,
    /// It survives a power cut.
    Disk,
}

/// Changes that are written together or not at all, across column families.
pub struct Batch<'s> {
    store: &'s Store,
    inner: WriteBatch,
}

impl<'s> Batch<'s> {
    /// An empty one.
    pub(super) fn new(store: &'s Store) -> Self {
        Self { store, inner: WriteBatch::default() }
    }

    /// Puts an entry.
    pub fn put<C: Column>(&mut self, key: &C::Key, value: &C::Value) {
        self.inner.put_cf(&self.store.family(C::FAMILY), C::key(key), C::encode(value));
    }

    /// Deletes an entry, if there is one.
    pub fn delete<C: Column>(&mut self, key: &C::Key) {
        self.inner.delete_cf(&self.store.family(C::FAMILY), C::key(key));
    }

    /// Deletes the entries by number from `from` up to but without `to`.
    pub fn delete_range<C: Column<Key = u64>>(&mut self, from: u64, to: u64) {
        self.inner.delete_range_cf(&self.store.family(C::FAMILY), from.to_be_bytes(), to.to_be_bytes());
    }

    /// Deletes a whole family's entries.
    pub(super) fn clear(&mut self, family: Family) {
        // Longer than any key and of the highest bytes: after all of them.
        self.inner.delete_range_cf(&self.store.family(family), &[][..], &[0xff; 128][..]);
    }

    /// Deletes what a former family has below a key.
    pub(super) fn delete_up_to(&mut self, family: &Arc<BoundColumnFamily<'_>>, end: &[u8]) {
        self.inner.delete_range_cf(family, &[][..], end);
    }

    pub(super) fn put_raw(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.inner.put_cf(&self.store.family(family), key, value);
    }

    pub(super) fn delete_raw(&mut self, family: Family, key: &[u8]) {
        self.inner.delete_cf(&self.store.family(family), key);
    }

    /// Bytes of everything in it.
    pub(super) fn bytes(&self) -> usize {
        self.inner.size_in_bytes()
    }

    /// Writes it all.
    pub fn commit(self, durability: Durability) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Disk);
        self.store.db.write_opt(self.inner, &options).map_err(|e| self.store.disk(e))
    }
}
