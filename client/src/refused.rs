//! Why a node's answer was not taken, and which node it was.

use libp2p::{Multiaddr, PeerId};
use std::{fmt, sync::Arc, time::Duration};
use windlass_p2p::{OpenError, frame::FrameError};
use windlass_protocol::{
    B256, KeyAddress,
    bundle::BundleError,
    committee::StepError,
    head::HeadError,
    message::resolve::Reason,
    route::RouteError,
    slot::Slot,
    spec::{RenewalError, SpecError},
    wire::DecodeError,
};

/// What a node did that its answer was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Rejection {
    /// It could not be reached, or doesn't speak the protocol.
    #[error("{0}")]
    Unreachable(Box<OpenError>),
    /// It gave no answer in time.
    #[error("gave no answer within {after:?}")]
    Silent {
        /// The deadline.
        after: Duration,
    },
    /// The stream failed before the answer was complete.
    #[error("{0}")]
    Broken(Arc<FrameError>),
    /// It said that it can't answer.
    #[error("declined: {reason} ({text})")]
    Declined {
        /// Why.
        reason: Reason,
        /// In its words.
        text: String,
    },
    /// Its answer is no message of the protocol.
    #[error("sent {0}")]
    Malformed(DecodeError),
    /// Its answer proves nothing.
    #[error("lied or forged: {0}")]
    Unproven(BundleError),
    /// Its answer and our clock disagree about the time: either may be wrong, or the chain stands still.
    #[error("answered out of time: {0}")]
    Untimely(HeadError),
    /// Its head is of an epoch whose committee isn't known yet, and it doesn't lead there.
    #[error("answered under a head of epoch {epoch}, and the committee is known to epoch {known} only")]
    Unwalked {
        /// The head's epoch.
        epoch: u32,
        /// The last one walked to.
        known: u32,
    },
    /// Its head is signed by somebody who was in the committee, and is no more.
    #[error(
        "answered under block {number} signed by {signer}, who was in the committee until epoch {through} and is no more"
    )]
    Retired {
        /// The block.
        number: u64,
        /// Who signed.
        signer: KeyAddress,
        /// Its last epoch.
        through: u32,
    },
    /// It doesn't lead on from the last committee known.
    #[error("doesn't lead from one committee to the next: {0}")]
    Step(StepError),
    /// What it gathered over our nonce lacks the anchor's signature.
    #[error("brought no signature of the anchor {0} over the nonce")]
    NoAnchor(KeyAddress),
    /// It pushed newer heads, and not the change of a watched slot that others proved under them.
    #[error("withheld the change of {0:?} that others proved")]
    Withheld(Slot),
    /// It answered something else than was asked.
    #[error("answered another question")]
    NotTheQuestion,
    /// Its answer is genuine and older than what this client has verified before.
    #[error("answered under block {number}, older than block {highest} already verified")]
    Older {
        /// The answer's block.
        number: u64,
        /// The highest verified block.
        highest: u64,
    },
    /// Two attested blocks at one height: the committee broke its word, or the node abuses that it did.
    #[error("answered under block {number} with hash {hash}, but {known} was verified at that height")]
    Conflict {
        /// The height.
        number: u64,
        /// The answer's block.
        hash: B256,
        /// The block verified before.
        known: B256,
    },
    /// Nobody has vouched for its head recently enough.
    #[error("answered under a head last attested {age} s ago, over the limit of {max_age} s")]
    TooOld {
        /// Seconds since a threshold of members vouched.
        age: u64,
        /// What this client allows.
        max_age: u64,
    },
    /// It passed on a route that is not the device's.
    #[error("sent a false route: {0}")]
    Route(RouteError),
    /// The chain spec it brought can't take the present one's place.
    #[error("brought a chain spec that isn't adopted: {0}")]
    Renewal(RenewalError),
    /// It told of a change in a block that became final without it: its notices are ignored from now on.
    #[error("told of a change that never came")]
    FalseNotice,
    /// It pushed more than anybody needs.
    #[error("pushed faster than news can be made")]
    TooMany,
    /// It pushed proofs of a slot that nobody watches.
    #[error("pushed {0:?}, which was not asked for")]
    Unasked(Slot),
}

impl From<BundleError> for Rejection {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Head(
                error @ (HeadError::Future(_) | HeadError::Lag { .. } | HeadError::OtherEpoch { .. }),
            ) => Self::Untimely(error),
            error => Self::Unproven(error),
        }
    }
}

impl From<StepError> for Rejection {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Bundle(error) => error.into(),
            error => Self::Step(error),
        }
    }
}

