//! What strangers do to real nodes and devices, and what it may cost: a bounded time, bounded memory, and nobody else
//! anything. Measured from outside, on processes as they are shipped.

#![allow(missing_docs)]

mod expiry;
mod handshake;
mod payload;
mod streams;
mod swap;

use anyhow::Context;
use windlass_p2p::Multiaddr;
use windlass_tests::story::Story;
use windlass_tests::stranger::Vitals;

/// Where a node of the story is, and what it takes.
fn node(story: &Story, index: usize) -> anyhow::Result<(Multiaddr, u32)> {
    let node = story.testnet.nodes().get(index).and_then(Option::as_ref).context("no such node")?;
    Ok((node.multiaddr.parse()?, node.part().process_id().context("it has ended")?))
}

fn vitals(story: &Story, index: usize) -> anyhow::Result<Vitals> {
    Vitals::of(node(story, index)?.1)
}

/// Fails if a node's log tells of a panic.
fn calm(story: &Story, index: usize) -> anyhow::Result<()> {
    let node = story.testnet.nodes().get(index).and_then(Option::as_ref).context("no such node")?;
    let log = std::fs::read_to_string(node.part().log())?;
    anyhow::ensure!(!log.contains("panicked"), "the node panicked: {log}");
    Ok(())
}
