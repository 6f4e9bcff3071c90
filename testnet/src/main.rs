//! `windlass-testnet`: the command line of the embedded chain.
//!
//! Owns reading arguments, waiting for the end and the exit code; the work is the library's.

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use windlass_testnet::chain::{Chain, ChainConfig, DEFAULT_CHAIN_ID, Finality, Mining};

/// A local chain for developing and testing Windlass.
#[derive(Parser)]
#[command(name = "windlass-testnet", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the embedded EVM chain and print its RPC URL
    Chain(ChainArguments),
}

#[derive(Args)]
struct ChainArguments {
    /// Loopback TCP port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8545)]
    port: u16,
    /// Chain id that transactions are signed for
    #[arg(long, default_value_t = DEFAULT_CHAIN_ID)]
    chain_id: u64,
    /// When a block becomes final: immediate, manual or depth:N
    #[arg(long, default_value = "immediate")]
    finality: Finality,
    /// Seconds without a block after which an empty one is made; 0 for never
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    heartbeat: f64,
    /// Seconds between blocks; 0 makes one at once for each transaction
    #[arg(long, default_value_t = 0.0, value_parser = seconds)]
    block_time: f64,
    /// End when standard input closes, so that no chain outlives who started it
    #[arg(long)]
    stdin_guard: bool,
}

impl ChainArguments {
    fn config(&self) -> ChainConfig {
        let period = |seconds: f64| (seconds > 0.0).then(|| Duration::from_secs_f64(seconds));
        ChainConfig {
            port: self.port,
            chain_id: self.chain_id,
            finality: self.finality,
            mining: period(self.block_time).map_or(Mining::Instant, Mining::Interval),
            heartbeat: period(self.heartbeat),
            ..ChainConfig::default()
        }
    }
}

/// A day at most: longer periods are typing mistakes, and some don't fit a duration.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(0.0) => Ok(0.0),
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.01 to 86400, or 0".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("WINDLASS_LOG"))
        .with_writer(std::io::stderr)
        .init();
    let Command::Chain(arguments) = Cli::parse().command;
    match run_chain(&arguments).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("windlass-testnet: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run_chain(arguments: &ChainArguments) -> anyhow::Result<ExitCode> {
    let chain = Chain::start(arguments.config()).await?;
    println!("chain {} is up at {}", arguments.chain_id, chain.rpc_url());
    let code = tokio::select! {
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("cannot listen for Ctrl-C")?;
            ExitCode::from(130)
        }
        () = stdin_closes(), if arguments.stdin_guard => ExitCode::SUCCESS,
    };
    chain.shutdown().await;
    Ok(code)
}

async fn stdin_closes() {
    let (mut stdin, mut buffer) = (tokio::io::stdin(), [0; 256]);
    // What is written there is of no interest, only its end; an error is an end, too.
    while stdin.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}
