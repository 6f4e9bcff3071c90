//! QUIC beside TCP: preferred, left where it leads nowhere, and no way around who somebody is.

use std::{net::UdpSocket, num::NonZeroUsize, time::Instant};

use libp2p::{Multiaddr, multiaddr::Protocol, swarm::SwarmEvent};

use super::host::{ECHO, device, echoed, locate_over, node, peer, relay, relay_on, soon};
use crate::{
    Path, Transport,
    limits::HEAD_START,
    streams::{OpenError, Usage},
};

const QUIC: Path = Path::Direct { transport: Transport::Quic };

#[tokio::test]
async fn both_ends_of_a_stream_over_quic_say_so() {
    let (caller, mut callee) = (node(1), node(2));
    let at = [callee.listen_over(Transport::Quic).await];
    let mut incoming = callee.accept(1);
    let near = caller.open(callee.peer, &at).await.unwrap();
    let far = incoming.next().await.unwrap();
    assert_eq!((near.path(), far.path()), (QUIC, QUIC));
    assert_eq!((near.peer(), far.peer()), (callee.peer, caller.peer));
    assert_eq!(far.ip(), Some([127, 0, 0, 1].into()));
}

/// UDP goes nowhere: what that costs is a head start.
#[tokio::test]
async fn where_udp_is_a_black_hole_tcp_takes_over() {
    let (caller, mut callee) = (node(1), node(2));
    let hole = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = [udp_at(hole.local_addr().unwrap().port()), callee.listen_over(Transport::Tcp).await];
    let _echo = callee.echo();
    let begun = Instant::now();
    let stream = caller.open(callee.peer, &at).await.unwrap();
    assert_eq!(stream.path(), Path::Direct { transport: Transport::Tcp });
    assert!(begun.elapsed() >= HEAD_START, "QUIC has its head start");
}

#[tokio::test]
async fn a_thousand_opens_at_once_all_echo_over_quic() {
    let (caller, mut callee) = (node(1), node(2));
    let at = [callee.listen_over(Transport::Quic).await];
    let _echo = callee.echo();
    let calls = (0..1000u32).map(|number| {
        let bytes = number.to_be_bytes().repeat(256);
        let (caller, at, to) = (&caller, &at, callee.peer);
        async move {
            let mut stream = caller.open(to, at).await.unwrap();
            assert_eq!(echoed(&mut stream, &bytes).await.unwrap(), bytes);
        }
    });
    soon(futures::future::join_all(calls)).await;
    assert_eq!(callee.control.refused(), 0);
}

#[tokio::test]
async fn another_key_at_a_quic_address_is_told() {
    let (caller, mut other) = (node(1), node(3));
    let at = other.listen_over(Transport::Quic).await;
    let failed = caller.open(peer(2), &[at]).await.unwrap_err();
    match failed {
        OpenError::PeerIsNot { expected, got, .. } => assert_eq!((expected, got), (peer(2), other.peer)),
        failed => panic!("{failed}"),
    }
    caller.until(|usage| usage == Usage::default()).await;
}

#[tokio::test]
async fn a_key_that_is_not_secp256k1_is_refused_over_quic() {
    let mut callee = node(2);
    let at = callee.listen_over(Transport::Quic).await;
    let foreign = libp2p::identity::Keypair::generate_ed25519();
    let mut swarm = libp2p::SwarmBuilder::with_existing_identity(foreign)
        .with_tokio()
        .with_quic()
        .with_behaviour(|_| libp2p::ping::Behaviour::default())
        .unwrap()
        .build();
    swarm.dial(at).unwrap();
    let closed = async {
        loop {
            let event = futures::StreamExt::select_next_some(&mut swarm).await;
            if let SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } = event {
                break;
            }
        }
    };
    soon(closed).await;
    assert_eq!(callee.usage().await, Usage::default());
}

#[tokio::test]
async fn a_relay_is_reached_over_quic_and_the_circuit_through_it_is_relayed() {
    let (relay, relay_at) = relay_on(node(1), 1, Transport::Quic).await;
    let (caller, mut callee) = (device(2), device(3));
    let circuit = callee.listen_through(&relay_at).await;
    let mut incoming = callee.accept(1);
    let near = caller.open(callee.peer, &[circuit]).await.unwrap();
    let far = incoming.next().await.unwrap();
    let through = Path::Relayed { via: relay.peer };
    assert_eq!((near.path(), far.path()), (through, through));
    let hop = caller.control.connections(&relay.peer);
    assert_eq!(hop[0].path, QUIC);
}

/// A relay named at several addresses carries one circuit; a second relay isn't bothered.
#[tokio::test]
async fn a_route_of_two_relays_costs_one_circuit() {
    let (mut first, first_at) = relay(1).await;
    let (second, second_at) = relay(4).await;
    let first_quic = locate_over(&mut first, Transport::Quic).await;
    let (caller, mut callee) = (device(2), device(3));
    let circuits = [&first_at, &second_at].map(|relay| relay.clone().with(Protocol::P2pCircuit));
    for circuit in &circuits {
        callee.listen(circuit.clone()).await;
    }
    let _echo = callee.echo();
    let to_callee =
        |relay: &Multiaddr| relay.clone().with(Protocol::P2pCircuit).with(Protocol::P2p(callee.peer));
    let at = [to_callee(&first_at), to_callee(&first_quic), to_callee(&second_at)];
    let mut stream = caller.open(callee.peer, &at).await.unwrap();
    assert_eq!(stream.path(), Path::Relayed { via: first.peer });
    assert_eq!(echoed(&mut stream, b"once").await.unwrap(), b"once");
    assert_eq!(caller.control.connections(&callee.peer).len(), 1);
    assert!(caller.control.connections(&second.peer).is_empty());
}

/// A stream that nobody takes ends for the opener, and the connection goes on.
#[tokio::test]
async fn a_full_queue_over_quic_costs_a_stream_and_no_more() {
    let (caller, mut callee) = (node(1), node(2));
    let at = [callee.listen_over(Transport::Quic).await];
    let mut incoming = callee.control.accept(ECHO, NonZeroUsize::MIN).unwrap();
    let first = caller.open(callee.peer, &at).await.unwrap();
    let mut second = caller.open(callee.peer, &at).await.unwrap();
    let read = soon(futures::AsyncReadExt::read(&mut second, &mut [0])).await;
    assert!(read.is_err(), "{read:?}");
    incoming.next().await.unwrap();
    let again = caller.open(callee.peer, &at).await.unwrap();
    assert_eq!(again.connection(), first.connection());
}

/// A QUIC address where nobody answers.
fn udp_at(port: u16) -> Multiaddr {
    Multiaddr::empty()
        .with(Protocol::Ip4([127, 0, 0, 1].into()))
        .with(Protocol::Udp(port))
        .with(Protocol::QuicV1)
}
