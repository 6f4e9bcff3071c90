//! Direct connections to devices that were reached through a relay: tried once a stream between the two is authorised,
//! and never before, since only then may either know where the other is.
//!
//! The device that was called invites (`p2p::punch`), the caller answers. Until the first invitation is due this device
//! listens nowhere. New streams then take the direct way by themselves; the relayed connection drains. What can't be
//! reached directly stays relayed, is told to the owner with the reason, and tried again with longer and longer pauses.

use crate::{
    client::Core,
    events::Event,
    limits::{
        AUTHORISED_WITHIN, DIRECT_ADDRESSES, INVITATIONS, LISTEN_WITHIN, OBSERVED_FOR, OBSERVERS,
        PUNCH_DEADLINE, PUNCH_PAUSE, PUNCH_PAUSE_LONGEST, PUNCH_ROUNDS, PUNCHES,
    },
    pool::{Node, is_quic},
};
use futures::future::{join_all, select_ok};
use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use windlass_p2p::limits::HEAD_START;
use windlass_p2p::{
    Incoming, OpenError, PeerStream,
    punch::{self, PunchError, bare},
    streams::{Role, Tether},
};

/// What an attempt at a direct way came to.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The other device doesn't do this; asking again changes nothing.
    #[error("the other device doesn't try direct connections")]
    Unsupported,
    /// The relayed connection ended meanwhile.
    #[error("the relayed connection ended")]
    Over,
    #[error("this device has no address to be dialled at")]
    Nowhere,
    #[error("the other device was not asked: {0}")]
    Ask(#[source] OpenError),
    #[error(transparent)]
    Protocol(#[from] PunchError),
    #[error("{0}{1}")]
    Dial(#[source] OpenError, &'static str),
    #[error("the other device didn't do its part within {} s", PUNCH_DEADLINE.as_secs())]
    Slow,
}

/// What the client's tasks share about direct ways.
pub(crate) struct Direct {
    is_wanted: bool,
    /// Relayed connections on which the other side has let us in: there we may be told where it is.
    authorised: watch::Sender<HashSet<ConnectionId>>,
    /// Relayed connections on which we have let the other side in.
    let_in: mpsc::Sender<Tether>,
    /// Where nodes see this device's QUIC, by connection.
    observed: watch::Receiver<HashMap<ConnectionId, Multiaddr>>,
    listening: watch::Receiver<Vec<Multiaddr>>,
    /// Where a router opened a port for this device.
    mapped: watch::Receiver<Vec<Multiaddr>>,
    /// What nodes said last, and when.
    seen: Mutex<Option<(Instant, Vec<Multiaddr>)>>,
}

impl Direct {
    pub(crate) fn new(
        is_wanted: bool,
        observed: watch::Receiver<HashMap<ConnectionId, Multiaddr>>,
        listening: watch::Receiver<Vec<Multiaddr>>,
        mapped: watch::Receiver<Vec<Multiaddr>>,
    ) -> (Self, mpsc::Receiver<Tether>) {
        let (let_in, invitations) = mpsc::channel(INVITATIONS);
        let authorised = watch::Sender::new(HashSet::new());
        (
            Self { is_wanted, authorised, let_in, observed, listening, mapped, seen: Mutex::default() },
            invitations,
        )
    }

    /// Whether this device tries for direct ways at all.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// The device at the other end of this relayed connection has let us in.
    pub(crate) fn was_let_in(&self, connection: ConnectionId) {
        if self.is_wanted {
            self.authorised.send_if_modified(|authorised| authorised.insert(connection));
        }
    }

    /// We have let in the device at the other end of this relayed connection, and it may know where we are.
    pub(crate) fn let_in(&self, tether: Tether) {
        if self.is_wanted {
            // Beyond the bound a device stays relayed until its next stream.
            let _ = self.let_in.try_send(tether);
        }
    }

    /// Tells of changes of where this device listens, or where a router opened a port for it.
    pub(crate) fn changes(&self) -> Changes {
        Changes { listening: self.listening.clone(), mapped: self.mapped.clone() }
    }

    /// The set for whoever knows when a connection is over.
    pub(crate) fn authorised(&self) -> watch::Sender<HashSet<ConnectionId>> {
        self.authorised.clone()
    }
}

/// See [`Direct::changes`].
pub(crate) struct Changes {
    listening: watch::Receiver<Vec<Multiaddr>>,
    mapped: watch::Receiver<Vec<Multiaddr>>,
}

impl Changes {
    /// Returns at the next change; never once the network task is gone. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            Ok(()) = self.listening.changed() => {}
            Ok(()) = self.mapped.changed() => {}
            else => std::future::pending().await,
        }
    }
}

