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

/// How long one way to a peer has for itself before the next one is tried as well: a transport, the other, one relay after
/// the other (RFC 8305 recommends 250 ms between attempts). Where UDP is blocked, this is what it costs.
pub const HEAD_START: Duration = Duration::from_millis(250);

/// Time between two packets of a QUIC connection on which nothing else happens; routers forget UDP after 30 s.
pub const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A QUIC connection from which nothing comes for this long is over.
pub const QUIC_SILENCE: Duration = Duration::from_secs(45);

/// Bytes that a peer may send ahead on one QUIC stream, and over all streams of a connection: one fast flow over a far
/// link, and what a peer can make us hold.
pub const QUIC_STREAM_WINDOW: u32 = 4 << 20;
/// See [`QUIC_STREAM_WINDOW`].
pub const QUIC_CONNECTION_WINDOW: u32 = 8 << 20;

/// Dials for a direct way beside a relayed one, at a time.
pub const PUNCHES: usize = 64;

/// Addresses that a device tells, and dials on the word of another, for a direct way: both transports and families, in the
/// house and outside.
pub const PUNCH_ADDRESSES: usize = 12;

/// Between two looks whether a relayed connection beside a direct one is needed any more; it is closed when nothing ran on
/// it at two in a row.
pub const DRAIN_LOOK: Duration = Duration::from_secs(1);

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

/// Addresses of our own that are remembered: those that are configured, or listened on.
pub const EXTERNAL_ADDRESSES: usize = 64;

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

/// Of these, how many strangers may have together: their identities cost nothing.
pub const STRANGER_CIRCUITS: usize = CIRCUITS / 4;

/// Circuits one caller may have at a time through one relay.
pub const CIRCUITS_PER_PEER: usize = 256;

/// Circuits to one device at a time. Each is a stream on the device's connection to the relay, and other people's
/// muxers drop a connection that has more than 512: so many leave a quarter for what isn't a circuit.
pub const CIRCUITS_PER_DESTINATION: usize = 384;

/// Of these, how many may come from outside the device's fleet: its own always finds a place.
pub const FOREIGN_PER_DESTINATION: usize = CIRCUITS_PER_DESTINATION * 3 / 4;

/// How many from any one other fleet: no fleet takes what all others share.
pub const FLEET_PER_DESTINATION: usize = CIRCUITS_PER_DESTINATION / 4;

/// How many from strangers together.
pub const STRANGERS_PER_DESTINATION: usize = CIRCUITS_PER_DESTINATION / 8;

/// Circuits from one caller to one device: [`CONNECTIONS_PER_PEER`] and those that died unnoticed.
pub const CIRCUITS_PER_PAIR: usize = 2 * CONNECTIONS_PER_PEER as usize;

/// Circuits to one device that wait for its word at a time; others wait their turn. Stock clients take ten.
pub const STOPS_PER_DESTINATION: usize = 8;

/// Life of a reservation; the device renews it well before.
pub const RESERVATION_LIFE: Duration = Duration::from_secs(60 * 60);

/// Time for a peer to say what it wants of the relay, and to take the answer.
pub const HOP_DEADLINE: Duration = Duration::from_secs(5);

/// Time for a device to take a circuit, its turn included.
pub const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Requests to the relay that are under way, reservations and circuits that stand not counted.
pub const HOPS: usize = 8_192;

/// Of these, how many of one peer: a burst of circuits to many devices.
pub const HOPS_PER_PEER: usize = 64;

/// Requests to the relay per second and peer, and how many at once.
pub const HOPS_PER_SECOND: f64 = 20.0;
/// See [`HOPS_PER_SECOND`].
pub const HOP_BURST: f64 = 300.0;

/// Requests to the relay waiting to be taken; one beyond is reset. A second's worth of devices coming back.
pub const HOP_QUEUE: usize = 2_048;

/// Circuits on which nothing moves for this long end. What runs through ours is pinged every [`PING_INTERVAL`].
pub const CIRCUIT_IDLE: Duration = Duration::from_secs(5 * 60);

/// How often whoever holds a reservation or a circuit is judged again.
pub const REJUDGE: Duration = Duration::from_secs(60);

/// Time for circuits to end when the relay stops.
pub const RELAY_DRAIN: Duration = Duration::from_secs(3);

/// A circuit that is still for this long while the relay stops has nothing under way, and ends: a few round trips.
pub const RELAY_DRAIN_QUIET: Duration = Duration::from_secs(1);

/// Bytes of a buffer that relayed bytes pass through: four frames of yamux.
pub const RELAY_BUFFER: usize = 64 * 1024;

/// Such buffers at a time: 64 MiB. They are all in use only when that many receivers don't keep up.
pub const RELAY_BUFFERS: usize = 1_024;

/// Of these, how many are kept for the next bytes when nobody uses them: 8 MiB.
pub const RELAY_BUFFERS_KEPT: usize = 128;

/// Bytes of the buffers that circuits go on with when there are no others: 128 MiB if every circuit is stuck both ways.
pub const RELAY_SMALL_BUFFER: usize = 4 * 1024;

/// Bytes that one circuit forwards before others get their turn on the same thread.
pub const RELAY_TURN: usize = 256 * 1024;

/// Bytes that a circuit may forward each time its turn at a limited rate comes: a frame of yamux.
pub const RELAY_QUANTUM: usize = 16 * 1024;

/// How long a rate may be saved up.
pub const RELAY_BURST: Duration = Duration::from_millis(50);

/// Addresses of itself that a relay names in a reservation: more don't fit into its message.
pub const RELAY_ADDRESSES: usize = 16;

/// Devices whose relayed bytes are told apart; twice as many as circuits have ends.
pub const METERED_PEERS: usize = 4 * CIRCUITS;

/// Peers whose rate of requests is remembered.
pub const RATED_PEERS: usize = 65_536;

/// Lines about misbehaviour per second, over all peers; one address gets one. Enough for a filter that bans by them.
pub const MISBEHAVIOUR_LINES_PER_SECOND: u32 = 20;

/// Requests to dial back that are answered at a time: each has a swarm of its own for as long.
pub const AUTONAT_AT_ONCE: usize = 64;

/// Such requests per second and peer, and how many at once: a device has a few addresses, and they seldom change.
pub const AUTONAT_PER_SECOND: f64 = 0.2;
/// See [`AUTONAT_PER_SECOND`].
pub const AUTONAT_BURST: f64 = 16.0;

/// Time for a device's address to be dialled and the nonce to be said there.
pub const AUTONAT_DIAL: Duration = Duration::from_secs(5);

/// Time for a whole request.
pub const AUTONAT_DEADLINE: Duration = Duration::from_secs(10);
