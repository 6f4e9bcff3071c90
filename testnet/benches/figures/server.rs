//! The chains that are measured, as processes of their own.
//!
//! Owns starting one and what it costs in memory and on disk.

use crate::client::Client;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The program that is measured: the one this benchmark was built with.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_windlass-testnet");

/// A running chain. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
}

impl Server {
    /// The embedded chain, with these arguments besides.
    pub(crate) async fn embedded(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(PROGRAM);
        command.args(["chain", "--json", "--port", "0"]).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let line = BufReader::new(stdout).lines().next_line().await?.context("the chain did not start")?;
        let ready: serde_json::Value = serde_json::from_str(&line)?;
        let url = ready["rpc_url"].as_str().context("no URL")?.to_owned();
        Ok(Self { child, url })
    }

    /// anvil, with these arguments besides.
    pub(crate) async fn anvil(program: &Path, arguments: &[&str]) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let mut command = Command::new(program);
        command.args(["--silent", "--port", &port, "--gas-limit", "60000000"]).args(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()?;
        let url = format!("http://127.0.0.1:{port}");
        Client::connect_within(&url, Duration::from_secs(20)).await?;
        Ok(Self { child, url })
    }

    /// A connection to it.
    pub(crate) async fn connect(&self) -> Result<Client> {
        Client::connect(&self.url).await
    }

    /// Its resident memory, in MiB.
    pub(crate) fn memory(&self) -> Result<f64> {
        memory(self.child.id().context("it has ended")?)
    }

    /// Ends it as kill -9 does.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// A process's resident memory, in MiB.
pub(crate) fn memory(process: u32) -> Result<f64> {
    status(process, "VmRSS:")
}

/// The most it ever was, in MiB.
pub(crate) fn peak_memory(process: u32) -> Result<f64> {
    status(process, "VmHWM:")
}

fn status(process: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// What a directory takes on disk, in MiB.
pub(crate) fn disk(directory: &Path) -> Result<f64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { (disk(&entry.path())? * 1048576.0) as u64 } else { metadata.len() };
    }
    Ok(bytes as f64 / 1048576.0)
}
