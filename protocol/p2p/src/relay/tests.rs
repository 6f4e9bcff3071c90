//! The relay over real sockets on loopback: stock clients, raw requests, and everything that tries to get past it.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{
    AsyncReadExt, AsyncWriteExt, FutureExt,
    future::{BoxFuture, join_all},
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::sync::oneshot;

use super::*;
use crate::{
    PeerStream,
    frame::{read_frame, write_frame},
    limits,
    streams::{
        OpenError,
        tests::host::{
            Host, LONG, device, echoed, locate, node, node_idle, peer, relay, relay_with, server, soon,
        },
    },
    swarm::{DeviceBehaviour, NodeBehaviour},
};

/// A request for a reservation.
const RESERVE: &[u8] = &[0x08, 0];

fn connect_to(to: PeerId) -> Vec<u8> {
    let id = to.to_bytes();
    [&[0x08, 1, 0x12, 2 + id.len() as u8, 0x0a, id.len() as u8], &id[..]].concat()
}

/// Opens a stream to the relay and says `request` on it.
async fn ask(
    from: &Host<impl libp2p::swarm::NetworkBehaviour>,
    relay: (PeerId, &Multiaddr),
    request: &[u8],
) -> PeerStream {
    let mut stream = from.control.open(relay.0, vec![relay.1.clone()], HOP, LONG).await.unwrap();
    write_frame(&mut stream, request).await.unwrap();
    stream
}

/// The status in a hop message: its last field.
async fn status(stream: &mut PeerStream) -> u64 {
    let answer = soon(read_frame(stream)).await.unwrap();
    assert_eq!(&answer[..2], &[0x08, 2], "a status");
    let at =
        answer.len() - if *answer.last().unwrap() < 2 || answer[answer.len() - 2] >= 0x80 { 3 } else { 2 };
    assert_eq!(answer[at], 0x28);
    u64::from(unsigned_varint::decode::u32(&answer[at + 1..]).unwrap().0)
}

async fn outcome(
    from: &Host<impl libp2p::swarm::NetworkBehaviour>,
    relay: (PeerId, &Multiaddr),
    request: &[u8],
) -> u64 {
    status(&mut ask(from, relay, request).await).await
}

