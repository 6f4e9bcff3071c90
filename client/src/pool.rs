//! The configured nodes: in which order to ask them, and which of them serve as watch or relay.
//!
//! Keeps score, never talks to a node. A node that lied goes last for the session, one that failed goes
//! behind those that didn't, the rest go by measured latency.

use crate::{
    events::{Event, Teller},
    limits::{ADDRESSES_PER_NODE, NODES, UNMEASURED},
    refused::{RefusedNode, Rejection},
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use windlass_p2p::identity;
use windlass_protocol::KeyAddress;

/// Why a multiaddr can't serve as a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// It doesn't end in `/p2p/<peer id>`, so nobody could be recognised there.
    #[error("node {0} has no peer id: its multiaddr must end in /p2p/<peer id>")]
    NoPeerId(Multiaddr),
    /// The peer id isn't that of a secp256k1 key.
    #[error("node {0} has a peer id that is not of a secp256k1 key")]
    KeyType(Multiaddr),
    /// It goes through a relay: a node must be reachable without another.
    #[error("node {0} is behind a relay: give its own multiaddr")]
    Relayed(Multiaddr),
    /// It goes by a name, which this client can't look up.
    #[error("node {0} is given by a host name, and names are not looked up: give its IP address")]
    HostName(Multiaddr),
    /// The same multiaddr twice.
    #[error("node {0} is given twice at the same address")]
    Repeated(PeerId),
    /// More than [`ADDRESSES_PER_NODE`].
    #[error("node {0} is given at more than {ADDRESSES_PER_NODE} addresses")]
    TooManyAddresses(PeerId),
    /// Without a node nothing can be asked.
    #[error("no node is given: at least one is needed, two or more are better")]
    None,
    /// More than [`NODES`].
    #[error("more than {NODES} nodes are given")]
    TooMany,
}

/// One configured node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) peer: PeerId,
    pub(crate) address: KeyAddress,
    /// Where to dial it, without its peer id, at least one address. TCP first: a node that died is noticed at once, and an
    /// idle connection costs it a third of what one over QUIC does.
    pub(crate) dial: Vec<Multiaddr>,
}

impl Node {
    fn parse(multiaddr: Multiaddr) -> Result<Self, NodeError> {
        if multiaddr.iter().any(|part| part == Protocol::P2pCircuit) {
            return Err(NodeError::Relayed(multiaddr));
        }
        let named = |part| {
            matches!(part, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_))
        };
        if multiaddr.iter().any(named) {
            return Err(NodeError::HostName(multiaddr));
        }
        let mut dial = multiaddr.clone();
        let Some(Protocol::P2p(peer)) = dial.pop() else {
            return Err(NodeError::NoPeerId(multiaddr));
        };
        let address = identity::key_address_of(&peer).map_err(|_| NodeError::KeyType(multiaddr))?;
        Ok(Self { peer, address, dial: vec![dial] })
    }

    /// Takes the addresses of an entry for the same node.
    fn merge(&mut self, other: Self) -> Result<(), NodeError> {
        if other.dial.iter().any(|address| self.dial.contains(address)) {
            return Err(NodeError::Repeated(self.peer));
        }
        self.dial.extend(other.dial);
        self.dial.sort_by_key(is_quic);
        if self.dial.len() > ADDRESSES_PER_NODE {
            Err(NodeError::TooManyAddresses(self.peer))
        } else {
            Ok(())
        }
    }

    /// Its first multiaddr, peer id included: how reports name it.
    pub(crate) fn multiaddr(&self) -> Multiaddr {
        self.dial[0].clone().with(Protocol::P2p(self.peer))
    }

    /// Whether it is configured at this multiaddr, peer id included.
    pub(crate) fn is_at(&self, multiaddr: &Multiaddr) -> bool {
        self.dial.iter().any(|dial| dial.clone().with(Protocol::P2p(self.peer)) == *multiaddr)
    }

    /// This node with the reason why its answer was not taken.
    pub(crate) fn refused(&self, reason: Rejection) -> RefusedNode {
        RefusedNode { peer: self.peer, address: self.address, multiaddr: self.multiaddr(), reason }
    }
}

