//! Figures of Windlass's peers on this machine: throughput of one stream, and the time from dialling to
//! the first byte back, for raw TCP, stock rust-libp2p and iroh, direct and through their relays.
//!
//! `peers run` starts each system as separate processes of this same program (`network`, `listen`,
//! `dial`), round after round over all systems, so that a change in the machine's mood meets all of them
//! alike, and prints medians. It never judges: figures, no verdicts.

mod load;
mod own;
mod part;
mod system;
mod systems;
mod table;
mod workload;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use part::Part;
use system::System;
use table::Samples;
use workload::Effort;

#[derive(Parser)]
#[command(about = "Throughput and connection time of Windlass's peers, side by side")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure every system in interleaved rounds and print a table of medians.
    Run {
        /// Fewer and shorter rounds: about two minutes.
        #[arg(long)]
        quick: bool,
        /// Measure only the systems whose label contains this text.
        #[arg(long, default_value = "")]
        only: String,
        /// Measure how fast endpoints connect that have connected before and know what they knew then, and nothing
        /// else: each round takes more than a minute, since Windlass closes a connection by leaving it idle.
        #[arg(long)]
        warm: bool,
    },
    /// Measure what only Windlass has: resolving, bundles, verification, a node's memory.
    Own {
        /// Fewer look-ups: about half a minute.
        #[arg(long)]
        quick: bool,
    },
    /// Measure Windlass under load: thousands of devices, many flows, many opens.
    Load(load::Arguments),
    /// One process of a load: publishes what flows lead to. Ends when its standard input does.
    #[command(hide = true)]
    FlowsEnd { flow: load::bulk::Flow, contact: String },
    /// One process of a load: flows, and what they measured as JSON.
    #[command(hide = true)]
    Flows { flow: load::bulk::Flow, contact: String },
    /// One process of a measurement: what the other two need, a relay or a network. Ends when its standard
    /// input does.
    #[command(hide = true)]
    Network { system: String },
    /// One process of a measurement: accepts streams. Ends when its standard input does.
    #[command(hide = true)]
    Listen {
        system: String,
        #[arg(long)]
        network: Option<String>,
    },
    /// One process of a measurement: opens streams, holds the clock, prints its samples as JSON.
    #[command(hide = true)]
    Dial {
        system: String,
        contact: String,
        #[arg(long)]
        network: Option<String>,
        #[command(flatten)]
        effort: Effort,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run { quick, only, warm } => run(quick, &only, warm).await,
        Command::Own { quick } => own::run(quick).await,
        Command::Load(arguments) => load::run(arguments).await,
        Command::FlowsEnd { flow, contact } => part::serve(load::bulk::far_end(flow, &contact).await?).await,
        Command::Flows { flow, contact } => load::bulk::near_ends(flow, &contact).await,
        Command::Network { system } => part::serve(system::named(&system)?.network().await?).await,
        Command::Listen { system, network } => {
            part::serve(system::named(&system)?.listen(network.as_deref()).await?).await
        }
        Command::Dial { system, contact, network, effort } => {
            let system = system::named(&system)?;
            let sample = workload::measure(system, &contact, network.as_deref(), effort).await?;
            println!("{}", serde_json::to_string(&sample)?);
            Ok(())
        }
    }
}

async fn run(quick: bool, only: &str, warm: bool) -> Result<()> {
    let (rounds, effort) = match (warm, quick) {
        (true, true) => (1, Effort::WARM),
        (true, false) => (7, Effort::WARM),
        (false, true) => (5, Effort::QUICK),
        (false, false) => (11, Effort::FULL),
    };
    let mut measured: Vec<(&dyn System, Samples)> = system::ALL
        .iter()
        .filter(|system| system.label().contains(only))
        .map(|system| (*system, Samples::default()))
        .collect();
    for round in 1..=rounds {
        for (system, samples) in &mut measured {
            eprintln!("round {round} of {rounds}: {}", system.label());
            let sample = round_of(*system, effort).await.with_context(|| system.label())?;
            samples.add(sample);
        }
    }
    let rows: Vec<_> = measured.iter().map(|(system, samples)| (system.label(), samples)).collect();
    print!("{}", table::render(&rows, rounds, effort));
    Ok(())
}

/// One measurement of one system, in processes of its own that end with it.
async fn round_of(system: &dyn System, effort: Effort) -> Result<workload::Sample> {
    let label = system.label();
    let network = match system.has_network() {
        true => Some(Part::start(&["network", label]).await?),
        false => None,
    };
    let through: Vec<&str> = network.iter().flat_map(|network| ["--network", network.contact()]).collect();
    let listener = Part::start(&[&["listen", label][..], &through].concat()).await?;
    let arguments = [&["dial", label, listener.contact()][..], &through].concat();
    let line = part::output(&arguments, &effort.to_arguments()).await?;
    listener.stop().await?;
    if let Some(network) = network {
        network.stop().await?;
    }
    serde_json::from_str(&line).context("the dialling process printed no sample")
}
