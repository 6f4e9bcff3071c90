//! Methods that only a development chain has: making blocks, taking them off, making them final, and
//! deciding what time it is.

use super::argument::{Argument, Arguments, Quantity};
use super::caller::Caller;
use super::error::RpcError;
use super::quantity;
use crate::chain::limits::{MAX_BLOCKS_PER_CALL, MAX_INTERVAL_SECONDS};
use crate::chain::{Mining, control, unix_seconds};
use serde_json::{Value, json};
use std::time::Duration;

/// A number, which development tools give as a quantity or as a plain number.
struct Number(u64);

impl Argument for Number {
    fn read(value: Value) -> Result<Self, String> {
        match value.as_u64() {
            Some(number) => Ok(Self(number)),
            None => Quantity::read(value).map(|Quantity(number)| Self(number)),
        }
    }
}

/// A number of blocks.
struct Count(u64);

impl Argument for Count {
    fn read(value: Value) -> Result<Self, String> {
        let Number(count) = Number::read(value)?;
        if count > MAX_BLOCKS_PER_CALL {
            return Err(format!("{count} blocks are too many for one call: at most {MAX_BLOCKS_PER_CALL}"));
        }
        Ok(Self(count))
    }
}

/// What `evm_mine` is told: `{"blocks": 3, "timestamp": 1}`, each of which may be missing, or only the
/// timestamp, as a number.
struct MineOptions {
    blocks: u64,
    timestamp: Option<u64>,
}

impl Argument for MineOptions {
    fn read(value: Value) -> Result<Self, String> {
        let Value::Object(mut members) = value else {
            return Number::read(value)
                .map(|Number(timestamp)| Self { blocks: 1, timestamp: Some(timestamp) });
        };
        let blocks = members.remove("blocks").map_or(Ok(Count(1)), Count::read)?.0;
        let timestamp = members.remove("timestamp").filter(|value| !value.is_null());
        let timestamp = timestamp.map(Number::read).transpose()?.map(|Number(timestamp)| timestamp);
        match members.keys().next() {
            Some(unknown) => {
                Err(format!("unknown member '{unknown}': only 'blocks' and 'timestamp' are known"))
            }
            None => Ok(Self { blocks, timestamp }),
        }
    }
}

/// `evm_mine`: makes one block, or as many as asked, from what waits.
pub(super) fn mine(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let options = arguments.optional()?;
    let MineOptions { blocks, timestamp } = options.unwrap_or(MineOptions { blocks: 1, timestamp: None });
    let shared = caller.shared();
    let mut ledger = shared.write();
    if let Some(timestamp) = timestamp {
        shared.control().clock.promise(timestamp, ledger.latest().header.timestamp)?;
    }
    for _ in 0..blocks {
        shared.mine(&mut ledger)?;
    }
    Ok(quantity(0u64))
}

/// `anvil_mine`: makes blocks, whose timestamps are so many seconds apart.
pub(super) fn mine_apart(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let Count(blocks) = arguments.optional()?.unwrap_or(Count(1));
    let apart = arguments.optional()?.map(|Number(seconds)| seconds);
    let shared = caller.shared();
    let mut ledger = shared.write();
    for made in 0..blocks {
        if let Some(apart) = apart.filter(|apart| made > 0 && *apart > 0) {
            let latest = ledger.latest().header.timestamp;
            shared.control().clock.promise(latest.saturating_add(apart), latest)?;
        }
        shared.mine(&mut ledger)?;
    }
    Ok(Value::Null)
}

/// `evm_setAutomine`: whether each transaction gets a block at once. What waits gets its block now.
pub(super) fn set_automine(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let on: bool = arguments.required()?;
    let shared = caller.shared();
    let mut ledger = shared.write();
    shared.mining.send_modify(|mining| *mining = control::automine(on, *mining));
    if on && ledger.has_ready()? {
        shared.mine(&mut ledger)?;
    }
    Ok(Value::Bool(true))
}

/// `evm_setIntervalMining`: a block every so many seconds and at no other time; 0 makes none but when told.
pub(super) fn set_interval(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let Number(seconds) = arguments.required()?;
    if seconds > MAX_INTERVAL_SECONDS {
        return Err(RpcError::invalid_params(format!(
            "{seconds} s are longer than a day, {MAX_INTERVAL_SECONDS} s"
        )));
    }
    let mining = match seconds {
        0 => Mining::Manual,
        seconds => Mining::Interval(Duration::from_secs(seconds)),
    };
    // Under the lock, so that no block comes of the former decision afterwards.
    let _ledger = caller.shared().write();
    caller.shared().mining.send_replace(mining);
    Ok(Value::Null)
}

/// `evm_setNextBlockTimestamp`: decides the next block's timestamp; time goes on from there.
pub(super) fn set_next_timestamp(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let Number(timestamp) = arguments.required()?;
    let shared = caller.shared();
    let ledger = shared.read();
    shared.control().clock.promise(timestamp, ledger.latest().header.timestamp)?;
    Ok(Value::Null)
}

/// `evm_increaseTime`: puts the clock forward by seconds, and gives how far it is ahead altogether.
pub(super) fn increase_time(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let Number(seconds) = arguments.required()?;
    Ok(json!(caller.shared().control().clock.increase(seconds, unix_seconds())?))
}

/// `evm_snapshot`: a number to come back to this height and time with.
pub(super) fn snapshot(caller: &Caller) -> Result<Value, RpcError> {
    let shared = caller.shared();
    let ledger = shared.read();
    let latest = ledger.latest();
    Ok(quantity(shared.control().take_snapshot(latest.header.number, latest.hash)))
}

/// `evm_revert`: takes off what came after a snapshot, as far as it isn't final. What waits for a block
/// waits on. False when there is no such snapshot, or its block is gone.
pub(super) fn revert(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let Number(id) = arguments.required()?;
    let shared = caller.shared();
    let mut ledger = shared.write();
    let Some(snapshot) = shared.control().snapshot(id) else { return Ok(Value::Bool(false)) };
    if !ledger.is_canonical(&snapshot.hash)? {
        return Ok(Value::Bool(false));
    }
    if ledger.height() > snapshot.height {
        ledger.rewind(snapshot.height)?;
    }
    shared.control().return_to(id, snapshot);
    Ok(Value::Bool(true))
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
