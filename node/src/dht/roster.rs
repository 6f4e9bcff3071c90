//! The registered nodes that are known, where they are, and which of them are nearest to a place.
//!
//! It asks nobody and believes nobody: whoever puts a node in has looked it up in the registry. What a node says of its own
//! address counts for more than what others say, and what the operator configured counts for most.

use crate::limits::{NODE_FAILURES, NODE_REST, NODES_KNOWN};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;
use windlass_p2p::identity::key_address_of;
use windlass_p2p::punch::bare;
use windlass_protocol::message::nodes::{MAX_NODE_ADDRESSES, place_of};
use windlass_protocol::{Address, B256, U256};

/// A node and where to dial it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contact {
    pub(super) peer: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
}

/// Whose word it is where a node is; later ones count for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Word {
    /// Another node's.
    Hearsay,
    /// Its own.
    Own,
    /// The operator's.
    Configured,
}

struct Known {
    place: B256,
    addresses: Vec<Multiaddr>,
    word: Word,
    /// How often in a row it failed, and when last.
    failed: Option<(u32, Instant)>,
}

/// See the module.
pub(super) struct Roster {
    own: PeerId,
    nodes: HashMap<PeerId, Known>,
}

/// Where a peer lies; `None` without a key of ours.
pub(super) fn place_of_peer(peer: &PeerId) -> Option<B256> {
    key_address_of(peer).ok().map(|key| place_of(key.0))
}

/// How far two places are from each other.
pub(super) fn distance(one: B256, other: B256) -> U256 {
    (one ^ other).into()
}

impl Roster {
    pub(super) fn new(own: PeerId) -> Self {
        Self { own, nodes: HashMap::new() }
    }

    /// Takes in a registered node, or newer word of where it is. Whether it is new.
    pub(super) fn learn(&mut self, contact: Contact, word: Word) -> bool {
        let Contact { peer, mut addresses } = contact;
        addresses.truncate(MAX_NODE_ADDRESSES);
        if peer == self.own {
            return false;
        }
        if let Some(known) = self.nodes.get_mut(&peer) {
            if word >= known.word && word > Word::Hearsay && !addresses.is_empty() {
                (known.addresses, known.word) = (addresses, word);
            }
            if word == Word::Own {
                // It lives, since it says so itself.
                known.failed = None;
            }
            return false;
        }
        let Some(place) = place_of_peer(&peer) else { return false };
        if addresses.is_empty() || !self.has_room() {
            return false;
        }
        self.nodes.insert(peer, Known { place, addresses, word, failed: None });
        true
    }

    /// Whether there is room for one more; who failed last gives way.
    fn has_room(&mut self) -> bool {
        if self.nodes.len() < NODES_KNOWN {
            return true;
        }
        let worst = self.nodes.iter().filter(|(_, known)| known.word < Word::Configured);
        let worst = worst.filter_map(|(peer, known)| Some((known.failed?, *peer))).max();
        worst.is_some_and(|(_, peer)| self.nodes.remove(&peer).is_some())
    }

    /// The nodes nearest to a place, the nearest first. Those that failed lately are named only where others are too few.
    pub(super) fn nearest(&self, place: B256, most: usize, now: Instant) -> Vec<Contact> {
        let mut all: Vec<_> = self
            .nodes
            .iter()
            .map(|(peer, known)| (known.rests(now), distance(known.place, place), peer))
            .collect();
        if all.len() > most {
            all.select_nth_unstable(most);
            all.truncate(most);
        }
        all.sort_unstable();
        let contact = |peer: &PeerId| Contact { peer: *peer, addresses: self.nodes[peer].addresses.clone() };
        all.into_iter().map(|(_, _, peer)| contact(peer)).collect()
    }

    pub(super) fn answered(&mut self, peer: &PeerId) {
        if let Some(known) = self.nodes.get_mut(peer) {
            known.failed = None;
        }
    }

