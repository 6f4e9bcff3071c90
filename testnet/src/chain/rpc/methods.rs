//! The methods: their names, how many arguments each takes at most, and which function serves it.
//!
//! Owns the list; what a method does lives in the module named after what it is about.

use super::argument::Arguments;
use super::caller::Caller;
use super::error::RpcError;
use super::{
    blocks, call, cheat, dev, faults, fees, filters, info, logs, send, sign, state, subscriptions, trace,
};
use serde_json::Value;

/// Every method, with the most arguments it takes: counted before it does anything.
const METHODS: &[(&str, usize)] = &[
    ("web3_clientVersion", 0),
    ("web3_sha3", 1),
    ("net_version", 0),
    ("net_listening", 0),
    ("net_peerCount", 0),
    ("eth_syncing", 0),
    ("eth_chainId", 0),
    ("eth_accounts", 0),
    ("eth_blockNumber", 0),
    ("eth_getBlockByNumber", 2),
    ("eth_getBlockByHash", 2),
    ("eth_getBlockTransactionCountByNumber", 1),
    ("eth_getBlockTransactionCountByHash", 1),
    ("eth_getBlockReceipts", 1),
    ("eth_getTransactionByHash", 1),
    ("eth_getTransactionByBlockNumberAndIndex", 2),
    ("eth_getTransactionByBlockHashAndIndex", 2),
    ("eth_getTransactionReceipt", 1),
    ("debug_getRawHeader", 1),
    ("eth_getLogs", 1),
    ("eth_newFilter", 1),
    ("eth_newBlockFilter", 0),
    ("eth_newPendingTransactionFilter", 0),
    ("eth_getFilterChanges", 1),
    ("eth_getFilterLogs", 1),
    ("eth_uninstallFilter", 1),
    ("eth_subscribe", 2),
    ("eth_unsubscribe", 1),
    ("eth_getTransactionCount", 2),
    ("eth_getBalance", 2),
    ("eth_getCode", 2),
    ("eth_getStorageAt", 3),
    ("eth_getProof", 3),
    ("eth_call", 2),
    ("eth_estimateGas", 2),
    ("eth_gasPrice", 0),
    ("eth_maxPriorityFeePerGas", 0),
    ("eth_blobBaseFee", 0),
    ("eth_feeHistory", 3),
    ("eth_sendRawTransaction", 1),
    ("eth_sendTransaction", 1),
    ("eth_sign", 2),
    ("personal_sign", 3),
    ("eth_signTypedData_v4", 2),
    ("eth_createAccessList", 2),
    ("debug_traceTransaction", 2),
    ("evm_mine", 1),
    ("evm_snapshot", 0),
    ("evm_revert", 1),
    ("evm_setNextBlockTimestamp", 1),
    ("evm_increaseTime", 1),
    ("evm_setAutomine", 1),
    ("evm_setIntervalMining", 1),
    ("anvil_mine", 2),
    ("anvil_setBalance", 2),
    ("anvil_setCode", 2),
    ("anvil_setNonce", 2),
    ("anvil_setStorageAt", 3),
    ("anvil_impersonateAccount", 1),
    ("anvil_stopImpersonatingAccount", 1),
    ("dev_finalize", 1),
    ("dev_reorg", 2),
    ("dev_faults", 2),
];

/// The names of all JSON-RPC methods that the chain serves.
pub fn methods() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|(name, _)| *name)
}

/// How many arguments `method` takes at most; `None` if there is no such method.
fn most_arguments(method: &str) -> Option<usize> {
    METHODS.iter().find(|(name, _)| *name == method).map(|(_, most)| *most)
}

