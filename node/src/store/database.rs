//! Opening the data directory, point reads and scans.

use super::column::{self, Column, Live, Schema};
use super::error::refused;
use super::family::{Family, SCHEMA, Side};
use super::owner::Access;
use super::upper::Upper;
use super::{Batch, Cursor, Fault, Faults, Floor, KeptRoute, Position, Routes, StoreError, Tail, TailBlock};
use super::{migrate, options};
use crate::limits::STORE_CACHE_BYTES;
use rocksdb::{BoundColumnFamily, DB, IteratorMode};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use windlass_protocol::{Address, DeviceId, keccak256, spec::VerifiedSpec, trie::TrieId};

/// How large a data directory is. Estimates: entries that were overwritten count until they are compacted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreSize {
    /// Bytes on disk and in buffers.
    pub bytes: u64,
    /// Slots that were ever written.
    pub slots: u64,
    /// Trie nodes.
    pub trie_nodes: u64,
}

/// The open data directory, and one of the two mirrors in it.
pub struct Store {
    pub(super) db: Arc<DB>,
    pub(super) path: PathBuf,
    /// Whether this is the mirror on side B.
    b: AtomicBool,
    /// The registry's storage trie.
    pub(super) trie: TrieId,
    /// From here up the mirror can be read; raised before anything below is deleted.
    pub(super) floor: AtomicU64,
    /// The lowest height somebody may still want to read; the follower prunes up to it.
    wanted: AtomicU64,
    /// Counts rebuilds, so that a reader notices one under its feet.
    pub(super) generation: AtomicU64,
    /// What every proof needs.
    pub(super) upper: Upper,
}

impl Store {
    /// Opens a data directory, or makes one, for the mirror of one network, and takes over one that
    /// was made under an older version of its spec. Reads and creates files:
    /// call it where blocking is allowed.
    pub fn open(path: &Path, spec: &VerifiedSpec) -> Result<Self, StoreError> {
        Self::open_with_cache(path, spec, STORE_CACHE_BYTES)
    }

    /// The same with another bound for the memory that holds what was read lately.
    pub fn open_with_cache(path: &Path, spec: &VerifiedSpec, bytes: usize) -> Result<Self, StoreError> {
        let store = Self::open_raw(path, spec, bytes)?;
        store.check_owner(spec, Access::Write)?;
        store.bring_up_to_date(&mut || true)?;
        store.settle()?;
        Ok(store)
    }

    /// Opened, and nothing looked at.
    pub(super) fn open_raw(path: &Path, spec: &VerifiedSpec, bytes: usize) -> Result<Self, StoreError> {
        // A directory that isn't there yet has none.
        let there = DB::list_cf(&options::database(), path).unwrap_or_default();
        let cache = options::cache(bytes);
        let known = Family::all().map(|(family, side)| (family.name(side), options::family(family, &cache)));
        let mut families: Vec<_> = known.map(|(name, options)| (name.to_owned(), options)).collect();
        // Of another release; all of a directory are opened or none.
        for name in there {
            if name != "default" && families.iter().all(|(known, _)| *known != name) {
                families.push((name, options::former()));
            }
        }
        let db = DB::open_cf_with_opts(&options::database(), path, families)
            .map_err(|source| refused(path, source))?;
        Ok(Self::over(Arc::new(db), path, keccak256(spec.contracts.registry.address)))
    }

    /// Opens a data directory for reading only, also while a node runs on it: what it held at this moment.
    pub fn open_read_only(path: &Path, spec: &VerifiedSpec) -> Result<Self, StoreError> {
        let there = DB::list_cf(&options::database(), path).map_err(|source| refused(path, source))?;
        let names: Vec<_> = Family::all().map(|(family, side)| family.name(side)).collect();
        if names.iter().any(|name| there.iter().all(|known| known != name)) {
            return Err(StoreError::Older(path.to_owned()));
        }
        let db = DB::open_cf_for_read_only(&options::database(), path, names, false)
            .map_err(|source| refused(path, source))?;
        let store = Self::over(Arc::new(db), path, keccak256(spec.contracts.registry.address));
        store.check_owner(spec, Access::Read)?;
        if store.schema()? != Some(SCHEMA) {
            return Err(StoreError::Older(path.to_owned()));
        }
        store.take_up()?;
        Ok(store)
    }