    pub(super) fn failed(&mut self, peer: &PeerId, now: Instant) {
        let Some(known) = self.nodes.get_mut(peer) else { return };
        let times = known.failed.map_or(1, |(times, _)| times.saturating_add(1));
        known.failed = Some((times, now));
        if times >= NODE_FAILURES && known.word < Word::Configured {
            self.nodes.remove(peer);
        }
    }

    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.nodes.remove(peer);
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.nodes.contains_key(peer)
    }

    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }
}

impl Known {
    fn rests(&self, now: Instant) -> bool {
        self.failed.is_some_and(|(_, at)| now.saturating_duration_since(at) < NODE_REST)
    }
}

/// Those of a node's multiaddrs that may be dialled: an IP address and a port of one host, and where this node is on the
/// open Internet itself, only addresses there. Nobody's word makes us knock at doors of our own network.
pub(super) fn dialable(addresses: &[Multiaddr], own: &[Multiaddr]) -> Vec<Multiaddr> {
    let is_global = |address: &Multiaddr| ip_of(address).is_some_and(|ip| is_global(&ip));
    let is_public = own.iter().any(is_global);
    let bare = addresses.iter().filter_map(bare);
    bare.filter(|address| !is_public || is_global(address)).take(MAX_NODE_ADDRESSES).collect()
}

fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip).to_canonical()),
        _ => None,
    }
}

/// Whether an address is of the open Internet (RFC 6890, as far as it matters to who dials).
fn is_global(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared || a == 0 || a >= 224)
        }
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
    }
}

/// The network that answers for an address: of IPv4 a /24, of IPv6 a site. `None` for this machine.
pub(super) fn network_of(ip: IpAddr) -> Option<IpAddr> {
    match ip.to_canonical() {
        ip if ip.is_loopback() => None,
        IpAddr::V4(ip) => Some(std::net::Ipv4Addr::from_bits(ip.to_bits() >> 8 << 8).into()),
        IpAddr::V6(ip) => Some(std::net::Ipv6Addr::from_bits(ip.to_bits() >> 72 << 72).into()),
    }
}