/// Serves one call. A defect costs the call its answer, not the caller the others.
pub(super) fn dispatch(caller: &Caller, method: &str, mut arguments: Arguments) -> Result<Value, RpcError> {
    let most = most_arguments(method).ok_or_else(|| RpcError::method_not_found(method))?;
    arguments.at_most(most)?;
    let args = &mut arguments;
    match method {
        "web3_clientVersion" => info::client_version(),
        "web3_sha3" => info::sha3(args),
        "net_version" => info::net_version(caller),
        "net_listening" => Ok(Value::Bool(true)),
        "net_peerCount" => info::peer_count(),
        "eth_syncing" => Ok(Value::Bool(false)),
        "eth_chainId" => info::chain_id(caller),
        "eth_accounts" => info::accounts(),
        "eth_blockNumber" => blocks::number(caller),
        "eth_getBlockByNumber" => blocks::block(caller, blocks::by_number(args)?, args),
        "eth_getBlockByHash" => blocks::block(caller, blocks::by_hash(args)?, args),
        "eth_getBlockTransactionCountByNumber" => blocks::transaction_count(caller, blocks::by_number(args)?),
        "eth_getBlockTransactionCountByHash" => blocks::transaction_count(caller, blocks::by_hash(args)?),
        "eth_getBlockReceipts" => blocks::receipts(caller, args),
        "eth_getTransactionByHash" => blocks::transaction(caller, args),
        "eth_getTransactionByBlockNumberAndIndex" => {
            blocks::transaction_at(caller, blocks::by_number(args)?, args)
        }
        "eth_getTransactionByBlockHashAndIndex" => {
            blocks::transaction_at(caller, blocks::by_hash(args)?, args)
        }
        "eth_getTransactionReceipt" => blocks::receipt(caller, args),
        "debug_getRawHeader" => blocks::raw_header(caller, args),
        "eth_getLogs" => logs::logs(caller, args),
        "eth_newFilter" => filters::new_filter(caller, args),
        "eth_newBlockFilter" => filters::new_block_filter(caller),
        "eth_newPendingTransactionFilter" => filters::new_waiting_filter(caller),
        "eth_getFilterChanges" => filters::changes(caller, args),
        "eth_getFilterLogs" => filters::all_logs(caller, args),
        "eth_uninstallFilter" => filters::uninstall(caller, args),
        "eth_subscribe" => subscriptions::subscribe(caller, args),
        "eth_unsubscribe" => subscriptions::unsubscribe(caller, args),
        "eth_getTransactionCount" => state::nonce(caller, args),
        "eth_getBalance" => state::balance(caller, args),
        "eth_getCode" => state::code(caller, args),
        "eth_getStorageAt" => state::slot(caller, args),
        "eth_getProof" => state::proof(caller, args),
        "eth_call" => call::call(caller, args),
        "eth_estimateGas" => call::estimate_gas(caller, args),
        "eth_gasPrice" => fees::gas_price(caller),
        "eth_maxPriorityFeePerGas" => fees::priority_fee(),
        "eth_blobBaseFee" => fees::blob_base_fee(),
        "eth_feeHistory" => fees::history(caller, args),
        "eth_sendRawTransaction" => send::raw(caller, args),
        "eth_sendTransaction" => send::filled(caller, args),
        "eth_sign" => sign::eth_sign(args),
        "personal_sign" => sign::personal_sign(args),
        "eth_signTypedData_v4" => sign::typed_data(args),
        "eth_createAccessList" => call::access_list(caller, args),
        "debug_traceTransaction" => trace::transaction(caller, args),
        "evm_snapshot" => dev::snapshot(caller),
        "evm_revert" => dev::revert(caller, args),
        "evm_setNextBlockTimestamp" => dev::set_next_timestamp(caller, args),
        "evm_increaseTime" => dev::increase_time(caller, args),
        "evm_setAutomine" => dev::set_automine(caller, args),
        "evm_setIntervalMining" => dev::set_interval(caller, args),
        "anvil_mine" => dev::mine_apart(caller, args),
        "anvil_setBalance" => cheat::set_balance(caller, args),
        "anvil_setCode" => cheat::set_code(caller, args),
        "anvil_setNonce" => cheat::set_nonce(caller, args),
        "anvil_setStorageAt" => cheat::set_slot(caller, args),
        "anvil_impersonateAccount" => cheat::impersonate(caller, args),
        "anvil_stopImpersonatingAccount" => cheat::stop_impersonating(caller, args),
        "evm_mine" => dev::mine(caller, args),
        "dev_finalize" => dev::finalize(caller, args),
        "dev_reorg" => dev::reorg(caller, args),
        "dev_faults" => faults::set(caller, args),
        _ => Err(RpcError::method_not_found(method)),
    }
}
