//! Dials that are made although the peer is connected: for a direct way beside a relayed one.
//!
//! Each ends with its own connection, with any direct one that came meanwhile, or with the reasons why not. Where the other
//! side is to come to us, that our own packets were refused means nothing yet.

use std::collections::{HashMap, VecDeque};

use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};

use super::{
    error::{Attempt, DialFailures, OpenError},
    peers::{ConnectionInfo, WantConnection},
};
use crate::limits::PUNCHES;

/// Who plays the client of the handshake when both dial at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We do.
    Dialer,
    /// The other side does; over QUIC we only open the way for it.
    Listener,
}

#[derive(Debug)]
struct Punch {
    peer: PeerId,
    role: Role,
    want: WantConnection,
}

/// All dials of this kind that haven't ended.
#[derive(Default)]
pub(super) struct Punches {
    under_way: HashMap<ConnectionId, Punch>,
    ready: VecDeque<DialOpts>,
}

impl Punches {
    /// The next dial for libp2p to make.
    pub(super) fn next(&mut self) -> Option<DialOpts> {
        self.ready.pop_front()
    }

    pub(super) fn begin(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        role: Role,
        want: WantConnection,
    ) {
        // Callers that left took their dial's deadline with them.
        self.under_way.retain(|_, punch| !punch.want.is_closed());
        if self.under_way.len() >= PUNCHES {
            let _ = want.send(Err(OpenError::Busy { peer }));
            return;
        }
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses);
        let opts = match role {
            Role::Dialer => opts.build(),
            Role::Listener => opts.override_role().build(),
        };
        self.under_way.insert(opts.connection_id(), Punch { peer, role, want });
        self.ready.push_back(opts);
    }

    /// A connection is up: whoever asked for it, or for any direct one to this peer, has it.
    pub(super) fn connected(&mut self, peer: PeerId, info: ConnectionInfo) {
        if info.path.is_relayed() {
            return;
        }
        for (_, punch) in self.under_way.extract_if(|_, punch| punch.peer == peer) {
            let _ = punch.want.send(Ok(info));
        }
    }

    /// One of libp2p's dials came to nothing.
    pub(super) fn failed(&mut self, id: ConnectionId, error: &DialError) {
        let is_ours = self.under_way.get(&id).is_some_and(|punch| punch.role == Role::Dialer);
        if is_ours && let Some(Punch { peer, want, .. }) = self.under_way.remove(&id) {
            let source = DialFailures::new(Attempt::of(error));
            let _ = want.send(Err(OpenError::Dial { peer, source }));
        }
    }
}
