//! Reaching a peer that isn't connected: one dial per peer, shared by all who ask. QUIC first, TCP after a head
//! start, relays after another, and a relay always before the circuits through it.
//!
//! The stock relay client loses a circuit when it is asked for two through a relay it isn't connected
//! to, so the relay is dialled here, once, and the circuits when it is there. Nothing here decides who
//! waits for a dial; the behaviour asks what came of it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    task::{Context, Poll},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};

use super::{
    error::{Attempt, DialFailures, OpenError},
    peers::Peers,
};
use crate::{
    Path,
    limits::{ADDRESSES_PER_DIAL, HEAD_START},
    path::relay_of,
};

/// What is being tried to reach one peer.
#[derive(Debug, Default)]
pub(super) struct Dial {
    /// Every address somebody gave; none is tried twice.
    known: HashSet<Multiaddr>,
    /// libp2p's dials that haven't ended.
    attempts: HashSet<ConnectionId>,
    /// Addresses that give better ones a head start, the next kind first; none is empty.
    held_back: VecDeque<Vec<Multiaddr>>,
    /// Circuits that wait for a connection to their relay.
    behind_relay: HashMap<PeerId, Vec<Multiaddr>>,
    /// Peers with circuits that wait for this one as their relay.
    dependants: HashSet<PeerId>,
    failures: Vec<Attempt>,
}

impl Dial {
    fn is_over(&self) -> bool {
        self.attempts.is_empty() && self.held_back.is_empty() && self.behind_relay.is_empty()
    }
}

/// All dials that are ours.
#[derive(Default)]
pub(super) struct Dialer {
    /// Whom each of libp2p's dials is meant to reach.
    attempts: HashMap<ConnectionId, PeerId>,
    head_starts: FuturesUnordered<BoxFuture<'static, PeerId>>,
    ready: VecDeque<DialOpts>,
}

impl Dialer {
    /// The next dial for libp2p to make.
    pub(super) fn next(&mut self) -> Option<DialOpts> {
        self.ready.pop_front()
    }

    /// How many dials haven't ended.
    pub(super) fn len(&self) -> usize {
        self.attempts.len()
    }

    /// Tries `addresses` for `peer`, apart from those that were tried already in this dial.
    pub(super) fn reach(&mut self, peers: &mut Peers, peer: PeerId, addresses: Vec<Multiaddr>) {
        let dial = peers.dial_mut(peer);
        let mut kinds: [Vec<Multiaddr>; 3] = Default::default();
        for address in addresses {
            if dial.known.len() < ADDRESSES_PER_DIAL && dial.known.insert(address.clone()) {
                // A circuit that doesn't name its relay ranks last, and fails where it is dialled.
                let kind = Path::through(&address).map_or(2, |path| path.rank());
                kinds[usize::from(kind)].push(address);
            }
        }
        let mut kinds: VecDeque<_> = kinds.into_iter().filter(|kind| !kind.is_empty()).collect();
        let best = kinds.pop_front();
        // What an earlier caller's addresses hold back goes on by its own clock.
        dial.held_back.extend(kinds);
        if let Some(best) = best {
            self.try_kind(peers, peer, best);
        }
        self.settle(peers, peer);
    }

    /// Tries addresses of one kind, and gives them a head start before the next.
    fn try_kind(&mut self, peers: &mut Peers, peer: PeerId, addresses: Vec<Multiaddr>) {
        if !peers.dial_mut(peer).held_back.is_empty() {
            self.head_starts.push(tokio::time::sleep(HEAD_START).map(move |()| peer).boxed());
        }
        match addresses.first().and_then(relay_of) {
            Some(_) => self.try_circuits(peers, peer, addresses),
            None => self.attempt(peers, peer, addresses),
        }
    }

