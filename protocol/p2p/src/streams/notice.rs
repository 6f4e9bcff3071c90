//! What streams and callers tell the behaviour when something of theirs ends.
//!
//! These travel on an unbounded channel because they are sent from `drop`, which can't wait. Their
//! number is bounded all the same: at most two per stream and one per waiting caller.

use libp2p::{PeerId, swarm::ConnectionId};

/// A caller that waits for a stream or connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CallerId(pub(super) u64);

#[derive(Debug)]
pub(super) enum Notice {
    /// A stream's protocol is agreed on.
    Opened { peer: PeerId, connection: ConnectionId },
    /// A stream is gone; `opened` tells whether [`Notice::Opened`] came before.
    Released { peer: PeerId, connection: ConnectionId, opened: bool },
    /// A caller no longer waits.
    Cancelled { peer: PeerId, caller: CallerId },
}
