//! Methods about blocks and what is in them.

use super::argument::{Arguments, Quantity};
use super::caller::Caller;
use super::error::RpcError;
use super::reference::{BlockReference, ByHash, ByNumber};
use super::{hex, quantity, view};
use serde_json::Value;
use windlass_protocol::B256;

/// `eth_blockNumber`
pub(super) fn number(caller: &Caller) -> Result<Value, RpcError> {
    Ok(quantity(caller.read().height()))
}

/// `eth_getBlockByNumber`, `eth_getBlockByHash`: the block, or null. The pending block has the hash that it
/// would have if it were made now.
pub(super) fn block(
    caller: &Caller,
    reference: BlockReference,
    arguments: &mut Arguments,
) -> Result<Value, RpcError> {
    let full = arguments.optional()?.unwrap_or(false);
    let seen = caller.read();
    if reference == BlockReference::Pending && seen.is_current() {
        return view::json(view::block(&seen.pending()?.block, full));
    }
    view::json(reference.find(&seen)?.map(|block| view::block(&block, full)))
}

/// The block argument of a method that names it by number or tag.
pub(super) fn by_number(arguments: &mut Arguments) -> Result<BlockReference, RpcError> {
    arguments.required().map(|ByNumber(reference)| reference)
}

/// The block argument of a method that names it by hash.
pub(super) fn by_hash(arguments: &mut Arguments) -> Result<BlockReference, RpcError> {
    arguments.required().map(|ByHash(reference)| reference)
}

/// `eth_getBlockTransactionCountByNumber`, `eth_getBlockTransactionCountByHash`
pub(super) fn transaction_count(caller: &Caller, reference: BlockReference) -> Result<Value, RpcError> {
    let seen = caller.read();
    let count = reference.find(&seen)?.map(|block| quantity(block.included.len() as u64));
    view::json(count)
}

/// `eth_getBlockReceipts`: all receipts of a block, or null.
pub(super) fn receipts(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let reference: BlockReference = arguments.required()?;
    let seen = caller.read();
    let Some(block) = reference.find(&seen)? else { return Ok(Value::Null) };
    let receipts: Vec<_> =
        (0..block.included.len()).filter_map(|index| view::receipt(&block, index)).collect();
    view::json(receipts)
}

/// `eth_getTransactionByHash`: also of a transaction that waits.
pub(super) fn transaction(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let hash: B256 = arguments.required()?;
    let seen = caller.read();
    match seen.place(&hash)? {
        Some(place) => view::json(view::transaction(&place.block, place.index)),
        None => view::json(seen.waiting(&hash).map(view::waiting)),
    }
}

/// `eth_getTransactionByBlockNumberAndIndex`, `eth_getTransactionByBlockHashAndIndex`
pub(super) fn transaction_at(
    caller: &Caller,
    reference: BlockReference,
    arguments: &mut Arguments,
) -> Result<Value, RpcError> {
    let Quantity(index) = arguments.required()?;
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    let seen = caller.read();
    view::json(reference.find(&seen)?.and_then(|block| view::transaction(&block, index)))
}

/// `eth_getTransactionReceipt`: the receipt, or null while the transaction waits or isn't known.
pub(super) fn receipt(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let hash: B256 = arguments.required()?;
    let place = caller.read().place(&hash)?;
    view::json(place.and_then(|place| view::receipt(&place.block, place.index)))
}

/// `debug_getRawHeader`: the RLP of a header, whose keccak256 is the block's hash.
pub(super) fn raw_header(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let reference: BlockReference = arguments.required()?;
    let block = reference.require(&caller.read())?;
    Ok(hex(alloy_rlp::encode(&block.header)))
}
