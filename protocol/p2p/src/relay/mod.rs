//! The relay: our own server of libp2p's circuit relay v2 for nodes; the stock client for devices.
//!
//! | file | owns |
//! | --- | --- |
//! | `wire` | the messages, byte by byte |
//! | `policy` | the question whom to serve |
//! | `server` | requests, reservations, circuits: the tasks |
//! | `ledger` | who has what, and every cap |
//! | `rates` | how often a peer may ask |
//! | `circuit` | moving one circuit's bytes |
//! | `buffers`, `bandwidth`, `meter` | the memory, the rate and the count of these bytes |
//!
//! A relay sees who talks to whom, when, and how much; never plaintext: the two devices run their own Noise handshake
//! through the circuit. Stock clients of any libp2p reserve and dial through it.

mod bandwidth;
mod buffers;
mod circuit;
mod ledger;
mod meter;
mod policy;
mod rates;
mod server;
#[cfg(test)]
mod tests;
mod wire;

use libp2p::{PeerId, relay};

pub use ledger::{Caps, NoPlace};
pub use libp2p::relay::client::{Behaviour as Client, Event as ClientEvent, Transport as ClientTransport};
pub use meter::Usage;
pub use policy::{Everybody, Group, NotReady, Policy, Standing};
pub(crate) use rates::Rates;
pub use server::{HOP, RelayConfig, RelayStats, STOP, Server};
pub use wire::{Granted, HopRequest, MAX_MESSAGE, Status, WireError};

/// The client side: a transport that dials and listens through relays, and the behaviour that feeds
/// it. Both must go into the same swarm.
pub fn client(local: PeerId) -> (ClientTransport, Client) {
    relay::client::new(local)
}
