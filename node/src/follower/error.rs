//! How a round of following fails, and what it may find to be wrong.

use crate::chain::SourceError;
use crate::store::StoreError;

/// Why a round failed. Whatever the reason, the store is whole and another round may be tried.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The chain didn't answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the mirror held is not what the chain proves.
    #[error("{what}; {}", again(.from))]
    Contradiction {
        /// What isn't.
        what: String,
        /// The last block that is kept.
        from: Option<u64>,
    },
    /// Another final block than the mirror's, and too few who say so.
    #[error(
        "{0}; the mirror was proven, so one provider's word doesn't change it: nothing is served until that \
         provider agrees again or a second one decides (name more in `providers`)"
    )]
    Disputed(String),
    /// The mirror on disk can't be read or changed any more.
    #[error("{0}; it is being built anew beside, and what can still be read of it is served")]
    Damaged(String),
    /// Finality is further behind than any chain's should be.
    #[error("{0} blocks are not final, more than are followed: the chain's finality has stalled")]
    Stalled(u64),
}

fn again(from: &Option<u64>) -> String {
    match from {
        Some(number) => format!("following anew from block {number}, the last one that was proven"),
        None => "rebuilding the mirror from the deployment on".to_owned(),
    }
}

/// What a round may find to be wrong with the mirror, or with what is about to be mirrored.
pub(super) enum Doubt {
    /// The chain proves another storage root.
    Mismatch(String),
    /// The chain has another block where one was final.
    Fork(String),
    /// The mirrored trie itself can't be read.
    Damage(String),
}

/// How a round ends early.
pub(super) enum Broken {
    Failed(FollowError),
    Doubted(Doubt),
}

impl<E: Into<FollowError>> From<E> for Broken {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) fn fork(what: String) -> Broken {
    Broken::Doubted(Doubt::Fork(what))
}

pub(super) fn mismatch(what: String) -> Broken {
    Broken::Doubted(Doubt::Mismatch(what))
}

pub(super) fn damage(what: String) -> Broken {
    Broken::Doubted(Doubt::Damage(what))
}
