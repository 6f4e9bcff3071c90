//! The embeddable light client of Windlass: a device that believes the chain, not the node.
//!
//! It finds devices by name or id with proofs it checks itself, opens end-to-end encrypted streams to them,
//! and publishes services of its own. Nodes are asked, never trusted: an answer without proof is refused, the
//! node named, and the next one asked.
//!
//! ```no_run
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use windlass_client::{Client, Multiaddr, SecretKey, Service, VerifiedSpec};
//!
//! # async fn greet(spec: VerifiedSpec, key: SecretKey, node: Multiaddr) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder(spec, key).nodes([node]).start().await?;
//! let mut stream = client.open(&"workshop-lamp".parse()?, Service::Stream(8080)).await?;
//! println!("reached {} {}", stream.peer(), stream.path());
//! stream.write_all(b"hello").await?;
//! stream.shutdown().await?;
//! let mut answer = Vec::new();
//! stream.read_to_end(&mut answer).await?;
//! client.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | `builder` | what a client is made of, and its start |
//! | `client` | what a client does; its tasks and their end |
//! | `network` | the swarm, and which reservations stand |
//! | `pool` | the nodes, in the order to ask them |
//! | `ask` | questions, and the one entrance of registry facts |
//! | `resolve`, `open`, `publish` | the three things a device does |
//! | `turns` | bursts: how many opens to one device, and how many of one question, at a time |
//! | `warm` | answers kept for who asks the same again, watched meanwhile |
//! | `claim` | what a caller states, and its staple |
//! | `guard`, `keep`, `watch` | live streams: judged on every change, kept fresh, told of changes |
//! | `reach` | reservations and routes while something is published |
//! | `direct`, `confirm` | direct ways to whoever was let in; which addresses are reached from outside |
//! | `lan` | finding each other in a local network, for who opted in |
//! | `verifier`, `walk` | which committee a head is checked with; getting from one to the next |
//! | `renewal` | a newer chain spec, where the present one is too old |
//! | `fresh` | nonces that members sign; a device without a clock |
//! | `heads`, `clock` | the highest head, the time |
//! | `datagrams` | datagrams over a stream |
//! | `stream`, `desk` | the bytes; the places where inbound ones wait to be judged |
//! | `events` | what the owner is told unasked |
//!
//! Tasks send to and wait for each other without a cycle: everything asks `network`; `watch` and `keep` feed
//! `guard`, which only ends streams; `reach` and `publish` read `guard`. Nothing blocks, prints, or is global.

mod ask;
mod backoff;
mod builder;
mod claim;
mod client;
mod clock;
mod confirm;
mod datagrams;
mod desk;
mod direct;
mod events;
mod fresh;
mod guard;
mod heads;
mod interfaces;
mod keep;
mod lan;
pub mod limits;
mod network;
mod open;
mod pool;
mod publish;
mod reach;
mod refused;
mod renewal;
mod resolve;
mod stream;
mod turns;
mod verifier;
mod walk;
mod warm;
mod watch;

pub use ask::{Answer, AskError, Provenance, Source};
pub use builder::{Builder, StartError};
pub use client::Client;
pub use clock::{Clock, NoClock, SystemClock};
pub use datagrams::{DatagramPublication, Datagrams, MAX_DATAGRAM_BYTES, SendError, Sent};
pub use events::{Event, Events};
pub use fresh::Warmth;
pub use guard::{Authorization, Known};
pub use heads::{HeadStore, HighestHead, MemoryHeadStore, Walked};
pub use libp2p::{Multiaddr, PeerId};
pub use limits::Limits;
pub use open::{OpenError, OpenStage};
pub use pool::NodeError;
pub use publish::{Publication, PublishError};
pub use refused::{RefusedNode, Rejection};
pub use resolve::{Denial, ResolveError, Resolved};
pub use stream::{Ended, Stream};
pub use windlass_p2p::{Path, Transport};
pub use windlass_protocol::{
    DeviceId, KeyAddress, Name, SecretKey, Service,
    authorise::{Listed, Mode, Policy, Refusal},
    question::{Question, Target},
    spec::{VerifiedSpec, verify_spec},
};
