//! Methods that execute without leaving a trace: `eth_call`, `eth_estimateGas`, `eth_createAccessList`.

use super::argument::Arguments;
use super::caller::{Caller, Seen};
use super::error::RpcError;
use super::quantity;
use super::reference::BlockReference;
use crate::chain::evm::{self, ExecuteError, Execution, Message, Outcome, Overlay};
use crate::chain::limits::MAX_TRANSACTION_GAS;
use alloy::rpc::types::{AccessList, AccessListResult, TransactionRequest};
use alloy_consensus::Header;
use serde_json::Value;
use windlass_protocol::alloy_primitives::TxKind;
use windlass_protocol::trie::EMPTY_CODE_HASH;
use windlass_protocol::{Bytes, U256};

/// Gas of the plainest transfer.
const TRANSFER_GAS: u64 = 21_000;

/// Gas a callee gets on top of what it is given, when value comes along.
const CALL_STIPEND: u64 = 2_300;

/// How close an estimate comes to the least gas that works, in thousandths: as close as geth's.
const ESTIMATE_TOLERANCE_PER_MILLE: u64 = 15;

/// Executions after which an access list counts as complete, although it may still grow.
const MAX_ACCESS_LIST_ROUNDS: usize = 8;

/// Where a call happens.
struct Scene<'a> {
    overlay: Overlay<'a>,
    header: Header,
    chain_id: u64,
}

impl<'a> Scene<'a> {
    fn at(seen: &'a Seen<'_>, reference: &BlockReference) -> Result<Self, RpcError> {
        let chain_id = seen.chain_id();
        if *reference == BlockReference::Pending && seen.is_current() {
            let (block, overlay) = seen.pending_overlay()?;
            return Ok(Self { overlay, header: block.header, chain_id });
        }
        let block = reference.require(seen)?;
        Ok(Self { overlay: seen.overlay(&block)?, header: block.header.clone(), chain_id })
    }

    fn run(&self, message: Message) -> Result<Execution, ExecuteError> {
        evm::call(&self.overlay, self.chain_id, &self.header, message)
    }

    fn run_listing(&self, message: Message) -> Result<(Execution, AccessList), ExecuteError> {
        evm::call_listing(&self.overlay, self.chain_id, &self.header, message)
    }
}

/// `eth_call`
pub(super) fn call(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let request: TransactionRequest = arguments.required()?;
    let reference = arguments.optional()?.unwrap_or(BlockReference::Latest);
    let seen = caller.read();
    let scene = Scene::at(&seen, &reference)?;
    let most = scene.header.gas_limit;
    let gas_limit = request.gas.map_or(most, |gas| gas.min(most));
    let execution = scene.run(message(request, gas_limit)?)?;
    Ok(super::hex(RpcError::unless_success(execution.outcome)?))
}

/// `eth_estimateGas`: a gas limit with which the transaction succeeds, close to the least.
pub(super) fn estimate_gas(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let request: TransactionRequest = arguments.required()?;
    let reference = arguments.optional()?.unwrap_or(BlockReference::Latest);
    let seen = caller.read();
    let scene = Scene::at(&seen, &reference)?;
    let most = most_gas(&scene, &request)?;
    let message = message(request, most)?;
    Ok(quantity(estimate(&scene, message)?))
}

/// A gas limit for a transaction that is to be sent now, after what its sender has waiting.
pub(super) fn gas_for(seen: &Seen<'_>, request: TransactionRequest) -> Result<u64, RpcError> {
    let mined = seen.overlay(&*seen.latest()?)?.basic(request.from.unwrap_or_default())?.unwrap_or_default();
    let waits = request.nonce.is_some_and(|nonce| nonce != mined.nonce);
    let reference = if waits { BlockReference::Pending } else { BlockReference::Latest };
    let scene = Scene::at(seen, &reference)?;
    let most = most_gas(&scene, &request)?;
    estimate(&scene, message(request, most)?)
}

/// `eth_createAccessList`: what of the state a transaction touches (EIP-2930), and the gas it uses when it
/// says so beforehand.
pub(super) fn access_list(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let request: TransactionRequest = arguments.required()?;
    let reference = arguments.optional()?.unwrap_or(BlockReference::Latest);
    let seen = caller.read();
    let scene = Scene::at(&seen, &reference)?;
    let most = most_gas(&scene, &request)?;
    let mut message = message(request, most)?;
    // What is listed costs other gas, which may lead elsewhere: until it lists what it was given.
    for _ in 0..MAX_ACCESS_LIST_ROUNDS {
        let (_, touched) = scene.run_listing(message.clone())?;
        if touched == message.access_list {
            break;
        }
        message.access_list = touched;
    }
    let execution = scene.run(message.clone())?;
    let error = match RpcError::unless_success(execution.outcome) {
        Ok(_) => None,
        Err(error) => Some(error.message().to_owned()),
    };
    super::view::json(AccessListResult {
        access_list: message.access_list,
        gas_used: U256::from(execution.gas_used),
        error,
    })
}