/// The place of a device or of a node's key.
pub(super) fn place(address: Address) -> B256 {
    place_of(address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use std::time::Duration;
    use windlass_p2p::identity::peer_id_of;

    fn at(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.7/tcp/{port}").parse().unwrap()
    }

    fn contact(seed: u8, port: u16) -> Contact {
        Contact { peer: peer_id_of(&testing::key(seed).public_key()), addresses: vec![at(port)] }
    }

    fn roster(nodes: u8) -> Roster {
        let mut roster = Roster::new(contact(0xf0, 1).peer);
        for seed in 1..=nodes {
            assert!(roster.learn(contact(seed, seed.into()), Word::Hearsay));
        }
        roster
    }

    #[test]
    fn the_nearest_come_first_and_who_failed_last() {
        let (mut roster, now) = (roster(40), Instant::now());
        let place = B256::repeat_byte(0x3c);
        let nearest = roster.nearest(place, 40, now);
        assert_eq!(nearest.len(), 40);
        let far = |contact: &Contact| distance(place_of_peer(&contact.peer).unwrap(), place);
        assert!(nearest.is_sorted_by_key(far));
        assert_eq!(roster.nearest(place, 4, now), nearest[..4]);
        roster.failed(&nearest[0].peer, now);
        assert_eq!(roster.nearest(place, 4, now), nearest[1..5]);
        assert_eq!(roster.nearest(place, 40, now).last(), nearest.first(), "where others are too few");
        assert_eq!(roster.nearest(place, 1, now + NODE_REST), nearest[..1], "after its rest");
        roster.answered(&nearest[0].peer);
        assert_eq!(roster.nearest(place, 1, now), nearest[..1]);
    }

    #[test]
    fn a_nodes_own_word_counts_for_more_than_hearsay_and_the_operators_for_most() {
        let mut roster = roster(1);
        let now = Instant::now();
        let addresses = |roster: &Roster| roster.nearest(B256::ZERO, 1, now).remove(0).addresses;
        for (port, word, expected) in [
            (10, Word::Hearsay, 1),
            (11, Word::Own, 11),
            (12, Word::Hearsay, 11),
            (13, Word::Own, 13),
            (14, Word::Configured, 14),
            (15, Word::Own, 14),
        ] {
            assert!(!roster.learn(contact(1, port), word));
            assert_eq!(addresses(&roster), [at(expected)]);
        }
        let own = Contact { peer: roster.own, addresses: vec![at(1)] };
        assert!(!roster.learn(own, Word::Configured), "this node itself");
        assert!(!roster.learn(Contact { addresses: Vec::new(), ..contact(9, 1) }, Word::Own), "nowhere");
        assert!(
            !roster.learn(Contact { peer: PeerId::random(), addresses: vec![at(1)] }, Word::Own),
            "no key"
        );
        assert_eq!(roster.len(), 1);
    }

    #[test]
    fn who_fails_again_and_again_is_forgotten_unless_it_is_configured() {
        let (mut roster, now) = (roster(2), Instant::now());
        let [one, other] = [contact(1, 1), contact(2, 2)];
        roster.learn(other.clone(), Word::Configured);
        for _ in 0..NODE_FAILURES {
            assert!(roster.contains(&one.peer));
            roster.failed(&one.peer, now);
            roster.failed(&other.peer, now);
        }
        assert!(!roster.contains(&one.peer) && roster.contains(&other.peer));
    }

    #[test]
    fn a_full_roster_takes_a_newcomer_for_who_failed_and_for_nobody_else() {
        let mut roster = Roster::new(contact(0xf0, 1).peer);
        let now = Instant::now();
        for number in 0..NODES_KNOWN as u64 {
            let peer = PeerId::random();
            let known = Known {
                place: B256::left_padding_from(&number.to_be_bytes()),
                addresses: vec![at(1)],
                word: Word::Own,
                failed: None,
            };
            roster.nodes.insert(peer, known);
        }
        assert!(!roster.learn(contact(1, 1), Word::Own));
        let failing = roster.nearest(B256::ZERO, 1, now).remove(0);
        roster.failed(&failing.peer, now + Duration::from_secs(1));
        assert!(roster.learn(contact(1, 1), Word::Own));
        assert!(!roster.contains(&failing.peer));
        assert_eq!(roster.len(), NODES_KNOWN);
    }

    #[test]
    fn a_public_node_is_sent_to_no_address_of_its_own_network() {
        let parse = |text: &str| text.parse::<Multiaddr>().unwrap();
        let global = ["/ip4/198.51.100.7/tcp/1", "/ip6/2001:db8::1/udp/1/quic-v1"].map(parse);
        let local = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/10.0.0.1/tcp/1",
            "/ip4/192.168.1.1/tcp/1",
            "/ip4/169.254.169.254/tcp/80",
            "/ip4/100.64.0.1/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip6/::ffff:10.0.0.1/tcp/1",
        ]
        .map(parse);
        let never = [
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/224.0.0.251/udp/1/quic-v1",
            "/ip6/ff02::1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/dns4/a/tcp/1",
        ];
        let public = [parse("/ip4/203.0.113.5/tcp/4001")];
        for address in &global {
            assert_eq!(dialable(std::slice::from_ref(address), &public).len(), 1, "{address}");
        }
        for address in &local {
            assert_eq!(dialable(std::slice::from_ref(address), &public), [], "{address}");
            assert_eq!(dialable(std::slice::from_ref(address), &local[..1]).len(), 1, "{address}");
        }
        for address in never.map(parse) {
            assert_eq!(dialable(std::slice::from_ref(&address), &local), [], "{address}");
        }
    }

    #[test]
    fn a_network_is_what_a_host_gets_for_nothing() {
        let of = |text: &str| network_of(text.parse().unwrap()).map(|ip| ip.to_string());
        assert_eq!(of("192.0.2.77").as_deref(), Some("192.0.2.0"));
        assert_eq!(of("::ffff:192.0.2.77").as_deref(), Some("192.0.2.0"));
        assert_eq!(of("2001:db8:1:2ff::1").as_deref(), Some("2001:db8:1:200::"));
        assert_eq!((of("127.0.0.9"), of("::1")), (None, None));
    }
}
