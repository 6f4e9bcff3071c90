//! `fleet`: groups of devices under one operator.

use super::{Done, prove, unreadable};
use crate::context::Context;
use crate::failure::Failure;
use crate::parties::parse_fleet;
use crate::proof::Proof;
use crate::registry::Registry;
use clap::Subcommand;
use serde::Serialize;
use std::fmt;
use windlass_client::Question;

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Create a fleet, operated by the key
    Create {
        /// Revocations and transfers take 48 hours and can be cancelled, against a stolen operator key
        #[arg(long)]
        slow_revoke: bool,
    },
    /// Show a fleet, proven
    Show {
        /// The fleet's number
        #[arg(value_parser = parse_fleet)]
        fleet: u64,
    },
}

#[derive(Serialize)]
struct Created {
    fleet: u64,
    operator: String,
}

#[derive(Serialize)]
struct Shown {
    fleet: u64,
    operator: String,
    policy_epoch: u64,
    nonce: u64,
    slow_revoke: bool,
    proof: Proof,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slow = if self.slow_revoke { ", with slow revocation" } else { "" };
        writeln!(f, "fleet     {}{slow}", self.fleet)?;
        writeln!(f, "operator  {}", self.operator)?;
        writeln!(f, "epoch     {} of its grants", self.policy_epoch)?;
        write!(f, "{}", self.proof)
    }
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { slow_revoke } => create(context, slow_revoke).await,
        Command::Show { fleet } => show(context, fleet).await,
    }
}

async fn create(context: &Context, slow_revoke: bool) -> Result<(), Failure> {
    let (spec, key) = (context.spec()?, context.key()?);
    let chain = context.chain(&spec).await?;
    let (fleet, receipt) = Registry::new(&chain, &spec, &key).create_fleet(slow_revoke).await?;
    let created = Created { fleet, operator: key.address().to_string() };
    let said = format!("fleet {fleet} created, operated by {}", created.operator);
    context.output.print(&Done::new(said, created, &receipt))
}

async fn show(context: &Context, fleet: u64) -> Result<(), Failure> {
    let spec = context.spec()?;
    let (answer, proof) = prove(context, &spec, vec![Question::Fleet(fleet)]).await?;
    let record = answer.bundle.fleet(fleet).map_err(unreadable)?.ok_or_else(|| {
        Failure::no(
            "no_such_fleet",
            format!("no fleet {fleet} (proven under block {})", answer.provenance.number),
        )
    })?;
    context.output.print(&Shown {
        fleet,
        operator: record.operator.to_checksum(None),
        policy_epoch: record.policy_epoch,
        nonce: record.nonce,
        slow_revoke: record.flags & 1 != 0,
        proof,
    })
}
