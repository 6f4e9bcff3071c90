//! Methods about the chain as such: its id, its software, its accounts.

use super::argument::Arguments;
use super::caller::Caller;
use super::error::RpcError;
use super::{hex, quantity, view};
use crate::chain::DEV_ACCOUNTS;
use serde_json::Value;
use windlass_protocol::{Bytes, keccak256};

/// `web3_clientVersion`
pub(super) fn client_version() -> Result<Value, RpcError> {
    view::json(concat!("windlass-testnet/v", env!("CARGO_PKG_VERSION")))
}

/// `web3_sha3`
pub(super) fn sha3(arguments: &mut Arguments) -> Result<Value, RpcError> {
    let bytes: Bytes = arguments.required()?;
    Ok(hex(keccak256(bytes)))
}

/// `net_version`: the chain id in decimal.
pub(super) fn net_version(caller: &Caller) -> Result<Value, RpcError> {
    view::json(caller.read().chain_id().to_string())
}

/// `net_peerCount`
pub(super) fn peer_count() -> Result<Value, RpcError> {
    Ok(quantity(0u64))
}

/// `eth_chainId`
pub(super) fn chain_id(caller: &Caller) -> Result<Value, RpcError> {
    Ok(quantity(caller.read().chain_id()))
}

/// `eth_accounts`
pub(super) fn accounts() -> Result<Value, RpcError> {
    view::json(DEV_ACCOUNTS.map(|account| account.address))
}
