//! Streams: how every Windlass protocol is opened and accepted, over whatever connection is best.
//!
//! | file | owns |
//! | --- | --- |
//! | `behaviour` | libp2p's side: commands in, dials and closes out, counting |
//! | `peers` | who is connected, who waits, and the limits |
//! | `dialing` | reaching a peer: one dial for all who ask, relays before circuits |
//! | `punching` | a direct way beside a relayed one |
//! | `draining` | relayed connections that are needless beside a direct one |
//! | `handler` | one connection: negotiating, delivering |
//! | `accepting` | the protocols accepted here and their queues |
//! | `control` | the handle for everybody else |
//! | `hold` | keeping one connection, and streams on that one alone |
//! | `stream` | an open stream, and what its end means |
//!
//! It never looks at bytes and never decides whether a peer may have a stream. Callers send commands
//! through one bounded queue to the behaviour, which sends each wish to one connection's handler; the
//! handler answers the caller directly. Nothing here waits for anything on the other side of a queue.

mod accepting;
mod behaviour;
mod control;
mod dialing;
mod draining;
mod error;
mod handler;
mod hold;
mod notice;
mod peers;
mod punching;
mod stream;

pub use accepting::Incoming;
pub use behaviour::{Behaviour, NamelessRelay};
pub use control::Control;
pub use error::{AlreadyAccepting, Attempt, DialFailures, OpenError, Stage};
pub use handler::{Accept, Handler, Protocols, Request};
pub use hold::{Hold, Tether};
pub use libp2p::swarm::ConnectionId;
pub use peers::{ConnectionInfo, Usage};
pub use punching::Role;
pub use stream::PeerStream;

use crate::limits;

/// The bounds of a [`Behaviour`]. The defaults are those of [`crate::limits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Streams open to one peer at a time, those being negotiated included.
    pub streams_per_peer: usize,
    /// Streams to one peer being negotiated at a time.
    pub opening_per_peer: usize,
    /// Callers waiting for one peer.
    pub waiting_per_peer: usize,
    /// Streams that a peer may keep open to us on one connection.
    pub inbound_per_connection: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_per_peer: limits::STREAMS_PER_PEER,
            opening_per_peer: limits::OPENING_PER_PEER,
            waiting_per_peer: limits::WAITING_PER_PEER,
            inbound_per_connection: limits::INBOUND_PER_CONNECTION,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
