//! Both parts over real sockets on loopback, with our own kind and with stock libp2p.
#![allow(clippy::unwrap_used)]

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, autonat, identify,
    multiaddr::Protocol,
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio::task::JoinHandle;

use super::*;
use crate::{
    Path, identity, limits,
    relay::{Group, NotReady, Policy, Standing},
    streams::tests::host::{Host, LONG, TRANSPORTS, device, node, peer, secret, soon},
    swarm::{DeviceBehaviour, NodeBehaviour},
};

/// Serves everybody but one.
struct AllBut(PeerId);

impl Policy for AllBut {
    fn standing(&self, peer: PeerId) -> BoxFuture<'static, Result<Standing, NotReady>> {
        let standing = if peer == self.0 { Standing::Stranger } else { Standing::Served(Group::Fleet(1)) };
        futures::future::ready(Ok(standing)).boxed()
    }
}

/// A node that dials back for everybody but the peer with the seed 9.
struct Dialling {
    node: Host<NodeBehaviour>,
    at: Multiaddr,
    task: JoinHandle<()>,
}

impl Dialling {
    async fn start(seed: u8) -> Self {
        let mut node = node(seed);
        let at = node.listen_directly().await;
        let server = Server::new(&node.control, Arc::new(AllBut(peer(9)))).unwrap();
        let task = tokio::spawn(server.run(std::future::pending()));
        Self { node, at, task }
    }

    /// Whether the node reaches an address; on a busy machine not always at the first attempt.
    async fn reaches(&self, device: &Host<DeviceBehaviour>, address: &Multiaddr, nonce: u64) -> bool {
        for _ in 0..limits::AUTONAT_BURST as usize / 4 {
            if self.ask(device, address, nonce).await == Some(Answer::Reached) {
                return true;
            }
        }
        false
    }

