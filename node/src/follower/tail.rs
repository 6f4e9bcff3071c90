//! The unfinalised blocks above the base, each the parent of the next, in memory as they are in the store.

use super::state::Unfinal;
use crate::chain::Block;
use crate::store::{Durability, Position, Store, StoreError, Tail as Column, TailBlock};
use std::collections::VecDeque;
use std::sync::Arc;
use windlass_protocol::B256;

/// One unfinalised block, decoded.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) block: Block,
    pub(super) content: TailBlock,
}

/// The tail: ascending, without gaps.
#[derive(Default)]
pub(super) struct Tail {
    entries: VecDeque<Entry>,
}

impl Tail {
    /// The tail that the store kept on top of `base`. What doesn't link up is dropped: it is fetched again.
    pub(super) fn load(store: &Store, base: Option<Position>) -> Result<Self, StoreError> {
        let mut tail = Self::default();
        let Some(base) = base else { return Ok(tail) };
        let mut parent = base.hash;
        for (number, content) in store.tail()? {
            let Ok(block) = Block::decode(content.header.clone()) else { break };
            if block.header.parent_hash != parent || block.header.number != number {
                break;
            }
            parent = block.header.hash;
            tail.entries.push_back(Entry { block, content });
        }
        Ok(tail)
    }

    /// The entry of this number, if it is the block with this hash.
    pub(super) fn find(&self, number: u64, hash: B256) -> Option<&Entry> {
        let first = self.entries.front()?.block.header.number;
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        self.entries.get(index).filter(|entry| entry.block.header.hash == hash)
    }

    /// The blocks that write something, oldest first.
    pub(super) fn writing(&self) -> Arc<[Unfinal]> {
        let writing = self.entries.iter().filter(|entry| !entry.content.changes.is_empty());
        let unfinal = |entry: &Entry| {
            let position = Position { number: entry.block.header.number, hash: entry.block.header.hash };
            Unfinal { position, changes: entry.content.changes.as_slice().into() }
        };
        writing.map(unfinal).collect()
    }

    pub(super) fn first(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// Takes off everything above `number`, in one batch.
    pub(super) fn rewind(&mut self, store: &Store, number: u64) -> Result<(), StoreError> {
        let keep = self.entries.iter().take_while(|entry| entry.block.header.number <= number).count();
        if keep == self.entries.len() {
            return Ok(());
        }
        let mut batch = store.batch();
        for entry in self.entries.drain(keep..) {
            batch.delete::<Column>(&entry.block.header.number);
        }
        batch.commit(Durability::Process)
    }

    /// Puts the next block on top.
    pub(super) fn push(&mut self, store: &Store, entry: Entry) -> Result<(), StoreError> {
        let mut batch = store.batch();
        batch.put::<Column>(&entry.block.header.number, &entry.content);
        batch.commit(Durability::Process)?;
        self.entries.push_back(entry);
        Ok(())
    }

    /// The lowest block has become part of the base, whose batch took it out of the store.
    pub(super) fn pop(&mut self) {
        self.entries.pop_front();
    }
}
