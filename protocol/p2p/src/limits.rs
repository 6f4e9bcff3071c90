//! The bounds of the network layer, each with its unit and the reason for its size.
//!
//! Everything here is a starting point that a node or a device may lower; nothing here is negotiated
//! with the other side.

use std::time::Duration;

/// Bytes of payload in one frame. Sixteen questions with their proofs fit; a stranger can make us
/// hold no more than this per stream before we have understood a word of it.
pub const MAX_FRAME: usize = 64 * 1024;

/// Bytes of a frame's length prefix: three groups of seven bits cover [`MAX_FRAME`].
pub const MAX_FRAME_PREFIX: usize = 3;

/// Bytes read at a time while a frame arrives. The buffer grows by what came in, so claiming a
/// length costs the claimer as much as it costs us.
pub const FRAME_CHUNK: usize = 4 * 1024;

/// Bytes of a chunk that a stream holds while the muxer has no room for them, its length included: what yamux
/// sends in one frame, so that larger chunks would be taken apart again.
pub const STAGED_BYTES: usize = 16 * 1024;

/// Streams we keep open to one peer at a time, over all its connections.
pub const STREAMS_PER_PEER: usize = 256;

/// Streams to one peer whose protocol is being negotiated at a time. Below the 128 that a libp2p
/// listener negotiates at once, so that a burst of ours is never reset by the other side.
pub const OPENING_PER_PEER: usize = 32;

/// Callers that may wait for a stream or a connection to one peer; the next one is told `Busy`.
pub const WAITING_PER_PEER: usize = 1024;

/// Streams that a peer may keep open to us on one connection. Twice [`STREAMS_PER_PEER`]: the opener
/// counts a stream as gone before we do.
pub const INBOUND_PER_CONNECTION: usize = 512;

/// Commands waiting for the task that owns the swarm. Callers beyond it wait within their deadline.
pub const COMMANDS: usize = 1024;

/// Addresses tried for one peer in one dial, whoever asked.
pub const ADDRESSES_PER_DIAL: usize = 16;

/// How long direct addresses have for themselves before relays are tried as well
/// (RFC 8305 recommends 250 ms between attempts).
pub const DIRECT_HEAD_START: Duration = Duration::from_millis(250);

/// Streams of all kinds on one connection. yamux drops the whole connection beyond it, and with a relay's connection
/// every circuit through it; so it covers all there can be: what we open, what we accept, one for each circuit that a
/// device holds, accepts or dials through one relay, and 256 more for identify, ping and what has just ended.
///
/// It doesn't bound what a peer can make us buffer: yamux lets a stream's window grow from 256 KiB while it is read, to
/// 1 GiB over all streams of a connection, and libp2p offers no way to say less. A peer fills only what we have read as
/// much of before; who is let in at all is bounded by the connections.
pub const MUXED_STREAMS: usize = STREAMS_PER_PEER + INBOUND_PER_CONNECTION + CIRCUITS_PER_DEVICE + 256;

/// Circuits that one device can have through one relay, those under way included: its connections, and what becomes one.
const CIRCUITS_PER_DEVICE: usize = (DEVICE_CONNECTIONS + PENDING_HANDSHAKES + PENDING_DIALS) as usize;

/// Time for a transport to connect, authenticate and agree on a muxer.
pub const HANDSHAKE: Duration = Duration::from_secs(5);

/// Inbound connections whose handshake is under way; more are refused at once.
pub const PENDING_HANDSHAKES: u32 = 512;

/// Of these, how many from one /32 of IPv4 or /56 of IPv6: one host can't keep out everybody else. This machine itself
/// is not counted.
pub const PENDING_PER_NETWORK: u32 = 16;

/// Outbound connections being made.
pub const PENDING_DIALS: u32 = 512;

/// Connections with one peer: a direct and a relayed one, each from both sides.
pub const CONNECTIONS_PER_PEER: u32 = 4;

/// Established connections of a node: every device it may hold a reservation for, plus callers.
pub const NODE_CONNECTIONS: u32 = 65_536;

/// Established connections of a device, relayed ones included.
pub const DEVICE_CONNECTIONS: u32 = 1024;

/// Of these, at most so many, and a quarter, are for connections we dial: whatever strangers do, a device reaches its
/// nodes and a node the other nodes.
pub const KEPT_FOR_DIALS: u32 = 256;

/// How long a connection without a stream is kept for the next one.
pub const IDLE: Duration = Duration::from_secs(60);

/// Time between pings, well under the five minutes after which home routers forget a connection.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Time for a ping's answer; a connection whose ping fails should be closed.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Reservations one relay grants.
pub const RESERVATIONS: usize = 65_536;

/// Circuits one relay carries at a time.
pub const CIRCUITS: usize = 16_384;

/// Circuits one caller may have at a time through one relay.
pub const CIRCUITS_PER_PEER: usize = 256;

/// Life of a reservation; the device renews it well before.
pub const RESERVATION_LIFE: Duration = Duration::from_secs(60 * 60);

/// Life of a circuit. The stock relay counts it down whatever happens on the circuit and has no way
/// to say "for ever" (zero fires at once), so this is ten years.
pub const CIRCUIT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
