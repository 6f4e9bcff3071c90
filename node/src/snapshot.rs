//! Snapshots: the mirror at one final block in a file, for another node to start from.
//!
//! Nothing in a file is believed. Its header must be the final block that this node's own provider has, its account
//! proof must verify under it, and the trie of its rows must have the proven root: one row more, less or changed is
//! another root, and nothing is written.

use crate::chain::{Block, ChainSource, SourceError};
use crate::limits::{MAX_SNAPSHOT_HEAD_BYTES, MAX_SNAPSHOT_ROWS};
use crate::store::{
    Accounts, ApplyError, Column, Durability, FinalBlock, Headers, Position, Store, StoreError,
};
use rlp::{Rlp, RlpStream};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use windlass_protocol::bundle::verify_account;
use windlass_protocol::spec::{FinalityRule, VerifiedSpec};
use windlass_protocol::{B256, Bytes};

/// What every file begins with; the number changes with the format.
const MAGIC: &[u8; 20] = b"windlass snapshot 2\n";

/// Why there is no snapshot, or why it isn't taken. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file.
    #[error("snapshot {}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The mirror has nothing that could be proven.
    #[error("this mirror has no block with an account proof yet: let the node follow its chain first")]
    Nothing,
    /// Not a snapshot, or cut, or longer than it says.
    #[error("snapshot {}: {reason}; take it anew", .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Of another network, whichever version of its chain spec it was made under.
    #[error("snapshot {}: it is of network {found}, the configured chain spec is of {configured}", .path.display())]
    OtherNetwork {
        /// Which.
        path: PathBuf,
        /// The network it is of.
        found: B256,
        /// The configured spec's.
        configured: B256,
    },
    /// What it says is not what the chain proves.
    #[error("snapshot {}: {reason}; it is forged or damaged, take another", .path.display())]
    False {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is a mirror already.
    #[error("data_dir already holds the mirror at block {0}: import into an empty one")]
    Mirrored(u64),
    /// The mirror.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// What a snapshot holds besides its rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The block.
    pub position: Position,
    /// Slots with a value.
    pub rows: u64,
}

/// Writes the newest height that can be proven to a new file. Works beside a running node, on what was on disk when
/// `store` was opened. Blocking.
pub fn export(store: &Store, spec: &VerifiedSpec, path: &Path) -> Result<Summary, SnapshotError> {
    let failed = |source| SnapshotError::File { path: path.to_owned(), source };
    let number = store.last_proven_height()?.ok_or(SnapshotError::Nothing)?;
    let (Some(header), Some(account)) = (store.get::<Headers>(&number)?, store.get::<Accounts>(&number)?)
    else {
        return Err(SnapshotError::Nothing);
    };
    let position = Position { number, hash: windlass_protocol::keccak256(&header) };
    let rows = store.slots_at(number)?;
    let mut head = RlpStream::new_list(3);
    head.append(&spec.network().as_slice())
        .append(&header.as_ref())
        .append_raw(&Accounts::encode(&account), 1);
    let head = head.out();
    // A name of its own until it is whole; an existing file is never overwritten.
    let partial = path.with_extension("partial");
    let mut file = BufWriter::new(File::create_new(&partial).map_err(failed)?);
    let written = (|| {
        file.write_all(MAGIC)?;
        file.write_all(&(head.len() as u32).to_be_bytes())?;
        file.write_all(&head)?;
        file.write_all(&(rows.len() as u64).to_be_bytes())?;
        for (slot, value) in &rows {
            file.write_all(slot.as_slice())?;
            file.write_all(value.as_slice())?;
        }
        file.flush()?;
        file.get_ref().sync_all()?;
        // Links only where nothing is yet, as a rename would not.
        std::fs::hard_link(&partial, path)
    })();
    let removed = std::fs::remove_file(&partial);
    written.and(removed).map_err(failed)?;
    Ok(Summary { position, rows: rows.len() as u64 })
}

/// A snapshot as read: decoded, not believed.
struct Snapshot {
    header: Bytes,
    account: Vec<Bytes>,
    rows: Vec<(B256, B256)>,
}

