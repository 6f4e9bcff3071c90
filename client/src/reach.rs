//! Keeps this device reachable while it publishes anything: reservations at several nodes, and a signed
//! route at every node that says so.
//!
//! Each seat holds one reservation at a node of its own and takes another when it is lost; the herald signs
//! and publishes a route whenever the set changes, and again well before the last one ends.

use crate::{
    ask::exchange,
    backoff::Backoff,
    client::Core,
    clock::Clock,
    direct::named,
    limits::{
        CONFIRM_WITHIN, NODE_DEADLINE, RELAY_BYTES, RELAY_MULTIADDR_BYTES, RELAY_MULTIADDRS,
        RESERVE_DEADLINE, ROUTE_TTL,
    },
    network::Reserved,
    pool::{Node, Purpose, is_quic},
    refused::Rejection,
};
use futures::future::join_all;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use windlass_protocol::{
    Bytes,
    message::{
        names,
        route::{MAX_ROUTE_MESSAGE_BYTES, RouteRefusal, RouteRequest, RouteResponse},
    },
    route::{Route, SignedRoute},
    whereabouts::check_relay,
    wire,
};

/// Relays, each with its multiaddrs.
type Relays = BTreeMap<PeerId, Vec<Multiaddr>>;

/// Where the device is reachable, as its tasks know it.
pub(crate) struct Reach {
    /// Nodes with a standing reservation, and where others reach them.
    reserved: watch::Sender<Relays>,
    /// Nodes named by the last route that some node kept.
    relays: watch::Sender<Vec<PeerId>>,
    /// Multiaddrs this device listens at itself; empty unless it opted in.
    direct: watch::Receiver<Vec<Multiaddr>>,
    /// What went wrong last, for whoever waits to become reachable.
    last_failure: watch::Sender<String>,
}

impl Reach {
    pub(crate) fn new(direct: watch::Receiver<Vec<Multiaddr>>) -> Self {
        Self {
            reserved: watch::Sender::new(BTreeMap::new()),
            relays: watch::Sender::new(Vec::new()),
            direct,
            last_failure: watch::Sender::new("no node was asked yet".to_owned()),
        }
    }

    pub(crate) fn relays(&self) -> watch::Receiver<Vec<PeerId>> {
        self.relays.subscribe()
    }

    pub(crate) fn last_failure(&self) -> String {
        self.last_failure.borrow().clone()
    }

    fn failed(&self, node: &Node, why: &str) {
        tracing::info!(node = %node.address, why, "a node doesn't make this device reachable");
        self.last_failure.send_replace(format!("node {}: {why}", node.address));
    }
}

