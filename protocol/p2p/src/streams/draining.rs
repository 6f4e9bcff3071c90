//! Relayed connections that a direct one has made needless: closed once nothing runs on them.
//!
//! New streams take the direct one anyway; what runs on the relayed one runs to its end. It looks now and then, and only
//! while there is such a connection.

use std::{
    collections::HashSet,
    pin::Pin,
    task::{Context, Poll},
};

use libp2p::{PeerId, swarm::ConnectionId};
use tokio::time::{Sleep, sleep};

use super::peers::Peers;
use crate::limits::DRAIN_LOOK;

/// See the module.
#[derive(Default)]
pub(super) struct Draining {
    /// Peers with connections of both kinds.
    peers: HashSet<PeerId>,
    /// Connections on which nothing ran at the last look.
    quiet: HashSet<ConnectionId>,
    next_look: Option<Pin<Box<Sleep>>>,
}

impl Draining {
    /// Looks after a peer that has just been connected once more.
    pub(super) fn note(&mut self, peers: &Peers, peer: PeerId) {
        if peers.has_both_kinds(&peer) && self.peers.insert(peer) && self.next_look.is_none() {
            self.next_look = Some(Box::pin(sleep(DRAIN_LOOK)));
        }
    }

    /// The connections to close now.
    pub(super) fn poll(
        &mut self,
        peers: &mut Peers,
        cx: &mut Context<'_>,
    ) -> Poll<Vec<(PeerId, ConnectionId)>> {
        match self.next_look.as_mut().map(|look| look.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => {}
            Some(Poll::Pending) | None => return Poll::Pending,
        }
        let drained = self.look(peers);
        self.next_look = (!self.peers.is_empty()).then(|| Box::pin(sleep(DRAIN_LOOK)));
        Poll::Ready(drained)
    }

    /// What was quiet at two looks in a row is drained: a stream may be about to be opened.
    fn look(&mut self, peers: &mut Peers) -> Vec<(PeerId, ConnectionId)> {
        self.peers.retain(|peer| peers.has_both_kinds(peer));
        let needless =
            self.peers.iter().flat_map(|peer| peers.needless(peer).into_iter().map(move |id| (*peer, id)));
        let (drained, quiet): (Vec<_>, Vec<_>) = needless.partition(|(_, id)| self.quiet.contains(id));
        self.quiet = quiet.into_iter().map(|(_, id)| id).collect();
        for (peer, id) in &drained {
            peers.closing_one(*peer, *id);
        }
        drained
    }
}
