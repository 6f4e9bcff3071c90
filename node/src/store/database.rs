//! Opening the data directory, point reads, scans, and batches that are written whole or not at all.

use super::column::{self, Column, Family, SCHEMA};
use super::owner::Access;
use super::{Cursor, Fault, Faults, Floor, KeptRoute, Position, Routes, Tail, TailBlock};
use rocksdb::{
    BoundColumnFamily, DB, DBCompressionType, IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use windlass_protocol::{Address, B256, DeviceId, keccak256, spec::VerifiedSpec, trie::TrieId};

/// What is said when a directory has to go.
const LOSES: &str = " (a committee member that loses its record of what it signed waits for the next head)";

/// Why the data directory couldn't be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another node of this one, has it open.
    #[error("data_dir {} is in use by another node: stop that one, or give this one a data_dir of its own", .0.display())]
    Locked(PathBuf),
    /// Written by another release.
    #[error(
        "data_dir {} has schema {found}, this release writes {SCHEMA}: use another data_dir; the mirror is rebuilt from the chain{LOSES}",
        .path.display()
    )]
    Schema {
        /// The directory.
        path: PathBuf,
        /// Its schema.
        found: u64,
    },
    /// Of another chain spec, of which the configured one is no renewal.
    #[error(
        "data_dir {} belongs to chain spec {found}, the configured one is {configured}{why}: use the spec it was made with, a renewal of it, or another data_dir{LOSES}",
        .path.display()
    )]
    OtherSpec {
        /// The directory.
        path: PathBuf,
        /// The spec it belongs to.
        found: B256,
        /// The spec in the configuration.
        configured: B256,
        /// What makes it another, as far as it is known.
        why: String,
    },
    /// A renewed spec has it already.
    #[error(
        "data_dir {} was opened with version {found} of the chain spec, the configured one is version {configured}: use the newest one, which only a higher version replaces",
        .path.display()
    )]
    OlderSpec {
        /// The directory.
        path: PathBuf,
        /// The version it was opened with.
        found: u64,
        /// The version in the configuration.
        configured: u64,
    },
    /// The disk failed, is full, or the files are damaged.
    #[error("data_dir {}: {source}: {}", .path.display(), advice(.source))]
    Disk {
        /// The directory.
        path: PathBuf,
        /// What RocksDB says.
        source: rocksdb::Error,
    },
    /// An entry isn't what this release writes.
    #[error("data_dir {}: a damaged entry of '{family}': delete the directory, the mirror is rebuilt from the chain{LOSES}", .path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// The column family.
        family: &'static str,
    },
}

/// Whether a batch is on disk when it returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// It survives the process, not a power cut: what the chain can tell again.
    Process,
    /// It survives a power cut.
    Disk,
}

/// How large a data directory is. Estimates: entries that were overwritten count until they are compacted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreSize {
    /// Bytes on disk and in buffers.
    pub bytes: u64,
    /// Versions of slots.
    pub slots: u64,
    /// Versions of trie nodes.
    pub trie_nodes: u64,
}

/// The open data directory.
pub struct Store {
    db: DB,
    pub(super) path: PathBuf,
    /// The registry's storage trie.
    pub(super) trie: TrieId,
    /// From here up the mirror can be read; raised before anything below is deleted.
    pub(super) floor: AtomicU64,
    /// The lowest height somebody may still want to read; the follower prunes up to it.
    wanted: AtomicU64,
    /// Counts rebuilds, so that a reader notices one under its feet.
    pub(super) generation: AtomicU64,
}

impl Store {
    /// Opens a data directory, or makes one, for the mirror of one network, and takes over one that
    /// was made under an older version of its spec. Reads and creates files:
    /// call it where blocking is allowed.
    pub fn open(path: &Path, spec: &VerifiedSpec) -> Result<Self, StoreError> {
        let families = Family::ALL.map(|family| (family.name(), family_options(family)));
        let db = DB::open_cf_with_opts(&options(), path, families).map_err(|source| refused(path, source))?;
        Self::over(db, path, spec, Access::Write)
    }

