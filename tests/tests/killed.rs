//! kill -9 of each process in turn: what ran beside it goes on, and what is started again serves again.

#![allow(missing_docs)]

use anyhow::{Context, ensure};
use std::time::{Duration, Instant};
use tokio::process::Command;
use windlass_tests::story::{NAME, SOON, Story, curl};
use windlass_tests::windlass::{Running, program};

/// How long the children of a killed parent may live.
const ORPHANS_GONE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_publisher_killed_and_started_again_is_reached_again() -> anyhow::Result<()> {
    let (mut story, a, b) = Story::published().await?;
    let mut forward = story.forward(&b).await?;
    story.fetch_page(&forward).await?;

    story.kill_publisher().await?;
    let address = forward.address;
    ensure!(curl(&format!("http://{address}/")).await.is_err(), "a page came from nobody");
    forward.running.event(SOON, |event| event["event"] == "refused").await?;

    story.publish(&a).await?;
    story.fetch_page(&forward).await?;
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_forward_killed_leaves_its_address_and_its_device_free() -> anyhow::Result<()> {
    let (story, _a, b) = Story::published().await?;
    let forward = story.forward(&b).await?;
    story.fetch_page(&forward).await?;
    let address = forward.address;
    forward.running.kill().await?;
    ensure!(curl(&format!("http://{address}/")).await.is_err(), "somebody listens on {address}");

    let again = story.forward_at(&b, &address.to_string()).await?;
    ensure!(again.address == address, "{} is not {address}", again.address);
    story.fetch_page(&again).await?;
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn streams_outlive_the_chain_and_every_node_restarted_in_turn() -> anyhow::Result<()> {
    let (mut story, _a, b) = Story::published().await?;
    for index in 0..story.testnet.nodes().len() {
        story.testnet.kill_node(index).await?;
        story.testnet.start_node(index).await?;
        story.testnet.wait_healthy().await?;
    }
    let forward = story.forward(&b).await?;
    story.fetch_page(&forward).await?;
    // Without a chain the last proven head still counts until it is too old.
    story.testnet.kill_chain().await?;
    story.fetch_page(&forward).await?;
    let resolved = story.resolve(&b).await?;
    ensure!(resolved["name"] == NAME, "{resolved}");
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_killed_parent_leaves_no_process_and_no_port() -> anyhow::Result<()> {
    let mut command = Command::new(program("windlass-testnet")?);
    command.args(["up", "--nodes=2", "--devices=1", "--port=0", "--json"]);
    let mut network = Running::start(command, "the network".to_owned())?;
    let up = network.event(Duration::from_secs(60), |event| event["devices"].is_array()).await?;
    let rpc = up["rpc_url"].as_str().context("no rpc_url")?.trim_start_matches("http://").to_owned();
    let health = up["nodes"][0]["health"].as_str().context("no health")?.to_owned();
    let children = children(network.process_id().context("it runs")?).await?;
    ensure!(children.len() == 3, "a chain and two nodes: {children:?}");

    network.kill().await?;
    let since = Instant::now();
    while children.iter().any(|child| runs(*child)) {
        ensure!(since.elapsed() < ORPHANS_GONE, "still there: {children:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let free = tokio::net::TcpListener::bind(&rpc).await;
    ensure!(free.is_ok(), "{rpc} is taken: {free:?}");
    ensure!(curl(&health).await.is_err(), "{health} answers");
    Ok(())
}

/// The processes that this one started and that run.
async fn children(parent: u32) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if fields(process).is_some_and(|fields| fields.1 == parent) {
            found.push(process);
        }
    }
    Ok(found)
}

/// Whether a process exists and is more than an entry that nobody has waited for.
fn runs(process: u32) -> bool {
    fields(process).is_some_and(|(state, _)| !state.starts_with(['Z', 'X']))
}

/// A process's state and its parent, as Linux tells them.
fn fields(process: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The program's name stands in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
