//! The first behaviour of every swarm: refuses a connection, in or out, whose peer's key isn't
//! secp256k1, and one too many from a network that has as many handshakes under way as it may, before
//! any other behaviour has spent anything on it.
//!
//! It never decides what a peer may do.

use std::{
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

use crate::{identity, limits::PENDING_PER_NETWORK, misbehaviour::Misbehaviour, path::ip_of};

/// A peer whose key can't be the key of a device or node.
#[derive(Debug, thiserror::Error)]
#[error("peer {peer} has no secp256k1 key: {source}")]
pub struct ForeignKey {
    /// The peer.
    pub peer: PeerId,
    /// What its PeerId holds instead.
    pub source: windlass_protocol::peer_id::PeerIdError,
}

/// More handshakes under way with one network than it may have.
#[derive(Debug, thiserror::Error)]
#[error("{PENDING_PER_NETWORK} handshakes with {network} and its neighbours are under way")]
pub struct Crowded {
    /// The network's first address.
    pub network: IpAddr,
}

/// Refuses peers without a secp256k1 key, and networks with too many handshakes under way.
#[derive(Debug, Default)]
pub struct Behaviour {
    pending: HashMap<ConnectionId, IpAddr>,
    /// How many of these each network has; never zero.
    networks: HashMap<IpAddr, u32>,
    misbehaviour: Misbehaviour,
}

/// Who answers for an address: in IPv6 the site, whose hosts cost it nothing. `None` for a circuit, which the relay
/// answers for, and for this machine.
fn network_of(remote: &Multiaddr) -> Option<IpAddr> {
    match ip_of(remote)? {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() >> 72 << 72).into()),
        address => Some(address),
    }
}

impl Behaviour {
    fn begin(&mut self, id: ConnectionId, remote: &Multiaddr) -> Result<(), Crowded> {
        let Some(network) = network_of(remote) else { return Ok(()) };
        let count = self.networks.entry(network).or_default();
        if *count >= PENDING_PER_NETWORK {
            return Err(Crowded { network });
        }
        *count += 1;
        self.pending.insert(id, network);
        Ok(())
    }

    /// The handshake came to an end, good or bad.
    fn end(&mut self, id: ConnectionId) {
        let Some(network) = self.pending.remove(&id) else { return };
        if let Entry::Occupied(mut count) = self.networks.entry(network) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

fn admit(peer: PeerId) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
    match identity::public_key_of(&peer) {
        Ok(_) => Ok(dummy::ConnectionHandler),
        Err(source) => {
            tracing::debug!(%peer, %source, "refused a peer without a secp256k1 key");
            Err(ConnectionDenied::new(ForeignKey { peer, source }))
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        // The address of a circuit's other end is what the relay says it is.
        if local.iter().any(|part| part == Protocol::P2pCircuit) {
            return Ok(());
        }
        self.begin(id, remote).map_err(|crowded| {
            self.misbehaviour.tell(ip_of(remote), None, "too many handshakes at once");
            ConnectionDenied::new(crowded)
        })
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.end(id);
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

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ListenFailure(failure) = event {
            self.end(failure.connection_id);
        }
    }

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

    fn knock(behaviour: &mut Behaviour, from: &str) -> (ConnectionId, bool) {
        let id = ConnectionId::new_unchecked(rand_id());
        let local = "/ip4/192.0.2.1/tcp/4001".parse().unwrap();
        let admitted =
            behaviour.handle_pending_inbound_connection(id, &local, &from.parse().unwrap()).is_ok();
        (id, admitted)
    }

    fn rand_id() -> usize {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    #[test]
    fn one_network_cannot_hold_every_handshake() {
        let mut behaviour = Behaviour::default();
        let flood: Vec<_> = (0..100)
            .map(|port| knock(&mut behaviour, &format!("/ip4/198.51.100.7/tcp/{}", 1000 + port)))
            .collect();
        assert_eq!(flood.iter().filter(|(_, admitted)| *admitted).count(), PENDING_PER_NETWORK as usize);
        // Neighbours are others in IPv4; in IPv6 a site is one.
        assert!(knock(&mut behaviour, "/ip4/198.51.100.8/tcp/1").1);
        assert!(!knock(&mut behaviour, "/ip6/::ffff:198.51.100.7/tcp/1").1);
        let site: Vec<_> = (0..100)
            .map(|host| knock(&mut behaviour, &format!("/ip6/2001:db8:0:1{host:02x}::1/tcp/1")))
            .collect();
        assert_eq!(site.iter().filter(|(_, admitted)| *admitted).count(), PENDING_PER_NETWORK as usize);
        assert!(knock(&mut behaviour, "/ip6/2001:db8:0:200::1/tcp/1").1);
        // A handshake that ended, well or badly, makes room; one that was never counted makes none.
        let (admitted, refused) = (flood[0].0, flood[99].0);
        behaviour.end(refused);
        assert!(!knock(&mut behaviour, "/ip4/198.51.100.7/tcp/1").1);
        behaviour.end(admitted);
        behaviour.end(admitted);
        assert!(knock(&mut behaviour, "/ip4/198.51.100.7/tcp/1").1);
        assert!(!knock(&mut behaviour, "/ip4/198.51.100.7/tcp/2").1);
    }

    #[test]
    fn this_machine_and_circuits_are_not_counted_and_nothing_is_left_behind() {
        let mut behaviour = Behaviour::default();
        for _ in 0..100 {
            assert!(knock(&mut behaviour, "/ip4/127.0.0.1/tcp/1").1);
            assert!(knock(&mut behaviour, "/ip6/::1/tcp/1").1);
        }
        let (id, _) = knock(&mut behaviour, "/ip4/198.51.100.7/tcp/1");
        behaviour.end(id);
        assert!(behaviour.pending.is_empty() && behaviour.networks.is_empty());
    }
}
