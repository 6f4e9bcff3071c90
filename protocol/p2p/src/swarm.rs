//! A node's and a device's swarm: which transports, which behaviours, in which order.
//!
//! It starts no task: whoever builds a swarm polls it, from one task, and that task waits for nothing
//! else. Listening, external addresses and reservations are the owner's business too.

use std::{convert::Infallible, time::Duration};

use libp2p::{
    Swarm, SwarmBuilder, connection_limits, connection_limits::ConnectionLimits, identify,
    identity::PublicKey, noise, ping, swarm::NetworkBehaviour, tcp, yamux,
};
#[cfg(feature = "quic")]
use libp2p::{swarm::behaviour::toggle::Toggle, upnp};
use windlass_protocol::SecretKey;

use crate::{
    admission, discreet, identity, limits, relay,
    streams::{self, Control},
};

/// What our side calls itself to identify; it says which wire formats to expect, not which release.
pub const PROTOCOL_VERSION: &str = "/windlass/1";

/// Why a swarm couldn't be put together.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Noise couldn't take the key.
    #[error("can't set up Noise with this key: {0}")]
    Noise(#[from] noise::Error),
}

/// The behaviours of a node; the first to refuse saves the most work.
#[derive(NetworkBehaviour)]
#[behaviour(to_swarm = "NodeEvent")]
pub struct NodeBehaviour {
    /// Key types.
    pub admission: admission::Behaviour,
    /// How many connections.
    pub limits: connection_limits::Behaviour,
    /// Who we say we are.
    pub identify: identify::Behaviour,
    /// Whether connections are alive.
    pub ping: ping::Behaviour,
    /// Our protocols, and the relay's.
    pub streams: streams::Behaviour,
    /// Ports that a router opens for us.
    #[cfg(feature = "quic")]
    pub upnp: Toggle<upnp::tokio::Behaviour>,
}

/// The behaviours of a device.
#[derive(NetworkBehaviour)]
#[behaviour(to_swarm = "DeviceEvent")]
pub struct DeviceBehaviour {
    /// Key types.
    pub admission: admission::Behaviour,
    /// How many connections.
    pub limits: connection_limits::Behaviour,
    /// Who we say we are; never where.
    pub identify: discreet::Behaviour,
    /// Whether connections are alive.
    pub ping: ping::Behaviour,
    /// Reservations and circuits, from the device's side.
    pub relay: relay::Client,
    /// Our protocols.
    pub streams: streams::Behaviour,
    /// Ports that a router opens for us.
    #[cfg(feature = "quic")]
    pub upnp: Toggle<upnp::tokio::Behaviour>,
}

/// What a node's behaviours report.
#[derive(Debug)]
pub enum NodeEvent {
    /// A peer said who it is.
    Identify(Box<identify::Event>),
    /// A ping came back, or didn't.
    Ping(ping::Event),
    /// A router opened a port, closed it, or won't.
    #[cfg(feature = "quic")]
    Upnp(upnp::Event),
}

/// What a device's behaviours report.
#[derive(Debug)]
pub enum DeviceEvent {
    /// A peer said who it is.
    Identify(Box<identify::Event>),
    /// A ping came back, or didn't.
    Ping(ping::Event),
    /// Something happened to a reservation or circuit.
    Relay(relay::ClientEvent),
    /// A router opened a port, closed it, or won't.
    #[cfg(feature = "quic")]
    Upnp(upnp::Event),
}

macro_rules! events {
    ($events:ty) => {
        impl From<identify::Event> for $events {
            fn from(event: identify::Event) -> Self {
                Self::Identify(Box::new(event))
            }
        }
        impl From<ping::Event> for $events {
            fn from(event: ping::Event) -> Self {
                Self::Ping(event)
            }
        }
        #[cfg(feature = "quic")]
        impl From<upnp::Event> for $events {
            fn from(event: upnp::Event) -> Self {
                Self::Upnp(event)
            }
        }
        impl From<Infallible> for $events {
            fn from(never: Infallible) -> Self {
                match never {}
            }
        }
    };
}
events!(NodeEvent);
events!(DeviceEvent);

impl From<relay::ClientEvent> for DeviceEvent {
    fn from(event: relay::ClientEvent) -> Self {
        Self::Relay(event)
    }
}

/// What a node's swarm is made of.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// What to call ourselves to peers, such as `windlass-node/0.1.0`.
    pub agent: String,
    /// Bounds on streams.
    pub streams: streams::Limits,
    /// Established connections in all.
    pub connections: u32,
    /// How long a connection without a stream is kept, unless it is held.
    pub idle: Duration,
    /// Whether to ask the router for open ports.
    pub upnp: bool,
}

impl NodeConfig {
    /// Shipped limits.
    pub fn new(agent: impl Into<String>) -> Self {
        Self {
            agent: agent.into(),
            streams: streams::Limits::default(),
            connections: limits::NODE_CONNECTIONS,
            idle: limits::IDLE,
            upnp: false,
        }
    }
}

/// What a device's swarm is made of.
#[derive(Debug, Clone)]
pub struct DeviceConfig {
    /// What to call ourselves to peers, such as `windlass-client/0.1.0`.
    pub agent: String,
    /// Bounds on streams.
    pub streams: streams::Limits,
    /// Established connections in all.
    pub connections: u32,
    /// Whether to ask the router for open ports. What it opens is told to nobody by itself.
    pub upnp: bool,
}

impl DeviceConfig {
    /// Shipped limits.
    pub fn new(agent: impl Into<String>) -> Self {
        Self {
            agent: agent.into(),
            streams: streams::Limits::default(),
            connections: limits::DEVICE_CONNECTIONS,
            upnp: false,
        }
    }
}