fn estimate(scene: &Scene<'_>, message: Message) -> Result<u64, RpcError> {
    if is_plain_transfer(scene, &message)? && succeeds(scene, &message, TRANSFER_GAS)?.is_some() {
        return Ok(TRANSFER_GAS);
    }
    let most = message.gas_limit;
    let allowance = || RpcError::server(format!("gas required exceeds allowance ({most})"));
    let execution = match scene.run(message.clone()) {
        Err(ExecuteError::IntrinsicGas { .. }) => return Err(allowance()),
        executed => executed?,
    };
    if let Outcome::Halt { out_of_gas: true, .. } = execution.outcome {
        return Err(allowance());
    }
    let used = execution.gas_used;
    RpcError::unless_success(execution.outcome)?;
    // Refunds and the sixty-fourth that a caller keeps back (EIP-150) make it need more than it uses.
    let (mut least, mut enough) = (used.saturating_sub(1), most);
    let mut guess = (used + CALL_STIPEND).saturating_mul(64) / 63;
    while least + 1 < enough && (enough - least) * 1_000 > enough * ESTIMATE_TOLERANCE_PER_MILLE {
        let tried = if guess > least && guess < enough { guess } else { least.midpoint(enough) };
        match succeeds(scene, &message, tried)? {
            Some(_) => enough = tried,
            None => least = tried,
        }
        // Most need little more than they use: look there first, not in the middle.
        guess = least.saturating_mul(2);
        if guess >= enough {
            guess = least.midpoint(enough);
        }
    }
    Ok(enough)
}

/// The execution with this gas limit, if it succeeds.
fn succeeds(scene: &Scene<'_>, message: &Message, gas_limit: u64) -> Result<Option<Execution>, RpcError> {
    match scene.run(Message { gas_limit, ..message.clone() }) {
        Ok(execution) => Ok(matches!(execution.outcome, Outcome::Success(_)).then_some(execution)),
        Err(ExecuteError::IntrinsicGas { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_plain_transfer(scene: &Scene<'_>, message: &Message) -> Result<bool, RpcError> {
    let Some(to) = message.to.filter(|_| message.data.is_empty()) else { return Ok(false) };
    let code_hash = scene.overlay.basic(to)?.map_or(EMPTY_CODE_HASH, |basic| basic.code_hash);
    Ok(code_hash == EMPTY_CODE_HASH && message.access_list.is_empty() && message.authorizations.is_empty())
}

/// The largest gas limit the transaction may have: what a block takes, the caller asks, the sender can pay.
fn most_gas(scene: &Scene<'_>, request: &TransactionRequest) -> Result<u64, RpcError> {
    let most = scene.header.gas_limit.min(MAX_TRANSACTION_GAS);
    let most = request.gas.filter(|gas| *gas >= TRANSFER_GAS).map_or(most, |gas| gas.min(most));
    let fee = request.max_fee_per_gas.or(request.gas_price).unwrap_or_default();
    if fee == 0 {
        return Ok(most);
    }
    let balance = scene.overlay.basic(request.from.unwrap_or_default())?.unwrap_or_default().balance;
    let value = request.value.unwrap_or_default();
    let Some(left) = balance.checked_sub(value) else {
        return Err(RpcError::server("insufficient funds for transfer"));
    };
    Ok((left / U256::from(fee)).saturating_to::<u64>().min(most))
}

fn message(request: TransactionRequest, gas_limit: u64) -> Result<Message, RpcError> {
    if request.gas_price.is_some()
        && (request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some())
    {
        return Err(RpcError::server("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"));
    }
    let (input, data) = (request.input.input, request.input.data);
    if input.is_some() && data.is_some() && input != data {
        return Err(RpcError::server("both \"data\" and \"input\" are set and not equal"));
    }
    let to = match request.to {
        Some(TxKind::Call(to)) => Some(to),
        Some(TxKind::Create) | None => None,
    };
    Ok(Message {
        from: request.from.unwrap_or_default(),
        to,
        value: request.value.unwrap_or_default(),
        data: input.or(data).unwrap_or_else(Bytes::new),
        gas_limit,
        max_fee: request.max_fee_per_gas.or(request.gas_price).unwrap_or_default(),
        priority_fee: request.max_fee_per_gas.and(request.max_priority_fee_per_gas),
        access_list: request.access_list.unwrap_or_default(),
        authorizations: request.authorization_list.unwrap_or_default(),
    })
}
