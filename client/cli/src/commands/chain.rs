//! `chain`: deploying the contracts, and showing what a chain spec pins. Renewing it is in `renew`.

use super::{parse_address, renew};
use crate::chain::Chain;
use crate::context::{Context, beside, refuse_existing};
use crate::deploy::{Deployment, Journal, Terms, TermsError, deploy};
use crate::failure::Failure;
use crate::state;
use crate::when::spoken;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use windlass_client::{Clock, SecretKey, SystemClock, VerifiedSpec};
use windlass_protocol::spec::{ContractPin, FinalityRule, verify_spec};
use windlass_protocol::{Address, B256};

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Put the contracts on a chain and write a signed chain spec; run again after an interruption
    Deploy(Box<DeployArgs>),
    /// Show the chain spec, once its publisher's signature is checked
    Spec,
    /// Sign the next version of the chain spec, dated today, under the committee in office
    Renew(renew::Args),
}

#[derive(Args, Debug)]
pub(crate) struct DeployArgs {
    /// Addresses of the nodes that attest heads, separated by commas; at most 16
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',', required = true, value_parser = parse_address)]
    committee: Vec<Address>,
    /// Chain spec to write; never overwritten. Progress is kept beside it until all is done
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Refuse any chain but the one with this id (EIP-155)
    #[arg(long, value_name = "ID")]
    chain_id: Option<u64>,
    /// Key that signs the spec [default: the deploying key]
    #[arg(long, value_name = "FILE")]
    publisher_key: Option<PathBuf>,
    /// Who is paid the fees of names [default: the deploying key's address]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    treasury: Option<Address>,
    /// Registry that this one succeeds
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    predecessor: Option<Address>,
    /// The spec's version: only a higher one replaces another
    #[arg(long, value_name = "N", default_value_t = 1)]
    spec_version: u64,
    /// Blocks between attested heads: 12 to 60 seconds' worth [default: 1]
    #[arg(long, value_name = "BLOCKS", value_parser = clap::value_parser!(u64).range(1..))]
    head_interval: Option<u64>,
    /// Take a block as final this many blocks deep, on chains without a `finalized` tag
    #[arg(long, value_name = "BLOCKS", value_parser = clap::value_parser!(u64).range(1..))]
    finality_depth: Option<u64>,
    /// Least stake of a node, in wei [default: one coin, 10^18]
    #[arg(long, value_name = "WEI", value_parser = stake)]
    min_stake: Option<u128>,
    /// For a development chain: short periods, one provider is enough
    #[arg(long)]
    dev: bool,
}

/// The contract keeps a stake in 96 bits.
fn stake(text: &str) -> Result<u128, String> {
    let most = (1_u128 << 96) - 1;
    match text.parse() {
        Ok(wei) if (1..=most).contains(&wei) => Ok(wei),
        _ => Err(format!("a number of wei from 1 to {most}")),
    }
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Deploy(arguments) => run_deploy(context, *arguments).await,
        Command::Spec => {
            let spec = context.spec()?;
            context.output.print(&ShownSpec::new(&spec))
        }
        Command::Renew(arguments) => renew::run(context, arguments).await,
    }
}

async fn run_deploy(context: &Context, arguments: DeployArgs) -> Result<(), Failure> {
    refuse_existing(&arguments.out)?;
    let _lock = state::lock(&beside(&arguments.out, ".lock")).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => {
            Failure::fault("exists", format!("another deployment to {} runs", arguments.out.display()))
        }
        _ => Failure::fault("chain_spec", format!("can't write beside {}: {error}", arguments.out.display())),
    })?;
    let chain = Chain::at(context.rpc()?)?;
    if let Some(id) = arguments.chain_id {
        chain.require_id(id).await?;
    }
    let deployer = context.key()?;
    let publisher: SecretKey = match &arguments.publisher_key {
        None => deployer.clone(),
        Some(path) => context.open_key(path, &context.passphrase)?,
    };
    let terms = terms(&arguments, deployer.address().0)?;
    let mut journal = Journal::open(&beside(&arguments.out, ".journal"))?;
    let date = SystemClock.unix_seconds();
    let mut progress = |line: &str| context.output.note(line);
    let Deployment { signed, eligibility, .. } =
        deploy(&chain, &deployer, &publisher, &terms, &mut journal, date, &mut progress).await?;
    if !eligibility.number_is_headers {
        context
            .output
            .note("block.number or BLOCKHASH in contracts isn't the headers' on this chain: the chain itself convicts no node");
    }
    state::write_new(&arguments.out, &signed.to_bytes()).map_err(|error| {
        Failure::fault("chain_spec", format!("can't write {}: {error}; run again", arguments.out.display()))
    })?;
    journal.finish()?;
    // What is left of it is empty, and no harm.
    let _ = std::fs::remove_file(beside(&arguments.out, ".lock"));
    let spec = verify_spec(&signed.to_bytes(), publisher.address())?;
    context.output.print(&ShownSpec::new(&spec).written(arguments.out))
}

