//! The EVM: the one module, with its tracer, that names revm, whose interface changes every few weeks.
//!
//! Owns executing one transaction, one call or one system call over an [`Overlay`], on the Osaka rules.
//! It never mines, and never touches the state under the overlay.

use super::archive::Ancestors;
use super::block::is_impersonated;
use super::state::{AccountChange, Basic, Changes, StateAt, StateError};
use alloy_consensus::transaction::Recovered;
use alloy_consensus::{Header, Transaction, TxEnvelope, Typed2718};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_eips::eip7702::SignedAuthorization;
use revm::bytecode::Bytecode;
use revm::context::either::Either;
use revm::context::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction, Output};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::context_interface::cfg::gas::calculate_initial_tx_gas_for_tx;
use revm::database_interface::DBErrorMarker;
use revm::handler::EthPrecompiles;
use revm::primitives::hardfork::SpecId;
use revm::primitives::{Log, TxKind};
use revm::state::{AccountInfo, EvmState};
use revm::{Database, ExecuteEvm, InspectEvm, MainBuilder, MainContext, SystemCallEvm};
pub(crate) use trace::CallTracer;
use windlass_protocol::{Address, B256, Bytes, U256};

mod trace;

/// Rules in force from genesis on.
const RULES: SpecId = SpecId::OSAKA;

/// Code, analysed once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Code(Bytecode);

impl Code {
    /// Analyses `bytes`, of which every string is code.
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self(Bytecode::new_raw_checked(bytes.clone()).unwrap_or_else(|_| Bytecode::new_legacy(bytes)))
    }

    /// The code as the chain has it.
    pub(crate) fn bytes(&self) -> Bytes {
        self.0.original_bytes()
    }

    /// Whether it only points to another account's code (EIP-7702), which leaves its owner free to send.
    pub(crate) fn is_delegation(&self) -> bool {
        self.0.is_eip7702()
    }
}

/// The state after a block with the changes of a block in the making on top.
pub(crate) struct Overlay<'a> {
    pub(crate) base: StateAt<'a>,
    pub(crate) changes: Changes,
    /// The chain up to the parent.
    pub(crate) ancestors: Ancestors<'a>,
}

impl<'a> Overlay<'a> {
    /// Nothing changed yet on top of `base`.
    pub(crate) fn new(base: StateAt<'a>, ancestors: Ancestors<'a>) -> Self {
        Self { base, changes: Changes::default(), ancestors }
    }

    /// The account as it is now; `None` if there is none.
    pub(crate) fn basic(&self, address: Address) -> Result<Option<Basic>, StateError> {
        if let Some(change) = self.changes.accounts.get(&address) {
            return Ok(change.basic);
        }
        let account = self.base.account(address)?;
        Ok(account.map(|a| Basic { nonce: a.nonce, balance: a.balance, code_hash: a.code_hash }))
    }

    /// The code with this hash.
    pub(crate) fn code(&self, code_hash: B256) -> Result<Code, StateError> {
        match self.changes.codes.get(&code_hash) {
            Some(code) => Ok(code.clone()),
            None => self.base.code(code_hash),
        }
    }

    /// The value in `slot` of `address` as it is now.
    pub(crate) fn slot(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        match self.changes.accounts.get(&address).and_then(|change| change.slots.get(&slot)) {
            Some(value) => Ok(*value),
            None => self.base.slot(address, slot),
        }
    }

    fn fold(&mut self, state: EvmState) {
        for (address, account) in state.into_iter().filter(|(_, account)| account.is_touched()) {
            let change = self.changes.accounts.entry(address).or_default();
            // An account left empty is deleted (EIP-161); one that destroys itself can only do so in the
            // transaction that made it (EIP-6780), so that its storage never reached the tries.
            if account.is_selfdestructed() || account.is_empty() {
                *change = AccountChange::default();
                continue;
            }
            let AccountInfo { balance, nonce, code_hash, code, .. } = account.info.clone();
            if let Some(code) = code.filter(|code| !code.is_empty()) {
                self.changes.codes.insert(code_hash, Code(code));
            }
            change.basic = Some(Basic { nonce, balance, code_hash });
            change
                .slots
                .extend(account.changed_storage_slots().map(|(slot, value)| (*slot, value.present_value)));
        }
    }
}

