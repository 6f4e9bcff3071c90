//! The follower's task: a round at every tick, and a growing pause after failures.

use super::{FollowError, Follower};
use crate::chain::ChainSource;
use crate::limits::MAX_FOLLOW_PAUSE;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Follows until cancelled. Ends by itself only when the disk fails: whatever a provider says, another one, or
/// the same one later, may say something better.
pub async fn run<S: ChainSource>(
    mut follower: Follower<S>,
    interval: Duration,
    cancelled: CancellationToken,
) -> Result<(), FollowError> {
    let mut pause = interval;
    loop {
        // A round cut short leaves nothing half done: every write is one batch.
        let outcome = tokio::select! {
            () = cancelled.cancelled() => break,
            outcome = follower.step() => outcome,
        };
        match outcome {
            Ok(()) => pause = interval,
            Err(error @ FollowError::Store(_)) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "following the chain failed; trying again");
                pause = (pause * 2).min(MAX_FOLLOW_PAUSE.max(interval));
            }
        }
        tokio::select! {
            () = cancelled.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    follower.end_rebuild().await;
    Ok(())
}
