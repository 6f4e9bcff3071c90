//! A Windlass node: mirrors the registry of one chain in RocksDB, proves what it answers under heads that a
//! committee attests, and relays sealed bytes between devices.
//!
//! | module | owns |
//! | --- | --- |
//! | [`cli`] | the command line of `windlass-node` |
//! | [`config`] | the configuration file |
//! | [`node`] | starting and stopping every task |
//! | [`chain`] | what is asked of chain providers |
//! | [`store`] | the data directory: column families, the mirror at a height |
//! | [`follower`] | the `registry` task: from the chain into the mirror |
//! | [`head`] | the `committees`, `attest`, `gossip` and `recovery` tasks: who is in office, signing, collecting, the served head, kept heads |
//! | [`dht`] | the `dht` task: routes at other nodes |
//! | [`serve`] | the `resolver`, `watch` and `routes` tasks: what peers may ask |
//! | [`evidence`] | the `evidence` task: members that signed two blocks, reported to the chain |
//! | [`rate`] | how often a peer may ask or tell |
//! | [`seats`] | how many streams of a protocol a peer may have open |
//! | [`network`] | the `network` task: the swarm |
//! | [`relay`] | the `relay` task: whom it serves; the rest of it, and the `autonat` task, are in `windlass_p2p` |
//! | [`admin`], [`metrics`] | the `admin` task: health and metrics over HTTP |
//! | [`spec_file`] | the `spec` task: a renewed chain spec is passed on as soon as it lies there |
//! | [`snapshot`] | the mirror at one block as a file |
//! | [`limits`] | every bound |
//!
//! Who tells whom (all arrows are watched values, except the queues named; nobody waits for a task that
//! waits for them):
//!
//! ```text
//!  chain ─► registry ──mirror state──► attest ──served head──► resolver, watch, routes, dht, admin
//!              ▲──vouched for──── attest
//!              ├──mirror state──► committees ──who is in office──► attest, gossip, recovery, resolver
//!              │ writes                 │  ▲
//!              ▼                        │  └──heard (queue)── gossip ◄── peers
//!            store ◄── reads at a       └─────told──────────► gossip ──► peers
//!                      height: all      network ──streams (queue)──► gossip, resolver, watch, routes, dht, relay
//!                                  routes ──wishes, routes (queues)──► dht ◄──► other nodes
//! ```

pub mod admin;
pub mod chain;
pub mod cli;
mod clock;
pub mod config;
pub mod dht;
pub mod evidence;
pub mod follower;
pub mod head;
pub mod limits;
pub mod metrics;
pub mod network;
pub mod node;
mod on_disk;
pub mod rate;
pub mod relay;
pub mod seats;
pub mod serve;
pub mod snapshot;
pub mod spec_file;
pub mod store;
#[cfg(test)]
mod testing;

pub use config::{ConfigError, NodeConfig};
pub use node::{Node, StartError};