/// Holds one reservation after the other, whenever anything is published, until stopped.
pub(crate) async fn seat(core: Arc<Core>, stop: CancellationToken) {
    let mut published = core.book.count();
    let mut backoff = Backoff::default();
    let work = async {
        while published.wait_for(|count| *count > 0).await.is_ok() {
            if let Some(claim) = core.asker.pool.claim(Purpose::Reservation) {
                hold_reservation(&core, &claim.node, &mut published, &mut backoff).await;
            }
            let mut moved = core.moved.subscribe();
            tokio::select! {
                () = sleep(backoff.pause()) => {}
                // In another network it may work at once.
                Ok(()) = moved.changed() => backoff.reset(),
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Makes a reservation and returns when it is lost, was refused, or nothing is published any more.
async fn hold_reservation(
    core: &Core,
    node: &Node,
    published: &mut watch::Receiver<usize>,
    backoff: &mut Backoff,
) {
    // The stock relay client must find the connection there: one at a time is its limit.
    let connected = core.asker.control.connect(node.peer, node.dial.clone(), NODE_DEADLINE).await;
    if let Err(error) = connected {
        core.reach.failed(node, &error.to_string());
        return core.asker.pool.rejected(node, &Rejection::Unreachable(Box::new(error)));
    }
    let Some(mut reservation) = core.network.reserve(node).await else { return };
    let granted = reservation.state.wait_for(|state| *state != Reserved::Asked);
    match timeout(RESERVE_DEADLINE, granted).await.map(|state| state.map(|state| state.clone())) {
        Ok(Ok(Reserved::Granted(_))) => {}
        Ok(_) => {
            core.asker.pool.declined(node);
            return core.reach.failed(node, "refused a reservation, or the connection closed");
        }
        Err(_) => {
            core.asker.pool.declined(node);
            core.reach.failed(node, "gave no answer to a request for a reservation");
            return core.asker.pool.rejected(node, &Rejection::Silent { after: RESERVE_DEADLINE });
        }
    }
    core.asker.pool.granted(node);
    backoff.reset();
    loop {
        let Reserved::Granted(circuits) = reservation.state.borrow_and_update().clone() else { break };
        let multiaddrs = relay_multiaddrs(&circuits, node);
        core.reach.reserved.send_if_modified(|reserved| {
            reserved.insert(node.peer, multiaddrs.clone()).is_none_or(|known| known != multiaddrs)
        });
        tokio::select! {
            changed = reservation.state.changed() => if changed.is_err() { break },
            _ = published.wait_for(|count| *count == 0) => break,
        }
    }
    core.reach.reserved.send_modify(|reserved| drop(reserved.remove(&node.peer)));
}

/// Where others reach the node that granted these circuits: where it says it is, since this device may have reached
/// it by a way that nobody else has; where this device reached it only if it says nothing of use.
fn relay_multiaddrs(circuits: &[Multiaddr], node: &Node) -> Vec<Multiaddr> {
    let mut multiaddrs: Vec<Multiaddr> = Vec::new();
    for circuit in circuits {
        let relay: Multiaddr = circuit.iter().take_while(|part| *part != Protocol::P2pCircuit).collect();
        let is_it = relay.iter().last() == Some(Protocol::P2p(node.peer));
        let is_good = is_it && relay.len() <= RELAY_MULTIADDR_BYTES && check_relay(&relay.to_vec()).is_ok();
        if is_good && !multiaddrs.contains(&relay) {
            multiaddrs.push(relay);
        }
    }
    // Among several, those that are known to work come first, and TCP, as for ourselves.
    multiaddrs.sort_by_key(|relay| (!node.is_at(relay), is_quic(relay)));
    multiaddrs.truncate(RELAY_MULTIADDRS);
    let mut bytes = 0;
    multiaddrs.retain(|relay| {
        bytes += relay.len();
        bytes <= RELAY_BYTES
    });
    if multiaddrs.is_empty() { vec![node.multiaddr()] } else { multiaddrs }
}

/// Publishes routes until stopped.
pub(crate) async fn herald(core: Arc<Core>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = proclaim(&core) => {}
    }
}

async fn proclaim(core: &Core) {
    let mut reserved = core.reach.reserved.subscribe();
    let mut direct = core.reach.direct.clone();
    let mut backoff = Backoff::default();
    let mut seq = 0u64;
    if core.direct {
        // So that what the first round of confirming finds stands in the first route already; without a node it finds nothing.
        let _ = timeout(CONFIRM_WITHIN, direct.changed()).await;
    }
    // Nodes keep the highest number, so a device that restarts after its clock went back would tell them nothing new.
    let mut is_newest = false;
    loop {
        let relays = reserved.borrow_and_update().clone();
        let addresses = direct.borrow_and_update().clone();
        let pause = if relays.is_empty() {
            core.reach.relays.send_replace(Vec::new());
            Duration::from_secs(ROUTE_TTL)
        } else {
            seq = core.asker.verifier.time.unix_millis().max(seq.saturating_add(1));
            let complete = publish(core, seq, &relays, &addresses).await;
            if !is_newest && let Some(held) = newer_held(core, seq).await {
                seq = held;
                continue;
            }
            is_newest |= complete;
            if complete {
                backoff.reset();
                Duration::from_secs(ROUTE_TTL / 2)
            } else {
                backoff.pause().min(Duration::from_secs(ROUTE_TTL / 2))
            }
        };
        let changed = async {
            tokio::select! {
                changed = reserved.changed() => changed.is_ok(),
                Ok(()) = direct.changed() => true,
                () = sleep(pause) => true,
            }
        };
        if !changed.await {
            return;
        }
    }
}

/// The number of a route that this device signed before and some node still prefers to `seq`.
async fn newer_held(core: &Core, seq: u64) -> Option<u64> {
    let record = core.guard.device(core.own)?;
    let held = core.asker.fetch_route(core.own, &record).await?;
    Some(held.route().seq).filter(|held| *held > seq)
}

/// Signs a route and publishes it to every node; true if all keep it.
async fn publish(core: &Core, seq: u64, relays: &Relays, direct: &[Multiaddr]) -> bool {
    let spec = core.asker.verifier.spec();
    let route = Route {
        chain_id: spec.chain_id,
        genesis_hash: spec.genesis_hash,
        device: core.own,
        seq,
        issued_at: core.asker.verifier.now(),
        ttl: ROUTE_TTL,
        relays: relays.values().flatten().map(|relay| Bytes::from(relay.to_vec())).collect(),
        direct: named(core, direct).iter().map(|direct| Bytes::from(direct.to_vec())).collect(),
    };
    let request = wire::encode(&RouteRequest::Publish(SignedRoute::sign(&route, &core.key)));
    let nodes = core.asker.pool.ranked();
    let kept = join_all(nodes.iter().map(async |node| {
        let kept = publish_to(core, node, &request).await;
        if kept {
            // The first that keeps it is enough for callers to find the device.
            core.reach.relays.send_replace(relays.keys().copied().collect());
        }
        kept
    }));
    !kept.await.contains(&false)
}

async fn publish_to(core: &Core, node: &Node, request: &[u8]) -> bool {
    let exchange = exchange(&core.asker.control, node, names::ROUTE, request, NODE_DEADLINE);
    let rejection = match timeout(NODE_DEADLINE, exchange).await {
        Ok(Ok(frame)) => match wire::decode(&frame, MAX_ROUTE_MESSAGE_BYTES) {
            Ok(RouteResponse::Kept) => return true,
            Ok(RouteResponse::Refused(refusal)) => {
                core.reach.failed(node, &refusal.to_string());
                return false;
            }
            Ok(_) => {
                core.reach.failed(node, &RouteRefusal::Unknown.to_string());
                return false;
            }
            Err(error) => Rejection::Malformed(error),
        },
        Ok(Err(rejection)) => rejection,
        Err(_) => Rejection::Silent { after: NODE_DEADLINE },
    };
    core.reach.failed(node, &rejection.to_string());
    core.asker.pool.rejected(node, &rejection);
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pool::NodePool;
    use libp2p::multiaddr::multiaddr;
    use std::net::Ipv4Addr;

    fn node() -> Arc<Node> {
        let key = windlass_protocol::SecretKey::from_bytes(&[5; 32]).unwrap().public_key();
        let peer = windlass_p2p::identity::peer_id_of(&key);
        let dialled = multiaddr!(Ip4(Ipv4Addr::LOCALHOST), Tcp(4001u16)).with(Protocol::P2p(peer));
        NodePool::new(vec![dialled], crate::events::Teller::default()).unwrap().ranked().remove(0)
    }

    fn circuit(relay: &Multiaddr) -> Multiaddr {
        relay.clone().with(Protocol::P2pCircuit).with(Protocol::P2p(PeerId::random()))
    }

    /// A fixed bug: a device that reached its node by a way of its own told everybody to take that way.
    #[test]
    fn callers_are_sent_where_the_node_says_it_is() {
        let node = node();
        let public: Multiaddr = format!("/ip4/192.0.2.7/tcp/4001/p2p/{}", node.peer).parse().unwrap();
        let named: Multiaddr = format!("/dns4/node.example/tcp/4001/p2p/{}", node.peer).parse().unwrap();
        let local = node.multiaddr();
        let chosen = |relays: &[&Multiaddr]| {
            relay_multiaddrs(&relays.iter().map(|relay| circuit(relay)).collect::<Vec<_>>(), &node)
        };
        assert_eq!(chosen(&[&public]), std::slice::from_ref(&public));
        assert_eq!(chosen(&[&public, &public, &named]), [public.clone(), named.clone()]);
        // One that is known to work goes first, and a few are enough.
        assert_eq!(chosen(&[&public, &named, &local]), [local.clone(), public.clone(), named.clone()]);
        let more: Vec<Multiaddr> =
            (1..9).map(|port| public.replace(1, |_| Some(Protocol::Tcp(port))).unwrap()).collect();
        let more: Vec<&Multiaddr> = more.iter().collect();
        assert_eq!(chosen(&more).len(), RELAY_MULTIADDRS);
        // However a node names itself, the route stays short.
        let names = ["a", "b", "c"].map(|name| {
            let long = format!("/dns4/{}.example/tcp/1/p2p/{}", name.repeat(30), node.peer);
            long.parse::<Multiaddr>().unwrap()
        });
        let kept = chosen(&[&names[0], &names[1], &names[2]]);
        assert_eq!(kept, names[..2]);
        // A node that says nothing of use is where it was reached.
        let elsewhere: Multiaddr = format!("/ip4/192.0.2.8/tcp/1/p2p/{}", PeerId::random()).parse().unwrap();
        let nameless: Multiaddr = "/ip4/192.0.2.8/tcp/1".parse().unwrap();
        let long = format!("/dns4/{}.example/tcp/1/p2p/{}", "x".repeat(90), node.peer).parse().unwrap();
        let forged = Multiaddr::from(Protocol::Dns4("x\n\u{1b}[2K".into()));
        let forged = forged.with(Protocol::Tcp(1)).with(Protocol::P2p(node.peer));
        for relay in [&elsewhere, &nameless, &long, &forged, &Multiaddr::empty()] {
            assert_eq!(chosen(&[relay]), std::slice::from_ref(&local), "{relay:?}");
        }
    }
}
