//! Reaching a peer that isn't connected: one dial per peer, shared by all who ask. The transport that was named first
//! goes first, the other after a head start, then one relay after the other, and a relay always before the circuit
//! through it.
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
    Path, Transport,
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
    /// Ways that give better ones a head start, the next first.
    held_back: VecDeque<Way>,
    /// What was begun last.
    begun: Option<Kind>,
    /// The head start that runs; one that isn't named here any more has lost its meaning.
    head_start: Option<u64>,
    /// Circuits that wait for a connection to their relay.
    behind_relay: HashMap<PeerId, Vec<Multiaddr>>,
    /// Peers with circuits that wait for this one as their relay.
    dependants: HashSet<PeerId>,
    failures: Vec<Attempt>,
}

/// Addresses that are tried at once: all of one transport, or those of one relay.
#[derive(Debug)]
struct Way {
    kind: Kind,
    addresses: Vec<Multiaddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Direct(Transport),
    /// Through this relay; a circuit that doesn't name it fails where it is dialled.
    Relayed(Option<PeerId>),
}

impl Kind {
    fn of(address: &Multiaddr) -> Self {
        match Path::through(address) {
            Some(Path::Direct { transport }) => Self::Direct(transport),
            Some(Path::Relayed { via }) => Self::Relayed(Some(via)),
            None => Self::Relayed(None),
        }
    }

    fn is_direct(self) -> bool {
        matches!(self, Self::Direct(_))
    }
}

impl Dial {
    fn is_over(&self) -> bool {
        self.attempts.is_empty() && self.held_back.is_empty() && self.behind_relay.is_empty()
    }

    /// Holds back what nobody named before: transports in the order in which they are named, then relays, those that are
    /// connected before others.
    fn learn(&mut self, addresses: Vec<Multiaddr>, is_connected: impl Fn(&PeerId) -> bool) {
        for address in addresses {
            if self.known.len() >= ADDRESSES_PER_DIAL || !self.known.insert(address.clone()) {
                continue;
            }
            let kind = Kind::of(&address);
            match self.held_back.iter_mut().find(|way| way.kind == kind) {
                Some(way) => way.addresses.push(address),
                None => self.held_back.push_back(Way { kind, addresses: vec![address] }),
            }
        }
        self.held_back.make_contiguous().sort_by_key(|way| match way.kind {
            Kind::Direct(_) => 0,
            Kind::Relayed(Some(relay)) if is_connected(&relay) => 1,
            Kind::Relayed(_) => 2,
        });
    }

    /// The next way, if it needn't wait: nothing was begun, or something worse or of the same kind, or that has failed. A
    /// relay waits for the one before it.
    fn next_way(&mut self) -> Option<Way> {
        let begun = self.begun;
        let is_better = |way: &Way| {
            way.kind.is_direct() && begun.is_none_or(|begun| !begun.is_direct() || begun == way.kind)
        };
        if let Some(better) = self.held_back.iter().position(is_better) {
            return self.held_back.remove(better);
        }
        let next = self.held_back.front()?.kind;
        let is_left = self.attempts.is_empty() && (next.is_direct() || self.behind_relay.is_empty());
        if is_left { self.held_back.pop_front() } else { None }
    }
}

/// All dials that are ours.
#[derive(Default)]
pub(super) struct Dialer {
    /// Whom each of libp2p's dials is meant to reach.
    attempts: HashMap<ConnectionId, PeerId>,
    head_starts: FuturesUnordered<BoxFuture<'static, (PeerId, u64)>>,
    /// How many head starts there were: each has a number of its own.
    begun: u64,
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
        let relays: HashSet<PeerId> = addresses
            .iter()
            .filter_map(|address| relay_of(address).map(|(relay, _)| relay))
            .filter(|relay| peers.is_connected_directly(relay))
            .collect();
        let dial = peers.dial_mut(peer);
        dial.learn(addresses, |relay| relays.contains(relay));
        self.settle(peers, peer);
    }

    /// Tries one way, which has a head start before the next.
    fn try_way(&mut self, peers: &mut Peers, peer: PeerId, way: Way) {
        peers.dial_mut(peer).begun = Some(way.kind);
        match way.kind {
            Kind::Relayed(Some(relay)) => self.try_relay(peers, peer, relay, way.addresses),
            Kind::Relayed(None) | Kind::Direct(_) => self.attempt(peers, peer, way.addresses),
        }
        self.give_head_start(peers, peer);
    }

    /// Starts the clock of whatever is held back, unless it runs.
    fn give_head_start(&mut self, peers: &mut Peers, peer: PeerId) {
        let Some(dial) = peers.dialing_mut(&peer) else { return };
        if dial.held_back.is_empty() || dial.head_start.is_some() {
            return;
        }
        let number = self.begun;
        self.begun += 1;
        dial.head_start = Some(number);
        self.head_starts.push(tokio::time::sleep(HEAD_START).map(move |()| (peer, number)).boxed());
    }

    /// Has libp2p dial `peer` at any of `addresses`.
    fn attempt(&mut self, peers: &mut Peers, peer: PeerId, addresses: Vec<Multiaddr>) {
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses).build();
        let id = opts.connection_id();
        peers.dial_mut(peer).attempts.insert(id);
        self.attempts.insert(id, peer);
        self.ready.push_back(opts);
    }

    /// Dials a circuit if its relay is connected, and else the relay. A relay may be named at several addresses, where
    /// it is reached like any peer; one circuit through it is enough.
    fn try_relay(&mut self, peers: &mut Peers, peer: PeerId, relay: PeerId, mut circuits: Vec<Multiaddr>) {
        if relay == peer || peers.is_connected_directly(&relay) {
            circuits.truncate(1);
            return self.attempt(peers, peer, circuits);
        }
        let addresses = circuits.iter().filter_map(|circuit| Some(relay_of(circuit)?.1)).collect();
        peers.dial_mut(peer).behind_relay.entry(relay).or_default().extend(circuits);
        peers.dial_mut(relay).dependants.insert(peer);
        self.reach(peers, relay, addresses);
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
                self.try_relay(peers, dependant, peer, circuits);
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
        while let Some(way) = peers.dialing_mut(&peer).and_then(Dial::next_way) {
            // The way before it has come to its end, and its head start with it.
            peers.dial_mut(peer).head_start = None;
            self.try_way(peers, peer, way);
        }
        self.give_head_start(peers, peer);
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

    /// Lets a way begin when the head start of the better one is over.
    pub(super) fn poll(&mut self, peers: &mut Peers, cx: &mut Context<'_>) -> Poll<()> {
        match self.head_starts.poll_next_unpin(cx) {
            Poll::Ready(Some((peer, number))) => {
                self.head_start_over(peers, peer, number);
                Poll::Ready(())
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn head_start_over(&mut self, peers: &mut Peers, peer: PeerId, number: u64) {
        let Some(dial) = peers.dialing_mut(&peer) else { return };
        if dial.head_start == Some(number) {
            dial.head_start = None;
            if let Some(way) = dial.held_back.pop_front() {
                self.try_way(peers, peer, way);
            }
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

#[cfg(test)]
mod tests;