/// Waits until the relay counts what `wanted` says.
async fn until(stats: &RelayStats, wanted: impl Fn(&RelayStats) -> bool) {
    soon(async {
        while !wanted(stats) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Serves whom it is told to.
#[derive(Default)]
struct Register {
    members: Mutex<HashSet<PeerId>>,
    refused: Mutex<HashSet<PeerId>>,
}

impl Policy for Register {
    fn standing(&self, peer: PeerId) -> BoxFuture<'static, Result<Standing, NotReady>> {
        let standing = if self.refused.lock().unwrap().contains(&peer) {
            Standing::Refused
        } else if self.members.lock().unwrap().contains(&peer) {
            Standing::Served(Group::Fleet(1))
        } else {
            Standing::Stranger
        };
        futures::future::ready(Ok(standing)).boxed()
    }
}

fn register(members: &[PeerId]) -> Arc<Register> {
    Arc::new(Register { members: Mutex::new(members.iter().copied().collect()), ..Register::default() })
}

async fn registered(
    seed: u8,
    config: RelayConfig,
    members: &[PeerId],
) -> (Host<NodeBehaviour>, Multiaddr, RelayStats) {
    relay_with(node(seed), seed, config, register(members)).await
}

/// A device's stock client: reservation, circuit and an echo both ways, and what the relay counts of it.
#[tokio::test]
async fn stock_clients_reserve_dial_and_echo() {
    let (relay, relay_at, stats) = relay_with(node(1), 1, RelayConfig::default(), Arc::new(Everybody)).await;
    let (caller, mut callee) = (device(2), device(3));
    let circuit = callee.listen_through(&relay_at).await;
    assert!(circuit.to_string().starts_with(&relay_at.to_string()), "it says where the relay is: {circuit}");
    let _echo = callee.echo();
    let mut stream = caller.open(callee.peer, &[circuit]).await.unwrap();
    assert_eq!(stream.path(), crate::Path::Relayed { via: relay.peer });
    assert_eq!(stream.ip(), None, "nobody's address comes through a relay");
    assert_eq!(echoed(&mut stream, &[9; 200_000]).await.unwrap(), [9; 200_000]);
    assert_eq!((stats.reservations(), stats.circuits()), (1, 1));
    let usage = stats.usage();
    for peer in [caller.peer, callee.peer] {
        let bytes = usage.by_peer.iter().find(|(metered, _)| *metered == peer).unwrap().1;
        assert!((200_000..250_000).contains(&bytes), "{bytes}");
    }
    drop((caller, stream));
    until(&stats, |stats| stats.circuits() == 0).await;
    drop(callee);
    until(&stats, |stats| stats.reservations() == 0).await;
}

#[tokio::test]
async fn a_reservation_says_when_it_ends_where_the_relay_is_and_carries_a_voucher() {
    let (relay, at) = relay(1).await;
    let device = device(2);
    let mut stream = ask(&device, (relay.peer, &at), RESERVE).await;
    let answer = soon(read_frame(&mut stream)).await.unwrap();
    let holds = |bytes: &[u8]| answer.windows(bytes.len()).any(|window| window == bytes);
    assert!(holds(&at.to_vec()), "the address, with the relay's peer id");
    assert!(holds(b"libp2p-relay-rsvp") || holds(&device.peer.to_bytes()), "the voucher names the device");
    // The envelope is the last field of the reservation; a third party can check it.
    let start = answer.windows(2).position(|window| window == [0x0a, 37]).unwrap();
    let end = answer.len() - 3 + usize::from(answer[answer.len() - 2] == 0x28);
    let envelope = libp2p::core::SignedEnvelope::from_protobuf_encoding(&answer[start..end]).unwrap();
    let (payload, key) =
        envelope.payload_and_signing_key("libp2p-relay-rsvp".to_owned(), &[0x03, 0x02]).unwrap();
    assert_eq!(key.to_peer_id(), relay.peer);
    assert!(payload.windows(39).any(|window| window == device.peer.to_bytes()), "{payload:x?}");
}

#[tokio::test]
async fn whatever_a_peer_sends_it_is_told_so_and_harms_nobody() {
    let (relay, at) = relay(1).await;
    let device = device(2);
    let relay = (relay.peer, &at);
    let cases: [(&[u8], u64); 8] = [
        (&[], 400),
        (&[0xff; 40], 400),
        (&[0x08, 1], 400),
        (&[0x08, 1, 0x12, 3, 0x0a, 1, 9], 400),
        (&[0; MAX_MESSAGE + 1], 400),
        (&[0x08, 2, 0x28, 100], 401),
        (&[0x08, 9], 401),
        (&connect_to(peer(77)), 204),
    ];
    for (request, expected) in cases {
        assert_eq!(outcome(&device, relay, request).await, expected, "{request:x?}");
    }
    assert_eq!(outcome(&device, relay, &connect_to(device.peer)).await, 202, "a circuit to oneself");
    // Half a frame and an end; a length that isn't canonical: no answer is owed, and none waits.
    for bytes in [&[5, 8][..], &[0x80, 0x00], &[0xff; 9]] {
        let mut stream = device.control.open(relay.0, vec![], HOP, LONG).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.close().await.unwrap();
        let _ = soon(stream.read_to_end(&mut Vec::new())).await;
    }
    let unknown = [RESERVE, &[0x9a, 0x06, 2, 1, 2]].concat();
    assert_eq!(outcome(&device, relay, &unknown).await, 100, "unknown fields are skipped");
}

#[tokio::test]
async fn only_the_registered_reserve_and_strangers_are_let_through_only_by_consent() {
    for strangers in [true, false] {
        let config = RelayConfig { strangers, ..RelayConfig::default() };
        let policy = register(&[peer(2)]);
        let (node, at, _) = relay_with(node(1), 1, config, policy.clone()).await;
        let relay = (node.peer, &at);
        let (mut member, stranger) = (device(2), device(3));
        assert_eq!(outcome(&stranger, relay, RESERVE).await, 202);
        let circuit = member.listen_through(&at).await;
        let _echo = member.echo();
        let opened = stranger.open(member.peer, &[circuit]).await;
        assert_eq!(opened.is_ok(), strangers);
        policy.refused.lock().unwrap().insert(peer(3));
        assert_eq!(outcome(&stranger, relay, &connect_to(member.peer)).await, 202, "revoked: nothing at all");
    }
}

#[tokio::test]
async fn a_device_that_is_refused_loses_its_reservation_and_its_circuits() {
    let policy = register(&[peer(2), peer(3)]);
    let config = RelayConfig { rejudge: Duration::from_millis(50), ..RelayConfig::default() };
    let (_relay, at, stats) = relay_with(node(1), 1, config, policy.clone()).await;
    let (caller, mut callee) = (device(2), device(3));
    let circuit = callee.listen_through(&at).await;
    let _echo = callee.echo();
    let mut stream = caller.open(callee.peer, std::slice::from_ref(&circuit)).await.unwrap();
    policy.refused.lock().unwrap().insert(callee.peer);
    assert!(soon(stream.read(&mut [0])).await.is_err(), "a cut, not an end");
    until(&stats, |stats| (stats.reservations(), stats.circuits()) == (0, 0)).await;
    // It learns of that, or it would wait for callers in vain once it is served again.
    callee.until(|usage| usage.connections == 0).await;
    assert!(matches!(caller.open(callee.peer, &[circuit]).await, Err(OpenError::Dial { .. })));
}

/// The flood comes from as many identities as it likes; what stood before still works, and the device's own fleet
/// still finds a place. Before there was a cap, the device's muxer dropped its connection to the relay.
#[tokio::test]
async fn a_circuit_flood_at_one_device_harms_neither_its_connection_nor_its_fleet() {
    let members: Vec<PeerId> = [2, 3, 4].map(peer).to_vec();
    let (node, at, stats) = registered(1, RelayConfig::default(), &members).await;
    let relay = (node.peer, &at);
    let (caller, mut callee, late) = (device(2), device(3), device(4));
    let circuit = callee.listen_through(&at).await;
    let _echo = callee.echo();
    let mut before = caller.open(callee.peer, std::slice::from_ref(&circuit)).await.unwrap();
    let flooders: Vec<Host<DeviceBehaviour>> = (10..70).map(device).collect();
    let floods = flooders.iter().map(async |flooder| {
        let mut held = Vec::new();
        for _ in 0..10 {
            let mut stream = ask(flooder, relay, &connect_to(peer(3))).await;
            if status(&mut stream).await == 100 {
                held.push(stream);
            }
        }
        held
    });
    let held: usize = join_all(floods).await.iter().map(Vec::len).sum();
    assert!((1..=600).contains(&held), "{held}");
    assert!(stats.circuits() <= limits::STRANGERS_PER_DESTINATION + 1, "{}", stats.circuits());
    assert_eq!(echoed(&mut before, b"still here").await.unwrap(), b"still here");
    let mut after = late.open(callee.peer, &[circuit]).await.unwrap();
    assert_eq!(echoed(&mut after, b"and so am I").await.unwrap(), b"and so am I");
    assert_eq!(stats.reservations(), 1);
}

/// Even when everybody is of the fleet: what is over the cap is refused, and nobody's muxer is overrun.
#[tokio::test]
async fn circuits_over_a_destinations_cap_are_refused_one_by_one() {
    let caps = Caps { circuits_per_destination: 12, ..Caps::default() };
    let config = RelayConfig { caps, ..RelayConfig::default() };
    let (node, at, _) = relay_with(node(1), 1, config, Arc::new(Everybody)).await;
    let relay = (node.peer, &at);
    let mut callee = device(2);
    callee.listen_through(&at).await;
    let callers: Vec<Host<DeviceBehaviour>> = (10..14).map(device).collect();
    let mut streams = Vec::new();
    let mut statuses = Vec::new();
    for caller in &callers {
        for _ in 0..5 {
            let mut stream = ask(caller, relay, &connect_to(callee.peer)).await;
            statuses.push(status(&mut stream).await);
            streams.push(stream);
        }
    }
    assert_eq!(statuses.iter().filter(|status| **status == 100).count(), 12, "{statuses:?}");
    assert!(statuses[12..].iter().all(|status| *status == 201), "{statuses:?}");
}

#[tokio::test]
async fn who_says_nothing_has_no_more_than_its_seats() {
    let (node, at) = relay(1).await;
    let (silent, honest) = (device(2), device(3));
    let mut held = Vec::new();
    for _ in 0..limits::HOPS_PER_PEER + 10 {
        held.push(silent.control.open(node.peer, vec![at.clone()], HOP, LONG).await.unwrap());
    }
    // What is over its seats is reset at once.
    let mut ended = 0;
    for stream in held.iter_mut().skip(limits::HOPS_PER_PEER) {
        ended += usize::from(soon(stream.read(&mut [0])).await.is_err());
    }
    assert_eq!(ended, 10);
    assert_eq!(outcome(&honest, (node.peer, &at), RESERVE).await, 100, "nobody else waits");
    // The others end by the deadline.
    assert!(soon(held[0].read(&mut [0])).await.is_err());
    assert_eq!(outcome(&silent, (node.peer, &at), RESERVE).await, 100);
}

#[tokio::test]
async fn a_reservation_storm_costs_one_reservation_and_ends_at_its_rate() {
    let (node, at, stats) = relay_with(node(1), 1, RelayConfig::default(), Arc::new(Everybody)).await;
    let relay = (node.peer, &at);
    let (storm, honest) = (device(2), device(3));
    let begun = std::time::Instant::now();
    let mut granted = 0u32;
    for _ in 0..limits::HOP_BURST as usize / 20 + 5 {
        let burst = join_all((0..20).map(|_| outcome(&storm, relay, RESERVE))).await;
        granted += burst.iter().filter(|status| **status == 100).count() as u32;
        assert!(burst.iter().all(|status| [100, 201].contains(status)), "{burst:?}");
    }
    // The burst, and what the rate allowed while it was used up.
    let allowed = limits::HOP_BURST + begun.elapsed().as_secs_f64() * limits::HOPS_PER_SECOND;
    assert!((limits::HOP_BURST..=allowed).contains(&f64::from(granted)), "{granted} of {allowed}");
    assert_eq!(stats.reservations(), 1);
    assert_eq!(outcome(&honest, relay, RESERVE).await, 100);
}

#[tokio::test]
async fn a_reservation_that_is_not_renewed_ends() {
    let config = RelayConfig { reservation_life: Duration::from_millis(300), ..RelayConfig::default() };
    let (node, at, stats) = relay_with(node(1), 1, config, Arc::new(Everybody)).await;
    let (device, other) = (device(2), device(3));
    assert_eq!(outcome(&device, (node.peer, &at), RESERVE).await, 100);
    until(&stats, |stats| stats.reservations() == 0).await;
    assert_eq!(outcome(&other, (node.peer, &at), &connect_to(device.peer)).await, 204);
}

/// A connection that carries nothing else is kept for the reservation's sake, and for nothing else.
#[tokio::test]
async fn a_reservation_keeps_its_connection_and_lets_go_of_it() {
    const IDLE: Duration = Duration::from_secs(1);
    let (node, at, stats) =
        relay_with(node_idle(1, IDLE), 1, RelayConfig::default(), Arc::new(Everybody)).await;
    let (mut device, caller, visitor) = (device(2), device(3), device(4));
    let circuit = device.listen_through(&at).await;
    let _echo = device.echo();
    // Somebody without a reservation comes later and is gone first.
    let connected = visitor.control.connect(node.peer, vec![at], LONG).await;
    assert!(connected.is_ok());
    visitor.until(|usage| usage.connections == 0).await;
    let mut stream = caller.open(device.peer, &[circuit]).await.unwrap();
    assert_eq!(echoed(&mut stream, b"here").await.unwrap(), b"here");
    assert_eq!(stats.reservations(), 1);
}

/// Bytes that wait at every stage, muxers' windows included, stay few, however much its sender has.
#[tokio::test]
async fn a_receiver_that_never_reads_fills_no_memory() {
    let (_relay, at, stats) = relay_with(node(1), 1, RelayConfig::default(), Arc::new(Everybody)).await;
    let (caller, mut callee) = (device(2), device(3));
    let circuit = callee.listen_through(&at).await;
    let mut incoming = callee.accept(1);
    let mut stream = caller.open(callee.peer, &[circuit]).await.unwrap();
    let _never_read = soon(incoming.next()).await.unwrap();
    let chunk = vec![1; 64 * 1024];
    let mut taken = 0;
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(500), stream.write(&chunk)).await {
        taken += written.unwrap();
        assert!(taken < 16 << 20, "somebody keeps what nobody reads");
    }
    assert!(stats.buffer_bytes() <= 16 * limits::RELAY_BUFFER, "{}", stats.buffer_bytes());
}

#[tokio::test]
async fn a_circuit_on_which_nothing_moves_ends() {
    let config = RelayConfig { idle: Duration::from_secs(2), ..RelayConfig::default() };
    let (_relay, at, stats) = relay_with(node(1), 1, config, Arc::new(Everybody)).await;
    let (caller, mut callee) = (device(2), device(3));
    let circuit = callee.listen_through(&at).await;
    let _echo = callee.echo();
    let mut stream = caller.open(callee.peer, &[circuit]).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        soon(stream.read(&mut [0])).await.unwrap();
    }
    assert!(soon(stream.read(&mut [0])).await.is_err());
    until(&stats, |stats| stats.circuits() == 0).await;
    assert_eq!(stats.reservations(), 1, "the reservation stands");
}