/// Whether an address is one of QUIC.
pub(crate) fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::QuicV1)
}

/// What a node is claimed for by one of several tasks that must not choose the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Watch,
    Reservation,
}

#[derive(Debug, Clone, Default)]
struct Score {
    lied: bool,
    failures: u32,
    latency: Option<Duration>,
    watched: bool,
    reserved: bool,
    /// Reservations it did not grant, in a row; good answers to questions say nothing about these.
    declined: u32,
}

impl Score {
    fn rank(&self) -> (bool, u32, Duration) {
        (self.lied, self.failures, self.latency.unwrap_or(UNMEASURED))
    }

    /// The order for one purpose: who declines it goes behind everybody who doesn't, liars apart.
    fn rank_for(&self, purpose: Purpose) -> (bool, u32, (bool, u32, Duration)) {
        let declined = match purpose {
            Purpose::Watch => 0,
            Purpose::Reservation => self.declined,
        };
        (self.lied, declined, self.rank())
    }

    fn is_claimed(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Watch => self.watched,
            Purpose::Reservation => self.reserved,
        }
    }

    fn claim(&mut self, purpose: Purpose, claimed: bool) {
        match purpose {
            Purpose::Watch => self.watched = claimed,
            Purpose::Reservation => self.reserved = claimed,
        }
    }
}

/// All configured nodes.
#[derive(Debug)]
pub(crate) struct NodePool {
    nodes: Vec<Arc<Node>>,
    scores: Mutex<Vec<Score>>,
    teller: Teller,
}

impl NodePool {
    /// One node for each peer id, however many addresses it is given at.
    pub(crate) fn new(multiaddrs: Vec<Multiaddr>, teller: Teller) -> Result<Self, NodeError> {
        let mut nodes: Vec<Node> = Vec::new();
        for multiaddr in multiaddrs {
            let node = Node::parse(multiaddr)?;
            let is_full = nodes.len() == NODES;
            match nodes.iter_mut().find(|known| known.peer == node.peer) {
                Some(known) => known.merge(node)?,
                None if is_full => return Err(NodeError::TooMany),
                None => nodes.push(node),
            }
        }
        if nodes.is_empty() {
            return Err(NodeError::None);
        }
        let scores = Mutex::new(vec![Score::default(); nodes.len()]);
        Ok(Self { nodes: nodes.into_iter().map(Arc::new).collect(), scores, teller })
    }

    /// Whether all nodes are on this machine, as while developing.
    pub(crate) fn is_local(&self) -> bool {
        let is_loopback = |address: &Multiaddr| match address.iter().next() {
            Some(Protocol::Ip4(ip)) => ip.is_loopback(),
            Some(Protocol::Ip6(ip)) => ip.is_loopback(),
            _ => false,
        };
        self.nodes.iter().flat_map(|node| &node.dial).all(is_loopback)
    }

