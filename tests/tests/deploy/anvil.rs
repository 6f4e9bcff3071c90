//! The same program against somebody else's chain, pinned in `tests/interop`.

use crate::desk::Desk;
use crate::gate::{Fate, Gate, is_send};
use anyhow::{Context, bail, ensure};
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use windlass_protocol::{B256, keccak256};

/// How long anvil may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);

/// Starts anvil on a free port and gives its URL; `None`, said aloud, where it isn't installed, which in CI is a failure.
async fn start() -> anyhow::Result<Option<(Child, String)>> {
    let package = "interop/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil";
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(package);
    if !program.exists() {
        let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        ensure!(!is_ci, "anvil isn't installed; run tests/interop/install.sh");
        eprintln!("skipped: anvil isn't installed; run tests/interop/install.sh");
        return Ok(None);
    }
    let mut child = Command::new(program)
        .args(["--port", "0", "--host", "127.0.0.1", "--slots-in-an-epoch", "1"])
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    let listening = async {
        while let Some(line) = lines.next_line().await? {
            if let Some(address) = line.strip_prefix("Listening on ") {
                return Ok(format!("http://{address}"));
            }
        }
        bail!("anvil ended before it listened")
    };
    let url = timeout(LISTENS_WITHIN, listening).await.context("anvil doesn't listen in time")??;
    // Read on, so that it never waits for somebody to read its log.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(Some((child, url)))
}

/// Anvil passes every line of the eligibility test, and a deployment on it that was cut off goes on like any other.
#[tokio::test]
async fn anvil_is_eligible_and_carries_a_deployment() -> anyhow::Result<()> {
    let Some((_anvil, url)) = start().await? else { return Ok(()) };
    let gate = Gate::open(&url).await?;
    let desk = Desk::rich().await?;
    let mut sends = 0;
    gate.rule(move |request| {
        sends += u32::from(is_send(request));
        if sends < 3 { Fate::Pass } else { Fate::Refuse }
    });
    desk.refused(&gate.url(), &[], "chain_unreachable", &[&gate.url()]).await?;
    assert_eq!(desk.sent(&gate).await?, 2);
    gate.rule(|_| Fate::Pass);
    let spec = desk.completes(&gate, &["--chain-id", "31337"]).await?;
    let data = format!("0x{}", alloy::primitives::hex::encode(&keccak256("headerNumbers()")[..4]));
    let call = json!([{ "to": spec["node_staking"]["address"], "data": data }, "latest"]);
    assert_eq!(
        gate.ask("eth_call", call).await?,
        json!(B256::with_last_byte(1)),
        "numbers and hashes are the headers'"
    );
    Ok(())
}
