//! Subscriptions: what a WebSocket connection is told of as it happens.
//!
//! Owns what each connection subscribed to and the form of the notifications. It never sends: the connection
//! asks for what is new whenever it is ready to send it.

use super::argument::{Argument, Arguments};
use super::caller::{Caller, Seen};
use super::error::RpcError;
use super::logs::{self, LogQuery, Span};
use super::view;
use crate::chain::feed::{Event, Forgotten};
use crate::chain::limits::{MAX_EVENTS_PER_TURN, MAX_SUBSCRIPTIONS};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a subscription tells of.
#[derive(Clone, Debug)]
enum Topic {
    Heads,
    Logs(Box<LogQuery>),
    Waiting { full: bool },
}

/// One subscription.
struct Subscription {
    topic: Topic,
    /// The first event that happened after it was made.
    since: u64,
}

/// All subscriptions of one connection.
#[derive(Default)]
pub(super) struct Subscriptions {
    by_id: BTreeMap<String, Subscription>,
}

/// An id that nobody guesses, as clients expect it: a quantity.
pub(super) fn random_id() -> String {
    format!("{:#x}", rand::random::<u128>().max(1))
}

/// `eth_subscribe`
pub(super) fn subscribe(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let Some(connection) = &caller.connection else { return Err(RpcError::no_notifications()) };
    let kind: String = arguments.required()?;
    let topic = match kind.as_str() {
        "newHeads" => Topic::Heads,
        "logs" => Topic::Logs(Box::new(log_query(arguments)?)),
        "newPendingTransactions" => Topic::Waiting { full: arguments.optional()?.unwrap_or(false) },
        other => {
            return Err(RpcError::invalid_params(format!(
                "no \"{other}\" subscription: there are newHeads, logs and newPendingTransactions"
            )));
        }
    };
    let since = caller.read().feed_end();
    let mut subscriptions = connection.subscriptions();
    if subscriptions.by_id.len() >= MAX_SUBSCRIPTIONS {
        return Err(RpcError::too_much(format!(
            "too many subscriptions: a connection may have {MAX_SUBSCRIPTIONS}"
        )));
    }
    let id = random_id();
    subscriptions.by_id.insert(id.clone(), Subscription { topic, since });
    Ok(Value::String(id))
}

fn log_query(arguments: &mut Arguments) -> Result<LogQuery, RpcError> {
    let query = match arguments.optional()? {
        Some(query) => query,
        None => LogQuery::read(json!({})).map_err(RpcError::internal)?,
    };
    if matches!(query.span, Span::Block(_)) {
        return Err(RpcError::invalid_params(
            "a subscription follows the chain, so it can't be of one blockHash",
        ));
    }
    Ok(query)
}

/// `eth_unsubscribe`
pub(super) fn unsubscribe(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let Some(connection) = &caller.connection else { return Err(RpcError::no_notifications()) };
    let id: String = arguments.required()?;
    match connection.subscriptions().by_id.remove(&id) {
        Some(_) => Ok(Value::Bool(true)),
        None => Err(RpcError::server("subscription not found")),
    }
}

/// What is new for a connection.
pub(super) struct News {
    pub(super) messages: Vec<String>,
    /// Up to where it was looked.
    pub(super) position: u64,
    /// Whether a fault holds something back that will be told later.
    pub(super) held_back: bool,
}

/// What is new for `caller` from `position` on. Not all at once: whoever gets further asks again.
pub(super) fn news(caller: &Caller, position: u64) -> Result<News, Forgotten> {
    let mut news = News { messages: Vec::new(), position, held_back: false };
    let Some(connection) = &caller.connection else { return Ok(news) };
    let subscriptions = connection.subscriptions();
    let seen = caller.read();
    news.held_back = seen.hides_events();
    if subscriptions.by_id.is_empty() {
        news.position = seen.feed_end().max(position);
        return Ok(news);
    }
    for event in seen.events(position)?.take(MAX_EVENTS_PER_TURN) {
        for (id, subscription) in &subscriptions.by_id {
            if subscription.since <= news.position {
                subscription.tell(id, &seen, event, &mut news.messages);
            }
        }
        news.position += 1;
        if news.messages.len() >= MAX_EVENTS_PER_TURN {
            break;
        }
    }
    Ok(news)
}

impl Subscription {
    fn tell(&self, id: &str, seen: &Seen<'_>, event: &Event, messages: &mut Vec<String>) {
        match (&self.topic, event) {
            (Topic::Heads, Event::Sealed(block)) => messages.push(notification(id, view::header(block))),
            (Topic::Logs(query), Event::Sealed(block)) => {
                let logs = logs::follow(seen, query, block, false);
                messages.extend(logs.into_iter().map(|log| notification(id, log)));
            }
            (Topic::Logs(query), Event::Removed(block)) => {
                let logs = logs::follow(seen, query, block, true);
                messages.extend(logs.into_iter().map(|log| notification(id, log)));
            }
            (Topic::Waiting { full: true }, Event::Waiting(transaction)) => {
                messages.push(notification(id, view::waiting(transaction)));
            }
            (Topic::Waiting { full: false }, Event::Waiting(transaction)) => {
                messages.push(notification(id, transaction.tx_hash()));
            }
            _ => {}
        }
    }
}

fn notification(id: &str, result: impl Serialize) -> String {
    let params = json!({ "subscription": id, "result": result });
    json!({ "jsonrpc": "2.0", "method": "eth_subscription", "params": params }).to_string()
}
