//! A thousand opens at once on one connection, each with an echo of a kibibyte, directly and through a relay.

use super::site::{SERVICE, Site, policy};
use crate::table::{quantile, sorted};
use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use windlass_client::{Client, Publication, Stream, Target};

const OPENS: usize = 1_000;
const BYTES: usize = 1_024;
/// Bursts, one after the other.
const ROUNDS: usize = 5;

pub async fn run(site: Site) -> Result<()> {
    println!(
        "| {OPENS} opens at once on one connection, each echoes {BYTES} bytes, {ROUNDS} times | failed | p50 | p99 | all within |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for direct in [true, false] {
        let publisher = site.contact.device(0, direct).await?;
        tokio::spawn(echo(publisher.publish(SERVICE, policy()).await?));
        let caller = site.contact.device(1, direct).await?;
        let target = Target::Device(publisher.device_id());
        // Everything but the first open finds the connection there.
        one(&caller, &target).await?;
        let (mut milliseconds, mut failed, mut longest) = (Vec::new(), 0, 0.0f64);
        for _ in 0..ROUNDS {
            let since = Instant::now();
            let opens = (0..OPENS).map(async |_| one(&caller, &target).await.map(|()| since.elapsed()));
            for outcome in join_all(opens).await {
                match outcome {
                    Ok(taken) => milliseconds.push(taken.as_secs_f64() * 1e3),
                    Err(error) => {
                        eprintln!("{error:#}");
                        failed += 1;
                    }
                }
            }
            longest = longest.max(since.elapsed().as_secs_f64() * 1e3);
        }
        let milliseconds = sorted(&milliseconds);
        println!(
            "| {} | {failed} | {:.0} ms | {:.0} ms | {longest:.0} ms |",
            if direct { "directly" } else { "through a relay" },
            quantile(&milliseconds, 0.5),
            quantile(&milliseconds, 0.99)
        );
        caller.shutdown().await;
        publisher.shutdown().await;
    }
    Ok(())
}

async fn one(caller: &Client, target: &Target) -> Result<()> {
    let mut stream = caller.open(target, SERVICE).await.context("opening")?;
    let (sent, mut came) = (vec![0x5a; BYTES], vec![0; BYTES]);
    stream.write_all(&sent).await?;
    stream.read_exact(&mut came).await.context("reading the echo")?;
    ensure!(sent == came, "the echo is another");
    Ok(())
}

/// Sends back whatever comes, on every stream.
pub async fn echo(mut publication: Publication) {
    while let Some(stream) = publication.accept().await {
        tokio::spawn(back(stream));
    }
}

async fn back(mut stream: Stream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
