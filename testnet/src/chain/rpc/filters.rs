//! Filters: what clients that can't be called back ask for again and again.
//!
//! Owns the installed filters, their number and their end. A filter is only a position in the feed, so it
//! costs nothing between two polls and tells of blocks that were taken off like a subscription does.

use super::argument::Arguments;
use super::caller::Caller;
use super::error::RpcError;
use super::logs::{self, LogQuery, Span};
use super::subscriptions::random_id;
use super::view;
use crate::chain::feed::Event;
use crate::chain::limits::{FILTER_EXPIRY_SECONDS, MAX_FILTERS, MAX_LOGS_PER_ANSWER};
use alloy::rpc::types::Log;
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use windlass_protocol::B256;

/// What a filter tells of.
#[derive(Clone, Debug)]
pub(super) enum Interest {
    Blocks,
    Waiting,
    Logs(Box<LogQuery>),
}

/// One installed filter.
struct Installed {
    /// The connection that may use it; `None` for all over HTTP.
    owner: Option<u64>,
    interest: Interest,
    /// The first event it hasn't told of.
    position: u64,
    polled: Instant,
}

/// All installed filters.
#[derive(Default)]
pub(super) struct Filters {
    installed: HashMap<String, Installed>,
}

impl Filters {
    /// Installs a filter that tells of what happens from `position` on.
    fn install(
        &mut self,
        owner: Option<u64>,
        interest: Interest,
        position: u64,
        now: Instant,
    ) -> Result<String, RpcError> {
        self.forget_expired(now);
        if self.installed.len() >= MAX_FILTERS {
            return Err(RpcError::too_much(format!(
                "too many filters: {MAX_FILTERS} are installed, uninstall one or let one expire"
            )));
        }
        let id = random_id();
        self.installed.insert(id.clone(), Installed { owner, interest, position, polled: now });
        Ok(id)
    }

    /// The filter `id`, if it is `owner`'s, which keeps it alive.
    fn poll(&mut self, owner: Option<u64>, id: &str, now: Instant) -> Result<&mut Installed, RpcError> {
        self.forget_expired(now);
        let filter = self.installed.get_mut(id).filter(|filter| filter.owner == owner);
        let filter = filter.ok_or_else(|| RpcError::server("filter not found"))?;
        filter.polled = now;
        Ok(filter)
    }

    fn uninstall(&mut self, owner: Option<u64>, id: &str) -> bool {
        let own = self.installed.get(id).is_some_and(|filter| filter.owner == owner);
        own && self.installed.remove(id).is_some()
    }

    /// Forgets the filters of a connection that ended.
    pub(super) fn forget_owner(&mut self, owner: Option<u64>) {
        self.installed.retain(|_, filter| filter.owner != owner);
    }

    fn forget_expired(&mut self, now: Instant) {
        let expiry = Duration::from_secs(FILTER_EXPIRY_SECONDS);
        self.installed.retain(|_, filter| now.saturating_duration_since(filter.polled) <= expiry);
    }
}

/// `eth_newFilter`: tells of logs, also of those taken back.
pub(super) fn new_filter(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let query: LogQuery = arguments.required()?;
    if matches!(query.span, Span::Block(_)) {
        return Err(RpcError::invalid_params("a filter follows the chain, so it can't be of one blockHash"));
    }
    install(caller, Interest::Logs(Box::new(query)))
}

/// `eth_newBlockFilter`: tells of the hashes of new blocks.
pub(super) fn new_block_filter(caller: &Caller) -> Result<Value, RpcError> {
    install(caller, Interest::Blocks)
}

/// `eth_newPendingTransactionFilter`: tells of the hashes of transactions taken in.
pub(super) fn new_waiting_filter(caller: &Caller) -> Result<Value, RpcError> {
    install(caller, Interest::Waiting)
}

fn install(caller: &Caller, interest: Interest) -> Result<Value, RpcError> {
    let position = caller.read().feed_end();
    view::json(caller.service.filters().install(caller.owner(), interest, position, Instant::now())?)
}

