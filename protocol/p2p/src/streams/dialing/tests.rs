//! The order of a dial, without a network and without a clock: what begins at once, after a head start, after a failure.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::streams::{Limits, stream::Link};
use libp2p::multiaddr::Protocol;
use tokio::sync::mpsc;

struct Bench {
    dialer: Dialer,
    peers: Peers,
    peer: PeerId,
    next: usize,
}

fn bench() -> Bench {
    let (notices, _) = mpsc::unbounded_channel();
    let peers = Peers::new(Limits::default(), Default::default(), notices);
    Bench { dialer: Dialer::default(), peers, peer: PeerId::random(), next: 1_000_000 }
}

const QUIC4: &str = "/ip4/192.0.2.1/udp/1/quic-v1";
const QUIC6: &str = "/ip6/2001:db8::1/udp/1/quic-v1";
const TCP4: &str = "/ip4/192.0.2.1/tcp/1";
const TCP6: &str = "/ip6/2001:db8::1/tcp/1";

impl Bench {
    fn reach(&mut self, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.dialer.reach(&mut self.peers, self.peer, addresses);
    }

    /// What libp2p is asked to dial, and for whom.
    fn dials(&mut self) -> Vec<(PeerId, ConnectionId, String)> {
        std::iter::from_fn(|| self.dialer.next())
            .map(|opts| (opts.get_peer_id().unwrap(), opts.connection_id(), format!("{opts:?}")))
            .collect()
    }

    /// The one dial that begins now; it is to these addresses and to none of the others that tests know.
    fn dials_just(&mut self, addresses: &[&str]) -> ConnectionId {
        let dials = self.dials();
        assert_eq!(dials.len(), 1, "{dials:?}");
        for known in [QUIC4, QUIC6, TCP4, TCP6] {
            assert_eq!(dials[0].2.contains(known), addresses.contains(&known), "{known} in {}", dials[0].2);
        }
        dials[0].1
    }

    fn head_start(&mut self) -> Option<u64> {
        let peer = self.peer;
        self.peers.dialing_mut(&peer).and_then(|dial| dial.head_start)
    }

    fn head_start_over(&mut self) {
        let number = self.head_start().expect("a head start runs");
        self.dialer.head_start_over(&mut self.peers, self.peer, number);
    }

    fn fail(&mut self, id: ConnectionId) {
        self.dialer.failed(&mut self.peers, id, &DialError::Aborted);
    }

    fn connected(&mut self, peer: PeerId) {
        self.next += 1;
        let id = ConnectionId::new_unchecked(self.next);
        let (requests, _) = mpsc::unbounded_channel();
        let path = Path::Direct { transport: Transport::Tcp };
        self.peers.connected(Link::new(peer, id, path, None, requests));
        self.dialer.connected(&mut self.peers, peer, id, true);
    }
}

fn through(relay: PeerId, at: &str) -> String {
    let at: Multiaddr = at.parse().unwrap();
    at.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit).to_string()
}

#[tokio::test]
async fn what_is_named_first_goes_first_the_rest_after_head_starts_and_relays_one_after_the_other() {
    let mut bench = bench();
    let (one, two) = (PeerId::random(), PeerId::random());
    let (via_one, also_one, via_two) = (through(one, QUIC4), through(one, TCP4), through(two, TCP4));
    bench.reach(&[&via_one, QUIC6, &via_two, TCP6, TCP4, QUIC4, &also_one]);
    // Both families at once: one of them may be a black hole.
    bench.dials_just(&[QUIC4, QUIC6]);
    bench.head_start_over();
    bench.dials_just(&[TCP4, TCP6]);
    bench.head_start_over();
    // The relay is a peer like any other: one transport before the other.
    let dials = bench.dials();
    assert_eq!(dials.len(), 1);
    assert!(dials[0].0 == one && dials[0].2.contains(QUIC4) && !dials[0].2.contains(TCP4), "{dials:?}");
    bench.head_start_over();
    let dials = bench.dials();
    assert_eq!((dials.len(), dials[0].0), (1, two));
    assert_eq!(bench.head_start(), None, "nothing is held back any more");
}

#[tokio::test]
async fn a_way_that_failed_is_followed_by_the_next_at_once() {
    let mut bench = bench();
    let relay = PeerId::random();
    bench.reach(&[QUIC4, TCP4, &through(relay, TCP6)]);
    let quic = bench.dials_just(&[QUIC4]);
    let former = bench.head_start();
    bench.fail(quic);
    let tcp = bench.dials_just(&[TCP4]);
    // The clock that QUIC had started means nothing to what TCP holds back.
    bench.dialer.head_start_over(&mut bench.peers, bench.peer, former.unwrap());
    assert!(bench.dials().is_empty());
    bench.fail(tcp);
    assert_eq!(bench.dials()[0].0, relay);
}

#[tokio::test]
async fn one_circuit_is_opened_through_one_relay_and_a_connected_one_is_asked_first() {
    let mut bench = bench();
    let (cold, warm) = (PeerId::random(), PeerId::random());
    bench.connected(warm);
    bench.reach(&[&through(cold, TCP4), &through(warm, TCP4), &through(warm, QUIC4), &through(warm, TCP6)]);
    let dials = bench.dials();
    assert_eq!((dials.len(), dials[0].0), (1, bench.peer), "one circuit, and no dial of the other relay");
    assert_eq!(dials[0].2.matches("p2p-circuit").count(), 1);
    bench.fail(dials[0].1);
    assert_eq!(bench.dials()[0].0, cold);
    bench.connected(cold);
    let dials = bench.dials();
    assert_eq!((dials.len(), dials[0].0), (1, bench.peer));
}

#[tokio::test]
async fn who_names_a_better_way_later_waits_for_nobody() {
    let mut bench = bench();
    let relay = PeerId::random();
    bench.connected(relay);
    bench.reach(&[&through(relay, TCP6)]);
    assert_eq!(bench.dials().len(), 1);
    bench.reach(&[QUIC4, TCP4]);
    bench.dials_just(&[QUIC4]);
    bench.reach(&[QUIC6]);
    bench.dials_just(&[QUIC6]);
    bench.head_start_over();
    bench.dials_just(&[TCP4]);
    // None is tried twice.
    bench.reach(&[TCP4, QUIC4]);
    assert!(bench.dials().is_empty());
}

#[tokio::test]
async fn whoever_names_addresses_without_end_gets_a_bounded_number_of_them_tried() {
    let mut bench = bench();
    let many: Vec<String> = (1..200).map(|port| format!("/ip4/192.0.2.9/tcp/{port}")).collect();
    bench.reach(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let dials = bench.dials();
    assert_eq!(dials.len(), 1);
    assert_eq!(dials[0].2.matches("192.0.2.9").count(), ADDRESSES_PER_DIAL);
}
