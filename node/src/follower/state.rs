//! What the follower tells everybody else: how far it is, which heads it can prove, what changed lately.

use crate::chain::Change;
use crate::limits::RECENT_BLOCKS;
use crate::store::Position;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use windlass_protocol::B256;

/// What the follower is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phase {
    /// Nothing known yet, or fetching what was missed.
    #[default]
    Syncing,
    /// At the chain's head.
    Following,
    /// What was mirrored contradicts the chain; it is being fetched anew and nothing is served.
    Rebuilding,
    /// A provider has another final block than the mirror, and no second one decides; nothing is served.
    Disputed,
}

/// A final block at an attestable height whose account proof the mirror's root agrees with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FinalHead {
    /// The block.
    pub position: Position,
    /// Its Unix second.
    pub timestamp: u64,
    /// How many independent providers call it final.
    pub confirmations: usize,
}

/// Which slots the last final blocks wrote.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// Nothing is known about this block and those before.
    after: u64,
    blocks: VecDeque<(u64, Arc<[B256]>)>,
}

impl Recent {
    /// Starts anew: nothing is known up to and including `number`.
    pub fn reset(&mut self, number: u64) {
        *self = Self { after: number, blocks: VecDeque::new() };
    }

    /// Adds the next block's written storage keys.
    pub fn push(&mut self, number: u64, keys: Arc<[B256]>) {
        if !keys.is_empty() {
            self.blocks.push_back((number, keys));
        }
        while self.blocks.len() > RECENT_BLOCKS
            && let Some((number, _)) = self.blocks.pop_front()
        {
            self.after = number;
        }
    }

    /// The storage keys written after block `from` up to and including `to`, `None` if that is too long ago
    /// to be known.
    pub fn written(&self, from: u64, to: u64) -> Option<BTreeSet<B256>> {
        if from < self.after {
            return None;
        }
        let blocks = self.blocks.iter().filter(|(number, _)| (from + 1..=to).contains(number));
        Some(blocks.flat_map(|(_, keys)| keys.iter().copied()).collect())
    }
}

/// What a block writes that isn't final yet.
#[derive(Clone, Debug)]
pub struct Unfinal {
    /// The block.
    pub position: Position,
    /// Its writes, in order.
    pub changes: Arc<[Change]>,
}

/// The follower's state at one moment.
#[derive(Clone, Debug, Default)]
pub struct MirrorState {
    /// What it is doing.
    pub phase: Phase,
    /// The chain's newest block.
    pub latest: Option<Position>,
    /// The last final block in the mirror.
    pub base: Option<Position>,
    /// The highest head that can be attested.
    pub attestable: Option<FinalHead>,
    /// Which build of the mirror this is about; see [`crate::store::Store::generation`].
    pub generation: u64,
    /// What changed lately.
    pub recent: Arc<Recent>,
    /// The unfinalised blocks that write something, oldest first.
    pub tail: Arc<[Unfinal]>,
    /// How far a mirror is that is being built to replace this one.
    pub beside: Option<u64>,
    /// The last failure, until a round succeeds.
    pub trouble: Option<String>,
    /// Why the last account proof couldn't be had: without one nothing can be attested.
    pub unproven: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn written_keys_are_the_union_and_bounded() {
        let mut recent = Recent::default();
        recent.reset(10);
        for number in 11..=10 + RECENT_BLOCKS as u64 {
            recent.push(number, Arc::from([B256::with_last_byte((number % 7) as u8)]));
        }
        assert!(recent.written(9, 20).is_none());
        assert_eq!(recent.written(10, 12).unwrap().len(), 2);
        assert_eq!(recent.written(12, 12).unwrap().len(), 0);
        recent.push(1_000, Arc::from([B256::ZERO]));
        assert!(recent.written(10, 12).is_none(), "the oldest block was forgotten");
        assert!(recent.written(11, 12).is_some());
    }
}
