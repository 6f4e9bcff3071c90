//! Circuits: the path is told, relays are dialled once and first, and direct connections win.

use std::net::TcpListener;

use libp2p::{
    Multiaddr,
    multiaddr::Protocol,
    swarm::dial_opts::{DialOpts, PeerCondition},
};

use super::host::{LONG, device, device_of, echoed, node, peer, relay, soon};
use crate::{
    Path,
    streams::{OpenError, Usage},
};

#[tokio::test]
async fn both_ends_know_the_relay() {
    let (relay, relay_at) = relay(1).await;
    let (caller, mut callee) = (device(2), device(3));
    let circuit = callee.listen_through(&relay_at).await;
    let mut incoming = callee.accept(1);
    // The caller isn't connected to the relay yet.
    let mut near = caller.open(callee.peer, &[circuit]).await.unwrap();
    let far = incoming.next().await.unwrap();
    let through = Path::Relayed { via: relay.peer };
    assert_eq!((near.path(), far.path()), (through, through));
    assert_eq!((near.peer(), far.peer()), (callee.peer, caller.peer));
    let (far_done, back) = tokio::join!(
        async {
            let (read, mut write) = futures::AsyncReadExt::split(far);
            futures::io::copy(read, &mut write).await?;
            futures::AsyncWriteExt::close(&mut write).await
        },
        echoed(&mut near, &[9; 300_000]),
    );
    far_done.unwrap();
    assert_eq!(back.unwrap(), [9; 300_000], "more than the stock relay's 128 KiB");
}

/// The stock relay client loses one of two circuits through a relay that isn't connected yet.
#[tokio::test]
async fn two_devices_behind_one_relay_not_yet_dialled_are_both_reached() {
    let (_relay, relay_at) = relay(1).await;
    let (caller, mut one, mut two) = (device(2), device(3), device(4));
    let to_one = [one.listen_through(&relay_at).await];
    let to_two = [two.listen_through(&relay_at).await];
    let (_echo_one, _echo_two) = (one.echo(), two.echo());
    let (at_one, at_two) = tokio::join!(caller.open(one.peer, &to_one), caller.open(two.peer, &to_two));
    assert_eq!(echoed(&mut at_one.unwrap(), b"1").await.unwrap(), b"1");
    assert_eq!(echoed(&mut at_two.unwrap(), b"2").await.unwrap(), b"2");
}

#[tokio::test]
async fn a_direct_connection_is_preferred() {
    let (_relay, relay_at) = relay(1).await;
    let (caller, mut callee) = (device(2), device(3));
    let circuit = callee.listen_through(&relay_at).await;
    let _echo = callee.echo();
    let relayed = caller.control.connect(callee.peer, vec![circuit], LONG).await.unwrap();
    assert!(relayed.path.is_relayed());

    let direct = callee.listen_directly().await;
    let opts =
        DialOpts::peer_id(callee.peer).condition(PeerCondition::Always).addresses(vec![direct]).build();
    caller.with(|swarm| swarm.dial(opts).unwrap()).await;
    caller.until(|_| caller.control.connections(&callee.peer).len() == 2).await;
    let stream = caller.open(callee.peer, &[]).await.unwrap();
    assert!(!stream.path().is_relayed());
}

#[tokio::test]
async fn a_circuit_serves_when_the_direct_address_is_dead() {
    let (relay, relay_at) = relay(1).await;
    let (caller, mut callee) = (device(2), device(3));
    let circuit = callee.listen_through(&relay_at).await;
    let _echo = callee.echo();
    let stream = caller.open(callee.peer, &[dead(), circuit]).await.unwrap();
    assert_eq!(stream.path(), Path::Relayed { via: relay.peer });
}

#[tokio::test]
async fn a_second_relay_serves_when_the_first_is_dead() {
    let (relay, relay_at) = relay(1).await;
    let (caller, mut callee) = (device(2), device(3));
    let circuit = callee.listen_through(&relay_at).await;
    let _echo = callee.echo();
    let dead_circuit = circuit_through(dead(), 9, callee.peer);
    let stream = caller.open(callee.peer, &[dead_circuit, circuit]).await.unwrap();
    assert_eq!(stream.path(), Path::Relayed { via: relay.peer });
}

#[tokio::test]
async fn a_relay_that_cannot_be_reached_is_named() {
    let caller = device(2);
    let failed = caller.open(peer(3), &[circuit_through(dead(), 9, peer(3))]).await.unwrap_err();
    assert!(matches!(failed, OpenError::Dial { .. }));
    assert!(failed.to_string().contains(&format!("relay {}", peer(9))), "{failed}");
    caller.until(|usage| usage == Usage::default()).await;
}

