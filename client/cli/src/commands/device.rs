//! `device`: enrolment with consent, and what becomes of a device after it.

use super::{Done, parse_address, resolve};
use crate::consent::Consent;
use crate::context::Context;
use crate::failure::Failure;
use crate::limits::CONSENT_LIFE;
use crate::parties::parse_fleet;
use crate::passphrase::Source;
use crate::registry::{Registry, operator, revoking_at};
use crate::transact::TransactError;
use crate::when::{Until, parse_duration, parse_until};
use alloy::rpc::types::TransactionReceipt;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use windlass_client::{Clock, DeviceId, SystemClock, Target};
use windlass_protocol::Address;
use windlass_protocol::consent::Rotate;

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Sign this device's consent to join a fleet, for its operator to use
    Consent(ConsentArgs),
    /// Enrol a device in a fleet, with its consent; by the operator
    Enrol(EnrolArgs),
    /// Show a device, proven
    Show {
        /// A name, or a device id (0x…)
        target: Target,
    },
    /// Pause an active device; by the operator
    Suspend {
        /// Device id
        device: DeviceId,
    },
    /// End a suspension; by the operator
    Resume {
        /// Device id
        device: DeviceId,
    },
    /// Let a device be valid for longer; by the operator
    Extend {
        /// Device id
        device: DeviceId,
        /// `never`, a time from now like 1y, or Unix seconds
        #[arg(long, value_name = "TIME", value_parser = parse_until)]
        valid_until: Until,
    },
    /// Revoke a device for ever; by the operator, or by the device's own key
    Revoke {
        /// Device id
        device: DeviceId,
    },
    /// Give this device a new key; by the current one
    Rotate(RotateArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ConsentArgs {
    /// Fleet to join
    #[arg(long, value_name = "N", value_parser = parse_fleet)]
    fleet: u64,
    /// Address of the fleet's operator
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    operator: Address,
    /// How long to be valid: `never`, a time from now like 1y, or Unix seconds
    #[arg(long, value_name = "TIME", default_value = "never", value_parser = parse_until)]
    valid_until: Until,
    /// How long the consent may be used, like 24h
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    usable_for: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct EnrolArgs {
    /// Fleet to enrol in
    #[arg(long, value_name = "N", value_parser = parse_fleet)]
    fleet: u64,
    /// The device's key file, if it is here: its consent is signed at once
    #[arg(long, value_name = "FILE", required_unless_present = "consent", conflicts_with = "consent")]
    device_key: Option<PathBuf>,
    /// Passphrase file of the device's key [default: as of the operator's]
    #[arg(long, value_name = "FILE", requires = "device_key")]
    device_passphrase_file: Option<PathBuf>,
    /// The line that `device consent` printed
    #[arg(long, value_name = "HEX")]
    consent: Option<Consent>,
    /// How long to be valid: `never`, a time from now like 1y, or Unix seconds; a consent has its own
    #[arg(long, value_name = "TIME", value_parser = parse_until, conflicts_with = "consent")]
    valid_until: Option<Until>,
}

#[derive(Args, Debug)]
pub(crate) struct RotateArgs {
    /// Key file of the new key
    #[arg(long, value_name = "FILE")]
    new_key: PathBuf,
    /// Passphrase file of the new key [default: as of the current one]
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct ShownConsent {
    device: String,
    fleet: u64,
    operator: String,
    valid_until: Option<u64>,
    deadline: u64,
    consent: String,
}

impl fmt::Display for ShownConsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.consent)
    }
}

#[derive(Serialize)]
struct Changed {
    device: String,
    did: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_at: Option<u64>,
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Consent(arguments) => consent(context, &arguments),
        Command::Enrol(arguments) => enrol(context, arguments).await,
        Command::Show { target } => resolve::look_up(context, &target).await.map(drop),
        Command::Suspend { device } => change(context, device, Change::Suspend).await,
        Command::Resume { device } => change(context, device, Change::Resume).await,
        Command::Extend { device, valid_until } => change(context, device, Change::Extend(valid_until)).await,
        Command::Revoke { device } => change(context, device, Change::Revoke).await,
        Command::Rotate(arguments) => rotate(context, arguments).await,
    }
}

