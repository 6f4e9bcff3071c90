//! How two peers are connected, and which way is better. Decides nothing about dialling.

use std::{fmt, net::IpAddr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// A transport under a direct connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// QUIC over UDP.
    Quic,
    /// TCP with Noise and yamux.
    Tcp,
}

/// The way bytes take to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// Straight to the peer.
    Direct {
        /// What carries it.
        transport: Transport,
    },
    /// Through a node that forwards sealed bytes.
    Relayed {
        /// The node.
        via: PeerId,
    },
}

impl Path {
    /// The path of a connection through `address`: the one dialled, or the one listened on. `None`
    /// when it is relayed and doesn't name the relay.
    pub fn through(address: &Multiaddr) -> Option<Self> {
        let mut last_peer = None;
        let mut transport = Transport::Tcp;
        for part in address {
            match part {
                Protocol::P2p(peer) => last_peer = Some(peer),
                Protocol::P2pCircuit => return last_peer.map(|via| Self::Relayed { via }),
                Protocol::Quic | Protocol::QuicV1 => transport = Transport::Quic,
                _ => {}
            }
        }
        Some(Self::Direct { transport })
    }

    /// The order of preference; lower is better. Relays rank the same.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Direct { transport: Transport::Quic } => 0,
            Self::Direct { transport: Transport::Tcp } => 1,
            Self::Relayed { .. } => 2,
        }
    }

    /// Whether a node stands between the two ends.
    pub fn is_relayed(&self) -> bool {
        matches!(self, Self::Relayed { .. })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct { transport: Transport::Quic } => f.write_str("direct over QUIC"),
            Self::Direct { transport: Transport::Tcp } => f.write_str("direct over TCP"),
            Self::Relayed { via } => write!(f, "relayed via {via}"),
        }
    }
}

/// The IP address in a multiaddr.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip).to_canonical()),
        _ => None,
    })
}

/// Splits a circuit multiaddr into the relay's peer id and the multiaddr to dial the relay at.
/// `None` for anything that isn't `…/p2p/<relay>/p2p-circuit/…`.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<(PeerId, Multiaddr)> {
    let mut relay_address = Multiaddr::empty();
    let mut last_peer = None;
    for part in address {
        match part {
            Protocol::P2pCircuit => return last_peer.map(|relay| (relay, relay_address)),
            Protocol::P2p(peer) => last_peer = Some(peer),
            other => relay_address.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn better_paths_come_first() {
        let via = PeerId::random();
        let mut paths = [
            Path::Relayed { via },
            Path::Direct { transport: Transport::Tcp },
            Path::Direct { transport: Transport::Quic },
        ];
        paths.sort_by_key(Path::rank);
        assert_eq!(
            paths,
            [
                Path::Direct { transport: Transport::Quic },
                Path::Direct { transport: Transport::Tcp },
                Path::Relayed { via },
            ]
        );
    }

    #[test]
    fn an_address_tells_the_path() {
        let (via, to) = (PeerId::random(), PeerId::random());
        let direct: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
        let quic: Multiaddr = "/ip4/127.0.0.1/udp/4001/quic-v1".parse().unwrap();
        let circuit = direct.clone().with(Protocol::P2p(via)).with(Protocol::P2pCircuit);
        assert_eq!(Path::through(&direct), Some(Path::Direct { transport: Transport::Tcp }));
        assert_eq!(Path::through(&quic), Some(Path::Direct { transport: Transport::Quic }));
        assert_eq!(Path::through(&circuit.clone().with(Protocol::P2p(to))), Some(Path::Relayed { via }));
        assert_eq!(relay_of(&circuit), Some((via, direct.clone())));
        assert_eq!(relay_of(&direct), None);
        assert_eq!(Path::through(&direct.with(Protocol::P2pCircuit)), None);
    }
}
