//! The commands, one group per file. Each reads its arguments, calls the library, prints one result.

pub(crate) mod chain;
pub(crate) mod device;
pub(crate) mod fleet;
pub(crate) mod forward;
mod forward_udp;
pub(crate) mod grant;
pub(crate) mod key;
pub(crate) mod name;
pub(crate) mod publish;
pub(crate) mod renew;
pub(crate) mod resolve;

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::failure::Failure;
use alloy::rpc::types::TransactionReceipt;
use serde::Serialize;
use std::fmt;
use windlass_client::{Client, Question, VerifiedSpec};
use windlass_protocol::B256;
use windlass_protocol::alloy_primitives::Address;

use crate::proof::Proof;

/// Runs one command.
pub(crate) async fn dispatch(cli: Cli) -> Result<(), Failure> {
    let context = Context::new(cli.global)?;
    match cli.command {
        Command::Key(command) => key::run(&context, command),
        Command::Address(arguments) => key::address(&context, arguments),
        Command::Chain(command) => chain::run(&context, command).await,
        Command::Fleet(command) => fleet::run(&context, command).await,
        Command::Device(command) => device::run(&context, command).await,
        Command::Name(command) => name::run(&context, command).await,
        Command::Grant(command) => grant::run(&context, command).await,
        Command::Resolve(arguments) => resolve::run(&context, arguments).await,
        Command::Publish(arguments) => publish::run(&context, arguments).await,
        Command::Forward(arguments) => forward::run(&context, arguments).await,
    }
}

/// What a transaction did, on which chain's block.
#[derive(Serialize, Debug)]
pub(crate) struct Done<T> {
    #[serde(skip)]
    said: String,
    #[serde(flatten)]
    what: T,
    transaction: B256,
    block: Option<u64>,
    gas: u64,
}

impl<T: Serialize> Done<T> {
    /// `said` is the result in words; `what` its fields for programs.
    pub(crate) fn new(said: String, what: T, receipt: &TransactionReceipt) -> Self {
        let (transaction, block) = (receipt.transaction_hash, receipt.block_number);
        Self { said, what, transaction, block, gas: receipt.gas_used }
    }
}

impl<T> fmt::Display for Done<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let block = self.block.map_or_else(String::new, |block| format!(" in block {block}"));
        write!(f, "{}{block} ({} gas)", self.said, self.gas)
    }
}

/// Has nodes prove something, and hands on what it rests on. The client ends before its answer is used.
pub(crate) async fn prove(
    context: &Context,
    spec: &VerifiedSpec,
    questions: Vec<Question>,
) -> Result<(windlass_client::Answer, Proof), Failure> {
    let client: Client = context.reader(spec).await?;
    let answer = client.ask(questions).await;
    client.shutdown().await;
    let answer = answer?;
    let proof = Proof::new(&answer.provenance, spec.publisher());
    Ok((answer, proof))
}

/// A slot that no contract writes like this: the verified answer contradicts the layout.
pub(crate) fn unreadable(error: impl fmt::Display) -> Failure {
    Failure::fault("record", format!("the proven record can't be read: {error}"))
}

/// Reads an address. For clap.
pub(crate) fn parse_address(text: &str) -> Result<Address, String> {
    windlass_protocol::parse_address(text).map_err(|error| error.to_string())
}
