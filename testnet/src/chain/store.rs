//! Where the chain is kept: one key-value store, in memory or in a directory.
//!
//! Owns the keys, the directory's mark and lock, and batches that are written whole or not at all; both
//! kinds are the same engine, so what is tested in memory is what runs on disk. It knows what the entries
//! are called, never what they mean.
//!
//! A batch has been written once [`Store::write`] returns: it then survives the end of the process at any
//! moment, kill -9 included. It may be lost with the machine's power, never half of it.

use super::limits::{STORE_BLOCK_CACHE_BYTES, STORE_WRITE_BUFFER_BYTES};
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Env, Options, WriteBatch, WriteOptions};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use windlass_protocol::B256;
use windlass_protocol::trie::{NibblePath, TrieId};

/// File that marks a directory as a chain's, and that whoever has it open keeps locked.
const MARK: &str = "windlass-chain";

/// What the mark says: rises with every change of what the entries look like.
const FORMAT: &str = "windlass-testnet chain, format 1\n";

/// Folder of the engine's files.
const ENGINE: &str = "db";

/// Why a directory can't be used for the chain.
#[derive(Debug, thiserror::Error)]
pub enum OpenStateError {
    /// It can't be made, read or written.
    #[error("cannot use {} for the chain's state: {source}", .path.display())]
    File {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use by another chain: stop that one, or choose another directory", .0.display())]
    Locked(PathBuf),
    /// There is something else in it.
    #[error("{} holds something else than a chain: choose an empty directory or a new one", .0.display())]
    Foreign(PathBuf),
    /// Another release wrote it.
    #[error(
        "{} was written by another release ({found}; this one writes {}): start with a new directory",
        .path.display(), FORMAT.trim_end()
    )]
    Format {
        /// The directory.
        path: PathBuf,
        /// What its mark says.
        found: String,
    },
    /// It holds a chain with another id.
    #[error("{} holds chain {found}, not chain {asked}: start it with --chain-id {found}, or choose another directory", .path.display())]
    OtherChain {
        /// The directory.
        path: PathBuf,
        /// The chain that it holds.
        found: u64,
        /// The chain that was asked for.
        asked: u64,
    },
    /// The engine can't open it, or what it holds can't be read.
    #[error("cannot use {} for the chain's state: {reason}", .path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The engine failed: the disk is full or broken, or the files are damaged.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the chain's store failed: {0}")]
pub(crate) struct StoreError(#[from] rocksdb::Error);

/// What an entry is about. Every kind has keys of its own, told apart by their first byte.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    /// What the chain is and how far it got.
    Meta(Meta),
    /// The trie node that stands at a path now.
    Node(TrieId, NibblePath),
    /// What stood at a path before this block changed it; empty when nothing did.
    Past(TrieId, NibblePath, u64),
    /// The paths that a block changed.
    Changed(u64),
    /// The header of the block at this height, behind its hash.
    Header(u64),
    /// What else the block at this height holds.
    Body(u64),
    /// The height of the block with this hash.
    Hash(B256),
    /// Where the transaction with this hash is.
    Transaction(B256),
    /// The code with this hash.
    Code(B256),
}

/// Entries of which there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meta {
    /// The chain id.
    ChainId,
    /// The newest block's height.
    Tip,
    /// The last final block's height.
    Finalized,
    /// How often blocks were taken off.
    Forks,
}

impl Key {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let tagged = |tag: u8, rest: &[u8]| [&[tag], rest].concat();
        let number = |tag: u8, number: &u64| tagged(tag, &number.to_be_bytes());
        match self {
            Self::Meta(meta) => vec![b'm', *meta as u8],
            Self::Node(trie, path) => place(b'n', trie, path, 0),
            Self::Past(trie, path, height) => {
                let mut key = place(b'p', trie, path, 8);
                key.extend_from_slice(&height.to_be_bytes());
                key
            }
            Self::Changed(height) => number(b'c', height),
            Self::Header(height) => number(b'h', height),
            Self::Body(height) => number(b'b', height),
            Self::Hash(hash) => tagged(b'i', hash.as_slice()),
            Self::Transaction(hash) => tagged(b't', hash.as_slice()),
            Self::Code(hash) => tagged(b'k', hash.as_slice()),
        }
    }
}

