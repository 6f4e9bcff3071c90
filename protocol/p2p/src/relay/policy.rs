//! Whom a relay serves: the question, asked of whoever knows; the relay itself knows no registry.

use futures::{FutureExt, future::BoxFuture};
use libp2p::PeerId;

/// Peers that share what one destination has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// The devices of one fleet.
    Fleet(u64),
    /// Nodes of the network.
    Nodes,
    /// Everybody who is registered nowhere: identities that cost nothing.
    Strangers,
}

/// How a peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// May hold a reservation and open circuits.
    Served(Group),
    /// May at most open circuits, within the strangers' share.
    Stranger,
    /// May do nothing: revoked, suspended or expired.
    Refused,
}

/// Nobody can tell now; to be asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it can't be told now whom to serve")]
pub struct NotReady;

/// Whom a relay serves.
pub trait Policy: Send + Sync + 'static {
    /// How this peer stands at this moment.
    fn standing(&self, peer: PeerId) -> BoxFuture<'static, Result<Standing, NotReady>>;
}

/// Serves every peer alike: for networks of one's own, and for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Everybody;

impl Policy for Everybody {
    fn standing(&self, _: PeerId) -> BoxFuture<'static, Result<Standing, NotReady>> {
        futures::future::ready(Ok(Standing::Served(Group::Fleet(0)))).boxed()
    }
}
