//! Figures of the embedded chain and the local network on this machine, printed as a table; with `--anvil`,
//! those of anvil beside them, from the same run. It never judges: figures, no verdicts.
//!
//! `make bench-chain` prints them all, `make bench-fixture` makes the fixtures.
#![allow(missing_docs)]

mod client;
mod fixture;
mod load;
mod proofs;
mod server;
mod sync;
mod transactions;

use anyhow::Result;
use clap::{Parser, Subcommand};
use server::{PROGRAM, Server, disk};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use windlass_testnet::network::Testnet;

#[derive(Parser)]
#[command(about = "Figures of the embedded chain and the local network")]
struct Arguments {
    /// What cargo gives every benchmark
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Time from the start to the first answer, and until a whole network is up
    Start {
        #[arg(long, default_value_t = 10)]
        rounds: usize,
    },
    /// Transfers and enrolments per second
    Load {
        #[arg(long, default_value_t = 20_000)]
        transfers: usize,
        #[arg(long, default_value_t = 10_000)]
        enrolments: usize,
        /// Seconds between blocks
        #[arg(long, default_value = "0.25")]
        block_time: String,
        #[arg(long)]
        anvil: Option<PathBuf>,
    },
    /// Proofs of one slot among many, memory and disk
    Proofs {
        #[arg(long, default_value_t = 100_000)]
        slots: u64,
        #[arg(long, default_value_t = 1_000)]
        proofs: u64,
        #[arg(long)]
        anvil: Option<PathBuf>,
    },
    /// Make the network with this many devices, unless it was made before
    Fixture { devices: Vec<u64> },
    /// A node's first sync and restarts on fixtures' chains
    Sync { devices: Vec<u64> },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Start { rounds } => start(rounds).await,
        Command::Load { transfers, enrolments, block_time, anvil } => {
            load(transfers, enrolments, &block_time, anvil).await
        }
        Command::Proofs { slots, proofs, anvil } => prove(slots, proofs, anvil).await,
        Command::Sync { devices } => {
            sync::head();
            for devices in devices {
                sync::measure(devices).await?;
            }
            Ok(())
        }
        Command::Fixture { devices } => {
            for devices in devices {
                println!("{devices} devices: {}", fixture::at_hand(devices).await?.display());
            }
            Ok(())
        }
    }
}

async fn start(rounds: usize) -> Result<()> {
    let mut answers = Vec::new();
    for round in 0..rounds {
        let folder = tempfile::tempdir()?;
        let state = folder.path().join("state");
        let kept = ["--state", &state.to_string_lossy()];
        let since = Instant::now();
        // Every other one is kept on disk, which takes longer.
        let server = Server::embedded(if round % 2 == 0 { &[] } else { &kept }).await?;
        server.connect().await?.call("eth_blockNumber", serde_json::json!([])).await?;
        answers.push(since.elapsed());
        server.kill().await?;
    }
    print("start to first answer", &mut answers);
    let mut ups = Vec::new();
    for _ in 0..rounds.div_ceil(2) {
        let since = Instant::now();
        let testnet = Testnet::builder(PROGRAM.into()).nodes(3).devices(2).start().await?;
        ups.push(since.elapsed());
        testnet.shutdown().await;
    }
    print("whole network up: chain, contracts, 3 nodes, 2 devices", &mut ups);
    Ok(())
}

async fn load(transfers: usize, enrolments: usize, block_time: &str, anvil: Option<PathBuf>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state");
    let kept = ["--block-time", block_time, "--state", &state.to_string_lossy()];
    println!("| a block every {block_time} s | transfers/s | single enrolments/s |\n| --- | --- | --- |");
    for (label, arguments) in [("in memory", &kept[..2]), ("kept with --state", &kept[..])] {
        let server = Server::embedded(arguments).await?;
        let transfers = load::transfers(&server.url, transfers).await?;
        server.kill().await?;
        let _ = std::fs::remove_dir_all(&state);
        let server = Server::embedded(arguments).await?;
        let enrolments = load::enrolments(&server.url, enrolments).await?;
        server.kill().await?;
        println!("| windlass-testnet, {label} | {transfers:.0} | {enrolments:.0} |");
    }
    if let Some(program) = anvil {
        let server = Server::anvil(&program, &["--block-time", block_time]).await?;
        let transfers = load::transfers(&server.url, transfers).await?;
        let server = Server::anvil(&program, &["--block-time", block_time]).await?;
        let enrolments = load::enrolments(&server.url, enrolments).await?;
        println!("| anvil | {transfers:.0} | {enrolments:.0} |");
    }
    Ok(())
}

async fn prove(slots: u64, count: u64, anvil: Option<PathBuf>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state");
    let kept = ["--state", &state.to_string_lossy()];
    println!("| {slots} slots | filled in | proof, median | 9 in 10 under | memory | disk |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (label, arguments) in [("in memory", &[][..]), ("kept with --state", &kept[..])] {
        let server = Server::embedded(arguments).await?;
        let row = row(&server, slots, count).await?;
        let disk = if state.exists() { format!("{:.0} MiB", disk(&state)?) } else { "–".to_owned() };
        println!("| windlass-testnet, {label} | {row} | {disk} |");
    }
    if let Some(program) = anvil {
        let server = Server::anvil(&program, &[]).await?;
        println!("| anvil | {} | – |", row(&server, slots, count.min(20)).await?);
    }
    Ok(())
}

async fn row(server: &Server, slots: u64, count: u64) -> Result<String> {
    let since = Instant::now();
    let contract = proofs::fill(&server.url, slots).await?;
    let filled = since.elapsed().as_secs_f64();
    let times = proofs::measure(&mut server.connect().await?, contract, slots, count).await?;
    let (median, nine) = (milliseconds(quantile(&times, 0.5)), milliseconds(quantile(&times, 0.9)));
    Ok(format!("{filled:.1} s | {median:.2} ms | {nine:.2} ms | {:.0} MiB", server.memory()?))
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let [median, worst] = [0.5, 1.0].map(|share| milliseconds(quantile(times, share)));
    println!("{what}: median {median:.0} ms, at most {worst:.0} ms, of {}", times.len());
}

/// The value below which `share` of the sorted values lie.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