/// There is no cap on how much goes through a circuit, only on how fast.
#[tokio::test]
async fn a_device_is_held_to_its_rate_and_nobody_else_is() {
    let config = RelayConfig { device_bytes_per_second: Some(400_000), ..RelayConfig::default() };
    let (_relay, at, _) = relay_with(node(1), 1, config, Arc::new(Everybody)).await;
    let (bulk, other, mut callee) = (device(2), device(3), device(4));
    let circuit = [callee.listen_through(&at).await];
    let mut incoming = callee.accept(2);
    let mut quick = other.open(callee.peer, &circuit).await.unwrap();
    let mut quickly = soon(incoming.next()).await.unwrap();
    let mut flow = bulk.open(callee.peer, &circuit).await.unwrap();
    let mut sunk = soon(incoming.next()).await.unwrap();
    let sink = tokio::spawn(async move { futures::io::copy(&mut sunk, &mut futures::io::sink()).await });
    let begun = std::time::Instant::now();
    let sending = tokio::spawn(async move {
        flow.write_all(&[7; 1_200_000]).await?;
        flow.close().await
    });
    // While that one waits for its rate, five bytes of somebody else's don't.
    quick.write_all(b"quick").await.unwrap();
    quick.flush().await.unwrap();
    soon(quickly.read_exact(&mut [0; 5])).await.unwrap();
    assert!(!sink.is_finished());
    soon(sending).await.unwrap().unwrap();
    assert_eq!(soon(sink).await.unwrap().unwrap(), 1_200_000);
    assert!(begun.elapsed() >= Duration::from_millis(2_500), "{:?}", begun.elapsed());
}

