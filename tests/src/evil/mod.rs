//! A node that lies. It speaks the real protocols and passes each question on to an honest node; what
//! comes back it falsifies, in one way chosen at its start.
//!
//! It is a program of its own, because `windlass-node` has no switch to misbehave. It holds one committee key
//! where the lie needs one, and never more: everything else genuine in its answers was signed by others.

mod lie;

pub use lie::{Lie, Signer};

use anyhow::{Context, bail};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::libp2p::multiaddr::Protocol;
use windlass_p2p::libp2p::swarm::SwarmEvent;
use windlass_p2p::swarm::{NodeConfig, node_swarm};
use windlass_p2p::{Control, Multiaddr, PeerId, PeerStream, StreamProtocol};
use windlass_protocol::bundle::Bundle;
use windlass_protocol::message::MAX_FRAME;
use windlass_protocol::message::names;
use windlass_protocol::message::resolve::{Request, Response};
use windlass_protocol::message::watch::{FromNode, Push};
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
        let mut questions = evil.control.accept(StreamProtocol::new(names::RESOLVE), QUEUE)?;
        let mut watches = evil.control.accept(StreamProtocol::new(names::WATCH), QUEUE)?;
        ready(&listen);
        let evil = Arc::new(evil);
        loop {
            let evil = evil.clone();
            tokio::select! {
                Some(stream) = questions.next() => drop(tokio::spawn(async move {
                    if let Err(error) = evil.answer(stream).await {
                        tracing::info!("no answer: {error:#}");
                    }
                })),
                // Any other liar resets it: it has nothing to push.
                Some(stream) = watches.next() => if evil.lie == Lie::WithheldPush {
                    tokio::spawn(async move {
                        if let Err(error) = evil.withhold(stream).await {
                            tracing::info!("nobody watches any more: {error:#}");
                        }
                    });
                },
                else => return anyhow::Ok(()),
            }
        }
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

    /// Passes on what the client watches, and everything back but changes: what was proven once is as it was.
    async fn withhold(&self, client: PeerStream) -> anyhow::Result<()> {
        let protocol = StreamProtocol::new(names::WATCH);
        let addresses = vec![self.honest.clone()];
        let honest = self.control.open(self.honest_peer, addresses, protocol, HONEST_WITHIN).await?;
        let (mut from_client, mut to_client) = client.split();
        let (mut from_honest, mut to_honest) = honest.split();
        let there = async {
            loop {
                write_frame(&mut to_honest, &read_frame(&mut from_client).await?).await?;
            }
        };
        let back = async {
            let mut told = BTreeSet::new();
            loop {
                let frame = read_frame(&mut from_honest).await?;
                let FromNode::Push(mut push) = wire::decode(&frame, MAX_FRAME)? else { continue };
                let known = push.slots.iter().filter(|slot| !told.insert(**slot)).count();
                if known > 0 {
                    push = Push { slots: Vec::new(), bundle: Bundle { storage: Vec::new(), ..push.bundle } };
                }
                write_frame(&mut to_client, &wire::encode(&push)).await?;
            }
        };
        tokio::select! {
            ended = there => ended,
            ended = back => ended,
        }
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
