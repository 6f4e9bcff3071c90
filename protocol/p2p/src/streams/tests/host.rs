//! A swarm and the task that drives it, as every test here needs them.

use std::{num::NonZeroUsize, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm,
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
    identity,
    swarm::{DeviceBehaviour, DeviceConfig, NodeBehaviour, NodeConfig, device_swarm, node_swarm},
};

pub(super) const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");

/// Longer than anything here takes; a test that reaches it has failed.
pub(super) const LONG: Duration = Duration::from_secs(30);

pub(super) trait HasStreams: NetworkBehaviour {
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

type Job<B> = Box<dyn FnOnce(&mut Swarm<B>) + Send>;

/// A running swarm; dropping it ends its task and with it all its connections.
pub(super) struct Host<B: NetworkBehaviour> {
    pub(super) peer: PeerId,
    pub(super) control: Control,
    jobs: mpsc::UnboundedSender<Job<B>>,
    addresses: mpsc::UnboundedReceiver<Multiaddr>,
    task: JoinHandle<()>,
}

impl<B: NetworkBehaviour> Drop for Host<B> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn start<B: HasStreams<ToSwarm: Send> + Send>((mut swarm, control): (Swarm<B>, Control)) -> Host<B> {
    let (jobs, mut to_do) = mpsc::unbounded_channel::<Job<B>>();
    let (found, addresses) = mpsc::unbounded_channel();
    let peer = *swarm.local_peer_id();
    let task = tokio::spawn(async move {
        loop {
            tokio::select! {
                event = swarm.select_next_some() => {
                    if let SwarmEvent::NewListenAddr { address, .. } = event {
                        let _ = found.send(address);
                    }
                }
                Some(job) = to_do.recv() => job(&mut swarm),
            }
        }
    });
    Host { peer, control, jobs, addresses, task }
}

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

pub(super) fn peer(seed: u8) -> PeerId {
    identity::peer_id_of(&secret(seed).public_key())
}

pub(super) fn node(seed: u8) -> Host<NodeBehaviour> {
    node_with(seed, Limits::default())
}

pub(super) fn node_with(seed: u8, streams: Limits) -> Host<NodeBehaviour> {
    start(node_swarm(&secret(seed), &NodeConfig { streams, ..NodeConfig::new("test/1") }).unwrap())
}

/// A node with no more than this many connections.
pub(super) fn node_of(seed: u8, connections: u32) -> Host<NodeBehaviour> {
    start(node_swarm(&secret(seed), &NodeConfig { connections, ..NodeConfig::new("test/1") }).unwrap())
}

/// A device with no more than this many connections.
pub(super) fn device_of(seed: u8, connections: u32) -> Host<DeviceBehaviour> {
    start(device_swarm(&secret(seed), &DeviceConfig { connections, ..DeviceConfig::new("test/1") }).unwrap())
}

pub(super) fn device(seed: u8) -> Host<DeviceBehaviour> {
    start(device_swarm(&secret(seed), &DeviceConfig::new("test/1")).unwrap())
}

impl<B: HasStreams> Host<B> {
    /// Runs `job` in the swarm's task.
    pub(super) async fn with<T: Send + 'static>(
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
    pub(super) async fn listen(&mut self, address: Multiaddr) -> Multiaddr {
        self.with(|swarm| swarm.listen_on(address).unwrap()).await;
        soon(self.addresses.recv()).await.unwrap()
    }

    /// Listens on loopback.
    pub(super) async fn listen_directly(&mut self) -> Multiaddr {
        self.listen("/ip4/127.0.0.1/tcp/0".parse().unwrap()).await
    }

    /// Reserves a place at the relay and returns the circuit to this host.
    pub(super) async fn listen_through(&mut self, relay: &Multiaddr) -> Multiaddr {
        self.listen(relay.clone().with(Protocol::P2pCircuit)).await
    }

    pub(super) async fn usage(&self) -> Usage {
        self.with(|swarm| swarm.behaviour().streams().usage()).await
    }

    /// Waits until the behaviour holds what `wanted` says.
    pub(super) async fn until(&self, wanted: impl Fn(Usage) -> bool) {
        let reached = async {
            while !wanted(self.usage().await) {
                tokio::task::yield_now().await;
            }
        };
        soon(reached).await;
    }

    pub(super) fn accept(&self, queue: usize) -> Incoming {
        self.control.accept(ECHO, NonZeroUsize::new(queue).unwrap()).unwrap()
    }

    /// Sends back what comes on every stream, for as long as the test lasts.
    pub(super) fn echo(&self) -> JoinHandle<()> {
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

    pub(super) async fn open(&self, to: PeerId, at: &[Multiaddr]) -> Result<PeerStream, OpenError> {
        self.control.open(to, at.to_vec(), ECHO, LONG).await
    }
}

/// A relay: a node that tells where it can be reached. Returns the multiaddr that names it, too.
pub(super) async fn relay(seed: u8) -> (Host<NodeBehaviour>, Multiaddr) {
    let mut relay = node(seed);
    let address = relay.listen_directly().await;
    let external = address.clone();
    relay.with(|swarm| swarm.add_external_address(external)).await;
    let named = address.with(Protocol::P2p(relay.peer));
    (relay, named)
}

/// Waits for what must come soon; a test that waits in vain fails instead of hanging.
pub(super) async fn soon<T>(outcome: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, outcome).await.unwrap()
}

/// Sends `bytes`, closes this side, and returns what comes back until the other side closes.
pub(super) async fn echoed(stream: &mut PeerStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(bytes).await?;
    stream.close().await?;
    let mut back = Vec::new();
    soon(stream.read_to_end(&mut back)).await?;
    Ok(back)
}
