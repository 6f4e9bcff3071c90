//! Reaching a peer that isn't connected: one dial per peer, shared by all who ask, direct addresses
//! first, relays after a head start, and a relay always before the circuits through it.
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
    limits::{ADDRESSES_PER_DIAL, DIRECT_HEAD_START},
    path::relay_of,
};

/// What is being tried to reach one peer.
#[derive(Debug, Default)]
pub(super) struct Dial {
    /// Every address somebody gave; none is tried twice.
    known: HashSet<Multiaddr>,
    /// libp2p's dials that haven't ended.
    attempts: HashSet<ConnectionId>,
    /// Circuits that give direct addresses a head start.
    held_back: Vec<Multiaddr>,
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
        let mut direct = Vec::new();
        let mut circuits = Vec::new();
        for address in addresses {
            if dial.known.len() < ADDRESSES_PER_DIAL && dial.known.insert(address.clone()) {
                match relay_of(&address) {
                    Some(_) => circuits.push(address),
                    None => direct.push(address),
                }
            }
        }
        if direct.is_empty() {
            self.try_circuits(peers, peer, circuits);
        } else {
            if !circuits.is_empty() {
                dial.held_back.extend(circuits);
                self.head_starts.push(tokio::time::sleep(DIRECT_HEAD_START).map(move |()| peer).boxed());
            }
            self.attempt(peers, peer, direct);
        }
        self.settle(peers, peer);
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
        for circuit in circuits {
            match relay_of(&circuit) {
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
        if dial.attempts.is_empty() && !dial.held_back.is_empty() {
            let circuits = std::mem::take(&mut dial.held_back);
            self.try_circuits(peers, peer, circuits);
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

    /// Lets held-back circuits begin when their head start is over.
    pub(super) fn poll(&mut self, peers: &mut Peers, cx: &mut Context<'_>) -> Poll<()> {
        match self.head_starts.poll_next_unpin(cx) {
            Poll::Ready(Some(peer)) => {
                if let Some(dial) = peers.dialing_mut(&peer) {
                    let circuits = std::mem::take(&mut dial.held_back);
                    self.try_circuits(peers, peer, circuits);
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
