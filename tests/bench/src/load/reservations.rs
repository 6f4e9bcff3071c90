//! Reservations alone: devices of stock rust-libp2p with enrolled keys, as fast as one node grants them.

use super::site::{Site, key};
use crate::systems::libp2p::reserving;
use anyhow::{Context, Result};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// For what the last change set off to come to its end before memory is read.
const SETTLE: Duration = Duration::from_secs(10);

pub async fn run(site: Site, devices: u64, at_once: usize) -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    let empty = site.resident()?;
    eprintln!("{devices} stock devices reserve, {at_once} at a time");
    let relay = site.contact.relay()?;
    let since = Instant::now();
    let here: Vec<JoinHandle<()>> = stream::iter(0..devices)
        .map(|number| {
            let relay = relay.clone();
            async move {
                let reserved = reserving(*key(number)?.to_bytes(), relay).await;
                reserved.with_context(|| format!("device {number}"))
            }
        })
        .buffer_unordered(at_once)
        .try_collect()
        .await?;
    let came = since.elapsed().as_secs_f64();
    println!("| {devices} stock devices with enrolled keys, which only reserve | |\n| --- | --- |");
    println!("| connections with a reservation | {:.0}/s |", devices as f64 / came);
    tokio::time::sleep(SETTLE).await;
    let said = site.health().await.context("the node says nothing")?;
    println!("| reservations that the node counts | {} |", said["reservations"]);
    let more = site.resident()?.saturating_sub(empty);
    println!("| memory of the node | {:.1} KiB per device |", more as f64 / devices as f64);
    here.iter().for_each(JoinHandle::abort);
    Ok(())
}
