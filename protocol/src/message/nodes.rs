//! `/windlass/nodes/1`: a registered node asks another which route it holds of a device, and which registered nodes lie
//! nearest to that device. A route is moved by its own protocol; here nodes only find each other.
//!
//! Who answers is nobody's authority: each node is looked up in the registry before it is dialled or believed, and each
//! route verified.

use crate::address::DeviceId;
use crate::keys::PublicKey;
use crate::route::{MAX_ROUTE_BYTES, SignedRoute};
use crate::whereabouts::check_direct;
use crate::wire;
use alloc::vec::Vec;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

/// Nodes in one answer: twice as many as hold a route, so that some may be gone.
pub const MAX_NODES_TOLD: usize = 8;
/// Multiaddrs of one node: both families over both transports.
pub const MAX_NODE_ADDRESSES: usize = 4;
/// Bytes of one of them: an IPv6 address, UDP and QUIC take 23.
pub const MAX_NODE_ADDRESS_BYTES: usize = 64;
/// Most bytes of a request: an address and the multiaddrs of who asks.
pub const MAX_NODES_REQUEST_BYTES: usize = 64 + MAX_NODE_ADDRESSES * (MAX_NODE_ADDRESS_BYTES + 8);
/// Most bytes of an answer: a route and so many nodes.
pub const MAX_NODES_ANSWER_BYTES: usize =
    64 + MAX_ROUTE_BYTES + MAX_NODES_TOLD * (64 + MAX_NODE_ADDRESSES * (MAX_NODE_ADDRESS_BYTES + 8));

/// Where an address lies among the nodes: what is near to it by XOR holds its route.
pub fn place_of(address: Address) -> B256 {
    keccak256(address)
}

/// RLP `[device, [multiaddr…]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodesRequest {
    /// Whose route, and around whom.
    pub device: DeviceId,
    /// Where the asking node is reached, by its own word: IP addresses and ports, without a peer id.
    pub addresses: Vec<Bytes>,
}

/// RLP `[[route] or [], [[key, [multiaddr…]]…]]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodesAnswer {
    /// The newest route held.
    pub route: Option<SignedRoute>,
    /// The registered nodes nearest to the device that are known, the nearest first.
    pub nodes: Vec<NodeAt>,
}

/// A node and where it is: RLP `[33 bytes of its key, [multiaddr…]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeAt {
    /// Its key.
    pub key: PublicKey,
    /// Where it is reached, as whoever answers believes.
    pub addresses: Vec<Bytes>,
}

impl Encodable for NodesRequest {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(2).append(&self.device.0.as_slice());
        wire::append_slices(s, &self.addresses);
    }
}

impl Decodable for NodesRequest {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 2)?;
        Ok(Self { device: DeviceId(wire::address(&f[0])?), addresses: multiaddrs(&f[1])? })
    }
}

impl Encodable for NodesAnswer {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(2).begin_list(usize::from(self.route.is_some()));
        if let Some(route) = &self.route {
            s.append(route);
        }
        s.append_list(&self.nodes);
    }
}

impl Decodable for NodesAnswer {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 2)?;
        Ok(Self { route: wire::list(&f[0], 1)?.pop(), nodes: wire::list(&f[1], MAX_NODES_TOLD)? })
    }
}

impl Encodable for NodeAt {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(2).append(&self.key.to_compressed().as_slice());
        wire::append_slices(s, &self.addresses);
    }
}

impl Decodable for NodeAt {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 2)?;
        let key = PublicKey::from_compressed(&wire::fixed::<33>(&f[0])?)
            .map_err(|_| DecoderError::Custom("no public key"))?;
        Ok(Self { key, addresses: multiaddrs(&f[1])? })
    }
}

/// A few multiaddrs of a host and a port each; anything longer or stranger is refused with the whole message.
fn multiaddrs(rlp: &Rlp<'_>) -> Result<Vec<Bytes>, DecoderError> {
    let multiaddrs = wire::byte_strings(rlp, MAX_NODE_ADDRESSES)?;
    let is_fit = |bytes: &Bytes| bytes.len() <= MAX_NODE_ADDRESS_BYTES && check_direct(bytes).is_ok();
    if !multiaddrs.iter().all(is_fit) {
        return Err(DecoderError::Custom("no multiaddr of a node"));
    }
    Ok(multiaddrs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::keys::SecretKey;
    use alloc::vec;

    const HERE: [u8; 8] = [4, 127, 0, 0, 1, 6, 0x0f, 0xa1];

    fn node(addresses: usize) -> NodeAt {
        let key = SecretKey::from_bytes(&[7; 32]).unwrap().public_key();
        NodeAt { key, addresses: vec![HERE.into(); addresses] }
    }

    #[test]
    fn what_is_said_comes_back_and_unknown_fields_are_ignored() {
        let request = NodesRequest { device: DeviceId([9; 20].into()), addresses: vec![HERE.into()] };
        let bytes = wire::encode(&request);
        assert_eq!(bytes[..], [&[0xdf, 0x94][..], &[9; 20], &[0xc9, 0x88], &HERE].concat());
        assert_eq!(wire::decode(&bytes, MAX_NODES_REQUEST_BYTES), Ok(request));
        let answer = NodesAnswer { route: None, nodes: vec![node(4); MAX_NODES_TOLD] };
        let bytes = wire::encode(&answer);
        assert!(bytes.len() + MAX_ROUTE_BYTES <= MAX_NODES_ANSWER_BYTES);
        assert_eq!(wire::decode(&bytes, MAX_NODES_ANSWER_BYTES), Ok(answer));
        let longer: NodesAnswer = wire::decode(&[0xc3, 0xc0, 0xc0, 5], 16).unwrap();
        assert_eq!(longer, NodesAnswer::default());
    }

    #[test]
    fn more_than_a_node_may_say_is_refused() {
        let refused =
            |answer: &NodesAnswer| wire::decode::<NodesAnswer>(&wire::encode(answer), usize::MAX).is_err();
        let of = |nodes| NodesAnswer { route: None, nodes };
        assert!(!refused(&of(vec![node(4)])));
        assert!(refused(&of(vec![node(5)])));
        assert!(refused(&of(vec![node(0); MAX_NODES_TOLD + 1])));
        let long = [&[53, 70][..], &[b'a'; 70], &[6, 0, 1]].concat();
        let with_peer = [&HERE[..], &[0xa5, 3, 2, 0, 0]].concat();
        for address in [long, with_peer, vec![4, 127, 0, 0, 1], vec![]] {
            assert!(refused(&of(vec![NodeAt { addresses: vec![address.into()], ..node(0) }])));
        }
        // Two routes, and a key that is on no curve.
        assert!(wire::decode::<NodesAnswer>(&[0xc4, 0xc2, 0xc0, 0xc0, 0xc0], usize::MAX).is_err());
        let mut forged = wire::encode(&of(vec![node(0)]));
        let key = forged.windows(33).position(|window| *window == node(0).key.to_compressed()).unwrap();
        forged[key..key + 33].fill(0xff);
        assert!(wire::decode::<NodesAnswer>(&forged, usize::MAX).is_err());
    }
}
