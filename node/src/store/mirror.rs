//! Applying a final block to the mirror: slots, trie, header, account proof and cursor in one batch, and what nobody
//! reads any more out with it.

use super::family::Family;
use super::version::{self, Former};
use super::view::View;
use super::{Accounts, Batch, Cursor, Durability, Floor, Headers, Position, Store, StoreError, Tail};
use crate::limits::{HEADERS_KEPT, PRUNED_AT_ONCE};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use windlass_protocol::trie::{self, TrieError, slot_change};
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
        let floor = floor.min(number).max(self.floor.load(Ordering::SeqCst));
        let mut batch = self.batch();
        // First, so that what is put counts where both touch one key.
        self.prune(&mut batch, floor)?;
        // What stood before matters only to who reads below.
        let keep = floor < number;
        for (slot, value) in &slots {
            let bytes: &[u8] = if value.is_zero() { &[] } else { value.as_slice() };
            self.put(&mut batch, Family::Slot, slot.as_slice(), (number, bytes), keep)?;
        }
        for (path, node) in &nodes {
            let node = node.as_deref().unwrap_or_default();
            self.put(&mut batch, Family::Trie, &version::trie_key(path), (number, node), keep)?;
        }
        self.put_block(&mut batch, block);
        // Readers look at the floor after they have read, so it rises before anything is gone.
        self.floor.store(floor, Ordering::SeqCst);
        Ok(self.upper.change(nodes.keys(), || batch.commit(durability))?)
    }

    /// Puts what stands at a key since a block, no bytes for nothing; with `keep` also what stood there before.
    fn put(
        &self,
        batch: &mut Batch<'_>,
        family: Family,
        key: &[u8],
        (number, bytes): (u64, &[u8]),
        keep: bool,
    ) -> Result<(), StoreError> {
        let removed = bytes.is_empty();
        if keep {
            let former = self.now(family, key)?;
            if removed && former.is_none() {
                return Ok(());
            }
            let stood = former.as_ref().map(|(_, value)| value.as_ref());
            let past = version::past_key(number, family, key);
            batch.put_raw(Family::Past, &past, &Former { removed, stood }.encode());
        }
        match removed && !keep {
            true => batch.delete_raw(family, key),
            // That nothing stands here has a mark: who reads below has to know where to look.
            false => batch.put_raw(family, key, &version::standing(number, bytes)),
        }
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

    /// Takes out what only readers below `floor` need, so much of it at a time that a batch stays small.
    fn prune(&self, batch: &mut Batch<'_>, floor: u64) -> Result<(), StoreError> {
        for entry in self.past_up_to(floor, PRUNED_AT_ONCE)? {
            let (height, family, key) =
                version::parse_past_key(&entry.key).ok_or_else(|| self.damaged(Family::Past))?;
            // The mark that nothing stands here, if nothing came since.
            if entry.removed
                && let Some((since, value)) = self.now(family, key)?
                && since == height
                && version::parse_standing(&value).is_some_and(|(_, bytes)| bytes.is_empty())
            {
                batch.delete_raw(family, key);
            }
            batch.delete_raw(Family::Past, &entry.key);
        }
        batch.delete_range::<Accounts>(0, floor);
        batch.put::<Floor>(&(), &floor);
        Ok(())
    }
}
