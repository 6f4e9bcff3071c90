//! Applying a final block to the mirror: slots, trie, header, account proof and cursor in one batch, and the
//! versions nobody needs any more out with it.

use super::column::{self, Family};
use super::view::View;
use super::{Accounts, Batch, Cursor, Durability, Floor, Headers, Position, Store, StoreError, Tail};
use crate::limits::HEADERS_KEPT;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use windlass_protocol::trie::{self, NibblePath, TrieError, slot_change};
use windlass_protocol::{B256, Bytes, keccak256};

/// A final block, or the last one of a range of final blocks that is applied at once.
#[derive(Clone, Debug)]
pub struct FinalBlock {
    /// Where it stands.
    pub position: Position,
    /// Its header's RLP.
    pub header: Bytes,
    /// Every slot written since the block before, in order of the writes.
    pub changes: Vec<(B256, B256)>,
    /// Of a block whose account proof was verified: the proof, and the storage root it shows.
    pub account: Option<(Vec<Bytes>, B256)>,
}

/// Why a block couldn't be applied. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The chain proves another storage root than the mirror would have: a log was missed or forged.
    #[error("after block {number} the mirror's root would be {mirrored}, the chain proves {proven}")]
    RootMismatch {
        /// The block.
        number: u64,
        /// What the changes lead to.
        mirrored: B256,
        /// What the account proof shows.
        proven: B256,
    },
    /// The mirrored trie can't be changed or read.
    #[error(transparent)]
    Trie(TrieError<StoreError>),
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Applies a final block on top of the cursor, and prunes what no reader at `floor` or above needs.
    pub fn apply(&self, block: &FinalBlock, floor: u64, durability: Durability) -> Result<(), ApplyError> {
        let number = block.position.number;
        // Of several writes to one slot the last counts.
        let slots: BTreeMap<B256, B256> = block.changes.iter().copied().collect();
        let changes = slots.iter().map(|(slot, value)| (keccak256(slot), slot_change(value))).collect();
        let mut view = View::of_writer(self, number);
        let root = trie::update(&mut view, self.trie, &changes).map_err(ApplyError::Trie)?;
        if let Some((_, proven)) = &block.account
            && *proven != root
        {
            return Err(ApplyError::RootMismatch { number, mirrored: root, proven: *proven });
        }
        let nodes = view.into_writes();
        let mut batch = self.batch();
        for (slot, value) in &slots {
            let bytes: &[u8] = if value.is_zero() { &[] } else { value.as_slice() };
            self.put_version(&mut batch, Family::Slot, &column::slot_prefix(slot), number, bytes)?;
        }
        for ((trie, path), node) in &nodes {
            self.put_trie_node(&mut batch, *trie, path, number, node.as_deref())?;
        }
        self.put_block(&mut batch, block);
        let floor = floor.min(number).max(self.floor.load(Ordering::SeqCst));
        self.prune(&mut batch, floor)?;
        // Readers look at the floor after they have read, so it rises before anything is gone.
        self.floor.store(floor, Ordering::SeqCst);
        Ok(batch.commit(durability)?)
    }

    fn put_trie_node(
        &self,
        batch: &mut Batch<'_>,
        trie: B256,
        path: &NibblePath,
        number: u64,
        node: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let prefix = column::trie_prefix(&trie, path);
        self.put_version(batch, Family::Trie, &prefix, number, node.unwrap_or_default())
    }

    /// Puts a version; empty bytes say that there is nothing from this height on.
    fn put_version(
        &self,
        batch: &mut Batch<'_>,
        family: Family,
        prefix: &[u8],
        height: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let key = column::version(prefix, height);
        if let Some((former, _)) = self.newest(family, prefix, height)? {
            batch.put_raw(
                Family::Stale,
                &column::stale(height, family, &column::version(prefix, former)),
                &[],
            );
        }
        if bytes.is_empty() {
            // Once what it hides is gone, so may the marker be.
            batch.put_raw(Family::Stale, &column::stale(height, family, &key), &[]);
        }
        batch.put_raw(family, &key, bytes);
        Ok(())
    }

    fn put_block(&self, batch: &mut Batch<'_>, block: &FinalBlock) {
        let number = block.position.number;
        batch.put::<Cursor>(&(), &block.position);
        batch.put::<Headers>(&number, &block.header);
        if let Some((proof, _)) = &block.account {
            batch.put::<Accounts>(&number, proof);
        }
        batch.delete_range::<Headers>(0, number.saturating_sub(HEADERS_KEPT));
        batch.delete_range::<Tail>(0, number + 1);
    }

    fn prune(&self, batch: &mut Batch<'_>, floor: u64) -> Result<(), StoreError> {
        for entry in self.stale_up_to(floor)? {
            let (_, family, key) = column::parse_stale(&entry).ok_or_else(|| self.damaged(Family::Stale))?;
            batch.delete_raw(family, key);
            batch.delete_raw(Family::Stale, &entry);
        }
        batch.delete_range::<Accounts>(0, floor);
        batch.put::<Floor>(&(), &floor);
        Ok(())
    }

    /// Empties the mirror, to be rebuilt from the chain. What the node signed, routes and tickets stay.
    pub fn clear_mirror(&self) -> Result<(), StoreError> {
        self.generation.fetch_add(1, Ordering::SeqCst);
        let mut batch = self.batch();
        for family in Family::MIRROR {
            batch.clear(family);
        }
        batch.delete::<Cursor>(&());
        batch.delete::<Floor>(&());
        batch.commit(Durability::Disk)?;
        self.floor.store(0, Ordering::SeqCst);
        Ok(())
    }
}
