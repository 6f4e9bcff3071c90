//! Building a mirror beside the one that is read, and changing over once it is proven: when the operator asks for it, or
//! when the trie on disk turns out to be damaged. What the old one can still prove is served meanwhile.

use super::state::MirrorState;
use super::{FollowError, Follower};
use crate::chain::ChainSource;
use crate::limits::BESIDE_PAUSE;
use crate::on_disk::on_disk;
use crate::store::Position;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A mirror in the making: a follower of its own, over the other half of the data directory.
pub(super) struct Rebuild<S> {
    task: JoinSet<Result<Follower<S>, FollowError>>,
}

impl<S: ChainSource> Follower<S> {
    /// Begins a rebuild that was asked for, or changes over to one that has come as far as we are. Once a round.
    pub(super) async fn tend_rebuild(&mut self) -> Result<(), FollowError> {
        let Some(rebuild) = &mut self.rebuild else {
            if self.besides.is_none() && on_disk(|| self.store.is_rebuild_requested()) {
                return self.begin_rebuild("the operator asks for it");
            }
            return Ok(());
        };
        match rebuild.task.try_join_next() {
            None => Ok(()),
            Some(Ok(Ok(built))) if height(built.base) < height(self.base) => {
                // We have gone on since: so does it.
                self.go_on_building(built);
                Ok(())
            }
            Some(Ok(Ok(built))) => self.change_over(built).await,
            Some(Ok(Err(error))) => {
                self.rebuild = None;
                Err(error)
            }
            // Interrupted: begun anew where the reason still holds.
            Some(Err(_)) => {
                self.rebuild = None;
                Ok(())
            }
        }
    }

    /// Begins to build beside, unless that is under way.
    pub(super) fn begin_rebuild(&mut self, why: &str) -> Result<(), FollowError> {
        if self.rebuild.is_some() {
            return Ok(());
        }
        tracing::warn!(why, "building the mirror anew, beside the one that is read");
        let beside = Arc::new(on_disk(|| self.store.beside())?);
        let mut built = Self::new(self.source.clone(), beside, self.spec.clone())?;
        self.state.send_modify(|state| state.beside = Some(0));
        built.vouched = self.vouched.clone();
        built.besides = Some(self.state.subscribe());
        self.go_on_building(built);
        Ok(())
    }

    fn go_on_building(&mut self, built: Self) {
        let mut task = JoinSet::new();
        task.spawn(build(built, self.state.clone()));
        self.rebuild = Some(Rebuild { task });
    }

    /// Takes over what was built: from here on it is the mirror.
    async fn change_over(&mut self, built: Self) -> Result<(), FollowError> {
        on_disk(|| {
            self.store.adopt(&built.store)?;
            self.store.end_rebuild_request()
        })?;
        let number = built.base.map(|base| base.number);
        tracing::warn!(number, "reading the mirror that was built anew");
        (self.base, self.tail, self.recent, self.canonical) =
            (built.base, built.tail, built.recent, built.canonical);
        self.rebuild = None;
        self.state.send_modify(|state| state.beside = None);
        match self.announce().await {
            Ok(()) => Ok(()),
            // The round that follows finds it again.
            Err(_) => Ok(()),
        }
    }

    /// Ends what is being built, to go on at the next start if it is still wanted then.
    pub(super) async fn end_rebuild(&mut self) {
        if let Some(mut rebuild) = self.rebuild.take() {
            rebuild.task.shutdown().await;
        }
    }
}

fn height(base: Option<Position>) -> Option<u64> {
    base.map(|base| base.number)
}

/// Follows until the mirror is proven where the other one stands.
async fn build<S: ChainSource>(
    mut built: Follower<S>,
    told: watch::Sender<MirrorState>,
) -> Result<Follower<S>, FollowError> {
    loop {
        match built.step().await {
            Ok(()) => {
                told.send_modify(|state| state.beside = built.base.map(|base| base.number));
                let proven = built.state.borrow().attestable.map(|head| head.position);
                let other = built.besides.as_ref().and_then(|other| other.borrow().base);
                if proven.is_some() && proven == built.base && height(built.base) >= height(other) {
                    return Ok(built);
                }
            }
            Err(error @ FollowError::Store(_)) => return Err(error),
            Err(error) => tracing::warn!(%error, "building the mirror anew failed; trying again"),
        }
        tokio::time::sleep(BESIDE_PAUSE).await;
    }
}
