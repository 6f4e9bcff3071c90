//! The handle with which everybody but the swarm's task opens and accepts streams.
//!
//! It is cheap to clone and holds no lock while it waits. Every wait has a deadline, and a caller who
//! drops a future gives back its place.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, StreamProtocol, swarm::ConnectionId};
use tokio::sync::{mpsc, oneshot};

use super::{
    accepting::{Incoming, Registry},
    error::{AlreadyAccepting, OpenError, Stage},
    notice::{CallerId, Notice},
    peers::{ConnectionInfo, Snapshot, WantConnection, WantStream},
    punching::Role,
    stream::PeerStream,
};
use crate::limits::EXTERNAL_ADDRESSES;

/// What callers ask of the behaviour.
#[derive(Debug)]
pub(super) enum Command {
    Open { peer: PeerId, caller: CallerId, addresses: Vec<Multiaddr>, want: WantStream },
    Connect { peer: PeerId, caller: CallerId, addresses: Vec<Multiaddr>, want: WantConnection },
    Punch { peer: PeerId, addresses: Vec<Multiaddr>, role: Role, want: WantConnection },
    Disconnect { peer: PeerId },
    Close { peer: PeerId, connection: ConnectionId },
}

/// How far a caller's wish has come; the behaviour writes, the caller reads when time is up.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<AtomicU8>);

impl Progress {
    const STAGES: [Stage; 4] = [Stage::Swarm, Stage::Dial, Stage::Queue, Stage::Negotiate];

    pub(super) fn reached(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }

