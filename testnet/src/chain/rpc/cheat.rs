//! Methods that set up what no transaction could: balances, code, storage, and sending without a key.

use super::argument::{Argument, Arguments, Quantity, Slot};
use super::caller::Caller;
use super::error::RpcError;
use crate::chain::amend::{Amendment, Change};
use crate::chain::limits::MAX_TRANSACTION_BYTES;
use serde_json::Value;
use windlass_protocol::{Address, Bytes, U256};

fn amend(caller: &Caller, address: Address, change: Change) -> Result<Value, RpcError> {
    let shared = caller.shared();
    shared.amend(&mut shared.write(), &Amendment { address, change })?;
    Ok(Value::Null)
}

/// `anvil_setBalance`: of an account, in wei.
pub(super) fn set_balance(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let (address, balance): (_, U256) = (arguments.required()?, arguments.required()?);
    amend(caller, address, Change::Balance(balance))
}

/// `anvil_setNonce`
pub(super) fn set_nonce(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let (address, Quantity(nonce)) = (arguments.required()?, arguments.required()?);
    if nonce == u64::MAX {
        return Err(RpcError::invalid_params("nonce has max value: the account could never send (EIP-2681)"));
    }
    amend(caller, address, Change::Nonce(nonce))
}

/// `anvil_setCode`
pub(super) fn set_code(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let (address, code): (_, Bytes) = (arguments.required()?, arguments.required()?);
    if code.len() > MAX_TRANSACTION_BYTES {
        let bytes = code.len();
        return Err(RpcError::too_much(format!(
            "{bytes} bytes of code are more than {MAX_TRANSACTION_BYTES}"
        )));
    }
    amend(caller, address, Change::Code(code))
}

/// 32 bytes, or a number: a slot's value.
struct Word(U256);

impl Argument for Word {
    fn read(value: Value) -> Result<Self, String> {
        Slot::read(value).map(|Slot(word)| Self(word))
    }
}

/// `anvil_setStorageAt`
pub(super) fn set_slot(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let address = arguments.required()?;
    let (Slot(slot), Word(value)) = (arguments.required()?, arguments.required()?);
    amend(caller, address, Change::Slot { slot, value })?;
    Ok(Value::Bool(true))
}

/// `anvil_impersonateAccount`: lets anybody send as the account.
pub(super) fn impersonate(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let address = arguments.required()?;
    caller.shared().control().impersonate(address)?;
    Ok(Value::Null)
}

/// `anvil_stopImpersonatingAccount`
pub(super) fn stop_impersonating(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let address = arguments.required()?;
    caller.shared().control().stop_impersonating(address);
    Ok(Value::Null)
}
