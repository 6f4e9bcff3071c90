//! Methods that sign with the keys of the funded accounts, which are public knowledge.
//!
//! Owns finding the key. It never signs for an account whose key isn't one of them.

use super::argument::{Argument, Arguments};
use super::caller::Caller;
use super::error::RpcError;
use super::hex;
use crate::chain::DEV_ACCOUNTS;
use crate::chain::limits::MAX_TYPED_DATA_BYTES;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy_dyn_abi::TypedData;
use serde_json::Value;
use windlass_protocol::alloy_primitives::Signature;
use windlass_protocol::{Address, B256, Bytes};

/// Who signs for `address`: its key, or, when it is impersonated, nobody.
pub(super) fn signer(caller: &Caller, address: Address) -> Result<Option<PrivateKeySigner>, RpcError> {
    match key(address) {
        Err(_) if caller.shared().control().is_impersonated(address) => Ok(None),
        key => key.map(Some),
    }
}

/// Signs a transaction's hash.
pub(super) fn hash(signer: &PrivateKeySigner, hash: &B256) -> Result<Signature, RpcError> {
    signer.sign_hash_sync(hash).map_err(|error| RpcError::internal(format!("cannot sign: {error}")))
}

fn key(address: Address) -> Result<PrivateKeySigner, RpcError> {
    let account = DEV_ACCOUNTS.iter().find(|account| account.address == address);
    let account = account
        .ok_or_else(|| RpcError::server(format!("unknown account: there is no key for {address} here")))?;
    PrivateKeySigner::from_bytes(&account.key).map_err(|error| RpcError::internal(error.to_string()))
}

fn message(address: Address, message: &Bytes) -> Result<Value, RpcError> {
    let signature = key(address)?.sign_message_sync(message);
    let signature = signature.map_err(|error| RpcError::internal(format!("cannot sign: {error}")))?;
    Ok(hex(signature.as_bytes()))
}

/// `eth_sign`: of the account, the message (EIP-191).
pub(super) fn eth_sign(arguments: &mut Arguments) -> Result<Value, RpcError> {
    let (address, bytes): (Address, Bytes) = (arguments.required()?, arguments.required()?);
    message(address, &bytes)
}

/// `personal_sign`: as `eth_sign`, but the message comes first. A password may follow; no key here has one.
pub(super) fn personal_sign(arguments: &mut Arguments) -> Result<Value, RpcError> {
    let (bytes, address): (Bytes, Address) = (arguments.required()?, arguments.required()?);
    let _: Option<String> = arguments.optional()?;
    message(address, &bytes)
}

/// A typed message (EIP-712), which wallets also send as a string that holds its JSON.
struct Typed(TypedData);

impl Argument for Typed {
    fn read(value: Value) -> Result<Self, String> {
        let text = match value {
            Value::String(text) => text,
            Value::Object(_) => value.to_string(),
            other => return Err(format!("expected a typed message, got {other}")),
        };
        if text.len() > MAX_TYPED_DATA_BYTES {
            return Err(format!("{} bytes are more than {MAX_TYPED_DATA_BYTES}", text.len()));
        }
        serde_json::from_str(&text).map(Self).map_err(|error| error.to_string())
    }
}

/// `eth_signTypedData_v4`: of the account, the typed message (EIP-712).
pub(super) fn typed_data(arguments: &mut Arguments) -> Result<Value, RpcError> {
    let address: Address = arguments.required()?;
    let Typed(data) = arguments.required()?;
    let digest = data.eip712_signing_hash();
    let digest =
        digest.map_err(|error| RpcError::invalid_params(format!("invalid typed message: {error}")))?;
    Ok(hex(hash(&key(address)?, &digest)?.as_bytes()))
}
