//! A swarm and the task that drives it, as every test here needs them.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, identify,
    multiaddr::Protocol,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use windlass_protocol::SecretKey;

use super::super::{Behaviour, Control, Incoming, Limits, OpenError, PeerStream, Usage};
use crate::{
    Transport, identity,
    relay::{Everybody, Policy, RelayConfig, RelayStats, Server},
    swarm::{
        DeviceBehaviour, DeviceConfig, DeviceEvent, NodeBehaviour, NodeConfig, NodeEvent, device_swarm,
        node_swarm,
    },
};

pub(crate) const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");

/// Longer than anything here takes; a test that reaches it has failed.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) trait HasStreams: NetworkBehaviour {
    fn streams(&self) -> &Behaviour;
}

impl HasStreams for NodeBehaviour {
    fn streams(&self) -> &Behaviour {
        &self.streams
    }
}

impl HasStreams for DeviceBehaviour {
    fn streams(&self) -> &Behaviour {
        &self.streams
    }
}

/// What a peer's identify named, if that is what happened.
pub(crate) trait Named {
    fn named(self) -> Option<Vec<Multiaddr>>;
}

impl Named for NodeEvent {
    fn named(self) -> Option<Vec<Multiaddr>> {
        let Self::Identify(event) = self else { return None };
        if let identify::Event::Received { info, .. } = *event { Some(info.listen_addrs) } else { None }
    }
}

impl Named for DeviceEvent {
    fn named(self) -> Option<Vec<Multiaddr>> {
        let Self::Identify(event) = self else { return None };
        if let identify::Event::Received { info, .. } = *event { Some(info.listen_addrs) } else { None }
    }
}

/// The transports that are compiled in.
pub(crate) const TRANSPORTS: &[Transport] =
    if cfg!(feature = "quic") { &[Transport::Tcp, Transport::Quic] } else { &[Transport::Tcp] };

type Job<B> = Box<dyn FnOnce(&mut Swarm<B>) + Send>;

/// A running swarm; dropping it ends its task and with it all its connections.
pub(crate) struct Host<B: NetworkBehaviour> {
    pub(crate) peer: PeerId,
    pub(crate) control: Control,
    jobs: mpsc::UnboundedSender<Job<B>>,
    addresses: mpsc::UnboundedReceiver<Multiaddr>,
    /// The addresses that each peer's identify named.
    pub(crate) identified: mpsc::UnboundedReceiver<Vec<Multiaddr>>,
    task: JoinHandle<()>,
    /// The relay that runs on it, if one does.
    relay: Option<JoinHandle<()>>,
}

impl<B: NetworkBehaviour> Drop for Host<B> {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(relay) = &self.relay {
            relay.abort();
        }
    }
}

fn start<B: HasStreams<ToSwarm: Send + Named> + Send>((mut swarm, control): (Swarm<B>, Control)) -> Host<B> {
    let (jobs, mut to_do) = mpsc::unbounded_channel::<Job<B>>();
    let (found, addresses) = mpsc::unbounded_channel();
    let (heard, identified) = mpsc::unbounded_channel();
    let peer = *swarm.local_peer_id();
    let task = tokio::spawn(async move {
        loop {
            tokio::select! {
                event = swarm.select_next_some() => {
                    match event {
                        SwarmEvent::NewListenAddr { address, .. } => {
                            let _ = found.send(address);
                        }
                        SwarmEvent::Behaviour(event) => {
                            event.named().map(|named| heard.send(named));
                        }
                        _ => {}
                    }
                }
                Some(job) = to_do.recv() => job(&mut swarm),
            }
        }
    });
    Host { peer, control, jobs, addresses, identified, task, relay: None }
}

