//! A whole network on somebody else's chain: `windlass-testnet up --rpc-url` on anvil, and through its reorgs.
//!
//! Fleets are all that is written: anvil keeps a slot that a transaction read as empty as a leaf of the contract's storage
//! trie, so from the first enrolment on its state roots are no Ethereum's and no honest mirror can have them.

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

/// What happens to the chain under the network.
const STEPS: u64 = 5;

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

/// A number from an answer in hexadecimal.
fn number(hex: &str) -> anyhow::Result<u64> {
    Ok(u64::from_str_radix(hex.trim_start_matches("0x"), 16)?)
}

async fn latest(chain: &Rpc) -> anyhow::Result<u64> {
    number(&chain.read::<String>("eth_blockNumber", json!([])).await?)
}

/// What each node serves is anvil's block at that height. A node serves only blocks whose storage root its mirror has.
async fn agree_with(chain: &Rpc, up: &Value) -> anyhow::Result<()> {
    for node in up["nodes"].as_array().context("nodes")? {
        let url = node["health"].as_str().context("a health URL")?;
        let said = health(url.trim_start_matches("http://").trim_end_matches("/health")).await;
        let said = said.with_context(|| format!("{url} says nothing"))?;
        let (number, hash) = (said["served"]["number"].as_u64(), said["served"]["hash"].as_str());
        let block = chain
            .ask("eth_getBlockByNumber", json!([format!("{:#x}", number.context("a head")?), false]))
            .await?;
        ensure!(block["hash"].as_str() == hash, "{url} serves {hash:?}, anvil has {block}");
    }
    Ok(())
}

/// One of the things that happen to a chain, by chance but the same ones each time.
async fn happen(chance: u64, chain: &Rpc, operator: &Windlass) -> anyhow::Result<&'static str> {
    match chance % 5 {
        0 => {
            operator.done(&["fleet", "create"]).await?;
            Ok("a write")
        }
        // Taken off: blocks that are not final, with what was written in them.
        1 | 2 => {
            operator.done(&["fleet", "create"]).await?;
            chain.ask("anvil_reorg", json!([1 + chance / 5 % 2, []])).await?;
            Ok("a write and a reorg")
        }
        3 => {
            chain.ask("anvil_mine", json!([format!("{:#x}", 2 + chance / 5 % 4)])).await?;
            Ok("empty blocks")
        }
        // What no chain does in earnest: final blocks are taken back, and others come in their place.
        _ => {
            let snapshot = chain.ask("evm_snapshot", json!([])).await?;
            operator.done(&["fleet", "create"]).await?;
            chain.ask("anvil_mine", json!(["0x4"])).await?;
            chain.ask("evm_revert", json!([snapshot])).await?;
            chain.ask("anvil_mine", json!(["0x8"])).await?;
            Ok("final blocks taken back")
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_network_runs_on_anvil_and_through_its_reorgs() -> anyhow::Result<()> {
    let Some(anvil) = Anvil::start(&["--block-time=1", "--slots-in-an-epoch=1"]).await? else {
        return Ok(());
    };
    let chain = Rpc::new("anvil", anvil.url())?;
    let mut command = Command::new(program("windlass-testnet")?);
    command.args(["up", "--nodes=3", "--devices=0", "--json", "--rpc-url", anvil.url()]);
    let mut network = Running::start(command, "windlass-testnet up".to_owned())?;
    let up = network.event(UP_WITHIN, |line| line.get("nodes").is_some()).await?;
    ensure!(up["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3), "{up}");
    let operator = profile(&up)?;
    let mut chance = 0x5eed_u64;
    let mut happened = Vec::new();
    for _ in 0..STEPS {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        happened.push(happen(chance >> 33, &chain, &operator).await?);
        served(&up, latest(&chain).await? + 1).await.with_context(|| format!("after {happened:?}"))?;
        agree_with(&chain, &up).await.with_context(|| format!("after {happened:?}"))?;
    }
    println!("{happened:?}");
    for kind in ["a write", "a write and a reorg", "empty blocks", "final blocks taken back"] {
        ensure!(happened.contains(&kind), "{kind} was not among {happened:?}");
    }
    network.kill().await
}