    /// Opens a data directory for reading only, also while a node runs on it: what it held at this moment.
    pub fn open_read_only(path: &Path, spec: &VerifiedSpec) -> Result<Self, StoreError> {
        let names = Family::ALL.map(Family::name);
        let db = DB::open_cf_for_read_only(&Options::default(), path, names, false)
            .map_err(|source| refused(path, source))?;
        Self::over(db, path, spec, Access::Read)
    }

    fn over(db: DB, path: &Path, spec: &VerifiedSpec, access: Access) -> Result<Self, StoreError> {
        let store = Self {
            db,
            path: path.to_owned(),
            trie: keccak256(spec.contracts.registry.address),
            floor: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        };
        store.check_owner(spec, access)?;
        let floor = store.get::<Floor>(&())?.unwrap_or(0);
        store.floor.store(floor, Ordering::SeqCst);
        store.wanted.store(floor, Ordering::SeqCst);
        Ok(store)
    }

    /// One entry.
    pub fn get<C: Column>(&self, key: &C::Key) -> Result<Option<C::Value>, StoreError> {
        let bytes = self.db.get_pinned_cf(&self.family(C::FAMILY), C::key(key)).map_err(|e| self.disk(e))?;
        bytes.map(|bytes| C::decode(&bytes).ok_or_else(|| self.damaged(C::FAMILY))).transpose()
    }

    /// An empty batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch { store: self, inner: WriteBatch::default() }
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
        for family in Family::ALL {
            size.bytes += property(family, "rocksdb.total-sst-files-size")?;
            size.bytes += property(family, "rocksdb.cur-size-all-mem-tables")?;
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

    /// Shows every key of a family; `None` says that one is damaged.
    pub(super) fn for_each_key(
        &self,
        family: Family,
        mut each: impl FnMut(&[u8]) -> Option<()>,
    ) -> Result<(), StoreError> {
        for entry in self.db.iterator_cf(&self.family(family), IteratorMode::Start) {
            let (key, _) = entry.map_err(|e| self.disk(e))?;
            each(&key).ok_or_else(|| self.damaged(family))?;
        }
        Ok(())
    }

    /// The newest version at or below `height` of what has `prefix`: its height and bytes.
    pub(super) fn newest(
        &self,
        family: Family,
        prefix: &[u8],
        height: u64,
    ) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let mut options = ReadOptions::default();
        // One past the oldest version there can be.
        let mut end = column::version(prefix, 0);
        end.push(0);
        options.set_iterate_upper_bound(end);
        let mut entries = self.db.raw_iterator_cf_opt(&self.family(family), options);
        entries.seek(column::version(prefix, height));
        let Some((key, value)) = entries.item() else {
            return entries.status().map(|()| None).map_err(|e| self.disk(e));
        };
        if key.len() != prefix.len() + 8 || !key.starts_with(prefix) {
            return Ok(None);
        }
        let found = column::height_of_version(key).ok_or_else(|| self.damaged(family))?;
        Ok(Some((found, value.to_vec())))
    }

    /// Every slot that has a value at `height`, ascending.
    pub fn slots_at(&self, height: u64) -> Result<Vec<(B256, B256)>, StoreError> {
        let mut slots: Vec<(B256, B256)> = Vec::new();
        let mut seen = B256::ZERO;
        for entry in self.db.iterator_cf(&self.family(Family::Slot), IteratorMode::Start) {
            let (key, value) = entry.map_err(|e| self.disk(e))?;
            let damaged = || self.damaged(Family::Slot);
            let slot = key.get(..32).and_then(|slot| B256::try_from(slot).ok()).ok_or_else(damaged)?;
            let version = column::height_of_version(&key).ok_or_else(damaged)?;
            // The newest version comes first; the first one that isn't too new is the one.
            if version > height || slot == seen {
                continue;
            }
            seen = slot;
            if !value.is_empty() {
                slots.push((slot, B256::try_from(value.as_ref()).map_err(|_| damaged())?));
            }
        }
        Ok(slots)
    }

