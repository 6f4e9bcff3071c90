//! What nodes and devices share on libp2p: who a peer is, how messages are framed, how streams are
//! opened and accepted, how bytes are relayed, and how a swarm is put together.
//!
//! Nothing here knows the registry: whether a peer may do what it asks is decided above, by the node
//! or the client. Nothing here owns a task either, the relay's requests apart: a swarm is driven by the one
//! task of whoever built it, and the bytes of streams never pass through that task.
//!
//! | module | owns |
//! | --- | --- |
//! | [`identity`] | secret key → libp2p key pair; PeerId ↔ key address |
//! | [`frame`] | one length-prefixed frame, read or written |
//! | [`chunks`] | chunks with an unmistakable end, for bytes that are not messages |
//! | [`discreet`] | what a device says of itself to whoever is connected |
//! | [`path`] | direct or relayed, and which is better |
//! | [`streams`] | the behaviour that opens and accepts streams, and its handle |
//! | [`punch`] | from a relayed connection to a direct one |
//! | [`autonat`] | whether an address is reached from outside |
//! | [`relay`] | our own relay server, and the client of relays |
//! | `router` | ports that a home's router opened, closed again in the end |
//! | [`misbehaviour`] | one line in the log for each misbehaviour |
//! | [`admission`] | refuses peers whose key isn't secp256k1 |
//! | [`swarm`] | transports and behaviours of a node and of a device |
//! | [`limits`] | every bound |

pub mod admission;
pub mod autonat;
pub mod chunks;
pub mod discreet;
pub mod frame;
pub mod identity;
pub mod limits;
pub mod misbehaviour;
pub mod path;
mod protobuf;
pub mod punch;
pub mod relay;
#[cfg(feature = "quic")]
pub mod router;
pub mod streams;
pub mod swarm;

pub use chunks::{ChunkStream, Cut};
pub use libp2p::{self, Multiaddr, PeerId, StreamProtocol};
pub use path::{Path, Transport};
pub use streams::{Control, Incoming, OpenError, PeerStream};