pub(crate) fn secret(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

pub(crate) fn peer(seed: u8) -> PeerId {
    identity::peer_id_of(&secret(seed).public_key())
}

pub(crate) fn node(seed: u8) -> Host<NodeBehaviour> {
    node_with(seed, Limits::default())
}

pub(crate) fn node_with(seed: u8, streams: Limits) -> Host<NodeBehaviour> {
    start(node_swarm(&secret(seed), &NodeConfig { streams, ..NodeConfig::new("test/1") }).unwrap())
}

/// A node with no more than this many connections.
pub(crate) fn node_of(seed: u8, connections: u32) -> Host<NodeBehaviour> {
    start(node_swarm(&secret(seed), &NodeConfig { connections, ..NodeConfig::new("test/1") }).unwrap())
}

/// A node that keeps an idle connection for no longer than this.
pub(crate) fn node_idle(seed: u8, idle: Duration) -> Host<NodeBehaviour> {
    start(node_swarm(&secret(seed), &NodeConfig { idle, ..NodeConfig::new("test/1") }).unwrap())
}

/// A device with no more than this many connections.
pub(crate) fn device_of(seed: u8, connections: u32) -> Host<DeviceBehaviour> {
    start(device_swarm(&secret(seed), &DeviceConfig { connections, ..DeviceConfig::new("test/1") }).unwrap())
}

pub(crate) fn device(seed: u8) -> Host<DeviceBehaviour> {
    start(device_swarm(&secret(seed), &DeviceConfig::new("test/1")).unwrap())
}

impl<B: HasStreams> Host<B> {
    /// Runs `job` in the swarm's task.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Swarm<B>) -> T + Send + 'static,
    ) -> T {
        let (done, result) = oneshot::channel();
        let job: Job<B> = Box::new(move |swarm| {
            let _ = done.send(job(swarm));
        });
        assert!(self.jobs.send(job).is_ok());
        result.await.unwrap()
    }

    /// Listens at `address` and returns where that came to be.
    pub(crate) async fn listen(&mut self, address: Multiaddr) -> Multiaddr {
        self.with(|swarm| swarm.listen_on(address).unwrap()).await;
        soon(self.addresses.recv()).await.unwrap()
    }

    /// Listens on loopback over this transport.
    pub(crate) async fn listen_over(&mut self, transport: Transport) -> Multiaddr {
        let address = match transport {
            Transport::Tcp => "/ip4/127.0.0.1/tcp/0",
            Transport::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
        };
        self.listen(address.parse().unwrap()).await
    }

    /// Listens on loopback.
    pub(crate) async fn listen_directly(&mut self) -> Multiaddr {
        self.listen_over(Transport::Tcp).await
    }

    /// Reserves a place at the relay and returns the circuit to this host.
    pub(crate) async fn listen_through(&mut self, relay: &Multiaddr) -> Multiaddr {
        self.listen(relay.clone().with(Protocol::P2pCircuit)).await
    }

    pub(crate) async fn usage(&self) -> Usage {
        self.with(|swarm| swarm.behaviour().streams().usage()).await
    }

    /// Waits until the behaviour holds what `wanted` says.
    pub(crate) async fn until(&self, wanted: impl Fn(Usage) -> bool) {
        let reached = async {
            while !wanted(self.usage().await) {
                tokio::task::yield_now().await;
            }
        };
        soon(reached).await;
    }

    pub(crate) fn accept(&self, queue: usize) -> Incoming {
        self.control.accept(ECHO, NonZeroUsize::new(queue).unwrap()).unwrap()
    }

    /// Sends back what comes on every stream, for as long as the test lasts.
    pub(crate) fn echo(&self) -> JoinHandle<()> {
        let mut incoming = self.accept(64);
        tokio::spawn(async move {
            while let Some(stream) = incoming.next().await {
                tokio::spawn(async move {
                    let (read, mut write) = stream.split();
                    futures::io::copy(read, &mut write).await?;
                    write.close().await
                });
            }
        })
    }

    pub(crate) async fn open(&self, to: PeerId, at: &[Multiaddr]) -> Result<PeerStream, OpenError> {
        self.control.open(to, at.to_vec(), ECHO, LONG).await
    }
}

/// A relay for everybody: a node that tells where it can be reached. Returns the multiaddr that names it, too.
pub(crate) async fn relay(seed: u8) -> (Host<NodeBehaviour>, Multiaddr) {
    let (relay, at, _) = relay_with(node(seed), seed, RelayConfig::default(), Arc::new(Everybody)).await;
    (relay, at)
}

/// A relay for everybody that is reached over this transport.
pub(crate) async fn relay_on(
    mut node: Host<NodeBehaviour>,
    seed: u8,
    transport: Transport,
) -> (Host<NodeBehaviour>, Multiaddr) {
    let at = locate_over(&mut node, transport).await;
    let server = server(&node, seed, RelayConfig::default(), Arc::new(Everybody));
    node.relay = Some(tokio::spawn(server.run(std::future::pending())));
    (node, at)
}

/// The same with a configuration and a policy of its own, on a node of its own.
pub(crate) async fn relay_with(
    mut node: Host<NodeBehaviour>,
    seed: u8,
    config: RelayConfig,
    policy: Arc<dyn Policy>,
) -> (Host<NodeBehaviour>, Multiaddr, RelayStats) {
    let at = locate(&mut node).await;
    let server = server(&node, seed, config, policy);
    let stats = server.stats();
    node.relay = Some(tokio::spawn(server.run(std::future::pending())));
    (node, at, stats)
}

/// Listens, tells the swarm that this is where it is, and returns the multiaddr that names it.
pub(crate) async fn locate(node: &mut Host<NodeBehaviour>) -> Multiaddr {
    locate_over(node, Transport::Tcp).await
}

/// The same over this transport.
pub(crate) async fn locate_over(node: &mut Host<NodeBehaviour>, transport: Transport) -> Multiaddr {
    let address = node.listen_over(transport).await;
    let external = address.clone();
    node.with(|swarm| swarm.add_external_address(external)).await;
    address.with(Protocol::P2p(node.peer))
}

pub(crate) fn server(
    node: &Host<NodeBehaviour>,
    seed: u8,
    config: RelayConfig,
    policy: Arc<dyn Policy>,
) -> Server {
    Server::new(identity::keypair(&secret(seed)), node.control.clone(), policy, config).unwrap()
}

/// Waits for what must come soon; a test that waits in vain fails instead of hanging.
pub(crate) async fn soon<T>(outcome: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, outcome).await.unwrap()
}

/// Sends `bytes`, closes this side, and returns what comes back until the other side closes.
pub(crate) async fn echoed(stream: &mut PeerStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(bytes).await?;
    stream.close().await?;
    let mut back = Vec::new();
    soon(stream.read_to_end(&mut back)).await?;
    Ok(back)
}