    fn stage(&self) -> Stage {
        Self::STAGES[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

/// The handle of a [`super::Behaviour`].
#[derive(Debug, Clone)]
pub struct Control {
    registry: Arc<Registry>,
    commands: mpsc::Sender<Command>,
    notices: mpsc::UnboundedSender<Notice>,
    snapshot: Snapshot,
    whereabouts: Whereabouts,
    callers: Arc<AtomicU64>,
}

/// Where the swarm is reachable from outside, as its owner told it.
#[derive(Debug, Clone, Default)]
pub(super) struct Whereabouts(Arc<RwLock<Vec<Multiaddr>>>);

impl Whereabouts {
    pub(super) fn add(&self, address: &Multiaddr) {
        let mut addresses = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() < EXTERNAL_ADDRESSES && !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }

    pub(super) fn remove(&self, address: &Multiaddr) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|known| known != address);
    }
}

impl Control {
    pub(super) fn new(
        registry: Arc<Registry>,
        commands: mpsc::Sender<Command>,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> Self {
        Self {
            registry,
            commands,
            notices,
            snapshot: Snapshot::default(),
            whereabouts: Whereabouts::default(),
            callers: Arc::default(),
        }
    }

    pub(super) fn whereabouts(&self) -> Whereabouts {
        self.whereabouts.clone()
    }

    /// Where this side is reachable from outside, as the swarm's owner told the swarm. Never waits.
    pub fn external_addresses(&self) -> Vec<Multiaddr> {
        self.whereabouts.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// Starts accepting streams of `protocol` on every connection, present and future. At most `queue`
    /// wait to be taken; a stream beyond is reset. Fails while another [`Incoming`] has the protocol.
    pub fn accept(
        &self,
        protocol: StreamProtocol,
        queue: NonZeroUsize,
    ) -> Result<Incoming, AlreadyAccepting> {
        self.registry.register(protocol, queue)
    }

    /// Opens a stream to `peer` within `deadline`, over the best live connection, else over one made
    /// to any of `addresses`; circuits among these are dialled once their relay is connected.
    ///
    /// While the limits are reached it waits its turn. Cancel-safe: a dropped future gives back its
    /// place, at the latest when a negotiation under way ends.
    pub async fn open(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        protocol: StreamProtocol,
        deadline: Duration,
    ) -> Result<PeerStream, OpenError> {
        let progress = Progress::default();
        let until = Instant::now() + deadline;
        let first = self.open_once(peer, &addresses, &protocol, until, &progress);
        let opened = tokio::time::timeout(deadline, async {
            match first.await {
                // A connection may close, idle or broken, just as it is chosen. Once more, then.
                Err(OpenError::Closed { .. }) => {
                    self.open_once(peer, &addresses, &protocol, until, &progress).await
                }
                outcome => outcome,
            }
        });
        match opened.await {
            Ok(Err(OpenError::Timeout { stage, .. })) => {
                Err(OpenError::Timeout { peer, stage, after: deadline })
            }
            Ok(outcome) => outcome,
            Err(_) => Err(OpenError::Timeout { peer, stage: progress.stage(), after: deadline }),
        }
    }

    async fn open_once(
        &self,
        peer: PeerId,
        addresses: &[Multiaddr],
        protocol: &StreamProtocol,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<PeerStream, OpenError> {
        let waiting = self.waiting(peer);
        let (reply, answer) = oneshot::channel();
        let want = WantStream { protocol: protocol.clone(), deadline, reply, progress: progress.clone() };
        let command = Command::Open { peer, caller: waiting.caller, addresses: addresses.to_vec(), want };
        self.commands.send(command).await.map_err(|_| OpenError::Stopped)?;
        waiting.until(answer).await
    }

    /// Connects to `peer` within `deadline` unless it is connected, and returns the best connection.
    ///
    /// The connection closes when it has carried no stream for a while. Cancel-safe.
    pub async fn connect(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        deadline: Duration,
    ) -> Result<ConnectionInfo, OpenError> {
        let connected = tokio::time::timeout(deadline, async {
            let waiting = self.waiting(peer);
            let (want, answer) = oneshot::channel();
            let command = Command::Connect { peer, caller: waiting.caller, addresses, want };
            self.commands.send(command).await.map_err(|_| OpenError::Stopped)?;
            waiting.until(answer).await
        });
        let timeout = OpenError::Timeout { peer, stage: Stage::Dial, after: deadline };
        connected.await.unwrap_or(Err(timeout))
    }

    /// Dials `peer` directly although it may be connected, within `deadline`: for a way beside the relayed one. Returns
    /// the direct connection, whoever made it. Cancel-safe.
    pub async fn punch(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        role: Role,
        deadline: Duration,
    ) -> Result<ConnectionInfo, OpenError> {
        let connected = tokio::time::timeout(deadline, async {
            let (want, answer) = oneshot::channel();
            let command = Command::Punch { peer, addresses, role, want };
            self.commands.send(command).await.map_err(|_| OpenError::Stopped)?;
            answer.await.unwrap_or(Err(OpenError::Closed { peer, source: None }))
        });
        connected.await.unwrap_or(Err(OpenError::Timeout { peer, stage: Stage::Dial, after: deadline }))
    }

    /// Closes one connection to `peer`; its streams end with an error. Returns when that has begun.
    pub async fn close(&self, peer: PeerId, connection: ConnectionId) {
        // A behaviour that is gone has closed its connections.
        let _ = self.commands.send(Command::Close { peer, connection }).await;
    }

    /// Closes every connection to `peer`; its streams end with an error. Returns when that has begun.
    pub async fn disconnect(&self, peer: PeerId) {
        // A behaviour that is gone has closed its connections.
        let _ = self.commands.send(Command::Disconnect { peer }).await;
    }

    /// The live connections to `peer`, best first; empty when there are none. Never waits.
    pub fn connections(&self, peer: &PeerId) -> Arc<[ConnectionInfo]> {
        self.read_snapshot(|snapshot| snapshot.get(peer).cloned().unwrap_or_default())
    }

    /// The peers that are connected. Never waits; costs a copy of the list.
    pub fn connected_peers(&self) -> Vec<PeerId> {
        self.read_snapshot(|snapshot| snapshot.keys().copied().collect())
    }

    fn read_snapshot<T>(&self, read: impl FnOnce(&HashMap<PeerId, Arc<[ConnectionInfo]>>) -> T) -> T {
        read(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many inbound streams were reset so far because nobody could take them.
    pub fn refused(&self) -> u64 {
        self.registry.refused.load(Ordering::Relaxed)
    }

    fn waiting(&self, peer: PeerId) -> Waiting {
        let caller = CallerId(self.callers.fetch_add(1, Ordering::Relaxed));
        Waiting { peer, caller, notices: self.notices.clone(), answered: false }
    }
}

/// A caller that waits; tells the behaviour when it stops waiting without an answer.
struct Waiting {
    peer: PeerId,
    caller: CallerId,
    notices: mpsc::UnboundedSender<Notice>,
    answered: bool,
}

impl Waiting {
    async fn until<T>(mut self, answer: oneshot::Receiver<Result<T, OpenError>>) -> Result<T, OpenError> {
        let outcome = answer.await;
        self.answered = true;
        // A wish that vanished was with a connection that closed, or with a behaviour that stopped.
        outcome.unwrap_or(Err(OpenError::Closed { peer: self.peer, source: None }))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered {
            let _ = self.notices.send(Notice::Cancelled { peer: self.peer, caller: self.caller });
        }
    }
}
