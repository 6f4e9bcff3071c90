//! Devices whose processes are stopped (SIGSTOP) for longer than their evidence counts, as a machine that is put to sleep:
//! woken, they trust nothing old, cut what rests on it, and find their way back by themselves.

#![allow(missing_docs)]

use anyhow::{Context, ensure};
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::Instant;
use windlass_testnet::network::Testnet;
use windlass_tests::site::Site;
use windlass_tests::story::{Forward, NAME, SERVICE, SOON, Story, curl};
use windlass_tests::windlass::{Running, program};

/// Seconds for which these devices' evidence counts: many blocks of their chain.
const MAX_AGE: u64 = 6;
/// Seconds between two blocks of it.
const BEAT: f64 = 0.5;
/// Longer than that, and than the second a device may be late with it; a stated time in long runs.
fn asleep() -> anyhow::Result<Duration> {
    let seconds = std::env::var("WINDLASS_ASLEEP").ok().map(|text| text.parse()).transpose()?;
    Ok(Duration::from_secs(seconds.unwrap_or(MAX_AGE + 2)))
}

async fn signal(running: &Running, signal: &str) -> anyhow::Result<()> {
    let process = running.process_id().context("it runs")?.to_string();
    // Every shell has it; not every machine has the program.
    let sent = Command::new("sh").args(["-c", &format!("kill {signal} {process}")]).status().await?;
    ensure!(sent.success(), "kill {signal} {process}");
    Ok(())
}

fn cut(event: &Value) -> bool {
    event["event"] == "ended" && event["end"] == "cut"
}

#[tokio::test]
async fn devices_that_slept_past_their_evidence_cut_what_rests_on_it_and_come_back() -> anyhow::Result<()> {
    let network = Testnet::builder(program("windlass-testnet")?).nodes(3).heartbeat(BEAT);
    let mut story = Story::over(network).await?;
    story.create_fleet().await?;
    let (a, b) = (story.enrol("a").await?, story.enrol("b").await?);
    story.register_name(&a).await?;
    story.grant(&a, &b).await?;
    let (site, max_age) = (Site::start().await?, MAX_AGE.to_string());
    let to = site.address().to_string();
    let publish = ["--max-age", &max_age, "publish", "--service", SERVICE, "--to", &to];
    let mut publisher = a.windlass.start(&publish)?;
    publisher.event(SOON, |event| event["event"] == "published").await?;
    let target = format!("{NAME}:{SERVICE}");
    let mut running = b.windlass.start(&["--max-age", &max_age, "forward", &target])?;
    let listening = running.event(SOON, |event| event["event"] == "listening").await?;
    let address = listening["address"].as_str().context("no address")?.parse()?;
    let mut forward = Forward { running, address };

    let endless = Command::new("curl")
        .args(["--silent", "--no-buffer", &format!("http://{address}/endless")])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut endless = endless?;
    let mut ticks = endless.stdout.take().context("stdout is piped")?;
    ticks.read_exact(&mut [0; 20]).await?;

    let since = Instant::now();
    for process in [&publisher, &forward.running] {
        signal(process, "-STOP").await?;
    }
    // Meanwhile every node is another process: no connection outlives such a sleep.
    for index in 0..story.testnet.nodes().len() {
        story.testnet.kill_node(index).await?;
        story.testnet.start_node(index).await?;
    }
    story.testnet.wait_healthy().await?;
    tokio::time::sleep_until(since + asleep()?).await;
    for process in [&publisher, &forward.running] {
        signal(process, "-CONT").await?;
    }

    // Both say so, and what curl was shown isn't taken for all there is.
    forward.running.event(SOON, cut).await?;
    publisher.event(SOON, cut).await?;
    tokio::time::timeout(SOON, ticks.read_to_end(&mut Vec::new())).await??;
    ensure!(endless.wait().await?.code() == Some(56), "curl took the cut for the end");
    // And both are back: new evidence, new reservations, new streams.
    let since = Instant::now();
    while let Err(error) = curl(&format!("http://{address}/")).await {
        ensure!(since.elapsed() < SOON, "not back: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    forward.running.kill().await?;
    publisher.kill().await?;
    story.shutdown().await;
    Ok(())
}