/// Invites whoever was let in through a relay, until stopped.
pub(crate) async fn invite(core: Arc<Core>, mut inbox: mpsc::Receiver<Tether>, stop: CancellationToken) {
    let mut tried: BTreeSet<PeerId> = BTreeSet::new();
    let mut attempts = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(tether) = inbox.recv(), if attempts.len() < PUNCHES => {
                if tried.insert(tether.peer()) {
                    let core = core.clone();
                    attempts.spawn(async move {
                        let peer = tether.peer();
                        upgrade(&core, &tether).await;
                        peer
                    });
                }
            }
            Some(ended) = attempts.join_next() => {
                if let Ok(peer) = ended {
                    tried.remove(&peer);
                }
            }
        }
    }
    attempts.shutdown().await;
}

fn is_direct(core: &Core, peer: &PeerId) -> bool {
    core.asker.control.connections(peer).iter().any(|connection| !connection.path.is_relayed())
}

/// Tries for as long as the relayed connection lives and there is no direct one.
async fn upgrade(core: &Core, tether: &Tether) {
    let peer = tether.peer();
    let mut pause = PUNCH_PAUSE;
    let mut attempts = 0;
    while !is_direct(core, &peer) {
        attempts += 1;
        // Turn about: both dial at once, or both as themselves, which is what an open network on their side needs.
        let role = if attempts % 2 == 1 { Role::Listener } else { Role::Dialer };
        let Err(failure) = try_once(core, tether, role).await else { return };
        tracing::debug!(%peer, attempts, %failure, "no direct way");
        let is_final = matches!(failure, Failure::Unsupported | Failure::Nowhere);
        if matches!(failure, Failure::Over) || is_direct(core, &peer) {
            return;
        }
        if attempts % PUNCH_ROUNDS == 0 || is_final {
            core.teller.tell(|| Event::StaysRelayed { peer, attempts, why: failure.to_string() });
            if is_final {
                return;
            }
            tokio::select! {
                () = sleep(pause.mul_f64(0.75 + rand::random::<f64>() / 2.0)) => {}
                () = tether.over() => return,
            }
            pause = (pause * 2).min(PUNCH_PAUSE_LONGEST);
        }
    }
}

async fn try_once(core: &Core, tether: &Tether, role: Role) -> Result<(), Failure> {
    let hold = tether.hold().ok_or(Failure::Over)?;
    let own = candidates(core).await;
    if own.is_empty() {
        return Err(Failure::Nowhere);
    }
    let mut stream = hold.open(punch::PROTOCOL, PUNCH_DEADLINE).await.map_err(|error| match error {
        OpenError::Unsupported { .. } => Failure::Unsupported,
        OpenError::Closed { .. } => Failure::Over,
        error => Failure::Ask(error),
    })?;
    let theirs = punch::invite(&mut stream, &own);
    let theirs = timeout(PUNCH_DEADLINE, theirs).await.map_err(|_| Failure::Slow)??;
    dial(core, tether.peer(), theirs, role).await
}

async fn dial(core: &Core, peer: PeerId, theirs: Vec<Multiaddr>, role: Role) -> Result<(), Failure> {
    let theirs = reachable(core, theirs);
    if theirs.is_empty() {
        return Err(PunchError::NoAddress.into());
    }
    // TCP has to wait a moment, as for any peer: the handshake of QUIC takes longer.
    let (quic, tcp): (Vec<_>, Vec<_>) = theirs.into_iter().partition(is_quic);
    let tcp_waits = if quic.is_empty() { Duration::ZERO } else { HEAD_START };
    let ways = [(quic, Duration::ZERO), (tcp, tcp_waits)].into_iter().filter(|(at, _)| !at.is_empty());
    let ways = ways.map(async |(at, wait)| {
        sleep(wait).await;
        core.asker.control.punch(peer, at, role, PUNCH_DEADLINE).await
    });
    let dialled = select_ok(ways.map(Box::pin)).await;
    dialled.map(drop).map_err(|error| Failure::Dial(error, strictness(core)))
}

/// Answers the invitations of devices that have let us in, until stopped.
pub(crate) async fn answer(core: Arc<Core>, mut incoming: Incoming, stop: CancellationToken) {
    let mut answers = JoinSet::new();
    let mut busy: BTreeMap<PeerId, ()> = BTreeMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            stream = incoming.next(), if answers.len() < PUNCHES => {
                let Some(stream) = stream else { break };
                let peer = stream.peer();
                // Dropping it says no: one at a time, and where we are is told on relayed connections alone.
                if stream.path().is_relayed() && busy.insert(peer, ()).is_none() {
                    let core = core.clone();
                    answers.spawn(async move {
                        if let Err(failure) = answer_one(&core, stream).await {
                            tracing::debug!(%peer, %failure, "no direct way");
                        }
                        peer
                    });
                }
            }
            Some(ended) = answers.join_next() => {
                if let Ok(peer) = ended {
                    busy.remove(&peer);
                }
            }
        }
    }
    answers.shutdown().await;
}