    /// Who the nodes are.
    pub(crate) fn peers(&self) -> HashSet<PeerId> {
        self.nodes.iter().map(|node| node.peer).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes in the order in which to ask them.
    pub(crate) fn ranked(&self) -> Vec<Arc<Node>> {
        let scores = self.scores();
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by_key(|index| scores[*index].rank());
        order.into_iter().map(|index| self.nodes[index].clone()).collect()
    }

    /// It gave a good answer after this long.
    pub(crate) fn served(&self, node: &Node, latency: Duration) {
        self.score(node, |score| {
            score.failures = 0;
            // An exponential mean: one slow answer doesn't move a node far.
            score.latency = Some(score.latency.map_or(latency, |mean| (mean * 3 + latency) / 4));
        });
    }

    /// Its answer was not taken.
    pub(crate) fn rejected(&self, node: &Node, reason: &Rejection) {
        tracing::warn!(node = %node.address, peer = %node.peer, multiaddr = %node.dial[0], %reason, "refused a node");
        self.teller.tell(|| Event::NodeRefused(node.refused(reason.clone())));
        self.score(node, |score| match reason {
            Rejection::Older { .. } => {}
            reason if reason.is_lie() => score.lied = true,
            _ => score.failures = score.failures.saturating_add(1),
        });
    }

    /// Somebody else answered first, after it had been asked for this long.
    pub(crate) fn outpaced(&self, node: &Node, waited: Duration) {
        self.score(node, |score| score.latency = Some(score.latency.map_or(waited, |mean| mean.max(waited))));
    }

    /// It granted a reservation.
    pub(crate) fn granted(&self, node: &Node) {
        self.score(node, |score| score.declined = 0);
    }

    /// It did not grant a reservation.
    pub(crate) fn declined(&self, node: &Node) {
        self.score(node, |score| score.declined = score.declined.saturating_add(1));
    }

    /// The best node that nobody claims for this purpose, until the claim is dropped.
    pub(crate) fn claim(self: &Arc<Self>, purpose: Purpose) -> Option<ClaimedNode> {
        let mut scores = self.scores();
        let best = (0..self.nodes.len())
            .filter(|index| !scores[*index].is_claimed(purpose))
            .min_by_key(|index| scores[*index].rank_for(purpose))?;
        scores[best].claim(purpose, true);
        Some(ClaimedNode { pool: self.clone(), node: self.nodes[best].clone(), purpose })
    }

    fn score(&self, node: &Node, change: impl FnOnce(&mut Score)) {
        if let Some(index) = self.nodes.iter().position(|known| known.peer == node.peer) {
            change(&mut self.scores()[index]);
        }
    }

    fn scores(&self) -> MutexGuard<'_, Vec<Score>> {
        self.scores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node chosen by one task; free for others again when dropped.
#[derive(Debug)]
pub(crate) struct ClaimedNode {
    pool: Arc<NodePool>,
    pub(crate) node: Arc<Node>,
    purpose: Purpose,
}

impl Drop for ClaimedNode {
    fn drop(&mut self) {
        self.pool.score(&self.node, |score| score.claim(self.purpose, false));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use windlass_protocol::SecretKey;

    fn multiaddr(seed: u8) -> Multiaddr {
        let key = SecretKey::from_bytes(&[seed; 32]).unwrap().public_key();
        format!("/ip4/127.0.0.1/tcp/{seed}/p2p/{}", identity::peer_id_of(&key)).parse().unwrap()
    }

    fn pool() -> Arc<NodePool> {
        Arc::new(NodePool::new((1..=3).map(multiaddr).collect(), Teller::default()).unwrap())
    }

    fn order(pool: &NodePool) -> Vec<Multiaddr> {
        pool.ranked().iter().map(|node| node.multiaddr()).collect()
    }

    #[test]
    fn liars_go_last_failures_before_them_and_the_rest_by_latency() {
        let pool = pool();
        assert_eq!(order(&pool), [multiaddr(1), multiaddr(2), multiaddr(3)]);
        let nodes = pool.ranked();
        let old = Rejection::TooOld { age: 2, max_age: 1 };
        pool.rejected(&nodes[0], &Rejection::Unasked(windlass_protocol::slot::Slot::FleetCount));
        pool.rejected(&nodes[1], &old);
        assert_eq!(order(&pool), [multiaddr(3), multiaddr(2), multiaddr(1)]);
        pool.served(&nodes[1], Duration::from_millis(1));
        assert_eq!(order(&pool), [multiaddr(2), multiaddr(3), multiaddr(1)]);
        // A good answer doesn't clear a lie.
        pool.served(&nodes[0], Duration::ZERO);
        assert_eq!(order(&pool)[2], multiaddr(1));
    }

    #[test]
    fn being_behind_costs_no_rank() {
        let pool = pool();
        pool.rejected(&pool.ranked()[0], &Rejection::Older { number: 1, highest: 2 });
        assert_eq!(order(&pool)[0], multiaddr(1));
    }

    #[test]
    fn a_claimed_node_is_nobody_elses_until_dropped() {
        let pool = pool();
        let claims: Vec<_> = (0..3).map(|_| pool.claim(Purpose::Watch).unwrap()).collect();
        assert!(pool.claim(Purpose::Watch).is_none());
        assert!(pool.claim(Purpose::Reservation).is_some());
        drop(claims);
        assert!(pool.claim(Purpose::Watch).is_some());
    }

    /// A fixed bug: a node that answered questions well and refused every reservation was asked for ever.
    #[test]
    fn a_node_that_declines_reservations_is_the_last_to_be_asked_for_one() {
        let pool = pool();
        let first = pool.claim(Purpose::Reservation).unwrap();
        assert_eq!(first.node.multiaddr(), multiaddr(1));
        pool.declined(&first.node);
        drop(first);
        // Good answers change nothing about that, nor does it cost the node any questions.
        pool.served(&pool.ranked()[0], Duration::ZERO);
        assert_eq!(order(&pool)[0], multiaddr(1));
        let claims: Vec<_> = (0..3).map(|_| pool.claim(Purpose::Reservation).unwrap()).collect();
        let claimed: Vec<_> = claims.iter().map(|claim| claim.node.multiaddr()).collect();
        assert_eq!(claimed, [multiaddr(2), multiaddr(3), multiaddr(1)]);
        pool.granted(&claims[2].node);
        drop(claims);
        assert_eq!(pool.claim(Purpose::Reservation).unwrap().node.multiaddr(), multiaddr(1));
    }

    #[test]
    fn a_node_that_was_outpaced_is_asked_after_the_faster_one() {
        let pool = pool();
        let nodes = pool.ranked();
        pool.served(&nodes[1], Duration::from_millis(20));
        pool.outpaced(&nodes[0], Duration::from_millis(300));
        assert_eq!(order(&pool), [multiaddr(2), multiaddr(3), multiaddr(1)]);
    }

    #[test]
    fn impossible_nodes_are_refused_by_name() {
        let parse = |text: &str| NodePool::new(vec![text.parse().unwrap()], Teller::default()).map(drop);
        assert!(matches!(parse("/ip4/127.0.0.1/tcp/1"), Err(NodeError::NoPeerId(_))));
        let ed25519 = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        assert!(matches!(parse(ed25519), Err(NodeError::KeyType(_))));
        assert!(matches!(parse(&format!("{}/p2p-circuit", multiaddr(1))), Err(NodeError::Relayed(_))));
        let peer = identity::peer_id_of(&SecretKey::from_bytes(&[1; 32]).unwrap().public_key());
        for host in ["dns", "dns4", "dns6", "dnsaddr"] {
            let error = parse(&format!("/{host}/node.example/tcp/1/p2p/{peer}")).unwrap_err();
            assert!(matches!(error, NodeError::HostName(_)), "{error}");
        }
        assert_eq!(NodePool::new(vec![], Teller::default()).map(drop), Err(NodeError::None));
        let twice = NodePool::new(vec![multiaddr(1), multiaddr(1)], Teller::default()).map(drop);
        assert!(matches!(twice, Err(NodeError::Repeated(_))));
        let many = |count| NodePool::new((1..=count).map(multiaddr).collect(), Teller::default()).map(drop);
        assert_eq!((many(32), many(33)), (Ok(()), Err(NodeError::TooMany)));
        let ports = |count: u16| {
            let at = |port: u16| multiaddr(1).replace(1, |_| Some(Protocol::Tcp(port))).unwrap();
            NodePool::new((1..=count).map(at).collect(), Teller::default()).map(drop)
        };
        assert_eq!((ports(8), ports(9)), (Ok(()), Err(NodeError::TooManyAddresses(peer))));
    }

    #[test]
    fn several_addresses_of_one_node_are_one_node() {
        let quic = |seed: u8| {
            let peer = multiaddr(seed).pop().unwrap();
            let at: Multiaddr = "/ip4/127.0.0.1/udp/9/quic-v1".parse().unwrap();
            at.with(peer)
        };
        // TCP goes first, whatever the order.
        let entries = vec![quic(1), multiaddr(2), multiaddr(1)];
        let pool = NodePool::new(entries, Teller::default()).unwrap();
        assert_eq!(order(&pool), [multiaddr(1), multiaddr(2)]);
        let first = &pool.ranked()[0];
        assert_eq!(first.dial.len(), 2);
        assert!(first.is_at(&multiaddr(1)) && first.is_at(&quic(1)) && !first.is_at(&quic(2)));
    }
}
