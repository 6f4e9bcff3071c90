//! From relayed to direct: only between devices that have let each other in, and without losing what runs.

use crate::{
    fake_node::{FakeNode, Manner},
    streams::lamp,
    world::{SERVICE, World, key},
};
use futures::{AsyncReadExt as _, StreamExt};
use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use windlass_client::{Client, Event, Events, Mode, Multiaddr, Path, PeerId, Policy, Publication, Stream};
use windlass_p2p::{
    Control, frame, identity,
    libp2p::{identify, multiaddr::Protocol, swarm::SwarmEvent},
    punch,
    swarm::{DeviceConfig, DeviceEvent, device_swarm},
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

fn peer(seed: u8) -> PeerId {
    identity::peer_id_of(&key(seed).public_key())
}

async fn start(world: &World, node: &FakeNode, seed: u8) -> Client {
    let builder = Client::builder(world.spec.clone(), key(seed)).nodes([node.multiaddr.clone()]);
    builder.punch(true).start().await.unwrap()
}

/// Device 20 publishes a service, device 21 may open it, and both would rather talk directly.
struct Pair {
    node: FakeNode,
    publisher: Client,
    publication: Publication,
    caller: Client,
}

async fn pair(policy: Policy) -> Pair {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let (publisher, caller) = (start(&world, &node, 20).await, start(&world, &node, 21).await);
    let publication = publisher.publish(SERVICE, policy).await.unwrap();
    Pair { node, publisher, publication, caller }
}

impl Pair {
    async fn connect(&mut self) -> (Stream, Stream) {
        let lamp = lamp();
        let (opened, accepted) = tokio::join!(self.caller.open(&lamp, SERVICE), self.publication.accept());
        (opened.unwrap(), accepted.unwrap())
    }
}

/// Waits until the best way to this device is a direct one.
async fn goes_direct(events: &mut Events, device: PeerId) {
    let direct = async {
        loop {
            match events.next().await.unwrap() {
                Event::Path { peer, path: Some(path) } if peer == device && !path.is_relayed() => return,
                _ => {}
            }
        }
    };
    timeout(LONG, direct).await.unwrap();
}

async fn pass(from: &mut Stream, to: &mut Stream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    from.write_all(bytes).await.unwrap();
    from.flush().await.unwrap();
    timeout(LONG, to.read_exact(&mut received)).await.unwrap().unwrap();
    assert_eq!(received, bytes);
}

#[tokio::test]
async fn devices_that_let_each_other_in_go_direct_and_what_runs_goes_on() {
    let mut pair = pair(Policy::default()).await;
    let (mut called, mut calls) = (pair.publisher.events(), pair.caller.events());
    let (mut near, mut far) = pair.connect().await;
    assert!(near.path().is_relayed() && far.path().is_relayed());
    goes_direct(&mut calls, peer(20)).await;
    goes_direct(&mut called, peer(21)).await;
    let (mut direct, mut far_direct) = pair.connect().await;
    assert!(!direct.path().is_relayed() && !far_direct.path().is_relayed(), "{}", direct.path());
    // The first stream runs on where it began, in both directions.
    pass(&mut near, &mut far, b"still here").await;
    pass(&mut far, &mut near, b"here too").await;
    pass(&mut direct, &mut far_direct, b"and here").await;
    // Without the relay there is still the direct way.
    drop(pair.node);
    pass(&mut far_direct, &mut direct, b"without a relay").await;
}

/// What a raw peer without any grant sees of a device.
struct Stranger {
    control: Control,
    /// Every address that the device's identify named.
    named: Arc<Mutex<Vec<Multiaddr>>>,
}

impl Stranger {
    fn new(seed: u8) -> Self {
        let (mut swarm, control) = device_swarm(&key(seed), &DeviceConfig::new("stranger/1")).unwrap();
        let named = Arc::new(Mutex::new(Vec::new()));
        let heard = named.clone();
        tokio::spawn(async move {
            while let Some(event) = swarm.next().await {
                if let SwarmEvent::Behaviour(DeviceEvent::Identify(event)) = event
                    && let identify::Event::Received { peer_id, info, .. } = *event
                    && peer_id == peer(20)
                {
                    heard.lock().unwrap().extend(info.listen_addrs);
                }
            }
        });
        Self { control, named }
    }

    fn circuit(node: &FakeNode) -> Multiaddr {
        node.multiaddr.clone().with(Protocol::P2pCircuit).with(Protocol::P2p(peer(20)))
    }
}

#[tokio::test]
async fn a_stranger_never_learns_where_a_device_is() {
    let mut pair = pair(Policy::default()).await;
    // The device listens and is directly connected with somebody: there is something to be learnt.
    let mut calls = pair.caller.events();
    let _streams = pair.connect().await;
    goes_direct(&mut calls, peer(20)).await;

    let stranger = Stranger::new(30);
    let mut invited = stranger.control.accept(punch::PROTOCOL, NonZeroUsize::MIN).unwrap();
    let at = vec![Stranger::circuit(&pair.node)];
    let mut stream = stranger.control.open(peer(20), at, punch::PROTOCOL, LONG).await.unwrap();
    let mine: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    // As DCUtR has it: connect, and an address.
    let connect = [&[0x08, 100, 0x12, 8][..], &mine.to_vec()].concat();
    frame::write_frame(&mut stream, &connect).await.unwrap();
    let mut bytes = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes, b"", "not a word");
    assert!(timeout(Duration::ZERO, invited.next()).await.is_err(), "nor was it invited");
    let named = stranger.named.lock().unwrap().clone();
    let is_circuit = |address: &Multiaddr| address.iter().any(|part| part == Protocol::P2pCircuit);
    assert!(named.iter().all(is_circuit), "{named:?}");
}