    pub(super) fn over(db: Arc<DB>, path: &Path, trie: TrieId) -> Self {
        Self {
            db,
            path: path.to_owned(),
            b: AtomicBool::new(false),
            trie,
            floor: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            upper: Upper::default(),
        }
    }

    /// The same directory with the other mirror.
    pub(super) fn of_other_side(&self) -> Self {
        let store = Self::over(self.db.clone(), &self.path, self.trie);
        store.read_side(self.side().other());
        store
    }

    /// The mirror that this one reads and writes.
    pub(super) fn side(&self) -> Side {
        if self.b.load(Ordering::SeqCst) { Side::B } else { Side::A }
    }

    pub(super) fn read_side(&self, side: Side) {
        self.b.store(side == Side::B, Ordering::SeqCst);
    }

    pub(super) fn schema(&self) -> Result<Option<u64>, StoreError> {
        self.get::<Schema>(&())
    }

    /// Takes the steps from an older schema to the present one. `go_on` is asked after each batch: ending there is what
    /// a kill does.
    pub(super) fn bring_up_to_date(&self, go_on: &mut dyn FnMut() -> bool) -> Result<bool, StoreError> {
        let found = self.schema()?.ok_or_else(|| self.damaged(Family::Meta))?;
        migrate::run(self, found, go_on)
    }

    /// Finishes what a former process began: a rewind goes on, a mirror that was being built beside goes.
    fn settle(&self) -> Result<(), StoreError> {
        self.take_up()?;
        self.of_other_side().discard()?;
        self.go_on_rewinding()
    }

    /// Reads which mirror counts, and how far back.
    fn take_up(&self) -> Result<(), StoreError> {
        let live = self.get::<Live>(&())?.unwrap_or_default();
        self.read_side(Side::of_number(live).ok_or_else(|| self.damaged(Family::Meta))?);
        let floor = self.get::<Floor>(&())?.unwrap_or(0);
        self.floor.store(floor, Ordering::SeqCst);
        self.wanted.store(floor, Ordering::SeqCst);
        Ok(())
    }

    /// One entry.
    pub fn get<C: Column>(&self, key: &C::Key) -> Result<Option<C::Value>, StoreError> {
        let bytes = self.db.get_pinned_cf(&self.family(C::FAMILY), C::key(key)).map_err(|e| self.disk(e))?;
        bytes.map(|bytes| C::decode(&bytes).ok_or_else(|| self.damaged(C::FAMILY))).transpose()
    }

