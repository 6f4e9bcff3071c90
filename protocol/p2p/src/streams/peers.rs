//! Who we are connected to, who waits for what, and how much of it at a time.
//!
//! The state of the behaviour without libp2p's part in it: no dialling, no polling, no clock. Every
//! look-up is by peer, and an entry lives only while the peer has a connection, a dial, or a caller.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use libp2p::{PeerId, StreamProtocol, swarm::ConnectionId};
use tokio::sync::{mpsc, oneshot};

use super::{
    Limits,
    control::Progress,
    dialing::Dial,
    error::{OpenError, Stage},
    handler::Request,
    notice::{CallerId, Notice},
    stream::{Link, Outbound, PeerStream, Place},
};
use crate::Path;

/// One live connection, as a caller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its number, unique in this process.
    pub id: ConnectionId,
    /// The way its bytes take.
    pub path: Path,
}

/// The live connections, for callers to look at without asking the swarm's task; best path first.
pub(super) type Snapshot = Arc<RwLock<HashMap<PeerId, Arc<[ConnectionInfo]>>>>;

/// A connection and what we count on it.
#[derive(Debug)]
struct Connection {
    info: ConnectionInfo,
    link: Arc<Link>,
    /// Streams handed to its handler and not yet agreed on.
    opening: usize,
    /// Streams agreed on and not yet dropped.
    open: usize,
    /// Being closed by us; opens nothing more.
    closing: bool,
}

/// A caller's wish for a stream.
#[derive(Debug)]
pub(super) struct WantStream {
    pub(super) protocol: StreamProtocol,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<PeerStream, OpenError>>,
    pub(super) progress: Progress,
}

/// A caller's wish for a connection.
pub(super) type WantConnection = oneshot::Sender<Result<ConnectionInfo, OpenError>>;

/// All about one peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Best path first; among equals the newest, which is the likeliest to be alive.
    connections: Vec<Connection>,
    streams_wanted: BTreeMap<CallerId, WantStream>,
    connections_wanted: BTreeMap<CallerId, WantConnection>,
    pub(super) dial: Option<Dial>,
}

impl Peer {
    pub(super) fn is_connected(&self) -> bool {
        self.connections.iter().any(|connection| !connection.closing)
    }

    fn waiting(&self) -> usize {
        self.streams_wanted.len() + self.connections_wanted.len()
    }

    fn best(&mut self) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| !connection.closing)
    }

    fn has_room(&self, limits: &Limits) -> bool {
        let opening: usize = self.connections.iter().map(|connection| connection.opening).sum();
        let open: usize = self.connections.iter().map(|connection| connection.open).sum();
        opening < limits.opening_per_peer && opening + open < limits.streams_per_peer
    }

    /// Whether there is no reason left to remember this peer.
    fn is_forgettable(&self) -> bool {
        self.connections.is_empty() && self.waiting() == 0 && self.dial.is_none()
    }
}

/// How much the behaviour holds right now; all zero when nothing is connected, dialled or wanted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Peers remembered.
    pub peers: usize,
    /// Live connections.
    pub connections: usize,
    /// Callers waiting for a connection or stream.
    pub waiting: usize,
    /// Peers being dialled, and dials that haven't ended.
    pub dials: usize,
    /// Peers in the snapshot that callers look at.
    pub visible: usize,
}

/// All peers.
#[derive(Debug)]
pub(super) struct Peers {
    peers: HashMap<PeerId, Peer>,
    snapshot: Snapshot,
    limits: Limits,
    notices: mpsc::UnboundedSender<Notice>,
}