/// revm's view of an overlay.
struct View<'a, 'b>(&'a Overlay<'b>);

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct ViewError(#[from] StateError);

impl DBErrorMarker for ViewError {}

impl Database for View<'_, '_> {
    type Error = ViewError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, ViewError> {
        let info = |Basic { nonce, balance, code_hash }| AccountInfo {
            nonce,
            balance,
            code_hash,
            code: None,
            ..AccountInfo::default()
        };
        Ok(self.0.basic(address)?.map(info))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, ViewError> {
        Ok(self.0.code(code_hash)?.0)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, ViewError> {
        Ok(self.0.slot(address, slot)?)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, ViewError> {
        Ok(self.0.ancestors.hash(number)?.unwrap_or_default())
    }
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done, with what it returned.
    Success(Bytes),
    /// Undone by the contract, with the reason it gave.
    Revert(Bytes),
    /// Undone by the EVM, all gas spent.
    Halt { reason: String, out_of_gas: bool },
}

/// One execution.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    pub(crate) outcome: Outcome,
    pub(crate) gas_used: u64,
    pub(crate) logs: Vec<Log>,
}

/// Why something wasn't executed at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    /// The transaction breaks a rule; in the words other nodes use, since clients match on them.
    #[error("{0}")]
    Refused(String),
    /// The gas limit doesn't even pay for the transaction itself.
    #[error("intrinsic gas too low: gas {gas_limit}, minimum needed {needed}")]
    IntrinsicGas { gas_limit: u64, needed: u64 },
    #[error(transparent)]
    State(#[from] StateError),
}

/// A call that nobody signed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) from: Address,
    pub(crate) to: Option<Address>,
    pub(crate) value: U256,
    pub(crate) data: Bytes,
    pub(crate) gas_limit: u64,
    pub(crate) max_fee: u128,
    pub(crate) priority_fee: Option<u128>,
    pub(crate) access_list: AccessList,
    pub(crate) authorizations: Vec<SignedAuthorization>,
}

/// The least gas limit with which `tx` may be included at all (EIP-7623 included).
pub(crate) fn minimum_gas(tx: &Recovered<TxEnvelope>) -> u64 {
    let gas = calculate_initial_tx_gas_for_tx(signed(tx), RULES, None);
    gas.initial_regular_gas.max(gas.floor_gas)
}

/// Executes `tx` in a block with `header`, and lays its changes over `overlay`.
pub(crate) fn execute(
    overlay: &mut Overlay<'_>,
    chain_id: u64,
    header: &Header,
    tx: &Recovered<TxEnvelope>,
) -> Result<Execution, ExecuteError> {
    let (execution, state) = run(overlay, rules_for(chain_id, tx), header, signed(tx))?;
    overlay.fold(state);
    Ok(execution)
}

/// Executes `tx` in a block with `header`, lets `tracer` watch, and forgets what it changed.
pub(crate) fn trace(
    overlay: &Overlay<'_>,
    chain_id: u64,
    header: &Header,
    tx: &Recovered<TxEnvelope>,
    mut tracer: CallTracer,
) -> Result<CallTracer, ExecuteError> {
    let context = Context::mainnet().with_cfg(rules_for(chain_id, tx)).with_block(environment(header));
    let mut evm = context.with_db(View(overlay)).build_mainnet_with_inspector(&mut tracer);
    let executed = evm.inspect_tx(signed(tx)).map_err(refusal)?;
    drop(evm);
    tracer.finish(tx.gas_limit(), executed.result.gas().tx_gas_used());
    Ok(tracer)
}

/// Executes `message` in a block with `header` and forgets what it changed. Fees, balance, nonce and the
/// sender's code are only checked as far as a call needs them.
pub(crate) fn call(
    overlay: &Overlay<'_>,
    chain_id: u64,
    header: &Header,
    message: Message,
) -> Result<Execution, ExecuteError> {
    Ok(run(overlay, call_rules(chain_id, &message), header, unsigned(chain_id, message))?.0)
}

/// As [`call`], and lists what of the state it touched, what is warm from the start left out.
pub(crate) fn call_listing(
    overlay: &Overlay<'_>,
    chain_id: u64,
    header: &Header,
    message: Message,
) -> Result<(Execution, AccessList), ExecuteError> {
    let sender = message.from;
    let callee = match message.to {
        Some(to) => to,
        None => sender.create(overlay.basic(sender)?.unwrap_or_default().nonce),
    };
    let rules = call_rules(chain_id, &message);
    let (execution, state) = run(overlay, rules, header, unsigned(chain_id, message))?;
    let precompiles = EthPrecompiles::new(RULES);
    let is_warm = |address: &Address| {
        [sender, callee, header.beneficiary].contains(address)
            || precompiles.warm_addresses().contains(address)
    };
    let touched =
        state.into_iter().filter(|(address, account)| !account.storage.is_empty() || !is_warm(address));
    let mut items: Vec<_> = touched
        .map(|(address, account)| AccessListItem {
            address,
            storage_keys: account.storage.keys().map(|slot| slot.to_be_bytes().into()).collect(),
        })
        .collect();
    for item in &mut items {
        item.storage_keys.sort_unstable();
    }
    items.sort_unstable_by_key(|item| item.address);
    Ok((execution, AccessList(items)))
}

fn call_rules(chain_id: u64, message: &Message) -> CfgEnv {
    let mut rules = rules(chain_id);
    rules.disable_nonce_check = true;
    rules.disable_eip3607 = true;
    rules.disable_block_gas_limit = true;
    rules.tx_gas_limit_cap = Some(u64::MAX);
    // Without a price there is no fee to pay, hence neither a base fee nor a balance to check.
    rules.disable_base_fee = message.max_fee == 0;
    rules
}

/// Makes the call that the protocol itself makes to `contract` at the start of a block.
pub(crate) fn system_call(
    overlay: &mut Overlay<'_>,
    chain_id: u64,
    header: &Header,
    contract: Address,
    data: Bytes,
) -> Result<(), ExecuteError> {
    let context = Context::mainnet().with_cfg(rules(chain_id)).with_block(environment(header));
    let result = context.with_db(View(overlay)).build_mainnet().system_call(contract, data);
    let state = result.map_err(refusal)?.state;
    overlay.fold(state);
    Ok(())
}

fn run(
    overlay: &Overlay<'_>,
    rules: CfgEnv,
    header: &Header,
    tx: TxEnv,
) -> Result<(Execution, EvmState), ExecuteError> {
    let context = Context::mainnet().with_cfg(rules).with_block(environment(header)).with_db(View(overlay));
    let executed = context.build_mainnet().transact(tx).map_err(refusal)?;
    let gas_used = executed.result.gas().tx_gas_used();
    let (outcome, logs) = match executed.result {
        ExecutionResult::Success { logs, output, .. } => {
            let (Output::Call(returned) | Output::Create(returned, _)) = output;
            (Outcome::Success(returned), logs)
        }
        ExecutionResult::Revert { output, .. } => (Outcome::Revert(output), Vec::new()),
        ExecutionResult::Halt { reason, .. } => (halted(reason), Vec::new()),
    };
    Ok((Execution { outcome, gas_used, logs }, executed.state))
}

fn halted(reason: HaltReason) -> Outcome {
    let (out_of_gas, reason) = match reason {
        HaltReason::OutOfGas(_) => (true, "out of gas".to_owned()),
        HaltReason::OpcodeNotFound => (false, "invalid opcode".to_owned()),
        HaltReason::InvalidFEOpcode => (false, "invalid opcode: INVALID".to_owned()),
        HaltReason::InvalidJump => (false, "invalid jump destination".to_owned()),
        HaltReason::CreateContractSizeLimit => (false, "max code size exceeded".to_owned()),
        HaltReason::CreateCollision => (false, "contract address collision".to_owned()),
        other => (false, format!("execution halted: {other:?}")),
    };
    Outcome::Halt { reason, out_of_gas }
}

fn rules_for(chain_id: u64, tx: &Recovered<TxEnvelope>) -> CfgEnv {
    let mut rules = rules(chain_id);
    // Contracts may be impersonated, too.
    rules.disable_eip3607 = is_impersonated(tx);
    rules
}

fn rules(chain_id: u64) -> CfgEnv {
    CfgEnv::new_with_spec(RULES).with_chain_id(chain_id)
}

fn environment(header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        prevrandao: Some(header.mix_hash),
        ..BlockEnv::default()
    }
}

fn signed(tx: &Recovered<TxEnvelope>) -> TxEnv {
    let authorizations = tx.authorization_list().unwrap_or_default();
    TxEnv {
        tx_type: tx.ty(),
        caller: tx.signer(),
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        authorization_list: authorizations.iter().cloned().map(Either::Left).collect(),
        ..TxEnv::default()
    }
}

fn unsigned(chain_id: u64, message: Message) -> TxEnv {
    let tx_type = match (&message.authorizations[..], message.priority_fee) {
        ([_, ..], _) => 4,
        (_, Some(_)) => 2,
        _ if !message.access_list.is_empty() => 1,
        _ => 0,
    };
    TxEnv {
        tx_type,
        caller: message.from,
        gas_limit: message.gas_limit,
        gas_price: message.max_fee,
        gas_priority_fee: message.priority_fee,
        kind: message.to.map_or(TxKind::Create, TxKind::Call),
        value: message.value,
        data: message.data,
        chain_id: Some(chain_id),
        access_list: message.access_list,
        authorization_list: message.authorizations.into_iter().map(Either::Left).collect(),
        ..TxEnv::default()
    }
}

fn refusal(error: EVMError<ViewError>) -> ExecuteError {
    match error {
        EVMError::Database(ViewError(error)) => ExecuteError::State(error),
        EVMError::Transaction(invalid) => refused(invalid),
        other => ExecuteError::Refused(other.to_string()),
    }
}

fn refused(invalid: InvalidTransaction) -> ExecuteError {
    use InvalidTransaction as Invalid;
    ExecuteError::Refused(match invalid {
        Invalid::CallGasCostMoreThanGasLimit { initial_gas: needed, gas_limit }
        | Invalid::GasFloorMoreThanGasLimit { gas_floor: needed, gas_limit } => {
            return ExecuteError::IntrinsicGas { gas_limit, needed };
        }
        Invalid::NonceTooLow { tx, state } => format!("nonce too low: next nonce {state}, tx nonce {tx}"),
        Invalid::NonceTooHigh { tx, state } => format!("nonce too high: next nonce {state}, tx nonce {tx}"),
        Invalid::LackOfFundForMaxFee { fee, balance } => {
            format!("insufficient funds for gas * price + value: balance {balance}, tx cost {fee}")
        }
        Invalid::GasPriceLessThanBasefee => "max fee per gas less than block base fee".to_owned(),
        Invalid::PriorityFeeGreaterThanMaxFee => {
            "max priority fee per gas higher than max fee per gas".to_owned()
        }
        Invalid::RejectCallerWithCode => "sender not an eoa: it has code".to_owned(),
        Invalid::CreateInitCodeSizeLimit => "max initcode size exceeded".to_owned(),
        Invalid::TxGasLimitGreaterThanCap { gas_limit, cap } => {
            format!("transaction gas limit too high (cap: {cap}, tx: {gas_limit})")
        }
        other => other.to_string(),
    })
}