/// Whoever a public service lets in is a stranger all the same.
#[tokio::test]
async fn a_public_service_tells_nobody_where_the_device_is() {
    let mut pair = pair(Policy { mode: Mode::Public, ..Policy::default() }).await;
    let mut calls = pair.caller.events();
    let (mut near, mut far) = pair.connect().await;
    // Ample turns for an invitation, which comes within a round trip where there is one.
    for _ in 0..200 {
        pass(&mut near, &mut far, b"there").await;
        pass(&mut far, &mut near, b"back").await;
    }
    let (again, _far) = pair.connect().await;
    assert!(again.path().is_relayed(), "{}", again.path());
    while let Ok(Some(event)) = timeout(Duration::ZERO, calls.next()).await {
        let is_direct =
            matches!(event, Event::Path { peer: to, path: Some(Path::Direct { .. }) } if to == peer(20));
        assert!(!is_direct, "{event:?}");
    }
}

#[tokio::test]
async fn who_does_not_want_it_stays_relayed_and_the_other_is_told_why() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let nodes = || [node.multiaddr.clone()];
    let publisher = start(&world, &node, 20).await;
    let caller =
        Client::builder(world.spec.clone(), key(21)).nodes(nodes()).punch(false).start().await.unwrap();
    let mut publication = publisher.publish(SERVICE, Policy::default()).await.unwrap();
    let mut events = publisher.events();
    let lamp = lamp();
    let (near, far) = tokio::join!(caller.open(&lamp, SERVICE), publication.accept());
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    let told = async {
        loop {
            if let Event::StaysRelayed { peer: about, why, .. } = events.next().await.unwrap() {
                return (about, why);
            }
        }
    };
    let (about, why) = timeout(LONG, told).await.unwrap();
    assert_eq!(about, peer(21));
    assert!(why.contains("doesn't try"), "{why}");
    pass(&mut near, &mut far, b"through the relay").await;
}

