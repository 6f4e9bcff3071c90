//! The behaviour: takes callers' commands, has libp2p dial, and keeps count.
//!
//! It runs inside the swarm's task and waits for nothing there. A stream, once open, goes from its
//! connection straight to the caller; it and its bytes never come through here.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};
use tokio::sync::mpsc;

use super::{
    Limits,
    accepting::Registry,
    control::{Command, Control, Whereabouts},
    dialing::Dialer,
    draining::Draining,
    error::OpenError,
    handler::Handler,
    notice::Notice,
    peers::{Peers, Usage},
    punching::Punches,
    stream::Link,
};
use crate::{Path, limits, path::ip_of};

/// A relayed connection whose address doesn't name the relay.
#[derive(Debug, thiserror::Error)]
#[error("the circuit {address} doesn't say through which relay it goes")]
pub struct NamelessRelay {
    /// The address.
    pub address: Multiaddr,
}

/// Opens and accepts the streams of every Windlass protocol. See [`crate::streams`].
pub struct Behaviour {
    limits: Limits,
    registry: Arc<Registry>,
    peers: Peers,
    dialer: Dialer,
    /// Connections that have a handler and aren't established yet; others may still refuse them.
    arriving: HashMap<ConnectionId, Arc<Link>>,
    punches: Punches,
    draining: Draining,
    to_close: Vec<(PeerId, CloseConnection)>,
    whereabouts: Whereabouts,
    commands: mpsc::Receiver<Command>,
    notices: mpsc::UnboundedReceiver<Notice>,
}

impl Behaviour {
    /// The behaviour and its handle.
    pub fn new(limits: Limits) -> (Self, Control) {
        let (command_sender, commands) = mpsc::channel(limits::COMMANDS);
        let (notice_sender, notices) = mpsc::unbounded_channel();
        let registry = Arc::new(Registry::default());
        let control = Control::new(registry.clone(), command_sender, notice_sender.clone());
        let behaviour = Self {
            peers: Peers::new(limits.clone(), control.snapshot(), notice_sender),
            limits,
            registry,
            dialer: Dialer::default(),
            arriving: HashMap::new(),
            punches: Punches::default(),
            draining: Draining::default(),
            to_close: Vec::new(),
            whereabouts: control.whereabouts(),
            commands,
            notices,
        };
        (behaviour, control)
    }

    /// How much is held right now.
    pub fn usage(&self) -> Usage {
        let mut usage = self.peers.usage();
        usage.connections += self.arriving.len();
        usage.dials += self.dialer.len();
        usage
    }

    fn arrive(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        let Some(path) = Path::through(address) else {
            return Err(ConnectionDenied::new(NamelessRelay { address: address.clone() }));
        };
        let (requests, receiver) = mpsc::unbounded_channel();
        let ip = if path.is_relayed() { None } else { ip_of(remote) };
        let link = Link::new(peer, id, path, ip, requests);
        self.arriving.insert(id, link.clone());
        Ok(Handler::new(link, receiver, self.registry.clone(), self.limits.inbound_per_connection))
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Open { peer, caller, addresses, want } => {
                if self.peers.want_stream(peer, caller, want) {
                    self.serve(peer, addresses);
                }
            }
            Command::Connect { peer, caller, addresses, want } => {
                if self.peers.want_connection(peer, caller, want) {
                    self.serve(peer, addresses);
                }
            }
            Command::Punch { peer, addresses, role, want } => {
                self.punches.begin(peer, addresses, role, want);
            }
            Command::Disconnect { peer } => {
                self.peers.closing(peer);
                self.to_close.push((peer, CloseConnection::All));
            }
            Command::Close { peer, connection } => {
                self.peers.closing_one(peer, connection);
                self.to_close.push((peer, CloseConnection::One(connection)));
            }
        }
    }

    /// Serves a new caller: over the connections there are, else over one to be made.
    fn serve(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.peers.dispatch(peer);
        if !self.peers.is_connected(&peer) {
            self.dialer.reach(&mut self.peers, peer, addresses);
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(link) = self.arriving.remove(&id) else { return };
        let info = link.info();
        self.peers.connected(link);
        self.dialer.connected(&mut self.peers, peer, id, !info.path.is_relayed());
        self.punches.connected(peer, info);
        self.draining.note(&self.peers, peer);
        self.peers.dispatch(peer);
    }

    fn on_closed(&mut self, peer: PeerId, id: ConnectionId) {
        self.peers.disconnected(peer, id);
        if self.peers.is_connected(&peer) {
            self.peers.dispatch(peer);
        } else if !self.peers.is_dialing(&peer) {
            self.peers.fail_waiting(peer, &OpenError::Closed { peer, source: None });
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local_address: &Multiaddr,
        remote_address: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.arrive(id, peer, local_address, remote_address)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.arrive(id, peer, address, address)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.on_established(event.peer_id, event.connection_id);
            }
            FromSwarm::ConnectionClosed(event) => self.on_closed(event.peer_id, event.connection_id),
            FromSwarm::DialFailure(event) => {
                self.arriving.remove(&event.connection_id);
                self.punches.failed(event.connection_id, event.error);
                self.dialer.failed(&mut self.peers, event.connection_id, event.error);
            }
            FromSwarm::ListenFailure(event) => {
                self.arriving.remove(&event.connection_id);
            }
            FromSwarm::ExternalAddrConfirmed(event) => self.whereabouts.add(event.addr),
            FromSwarm::ExternalAddrExpired(event) => self.whereabouts.remove(event.addr),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(opts) = self.dialer.next().or_else(|| self.punches.next()) {
                return Poll::Ready(ToSwarm::Dial { opts });
            }
            if let Some((peer_id, connection)) = self.to_close.pop() {
                return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection });
            }
            if let Poll::Ready(Some(notice)) = self.notices.poll_recv(cx) {
                self.peers.apply(notice);
                continue;
            }
            if let Poll::Ready(Some(command)) = self.commands.poll_recv(cx) {
                self.execute(command);
                continue;
            }
            if let Poll::Ready(drained) = self.draining.poll(&mut self.peers, cx) {
                let close = |(peer, id)| (peer, CloseConnection::One(id));
                self.to_close.extend(drained.into_iter().map(close));
                continue;
            }
            if self.dialer.poll(&mut self.peers, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
