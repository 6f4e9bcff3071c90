//! Logs: which ones a caller means, and finding them.
//!
//! Owns reading a log query and `eth_getLogs`; filters and subscriptions use the same queries.

use super::argument::{Argument, Arguments};
use super::caller::{Caller, Seen};
use super::error::RpcError;
use super::reference::BlockReference;
use super::view;
use crate::chain::block::Block;
use crate::chain::limits::{MAX_FILTER_ALTERNATIVES, MAX_LOGS_PER_ANSWER};
use alloy::rpc::types::{Filter, Log};
use alloy_consensus::Header;
use serde_json::{Map, Value};
use windlass_protocol::B256;

/// Which blocks' logs are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// Of one block, also one that was taken off the chain.
    Block(B256),
    /// From one block to another, both included.
    Range { from: BlockReference, to: BlockReference },
}

/// Which logs are meant.
#[derive(Clone, Debug)]
pub(super) struct LogQuery {
    pub(super) span: Span,
    /// Addresses and topics; its blocks are left open.
    pub(super) filter: Filter,
}

impl Argument for LogQuery {
    fn read(value: Value) -> Result<Self, String> {
        let Value::Object(mut members) = value else {
            return Err(format!("expected an object, got {value}"));
        };
        let span = read_span(&mut members)?;
        check_alternatives(&members)?;
        let filter = serde_json::from_value(Value::Object(members)).map_err(|error| error.to_string())?;
        Ok(Self { span, filter })
    }
}

fn read_span(members: &mut Map<String, Value>) -> Result<Span, String> {
    let mut take = |name: &str| members.remove(name).filter(|value| !value.is_null());
    let (hash, from, to) = (take("blockHash"), take("fromBlock"), take("toBlock"));
    match (hash, from, to) {
        (Some(hash), None, None) => B256::read(hash).map(Span::Block),
        (Some(_), _, _) => {
            Err("cannot specify both blockHash and fromBlock/toBlock, choose one or the other".to_owned())
        }
        (None, from, to) => {
            let bound = |value: Option<Value>| value.map_or(Ok(BlockReference::Latest), BlockReference::read);
            Ok(Span::Range { from: bound(from)?, to: bound(to)? })
        }
    }
}

fn check_alternatives(members: &Map<String, Value>) -> Result<(), String> {
    let too_many = |value: &Value| value.as_array().is_some_and(|all| all.len() > MAX_FILTER_ALTERNATIVES);
    let topics = members.get("topics").and_then(Value::as_array);
    if members.get("address").is_some_and(too_many)
        || topics.is_some_and(|topics| topics.iter().any(too_many))
    {
        return Err(format!("exceed max addresses or topics per search position: {MAX_FILTER_ALTERNATIVES}"));
    }
    if topics.is_some_and(|topics| topics.len() > 4) {
        return Err("exceed max topics: a log has 4 at most".to_owned());
    }
    Ok(())
}

/// `eth_getLogs`
pub(super) fn logs(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let query: LogQuery = arguments.required()?;
    view::json(find(&caller.read(), &query)?)
}

/// All logs that `query` means, in the order of the chain.
pub(super) fn find(seen: &Seen<'_>, query: &LogQuery) -> Result<Vec<Log>, RpcError> {
    let (from, to) = match query.span {
        Span::Block(hash) => {
            let block = seen.block_by_hash(&hash)?.ok_or_else(|| RpcError::server("unknown block"))?;
            check_kept(seen, block.header.number)?;
            return Ok(seen.faults.distort(view::logs(&block, &query.filter, false)));
        }
        Span::Range { from, to } => (number(seen, &from)?, number(seen, &to)?),
    };
    if from > to {
        return Err(RpcError::server("invalid block range params: fromBlock is after toBlock"));
    }
    check_kept(seen, from)?;
    let mut logs = Vec::new();
    let wanted = |header: &Header| query.filter.matches_bloom(header.logs_bloom);
    for block in seen.blocks_where(from, to, wanted) {
        let block = block?;
        logs.append(&mut view::logs(&block, &query.filter, false));
        if logs.len() > MAX_LOGS_PER_ANSWER {
            return Err(RpcError::too_much(format!(
                "query exceeds max results {MAX_LOGS_PER_ANSWER}, retry with the range {from}-{}",
                block.header.number.saturating_sub(1).max(from)
            )));
        }
    }
    Ok(seen.faults.distort(logs))
}

fn check_kept(seen: &Seen<'_>, number: u64) -> Result<(), RpcError> {
    match seen.oldest_kept() {
        oldest if number < oldest => Err(RpcError::pruned(oldest)),
        _ => Ok(()),
    }
}

/// The logs of `block`, as it comes or goes, that a follower with `query` is told of. Tags as bounds say
/// nothing about blocks to come.
pub(super) fn follow(seen: &Seen<'_>, query: &LogQuery, block: &Block, removed: bool) -> Vec<Log> {
    let number = block.header.number;
    let within = match query.span {
        Span::Block(hash) => block.hash == hash,
        Span::Range { from, to } => {
            let after = !matches!(from, BlockReference::Number(from) if number < from);
            after && !matches!(to, BlockReference::Number(to) if number > to)
        }
    };
    if within { seen.faults.distort(view::logs(block, &query.filter, removed)) } else { Vec::new() }
}

/// The height a bound means; it may lie above the newest block.
fn number(seen: &Seen<'_>, bound: &BlockReference) -> Result<u64, RpcError> {
    match bound {
        BlockReference::Number(number) => Ok(*number),
        BlockReference::Hash { .. } => Err(RpcError::invalid_params("a range is given by numbers or tags")),
        tag => Ok(tag.require(seen)?.header.number),
    }
}
