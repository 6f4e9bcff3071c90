//! One bulk flow beside a hundred interactive ones, on connections of their own through one relay: what the small ones
//! wait for, and what the large one keeps.

use super::burst::echo;
use super::site::{Contact, SERVICE, Site, policy};
use crate::part::{Part, output};
use crate::table::{quantile, sorted};
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use windlass_client::{Client, Stream, Target};

const INTERACTIVE: u64 = 100;
/// Bytes of one interactive message, there and back: a key press, a reading.
const MESSAGE: usize = 64;
/// Between two messages of one flow.
const PACE: Duration = Duration::from_millis(50);
const SECONDS: u64 = 10;
const CHUNK: usize = 256 * 1024;

/// What a flow is for.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Flow {
    /// As many bytes as pass.
    Bulk,
    /// Small messages, each answered.
    Interactive,
}

/// What a process with flows measured.
#[derive(Serialize, Deserialize, Default)]
struct Measured {
    bytes_per_second: f64,
    milliseconds: Vec<f64>,
}

pub async fn run(site: Site) -> Result<()> {
    let contact = serde_json::to_string(&site.contact)?;
    // The other ends are processes of their own, as the devices would be.
    let ends = [
        Part::start(&["flows-end", "bulk", &contact]).await?,
        Part::start(&["flows-end", "interactive", &contact]).await?,
    ];
    let measure = async |flow: &'static str| -> Result<Measured> {
        let line = output(&["flows", flow, &contact], &[]).await?;
        serde_json::from_str(&line).context("a process with flows printed no measurement")
    };
    let quiet = measure("interactive").await?;
    let alone = measure("bulk").await?;
    let (beside, bulk) = futures::future::try_join(measure("interactive"), measure("bulk")).await?;
    let (quiet, beside) = (sorted(&quiet.milliseconds), sorted(&beside.milliseconds));
    println!(
        "| {INTERACTIVE} interactive flows on as many connections through one relay | p50 | p99 | messages |\n| --- | --- | --- | --- |"
    );
    for (what, values) in [("alone", &quiet), ("beside one bulk flow", &beside)] {
        println!(
            "| {what} | {:.2} ms | {:.2} ms | {} |",
            quantile(values, 0.5),
            quantile(values, 0.99),
            values.len()
        );
    }
    println!("\np99 beside the bulk flow: {:.1} × alone.", quantile(&beside, 0.99) / quantile(&quiet, 0.99));
    println!(
        "The bulk flow: {:.0} MB/s alone, {:.0} MB/s beside them: {:.0} % of it.",
        alone.bytes_per_second / 1e6,
        bulk.bytes_per_second / 1e6,
        bulk.bytes_per_second / alone.bytes_per_second * 100.0
    );
    for end in ends {
        end.stop().await?;
    }
    Ok(())
}

/// The numbers of the devices at the far and the near ends.
fn devices(flow: Flow) -> (u64, std::ops::Range<u64>) {
    match flow {
        Flow::Bulk => (0, 1..2),
        Flow::Interactive => (2, 3..3 + INTERACTIVE),
    }
}

/// The far end: publishes, until standard input closes.
pub async fn far_end(flow: Flow, contact: &str) -> Result<crate::system::Running> {
    let contact: Contact = serde_json::from_str(contact)?;
    let client = contact.device(devices(flow).0, false).await?;
    let mut publication = client.publish(SERVICE, policy()).await?;
    let serving = match flow {
        Flow::Interactive => tokio::spawn(echo(publication)),
        Flow::Bulk => tokio::spawn(async move {
            while let Some(stream) = publication.accept().await {
                tokio::spawn(crate::workload::serve(stream));
            }
        }),
    };
    Ok(crate::system::Running { contact: String::new() + "ready", alive: Box::new((client, serving)) })
}

/// The near ends: open, wait for each other, and send for [`SECONDS`].
pub async fn near_ends(flow: Flow, contact: &str) -> Result<()> {
    let contact: Contact = serde_json::from_str(contact)?;
    let (far, near) = devices(flow);
    let target = Target::Device(super::site::key(far)?.address().as_first_key());
    let opened: Vec<(Client, Stream)> = try_join_all(near.map(async |number| {
        let client = contact.device(number, false).await?;
        let stream = client.open(&target, SERVICE).await.with_context(|| format!("device {number}"))?;
        anyhow::Ok((client, stream))
    }))
    .await?;
    let until = Instant::now() + Duration::from_secs(SECONDS);
    let mut measured = Measured::default();
    match flow {
        Flow::Bulk => {
            for (_client, stream) in opened {
                measured.bytes_per_second = send(stream, until).await?;
            }
        }
        Flow::Interactive => {
            let talking =
                opened.into_iter().map(|(client, stream)| tokio::spawn(talk(client, stream, until)));
            for milliseconds in try_join_all(talking).await? {
                measured.milliseconds.extend(milliseconds?);
            }
        }
    }
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// Sends until then, in batches that the other end answers; bytes per second.
async fn send(mut stream: Stream, until: Instant) -> Result<f64> {
    const BATCH: u64 = 16 << 20;
    stream.write_u8(b'S').await?;
    let (chunk, since, mut sent) = (vec![0x5a; CHUNK], Instant::now(), 0u64);
    while Instant::now() < until {
        stream.write_u64(BATCH).await?;
        for _ in 0..BATCH / CHUNK as u64 {
            stream.write_all(&chunk).await?;
        }
        stream.flush().await?;
        stream.read_u8().await?;
        sent += BATCH;
    }
    Ok(sent as f64 / since.elapsed().as_secs_f64())
}

/// One message after the other until then; how long each took.
async fn talk(client: Client, mut stream: Stream, until: Instant) -> Result<Vec<f64>> {
    let (message, mut answer, mut milliseconds) = (vec![0x5a; MESSAGE], vec![0; MESSAGE], Vec::new());
    while Instant::now() < until {
        let since = Instant::now();
        stream.write_all(&message).await?;
        stream.read_exact(&mut answer).await?;
        milliseconds.push(since.elapsed().as_secs_f64() * 1e3);
        ensure!(message == answer, "the echo is another");
        tokio::time::sleep(PACE).await;
    }
    drop(stream);
    client.shutdown().await;
    Ok(milliseconds)
}
