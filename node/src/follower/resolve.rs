//! What becomes of the mirror when a round found something wrong: as much of it is kept as was proven.
//!
//! One provider alone never costs a mirror whose root was proven: what it sent is thrown away and another one is asked.

use super::Follower;
use super::error::{Doubt, FollowError};
use super::state::Phase;
use super::tail::Tail;
use crate::chain::{ChainSource, SourceError};
use crate::limits::{MISMATCHES, NEEDED_PROVIDERS};
use crate::on_disk::on_disk;
use crate::store::{Headers, Position, StoreError};
use std::sync::Arc;
use windlass_protocol::keccak256;

impl<S: ChainSource> Follower<S> {
    /// Does what a doubt asks for. There is always something to report, or the round would have gone on.
    pub(super) async fn resolve(&mut self, doubt: Doubt) -> Result<(), FollowError> {
        match doubt {
            Doubt::Mismatch(what) => self.resolve_mismatch(what).await,
            Doubt::Fork(what) => self.resolve_fork(what).await,
            // One that builds has nothing to lose.
            Doubt::Damage(what) if self.besides.is_some() => self.start_over(what, None),
            Doubt::Damage(what) => {
                self.begin_rebuild(&what)?;
                Err(FollowError::Damaged(what))
            }
        }
    }

    /// Logs were left out or forged, or account proofs withheld until it showed.
    async fn resolve_mismatch(&mut self, what: String) -> Result<(), FollowError> {
        self.require_genesis(&what).await?;
        let proven = on_disk(|| self.proven_positions())?;
        if proven.first().is_some_and(|newest| Some(*newest) == self.base) {
            // Only what isn't mirrored yet can be wrong.
            self.source.distrust(&what);
            on_disk(|| self.tail.rewind(&self.store, 0))?;
            self.mismatches += 1;
            let next = match self.mismatches {
                1..MISMATCHES => {
                    "fetching what is above the proven block anew, from another provider if there is one"
                }
                _ => {
                    "this repeats: either every provider leaves out the same log, or this chain doesn't keep its state \
                     as Ethereum does and is not eligible"
                }
            };
            let reason = format!("{what}; {next}");
            return Err(SourceError::Unavailable(reason).into());
        }
        self.start_over(what, proven.first().copied())
    }

    /// Another block where one is final for us may be the lie, or the fork, of the one provider that was asked.
    async fn resolve_fork(&mut self, what: String) -> Result<(), FollowError> {
        self.require_genesis(&what).await?;
        let Some(base) = self.base else { return self.start_over(what, None) };
        let check = self.source.cross_check(base.number, base.hash).await;
        // On a development chain the only provider there is, is the chain.
        let alone = self.spec.dev && self.source.independent() == 1;
        let decided = check.contradictions >= NEEDED_PROVIDERS && check.contradictions > check.confirmations;
        if alone || decided {
            let shared = self.newest_shared().await?;
            return self.start_over(what, shared);
        }
        self.source.distrust(&what);
        if check.confirmations > 0 {
            let reason =
                format!("{what}; another provider still has ours: keeping the mirror and asking that one");
            return Err(SourceError::Unavailable(reason).into());
        }
        // The mirror stays, to be taken up again where the chain agrees with it.
        self.canonical = false;
        self.state.send_modify(|state| (state.phase, state.attestable) = (Phase::Disputed, None));
        Err(FollowError::Disputed(what))
    }

    /// A provider that serves another chain now says nothing about this one's mirror: it stays as it is until the
    /// spec's chain is back.
    async fn require_genesis(&self, what: &str) -> Result<(), FollowError> {
        match self.source.by_number(0).await? {
            Some(genesis) if genesis.header.hash == self.spec.genesis_hash => Ok(()),
            _ => {
                let reason = format!("the provider serves another chain than the spec pins: {what}");
                self.source.distrust(&reason);
                Err(SourceError::Unavailable(reason).into())
            }
        }
    }

    /// The heights that can be taken back to, newest first: proven, and with all their versions.
    fn proven_positions(&self) -> Result<Vec<Position>, StoreError> {
        let mut positions = Vec::new();
        for number in self.store.proven_heights(0)?.into_iter().rev() {
            if let Some(header) = self.store.get::<Headers>(&number)?
                && self.store.reaches_back_to(number)
            {
                positions.push(Position { number, hash: keccak256(&header) });
            }
        }
        Ok(positions)
    }

    /// The newest of them that no majority of the providers contradicts.
    async fn newest_shared(&self) -> Result<Option<Position>, FollowError> {
        for position in on_disk(|| self.proven_positions())? {
            let check = self.source.cross_check(position.number, position.hash).await;
            if check.contradictions == 0 && check.confirmations > 0 {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// Stops serving, takes the mirror back to `kept` or empties it, and prefers another provider.
    fn start_over(&mut self, what: String, kept: Option<Position>) -> Result<(), FollowError> {
        let from = kept.map(|kept| kept.number);
        tracing::error!(what, kept = from, "the mirror contradicts the chain: following it anew");
        self.base = kept;
        self.canonical = false;
        self.recent.reset(from.unwrap_or(0));
        // First tell, so that nobody begins to read, then write; who reads already notices the generation.
        self.state.send_modify(|state| {
            state.phase = Phase::Rebuilding;
            state.base = kept;
            state.attestable = None;
            state.generation = self.store.generation() + 1;
            state.recent = Arc::new(self.recent.clone());
            state.tail = Arc::default();
        });
        self.source.distrust(&what);
        on_disk(|| match kept {
            Some(position) => self.store.rewind_to(position),
            None => self.store.clear_mirror(),
        })?;
        self.tail = Tail::default();
        Err(FollowError::Contradiction { what, from })
    }
}