/// The key of a path: its length comes first, so that no path's keys lie among another's.
fn place(tag: u8, trie: &TrieId, path: &NibblePath, room: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(34 + path.len() + room);
    key.push(tag);
    key.extend_from_slice(trie.as_slice());
    key.push(path.len() as u8);
    key.extend(path.to_bytes());
    key
}

/// Changes that are written together or not at all.
#[derive(Default)]
pub(crate) struct Batch(WriteBatch);

impl Batch {
    pub(crate) fn put(&mut self, key: Key, value: impl AsRef<[u8]>) {
        self.0.put(key.bytes(), value);
    }

    pub(crate) fn put_number(&mut self, key: Key, number: u64) {
        self.put(key, number.to_be_bytes());
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.0.delete(key.bytes());
    }
}

/// The open store.
pub(crate) struct Store {
    db: DB,
    write_options: WriteOptions,
    /// Keeps the directory to this process, which the system ends with the process.
    _lock: Option<File>,
}

impl Store {
    /// A store that is gone when it is dropped.
    pub(crate) fn in_memory() -> Result<Self, StoreError> {
        let mut options = options();
        options.set_env(&Env::mem_env()?);
        // The engine wants a path that exists; nothing is written there.
        let db = DB::open(&options, std::env::temp_dir())?;
        let mut write_options = WriteOptions::default();
        // Nothing to recover from.
        write_options.disable_wal(true);
        Ok(Self { db, write_options, _lock: None })
    }

    /// The store in `directory`, which is made if it isn't there, and nobody else's until this is dropped.
    pub(crate) fn open(directory: &Path) -> Result<Self, OpenStateError> {
        let lock = claim(directory)?;
        let db = DB::open(&options(), directory.join(ENGINE)).map_err(|error| OpenStateError::Damaged {
            path: directory.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { db, write_options: WriteOptions::default(), _lock: Some(lock) })
    }

    /// One entry.
    pub(crate) fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get(key.bytes())?)
    }

    /// One entry that is a number; anything else counts as none.
    pub(crate) fn number(&self, key: Key) -> Result<Option<u64>, StoreError> {
        let bytes = self.get(key)?;
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes))
    }

    /// The entry of the first block after `height` that changed a path: what stood there at `height`.
    pub(crate) fn past_after(
        &self,
        trie: TrieId,
        path: &NibblePath,
        height: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(next) = height.checked_add(1) else { return Ok(None) };
        let key = Key::Past(trie, *path, next).bytes();
        let mut entries = self.db.raw_iterator();
        entries.seek(&key);
        let head = key.len() - 8;
        match entries.item() {
            Some((found, value)) if found.len() == key.len() && found[..head] == key[..head] => {
                Ok(Some(value.to_vec()))
            }
            _ => Ok(entries.status().map(|()| None)?),
        }
    }

    /// The lowest block whose list of changed paths is kept.
    pub(crate) fn first_changed(&self) -> Result<Option<u64>, StoreError> {
        let mut entries = self.db.raw_iterator();
        entries.seek(Key::Changed(0).bytes());
        entries.status()?;
        let found = entries.key().and_then(|key| key.strip_prefix(b"c"));
        Ok(found.and_then(|number| number.try_into().ok()).map(u64::from_be_bytes))
    }

    /// Writes all of `batch`.
    pub(crate) fn write(&self, batch: Batch) -> Result<(), StoreError> {
        Ok(self.db.write_opt(batch.0, &self.write_options)?)
    }
}

/// Makes `directory` a chain's, or finds that it is one, and locks it.
fn claim(directory: &Path) -> Result<File, OpenStateError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenStateError::File { path, source }
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    let mark = directory.join(MARK);
    let others = fs::read_dir(directory).map_err(failed(directory))?.flatten();
    let others = others.filter(|entry| entry.file_name() != MARK).count();
    if others > 0 && !mark.exists() {
        return Err(OpenStateError::Foreign(directory.to_owned()));
    }
    let options = File::options().read(true).write(true).create(true).truncate(false).open(&mark);
    let mut file = options.map_err(failed(&mark))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenStateError::Locked(directory.to_owned())),
        Err(TryLockError::Error(source)) => return Err(failed(&mark)(source)),
    }
    let mut found = String::new();
    (&file).take(256).read_to_string(&mut found).map_err(failed(&mark))?;
    // Nothing, or a part, when whoever began the directory was ended before anything else.
    if others == 0 && FORMAT.starts_with(&found) && found != FORMAT {
        file.write_all(&FORMAT.as_bytes()[found.len()..]).map_err(failed(&mark))?;
        found = FORMAT.to_owned();
    }
    if found != FORMAT {
        return Err(OpenStateError::Format {
            path: directory.to_owned(),
            found: found.trim_end().to_owned(),
        });
    }
    Ok(file)
}