fn terms(arguments: &DeployArgs, deployer: Address) -> Result<Terms, TermsError> {
    let treasury = arguments.treasury.unwrap_or(deployer);
    let committee = arguments.committee.clone();
    let mut terms = if arguments.dev {
        Terms { treasury, ..Terms::development(committee)? }
    } else {
        Terms::public(committee, treasury)?
    };
    terms.version = arguments.spec_version;
    terms.predecessor = arguments.predecessor.unwrap_or_default();
    terms.head_interval = arguments.head_interval.unwrap_or(terms.head_interval);
    terms.min_stake = arguments.min_stake.unwrap_or(terms.min_stake);
    terms.finality = arguments.finality_depth.map_or(terms.finality, FinalityRule::Depth);
    Ok(terms)
}

#[derive(Serialize)]
pub(crate) struct ShownSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    publisher: String,
    hash: B256,
    version: u64,
    chain_id: u64,
    genesis_hash: B256,
    registry: ShownPin,
    name_registrar: ShownPin,
    /// Absent when the spec pins none.
    node_staking: Option<ShownPin>,
    settlement: Option<ShownPin>,
    deploy_block: u64,
    committee: Vec<String>,
    threshold: usize,
    head_interval: u64,
    finality: String,
    max_finality_lag: u64,
    /// Seconds.
    trusting_period: u64,
    dev: bool,
    /// Unix seconds.
    date: u64,
    /// Until when a device is let in that knows nothing later, Unix seconds.
    good_until: u64,
}

#[derive(Serialize)]
struct ShownPin {
    address: String,
    code_hash: B256,
}

impl ShownPin {
    fn new(pin: ContractPin) -> Self {
        Self { address: pin.address.to_checksum(None), code_hash: pin.code_hash }
    }

    fn deployed(pin: ContractPin) -> Option<Self> {
        (pin != ContractPin::default()).then(|| Self::new(pin))
    }
}

impl ShownSpec {
    pub(crate) fn new(spec: &VerifiedSpec) -> Self {
        let contracts = spec.contracts;
        Self {
            file: None,
            publisher: spec.publisher().to_string(),
            hash: spec.hash(),
            version: spec.version,
            chain_id: spec.chain_id,
            genesis_hash: spec.genesis_hash,
            registry: ShownPin::new(contracts.registry),
            name_registrar: ShownPin::new(contracts.name_registrar),
            node_staking: ShownPin::deployed(contracts.node_staking),
            settlement: ShownPin::deployed(contracts.settlement),
            deploy_block: spec.deploy_block,
            committee: spec.committee.iter().map(|member| member.to_checksum(None)).collect(),
            threshold: spec.threshold(spec.committee.len()),
            head_interval: spec.head_interval,
            finality: match spec.finality {
                FinalityRule::Tag => "finalized".to_owned(),
                FinalityRule::Depth(depth) => format!("{depth} blocks deep"),
            },
            max_finality_lag: spec.max_finality_lag,
            trusting_period: spec.trusting_period,
            dev: spec.dev,
            date: spec.date,
            good_until: spec.good_until(),
        }
    }

    /// The same, just written to this file.
    pub(crate) fn written(self, file: PathBuf) -> Self {
        Self { file: Some(file), ..self }
    }
}

impl fmt::Display for ShownSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            writeln!(f, "written   {}", file.display())?;
        }
        writeln!(f, "publisher {}", self.publisher)?;
        writeln!(f, "spec      {} (version {})", self.hash, self.version)?;
        let dev = if self.dev { ", for development" } else { "" };
        writeln!(f, "chain     {} from genesis {}{dev}", self.chain_id, self.genesis_hash)?;
        writeln!(f, "registry  {} since block {}", self.registry.address, self.deploy_block)?;
        writeln!(f, "names     {}", self.name_registrar.address)?;
        for (label, pin) in [("staking", &self.node_staking), ("payments", &self.settlement)] {
            if let Some(pin) = pin {
                writeln!(f, "{label:<9} {}", pin.address)?;
            }
        }
        writeln!(
            f,
            "committee {} of {} must attest: {}",
            self.threshold,
            self.committee.len(),
            self.committee.join(", ")
        )?;
        writeln!(f, "heads     every {} blocks, final: {}", self.head_interval, self.finality)?;
        let now = SystemClock.unix_seconds();
        match self.good_until.checked_sub(now) {
            Some(left) => write!(f, "good      for {} more: renew it before", spoken(left)),
            None => {
                write!(f, "good      no more: `windlass chain renew` lets devices in that know nothing later")
            }
        }
    }
}
