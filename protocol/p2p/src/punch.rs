//! From a relayed connection to a direct one: `/libp2p/dcutr` as the libp2p specification has it (`relay/DCUtR.md`).
//!
//! The device that was dialled through the relay *invites*, the one that dialled *answers*; each tells the other where it
//! may be, and both dial at the same moment. Nothing here decides whether a peer may be told: both sides call it only for
//! a connection on which a stream was authorised. It holds no state, and says nothing on its own.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, StreamProtocol, multiaddr::Protocol};

use crate::{
    frame::{FrameError, read_frame_of, write_frame},
    limits::PUNCH_ADDRESSES,
    path::ip_of,
    protobuf::{Fields, Malformed, Value, put_bytes, put_number},
    streams::PeerStream,
};

/// The protocol.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/libp2p/dcutr");

/// Bytes of one message, as the specification's other implementations have it.
const MAX_MESSAGE: usize = 4096;

/// Message types.
const CONNECT: u64 = 100;
const SYNC: u64 = 300;

/// Why two devices could not agree on a moment.
#[derive(Debug, thiserror::Error)]
pub enum PunchError {
    /// The stream.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No message of this protocol, or not the one whose turn it is.
    #[error("the other device doesn't keep to the protocol")]
    Protocol,
    /// It said nothing of use about where it is.
    #[error("the other device named no address that could be dialled")]
    NoAddress,
}

impl From<Malformed> for PunchError {
    fn from(_: Malformed) -> Self {
        Self::Protocol
    }
}

/// Tells the other device where we may be, learns where it may be, and returns when it is time to dial: half a round trip
/// after it was told to.
pub async fn invite(stream: &mut PeerStream, own: &[Multiaddr]) -> Result<Vec<Multiaddr>, PunchError> {
    let asked = Instant::now();
    write_frame(stream, &encode(CONNECT, own)).await?;
    let theirs = receive(stream, CONNECT).await?;
    let round_trip = asked.elapsed();
    let theirs = usable(theirs)?;
    write_frame(stream, &encode(SYNC, &[])).await?;
    // Both begin at once: the word takes half a round trip. One who answers late is not waited for as long.
    tokio::time::sleep((round_trip / 2).min(LONGEST_WAIT)).await;
    Ok(theirs)
}

/// Nothing on earth is further away by much.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Learns where the other device may be and tells it where we may be; returns when it is time to dial.
pub async fn answer(stream: &mut PeerStream, own: &[Multiaddr]) -> Result<Vec<Multiaddr>, PunchError> {
    let theirs = usable(receive(stream, CONNECT).await?)?;
    write_frame(stream, &encode(CONNECT, own)).await?;
    receive(stream, SYNC).await?;
    Ok(theirs)
}

async fn receive(stream: &mut PeerStream, expected: u64) -> Result<Vec<Multiaddr>, PunchError> {
    let (kind, addresses) = decode(&read_frame_of(stream, MAX_MESSAGE).await?)?;
    if kind == expected { Ok(addresses) } else { Err(PunchError::Protocol) }
}

fn encode(kind: u64, addresses: &[Multiaddr]) -> Vec<u8> {
    let mut message = Vec::new();
    put_number(&mut message, 1, kind);
    for address in addresses.iter().take(PUNCH_ADDRESSES) {
        put_bytes(&mut message, 2, &address.to_vec());
    }
    message
}

/// Addresses that are none are skipped, as the specification's other implementations do.
fn decode(message: &[u8]) -> Result<(u64, Vec<Multiaddr>), Malformed> {
    let mut fields = Fields::of(message);
    let (mut kind, mut addresses) = (None, Vec::new());
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Number(number)) => kind = Some(number),
            (2, Value::Bytes(bytes)) => addresses.extend(Multiaddr::try_from(bytes.to_vec())),
            (1 | 2, _) => return Err(Malformed),
            _ => {}
        }
    }
    Ok((kind.ok_or(Malformed)?, addresses))
}