fn options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(STORE_BLOCK_CACHE_BYTES));
    // Index and filters of a large chain count as cache, so that memory stays bounded.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(STORE_WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(3);
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.05);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    // The engine's own log, which nobody reads unless something is wrong.
    options.set_keep_log_file_num(1);
    options.set_stats_dump_period_sec(0);
    options
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(directory: &Path) -> OpenStateError {
        Store::open(directory).err().unwrap()
    }

    #[test]
    fn what_is_written_is_there_again() {
        let directory = tempfile::tempdir().unwrap();
        let key = Key::Code(B256::repeat_byte(7));
        for store in [Store::open(directory.path()).unwrap(), Store::in_memory().unwrap()] {
            let mut batch = Batch::default();
            batch.put(key, b"code");
            batch.put_number(Key::Meta(Meta::Tip), 7);
            store.write(batch).unwrap();
            assert_eq!(store.get(key).unwrap().unwrap(), b"code");
        }
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.get(key).unwrap().unwrap(), b"code");
        assert_eq!(store.number(Key::Meta(Meta::Tip)).unwrap(), Some(7));
        assert_eq!(store.get(Key::Code(B256::ZERO)).unwrap(), None);
        assert!(Store::in_memory().unwrap().get(key).unwrap().is_none());
    }

    #[test]
    fn a_directory_has_one_user_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert!(matches!(refused(directory.path()), OpenStateError::Locked(_)));
        drop(store);
        Store::open(directory.path()).unwrap();
    }

    #[test]
    fn other_directories_are_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("letters");
        fs::write(&own, "dear").unwrap();
        assert!(matches!(refused(directory.path()), OpenStateError::Foreign(_)));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(matches!(refused(&own), OpenStateError::File { .. }));
        let other = directory.path().join("other");
        fs::create_dir(&other).unwrap();
        for (mark, files) in [("windlass-testnet chain, format 9\n", 1), ("", 1), ("wind", 1), ("x", 0)] {
            fs::write(other.join(MARK), mark).unwrap();
            (0..files).for_each(|_| fs::write(other.join("file"), "").unwrap());
            assert!(matches!(refused(&other), OpenStateError::Format { .. }), "{mark}");
            let _ = fs::remove_file(other.join("file"));
        }
    }

    #[test]
    fn a_directory_whose_making_was_cut_short_is_made() {
        for cut in [0, 1, FORMAT.len() - 1] {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(MARK), &FORMAT[..cut]).unwrap();
            drop(Store::open(directory.path()).unwrap());
            Store::open(directory.path()).unwrap();
            assert_eq!(fs::read_to_string(directory.path().join(MARK)).unwrap(), FORMAT);
        }
    }

    #[test]
    fn no_paths_entries_lie_among_anothers() {
        let store = Store::in_memory().unwrap();
        let trie = B256::ZERO;
        let path = |nibbles: &[u8]| NibblePath::from_bytes(nibbles).unwrap();
        let mut batch = Batch::default();
        batch.put(Key::Past(trie, path(&[1]), 5), b"short");
        batch.put(Key::Past(trie, path(&[1, 0]), 3), b"long");
        store.write(batch).unwrap();
        let past = |nibbles: &[u8], height| store.past_after(trie, &path(nibbles), height).unwrap();
        assert_eq!(past(&[1], 4).unwrap(), b"short");
        assert_eq!(past(&[1], 0).unwrap(), b"short");
        assert_eq!(past(&[1], 5), None);
        assert_eq!(past(&[1, 0], 2).unwrap(), b"long");
        assert_eq!(past(&[1, 0], 3), None);
        assert_eq!(past(&[], 0), None);
        assert_eq!(past(&[1], u64::MAX), None);
    }
}
