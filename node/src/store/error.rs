//! Why the data directory couldn't be opened, read or written, and what to do about it.

use super::family::SCHEMA;
use std::path::{Path, PathBuf};
use windlass_protocol::B256;

/// What is said when a directory has to go.
const LOSES: &str = " (a committee member that loses its record of what it signed waits for the next head)";

/// Why the data directory couldn't be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another node of this one, has it open.
    #[error("data_dir {} is in use by another node: stop that one, or give this one a data_dir of its own", .0.display())]
    Locked(PathBuf),
    /// Written by a newer release.
    #[error(
        "data_dir {} has schema {found}, this release knows up to {SCHEMA}: use a newer release, or another data_dir; the mirror is rebuilt from the chain{LOSES}",
        .path.display()
    )]
    Schema {
        /// The directory.
        path: PathBuf,
        /// Its schema.
        found: u64,
    },
    /// Written by an older release, and opened for reading only.
    #[error("data_dir {} is of an older release: run the node on it once, which brings it up to date", .0.display())]
    Older(PathBuf),
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
    /// A file beside RocksDB's.
    #[error("data_dir {}: {source}: see to that disk and start again", .path.display())]
    File {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
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
pub(super) fn refused(path: &Path, source: rocksdb::Error) -> StoreError {
    let text = source.to_string();
    if text.contains("While lock file") || text.contains("lock hold by current process") {
        return StoreError::Locked(path.to_owned());
    }
    StoreError::Disk { path: path.to_owned(), source }
}
