//! Methods that take in transactions.

use super::argument::Arguments;
use super::caller::Caller;
use super::error::RpcError;
use super::{call, fees, sign, view};
use crate::chain::Mining;
use crate::chain::block::{Transacted, impersonation};
use alloy::rpc::types::TransactionRequest;
use alloy_consensus::transaction::{Recovered, SignerRecoverable};
use alloy_consensus::{SignableTransaction, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use serde_json::Value;
use std::sync::Arc;
use windlass_protocol::alloy_primitives::TxKind;
use windlass_protocol::{Address, B256, Bytes};

/// `eth_sendRawTransaction`: the hash, once the transaction is mined or waits.
pub(super) fn raw(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let bytes: Bytes = arguments.required()?;
    let mut rest = &bytes[..];
    let decoded = TxEnvelope::decode_2718(&mut rest);
    let transaction =
        decoded.map_err(|error| RpcError::server(format!("transaction could not be decoded: {error}")))?;
    if !rest.is_empty() {
        return Err(RpcError::server("transaction could not be decoded: bytes follow its end"));
    }
    // Recovered before the lock is taken: it takes longer than the rest. Refuses high s values (EIP-2).
    let recovered = transaction.try_into_recovered();
    let recovered =
        recovered.map_err(|_| RpcError::server("invalid sender: invalid transaction signature"))?;
    view::json(submit(caller, Arc::new(recovered))?)
}

/// Takes a transaction in, makes a block if it is ready, and gives its hash.
fn submit(caller: &Caller, transaction: Transacted) -> Result<B256, RpcError> {
    let (shared, hash) = (caller.shared(), *transaction.tx_hash());
    let mut ledger = shared.write();
    ledger.submit(transaction)?;
    if shared.mining() == Mining::Instant && ledger.is_ready(&hash)? {
        let refused = shared.mine(&mut ledger)?;
        // Some rules are only checked when it is executed.
        if let Some((_, reason)) = refused.into_iter().find(|(refused, _)| *refused == hash) {
            return Err(RpcError::server(reason));
        }
    }
    Ok(hash)
}

/// `eth_sendTransaction`: from a funded account, whose key is known, or from an impersonated one. What is
/// missing is filled in as a wallet would.
pub(super) fn filled(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let mut request: TransactionRequest = arguments.required()?;
    let from = request.from.ok_or_else(|| RpcError::invalid_params("'from' is missing"))?;
    let signer = sign::signer(caller, from)?;
    let turn = caller.service.turn_to_send();
    fill(caller, &mut request, from)?;
    let unsigned = request.build_typed_tx().map_err(|_| {
        RpcError::invalid_params("the members don't make up one transaction: see 'type' and the fees")
    })?;
    let signature = match signer {
        Some(signer) => sign::hash(&signer, &unsigned.signature_hash())?,
        None => impersonation(from),
    };
    let transaction = Recovered::new_unchecked(unsigned.into_envelope(signature), from);
    let hash = submit(caller, Arc::new(transaction))?;
    drop(turn);
    view::json(hash)
}

fn fill(caller: &Caller, request: &mut TransactionRequest, from: Address) -> Result<(), RpcError> {
    let seen = caller.read();
    if request.blob_versioned_hashes.is_some() || request.max_fee_per_blob_gas.is_some() {
        return Err(RpcError::server("transaction type not supported: this chain carries no blobs"));
    }
    let chain_id = *request.chain_id.get_or_insert_with(|| seen.chain_id());
    if chain_id != seen.chain_id() {
        let want = seen.chain_id();
        return Err(RpcError::server(format!("invalid chain id for signer: have {chain_id} want {want}")));
    }
    let next_nonce = seen.pending_nonce(from)?;
    request.nonce.get_or_insert(next_nonce);
    request.to.get_or_insert(TxKind::Create);
    if request.gas_price.is_some() && request.authorization_list.is_some() {
        return Err(RpcError::server("gasPrice and authorizationList are of different types of transaction"));
    }
    if request.gas_price.is_none() {
        let tip = request.max_priority_fee_per_gas.unwrap_or_else(|| {
            let suggested = u128::from(fees::SUGGESTED_PRIORITY_FEE);
            request.max_fee_per_gas.map_or(suggested, |fee| fee.min(suggested))
        });
        // As wallets do: enough for the base fee to double.
        let fee = u128::from(seen.latest()?.next_base_fee()).saturating_mul(2).saturating_add(tip);
        request.max_priority_fee_per_gas = Some(tip);
        request.max_fee_per_gas.get_or_insert(fee);
    }
    if request.gas.is_none() {
        request.gas = Some(call::gas_for(&seen, request.clone())?);
    }
    Ok(())
}
