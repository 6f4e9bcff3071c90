//! Methods that only a development chain has: making blocks, taking them off, making them final.

use super::argument::{Argument, Arguments, Quantity};
use super::caller::Caller;
use super::error::RpcError;
use super::quantity;
use crate::chain::limits::MAX_BLOCKS_PER_CALL;
use serde_json::{Value, json};

/// How `evm_mine` is told how many blocks to make: `{"blocks": 3}`.
struct Blocks(u64);

impl Argument for Blocks {
    fn read(value: Value) -> Result<Self, String> {
        let Value::Object(mut members) = value else {
            return Err(format!("expected an object, got {value}"));
        };
        let blocks = members.remove("blocks").unwrap_or_else(|| Value::from(1));
        if let Some(unknown) = members.keys().next() {
            return Err(format!("unknown member '{unknown}': only 'blocks' is known"));
        }
        count(blocks).map(Self)
    }
}

/// A number of blocks, which development tools also give as a plain number.
struct Count(u64);

impl Argument for Count {
    fn read(value: Value) -> Result<Self, String> {
        count(value).map(Self)
    }
}

fn count(value: Value) -> Result<u64, String> {
    let count = match value.as_u64() {
        Some(count) => count,
        None => Quantity::read(value)?.0,
    };
    if count > MAX_BLOCKS_PER_CALL {
        return Err(format!("{count} blocks are too many for one call: at most {MAX_BLOCKS_PER_CALL}"));
    }
    Ok(count)
}

/// `evm_mine`: makes one block, or as many as asked, from what waits.
pub(super) fn mine(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let Blocks(blocks) = arguments.optional()?.unwrap_or(Blocks(1));
    let mut ledger = caller.shared().write();
    for _ in 0..blocks {
        caller.shared().mine(&mut ledger)?;
    }
    Ok(quantity(0u64))
}

/// `dev_finalize`: makes every block up to the given number, or up to the newest, final. Gives the number.
pub(super) fn finalize(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let height: Option<Quantity> = arguments.optional()?;
    let mut ledger = caller.shared().write();
    let height = height.map_or_else(|| ledger.height(), |Quantity(height)| height);
    ledger.finalize(height)?;
    Ok(quantity(height))
}

/// What `dev_reorg` does with the transactions of the blocks it takes off: `{"transactions": "keep"}` puts
/// them into the first new block, `"drop"` (the default) forgets them.
struct ReorgOptions {
    keep: bool,
}

impl Argument for ReorgOptions {
    fn read(value: Value) -> Result<Self, String> {
        match value {
            value if value == json!({ "transactions": "keep" }) => Ok(Self { keep: true }),
            value if value == json!({ "transactions": "drop" }) || value == json!({}) => {
                Ok(Self { keep: false })
            }
            other => Err(format!("expected {{\"transactions\": \"keep\"}} or \"drop\", got {other}")),
        }
    }
}

/// `dev_reorg`: takes the newest blocks off and makes as many others. Gives the last block they share.
pub(super) fn reorg(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let Count(depth) = arguments.required()?;
    let ReorgOptions { keep } = arguments.optional()?.unwrap_or(ReorgOptions { keep: false });
    let mut ledger = caller.shared().write();
    let fork = ledger.reorg(depth, keep, caller.shared().now())?;
    Ok(json!({ "number": quantity(fork.header.number), "hash": fork.hash }))
}
