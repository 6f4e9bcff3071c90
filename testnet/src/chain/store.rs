//! Where the chain is kept: one key-value store, in memory or in a directory.
//!
//! Owns the keys, and batches that are written whole or not at all. Both kinds are the same engine, so that
//! what is tested in memory is what runs on disk. It knows what the entries are called, never what they mean.
//!
//! A batch has been written once [`Store::write`] returns: it then survives the end of the process at any
//! moment, kill -9 included. It may be lost with the machine's power, never half of it.

use super::limits::{STORE_BLOCK_CACHE_BYTES, STORE_WRITE_BUFFER_BYTES};
use crate::directory::{Claim, DirectoryError, Mark};
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Env, Options, WriteBatch, WriteOptions};
use std::path::{Path, PathBuf};
use windlass_protocol::B256;
use windlass_protocol::trie::{NibblePath, TrieId};

/// What marks a directory as a chain's.
const MARK: Mark = Mark { file: "windlass-chain", text: "windlass-testnet chain, format 1\n", what: "chain" };

/// Folder of the engine's files.
const ENGINE: &str = "db";

/// Why a directory can't be used for the chain.
#[derive(Debug, thiserror::Error)]
pub enum OpenStateError {
    /// It can't be made or read, or it is somebody else's.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
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
    _claim: Option<Claim>,
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
        Ok(Self { db, write_options, _claim: None })
    }

    /// The store in `directory`, which is made if it isn't there, and nobody else's until this is dropped.
    pub(crate) fn open(directory: &Path) -> Result<Self, OpenStateError> {
        let claim = Claim::new(directory, MARK)?;
        let db = DB::open(&options(), directory.join(ENGINE)).map_err(|error| OpenStateError::Damaged {
            path: directory.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { db, write_options: WriteOptions::default(), _claim: Some(claim) })
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
