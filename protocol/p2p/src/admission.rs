//! The first behaviour of every swarm: refuses a connection, in or out, whose peer's key isn't
//! secp256k1, before any other behaviour has spent anything on it.
//!
//! It never decides what a peer may do. Rates per address and network belong here too.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

use crate::identity;

/// A peer whose key can't be the key of a device or node.
#[derive(Debug, thiserror::Error)]
#[error("peer {peer} has no secp256k1 key: {source}")]
pub struct ForeignKey {
    /// The peer.
    pub peer: PeerId,
    /// What its PeerId holds instead.
    pub source: windlass_protocol::peer_id::PeerIdError,
}

/// Refuses peers without a secp256k1 key.
#[derive(Debug, Default)]
pub struct Behaviour;

fn admit(peer: PeerId) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
    match identity::public_key_of(&peer) {
        Ok(_) => Ok(dummy::ConnectionHandler),
        Err(source) => {
            tracing::info!(%peer, %source, "refused a peer without a secp256k1 key");
            Err(ConnectionDenied::new(ForeignKey { peer, source }))
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        admit(peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        admit(peer)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_secp256k1_keys_are_admitted() {
        let secret = windlass_protocol::SecretKey::from_bytes(&[9; 32]).unwrap();
        assert!(admit(identity::peer_id_of(&secret.public_key())).is_ok());

        let stranger = PeerId::random();
        let denied = admit(stranger).err().unwrap();
        assert_eq!(denied.downcast::<ForeignKey>().unwrap().peer, stranger);
    }
}
