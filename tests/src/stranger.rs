//! Somebody whom nobody knows: a random key, a swarm as devices have one, and no manners.
//!
//! It speaks to nodes and devices over the real transports and judges nothing; what it sends is the scenario's business.

use anyhow::{Context, bail};
use futures::StreamExt;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::libp2p::multiaddr::Protocol;
use windlass_p2p::libp2p::swarm::SwarmEvent;
use windlass_p2p::swarm::{DeviceConfig, device_swarm};
use windlass_p2p::{Control, Multiaddr, PeerId, PeerStream, StreamProtocol};
use windlass_protocol::message::names;
use windlass_protocol::message::resolve::{Request, Response};
use windlass_protocol::question::Question;
use windlass_protocol::{SecretKey, wire};

/// Time for a stream to open.
pub const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// Time for a reservation to be granted.
const RESERVE_WITHIN: Duration = Duration::from_secs(10);
/// Streams it keeps open to one peer: more than anybody should.
const STREAMS: usize = 4_096;

/// A stranger. It is gone when dropped.
#[derive(Debug)]
pub struct Stranger {
    /// Who it is.
    pub peer: PeerId,
    /// Its streams.
    pub control: Control,
    driver: JoinHandle<()>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Stranger {
    /// One with a key of its own.
    pub fn new() -> anyhow::Result<Self> {
        let key = SecretKey::from_bytes(&rand::random()).context("the random key is not one; start again")?;
        let (mut swarm, control) = device_swarm(&key, &config())?;
        let peer = *swarm.local_peer_id();
        let driver = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Ok(Self { peer, control, driver })
    }

    /// One that holds a reservation at this relay, multiaddr with its peer id.
    pub async fn reserved_at(relay: &Multiaddr) -> anyhow::Result<Self> {
        let key = SecretKey::from_bytes(&rand::random()).context("the random key is not one; start again")?;
        let (mut swarm, control) = device_swarm(&key, &config())?;
        let peer = *swarm.local_peer_id();
        swarm.listen_on(relay.clone().with(Protocol::P2pCircuit))?;
        let granted = async {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::NewListenAddr { .. } => return Ok(()),
                    SwarmEvent::ListenerClosed { reason, .. } => bail!("no reservation: {reason:?}"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(RESERVE_WITHIN, granted).await.context("no reservation in time")??;
        let driver = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Ok(Self { peer, control, driver })
    }

    /// Opens a stream to whoever is at this multiaddr, which ends in a peer id.
    pub async fn stream(&self, at: &Multiaddr, protocol: &'static str) -> anyhow::Result<PeerStream> {
        let peer = peer_of(at)?;
        let mut address = at.clone();
        if !address.iter().any(|part| part == Protocol::P2pCircuit) {
            address.pop();
        }
        let protocol = StreamProtocol::new(protocol);
        Ok(self.control.open(peer, vec![address], protocol, OPEN_WITHIN).await?)
    }

    /// Asks a node for its head, as anybody may, and returns what it says.
    pub async fn ask(&self, node: &Multiaddr) -> anyhow::Result<Response> {
        let mut stream = self.stream(node, names::RESOLVE).await?;
        let request = Request::of(Vec::<Question>::new());
        let exchange = async {
            write_frame(&mut stream, &wire::encode(&request)).await?;
            read_frame(&mut stream).await
        };
        let frame = tokio::time::timeout(OPEN_WITHIN, exchange).await.context("no answer in time")??;
        Ok(wire::decode(&frame, windlass_protocol::message::MAX_FRAME)?)
    }
}

fn config() -> DeviceConfig {
    let mut config = DeviceConfig::new("stranger");
    config.streams.streams_per_peer = STREAMS;
    config
}

/// The peer that a multiaddr ends in.
pub fn peer_of(at: &Multiaddr) -> anyhow::Result<PeerId> {
    match at.iter().last() {
        Some(Protocol::P2p(peer)) => Ok(peer),
        _ => bail!("{at} does not end in /p2p/…"),
    }
}

/// What a process takes of its machine.
#[derive(Clone, Copy, Debug)]
pub struct Vitals {
    /// KiB of memory.
    pub memory: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Vitals {
    /// Those of a process that runs.
    pub fn of(process: u32) -> anyhow::Result<Self> {
        let folder = Path::new("/proc").join(process.to_string());
        let status = std::fs::read_to_string(folder.join("status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|rest| rest.split_whitespace().next()).context("no VmRSS")?;
        let descriptors = std::fs::read_dir(folder.join("fd"))?.count();
        Ok(Self { memory: resident.parse()?, descriptors })
    }
}
