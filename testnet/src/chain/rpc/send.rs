//! Methods that take in transactions.

use super::argument::Arguments;
use super::caller::Caller;
use super::error::RpcError;
use super::hex;
use crate::chain::Mining;
use alloy_consensus::TxEnvelope;
use alloy_consensus::transaction::SignerRecoverable;
use alloy_eips::eip2718::Decodable2718;
use serde_json::Value;
use std::sync::Arc;
use windlass_protocol::Bytes;

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
    let hash = *recovered.tx_hash();
    let mut ledger = caller.shared().write();
    ledger.submit(Arc::new(recovered))?;
    if caller.shared().mining == Mining::Instant && ledger.is_ready(&hash)? {
        let refused = caller.shared().mine(&mut ledger)?;
        // Some rules are only checked when it is executed.
        if let Some((_, reason)) = refused.into_iter().find(|(refused, _)| *refused == hash) {
            return Err(RpcError::server(reason));
        }
    }
    Ok(hex(hash))
}
