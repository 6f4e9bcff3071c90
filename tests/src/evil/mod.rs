//! A node that lies. It speaks the real protocols and passes each question on to an honest node; what
//! comes back it falsifies, in one way chosen at its start.
//!
//! It is a program of its own, because `windlass-node` has no switch to misbehave. It holds one committee key
//! where the lie needs one, and never more: everything else genuine in its answers was signed by others.

mod lie;

pub use lie::{Lie, Signer};

use anyhow::{Context, bail};
use futures::{AsyncWriteExt, StreamExt};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::libp2p::multiaddr::Protocol;
use windlass_p2p::libp2p::swarm::SwarmEvent;
use windlass_p2p::swarm::{NodeConfig, node_swarm};
use windlass_p2p::{Control, Multiaddr, PeerId, PeerStream, StreamProtocol};
use windlass_protocol::message::MAX_FRAME;
use windlass_protocol::message::names;
use windlass_protocol::message::resolve::{Request, Response};
use windlass_protocol::question::{Question, Target};
use windlass_protocol::slot::Slot;
use windlass_protocol::{SecretKey, wire};

/// How long the honest node may take.
const HONEST_WITHIN: Duration = Duration::from_secs(5);
/// Requests that wait while others are served.
const QUEUE: NonZeroUsize = NonZeroUsize::new(16).expect("16 is not zero");

/// What an evil node is started with.
pub struct Config {
    /// Whom it asks, with peer id.
    pub honest: Multiaddr,
    /// How it lies.
    pub lie: Lie,
    /// The question whose answer it records at its start, for [`Lie::StaleHead`].
    pub record: Option<Target>,
    /// A genuine committee key and the chain it signs for, where the lie needs them.
    pub signer: Option<Signer>,
}

struct Evil {
    control: Control,
    honest_peer: PeerId,
    honest: Multiaddr,
    lie: Lie,
    recorded: Option<Response>,
    signer: Signer,
}

/// Starts the node and runs it until the future is dropped; `ready` gets its multiaddr.
pub async fn run(config: Config, ready: impl FnOnce(&Multiaddr)) -> anyhow::Result<()> {
    let key = SecretKey::from_bytes(&rand::random()).context("the random key is not one; start again")?;
    let (mut swarm, control) = node_swarm(&key, &NodeConfig::new("evil-node"))?;
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let mut listen = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    listen.push(Protocol::P2p(*swarm.local_peer_id()));
    let driver = async move {
        loop {
            swarm.select_next_some().await;
        }
    };
    let Some(Protocol::P2p(honest_peer)) = config.honest.iter().last() else {
        bail!("{} does not end in /p2p/…", config.honest);
    };
    let signer = config.signer.unwrap_or(Signer { key, spec: None });
    let mut evil =
        Evil { control, honest_peer, honest: config.honest, lie: config.lie, recorded: None, signer };
    let serve = async move {
        if let Some(target) = config.record {
            let request = Request::of(vec![Question::Target(target)]);
            evil.recorded = Some(evil.ask_honest(&wire::encode(&request)).await?);
        }
        let mut incoming = evil.control.accept(StreamProtocol::new(names::RESOLVE), QUEUE)?;
        ready(&listen);
        let evil = Arc::new(evil);
        while let Some(stream) = incoming.next().await {
            let evil = evil.clone();
            tokio::spawn(async move {
                if let Err(error) = evil.answer(stream).await {
                    tracing::info!("no answer: {error:#}");
                }
            });
        }
        anyhow::Ok(())
    };
    tokio::select! {
        never = driver => never,
        served = serve => served,
    }
}

impl Evil {
    async fn answer(&self, mut stream: PeerStream) -> anyhow::Result<()> {
        let request = read_frame(&mut stream).await?;
        let lie = match self.lie {
            // Held open until the asker gives up.
            Lie::Silence => return std::future::pending().await,
            Lie::Garbage => vec![0xf8; 100],
            // Genuine to the last bit, only of something else.
            Lie::ForeignProof => {
                let request = Request::of(vec![Question::Slot(Slot::Fleet(1))]);
                wire::encode(&self.ask_honest(&wire::encode(&request)).await?)
            }
            lie => {
                let honest = self.ask_honest(&request).await?;
                wire::encode(&lie.falsify(honest, self.recorded.as_ref(), &self.signer))
            }
        };
        write_frame(&mut stream, &lie).await?;
        Ok(stream.close().await?)
    }

    async fn ask_honest(&self, request: &[u8]) -> anyhow::Result<Response> {
        let protocol = StreamProtocol::new(names::RESOLVE);
        let addresses = vec![self.honest.clone()];
        let mut stream = self.control.open(self.honest_peer, addresses, protocol, HONEST_WITHIN).await?;
        write_frame(&mut stream, request).await?;
        let response = read_frame(&mut stream).await?;
        Ok(wire::decode(&response, MAX_FRAME)?)
    }
}
