//! `grant`: who may open which services, on chain.

use super::{Done, prove, unreadable};
use crate::chain::Chain;
use crate::context::Context;
use crate::failure::Failure;
use crate::parties::{
    grantee_text, parse_fleet, parse_grantee, parse_service, parse_target, service_text, target_text,
};
use crate::proof::{Proof, some_time, until};
use crate::registry::{self, Registry};
use crate::when::{Until, parse_until};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fmt;
use windlass_client::{Clock, Question, SystemClock};
use windlass_protocol::grant::{GrantService, GrantTarget, Grantee, grant_id, parties_hash};
use windlass_protocol::question::grant_valid;
use windlass_protocol::record::DeviceRecord;
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::ChainSpec;
use windlass_protocol::{B256, DeviceId};

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Let a grantee open a service; by the operator of the target's fleet
    Add {
        #[command(flatten)]
        parties: Parties,
        /// Until when: `never`, a time from now like 30d, or Unix seconds
        #[arg(long, value_name = "TIME", default_value = "never", value_parser = parse_until)]
        expiry: Until,
    },
    /// Take a grant back; by the operator
    Revoke {
        #[command(flatten)]
        parties: Parties,
    },
    /// Show a grant, proven
    Show {
        #[command(flatten)]
        parties: Parties,
    },
}

/// Whom a grant is about. All of it must be said to find it again: the chain holds only a hash.
#[derive(Args, Debug)]
pub(crate) struct Parties {
    /// Fleet of the target, whose operator grants
    #[arg(long, value_name = "N", value_parser = parse_fleet)]
    fleet: u64,
    /// What is opened: a device id, or fleet:N for all of its devices
    #[arg(long, value_name = "TARGET", value_parser = parse_target)]
    target: GrantTarget,
    /// Who may: a device id, fleet:N, or anyone (any enrolled device)
    #[arg(long, value_name = "GRANTEE", value_parser = parse_grantee)]
    grantee: Grantee,
    /// tcp/PORT, udp/PORT, or all
    #[arg(long, value_name = "SERVICE", value_parser = parse_service)]
    service: GrantService,
}

impl Parties {
    fn hash(&self) -> B256 {
        parties_hash(self.target, self.grantee, self.service)
    }

    fn id(&self) -> B256 {
        grant_id(self.fleet, self.hash())
    }

    fn shown(&self) -> ShownParties {
        ShownParties {
            fleet: self.fleet,
            target: target_text(&self.target),
            grantee: grantee_text(&self.grantee),
            service: service_text(&self.service),
            grant: self.id(),
        }
    }

    /// A grant about a fleet that isn't the granting one would never count.
    fn check(&self) -> Result<(), Failure> {
        match self.target {
            GrantTarget::Fleet(number) if number != self.fleet => {
                let message =
                    format!("a grant of fleet {} can't be about fleet {number}'s devices", self.fleet);
                Err(Failure::fault("usage", message))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Serialize)]
struct ShownParties {
    fleet: u64,
    target: String,
    grantee: String,
    service: String,
    grant: B256,
}

impl fmt::Display for ShownParties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} may open {} on {}", self.grantee, self.service, self.target)
    }
}

#[derive(Serialize)]
struct Changed {
    did: &'static str,
    #[serde(flatten)]
    parties: ShownParties,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry: Option<u64>,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    parties: ShownParties,
    valid: bool,
    /// Unix seconds; absent for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry: Option<u64>,
    policy_epoch: u64,
    proof: Proof,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let valid = if self.valid { "valid" } else { "not valid any more" };
        writeln!(f, "grant     {}: {valid}, {}", self.parties, until(self.expiry))?;
        write!(f, "{}", self.proof)
    }
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Add { parties, expiry } => add(context, &parties, expiry).await,
        Command::Revoke { parties } => revoke(context, &parties).await,
        Command::Show { parties } => show(context, &parties).await,
    }
}