impl Rejection {
    /// Whether an honest node can't have done this: it is asked last for the rest of the session.
    pub fn is_lie(&self) -> bool {
        match self {
            Self::Malformed(_) | Self::Unproven(_) | Self::Conflict { .. } => true,
            Self::Route(_) | Self::Unasked(_) | Self::TooMany => true,
            Self::Retired { .. } | Self::NotTheQuestion | Self::Withheld(_) => true,
            // That nobody can be believed after so long is nobody's lie; nor is an old head.
            Self::Step(error) => !matches!(error, StepError::Expired { .. } | StepError::Early { .. }),
            // It may have been given the spec by another publisher; what it can't have been given is no spec at all.
            Self::Renewal(error) => {
                matches!(error, RenewalError::Spec(SpecError::Decode(_) | SpecError::NotCanonical))
            }
            // The anchor may be out of its reach.
            Self::Unwalked { .. } | Self::NoAnchor(_) => false,
            Self::Unreachable(_) | Self::Silent { .. } | Self::Broken(_) | Self::Declined { .. } => false,
            // An honest node says the same of a block that the chain takes back.
            Self::FalseNotice | Self::Older { .. } | Self::TooOld { .. } | Self::Untimely(_) => false,
        }
    }

    /// Whether the reason may be that our chain spec is too old to know who vouches for heads now.
    pub(crate) fn may_be_our_spec(&self) -> bool {
        match self {
            Self::Step(_) | Self::Unwalked { .. } | Self::Retired { .. } => true,
            Self::Unproven(error) => matches!(error, BundleError::Head(HeadError::NotCommittee { .. })),
            Self::Untimely(error) => matches!(error, HeadError::OtherEpoch { .. }),
            _ => false,
        }
    }

    /// Whether the same node may well answer within seconds: it is a gossip round behind, still starting, or
    /// was asked too often.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Older { .. } | Self::Unwalked { .. } => true,
            Self::Declined { reason, .. } => matches!(reason, Reason::NotReady | Reason::RateLimited),
            _ => false,
        }
    }
}

/// A node whose answer was not taken.
#[derive(Debug, Clone)]
pub struct RefusedNode {
    /// Its peer id.
    pub peer: PeerId,
    /// The address of its key.
    pub address: KeyAddress,
    /// Where it was dialled.
    pub multiaddr: Multiaddr,
    /// Why.
    pub reason: Rejection,
}

impl fmt::Display for RefusedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} at {} {}", self.address, self.multiaddr, self.reason)
    }
}

/// What a stranger writes ends up in terminals and logs: nothing but plain text passes.
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~')).collect()
}

/// All refused nodes on one line, for error texts, and what to do where all were refused alike: then the fault
/// is more likely here than at every node.
pub(crate) fn listed(refused: &[RefusedNode]) -> String {
    if refused.is_empty() {
        return "no node was asked".to_owned();
    }
    let nodes = refused.iter().map(RefusedNode::to_string).collect::<Vec<_>>().join("; ");
    let all = |alike: fn(&Rejection) -> bool| refused.iter().all(|node| alike(&node.reason));
    let stranger = |reason: &Rejection| {
        matches!(reason, Rejection::Unproven(BundleError::Head(HeadError::NotCommittee { .. })))
    };
    let advice = if all(stranger) {
        "; if these are the right nodes, the chain spec is another network's: check `spec`"
    } else if all(|reason| matches!(reason, Rejection::Untimely(HeadError::Future(_)))) {
        "; check this machine's clock: it may be slow"
    } else if all(|reason| matches!(reason, Rejection::Untimely(_) | Rejection::TooOld { .. })) {
        "; the chain stands still, or this machine's clock is fast"
    } else {
        ""
    };
    nodes + advice
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(reasons: &[Rejection]) -> String {
        let node = |reason: &Rejection| RefusedNode {
            peer: PeerId::random(),
            address: KeyAddress(windlass_protocol::Address::ZERO),
            multiaddr: Multiaddr::empty(),
            reason: reason.clone(),
        };
        listed(&reasons.iter().map(node).collect::<Vec<_>>())
    }

    #[test]
    fn a_wrong_clock_is_no_nodes_lie_and_what_to_do_is_said() {
        let future = Rejection::from(BundleError::from(HeadError::Future(7)));
        assert!(!future.is_lie());
        assert!(refused(&[future.clone(), future.clone()]).contains("clock: it may be slow"));
        let lag = Rejection::from(BundleError::from(HeadError::Lag { number: 7, lag: 61, limit: 60 }));
        assert!(!lag.is_lie());
        let old = Rejection::TooOld { age: 700, max_age: 600 };
        assert!(refused(&[lag, old]).contains("stands still"));
        // One other reason, and the fault is not here.
        let text = refused(&[future, Rejection::Silent { after: Duration::from_secs(3) }]);
        assert!(!text.contains("clock: it may be slow"), "{text}");
    }

    #[test]
    fn a_spec_of_another_network_is_suspected_when_nobody_is_of_the_committee() {
        let stranger =
            HeadError::NotCommittee { number: 7, signer: KeyAddress(windlass_protocol::Address::ZERO) };
        let reason = Rejection::from(BundleError::from(stranger));
        assert!(reason.is_lie());
        assert!(refused(&[reason]).contains("check `spec`"));
    }
}