async fn answer_one(core: &Core, mut stream: PeerStream) -> Result<(), Failure> {
    let (peer, connection) = (stream.peer(), stream.connection());
    // Its word that we are let in, and its invitation, come on two streams.
    let mut authorised = core.direct_ways.authorised.subscribe();
    let authorised = authorised.wait_for(|authorised| authorised.contains(&connection));
    timeout(AUTHORISED_WITHIN, authorised).await.map_err(|_| Failure::Slow)?.map_err(|_| Failure::Over)?;
    let own = candidates(core).await;
    if own.is_empty() {
        return Err(Failure::Nowhere);
    }
    let theirs = punch::answer(&mut stream, &own);
    let theirs = timeout(PUNCH_DEADLINE, theirs).await.map_err(|_| Failure::Slow)??;
    dial(core, peer, theirs, Role::Dialer).await
}

/// Where this device may be dialled: where nodes see it, then its own addresses. Begins to listen if it doesn't yet.
pub(crate) async fn candidates(core: &Core) -> Vec<Multiaddr> {
    let direct = &core.direct_ways;
    core.network.listen().await;
    let mut listening = direct.listening.clone();
    // A machine without a network has none, and goes without.
    let _ = timeout(LISTEN_WITHIN, listening.wait_for(|addresses| !addresses.is_empty())).await;
    let mut candidates = observe(core).await;
    candidates.extend(direct.mapped.borrow().iter().filter_map(bare));
    candidates.extend(listening.borrow().iter().filter_map(bare));
    let mut candidates = reachable(core, candidates);
    let mut known = HashSet::new();
    candidates.retain(|address| known.insert(address.clone()));
    candidates
}

/// Of the addresses at which this device is reached, those to name in a route: as many of QUIC, which go first, as of TCP.
pub(crate) fn named(core: &Core, listening: &[Multiaddr]) -> Vec<Multiaddr> {
    let usable = reachable(core, listening.iter().filter_map(bare).collect());
    let (quic, tcp): (Vec<_>, Vec<_>) = usable.into_iter().partition(is_quic);
    let half = DIRECT_ADDRESSES / 2;
    let (more_quic, more_tcp) = (half.saturating_sub(tcp.len()), half.saturating_sub(quic.len()));
    let quic = quic.into_iter().take(half + more_quic);
    quic.chain(tcp.into_iter().take(half + more_tcp)).collect()
}

/// Without this machine's own addresses, unless the nodes are on it too.
fn reachable(core: &Core, mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    if !core.asker.pool.is_local() {
        addresses.retain(|address| !ip_of(address).is_some_and(|ip| ip.is_loopback()));
    }
    addresses
}

fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    use libp2p::multiaddr::Protocol;
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    })
}

/// Asks nodes where they see the socket that others would be answered from.
async fn observe(core: &Core) -> Vec<Multiaddr> {
    let lock = || core.direct_ways.seen.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((when, seen)) = lock().as_ref()
        && when.elapsed() < OBSERVED_FOR
    {
        return seen.clone();
    }
    let nodes = core.asker.pool.ranked();
    let nodes = nodes.iter().filter(|node| node.dial.iter().any(is_quic)).take(OBSERVERS);
    let seen = join_all(nodes.map(|node| observe_at(core, node))).await;
    let seen: Vec<Multiaddr> = seen.into_iter().flatten().collect();
    *lock() = Some((Instant::now(), seen.clone()));
    seen
}

/// One connection of its own to a node, over QUIC, for as long as it takes.
async fn observe_at(core: &Core, node: &Node) -> Option<Multiaddr> {
    let control = &core.asker.control;
    let at: Vec<Multiaddr> = node.dial.iter().filter(|address| is_quic(address)).cloned().collect();
    let before: HashSet<ConnectionId> =
        control.connections(&node.peer).iter().map(|known| known.id).collect();
    let made = control.punch(node.peer, at, Role::Dialer, LISTEN_WITHIN).await.ok()?;
    let mut observed = core.direct_ways.observed.clone();
    let seen = observed.wait_for(|observed| observed.contains_key(&made.id));
    let seen =
        timeout(LISTEN_WITHIN, seen).await.ok()?.ok().and_then(|observed| observed.get(&made.id).cloned());
    if !before.contains(&made.id) {
        control.close(node.peer, made.id).await;
    }
    seen.as_ref().and_then(bare)
}

/// What is known of why a device like this can't be reached: nodes see it at different ports.
fn strictness(core: &Core) -> &'static str {
    let seen = core.direct_ways.seen.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((_, seen)) = seen.as_ref() else { return "" };
    let ports: HashSet<Multiaddr> = seen.iter().filter(|address| !is_ip6(address)).cloned().collect();
    match ports.len() {
        0 => "; no node said where it sees this device over QUIC",
        1 => "",
        _ => "; this device's network gives it another port for each destination",
    }
}

fn is_ip6(address: &Multiaddr) -> bool {
    ip_of(address).is_some_and(|ip| ip.is_ipv6())
}