/// `eth_uninstallFilter`: whether there was one.
pub(super) fn uninstall(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let id: String = arguments.required()?;
    Ok(Value::Bool(caller.service.filters().uninstall(caller.owner(), &id)))
}

/// `eth_getFilterLogs`: all logs the filter means, whether told of or not.
pub(super) fn all_logs(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let id: String = arguments.required()?;
    let interest = caller.service.filters().poll(caller.owner(), &id, Instant::now())?.interest.clone();
    let Interest::Logs(query) = interest else { return Err(RpcError::server("filter not found")) };
    view::json(logs::find(&caller.read(), &query)?)
}

/// `eth_getFilterChanges`: what happened since the last time.
pub(super) fn changes(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let id: String = arguments.required()?;
    // Read and moved under one lock, so that two polls at a time tell each event once.
    let mut filters = caller.service.filters();
    let filter = filters.poll(caller.owner(), &id, Instant::now())?;
    let seen = caller.read();
    let mut told = Told::default();
    match seen.events(filter.position) {
        Ok(events) => {
            for event in events {
                filter.position += 1;
                told.add(&seen, &filter.interest, event);
                if told.logs.len() >= MAX_LOGS_PER_ANSWER {
                    break;
                }
            }
        }
        Err(_) => {
            filters.uninstall(caller.owner(), &id);
            return Err(RpcError::server("filter not found: it wasn't polled while too much happened"));
        }
    }
    match filter.interest {
        Interest::Logs(_) => view::json(told.logs),
        Interest::Blocks | Interest::Waiting => view::json(told.hashes),
    }
}

/// What one poll tells.
#[derive(Default)]
struct Told {
    hashes: Vec<B256>,
    logs: Vec<Log>,
}

impl Told {
    fn add(&mut self, seen: &super::caller::Seen<'_>, interest: &Interest, event: &Event) {
        match (interest, event) {
            (Interest::Blocks, Event::Sealed(block)) => self.hashes.push(block.hash),
            (Interest::Waiting, Event::Waiting(transaction)) => self.hashes.push(*transaction.tx_hash()),
            (Interest::Logs(query), Event::Sealed(block)) => {
                self.logs.append(&mut logs::follow(seen, query, block, false));
            }
            (Interest::Logs(query), Event::Removed(block)) => {
                self.logs.append(&mut logs::follow(seen, query, block, true));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn filters_have_a_bound() {
        let (mut filters, now) = (Filters::default(), Instant::now());
        for _ in 0..MAX_FILTERS {
            filters.install(None, Interest::Blocks, 0, now).unwrap();
        }
        assert!(filters.install(None, Interest::Blocks, 0, now).is_err());
        assert_eq!(filters.installed.len(), MAX_FILTERS);
    }

    #[test]
    fn a_filter_lives_as_long_as_it_is_polled() {
        let (mut filters, start) = (Filters::default(), Instant::now());
        let id = filters.install(None, Interest::Blocks, 0, start).unwrap();
        let almost = Duration::from_secs(FILTER_EXPIRY_SECONDS);
        assert!(filters.poll(None, &id, start + almost).is_ok());
        assert!(filters.poll(None, &id, start + 2 * almost).is_ok());
        assert!(filters.poll(None, &id, start + 3 * almost + Duration::from_millis(1)).is_err());
        assert!(filters.installed.is_empty());
    }

    #[test]
    fn a_filter_is_its_owners_alone() {
        let (mut filters, now) = (Filters::default(), Instant::now());
        let id = filters.install(Some(1), Interest::Blocks, 0, now).unwrap();
        for stranger in [None, Some(2)] {
            assert!(filters.poll(stranger, &id, now).is_err());
            assert!(!filters.uninstall(stranger, &id));
        }
        assert!(filters.poll(Some(1), &id, now).is_ok());
        filters.forget_owner(Some(1));
        assert!(filters.poll(Some(1), &id, now).is_err());
    }
}
