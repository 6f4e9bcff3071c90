//! Figures of Windlass alone, on a local network of three nodes: resolving, the bytes of an answer, what
//! verifying costs, and a node's memory with and without devices.

use crate::systems::windlass::{Description, Device, start_network};
use crate::table::{quantile, sorted};
use anyhow::{Context, Result};
use futures::future::try_join_all;
use std::fs;
use std::time::{Duration, Instant, SystemTime};
use windlass_client::{Client, Policy, Publication, Question, Service, Target};
use windlass_protocol::bundle::verify_bundle;
use windlass_protocol::head::{Committee, Trust};

/// Devices that publish while a node's memory is measured; the most a testnet makes.
const DEVICES: usize = 100;
/// Publishing devices started at once.
const AT_ONCE: usize = 10;
const SERVICE: Service = Service::Stream(9000);
/// Between two look-ups, off the clock: a node serves one peer 20 requests a second.
const PACE: Duration = Duration::from_millis(60);
/// For nodes to finish what the last change set off before their memory is read.
const SETTLE: Duration = Duration::from_secs(3);
const VERIFICATIONS: u32 = 2_000;

/// Measures and prints everything as a Markdown table.
pub async fn run(quick: bool) -> Result<()> {
    let lookups = if quick { 100 } else { 500 };
    eprintln!("starting a network with {DEVICES} devices");
    let (network, description) = start_network(DEVICES).await?;
    let description: Description = serde_json::from_str(&description)?;
    tokio::time::sleep(SETTLE).await;
    let process = network.process().context("the network ended")?;
    let idle = nodes_resident(process)?;

    eprintln!("{DEVICES} devices publish");
    let published = publish_all(&description).await?;
    tokio::time::sleep(SETTLE).await;
    let serving = nodes_resident(process)?;

    eprintln!("{lookups} look-ups");
    let (caller, target) = (&description.devices[0], &description.devices[1]);
    let client = description.client(caller, false).await?;
    let milliseconds = look_up(&client, target, lookups).await?;
    let answers = Answers::ask(&client, &description, target).await?;
    client.shutdown().await;

    println!("| Windlass itself, three nodes, {DEVICES} devices | |\n| --- | --- |");
    println!(
        "| resolve by name over a standing connection, verified | median {:.2} ms, 9 in 10 under {:.2} ms |",
        quantile(&milliseconds, 0.5),
        quantile(&milliseconds, 0.9)
    );
    println!("| answer that proves a device, as sent | {} bytes |", answers.device_bytes);
    println!(
        "| answer to an open by name, twelve possible grants proven absent, as sent | {} bytes |",
        answers.open_bytes
    );
    println!(
        "| verifying a device's bundle, {} signatures included | {:.0} µs |",
        answers.signatures, answers.verify_microseconds
    );
    println!("| a node's memory with no device connected, mean of {} | {:.1} MiB |", idle.len(), mean(&idle));
    println!(
        "| memory on all nodes together per publishing device (two reservations, two watches) | {:.0} KiB |",
        (total(&serving) - total(&idle)) * 1024.0 / DEVICES as f64
    );
    for (client, publication) in published {
        drop(publication);
        client.shutdown().await;
    }
    Ok(())
}

async fn publish_all(description: &Description) -> Result<Vec<(Client, Publication)>> {
    let mut published = Vec::new();
    for devices in description.devices.chunks(AT_ONCE) {
        let starting = devices.iter().map(async |device| {
            let client = description.client(device, false).await?;
            let publication = client.publish(SERVICE, Policy::default()).await?;
            anyhow::Ok((client, publication))
        });
        published.extend(try_join_all(starting).await?);
    }
    Ok(published)
}

async fn look_up(client: &Client, target: &Device, count: u32) -> Result<Vec<f64>> {
    let target: Target = target.name.parse()?;
    client.resolve(&target).await?;
    let mut milliseconds = Vec::new();
    for _ in 0..count {
        tokio::time::sleep(PACE).await;
        client.forget();
        let started = Instant::now();
        client.resolve(&target).await?;
        milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(sorted(&milliseconds))
}

struct Answers {
    device_bytes: usize,
    open_bytes: usize,
    signatures: usize,
    verify_microseconds: f64,
}

impl Answers {
    async fn ask(client: &Client, description: &Description, target: &Device) -> Result<Self> {
        let by_id = Target::Device(target.id.parse()?);
        let device = client.ask(vec![Question::Target(by_id)]).await?;
        let question =
            Question::Open { target: target.name.parse()?, caller: client.device_id(), service: SERVICE };
        let open = client.ask(vec![question]).await?;

        let slots: Vec<_> = device.bundle.values().keys().copied().collect();
        let bundle = device.bundle.extract(&slots)?;
        let spec = description.verified_spec()?;
        let committee = Committee::first(&spec);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let trust = Trust { spec: &spec, committee: &committee, now: Some(now), nonce: None };
        let started = Instant::now();
        for _ in 0..VERIFICATIONS {
            std::hint::black_box(verify_bundle(&trust, std::hint::black_box(&bundle), &slots)?);
        }
        Ok(Self {
            device_bytes: device.provenance.bytes,
            open_bytes: open.provenance.bytes,
            signatures: bundle.attestations.len(),
            verify_microseconds: started.elapsed().as_secs_f64() * 1e6 / f64::from(VERIFICATIONS),
        })
    }
}

/// MiB of resident memory of each node of the network that this process runs.
fn nodes_resident(network: u32) -> Result<Vec<f64>> {
    let mut resident = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        // Processes come and go while the folder is read.
        let (Ok(status), Ok(command)) =
            (fs::read_to_string(entry.path().join("status")), fs::read(entry.path().join("cmdline")))
        else {
            continue;
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u32>().ok()
        };
        let is_node = command.split(|byte| *byte == 0).nth(1) == Some(&b"node"[..]);
        if is_node && field("PPid:") == Some(network) {
            resident.push(f64::from(field("VmRSS:").context("a node without resident memory")?) / 1024.0);
        }
    }
    anyhow::ensure!(!resident.is_empty(), "no node of the network runs");
    Ok(resident)
}

fn total(values: &[f64]) -> f64 {
    values.iter().sum()
}

fn mean(values: &[f64]) -> f64 {
    total(values) / values.len() as f64
}
