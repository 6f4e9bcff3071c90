//! The relay as the rest of Windlass sees it: a server behaviour for nodes, a client behaviour and
//! transport for devices. Today both are libp2p's stock circuit relay v2 with its caps lifted; a
//! server of our own on the same wire format takes their place here.
//!
//! It never sees plaintext: the two devices run their own Noise handshake through the circuit.

use std::time::Duration;

use libp2p::{PeerId, relay};

pub use libp2p::relay::{
    Behaviour as Server, Event as ServerEvent,
    client::{Behaviour as Client, Event as ClientEvent, Transport as ClientTransport},
};

use crate::limits;

/// What one relay grants. The defaults are those of [`crate::limits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayLimits {
    /// Reservations held at a time.
    pub reservations: usize,
    /// Life of a reservation.
    pub reservation_life: Duration,
    /// Circuits carried at a time.
    pub circuits: usize,
    /// Circuits carried at a time for one caller.
    pub circuits_per_peer: usize,
    /// Life of a circuit.
    pub circuit_life: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            reservations: limits::RESERVATIONS,
            reservation_life: limits::RESERVATION_LIFE,
            circuits: limits::CIRCUITS,
            circuits_per_peer: limits::CIRCUITS_PER_PEER,
            circuit_life: limits::CIRCUIT_LIFE,
        }
    }
}

/// The server side. It answers only while the swarm knows an external address of its own: a
/// reservation names the addresses at which the device can be reached, so without one it is useless.
pub fn server(local: PeerId, limits: &RelayLimits) -> Server {
    relay::Behaviour::new(local, config(limits))
}

/// The client side: a transport that dials and listens through relays, and the behaviour that feeds
/// it. Both must go into the same swarm.
pub fn client(local: PeerId) -> (ClientTransport, Client) {
    relay::client::new(local)
}

/// The stock defaults fit a public good shared by strangers: 128 KiB and two minutes per circuit, 60
/// reservations per IP address and hour. Ours carries whole sessions and every device may sit behind
/// one address, so totals and per-address rates go; how many at a time stays bounded.
fn config(limits: &RelayLimits) -> relay::Config {
    relay::Config {
        max_reservations: limits.reservations,
        // A device needs one, and a second while the first one's connection is dying. The stock
        // check lets one more than this through.
        max_reservations_per_peer: 1,
        reservation_duration: limits.reservation_life,
        reservation_rate_limiters: Vec::new(),
        max_circuits: limits.circuits,
        max_circuits_per_peer: limits.circuits_per_peer,
        max_circuit_duration: limits.circuit_life,
        // Zero bytes means no cap.
        max_circuit_bytes: 0,
        circuit_src_rate_limiters: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_total_is_capped_and_no_rate_limited() {
        let config = config(&RelayLimits::default());
        assert_eq!(config.max_circuit_bytes, 0);
        assert!(config.reservation_rate_limiters.is_empty() && config.circuit_src_rate_limiters.is_empty());
        // The wire carries the duration as a u32 of seconds, and the stock server panics beyond it.
        assert!(u32::try_from(config.max_circuit_duration.as_secs()).is_ok());
    }
}
