//! The task that owns the swarm: listening and connections.
//!
//! It only drives libp2p and counts; who may have a stream is decided by whoever accepts it. Bytes of streams
//! never pass through this task, and it waits for nobody.

use crate::limits::LISTEN_DEADLINE;
use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm, multiaddr::Protocol, upnp};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_util::sync::CancellationToken;
use windlass_p2p::router::close_ports;
use windlass_p2p::swarm::{BuildError, NodeBehaviour, NodeEvent, close_if_dead, node_swarm};
use windlass_p2p::{Control, swarm};
use windlass_protocol::SecretKey;

const AGENT: &str = concat!("windlass-node/", env!("CARGO_PKG_VERSION"));

/// Why the network couldn't be started.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The swarm.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// An address that can't be listened on.
    #[error(
        "can't listen on {address}: {reason}; choose another address or port in `listen`, or stop what holds it"
    )]
    Listen {
        /// The configured address.
        address: Multiaddr,
        /// Why not.
        reason: String,
    },
    /// The system reported no address in time.
    #[error("no address to listen on was ready within {} s", LISTEN_DEADLINE.as_secs())]
    Silent,
}

/// What the network task counts.
#[derive(Debug, Default)]
pub struct NetworkStats {
    connections: AtomicUsize,
}

impl NetworkStats {
    /// Established connections.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// The swarm, listening.
pub struct Network {
    swarm: Swarm<NodeBehaviour>,
    /// Configured external addresses; without any, where we listen is where we are.
    external: Vec<Multiaddr>,
    /// What is listened on, in the order of the configuration.
    listeners: Vec<Listener>,
    /// What a router opened for this node.
    opened: Vec<Multiaddr>,
    stats: Arc<NetworkStats>,
}

/// One configured address, and where that turned out to be.
struct Listener {
    id: ListenerId,
    configured: Multiaddr,
    addresses: Vec<Multiaddr>,
}

impl Network {
    /// Builds the swarm and waits until it listens on every configured address.
    pub async fn listen(
        key: &SecretKey,
        listen: &[Multiaddr],
        external: Vec<Multiaddr>,
    ) -> Result<(Self, Control), ListenError> {
        Self::listen_with(key, listen, external, false).await
    }

    /// The same, and asks the router to open these ports if so wanted.
    pub async fn listen_with(
        key: &SecretKey,
        listen: &[Multiaddr],
        external: Vec<Multiaddr>,
        upnp: bool,
    ) -> Result<(Self, Control), ListenError> {
        let (swarm, control) = node_swarm(key, &swarm::NodeConfig { upnp, ..swarm::NodeConfig::new(AGENT) })?;
        let mut network =
            Self { swarm, external, listeners: Vec::new(), opened: Vec::new(), stats: Arc::default() };
        for address in network.external.clone() {
            network.swarm.add_external_address(address);
        }
        for address in listen {
            check_free(address)?;
            let id = network.swarm.listen_on(address.clone()).map_err(|error| refused(address, &error))?;
            network.listeners.push(Listener { id, configured: address.clone(), addresses: Vec::new() });
        }
        match tokio::time::timeout(LISTEN_DEADLINE, network.wait_until_listening()).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(ListenError::Silent),
        }
        Ok((network, control))
    }

    async fn wait_until_listening(&mut self) -> Result<(), ListenError> {
        while self.listeners.iter().any(|listener| listener.addresses.is_empty()) {
            let event = self.swarm.select_next_some().await;
            if let SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } = &event
                && let Some(listener) = self.listeners.iter().find(|listener| listener.id == *listener_id)
            {
                return Err(refused(&listener.configured, error));
            }
            self.handle(event);
        }
        Ok(())
    }

    /// Where this node is, each ending in its peer id, in the order of the configuration.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        let peer = *self.swarm.local_peer_id();
        let listening = || self.listeners.iter().flat_map(|listener| &listener.addresses);
        let reachable: Vec<&Multiaddr> =
            if self.external.is_empty() { listening().collect() } else { self.external.iter().collect() };
        reachable.into_iter().map(|address| address.clone().with(Protocol::P2p(peer))).collect()
    }

    /// Who this node is.
    pub fn peer_id(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    /// What the task counts.
    pub fn stats(&self) -> Arc<NetworkStats> {
        self.stats.clone()
    }

    /// Drives the swarm until cancelled.
    pub async fn run(mut self, cancelled: CancellationToken) {
        loop {
            tokio::select! {
                () = cancelled.cancelled() => break,
                event = self.swarm.select_next_some() => self.handle(event),
            }
        }
        close_ports(&self.opened).await;
    }

    fn handle(&mut self, event: SwarmEvent<NodeEvent>) {
        match event {
            SwarmEvent::NewListenAddr { listener_id, address } => self.listening_on(listener_id, address),
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                for listener in &mut self.listeners {
                    listener.addresses.retain(|known| *known != address);
                }
                self.swarm.remove_external_address(&address);
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "a listener closed");
            }
            SwarmEvent::ConnectionEstablished { .. } => {
                self.stats.connections.fetch_add(1, Ordering::Relaxed);
            }
            SwarmEvent::ConnectionClosed { .. } => {
                self.stats.connections.fetch_sub(1, Ordering::Relaxed);
            }
            SwarmEvent::Behaviour(NodeEvent::Ping(event)) => close_if_dead(&mut self.swarm, &event),
            SwarmEvent::Behaviour(NodeEvent::Upnp(event)) => self.on_router(event),
            _ => {}
        }
    }

    fn on_router(&mut self, event: upnp::Event) {
        tracing::info!(?event, "the router");
        match event {
            upnp::Event::NewExternalAddr { external_addr, .. } => self.opened.push(external_addr),
            upnp::Event::ExpiredExternalAddr { external_addr, .. } => {
                self.opened.retain(|known| *known != external_addr);
            }
            upnp::Event::GatewayNotFound | upnp::Event::NonRoutableGateway => {}
        }
    }

    fn listening_on(&mut self, id: ListenerId, address: Multiaddr) {
        tracing::info!(%address, "listening");
        if self.external.is_empty() {
            // A relay without an external address grants no reservations.
            self.swarm.add_external_address(address.clone());
        }
        if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.id == id) {
            listener.addresses.push(address);
        }
    }
}

/// Refuses a TCP port that somebody holds. libp2p shares these (`SO_REUSEPORT`), so two nodes on one port would
/// both start, and each get some of the other's connections. A UDP port that somebody holds is refused below.
fn check_free(address: &Multiaddr) -> Result<(), ListenError> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        // Port 0 is for the system to choose: always a free one.
        Some(Protocol::Tcp(port)) if port != 0 => {
            try_bind((ip, port).into()).map_err(|error| refused(address, &error))
        }
        _ => Ok(()),
    }
}

/// Binds as libp2p will, without sharing: an IPv6 address doesn't take the IPv4 one along.
fn try_bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// The innermost reason: libp2p's layers repeat themselves over several lines.
fn refused(address: &Multiaddr, error: &(dyn std::error::Error + 'static)) -> ListenError {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let reason = innermost.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    ListenError::Listen { address: address.clone(), reason }
}
