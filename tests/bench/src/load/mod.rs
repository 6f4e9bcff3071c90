//! Windlass under load, alone: one node, and as many real devices as it takes, all with the limits that are shipped.
//!
//! The devices are those of a fixture (`make bench-fixture`): enrolled in real blocks, their keys made from their
//! numbers. Nothing here judges: figures, no verdicts.

pub mod bulk;
pub mod burst;
pub mod crowd;
mod site;

use anyhow::{Result, bail};
use std::path::PathBuf;

/// What is measured.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Figure {
    /// Thousands of devices at one node: how fast they come, what each takes, and how fast they are back.
    Crowd,
    /// One bulk flow beside a hundred interactive ones through one relay.
    Bulk,
    /// A thousand opens at once on one connection.
    Burst,
}

/// What to measure, and with what.
#[derive(clap::Args)]
pub struct Arguments {
    figure: Figure,
    /// The fixture's directory, as `make bench-fixture` makes one; it is copied, not changed
    #[arg(long)]
    fixture: PathBuf,
    /// Devices of a crowd
    #[arg(long, default_value_t = 8_000)]
    devices: u64,
    /// Of these, how many come at a time
    #[arg(long, default_value_t = 256)]
    at_once: usize,
}

/// Measures one figure and prints it as rows of a Markdown table.
pub async fn run(arguments: Arguments) -> Result<()> {
    if !arguments.fixture.join("chain.spec").is_file() {
        bail!("no fixture at {}; run make bench-fixture", arguments.fixture.display());
    }
    let site = site::Site::start(&arguments.fixture).await?;
    match arguments.figure {
        Figure::Crowd => crowd::run(site, arguments.devices, arguments.at_once).await,
        Figure::Bulk => bulk::run(site).await,
        Figure::Burst => burst::run(site).await,
    }
}