async fn add(context: &Context, parties: &Parties, expiry: Until) -> Result<(), Failure> {
    parties.check()?;
    let (spec, key) = (context.spec()?, context.key()?);
    let chain = context.chain(&spec).await?;
    let expiry = expiry.at(chain.now().await?);
    if let GrantTarget::Device(device) = parties.target {
        // Not proven, but a mistake told before it costs anything.
        let record = device_record(&chain, &spec, device).await?;
        if let Some(elsewhere) = record.filter(|record| record.fleet != parties.fleet) {
            return Err(Failure::fault("usage", foreign(device, elsewhere.fleet, parties.fleet)));
        }
    }
    let receipt = Registry::new(&chain, &spec, &key).grant(parties.fleet, parties.hash(), expiry).await?;
    let shown = parties.shown();
    let said = format!("granted: {shown}, {}", until(some_time(expiry)));
    context.output.print(&Done::new(
        said,
        Changed { did: "granted", parties: shown, expiry: some_time(expiry) },
        &receipt,
    ))
}

async fn revoke(context: &Context, parties: &Parties) -> Result<(), Failure> {
    let (spec, key) = (context.spec()?, context.key()?);
    let chain = context.chain(&spec).await?;
    let receipt = Registry::new(&chain, &spec, &key).revoke_grant(parties.fleet, parties.hash()).await?;
    let shown = parties.shown();
    let said = format!("taken back: {shown}");
    context.output.print(&Done::new(said, Changed { did: "revoked", parties: shown, expiry: None }, &receipt))
}

async fn show(context: &Context, parties: &Parties) -> Result<(), Failure> {
    let spec = context.spec()?;
    let mut questions = vec![Question::Grant(parties.id()), Question::Fleet(parties.fleet)];
    if let GrantTarget::Device(device) = parties.target {
        questions.push(Question::Slot(Slot::Device(device)));
    }
    let (answer, proof) = prove(context, &spec, questions).await?;
    let head = &answer.provenance;
    let grant = answer.bundle.grant(parties.id()).map_err(unreadable)?.ok_or_else(|| {
        Failure::no("no_such_grant", format!("no such grant (proven under block {})", head.number))
    })?;
    let fleet = answer.bundle.fleet(parties.fleet).map_err(unreadable)?;
    let now = Some(SystemClock.unix_seconds());
    let own = match parties.target {
        GrantTarget::Fleet(_) => Some(parties.fleet),
        GrantTarget::Device(device) => {
            answer.bundle.device(device).map_err(unreadable)?.map(|record| record.fleet)
        }
    };
    let counts = own == Some(parties.fleet);
    let valid =
        counts && fleet.is_some_and(|fleet| grant_valid(&grant, parties.fleet, &fleet, head.timestamp, now));
    let shown = Shown {
        parties: parties.shown(),
        valid,
        expiry: some_time(grant.expiry),
        policy_epoch: grant.policy_epoch,
        proof,
    };
    context.output.print(&shown)?;
    if valid {
        return Ok(());
    }
    let (code, what) = match (counts, parties.target, own) {
        (false, GrantTarget::Device(device), Some(fleet)) => {
            ("foreign_target", foreign(device, fleet, parties.fleet))
        }
        (false, ..) => ("not_registered", "the target is enrolled nowhere".to_owned()),
        (true, ..) => ("grant_over", "the grant has expired, or its policy epoch is over".to_owned()),
    };
    Err(Failure::no(code, format!("{what} (proven under block {})", head.number)))
}

fn foreign(device: DeviceId, its: u64, granting: u64) -> String {
    format!("{device} is in fleet {its}: a grant of fleet {granting} about it never counts")
}

/// The target's record as the chain's RPC tells it, unproven.
async fn device_record(
    chain: &Chain,
    spec: &ChainSpec,
    device: DeviceId,
) -> Result<Option<DeviceRecord>, Failure> {
    let value = registry::read(chain, spec, Slot::Device(device)).await?;
    DeviceRecord::decode(&value).map_err(|error| Failure::fault("chain_malformed", error))
}
