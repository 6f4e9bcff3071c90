//! Stock rust-libp2p: TCP, Noise and yamux with their defaults, streams by `libp2p-stream`, relaying by
//! circuit relay v2 whose caps and rate limits are lifted.

use crate::system::{Dialler, Running, Stream, System};
use crate::workload;
use anyhow::{Context, Result, anyhow, bail};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use libp2p::identity::{Keypair, secp256k1};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, noise, relay, tcp, yamux};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::compat::FuturesAsyncReadCompatExt;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/windlass-bench/1");
const VERSION: &str = "/windlass-bench/1";
/// Longer than any measurement: an idle connection must not close under the clock.
const IDLE: Duration = Duration::from_secs(600);

pub struct Stock {
    pub relayed: bool,
}

#[derive(NetworkBehaviour)]
struct Device {
    relay: relay::client::Behaviour,
    identify: identify::Behaviour,
    streams: libp2p_stream::Behaviour,
}

#[derive(NetworkBehaviour)]
struct Forwarder {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
}

impl System for Stock {
    fn label(&self) -> &'static str {
        if self.relayed {
            "stock rust-libp2p 0.57, circuit relay v2 over TCP"
        } else {
            "stock rust-libp2p 0.57, TCP + Noise + yamux"
        }
    }

    fn has_network(&self) -> bool {
        self.relayed
    }

    fn network(&self) -> BoxFuture<'_, Result<Running>> {
        async {
            let mut swarm = forwarder()?;
            let address = listening(&mut swarm).await?;
            // Without an external address its reservations would name none.
            swarm.add_external_address(address.clone());
            let contact =
                address.with_p2p(*swarm.local_peer_id()).map_err(|_| anyhow!("a foreign peer id"))?;
            let running = tokio::spawn(async move { while swarm.next().await.is_some() {} });
            Ok(Running { contact: contact.to_string(), alive: Box::new(running) })
        }
        .boxed()
    }

    fn listen<'a>(&'a self, relay: Option<&'a str>) -> BoxFuture<'a, Result<Running>> {
        async move {
            let mut swarm = device()?;
            let mut incoming = swarm.behaviour().streams.new_control().accept(PROTOCOL)?;
            tokio::spawn(async move {
                while let Some((_, stream)) = incoming.next().await {
                    tokio::spawn(workload::serve(stream.compat()));
                }
            });
            let address = match relay {
                None => listening(&mut swarm).await?,
                Some(relay) => reserved(&mut swarm, relay.parse()?).await?,
            };
            let contact =
                address.with_p2p(*swarm.local_peer_id()).map_err(|_| anyhow!("a foreign peer id"))?;
            let running = tokio::spawn(async move { while swarm.next().await.is_some() {} });
            Ok(Running { contact: contact.to_string(), alive: Box::new(running) })
        }
        .boxed()
    }

    fn dialler<'a>(&'a self, relay: Option<&'a str>, _: usize) -> BoxFuture<'a, Result<Box<dyn Dialler>>> {
        async move {
            let swarm = device()?;
            let control = swarm.behaviour().streams.new_control();
            let (requests, inbox) = mpsc::channel(1);
            let mut one = One { control, requests, peer: None, driver: tokio::spawn(drive(swarm, inbox)) };
            if let Some(relay) = relay {
                one.connect(relay.parse()?).await?;
            }
            Ok(Box::new(one) as Box<dyn Dialler>)
        }
        .boxed()
    }
}

fn device() -> Result<Swarm<Device>> {
    device_of(Keypair::generate_ed25519())
}

/// A stock device with this key and a reservation at this relay, as long as it isn't dropped.
pub async fn reserving(secret: [u8; 32], relay: Multiaddr) -> Result<JoinHandle<()>> {
    let secret = secp256k1::SecretKey::try_from_bytes(secret)?;
    let mut swarm = device_of(secp256k1::Keypair::from(secret).into())?;
    reserved(&mut swarm, relay).await?;
    Ok(tokio::spawn(async move { while swarm.next().await.is_some() {} }))
}

