//! `name`: registering names, and what they point at.

use super::{Done, parse_address, prove, unreadable};
use crate::context::Context;
use crate::failure::Failure;
use crate::limits::YEAR;
use crate::names::{Names, Registration};
use crate::proof::Proof;
use crate::when::parse_duration;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use std::fmt;
use windlass_client::{Clock, Name, Question, SystemClock};
use windlass_protocol::record::{NameKind, expired};
use windlass_protocol::slot::Slot;
use windlass_protocol::{Address, B256};

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Register a name: commit, wait, reveal, pay the fee
    Register(RegisterArgs),
    /// Show a name, proven
    Show {
        /// The name
        name: Name,
    },
    /// Hold a name for longer; anyone may pay
    Renew {
        /// The name
        name: Name,
        /// How much longer, like 1y [default: 1y]
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        duration: Option<u64>,
    },
    /// Give a name away; its target is cleared
    Transfer {
        /// The name
        name: Name,
        /// Address of the new owner
        #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
        to: Address,
    },
    /// Point a name at something else, or at nothing
    SetTarget(SetTargetArgs),
}

#[derive(Args, Debug)]
pub(crate) struct RegisterArgs {
    /// The name
    name: Name,
    /// Device id (or another address) that it will point at
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    target: Option<Address>,
    /// What the target is
    #[arg(long, value_enum, default_value_t = Kind::Device)]
    kind: Kind,
    /// Who will own it [default: the key's address]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    owner: Option<Address>,
    /// How long to hold it, like 1y [default: 1y]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct SetTargetArgs {
    /// The name
    name: Name,
    /// Device id (or another address) to point at
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address, required_unless_present = "clear", conflicts_with = "clear")]
    target: Option<Address>,
    /// Point at nothing
    #[arg(long)]
    clear: bool,
    /// What the target is
    #[arg(long, value_enum, default_value_t = Kind::Device)]
    kind: Kind,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Kind {
    /// A device, by its id
    Device,
    /// A node, by its address
    Node,
    /// Any other account
    Account,
}

impl From<Kind> for NameKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Device => Self::Device,
            Kind::Node => Self::Node,
            Kind::Account => Self::Account,
        }
    }
}

#[derive(Serialize)]
struct Changed {
    name: String,
    did: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    owner: String,
    target: Option<String>,
    kind: Option<&'static str>,
    expiry: u64,
    expired: bool,
    version: u64,
    proof: Proof,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "name      {}", self.name)?;
        writeln!(f, "owner     {}", self.owner)?;
        match (&self.target, self.kind) {
            (Some(target), Some(kind)) => writeln!(f, "target    {kind} {target}")?,
            _ => writeln!(f, "target    none")?,
        }
        writeln!(f, "held      until {} (Unix seconds), version {}", self.expiry, self.version)?;
        write!(f, "{}", self.proof)
    }
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Register(arguments) => register(context, arguments).await,
        Command::Show { name } => show(context, name).await,
        command => change(context, command).await,
    }
}

async fn register(context: &Context, arguments: RegisterArgs) -> Result<(), Failure> {
    let (spec, key) = (context.spec()?, context.key()?);
    let chain = context.chain(&spec).await?;
    let target = arguments.target.map(|target| (arguments.kind.into(), target));
    let owner = arguments.owner.unwrap_or(key.address().0);
    let duration = arguments.duration.unwrap_or(YEAR);
    let registration =
        Registration { name: arguments.name, owner, target, duration, secret: B256::new(rand::random()) };
    context.output.note("registering takes a commitment, a wait, and its revelation");
    let receipt = Names::new(&chain, &spec, &key).register(&registration).await?;
    let changed = Changed {
        name: registration.name.to_string(),
        did: "registered",
        owner: Some(owner.to_checksum(None)),
        target: arguments.target.map(|target| target.to_checksum(None)),
    };
    let points = changed.target.as_ref().map_or_else(String::new, |target| format!(", pointing at {target}"));
    let said = format!("{} registered{points}", registration.name);
    context.output.print(&Done::new(said, changed, &receipt))
}

async fn change(context: &Context, command: Command) -> Result<(), Failure> {
    let (spec, key) = (context.spec()?, context.key()?);
    let chain = context.chain(&spec).await?;
    let names = Names::new(&chain, &spec, &key);
    let (name, did, owner, target, receipt) = match command {
        Command::Renew { name, duration } => {
            let receipt = names.renew(&name, duration.unwrap_or(YEAR)).await?;
            (name, "renewed", None, None, receipt)
        }
        Command::Transfer { name, to } => {
            let receipt = names.transfer(&name, to).await?;
            (name, "transferred", Some(to), None, receipt)
        }
        Command::SetTarget(SetTargetArgs { name, target, kind, .. }) => {
            let receipt = names.set_target(&name, target.map(|target| (kind.into(), target))).await?;
            (name, if target.is_some() { "pointed" } else { "cleared" }, None, target, receipt)
        }
        Command::Register(_) | Command::Show { .. } => {
            return Err(Failure::fault("usage", "not a change of a name"));
        }
    };
    let text = |address: Address| address.to_checksum(None);
    let whom = owner.or(target).map_or_else(String::new, |address| format!(" to {}", text(address)));
    let said = format!("{name} {did}{whom}");
    let changed = Changed { name: name.to_string(), did, owner: owner.map(text), target: target.map(text) };
    context.output.print(&Done::new(said, changed, &receipt))
}

async fn show(context: &Context, name: Name) -> Result<(), Failure> {
    let spec = context.spec()?;
    let hash = name.label_hash();
    let (record_slot, owner_slot) = (Slot::Name(hash), Slot::NameOwner(hash));
    let questions = vec![Question::Slot(record_slot), Question::Slot(owner_slot)];
    let (answer, proof) = prove(context, &spec, questions).await?;
    let under = answer.provenance.number;
    let record = answer.bundle.name(hash).map_err(unreadable)?.ok_or_else(|| {
        Failure::no("no_such_name", format!("{name}: no such name (proven under block {under})"))
    })?;
    let owner = answer.bundle.value(owner_slot).map_err(unreadable)?;
    let over = expired(record.expiry, answer.provenance.timestamp, Some(SystemClock.unix_seconds()));
    context.output.print(&Shown {
        name: name.to_string(),
        owner: Address::from_slice(&owner[12..]).to_checksum(None),
        target: record.kind.map(|_| record.target.to_checksum(None)),
        kind: record.kind.map(|kind| match kind {
            NameKind::Device => "device",
            NameKind::Node => "node",
            NameKind::Account => "account",
        }),
        expiry: record.expiry,
        expired: over,
        version: record.version,
        proof,
    })?;
    if over {
        return Err(Failure::no(
            "name_expired",
            format!("{name}: the name has expired (proven under block {under})"),
        ));
    }
    Ok(())
}