    async fn ask(&self, device: &Host<DeviceBehaviour>, address: &Multiaddr, nonce: u64) -> Option<Answer> {
        let open = device.control.open(self.node.peer, vec![self.at.clone()], DIAL_REQUEST, LONG);
        let mut stream = open.await.unwrap();
        soon(ask(&mut stream, address, nonce)).await.ok()
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Acknowledges whatever is said to a device, and remembers the last nonce.
fn listens(device: &Host<DeviceBehaviour>) -> Arc<AtomicU64> {
    let mut incoming = device.control.accept(DIAL_BACK, 4.try_into().unwrap()).unwrap();
    let heard = Arc::new(AtomicU64::new(0));
    let noted = heard.clone();
    tokio::spawn(async move {
        while let Some(mut stream) = incoming.next().await {
            assert!(matches!(stream.path(), Path::Direct { .. }));
            if let Ok(nonce) = hear(&mut stream).await {
                noted.store(nonce, Ordering::SeqCst);
                let _ = acknowledge(&mut stream).await;
            }
        }
    });
    heard
}

#[tokio::test]
async fn an_address_that_is_listened_at_is_reached_by_somebody_new() {
    let dialling = Dialling::start(1).await;
    for over in TRANSPORTS.iter().copied() {
        let mut device = device(2);
        let heard = listens(&device);
        let at = device.listen_over(over).await;
        assert!(dialling.reaches(&device, &at, 77).await, "{over:?}");
        assert_eq!(heard.load(Ordering::SeqCst), 77);
        // Whoever dialled back was not the node.
        assert_eq!(device.control.connections(&dialling.node.peer).len(), 1);
    }
}

#[tokio::test]
async fn an_address_that_nobody_listens_at_is_not_reached() {
    let dialling = Dialling::start(1).await;
    let device = device(2);
    let heard = listens(&device);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let closed: Multiaddr = format!("/ip4/127.0.0.1/tcp/{closed}").parse().unwrap();
    assert_eq!(dialling.ask(&device, &closed, 5).await, Some(Answer::NotReached));
    assert_eq!(heard.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn nothing_is_dialled_but_where_the_request_came_from() {
    let dialling = Dialling::start(1).await;
    let device = device(2);
    // Somebody else on the same machine, who counts what arrives.
    let elsewhere = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let udp = UdpSocket::bind("127.0.0.2:0").unwrap();
    udp.set_nonblocking(true).unwrap();
    let at = |port: u16, rest: &str| format!("/ip4/127.0.0.2{rest}").replace("PORT", &port.to_string());
    let victims = [
        at(elsewhere.local_addr().unwrap().port(), "/tcp/PORT"),
        at(udp.local_addr().unwrap().port(), "/udp/PORT/quic-v1"),
        "/dns4/localhost/tcp/1".to_owned(),
        "/ip4/127.0.0.1/tcp/1/ws".to_owned(),
        "/ip4/0.0.0.0/tcp/1".to_owned(),
    ];
    for victim in victims {
        let victim: Multiaddr = victim.parse().unwrap();
        assert_eq!(dialling.ask(&device, &victim, 5).await, Some(Answer::NotTried), "{victim}");
    }
    assert!(elsewhere.accept().is_err(), "somebody else was dialled");
    assert!(udp.recv(&mut [0; 2048]).is_err(), "somebody else was dialled");
}

#[tokio::test]
async fn who_is_not_served_or_asks_too_often_has_nothing_dialled() {
    let dialling = Dialling::start(1).await;
    let mut stranger = device(9);
    let heard = listens(&stranger);
    let at = stranger.listen_directly().await;
    assert_eq!(dialling.ask(&stranger, &at, 5).await, Some(Answer::NotTried));
    assert_eq!(heard.load(Ordering::SeqCst), 0);

    let device = device(2);
    let far: Multiaddr = "/ip4/127.0.0.2/tcp/1".parse().unwrap();
    let mut answered = 0;
    let began = std::time::Instant::now();
    for _ in 0..100 {
        answered += u64::from(dialling.ask(&device, &far, 5).await.is_some());
    }
    // A slow machine is granted a few more.
    let granted = limits::AUTONAT_BURST + began.elapsed().as_secs_f64() * limits::AUTONAT_PER_SECOND + 1.0;
    assert!(answered as f64 <= granted && answered > 0, "{answered}");
}

/// What a peer says to the server that is no request costs it its stream, and nothing more.
#[tokio::test]
async fn nonsense_ends_its_stream_alone() {
    let dialling = Dialling::start(1).await;
    let mut device = device(2);
    let _heard = listens(&device);
    let at = device.listen_directly().await;
    let open = device.control.open(dialling.node.peer, vec![dialling.at.clone()], DIAL_REQUEST, LONG);
    let mut stream = open.await.unwrap();
    write_frame(&mut stream, &[0xff; 40]).await.unwrap();
    assert!(soon(read_frame_of(&mut stream, MAX_MESSAGE)).await.is_err());
    assert!(dialling.reaches(&device, &at, 7).await);
}

/// Stock libp2p, as the device.
#[derive(NetworkBehaviour)]
struct Stock {
    identify: identify::Behaviour,
    client: autonat::v2::client::Behaviour,
}

fn stock_swarm(seed: u8) -> Swarm<Stock> {
    let keypair = identity::keypair(&secret(seed));
    SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|keypair| Stock {
            identify: identify::Behaviour::new(identify::Config::new("/stock/1".into(), keypair.public())),
            client: autonat::v2::client::Behaviour::default(),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(LONG))
        .build()
}

#[tokio::test]
async fn stock_libp2p_learns_from_our_node_that_it_is_reached() {
    let dialling = Dialling::start(1).await;
    // It never asks again about an address that wasn't reached, for which a busy machine may be the reason.
    for seed in 2..8 {
        if stock_is_told(&dialling, seed).await {
            return;
        }
    }
    panic!("stock libp2p isn't told");
}

async fn stock_is_told(dialling: &Dialling, seed: u8) -> bool {
    let mut swarm = stock_swarm(seed);
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let listening = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    swarm.dial(dialling.at.clone().with(Protocol::P2p(dialling.node.peer))).unwrap();
    // What others see of it is a candidate; so is this.
    swarm.behaviour_mut().client.on_swarm_event(libp2p::swarm::FromSwarm::NewExternalAddrCandidate(
        libp2p::swarm::NewExternalAddrCandidate { addr: &listening },
    ));
    let confirmed = async {
        loop {
            if let SwarmEvent::ExternalAddrConfirmed { address } = swarm.select_next_some().await {
                return address;
            }
        }
    };
    let confirmed = tokio::time::timeout(LONG, confirmed).await;
    confirmed.is_ok_and(|confirmed| confirmed == listening)
}