fn device_of(key: Keypair) -> Result<Swarm<Device>> {
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key, relay| Device {
            relay,
            identify: identify::Behaviour::new(identify::Config::new(VERSION.into(), key.public())),
            streams: libp2p_stream::Behaviour::new(),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build();
    Ok(swarm)
}

fn forwarder() -> Result<Swarm<Forwarder>> {
    let uncapped = relay::Config {
        max_reservations: 1024,
        max_reservations_per_peer: 1024,
        reservation_rate_limiters: Vec::new(),
        max_circuits: 1024,
        max_circuits_per_peer: 1024,
        max_circuit_duration: IDLE,
        max_circuit_bytes: 0,
        circuit_src_rate_limiters: Vec::new(),
        ..relay::Config::default()
    };
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| Forwarder {
            relay: relay::Behaviour::new(key.public().to_peer_id(), uncapped),
            identify: identify::Behaviour::new(identify::Config::new(VERSION.into(), key.public())),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build();
    Ok(swarm)
}

/// Listens on loopback and waits for the port.
async fn listening<B: NetworkBehaviour>(swarm: &mut Swarm<B>) -> Result<Multiaddr> {
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return Ok(address);
        }
    }
}

/// Reserves at the relay and waits until it agreed.
async fn reserved(swarm: &mut Swarm<Device>, relay: Multiaddr) -> Result<Multiaddr> {
    let circuit = relay.with(Protocol::P2pCircuit);
    swarm.listen_on(circuit.clone())?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(DeviceEvent::Relay(relay::client::Event::ReservationReqAccepted {
                ..
            })) => {
                return Ok(circuit);
            }
            SwarmEvent::ListenerClosed { reason, .. } => bail!("the relay refused: {reason:?}"),
            _ => {}
        }
    }
}

enum Request {
    Dial(Multiaddr, oneshot::Sender<Result<()>>),
    Disconnect(PeerId, oneshot::Sender<()>),
}

/// Polls the swarm, and does what it is asked to.
async fn drive(mut swarm: Swarm<Device>, mut inbox: mpsc::Receiver<Request>) {
    let mut dialled: HashMap<PeerId, oneshot::Sender<Result<()>>> = HashMap::new();
    let mut closing: HashMap<PeerId, oneshot::Sender<()>> = HashMap::new();
    loop {
        tokio::select! {
            request = inbox.recv() => match request {
                None => return,
                Some(Request::Dial(address, answer)) => match (peer_of(&address), swarm.dial(address)) {
                    (Some(peer), Ok(())) => { dialled.insert(peer, answer); }
                    (None, _) => { let _ = answer.send(Err(anyhow!("a contact without a peer id"))); }
                    (_, Err(error)) => { let _ = answer.send(Err(error.into())); }
                },
                Some(Request::Disconnect(peer, answer)) => {
                    // One that is closed already can't be closed, and nobody waits for it.
                    if swarm.disconnect_peer_id(peer).is_ok() { closing.insert(peer, answer); }
                }
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    dialled.remove(&peer_id).map(|answer| answer.send(Ok(())));
                }
                SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                    closing.remove(&peer_id).map(|answer| answer.send(()));
                }
                SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                    dialled.remove(&peer).map(|answer| answer.send(Err(error.into())));
                }
                _ => {}
            }
        }
    }
}

/// The peer a multiaddr leads to: its last.
fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

struct One {
    control: libp2p_stream::Control,
    requests: mpsc::Sender<Request>,
    /// Whom it is connected to.
    peer: Option<PeerId>,
    driver: JoinHandle<()>,
}

impl One {
    async fn connect(&mut self, address: Multiaddr) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Dial(address, answer)).await.context("the swarm ended")?;
        answered.await.context("the swarm ended")?
    }
}

impl Dialler for One {
    fn open<'a>(&'a mut self, contact: &'a str) -> BoxFuture<'a, Result<Stream>> {
        async move {
            let address: Multiaddr = contact.parse()?;
            let peer = peer_of(&address).context("a contact without a peer id")?;
            self.connect(address).await?;
            self.peer = Some(peer);
            let stream = self.control.open_stream(peer, PROTOCOL).await?;
            Ok(Box::new(stream.compat()) as Stream)
        }
        .boxed()
    }

    fn disconnect(&mut self) -> BoxFuture<'_, Result<()>> {
        async {
            let (answer, answered) = oneshot::channel();
            let peer = self.peer.take().context("not connected")?;
            self.requests.send(Request::Disconnect(peer, answer)).await.context("the swarm ended")?;
            answered.await.context("the swarm ended")
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.driver.abort();
        futures::future::ready(()).boxed()
    }
}
