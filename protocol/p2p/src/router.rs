//! Ports that a home's router opened for this process, closed again in the end.
//!
//! Owns the farewell alone. libp2p's behaviour asks for the ports and renews them, but says nothing to the router when it
//! is dropped, and a lease lasts an hour: for so long whoever gets this machine's address next would be reached through them.

use igd_next::{PortMappingProtocol, SearchOptions, aio::tokio::search_gateway};
use libp2p::{Multiaddr, multiaddr::Protocol};
use std::time::Duration;
use tokio::time::timeout;

/// Seconds for all of it. A router answers within milliseconds; one that doesn't keeps nobody from ending.
const FAREWELL: Duration = Duration::from_secs(2);

/// Has the router close the ports of these addresses, as its events named them. Without any it isn't asked at all.
pub async fn close_ports(opened: &[Multiaddr]) {
    let ports: Vec<_> = opened.iter().filter_map(port).collect();
    if ports.is_empty() {
        return;
    }
    let farewell = async {
        let router = search_gateway(SearchOptions::default()).await?;
        for (protocol, port) in &ports {
            // The others may be open although this one isn't.
            if let Err(error) = router.remove_port(*protocol, *port).await {
                tracing::debug!(%protocol, port, %error, "the router didn't close a port");
            }
        }
        Ok::<_, igd_next::SearchError>(())
    };
    match timeout(FAREWELL, farewell).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "no router to close ports"),
        Err(_) => tracing::debug!(after = ?FAREWELL, "gave up having ports closed"),
    }
}

fn port(address: &Multiaddr) -> Option<(PortMappingProtocol, u16)> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some((PortMappingProtocol::TCP, port)),
        Protocol::Udp(port) => Some((PortMappingProtocol::UDP, port)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_each_transport_is_the_one_that_was_opened() {
        let of = |address: &str| port(&address.parse().expect("a multiaddr"));
        assert_eq!(of("/ip4/11.0.0.7/tcp/4001"), Some((PortMappingProtocol::TCP, 4001)));
        assert_eq!(of("/ip4/11.0.0.7/udp/4002/quic-v1"), Some((PortMappingProtocol::UDP, 4002)));
        assert_eq!(of("/ip4/11.0.0.7"), None);
    }
}