    /// An empty batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(self)
    }

    /// Every unfinalised block that is kept, ascending.
    pub fn tail(&self) -> Result<Vec<(u64, TailBlock)>, StoreError> {
        self.scan(Family::Tail, |key, value| Some((column::number_of_key(key)?, Tail::decode(value)?)))
    }

    /// Shows every route that is kept, one after the other.
    pub fn for_each_route(&self, mut each: impl FnMut(DeviceId, KeptRoute)) -> Result<(), StoreError> {
        for entry in self.db.iterator_cf(&self.family(Family::Route), IteratorMode::Start) {
            let (key, value) = entry.map_err(|e| self.disk(e))?;
            let route = column::device_of_key(&key).zip(Routes::decode(&value));
            let (device, kept) = route.ok_or_else(|| self.damaged(Family::Route))?;
            each(device, kept);
        }
        Ok(())
    }

    /// Every fault that is kept, by member.
    pub fn faults(&self) -> Result<Vec<(Address, Fault)>, StoreError> {
        let entry = |key: &[u8], value: &[u8]| match column::member_of_key(key) {
            Some(member) => Some(Some((member, Faults::decode(value)?))),
            None => Some(None),
        };
        Ok(self.scan(Family::Head, entry)?.into_iter().flatten().collect())
    }

    /// The final heights from `from` on whose account proof is kept, ascending.
    pub fn proven_heights(&self, from: u64) -> Result<Vec<u64>, StoreError> {
        let mode = IteratorMode::From(&from.to_be_bytes(), rocksdb::Direction::Forward);
        let entries = self.db.iterator_cf(&self.family(Family::Account), mode);
        entries
            .map(|entry| {
                let (key, _) = entry.map_err(|e| self.disk(e))?;
                column::number_of_key(&key).ok_or_else(|| self.damaged(Family::Account))
            })
            .collect()
    }

    /// The highest final height whose account proof is kept.
    pub fn last_proven_height(&self) -> Result<Option<u64>, StoreError> {
        let mut entries = self.db.iterator_cf(&self.family(Family::Account), IteratorMode::End);
        let Some(entry) = entries.next() else { return Ok(None) };
        let (key, _) = entry.map_err(|e| self.disk(e))?;
        column::number_of_key(&key).map(Some).ok_or_else(|| self.damaged(Family::Account))
    }

    /// How large the directory is, as far as RocksDB knows.
    pub fn size(&self) -> Result<StoreSize, StoreError> {
        let property = |family: Family, name: &str| {
            let value =
                self.db.property_int_value_cf(&self.family(family), name).map_err(|e| self.disk(e))?;
            Ok::<u64, StoreError>(value.unwrap_or_default())
        };
        let mut size = StoreSize::default();
        for (family, side) in Family::all() {
            for name in ["rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables"] {
                let handle = self.handle(family, side);
                let bytes = self.db.property_int_value_cf(&handle, name).map_err(|e| self.disk(e))?;
                size.bytes += bytes.unwrap_or_default();
            }
        }
        size.slots = property(Family::Slot, "rocksdb.estimate-num-keys")?;
        size.trie_nodes = property(Family::Trie, "rocksdb.estimate-num-keys")?;
        Ok(size)
    }

    /// The last final block that the mirror holds.
    pub fn cursor(&self) -> Result<Option<Position>, StoreError> {
        self.get::<Cursor>(&())
    }

    /// Says that nobody will read below `height` any more; the next block that is applied prunes up to it.
    pub fn release_below(&self, height: u64) {
        self.wanted.fetch_max(height, Ordering::SeqCst);
    }

    /// The lowest height somebody may still want to read.
    pub fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Counts rebuilds since the directory was opened.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub(super) fn scan<T>(
        &self,
        family: Family,
        read: impl Fn(&[u8], &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let entries = self.db.iterator_cf(&self.family(family), IteratorMode::Start);
        entries
            .map(|entry| {
                let (key, value) = entry.map_err(|e| self.disk(e))?;
                read(&key, &value).ok_or_else(|| self.damaged(family))
            })
            .collect()
    }

    /// Whether a family has no entry.
    pub(super) fn is_empty(&self, family: Family) -> Result<bool, StoreError> {
        match self.db.iterator_cf(&self.family(family), IteratorMode::Start).next() {
            Some(entry) => entry.map(|_| false).map_err(|e| self.disk(e)),
            None => Ok(true),
        }
    }

    /// How many entries the log holds, and the entries of each batch written since there were fewer.
    #[cfg(test)]
    pub(super) fn batches_since(&self, entries: u64) -> (u64, Vec<usize>) {
        let batches = self.db.get_updates_since(entries).into_iter().flatten();
        let lengths = batches.filter_map(|batch| batch.ok().map(|(_, batch)| batch.len())).collect();
        (self.db.latest_sequence_number(), lengths)
    }

    pub(super) fn family(&self, family: Family) -> Arc<BoundColumnFamily<'_>> {
        self.handle(family, self.side())
    }

    fn handle(&self, family: Family, side: Side) -> Arc<BoundColumnFamily<'_>> {
        self.db.cf_handle(family.name(side)).expect("every family is created when the directory is opened")
    }

    pub(super) fn disk(&self, source: rocksdb::Error) -> StoreError {
        StoreError::Disk { path: self.path.clone(), source }
    }

    pub(super) fn damaged(&self, family: Family) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), family: family.name(self.side()) }
    }
}