    /// Has libp2p dial `peer` at any of `addresses`.
    fn attempt(&mut self, peers: &mut Peers, peer: PeerId, addresses: Vec<Multiaddr>) {
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses).build();
        let id = opts.connection_id();
        peers.dial_mut(peer).attempts.insert(id);
        self.attempts.insert(id, peer);
        self.ready.push_back(opts);
    }

    /// Dials circuits whose relay is connected, and the relays of the others.
    fn try_circuits(&mut self, peers: &mut Peers, peer: PeerId, circuits: Vec<Multiaddr>) {
        // A relay may be named at several addresses; one circuit through it is enough.
        let mut through = HashSet::new();
        for circuit in circuits {
            match relay_of(&circuit) {
                Some((relay, _)) if peers.is_connected_directly(&relay) && !through.insert(relay) => {}
                Some((relay, address)) if relay != peer && !peers.is_connected_directly(&relay) => {
                    let waiting = &mut peers.dial_mut(peer).behind_relay;
                    waiting.entry(relay).or_default().push(circuit);
                    peers.dial_mut(relay).dependants.insert(peer);
                    self.reach(peers, relay, vec![address]);
                }
                _ => self.attempt(peers, peer, vec![circuit]),
            }
        }
    }

    /// A connection to `peer` is up. Its callers need no dial any more, and circuits through it can
    /// begin if it is a direct one.
    pub(super) fn connected(&mut self, peers: &mut Peers, peer: PeerId, id: ConnectionId, directly: bool) {
        self.attempts.remove(&id);
        let Some(dial) = peers.dialing_mut(&peer) else { return };
        dial.attempts.remove(&id);
        let dependants = match directly {
            true => std::mem::take(&mut dial.dependants),
            // Circuits through it still need the direct connection.
            false if !dial.dependants.is_empty() => return self.settle(peers, peer),
            false => HashSet::new(),
        };
        peers.take_dial(&peer);
        for dependant in dependants {
            let waiting = peers.dialing_mut(&dependant);
            if let Some(circuits) = waiting.and_then(|dial| dial.behind_relay.remove(&peer)) {
                self.try_circuits(peers, dependant, circuits);
            }
        }
    }

    /// One of libp2p's dials came to nothing.
    pub(super) fn failed(&mut self, peers: &mut Peers, id: ConnectionId, error: &DialError) {
        let Some(peer) = self.attempts.remove(&id) else { return };
        if let Some(dial) = peers.dialing_mut(&peer) {
            dial.attempts.remove(&id);
            dial.failures.extend(Attempt::of(error));
            self.settle(peers, peer);
        }
    }

    /// Goes on with what is left to try for `peer`; when nothing is, tells all who wait.
    fn settle(&mut self, peers: &mut Peers, peer: PeerId) {
        let Some(dial) = peers.dialing_mut(&peer) else { return };
        if dial.attempts.is_empty()
            && let Some(next) = dial.held_back.pop_front()
        {
            self.try_kind(peers, peer, next);
        }
        let Some(dial) = peers.dialing_mut(&peer) else { return };
        if !dial.attempts.is_empty() {
            return;
        }
        // Whoever needs this peer as a relay needs it directly, and that has just failed. They are
        // told before this peer's own circuits end, so that two can't wait for each other for ever.
        let dependants = std::mem::take(&mut dial.dependants);
        let failures = DialFailures::new(dial.failures.clone());
        if dial.is_over() {
            peers.take_dial(&peer);
            if !peers.is_connected(&peer) {
                peers.fail_waiting(peer, &why(peer, failures.clone()));
            }
        }
        for dependant in dependants {
            let Some(dial) = peers.dialing_mut(&dependant) else { continue };
            if dial.behind_relay.remove(&peer).is_some() {
                dial.failures.push(Attempt::Relay { relay: peer, failures: failures.clone() });
                self.settle(peers, dependant);
            }
        }
    }

    /// Lets held-back addresses begin when the head start of better ones is over.
    pub(super) fn poll(&mut self, peers: &mut Peers, cx: &mut Context<'_>) -> Poll<()> {
        match self.head_starts.poll_next_unpin(cx) {
            Poll::Ready(Some(peer)) => {
                if let Some(next) = peers.dialing_mut(&peer).and_then(|dial| dial.held_back.pop_front()) {
                    self.try_kind(peers, peer, next);
                }
                Poll::Ready(())
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// The error for a peer that none of the attempts reached.
fn why(peer: PeerId, failures: DialFailures) -> OpenError {
    if failures.attempts().is_empty() {
        return OpenError::NoAddress { peer };
    }
    failures.wrong_peer(peer).unwrap_or(OpenError::Dial { peer, source: failures })
}
