//! First packets of QUIC handshakes that nobody goes on with: each as a real client sends it, with a connection id of its
//! own, so whoever gets it has to begin a handshake. They are caught on their way to nobody and can be sent from anywhere.

use anyhow::{Context, bail};
use std::collections::HashSet;
use tokio::net::UdpSocket;
use windlass_p2p::libp2p::core::Endpoint;
use windlass_p2p::libp2p::core::transport::{DialOpts, PortUse, Transport};
use windlass_p2p::libp2p::identity::Keypair;
use windlass_p2p::libp2p::quic;

/// Bytes of the largest datagram that is looked at.
const DATAGRAM: usize = 2048;
/// A long header's first byte, of the type Initial; the rest of it is encrypted.
const INITIAL: (u8, u8) = (0b1111_0000, 0b1100_0000);

/// So many first packets.
pub async fn initials(count: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    let sink = UdpSocket::bind("127.0.0.1:0").await?;
    let at = format!("/ip4/127.0.0.1/udp/{}/quic-v1", sink.local_addr()?.port());
    let mut transport = quic::tokio::Transport::new(quic::Config::new(&Keypair::generate_secp256k1()));
    let (mut known, mut packets) = (HashSet::new(), Vec::with_capacity(count));
    while packets.len() < count {
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
        let handshake = transport.dial(at.parse()?, options).context("cannot dial")?;
        tokio::select! {
            _ = handshake => bail!("somebody else answers"),
            packet = first(&sink, &mut known) => packets.push(packet?),
        }
    }
    Ok(packets)
}

/// The next packet whose connection id is new.
async fn first(sink: &UdpSocket, known: &mut HashSet<Vec<u8>>) -> anyhow::Result<Vec<u8>> {
    let mut packet = vec![0; DATAGRAM];
    loop {
        let length = sink.recv(&mut packet).await?;
        let Some(id) = connection_id(&packet[..length]) else { continue };
        if known.insert(id.to_vec()) {
            packet.truncate(length);
            return Ok(packet);
        }
    }
}

/// The destination's connection id, if this is a first packet: flags, four bytes of version, its length, itself.
fn connection_id(packet: &[u8]) -> Option<&[u8]> {
    let (mask, flags) = INITIAL;
    let length = usize::from(*packet.get(5)?);
    (packet[0] & mask == flags).then(|| packet.get(6..6 + length)).flatten()
}
