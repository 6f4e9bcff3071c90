//! Other people's programs that tests compare with: where `make peers` put them, and running anvil.
//!
//! Owns the rule for a machine without them: a test says that it was skipped, and fails where `CI=true`.

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use windlass_protocol::{B256, SecretKey};
use windlass_testnet::network::Testnet;

use crate::windlass::Running;

/// How long anvil may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);
/// How long packages may take to be installed, where `make peers` hasn't.
const INSTALLS_WITHIN: Duration = Duration::from_secs(600);
/// The platform in the names of the packages that carry foundry's programs, where these have one.
const PLATFORM: &str =
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) { "linux-amd64" } else { "none" };

/// This repository's folder.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Says that a test can't run here, or fails it where nothing may be skipped unseen.
pub fn skip(why: &str) -> anyhow::Result<()> {
    skip_for(why, "run make peers")
}

/// The same with another way to mend it.
pub fn skip_for(why: &str, remedy: &str) -> anyhow::Result<()> {
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        bail!("{why}; {remedy}");
    }
    eprintln!("skipped: {why}; {remedy}");
    Ok(())
}

/// One of foundry's programs, `anvil` or `cast`; `None`, said aloud, where it isn't installed.
pub fn foundry(program: &str) -> anyhow::Result<Option<PathBuf>> {
    let package = format!("tests/interop/node_modules/@foundry-rs/{program}-{PLATFORM}/bin/{program}");
    present(repository().join(package), program)
}

/// The forge that the contracts are tested with; `None`, said aloud, where it isn't installed.
pub fn forge() -> anyhow::Result<Option<PathBuf>> {
    let package = format!("contracts/node_modules/@foundry-rs/forge-{PLATFORM}/bin/forge");
    present(repository().join(package), "forge")
}

/// The folder of the JavaScript clients; `None`, said aloud, where they aren't installed.
pub fn javascript() -> anyhow::Result<Option<PathBuf>> {
    let installed = present(repository().join("tests/interop/node_modules/viem"), "viem")?;
    Ok(installed.map(|_| repository().join("tests/interop")))
}

/// Python with the packages of a requirements file in `tests/interop`; `None`, said aloud, where it can't be had.
pub async fn python(requirements: &str) -> anyhow::Result<Option<PathBuf>> {
    let mut command = Command::new(repository().join("scripts/python.sh"));
    // Run where `make peers` runs it.
    command.arg(requirements).current_dir(repository().join("tests/interop"));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let made = timeout(INSTALLS_WITHIN, command.output()).await;
    let made = made.with_context(|| format!("what {requirements} names isn't installed in time"))??;
    if made.status.success() {
        let environment = String::from_utf8(made.stdout)?;
        return Ok(Some(Path::new(environment.trim()).join("bin/python")));
    }
    skip(String::from_utf8_lossy(&made.stderr).trim())?;
    Ok(None)
}

/// Starts the second implementation of our wire formats as the device with this key, which wants to open a name's service
/// tcp/8080 and asks the first node; `None`, said aloud, where the JavaScript clients aren't installed.
pub async fn second_implementation(
    testnet: &Testnet,
    name: &str,
    key: &SecretKey,
) -> anyhow::Result<Option<Running>> {
    let Some(folder) = javascript()? else { return Ok(None) };
    let mut command = Command::new("node");
    command.arg("clients/second.mjs").arg(testnet.spec_file()).arg(testnet.publisher().to_string());
    command.arg(&testnet.multiaddrs()[0]).args([name, "8080"]).current_dir(folder);
    let mut running = Running::start(command, "second.mjs".to_owned())?;
    running.tell(&format!("{}", B256::from(*key.to_bytes()))).await?;
    Ok(Some(running))
}

fn present(path: PathBuf, what: &str) -> anyhow::Result<Option<PathBuf>> {
    if path.exists() {
        return Ok(Some(path));
    }
    skip(&format!("{what} isn't installed at {}", path.display()))?;
    Ok(None)
}

/// A running anvil. Killed when dropped.
#[derive(Debug)]
pub struct Anvil {
    url: String,
    _child: Child,
}

impl Anvil {
    /// Starts `program` on a free loopback port; `None`, said aloud, where it isn't installed.
    pub async fn start(arguments: &[&str]) -> anyhow::Result<Option<Self>> {
        let Some(program) = foundry("anvil")? else { return Ok(None) };
        let mut child = Command::new(program)
            .args(["--port", "0", "--host", "127.0.0.1"])
            .args(arguments)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("cannot start anvil")?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let listening = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(address) = line.strip_prefix("Listening on ") {
                    return Ok(address.to_owned());
                }
            }
            bail!("anvil ended before it listened")
        };
        let address = timeout(LISTENS_WITHIN, listening).await.context("anvil doesn't listen in time")??;
        // Read on, so that it never waits for somebody to read its log.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Some(Self { url: format!("http://{address}"), _child: child }))
    }

    /// Its JSON-RPC.
    pub fn url(&self) -> &str {
        &self.url
    }
}