/// The addresses that may be dialled on another's word: a host and a port, no relay, nothing that reaches many.
fn usable(addresses: Vec<Multiaddr>) -> Result<Vec<Multiaddr>, PunchError> {
    let mut usable = Vec::new();
    for address in addresses.iter().filter_map(bare) {
        if usable.len() < PUNCH_ADDRESSES && !usable.contains(&address) {
            usable.push(address);
        }
    }
    if usable.is_empty() { Err(PunchError::NoAddress) } else { Ok(usable) }
}

/// An address that one host may have, without a peer id: TCP, or QUIC. `None` for any other.
pub fn bare(address: &Multiaddr) -> Option<Multiaddr> {
    let mut parts: Vec<Protocol<'_>> = address.iter().collect();
    if let Some(Protocol::P2p(_)) = parts.last() {
        parts.pop();
    }
    let is_one = matches!(
        parts[..],
        [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(1..)]
            | [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(1..), Protocol::QuicV1]
    );
    let reaches_one = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        // A link's own addresses need the name of an interface, which means nothing to another host.
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local(),
    };
    let is_usable = is_one && ip_of(address).is_some_and(reaches_one);
    is_usable.then(|| parts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use libp2p::PeerId;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// As `relay/DCUtR.md` has it: `type` is field 1, `ObsAddrs` field 2.
    #[test]
    fn golden_bytes() {
        let connect = encode(CONNECT, &[at("/ip4/192.0.2.1/tcp/1")]);
        assert_eq!(connect, [0x08, 100, 0x12, 8, 4, 192, 0, 2, 1, 6, 0, 1]);
        assert_eq!(encode(SYNC, &[]), [0x08, 0xac, 0x02]);
        assert_eq!(decode(&connect).unwrap(), (CONNECT, vec![at("/ip4/192.0.2.1/tcp/1")]));
        // Unknown fields and addresses that are none are skipped.
        let unknown = [&connect[..], &[0x18, 1, 0x12, 2, 0xff, 0xff]].concat();
        assert_eq!(decode(&unknown).unwrap(), (CONNECT, vec![at("/ip4/192.0.2.1/tcp/1")]));
        for malformed in [&[][..], &[0x08], &[0x12, 9, 4], &[0x0a, 1, 0], &[0x10, 1]] {
            assert!(decode(malformed).is_err(), "{malformed:?}");
        }
    }

    #[test]
    fn only_what_one_host_may_have_is_dialled() {
        let with_peer = at("/ip4/192.0.2.1/tcp/1").with(Protocol::P2p(PeerId::random()));
        assert_eq!(bare(&with_peer), Some(at("/ip4/192.0.2.1/tcp/1")));
        assert_eq!(bare(&at("/ip6/2001:db8::1/udp/1/quic-v1")), Some(at("/ip6/2001:db8::1/udp/1/quic-v1")));
        let circuit = with_peer.clone().with(Protocol::P2pCircuit);
        assert_eq!(bare(&circuit), None);
        for other in [
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/224.0.0.1/udp/1/quic-v1",
            "/ip4/255.255.255.255/tcp/1",
            "/ip6/ff02::1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/ip4/192.0.2.1/tcp/0",
            "/ip4/192.0.2.1/udp/1",
            "/dns4/host.example/tcp/1",
            "/ip4/192.0.2.1/tcp/1/ws",
            "/ip4/192.0.2.1",
        ] {
            assert_eq!(bare(&at(other)), None, "{other}");
        }
    }

    #[test]
    fn addresses_without_end_are_bounded_and_none_at_all_is_told() {
        let many: Vec<Multiaddr> =
            (1..200u16).map(|port| at(&format!("/ip4/192.0.2.1/tcp/{port}"))).collect();
        assert_eq!(usable(many.clone()).unwrap().len(), PUNCH_ADDRESSES);
        assert!(encode(CONNECT, &many).len() < 1024);
        assert!(matches!(usable(vec![at("/ip4/0.0.0.0/tcp/1")]), Err(PunchError::NoAddress)));
    }

    proptest! {
        #[test]
        fn never_panics(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((_, addresses)) = decode(&message) {
                let _ = usable(addresses);
            }
        }
    }
}
