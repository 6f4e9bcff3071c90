//! Catching up with what was missed: ranges of logs that adapt to what a provider gives at once, fetched ahead of what is
//! being applied, one batch each.

use super::Follower;
use super::error::Broken;
use super::state::Phase;
use crate::chain::{Answer, Block, ChainSource, Change, SourceError};
use crate::limits::{CATCH_UP_BLOCKS, FIRST_RANGE_BLOCKS, MAX_RANGE_BLOCKS, RANGES_AHEAD, REFUSAL_HOLDS};
use crate::on_disk::on_disk;
use crate::store::Durability;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

impl<S: ChainSource> Follower<S> {
    /// Fetches everything up to the final block in ranges, when much is missing.
    pub(super) async fn catch_up(&mut self, finalized: &Block) -> Result<(), Broken> {
        let target = finalized.header.number;
        let from = self.base.map_or(self.spec.deploy_block, |base| base.number + 1);
        if self.base.is_some() && target < from + CATCH_UP_BLOCKS {
            return Ok(());
        }
        // A mirror that was proven stays readable there, in case what comes turns out to be false.
        let floor =
            self.base.and_then(|_| on_disk(|| self.store.last_proven_height()).transpose()).transpose()?;
        on_disk(|| self.tail.rewind(&self.store, 0))?;
        self.state.send_modify(|state| {
            state.phase = Phase::Syncing;
            state.attestable = None;
        });
        let (ranges, mut fetched) = mpsc::channel(RANGES_AHEAD);
        // Ends with this round, whatever comes of it.
        let mut tasks = JoinSet::new();
        tasks.spawn(fetch(self.source.clone(), finalized.clone(), from, ranges));
        while let Some(range) = fetched.recv().await {
            let Range { last, changes } = range?;
            let number = last.header.number;
            let account = if number == target { self.account_of(&last).await? } else { None };
            // Nothing is served while catching up, so nothing in between is kept.
            self.apply(&last, changes, account, floor.unwrap_or(number), Durability::Process)?;
        }
        if self.base.is_none_or(|base| base.number != target) {
            return Err(SourceError::Unavailable(format!("fetching up to block {target} broke off")).into());
        }
        self.canonical = true;
        self.recent.reset(target);
        self.announce().await
    }
}

/// What a range of blocks changed, and its last block.
struct Range {
    last: Block,
    changes: Vec<Change>,
}

/// Fetches one range after the other up to the final block, ends with the first failure.
async fn fetch<S: ChainSource>(
    source: Arc<S>,
    finalized: Block,
    mut from: u64,
    ranges: mpsc::Sender<Answer<Range>>,
) {
    let target = finalized.header.number;
    let mut size = Size::default();
    while from <= target {
        let to = target.min(from.saturating_add(size.blocks - 1));
        let range = match source.changes_between(from, to).await {
            Ok(changes) => last_of(&*source, to, &finalized).await.map(|last| Range { last, changes }),
            Err(SourceError::TooMuch { .. }) if size.blocks > 1 => {
                size.refused();
                continue;
            }
            Err(error) => Err(error),
        };
        let failed = range.is_err();
        // Whoever doesn't take it any more has ended.
        if ranges.send(range).await.is_err() || failed {
            return;
        }
        from = to + 1;
        size.taken();
    }
}

async fn last_of<S: ChainSource>(source: &S, to: u64, finalized: &Block) -> Answer<Block> {
    if to == finalized.header.number {
        return Ok(finalized.clone());
    }
    let block = source.by_number(to).await?;
    block.ok_or_else(|| SourceError::Unavailable(format!("the provider has lost block {to}")))
}

/// How many blocks are asked for at once.
struct Size {
    blocks: u64,
    /// The smallest number that was refused lately, and for how many ranges that still counts.
    refused: Option<(u64, u32)>,
}

impl Default for Size {
    fn default() -> Self {
        Self { blocks: FIRST_RANGE_BLOCKS, refused: None }
    }
}

impl Size {
    /// Half of what was too much.
    fn refused(&mut self) {
        self.refused = Some((self.blocks, REFUSAL_HOLDS));
        self.blocks /= 2;
    }

    /// Twice as many, or halfway to what was too much: each refusal costs the provider a search for nothing.
    fn taken(&mut self) {
        let most = match &mut self.refused {
            Some((refused, left)) if *left > 0 => {
                *left -= 1;
                self.blocks.midpoint(*refused - 1)
            }
            _ => {
                self.refused = None;
                self.blocks * 2
            }
        };
        self.blocks = most.clamp(1, MAX_RANGE_BLOCKS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refusals and answers while a provider gives at most so many blocks at once.
    fn refusals(limit: u64, answers: usize) -> (usize, u64) {
        let (mut size, mut refusals) = (Size::default(), 0);
        for _ in 0..answers {
            while size.blocks > limit {
                size.refused();
                refusals += 1;
            }
            size.taken();
        }
        (refusals, size.blocks)
    }

    #[test]
    fn ranges_come_close_to_what_is_given_at_once_and_are_rarely_refused() {
        let (few, blocks) = refusals(50, 60);
        assert!(few <= 14, "{few} refusals for 60 answers");
        assert!((40..=100).contains(&blocks), "{blocks}");
        let (none, most) = refusals(u64::MAX, 60);
        assert_eq!((none, most), (0, MAX_RANGE_BLOCKS));
        let (_, least) = refusals(1, 60);
        assert!(least <= 2);
    }
}