/// The direct addresses in the route that a caller is told.
async fn named_in_the_route(node: &FakeNode, world: &World) -> Vec<Multiaddr> {
    let builder = Client::builder(world.spec.clone(), key(20)).nodes([node.multiaddr.clone()]);
    let publisher = builder.direct(true).punch(false).start().await.unwrap();
    let _publication = publisher.publish(SERVICE, Policy::default()).await.unwrap();
    let caller = start(world, node, 21).await;
    let resolved = caller.resolve(&lamp()).await.unwrap();
    let direct = resolved.route.unwrap().route().direct.clone();
    direct.into_iter().map(|address| Multiaddr::try_from(address.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn a_route_names_only_addresses_that_a_node_has_reached() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    // On a busy machine the first route may not wait for the node's word.
    let named = timeout(Duration::from_secs(120), async {
        loop {
            match named_in_the_route(&node, &world).await {
                named if named.is_empty() => {}
                named => return named,
            }
        }
    });
    let named = named.await.expect("the node reaches this machine");
    // The node sees the device on this machine, and dials it nowhere else.
    let here = |address: &Multiaddr| address.iter().next() == Some(Protocol::Ip4([127, 0, 0, 1].into()));
    assert!(named.iter().all(here), "{named:?}");
    node.dial_nobody();
    assert_eq!(named_in_the_route(&node, &world).await, [], "nobody says that they are reached");
}

/// Whether an open goes direct, between devices that were told to look for each other in the local network or not.
async fn goes_direct_in_the_lan(world: &World, node: &FakeNode, publisher: bool, caller: bool) -> bool {
    let start = async |seed: u8, lan: bool| {
        let builder = Client::builder(world.spec.clone(), key(seed)).nodes([node.multiaddr.clone()]);
        builder.lan(lan).punch(false).start().await.unwrap()
    };
    let (publisher, caller) = (start(20, publisher).await, start(21, caller).await);
    let mut publication = publisher.publish(SERVICE, Policy::default()).await.unwrap();
    let lamp = lamp();
    let (near, far) = tokio::join!(caller.open(&lamp, SERVICE), publication.accept());
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    pass(&mut near, &mut far, b"whichever way").await;
    assert_eq!(near.path().is_relayed(), far.path().is_relayed());
    !near.path().is_relayed()
}

#[tokio::test]
async fn devices_that_both_want_it_find_each_other_in_the_local_network() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    // One is enough to stay unseen.
    assert!(!goes_direct_in_the_lan(&world, &node, true, false).await);
    assert!(!goes_direct_in_the_lan(&world, &node, false, true).await);
    // On a busy machine an answer may come too late, and the stream goes through the relay.
    let found = timeout(Duration::from_secs(120), async {
        while !goes_direct_in_the_lan(&world, &node, true, true).await {}
    });
    found.await.expect("found in the local network");
}

/// Answers every question in the local network as if it were whoever is looked for, with the port of a device that isn't.
async fn impostor() -> tokio::task::JoinHandle<()> {
    let (mut swarm, _control) = device_swarm(&key(40), &DeviceConfig::new("impostor/0")).unwrap();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let port = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            let Some(Protocol::Tcp(port)) = address.iter().nth(1) else { panic!("{address}") };
            break port;
        }
    };
    let group: std::net::SocketAddrV4 = "239.255.87.76:45187".parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&std::net::SocketAddr::V4(group).into()).unwrap();
    let here = std::net::Ipv4Addr::LOCALHOST;
    socket.join_multicast_v4(group.ip(), &here).unwrap();
    let socket = tokio::net::UdpSocket::from_std(socket.into()).unwrap();
    tokio::spawn(async move {
        let mut question = [0; 64];
        loop {
            tokio::select! {
                _ = swarm.select_next_some() => {}
                Ok((64, from)) = socket.recv_from(&mut question) => {
                    let answer = [&question[..8], &[1], &question[9..25], &port.to_be_bytes(), &[0, 0]].concat();
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        }
    })
}

#[tokio::test]
async fn whoever_else_answers_in_the_local_network_is_not_taken_for_the_device() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let impostor = impostor().await;
    // The device itself isn't to be found, so there is the impostor's word alone; the relay leads to the device.
    assert!(!goes_direct_in_the_lan(&world, &node, false, true).await);
    impostor.abort();
}