impl Peers {
    pub(super) fn new(limits: Limits, snapshot: Snapshot, notices: mpsc::UnboundedSender<Notice>) -> Self {
        Self { peers: HashMap::new(), snapshot, limits, notices }
    }

    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(Peer::is_connected)
    }

    pub(super) fn is_connected_directly(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|entry| {
            entry.connections.iter().any(|found| !found.closing && !found.info.path.is_relayed())
        })
    }

    pub(super) fn is_dialing(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|entry| entry.dial.is_some())
    }

    /// The dial state of a peer, made if there was none.
    pub(super) fn dial_mut(&mut self, peer: PeerId) -> &mut Dial {
        self.peers.entry(peer).or_default().dial.get_or_insert_default()
    }

    /// The dial state of a peer that is being dialled.
    pub(super) fn dialing_mut(&mut self, peer: &PeerId) -> Option<&mut Dial> {
        self.peers.get_mut(peer)?.dial.as_mut()
    }

    pub(super) fn take_dial(&mut self, peer: &PeerId) -> Option<Dial> {
        let dial = self.peers.get_mut(peer)?.dial.take();
        self.forget_if_done(peer);
        dial
    }

    /// Queues a caller who wants a stream, unless too many wait already. Returns whether it waits.
    pub(super) fn want_stream(&mut self, peer: PeerId, caller: CallerId, want: WantStream) -> bool {
        // A caller that gave up while its command was queued; its notice has come before.
        if want.reply.is_closed() {
            return false;
        }
        let Some(entry) = self.room_to_wait(peer) else {
            let _ = want.reply.send(Err(OpenError::Busy { peer }));
            return false;
        };
        want.progress.reached(if entry.is_connected() { Stage::Queue } else { Stage::Dial });
        entry.streams_wanted.insert(caller, want);
        true
    }

    /// Queues a caller who wants a connection, unless too many wait already. Returns whether it waits.
    pub(super) fn want_connection(&mut self, peer: PeerId, caller: CallerId, want: WantConnection) -> bool {
        if want.is_closed() {
            return false;
        }
        let Some(entry) = self.room_to_wait(peer) else {
            let _ = want.send(Err(OpenError::Busy { peer }));
            return false;
        };
        entry.connections_wanted.insert(caller, want);
        true
    }

    /// The entry of a peer for which one more caller may wait.
    fn room_to_wait(&mut self, peer: PeerId) -> Option<&mut Peer> {
        let most = self.limits.waiting_per_peer;
        let entry = self.peers.entry(peer).or_default();
        (entry.waiting() < most).then_some(entry)
    }

    /// Serves whoever waits for `peer` as far as its connections and the limits allow.
    pub(super) fn dispatch(&mut self, peer: PeerId) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if let Some(info) = entry.best().map(|connection| connection.info) {
            for (_, want) in std::mem::take(&mut entry.connections_wanted) {
                let _ = want.send(Ok(info));
            }
            while entry.is_connected() && entry.has_room(&self.limits) {
                let Some((caller, want)) = entry.streams_wanted.pop_first() else { break };
                if let Err(want) = hand_over(entry, peer, want, &self.notices) {
                    entry.streams_wanted.insert(caller, want);
                }
            }
        }
        self.forget_if_done(&peer);
    }

    /// Tells everybody who waits for `peer` that it can't be had.
    pub(super) fn fail_waiting(&mut self, peer: PeerId, error: &OpenError) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        for (_, want) in std::mem::take(&mut entry.streams_wanted) {
            let _ = want.reply.send(Err(error.clone()));
        }
        for (_, want) in std::mem::take(&mut entry.connections_wanted) {
            let _ = want.send(Err(error.clone()));
        }
        self.forget_if_done(&peer);
    }

    /// Applies what a stream or caller told on its way out.
    pub(super) fn apply(&mut self, notice: Notice) {
        match notice {
            Notice::Opened { peer, connection } => {
                self.count(peer, connection, |connection| {
                    connection.opening -= 1;
                    connection.open += 1;
                });
            }
            Notice::Released { peer, connection, opened } => {
                self.count(peer, connection, |connection| match opened {
                    true => connection.open -= 1,
                    false => connection.opening -= 1,
                });
            }
            Notice::Cancelled { peer, caller } => {
                if let Some(entry) = self.peers.get_mut(&peer) {
                    entry.streams_wanted.remove(&caller);
                    entry.connections_wanted.remove(&caller);
                    self.forget_if_done(&peer);
                }
            }
        }
    }

    /// Changes a connection's counts and serves whoever waited for that. A connection that is gone
    /// took its counts with it.
    fn count(&mut self, peer: PeerId, connection: ConnectionId, change: impl FnOnce(&mut Connection)) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if let Some(found) = entry.connections.iter_mut().find(|found| found.info.id == connection) {
            change(found);
            self.dispatch(peer);
        }
    }

    /// Adds an established connection.
    pub(super) fn connected(&mut self, link: Arc<Link>) {
        let (peer, info) = (link.peer, link.info());
        let entry = self.peers.entry(peer).or_default();
        entry.streams_wanted.values().for_each(|want| want.progress.reached(Stage::Queue));
        let connections = &mut entry.connections;
        let at = connections.partition_point(|other| other.info.path.rank() < info.path.rank());
        connections.insert(at, Connection { info, link, opening: 0, open: 0, closing: false });
        self.publish(peer);
    }

    /// Removes a closed connection.
    pub(super) fn disconnected(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.connections.retain(|found| found.info.id != connection);
            self.publish(peer);
            self.forget_if_done(&peer);
        }
    }

    /// Stops opening streams on the connections that a peer has now.
    pub(super) fn closing(&mut self, peer: PeerId) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.connections.iter_mut().for_each(|connection| connection.closing = true);
            self.publish(peer);
        }
    }

    /// Stops opening streams on one connection.
    pub(super) fn closing_one(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if let Some(found) = entry.connections.iter_mut().find(|found| found.info.id == connection) {
            found.closing = true;
            self.publish(peer);
        }
    }

    /// Whether there is a relayed connection to `peer` beside a direct one.
    pub(super) fn has_both_kinds(&self, peer: &PeerId) -> bool {
        let relayed = |found: &Connection| !found.closing && found.info.path.is_relayed();
        self.is_connected_directly(peer)
            && self.peers.get(peer).is_some_and(|entry| entry.connections.iter().any(relayed))
    }

    /// The relayed connections to `peer` on which nothing runs.
    pub(super) fn needless(&self, peer: &PeerId) -> Vec<ConnectionId> {
        let Some(entry) = self.peers.get(peer) else { return Vec::new() };
        let is_needless = |found: &&Connection| {
            let is_used = found.opening + found.open > 0 || found.link.has_inbound() || found.link.is_held();
            !found.closing && found.info.path.is_relayed() && !is_used
        };
        entry.connections.iter().filter(is_needless).map(|found| found.info.id).collect()
    }

    /// Shows callers the connections of `peer` as they are now.
    fn publish(&mut self, peer: PeerId) {
        let infos: Arc<[ConnectionInfo]> = self.peers.get(&peer).map_or_else(Default::default, |entry| {
            entry.connections.iter().filter(|found| !found.closing).map(|found| found.info).collect()
        });
        let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        match infos.is_empty() {
            true => snapshot.remove(&peer),
            false => snapshot.insert(peer, infos),
        };
    }

    fn forget_if_done(&mut self, peer: &PeerId) {
        if self.peers.get(peer).is_some_and(Peer::is_forgettable) {
            self.peers.remove(peer);
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let snapshot = self.snapshot.read().unwrap_or_else(PoisonError::into_inner);
        let mut usage = Usage { peers: self.peers.len(), visible: snapshot.len(), ..Usage::default() };
        for entry in self.peers.values() {
            usage.connections += entry.connections.len();
            usage.waiting += entry.waiting();
            usage.dials += usize::from(entry.dial.is_some());
        }
        usage
    }
}

/// Hands a wish to the best connection; gives it back if none takes it.
fn hand_over(
    entry: &mut Peer,
    peer: PeerId,
    want: WantStream,
    notices: &mpsc::UnboundedSender<Notice>,
) -> Result<(), WantStream> {
    let WantStream { protocol, deadline, reply, progress } = want;
    if reply.is_closed() {
        return Ok(());
    }
    let Some(connection) = entry.best() else {
        return Err(WantStream { protocol, deadline, reply, progress });
    };
    progress.reached(Stage::Negotiate);
    let place = Place::Outbound(Outbound::new(peer, connection.info.id, notices.clone()));
    connection.opening += 1;
    match connection.link.requests.send(Box::new(Request { protocol, deadline, reply, place })) {
        Ok(()) => Ok(()),
        Err(mpsc::error::SendError(request)) => {
            let Request { protocol, deadline, reply, place } = *request;
            // Its handler is gone; the swarm will say so. Dropping the place gives back the count.
            drop(place);
            connection.closing = true;
            Err(WantStream { protocol, deadline, reply, progress })
        }
    }
}