#[tokio::test]
async fn a_device_without_a_reservation_is_not_reached() {
    let (_relay, relay_at) = relay(1).await;
    let caller = device(2);
    let circuit = relay_at.with(Protocol::P2pCircuit).with(Protocol::P2p(peer(3)));
    assert!(matches!(caller.open(peer(3), &[circuit]).await, Err(OpenError::Dial { .. })));
}

#[tokio::test]
async fn two_peers_that_are_each_others_relay_do_not_wait_for_ever() {
    let caller = device(1);
    let to_two = [circuit_through(dead(), 3, peer(2))];
    let to_three = [circuit_through(dead(), 2, peer(3))];
    let (two, three) = tokio::join!(caller.open(peer(2), &to_two), caller.open(peer(3), &to_three));
    assert!(matches!((two, three), (Err(OpenError::Dial { .. }), Err(OpenError::Dial { .. }))));
    caller.until(|usage| usage == Usage::default()).await;
}

#[tokio::test]
async fn a_killed_relay_breaks_streams_and_leaves_the_next_one_working() {
    let (first, first_at) = relay(1).await;
    let (second, second_at) = relay(4).await;
    let (caller, mut callee) = (device(2), device(3));
    let circuits = [callee.listen_through(&first_at).await, callee.listen_through(&second_at).await];
    let mut incoming = callee.accept(1);
    let mut near = caller.open(callee.peer, &circuits[..1]).await.unwrap();
    let mut far = incoming.next().await.unwrap();
    let dead = first.peer;
    drop(first);
    assert!(soon(futures::AsyncReadExt::read(&mut near, &mut [0])).await.is_err());
    assert!(soon(futures::AsyncReadExt::read(&mut far, &mut [0])).await.is_err());
    let next = caller.open(callee.peer, &circuits).await.unwrap();
    assert_eq!(next.path(), Path::Relayed { via: second.peer });
    assert_ne!(dead, second.peer);
}

#[tokio::test]
async fn a_node_takes_no_circuit_for_itself() {
    let (_relay, relay_at) = relay(1).await;
    let caller = node(2);
    let circuit = relay_at.with(Protocol::P2pCircuit).with(Protocol::P2p(peer(3)));
    assert!(matches!(caller.open(peer(3), &[circuit]).await, Err(OpenError::Dial { .. })));
}

/// An address where nobody listens.
fn dead() -> Multiaddr {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Multiaddr::empty().with(Protocol::Ip4([127, 0, 0, 1].into())).with(Protocol::Tcp(port))
}

fn circuit_through(relay_at: Multiaddr, relay: u8, to: libp2p::PeerId) -> Multiaddr {
    relay_at.with(Protocol::P2p(peer(relay))).with(Protocol::P2pCircuit).with(Protocol::P2p(to))
}

/// A device that is full refuses further circuits; its connection to the relay, and with it all others, goes on.
#[tokio::test]
async fn circuits_beyond_what_a_device_takes_harm_none_of_the_others() {
    let (_relay, relay_at) = relay(1).await;
    // Two of its eight are kept for what it dials; the relay's connection is one of these.
    let mut callee = device_of(2, 8);
    let circuit = [callee.listen_through(&relay_at).await];
    let _echo = callee.echo();
    let strangers: Vec<_> = (10..26).map(device).collect();
    let mut held = Vec::new();
    for stranger in &strangers[..6] {
        held.push(stranger.open(callee.peer, &circuit).await.unwrap());
    }
    for stranger in &strangers[6..] {
        assert!(stranger.open(callee.peer, &circuit).await.is_err());
    }
    for mut stream in held {
        assert_eq!(echoed(&mut stream, b"still here").await.unwrap(), b"still here");
    }
}

/// A device is never told where it is, so that it can tell nobody: not what it listens at, nor what is confirmed from
/// outside.
#[tokio::test]
async fn identify_names_no_address_of_a_device() {
    let (mut device, mut asker) = (device(2), node(1));
    let at = device.listen_directly().await;
    let outside: Multiaddr = "/ip4/192.0.2.77/tcp/4001".parse().unwrap();
    device.with(move |swarm| swarm.add_external_address(outside)).await;
    asker.control.connect(device.peer, vec![at], LONG).await.unwrap();
    let named = soon(async { asker.identified.recv().await.unwrap() }).await;
    assert_eq!(named, []);
}
