//! Blocks, transactions, receipts and logs as clients see them.
//!
//! Owns the form; the content comes from the ledger.

use super::error::RpcError;
use crate::chain::block::{self, Block, Included, Transacted};
use alloy::rpc::types::{self as rpc, BlockTransactions};
use alloy_consensus::transaction::TransactionInfo;
use alloy_consensus::{Sealed, Transaction};
use alloy_rlp::Encodable;
use serde::Serialize;
use serde_json::Value;
use windlass_protocol::U256;
use windlass_protocol::alloy_primitives::Log;

/// Turns an answer into JSON.
pub(super) fn json(answer: impl Serialize) -> Result<Value, RpcError> {
    serde_json::to_value(answer)
        .map_err(|error| RpcError::internal(format!("cannot write the answer: {error}")))
}

/// A block, with its transactions in full or only their hashes.
pub(super) fn block(block: &Block, full: bool) -> rpc::Block {
    let transactions = if full {
        BlockTransactions::Full(
            (0..block.included.len()).filter_map(|index| transaction(block, index)).collect(),
        )
    } else {
        let hashes = block.included.iter().map(|included| *included.transaction.tx_hash());
        BlockTransactions::Hashes(hashes.collect())
    };
    rpc::Block::new(header(block), transactions).with_withdrawals(Some(Default::default()))
}

/// A block's header.
pub(super) fn header(block: &Block) -> rpc::Header {
    let header = Sealed::new_unchecked(block.header.clone(), block.hash);
    rpc::Header::from_consensus(header, None, Some(U256::from(size(block))))
}

/// Bytes of the block's RLP: header, transactions, and the empty lists of uncles and withdrawals.
fn size(block: &Block) -> usize {
    let list = |payload_length| alloy_rlp::Header { list: true, payload_length }.length_with_payload();
    let transactions = block.included.iter().map(|included| included.transaction.length()).sum();
    list(block.header.length() + list(transactions) + list(0) + list(0))
}

/// The transaction at `index` of a block.
pub(super) fn transaction(block: &Block, index: usize) -> Option<rpc::Transaction> {
    let transaction = &block.included.get(index)?.transaction;
    let info = TransactionInfo {
        hash: Some(*transaction.tx_hash()),
        index: Some(index as u64),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        base_fee: block.header.base_fee_per_gas,
        block_timestamp: Some(block.header.timestamp),
    };
    Some(rpc::Transaction::from_transaction((**transaction).clone(), info))
}

/// A transaction that waits.
pub(super) fn waiting(transaction: &Transacted) -> rpc::Transaction {
    rpc::Transaction::from_transaction((**transaction).clone(), TransactionInfo::default())
}

/// The receipt of the transaction at `index` of a block.
pub(super) fn receipt(block: &Block, index: usize) -> Option<rpc::TransactionReceipt> {
    let included = block.included.get(index)?;
    let Included { transaction, receipt, gas_used, created, first_log } = included;
    let mut log_index = *first_log;
    let inner = receipt.clone().map_logs(|inner| {
        let place = LogPlace { block, included, index, log_index, removed: false };
        log_index += 1;
        log(place, &inner)
    });
    Some(rpc::TransactionReceipt {
        inner,
        transaction_hash: *transaction.tx_hash(),
        transaction_index: Some(index as u64),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        gas_used: *gas_used,
        effective_gas_price: transaction.effective_gas_price(block.header.base_fee_per_gas),
        blob_gas_used: None,
        blob_gas_price: None,
        from: transaction.signer(),
        to: transaction.to(),
        contract_address: *created,
    })
}

/// Where a log stands.
pub(super) struct LogPlace<'a> {
    pub(super) block: &'a Block,
    pub(super) included: &'a Included,
    /// Of the transaction, in the block.
    pub(super) index: usize,
    /// Of the log, in the block.
    pub(super) log_index: u64,
    /// Whether the block was taken off the chain.
    pub(super) removed: bool,
}

/// A log and where it stands.
pub(super) fn log(place: LogPlace<'_>, log: &Log) -> rpc::Log {
    let LogPlace { block, included, index, log_index, removed } = place;
    rpc::Log {
        inner: log.clone(),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        block_timestamp: Some(block.header.timestamp),
        transaction_hash: Some(*included.transaction.tx_hash()),
        transaction_index: Some(index as u64),
        log_index: Some(log_index),
        removed,
    }
}

/// The logs of a block that `filter` lets through.
pub(super) fn logs(block: &Block, filter: &rpc::Filter, removed: bool) -> Vec<rpc::Log> {
    if !filter.matches_bloom(block.header.logs_bloom) {
        return Vec::new();
    }
    let matching = block::logs(block).filter(|(_, _, _, log)| filter.matches(log));
    let place = |(included, index, log_index, inner): (_, _, _, _)| {
        log(LogPlace { block, included, index, log_index, removed }, inner)
    };
    matching.map(place).collect()
}
