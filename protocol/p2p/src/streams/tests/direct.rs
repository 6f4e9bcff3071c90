//! A direct way beside a relayed one: agreed on with our own kind and with stock libp2p, and then the relayed one drains.

use futures::StreamExt;
use libp2p::{
    Multiaddr, StreamProtocol, Swarm, SwarmBuilder, dcutr, identify,
    multiaddr::Protocol,
    noise, ping, relay as stock,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};

use super::{
    super::{OpenError, Role},
    host::{LONG, TRANSPORTS, device, echoed, peer, relay, secret, soon},
};
use crate::{Path, identity, punch};

const PING: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

#[tokio::test]
async fn two_devices_agree_on_a_moment_and_dial() {
    for over in TRANSPORTS.iter().copied() {
        let (_relay, relay_at) = relay(1).await;
        let (mut caller, mut callee) = (device(2), device(3));
        let circuit = callee.listen_through(&relay_at).await;
        let (caller_at, callee_at) = (caller.listen_over(over).await, callee.listen_over(over).await);
        let mut incoming = callee.accept(1);
        let mut invitations = caller.control.accept(punch::PROTOCOL, 1.try_into().unwrap()).unwrap();
        let _near = caller.open(callee.peer, &[circuit]).await.unwrap();
        let far = incoming.next().await.unwrap();

        let invite = async {
            let hold = far.tether().hold().unwrap();
            let mut stream = hold.open(punch::PROTOCOL, LONG).await.unwrap();
            let theirs = punch::invite(&mut stream, std::slice::from_ref(&callee_at)).await.unwrap();
            assert_eq!(theirs, std::slice::from_ref(&caller_at));
            // Which of the two dials comes first doesn't matter: any direct connection will do.
            let control = callee.control.clone();
            control.punch(caller.peer, theirs, Role::Listener, LONG).await
        };
        let answer = async {
            let mut stream = invitations.next().await.unwrap();
            assert!(stream.path().is_relayed());
            let theirs = punch::answer(&mut stream, std::slice::from_ref(&caller_at)).await.unwrap();
            caller.control.punch(callee.peer, theirs, Role::Dialer, LONG).await
        };
        let (invited, answered) = soon(async { tokio::join!(invite, answer) }).await;
        let direct = Path::Direct { transport: over };
        assert_eq!((invited.unwrap().path, answered.unwrap().path), (direct, direct));
    }
}

/// What runs on the relayed connection runs to its end there; then the connection goes.
#[tokio::test]
async fn a_relayed_connection_beside_a_direct_one_drains() {
    let (_relay, relay_at) = relay(1).await;
    let (caller, mut callee) = (device(2), device(3));
    let circuit = callee.listen_through(&relay_at).await;
    let _echo = callee.echo();
    let mut relayed = caller.open(callee.peer, &[circuit]).await.unwrap();
    let at = callee.listen_directly().await;
    let direct = caller.control.punch(callee.peer, vec![at], Role::Dialer, LONG).await.unwrap();
    assert!(!direct.path.is_relayed());
    let next = caller.open(callee.peer, &[]).await.unwrap();
    assert_eq!(next.connection(), direct.id);
    // Longer than it takes to find a connection needless, and it is still there.
    tokio::time::sleep(3 * crate::limits::DRAIN_LOOK).await;
    assert_eq!(caller.control.connections(&callee.peer).len(), 2);
    assert_eq!(echoed(&mut relayed, b"to the end").await.unwrap(), b"to the end");
    drop(relayed);
    caller.until(|_| caller.control.connections(&callee.peer).len() == 1).await;
    callee.until(|_| callee.control.connections(&caller.peer).len() == 1).await;
    assert_eq!(caller.control.connections(&callee.peer)[0].id, direct.id);
}

#[tokio::test]
async fn a_punch_that_leads_nowhere_says_so_and_leaves_the_relayed_way() {
    let (_relay, relay_at) = relay(1).await;
    let (caller, mut callee) = (device(2), device(3));
    let circuit = callee.listen_through(&relay_at).await;
    let _echo = callee.echo();
    let mut relayed = caller.open(callee.peer, &[circuit]).await.unwrap();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead: Multiaddr = format!("/ip4/127.0.0.1/tcp/{dead}").parse().unwrap();
    let failed = caller.control.punch(callee.peer, vec![dead], Role::Dialer, LONG).await;
    assert!(matches!(failed, Err(OpenError::Dial { .. })), "{failed:?}");
    assert_eq!(echoed(&mut relayed, b"as before").await.unwrap(), b"as before");
}

/// Stock libp2p, as the side that dialled through the relay.
#[derive(NetworkBehaviour)]
struct Stock {
    relay: stock::client::Behaviour,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    dcutr: dcutr::Behaviour,
}

fn stock_swarm(seed: u8) -> Swarm<Stock> {
    let keypair = identity::keypair(&secret(seed));
    SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|keypair, relay| Stock {
            relay,
            ping: ping::Behaviour::default(),
            identify: identify::Behaviour::new(identify::Config::new("/stock/1".into(), keypair.public())),
            dcutr: dcutr::Behaviour::new(keypair.public().to_peer_id()),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(LONG))
        .build()
}

#[tokio::test]
async fn stock_libp2p_answers_our_invitation() {
    let (relay, relay_at) = relay(1).await;
    let mut callee = device(3);
    let circuit = callee.listen_through(&relay_at).await;
    let callee_at = callee.listen_directly().await;

    let mut swarm = stock_swarm(2);
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    swarm.dial(relay_at).unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    let stock = tokio::spawn(async move {
        let mut tell = Some(tell);
        loop {
            match swarm.select_next_some().await {
                // Where the relay sees it is what it will tell us.
                SwarmEvent::Behaviour(StockEvent::Identify(identify::Event::Received {
                    peer_id, ..
                })) if peer_id == relay.peer => {
                    swarm.dial(circuit.clone()).unwrap();
                }
                SwarmEvent::Behaviour(StockEvent::Dcutr(event)) => {
                    tell.take().map(|tell| tell.send(event.result.map(drop)));
                }
                _ => {}
            }
        }
    });
    callee.until(|_| !callee.control.connections(&peer(2)).is_empty()).await;
    let stream = callee.control.open(peer(2), vec![], PING, LONG).await.unwrap();
    assert!(stream.path().is_relayed());
    let hold = stream.tether().hold().unwrap();
    let mut stream = hold.open(punch::PROTOCOL, LONG).await.unwrap();
    let theirs = soon(punch::invite(&mut stream, &[callee_at])).await.unwrap();
    assert!(theirs.iter().all(|at| !at.iter().any(|part| matches!(part, Protocol::P2p(_)))), "{theirs:?}");
    let direct = callee.control.punch(peer(2), theirs, Role::Listener, LONG).await.unwrap();
    assert!(!direct.path.is_relayed());
    soon(told).await.unwrap().unwrap();
    stock.abort();
}