/// Circuits in use get to their end; idle ones, reservations and new requests don't hold up the stop.
#[tokio::test]
async fn a_relay_that_stops_lets_what_is_under_way_come_to_its_end() {
    let mut node = node(1);
    let at = locate(&mut node).await;
    let config = RelayConfig { device_bytes_per_second: Some(4_000_000), ..RelayConfig::default() };
    let server = server(&node, 1, config, Arc::new(Everybody));
    let stats = server.stats();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let (caller, idle, mut callee) = (device(2), device(3), device(4));
    let circuit = callee.listen_through(&at).await;
    let _echo = callee.echo();
    let _idle = idle.open(callee.peer, std::slice::from_ref(&circuit)).await.unwrap();
    let mut stream = caller.open(callee.peer, &[circuit]).await.unwrap();
    stream.write_all(&[1]).await.unwrap();
    stream.flush().await.unwrap();
    soon(stream.read_exact(&mut [0])).await.unwrap();
    let (mut read, mut write) = stream.split();
    let sent = tokio::spawn(async move {
        write.write_all(&[5; 600_000]).await?;
        write.close().await
    });
    // Half of it is there when the relay is told to stop.
    let mut back = vec![0; 300_000];
    soon(read.read_exact(&mut back)).await.unwrap();
    stop.send(()).unwrap();
    soon(read.read_to_end(&mut back)).await.unwrap();
    soon(sent).await.unwrap().unwrap();
    assert_eq!(back.len(), 600_000);
    let begun = std::time::Instant::now();
    soon(running).await.unwrap();
    assert!(begun.elapsed() <= limits::RELAY_DRAIN + Duration::from_secs(1));
    assert_eq!((stats.reservations(), stats.circuits()), (0, 0));
    let refused = caller.control.open(node.peer, vec![], HOP, LONG).await;
    assert!(matches!(refused, Err(OpenError::Unsupported { .. })), "{refused:?}");
}

/// A node has no transport that circuits could come by; should it get one, a request that comes so is refused.
#[tokio::test]
async fn no_circuit_leads_through_two_relays() {
    let (_first, first_at) = relay(1).await;
    let (second, second_at) = relay(5).await;
    let mut callee = device(3);
    callee.listen_through(&second_at).await;
    let caller = device(2);
    // A relay whose address is itself a circuit.
    let through_both = first_at
        .with(Protocol::P2pCircuit)
        .with(Protocol::P2p(second.peer))
        .with(Protocol::P2pCircuit)
        .with(Protocol::P2p(callee.peer));
    let opened = caller.open(callee.peer, &[through_both]).await;
    assert!(opened.is_err(), "{opened:?}");
}
