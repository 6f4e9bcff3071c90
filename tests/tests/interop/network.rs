//! A whole network on somebody else's chain: `windlass-testnet up --rpc-url` on anvil, and through its reorgs.

use crate::rpc::Rpc;
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;
use windlass_testnet::network::health;
use windlass_tests::peers::Anvil;
use windlass_tests::windlass::{Running, Windlass, program};

/// How long the network may take to start, on a chain with a block a second and a busy machine.
const UP_WITHIN: Duration = Duration::from_secs(120);
/// How long all nodes may take to serve a block.
const SERVED_WITHIN: Duration = Duration::from_secs(60);

/// Waits until every node serves this block or a later one, and says so in its health.
async fn served(up: &Value, block: u64) -> anyhow::Result<()> {
    let nodes = up["nodes"].as_array().context("nodes")?;
    for node in nodes {
        let url = node["health"].as_str().context("a health URL")?;
        let admin = url.trim_start_matches("http://").trim_end_matches("/health");
        let reached = async {
            loop {
                let said = health(admin).await.unwrap_or_default();
                if said["status"] == "ok" && said["served"]["number"].as_u64() >= Some(block) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let waited = tokio::time::timeout(SERVED_WITHIN, reached).await;
        waited.with_context(|| format!("{url} does not get to block {block}"))?;
    }
    Ok(())
}

fn profile(of: &Value) -> anyhow::Result<Windlass> {
    Windlass::new(Path::new(of["profile"].as_str().context("a profile")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_network_runs_on_anvil_and_through_its_reorgs() -> anyhow::Result<()> {
    let Some(anvil) = Anvil::start(&["--block-time=1", "--slots-in-an-epoch=1"]).await? else {
        return Ok(());
    };
    let chain = Rpc::new("anvil", anvil.url())?;
    let mut command = Command::new(program("windlass-testnet")?);
    command.args(["up", "--nodes=3", "--devices=2", "--json", "--rpc-url", anvil.url()]);
    let mut network = Running::start(command, "windlass-testnet up".to_owned())?;
    let up = network.event(UP_WITHIN, |line| line.get("nodes").is_some()).await?;
    ensure!(up["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3), "{up}");
    let (operator, device) = (profile(&up)?, profile(&up["devices"][0])?);
    let found = device.done(&["resolve", "device-2"]).await?;
    ensure!(found.to_string().contains(up["devices"][1]["id"].as_str().context("an id")?), "{found}");
    // Blocks above the final one are taken off: nodes serve none of them, and go on.
    for depth in [1, 2] {
        let named = operator.done(&["name", "register", &format!("reorg-{depth}")]).await?;
        chain.ask("anvil_reorg", json!([depth, []])).await?;
        let latest: String = chain.read("eth_blockNumber", json!([])).await?;
        let latest = u64::from_str_radix(latest.trim_start_matches("0x"), 16)?;
        ensure!(named["block"].as_u64().is_some(), "{named}");
        served(&up, latest + 1).await?;
    }
    operator.done(&["device", "revoke", up["devices"][1]["id"].as_str().context("an id")?]).await?;
    network.kill().await
}
