//! Thousands of devices at one node: reservations per second, memory of the node for each, and how long until all are
//! back after the node was killed and started again.

use super::site::{SERVICE, Site, policy};
use crate::table::{quantile, sorted};
use anyhow::{Context, Result, bail};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::time::{Duration, Instant};
use windlass_client::{Client, Publication};

/// How often a device tries again that its node turned away.
const TRIES: u32 = 20;
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(250);
/// For what the last change set off to come to its end before memory is read.
const SETTLE: Duration = Duration::from_secs(10);
/// How long idle devices are watched.
const IDLE: Duration = Duration::from_secs(30);
/// How long all of them may take to be back.
const BACK: Duration = Duration::from_secs(180);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

pub async fn run(mut site: Site, devices: u64, at_once: usize) -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    let empty = site.resident()?;
    eprintln!("{devices} devices come, {at_once} at a time");
    let since = Instant::now();
    let contact = site.contact.clone();
    let come: Vec<(Duration, Client, Publication)> = stream::iter(0..devices)
        .map(|number| {
            let contact = contact.clone();
            async move {
                let (began, mut tries) = (Instant::now(), 0);
                let client = contact.device(number, false).await?;
                let published = loop {
                    match client.publish(SERVICE, policy()).await {
                        Ok(published) => break published,
                        // As a device does whose node has too much to do just now.
                        Err(error) if tries < TRIES => {
                            tries += 1;
                            eprintln!("device {number}, attempt {tries}: {error}");
                            tokio::time::sleep(AGAIN).await;
                        }
                        Err(error) => return Err(error).with_context(|| format!("device {number}")),
                    }
                };
                anyhow::Ok((began.elapsed(), client, published))
            }
        })
        .buffer_unordered(at_once)
        .try_collect()
        .await?;
    let came = since.elapsed();
    let took: Vec<f64> = come.iter().map(|(took, _, _)| took.as_secs_f64() * 1e3).collect();
    let took = sorted(&took);
    let here: Vec<(Client, Publication)> =
        come.into_iter().map(|(_, client, publication)| (client, publication)).collect();
    println!("| {devices} devices at one node, one connection each | |\n| --- | --- |");
    println!(
        "| all of a publication: handshake, proofs, reservation, watch, route | {:.0} devices/s |",
        devices as f64 / came.as_secs_f64()
    );
    println!(
        "| one of them, {at_once} at a time | p50 {:.0} ms, p99 {:.0} ms |",
        quantile(&took, 0.5),
        quantile(&took, 0.99)
    );
    tokio::time::sleep(SETTLE).await;
    let said = site.health().await.context("the node says nothing")?;
    let (full, used) = (site.resident()?, site.processor_seconds()?);
    println!("| reservations that the node counts | {} |", said["reservations"]);
    println!(
        "| memory of the node, {:.1} MiB without devices | {:.1} MiB, {:.1} KiB per device |",
        empty as f64 / 1024.0,
        full as f64 / 1024.0,
        full.saturating_sub(empty) as f64 / devices as f64
    );
    tokio::time::sleep(IDLE).await;
    println!(
        "| processor of the node while all are idle | {:.1} % of a core |",
        (site.processor_seconds()? - used) / IDLE.as_secs_f64() * 100.0
    );
    println!("| memory of the node then | {:.1} MiB |", site.resident()? as f64 / 1024.0);
    let back = come_back(&mut site, &here).await?;
    println!(
        "| all reachable again after the node was killed and started again | {:.1} s |",
        back.as_secs_f64()
    );
    Ok(())
}

/// Kills the node, starts it again, and waits until every device is reachable through it; since it served again.
async fn come_back(site: &mut Site, here: &[(Client, Publication)]) -> Result<Duration> {
    let reachable = || here.iter().filter(|(_, publication)| !publication.relays().is_empty()).count();
    site.kill_node().await?;
    wait(|| reachable() == 0, reachable).await.context("devices don't notice that their node is gone")?;
    site.start_node().await?;
    let since = Instant::now();
    let mut shown = 0;
    wait(
        || {
            let now = reachable();
            if now >= shown + here.len() / 10 {
                eprintln!("{now} are back after {:.1} s", since.elapsed().as_secs_f64());
                shown = now;
            }
            now == here.len()
        },
        reachable,
    )
    .await?;
    Ok(since.elapsed())
}

async fn wait(mut done: impl FnMut() -> bool, count: impl Fn() -> usize) -> Result<()> {
    let since = Instant::now();
    while !done() {
        if since.elapsed() > BACK {
            bail!("{} are reachable after {BACK:?}", count());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
