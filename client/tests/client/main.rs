//! The light client against fake nodes on loopback: real libp2p, real tries, real signatures; only the chain
//! is made up, and the nodes lie on demand.
#![allow(clippy::unwrap_used)]

mod bursts;
mod cold;
mod datagrams;
mod direct;
mod endings;
mod fake_node;
mod limits;
mod renewal;
mod resolution;
mod staples;
mod streams;
mod walk;
mod warm;
mod world;
