//! Methods about accounts and their storage, after any block of the window.

use super::argument::{Arguments, Slot};
use super::caller::{Caller, Seen};
use super::error::RpcError;
use super::reference::BlockReference;
use super::{hex, quantity, view};
use crate::chain::block::Block;
use crate::chain::evm::Overlay;
use crate::chain::limits::MAX_PROOF_KEYS;
use alloy::rpc::types::serde_helpers::JsonStorageKey;
use alloy::rpc::types::{EIP1186AccountProofResponse, EIP1186StorageProof};
use serde_json::Value;
use std::sync::Arc;
use windlass_protocol::{Address, B256, U256};

/// The block argument, which may be left out.
fn reference(arguments: &mut Arguments) -> Result<BlockReference, RpcError> {
    Ok(arguments.optional()?.unwrap_or(BlockReference::Latest))
}

/// The state after a block, the one in the making included.
fn state_at<'a>(seen: &'a Seen<'_>, reference: &BlockReference) -> Result<Overlay<'a>, RpcError> {
    match reference {
        BlockReference::Pending if seen.is_current() => Ok(seen.pending_overlay()?.1),
        made => {
            let block = made.require(seen)?;
            Ok(seen.overlay(&block)?)
        }
    }
}

/// `eth_getTransactionCount`: an account's nonce; with `pending`, counting what waits.
pub(super) fn nonce(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let (address, reference) = (arguments.required()?, reference(arguments)?);
    let seen = caller.read();
    if reference == BlockReference::Pending {
        return Ok(quantity(seen.pending_nonce(address)?));
    }
    let basic = state_at(&seen, &reference)?.basic(address)?.unwrap_or_default();
    Ok(quantity(basic.nonce))
}

/// `eth_getBalance`
pub(super) fn balance(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let (address, reference) = (arguments.required()?, reference(arguments)?);
    let seen = caller.read();
    let basic = state_at(&seen, &reference)?.basic(address)?.unwrap_or_default();
    view::json(basic.balance)
}

/// `eth_getCode`
pub(super) fn code(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let (address, reference) = (arguments.required()?, reference(arguments)?);
    let seen = caller.read();
    let state = state_at(&seen, &reference)?;
    let basic = state.basic(address)?.unwrap_or_default();
    Ok(hex(state.code(basic.code_hash)?.bytes()))
}

/// `eth_getStorageAt`: always 32 bytes.
pub(super) fn slot(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let address: Address = arguments.required()?;
    let Slot(slot) = arguments.required()?;
    let reference = reference(arguments)?;
    let seen = caller.read();
    let value = distort(&seen, state_at(&seen, &reference)?.slot(address, slot)?);
    view::json(B256::from(value.to_be_bytes()))
}

/// The block whose state is proven: the one asked for, unless this provider's proofs are stale.
fn proven_block(seen: &Seen<'_>, reference: &BlockReference) -> Result<Arc<Block>, RpcError> {
    let block = reference.require(seen)?;
    let stale = block.header.number.saturating_sub(seen.faults.faults.stale_proofs);
    match seen.faults.faults.stale_proofs {
        0 => Ok(block),
        _ => Ok(seen.block(stale)?.unwrap_or(block)),
    }
}

/// A slot's value, or another if this provider says so.
fn distort(seen: &Seen<'_>, value: U256) -> U256 {
    if seen.faults.faults.wrong_values { value.wrapping_add(U256::ONE) } else { value }
}

/// `eth_getProof` (EIP-1186). What isn't sealed has no root to prove against: `pending` means the newest block.
pub(super) fn proof(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let address: Address = arguments.required()?;
    let slots: Vec<Slot> = arguments.optional()?.unwrap_or_default();
    let reference = reference(arguments)?;
    if slots.len() > MAX_PROOF_KEYS {
        return Err(RpcError::too_much(format!("too many keys: {}, at most {MAX_PROOF_KEYS}", slots.len())));
    }
    let slots: Vec<_> = slots.into_iter().map(|Slot(slot)| slot).collect();
    let seen = caller.read();
    let block = proven_block(&seen, &reference)?;
    let mut proven = seen.state(&block)?.prove(address, &slots)?;
    if seen.faults.faults.truncated_proofs {
        proven.proof.pop();
        proven.slots.iter_mut().for_each(|slot| drop(slot.proof.pop()));
    }
    let account = proven.account.unwrap_or_default();
    let storage_proof = proven.slots.into_iter().map(|proven| EIP1186StorageProof {
        key: JsonStorageKey::Hash(B256::from(proven.slot.to_be_bytes())),
        value: distort(&seen, proven.value),
        proof: proven.proof,
    });
    view::json(EIP1186AccountProofResponse {
        address,
        balance: account.balance,
        code_hash: account.code_hash,
        nonce: account.nonce,
        storage_hash: account.storage_root,
        account_proof: proven.proof,
        storage_proof: storage_proof.collect(),
    })
}
