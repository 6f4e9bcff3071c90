//! Streams over real sockets on loopback. `host` runs a swarm as a node or a device does.
#![allow(clippy::unwrap_used)]

mod counting;
#[cfg(feature = "quic")]
mod direct;
mod ends;
pub(crate) mod host;
mod limits;
mod opening;
#[cfg(feature = "quic")]
mod quic;
mod relayed;
