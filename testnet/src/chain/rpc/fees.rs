//! Methods about fees.

use super::argument::{Arguments, Quantity};
use super::caller::Caller;
use super::error::RpcError;
use super::reference::BlockReference;
use super::{quantity, view};
use crate::chain::block::Block;
use crate::chain::limits::{MAX_FEE_HISTORY_BLOCKS, MAX_FEE_PERCENTILES};
use alloy::rpc::types::FeeHistory;
use alloy_consensus::Transaction;
use serde_json::Value;
use std::sync::Arc;

/// Wei per gas suggested as a priority fee: nobody competes here, so one gwei is plenty.
pub(super) const SUGGESTED_PRIORITY_FEE: u64 = 1_000_000_000;

/// Wei per blob gas: the protocol's least, since there are no blobs.
const BLOB_BASE_FEE: u64 = 1;

/// `eth_gasPrice`
pub(super) fn gas_price(caller: &Caller) -> Result<Value, RpcError> {
    Ok(quantity(caller.read().latest()?.next_base_fee() + SUGGESTED_PRIORITY_FEE))
}

/// `eth_maxPriorityFeePerGas`
pub(super) fn priority_fee() -> Result<Value, RpcError> {
    Ok(quantity(SUGGESTED_PRIORITY_FEE))
}

/// `eth_blobBaseFee`
pub(super) fn blob_base_fee() -> Result<Value, RpcError> {
    Ok(quantity(BLOB_BASE_FEE))
}

/// `eth_feeHistory`
pub(super) fn history(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let Quantity(count) = arguments.required()?;
    let newest: BlockReference = arguments.required()?;
    let percentiles: Option<Vec<f64>> = arguments.optional()?;
    check(percentiles.as_deref().unwrap_or_default())?;
    let seen = caller.read();
    let newest = newest.require(&seen)?;
    let newest_number = newest.header.number;
    let count = count.min(MAX_FEE_HISTORY_BLOCKS).min(newest_number + 1);
    if count == 0 {
        return view::json(FeeHistory::default());
    }
    let oldest_block = newest_number + 1 - count;
    let blocks = seen.blocks_where(oldest_block, newest_number, |_| true);
    let blocks: Vec<_> = blocks.collect::<Result<_, _>>()?;
    let base_fees = blocks.iter().map(|block| block.header.base_fee_per_gas.unwrap_or_default());
    let blob_fees = vec![u128::from(BLOB_BASE_FEE); blocks.len() + 1];
    view::json(FeeHistory {
        base_fee_per_gas: base_fees.chain([newest.next_base_fee()]).map(u128::from).collect(),
        gas_used_ratio: blocks.iter().map(|block| used_ratio(block)).collect(),
        base_fee_per_blob_gas: blob_fees,
        blob_gas_used_ratio: vec![0.0; blocks.len()],
        oldest_block,
        reward: percentiles.map(|percentiles| rewards(&blocks, &percentiles)),
    })
}

fn check(percentiles: &[f64]) -> Result<(), RpcError> {
    if percentiles.len() > MAX_FEE_PERCENTILES {
        let count = percentiles.len();
        return Err(RpcError::too_much(format!(
            "over the query limit {MAX_FEE_PERCENTILES}: {count} percentiles"
        )));
    }
    let in_range = percentiles.iter().all(|percentile| (0.0..=100.0).contains(percentile));
    if !in_range || !percentiles.is_sorted() {
        return Err(RpcError::server("invalid reward percentile: they ascend from 0 to 100"));
    }
    Ok(())
}

fn used_ratio(block: &Block) -> f64 {
    block.header.gas_used as f64 / block.header.gas_limit as f64
}

fn rewards(blocks: &[Arc<Block>], percentiles: &[f64]) -> Vec<Vec<u128>> {
    blocks.iter().map(|block| block_rewards(block, percentiles)).collect()
}

/// For each percentile, the tip of the transaction that uses the gas at that share of the block's gas, the
/// transactions ordered by their tips.
fn block_rewards(block: &Block, percentiles: &[f64]) -> Vec<u128> {
    let base_fee = block.header.base_fee_per_gas.unwrap_or_default();
    let tip_and_gas = block.included.iter().map(|included| {
        (included.transaction.effective_tip_per_gas(base_fee).unwrap_or_default(), included.gas_used)
    });
    let mut tips: Vec<_> = tip_and_gas.collect();
    tips.sort_unstable();
    let reward = |percentile: &f64| {
        let threshold = (block.header.gas_used as f64 * percentile / 100.0) as u64;
        let mut sum = 0;
        let at_threshold = tips.iter().find(|(_, gas)| {
            sum += gas;
            sum >= threshold
        });
        at_threshold.or(tips.last()).map_or(0, |(tip, _)| *tip)
    };
    percentiles.iter().map(reward).collect()
}