fn consent(context: &Context, arguments: &ConsentArgs) -> Result<(), Failure> {
    let (spec, key) = (context.spec()?, context.key()?);
    let now = SystemClock.unix_seconds();
    let deadline = now + arguments.usable_for.unwrap_or(CONSENT_LIFE);
    let valid_until = arguments.valid_until.at(now);
    let consent = Consent::sign(&spec, &key, arguments.fleet, arguments.operator, valid_until, deadline);
    context.output.print(&ShownConsent {
        device: consent.device.to_string(),
        fleet: arguments.fleet,
        operator: arguments.operator.to_checksum(None),
        valid_until: crate::proof::some_time(consent.valid_until),
        deadline: consent.deadline,
        consent: consent.to_hex(),
    })
}

async fn enrol(context: &Context, arguments: EnrolArgs) -> Result<(), Failure> {
    let (spec, key) = (context.spec()?, context.key()?);
    let device_key = match &arguments.device_key {
        None => None,
        Some(path) => {
            let own = arguments.device_passphrase_file.clone().map(Source::File);
            Some(context.open_key(path, own.as_ref().unwrap_or(&context.passphrase))?)
        }
    };
    let chain = context.chain(&spec).await?;
    let account = key.address().0;
    // The contract would only say that a signature is wrong.
    if operator(&chain, &spec, arguments.fleet).await? != account {
        let message =
            format!("{} is not the operator of fleet {}", account.to_checksum(None), arguments.fleet);
        return Err(Failure::fault("not_operator", message));
    }
    let consent = match (device_key, arguments.consent) {
        (Some(device), _) => {
            // The chain's clock, not ours: it is the contract that compares.
            let now = chain.now().await?;
            let valid_until = arguments.valid_until.unwrap_or(Until::Never).at(now);
            Consent::sign(&spec, &device, arguments.fleet, account, valid_until, now + CONSENT_LIFE)
        }
        (None, Some(consent)) => consent,
        (None, None) => return Err(Failure::fault("usage", "give --device-key or --consent")),
    };
    consent.check(&spec, arguments.fleet, account)?;
    let receipt = Registry::new(&chain, &spec, &key).enrol(arguments.fleet, &consent).await?;
    let said = format!("{} enrolled in fleet {}", consent.device, arguments.fleet);
    let changed = Changed {
        device: consent.device.to_string(),
        did: "enrolled",
        fleet: Some(arguments.fleet),
        effective_at: None,
    };
    context.output.print(&Done::new(said, changed, &receipt))
}

#[derive(Clone, Copy)]
enum Change {
    Suspend,
    Resume,
    Extend(Until),
    Revoke,
}

async fn change(context: &Context, device: DeviceId, change: Change) -> Result<(), Failure> {
    let (spec, key) = (context.spec()?, context.key()?);
    let chain = context.chain(&spec).await?;
    let registry = Registry::new(&chain, &spec, &key);
    let (did, receipt): (_, Result<TransactionReceipt, TransactError>) = match change {
        Change::Suspend => ("suspended", registry.suspend(device).await),
        Change::Resume => ("resumed", registry.resume(device).await),
        Change::Extend(until) => ("extended", registry.extend(device, until.at(chain.now().await?)).await),
        Change::Revoke => ("revoked", registry.revoke(device).await),
    };
    let receipt = receipt?;
    let effective_at = revoking_at(&receipt);
    let did = if effective_at.is_some() { "revoking" } else { did };
    let when =
        effective_at.map_or_else(String::new, |at| format!(", a tombstone from {at} (Unix seconds) on"));
    let changed = Changed { device: device.to_string(), did, fleet: None, effective_at };
    context.output.print(&Done::new(format!("{device} {did}{when}"), changed, &receipt))
}

#[derive(Serialize)]
struct Rotated {
    device: String,
    old_key: String,
    new_key: String,
}

async fn rotate(context: &Context, arguments: RotateArgs) -> Result<(), Failure> {
    let (spec, key) = (context.spec()?, context.key()?);
    let own = arguments.new_passphrase_file.clone().map(Source::File);
    let new = context.open_key(&arguments.new_key, own.as_ref().unwrap_or(&context.passphrase))?;
    let device = context.device_id(&key)?;
    let chain = context.chain(&spec).await?;
    let deadline = chain.now().await? + CONSENT_LIFE;
    let statement = Rotate { device, old_key: key.address(), new_key: new.address(), deadline };
    let consent = new.sign(&statement.digest(&spec));
    let registry = Registry::new(&chain, &spec, &key);
    let receipt = registry.rotate(device, new.address().0, deadline, &consent).await?;
    let rotated = Rotated {
        device: device.to_string(),
        old_key: key.address().to_string(),
        new_key: new.address().to_string(),
    };
    let said =
        format!("{device} now uses {}; set `device_id = \"{device}\"` beside the new key", rotated.new_key);
    context.output.print(&Done::new(said, rotated, &receipt))
}