    /// The keys of the stale list up to and including `height`.
    pub(super) fn stale_up_to(&self, height: u64) -> Result<Vec<Box<[u8]>>, StoreError> {
        let mut keys = Vec::new();
        for entry in self.db.iterator_cf(&self.family(Family::Stale), IteratorMode::Start) {
            let (key, _) = entry.map_err(|e| self.disk(e))?;
            let (from, _, _) = column::parse_stale(&key).ok_or_else(|| self.damaged(Family::Stale))?;
            if from > height {
                break;
            }
            keys.push(key);
        }
        Ok(keys)
    }

    /// How many entries the log holds, and the entries of each batch written since there were fewer.
    #[cfg(test)]
    pub(super) fn batches_since(&self, entries: u64) -> (u64, Vec<usize>) {
        let batches = self.db.get_updates_since(entries).into_iter().flatten();
        let lengths = batches.filter_map(|batch| batch.ok().map(|(_, batch)| batch.len())).collect();
        (self.db.latest_sequence_number(), lengths)
    }

    pub(super) fn family(&self, family: Family) -> Arc<BoundColumnFamily<'_>> {
        self.db.cf_handle(family.name()).expect("every family is created when the directory is opened")
    }

    pub(super) fn disk(&self, source: rocksdb::Error) -> StoreError {
        StoreError::Disk { path: self.path.clone(), source }
    }

    pub(super) fn damaged(&self, family: Family) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), family: family.name() }
    }
}

/// Changes that are written together or not at all, across column families.
pub struct Batch<'s> {
    store: &'s Store,
    inner: WriteBatch,
}

impl Batch<'_> {
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

    pub(super) fn put_raw(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.inner.put_cf(&self.store.family(family), key, value);
    }

    pub(super) fn delete_raw(&mut self, family: Family, key: &[u8]) {
        self.inner.delete_cf(&self.store.family(family), key);
    }

    /// Writes it all.
    pub fn commit(self, durability: Durability) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Disk);
        self.store.db.write_opt(self.inner, &options).map_err(|e| self.store.disk(e))
    }
}

/// What to do about a failure of the disk. Every write is one batch, so what was there is whole.
fn advice(source: &rocksdb::Error) -> &'static str {
    let text = source.to_string();
    let full = ["No space left", "File too large", "quota exceeded"].iter().any(|words| text.contains(words));
    match source.kind() {
        _ if full => "free space there and start again; nothing is lost",
        rocksdb::ErrorKind::Corruption => "delete the directory, the mirror is rebuilt from the chain",
        _ => "see to that disk and start again",
    }
}

/// RocksDB says only in words that somebody else holds the lock: another process, or another handle of this one.
/// That the lock file can't be opened, for lack of rights or room, is something else.
fn refused(path: &Path, source: rocksdb::Error) -> StoreError {
    let text = source.to_string();
    if text.contains("While lock file") || text.contains("lock hold by current process") {
        return StoreError::Locked(path.to_owned());
    }
    StoreError::Disk { path: path.to_owned(), source }
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // RocksDB's own log, which nobody reads unless something is wrong.
    options.set_keep_log_file_num(2);
    options.set_max_total_wal_size(64 * 1024 * 1024);
    options
}

fn family_options(family: Family) -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    // Two write buffers at most per family: slots and trie hold 64 MiB at worst, the other nine 36 MiB together.
    let bytes = match family {
        Family::Slot | Family::Trie => 16 * 1024 * 1024,
        _ => 2 * 1024 * 1024,
    };
    options.set_write_buffer_size(bytes);
    options
}
