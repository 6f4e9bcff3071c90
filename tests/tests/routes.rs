//! Routes at other nodes: a caller and a device that have no node in common.

#![allow(missing_docs)]

use anyhow::{Context, ensure};
use std::fs;
use std::time::{Duration, Instant};
use windlass_tests::story::{Actor, SERVICE, Story};

/// How long a busy machine may take until nodes have found each other.
const FOUND: Duration = Duration::from_secs(120);

/// Has an actor know these nodes alone.
fn know(actor: &Actor, nodes: &[String]) -> anyhow::Result<()> {
    let profile = fs::read_to_string(&actor.files.profile)?;
    let nodes =
        format!("nodes = [{}]", nodes.iter().map(|node| format!("{node:?}")).collect::<Vec<_>>().join(", "));
    let line = |line: &str| if line.starts_with("nodes = ") { nodes.clone() } else { line.to_owned() };
    let limited = profile.lines().map(line).collect::<Vec<_>>().join("\n");
    ensure!(limited.contains(&nodes), "no nodes in {profile}");
    Ok(fs::write(&actor.files.profile, limited + "\n")?)
}

#[tokio::test]
async fn a_device_is_reached_by_a_caller_whose_only_node_it_does_not_know() -> anyhow::Result<()> {
    let mut story = Story::start().await?;
    story.create_fleet().await?;
    let (a, b) = (story.enrol("a").await?, story.enrol("b").await?);
    story.register_name(&a).await?;
    story.grant(&a, &b).await?;
    let nodes = story.testnet.multiaddrs();
    know(&a, &nodes[..2])?;
    know(&b, &nodes[2..])?;
    // The caller's node wasn't there when the route was published: it has to look for it.
    story.testnet.kill_node(2).await?;
    story.publish(&a).await?;
    story.testnet.start_node(2).await?;
    story.testnet.wait_healthy().await?;

    let (mut forward, began) = (story.forward(&b).await?, Instant::now());
    // The node may not have greeted the others yet: then it knows of no route.
    while let Err(error) = story.fetch_page(&forward).await {
        ensure!(began.elapsed() < FOUND, "{SERVICE} isn't reached: {error:#}");
    }
    let opened = forward.running.event(FOUND, |event| event["event"] == "opened").await?;
    let path = opened["path"].as_str().context("no path")?;
    ensure!(
        !nodes[2].ends_with(path.trim_start_matches("relayed via ")),
        "through a node that A doesn't know: {path}"
    );
    story.shutdown().await;
    Ok(())
}
