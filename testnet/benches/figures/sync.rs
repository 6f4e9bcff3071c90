//! How long a node takes from an empty directory to its first answer on a fixture's chain, and from a full one after it
//! was killed; what it takes in memory and on disk.

use crate::fixture;
use crate::server::{PROGRAM, Server, disk, memory, peak_memory};
use crate::{milliseconds, quantile};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use windlass_testnet::network::health;

/// Far longer than it may take.
const WITHIN: Duration = Duration::from_secs(1_200);
/// Between two looks at a node's health.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);
/// Restarts, each after a kill -9.
const RESTARTS: usize = 5;

/// A node that proves something, and how long that took.
struct Node {
    child: Child,
    took: Duration,
}

/// One row for the fixture with this many devices.
pub(crate) async fn measure(devices: u64) -> Result<()> {
    let fixture = fixture::at_hand(devices).await?;
    // A chain that runs goes on, so it runs on a copy.
    let folder = tempfile::tempdir()?;
    copy(&fixture, folder.path())?;
    let state = folder.path().join("chain");
    let chain = Server::embedded(&["--state", &state.to_string_lossy()]).await?;
    let config = write_config(folder.path(), &chain.url)?;
    let node = start(&config).await?;
    let process = node.child.id().context("it has ended")?;
    let (peak, resident) = (peak_memory(process)?, memory(process)?);
    let synced = node.took.as_secs_f64();
    kill(node).await?;
    let mut restarts = Vec::new();
    for _ in 0..RESTARTS {
        let node = start(&config).await?;
        restarts.push(node.took);
        kill(node).await?;
    }
    restarts.sort_unstable();
    let bytes = disk(&folder.path().join("data"))? * 1_048_576.0 / devices as f64;
    println!(
        "| {devices} | {synced:.1} s | {:.0} | {peak:.0} MiB | {resident:.0} MiB | {:.0} MiB | {:.0} ms | {:.0} ms | {bytes:.0} |",
        devices as f64 / synced,
        chain.memory()?,
        milliseconds(quantile(&restarts, 0.5)),
        milliseconds(quantile(&restarts, 1.0)),
    );
    chain.kill().await
}

/// The head of the table.
pub(crate) fn head() {
    println!(
        "| devices | first sync | devices/s | memory, at most | memory then | memory of the chain | restart, median | \
         at most | bytes on disk per device |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn write_config(folder: &Path, url: &str) -> Result<PathBuf> {
    // Who signed the spec is said in the configuration that the fixture's own node had.
    let own = std::fs::read_to_string(folder.join("node-1.toml"))?;
    let publisher = own.lines().find(|line| line.starts_with("publisher")).context("no publisher")?;
    let text = format!(
        r#"data_dir = "data"
key_file = "keys/node-1.json"
passphrase_file = "passphrase"
spec_file = "chain.spec"
{publisher}
providers = ["{url}"]
listen = ["/ip4/127.0.0.1/tcp/0"]
admin = "127.0.0.1:0"
"#
    );
    let path = folder.join("measured.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Starts the node and waits until it can prove something fresh.
async fn start(config: &Path) -> Result<Node> {
    let since = Instant::now();
    let mut command = Command::new(PROGRAM);
    command.args(["node", "run", "--json", "--config"]).arg(config).env("WINDLASS_LOG", "warn");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let line = BufReader::new(stdout).lines().next_line().await?.context("the node did not start")?;
    let ready: serde_json::Value = serde_json::from_str(&line)?;
    let admin = ready["admin"].as_str().context("no admin address")?.to_owned();
    while since.elapsed() < WITHIN {
        if health(&admin).await.is_some_and(|said| said["status"] == "ok") {
            return Ok(Node { child, took: since.elapsed() });
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
    bail!("not healthy after {} s", WITHIN.as_secs())
}

/// As kill -9 does.
async fn kill(mut node: Node) -> Result<()> {
    Ok(node.child.kill().await?)
}