/// Fills an empty mirror from a file, if all of it is what the chain proves.
pub async fn import<S: ChainSource>(
    store: &Store,
    spec: &VerifiedSpec,
    source: &S,
    path: &Path,
) -> Result<Summary, SnapshotError> {
    if let Some(cursor) = store.cursor()? {
        return Err(SnapshotError::Mirrored(cursor.number));
    }
    let snapshot = read(path, spec)?;
    let wrong = |reason: String| SnapshotError::False { path: path.to_owned(), reason };
    let block = Block::decode(snapshot.header).map_err(|error| wrong(format!("its header: {error}")))?;
    let account = verify_account(&spec.contracts.registry, block.header.state_root, &snapshot.account)
        .map_err(|error| wrong(error.to_string()))?;
    check_final(spec, source, &block).await?.map_err(wrong)?;
    let position = Position { number: block.header.number, hash: block.header.hash };
    let rows = snapshot.rows.len() as u64;
    let filled = FinalBlock {
        position,
        header: block.rlp,
        changes: snapshot.rows,
        account: Some((snapshot.account, account.storage_root)),
    };
    match store.apply(&filled, position.number, Durability::Disk) {
        Ok(()) => Ok(Summary { position, rows }),
        Err(ApplyError::Store(error)) => Err(error.into()),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Whether the block is one that our own provider has as final.
async fn check_final<S: ChainSource>(
    spec: &VerifiedSpec,
    source: &S,
    block: &Block,
) -> Result<Result<(), String>, SourceError> {
    let (number, hash) = (block.header.number, block.header.hash);
    let last = match spec.finality {
        FinalityRule::Tag => source.finalized().await?.map(|block| block.header.number),
        FinalityRule::Depth(depth) => source.latest().await?.header.number.checked_sub(depth),
    };
    if last.is_none_or(|last| last < number) {
        return Ok(Err(format!("its block {number} is not final, the chain's last final one is {last:?}")));
    }
    let ours = source.by_number(number).await?;
    Ok(match ours {
        Some(ours) if ours.header.hash == hash => Ok(()),
        Some(ours) => Err(format!("its block {number} is {hash}, the chain's is {}", ours.header.hash)),
        None => Err(format!("the chain has no block {number}")),
    })
}

fn read(path: &Path, spec: &VerifiedSpec) -> Result<Snapshot, SnapshotError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::UnexpectedEof => {
            SnapshotError::Malformed { path: path.to_owned(), reason: "it ends too early".to_owned() }
        }
        _ => SnapshotError::File { path: path.to_owned(), source },
    };
    let malformed =
        |reason: &str| SnapshotError::Malformed { path: path.to_owned(), reason: reason.to_owned() };
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let mut file = BufReader::new(file);
    if array::<20>(&mut file).map_err(failed)? != *MAGIC {
        return Err(malformed("it is no snapshot of this format"));
    }
    let head_bytes = u32::from_be_bytes(array(&mut file).map_err(failed)?) as usize;
    if head_bytes > MAX_SNAPSHOT_HEAD_BYTES {
        return Err(malformed("its head is longer than any"));
    }
    let mut head = vec![0; head_bytes];
    file.read_exact(&mut head).map_err(failed)?;
    let (found, header, account) = decode_head(&head).ok_or_else(|| malformed("its head is damaged"))?;
    if found != spec.network() {
        return Err(SnapshotError::OtherNetwork { path: path.to_owned(), found, configured: spec.network() });
    }
    let count = u64::from_be_bytes(array(&mut file).map_err(failed)?);
    // Before anything of that size is made: the file must have as many bytes as it promises.
    let before = (MAGIC.len() + 4 + head_bytes + 8) as u64;
    if count > MAX_SNAPSHOT_ROWS || bytes != before + count * 64 {
        return Err(malformed("it has another length than it says"));
    }
    let mut rows: Vec<(B256, B256)> = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let slot = B256::from(array::<32>(&mut file).map_err(failed)?);
        let value = B256::from(array::<32>(&mut file).map_err(failed)?);
        if value.is_zero() || rows.last().is_some_and(|(former, _)| *former >= slot) {
            return Err(malformed("its rows are empty or out of order"));
        }
        rows.push((slot, value));
    }
    Ok(Snapshot { header, account, rows })
}

fn decode_head(bytes: &[u8]) -> Option<(B256, Bytes, Vec<Bytes>)> {
    let rlp = Rlp::new(bytes);
    let whole = rlp.payload_info().ok()?.total() == bytes.len() && rlp.item_count().ok()? == 3;
    let network = B256::try_from(rlp.at(0).ok()?.data().ok()?).ok().filter(|_| whole)?;
    let header = Bytes::copy_from_slice(rlp.at(1).ok()?.data().ok()?);
    Some((network, header, Accounts::decode(rlp.at(2).ok()?.as_raw())?))
}

fn array<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