/// A node's swarm and the handle of its streams: TCP with Noise and yamux, and QUIC. Whoever has the handle may start a
/// [`relay::Server`] on it, which answers once the owner has told the swarm an external address.
pub fn node_swarm(
    secret: &SecretKey,
    config: &NodeConfig,
) -> Result<(Swarm<NodeBehaviour>, Control), BuildError> {
    let keypair = identity::keypair(secret);
    let (streams, control) = streams::Behaviour::new(config.streams.clone());
    let behaviour = NodeBehaviour {
        admission: admission::Behaviour::default(),
        limits: connection_limits(config.connections),
        identify: identify(keypair.public(), &config.agent, false),
        ping: ping(),
        streams,
        #[cfg(feature = "quic")]
        upnp: upnp(config.upnp),
    };
    let builder = SwarmBuilder::with_existing_identity(keypair).with_tokio();
    let builder = builder.with_tcp(tcp(), noise::Config::new, muxer)?;
    #[cfg(feature = "quic")]
    let builder = builder.with_quic_config(quic);
    let swarm = builder
        .with_behaviour(|_| behaviour)
        .unwrap_or_else(|never: Infallible| match never {})
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(config.idle))
        .with_connection_timeout(limits::HANDSHAKE)
        .build();
    Ok((swarm, control))
}

/// A device's swarm and the handle of its streams: TCP with Noise and yamux, QUIC, and circuits through relays.
/// It listens nowhere until told to.
pub fn device_swarm(
    secret: &SecretKey,
    config: &DeviceConfig,
) -> Result<(Swarm<DeviceBehaviour>, Control), BuildError> {
    let keypair = identity::keypair(secret);
    let (streams, control) = streams::Behaviour::new(config.streams.clone());
    let builder = SwarmBuilder::with_existing_identity(keypair).with_tokio();
    let builder = builder.with_tcp(tcp(), noise::Config::new, muxer)?;
    #[cfg(feature = "quic")]
    let builder = builder.with_quic_config(quic);
    let swarm = builder
        .with_relay_client(noise::Config::new, muxer)?
        .with_behaviour(|keypair, relay| DeviceBehaviour {
            admission: admission::Behaviour::default(),
            limits: connection_limits(config.connections),
            identify: discreet::Behaviour::new(identify(keypair.public(), &config.agent, true)),
            ping: ping(),
            relay,
            streams,
            #[cfg(feature = "quic")]
            upnp: upnp(config.upnp),
        })
        .unwrap_or_else(|never: Infallible| match never {})
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(limits::IDLE))
        .with_connection_timeout(limits::HANDSHAKE)
        .build();
    Ok((swarm, control))
}

/// Closes the connection of a ping that failed: the stock behaviour only reports it. A peer that
/// doesn't speak ping is left alone.
pub fn close_if_dead<B: NetworkBehaviour>(swarm: &mut Swarm<B>, event: &ping::Event) {
    match &event.result {
        Ok(_) | Err(ping::Failure::Unsupported) => {}
        Err(failure) => {
            tracing::info!(peer = %event.peer, %failure, "closing a connection that doesn't answer");
            swarm.close_connection(event.connection);
        }
    }
}

fn tcp() -> tcp::Config {
    tcp::Config::default().nodelay(true)
}

/// QUIC carries its own muxer: a stream beyond the limit waits instead of costing the connection. Windows are bounded
/// per connection here, where yamux has none to set.
#[cfg(feature = "quic")]
fn quic(mut config: libp2p::quic::Config) -> libp2p::quic::Config {
    config.handshake_timeout = limits::HANDSHAKE;
    config.keep_alive_interval = limits::QUIC_KEEP_ALIVE;
    config.max_idle_timeout = u32::try_from(limits::QUIC_SILENCE.as_millis()).unwrap_or(u32::MAX);
    config.max_concurrent_stream_limit = u32::try_from(limits::MUXED_STREAMS).unwrap_or(u32::MAX);
    config.max_stream_data = limits::QUIC_STREAM_WINDOW;
    config.max_connection_data = limits::QUIC_CONNECTION_WINDOW;
    config
}

/// Looks for a router only where that is wanted.
#[cfg(feature = "quic")]
fn upnp(is_wanted: bool) -> Toggle<upnp::tokio::Behaviour> {
    is_wanted.then(upnp::tokio::Behaviour::default).into()
}

fn muxer() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(limits::MUXED_STREAMS);
    config
}

fn ping() -> ping::Behaviour {
    let config = ping::Config::new();
    ping::Behaviour::new(config.with_interval(limits::PING_INTERVAL).with_timeout(limits::PING_TIMEOUT))
}

/// Identify remembers nothing it heard: addresses come from signed routes, never from a peer's word.
fn identify(key: PublicKey, agent: &str, hide_addresses: bool) -> identify::Behaviour {
    let config = identify::Config::new(PROTOCOL_VERSION.to_owned(), key)
        .with_agent_version(agent.to_owned())
        .with_hide_listen_addrs(hide_addresses)
        .with_cache_size(0);
    identify::Behaviour::new(config)
}

/// Strangers can't take every place: some are kept for what we dial ourselves.
fn connection_limits(established: u32) -> connection_limits::Behaviour {
    let kept = (established / 4).min(limits::KEPT_FOR_DIALS);
    let config = ConnectionLimits::default()
        .with_max_pending_incoming(Some(limits::PENDING_HANDSHAKES))
        .with_max_pending_outgoing(Some(limits::PENDING_DIALS))
        .with_max_established_incoming(Some(established - kept))
        .with_max_established_per_peer(Some(limits::CONNECTIONS_PER_PEER))
        .with_max_established(Some(established));
    connection_limits::Behaviour::new(config)
}
