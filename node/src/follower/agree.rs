//! Which final block is believed: what the providers say of it, and where as many contradict it as confirm it, what the
//! committee vouches for.
//!
//! Whatever comes of it, a block becomes part of the mirror only with the chain's own proofs.

use super::Follower;
use super::error::{Broken, fork};
use super::state::FinalHead;
use super::step::position;
use crate::chain::{Block, ChainSource, CrossCheck, SourceError};
use crate::clock::unix_seconds;
use crate::head::Undecided;
use crate::limits::NEEDED_PROVIDERS;
use crate::on_disk::on_disk;
use crate::store::{Headers, Position, StoreError};

impl<S: ChainSource> Follower<S> {
    /// What the providers say of a final block, asked once a round until enough of them have it.
    async fn compare(&mut self, position: Position) -> CrossCheck {
        // Nobody to compare with.
        if self.source.independent() < 2 {
            return CrossCheck { confirmations: 1, contradictions: 0 };
        }
        if let Some((of, check, round)) = self.compared
            && of == position
            && (round == self.round || check.confirmations >= NEEDED_PROVIDERS)
        {
            return check;
        }
        let check = self.source.cross_check(position.number, position.hash).await;
        self.compared = Some((position, check, self.round));
        check
    }

    /// Before a final block is mirrored: what as many providers contradict as confirm isn't, unless the committee says
    /// which of them it vouches for, and where more do, the one that was asked is left. Gives the block to mirror up to.
    pub(super) async fn agree_on(&mut self, finalized: Block) -> Result<Block, Broken> {
        let position = position(&finalized);
        if self.base.is_some_and(|base| position.number <= base.number) {
            return Ok(finalized);
        }
        let check = self.compare(position).await;
        if check.contradictions == 0 || check.contradictions < check.confirmations {
            return Ok(finalized);
        }
        if check.contradictions == check.confirmations
            && let Some(vouched) = self.vouched_for(position.number).await?
        {
            return Ok(vouched);
        }
        let reason = format!(
            "final block {} is {} for {} and another one for {}: it isn't mirrored until more agree (name more in \
             `providers`)",
            position.number,
            position.hash,
            providers(check.confirmations),
            providers(check.contradictions)
        );
        if check.contradictions > check.confirmations {
            self.source.distrust(&reason);
        }
        Err(SourceError::Unavailable(reason).into())
    }

    /// The newest block up to `newest` that the committee vouches for, if the provider that is asked has it. One that has
    /// another there is named and left.
    async fn vouched_for(&self, newest: u64) -> Result<Option<Block>, Broken> {
        let Some(vouched) = self.vouched.as_ref().map(|vouched| vouched.borrow().clone()) else {
            return Ok(None);
        };
        let base = self.base.map_or(0, |base| base.number);
        for Position { number, hash } in vouched.between(base, newest) {
            let Some(block) = self.source.by_number(number).await? else { continue };
            match vouched.verify(&self.spec, &block, unix_seconds()) {
                Ok(_) => return Ok(Some(block)),
                Err(Undecided::Nobody) => {
                    let theirs = block.header.hash;
                    let reason = format!(
                        "final block {number} is {theirs} for it and another one for as many others; members of the \
                         committee vouch for {hash}: asking another provider"
                    );
                    self.source.distrust(&reason);
                    return Err(SourceError::Unavailable(reason).into());
                }
                Err(reason) => tracing::debug!(number, %reason, "the committee decides nothing here"),
            }
        }
        Ok(None)
    }

    /// The highest height that is proven and can be attested, and how many providers have it.
    pub(super) async fn attestable(&mut self) -> Result<Option<FinalHead>, Broken> {
        let newest = on_disk(|| {
            let Some(number) = self.store.last_proven_height()? else { return Ok::<_, StoreError>(None) };
            self.store.get::<Headers>(&number)
        })?;
        let Some(block) = newest.and_then(|rlp| Block::decode(rlp).ok()) else { return Ok(None) };
        let position = position(&block);
        let check = self.compare(position).await;
        if check.contradictions >= NEEDED_PROVIDERS && check.contradictions > check.confirmations {
            return Err(fork(format!(
                "{} have another block at final height {} than {}, {} have it",
                providers(check.contradictions),
                position.number,
                position.hash,
                providers(check.confirmations)
            )));
        }
        let confirmations = check.confirmations;
        Ok(Some(FinalHead { position, timestamp: block.header.timestamp, confirmations }))
    }

    /// A provider that was a moment behind may have the head by now.
    pub(super) async fn confirm_again(&mut self) -> Result<(), Broken> {
        let attestable = self.state.borrow().attestable;
        let unconfirmed = attestable.is_some_and(|head| head.confirmations < NEEDED_PROVIDERS);
        if unconfirmed && self.source.independent() >= NEEDED_PROVIDERS {
            self.announce().await?;
        }
        Ok(())
    }
}

fn providers(count: usize) -> String {
    if count == 1 { "1 provider".to_owned() } else { format!("{count} providers") }
}
