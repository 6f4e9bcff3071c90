//! Faults by design: what a provider does wrong for those who connect through a path of its own.
//!
//! Owns which faults there are and who has which. `dev_faults` gives a name its faults; whoever connects to
//! `/faults/NAME` gets them, over HTTP and WebSocket, from the next request on. Everybody else, and the chain
//! itself, notices nothing.

use super::argument::{Argument, Arguments};
use super::caller::Caller;
use super::error::RpcError;
use super::view;
use crate::chain::feed::Event;
use crate::chain::ledger::Ledger;
use crate::chain::limits::{MAX_FAULT_DELAY_MILLISECONDS, MAX_FAULT_NAME_BYTES, MAX_FAULT_SETS};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What goes wrong. Nothing, by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Faults {
    /// Blocks that this provider is behind, in all it says.
    pub(super) lag: u64,
    /// Milliseconds after which it notices a block.
    pub(super) head_delay: u64,
    /// Milliseconds before each answer.
    pub(super) answer_delay: u64,
    /// Every so many-th log is missing; 0 for none.
    pub(super) drop_logs: u64,
    /// Every so many-th log comes twice; 0 for none.
    pub(super) duplicate_logs: u64,
    /// Proofs are those of a block so many blocks earlier.
    pub(super) stale_proofs: u64,
    /// Proofs lack their last trie node.
    pub(super) truncated_proofs: bool,
    /// Slots have other values than they have, in proofs, too.
    pub(super) wrong_values: bool,
    /// Blocks whose state and logs it still has; the others are pruned.
    pub(super) keep: Option<u64>,
    /// Requests it answers before it dies.
    pub(super) answers: Option<u64>,
}

impl Argument for Faults {
    fn read(value: Value) -> Result<Self, String> {
        if !value.is_object() {
            return Err(format!("expected an object, got {value}"));
        }
        let faults: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if faults.head_delay.max(faults.answer_delay) > MAX_FAULT_DELAY_MILLISECONDS {
            return Err(format!("a delay is at most {MAX_FAULT_DELAY_MILLISECONDS} ms"));
        }
        Ok(faults)
    }
}

/// Faults in force, and what they count.
#[derive(Debug, Default)]
pub(super) struct FaultSet {
    pub(super) faults: Faults,
    logs: AtomicU64,
    answered: AtomicU64,
}

impl FaultSet {
    /// Whether the provider is dead now; counts the request.
    pub(super) fn is_dead(&self) -> bool {
        let Some(answers) = self.faults.answers else { return false };
        self.answered.fetch_add(1, Ordering::Relaxed) >= answers
    }

    /// How long it waits before an answer.
    pub(super) fn answer_delay(&self) -> Duration {
        Duration::from_millis(self.faults.answer_delay)
    }

    /// `logs` as this provider tells them.
    pub(super) fn distort<T: Clone>(&self, logs: Vec<T>) -> Vec<T> {
        let Faults { drop_logs, duplicate_logs, .. } = self.faults;
        if drop_logs == 0 && duplicate_logs == 0 {
            return logs;
        }
        let every = |nth: u64, count: u64| nth > 0 && count.is_multiple_of(nth);
        let told = |log: T| {
            let count = self.logs.fetch_add(1, Ordering::Relaxed) + 1;
            let times = match (every(drop_logs, count), every(duplicate_logs, count)) {
                (true, _) => 0,
                (false, true) => 2,
                (false, false) => 1,
            };
            std::iter::repeat_n(log, times)
        };
        logs.into_iter().flat_map(told).collect()
    }

    /// Number of the newest block this provider knows, and the position after the newest event it knows.
    pub(super) fn horizon(&self, ledger: &Ledger) -> (u64, u64) {
        let (height, feed_end) = (ledger.height(), ledger.feed.end());
        let Faults { lag, head_delay, .. } = self.faults;
        if lag == 0 && head_delay == 0 {
            return (height, feed_end);
        }
        let known_since = Instant::now().checked_sub(Duration::from_millis(head_delay));
        let (mut tip, mut end, mut position) = (height.saturating_sub(lag), feed_end, feed_end);
        for entry in ledger.feed.newest_first() {
            position -= 1;
            let late = known_since.is_none_or(|since| entry.at > since);
            match &entry.event {
                Event::Sealed(block) if ledger.is_canonical(&block.hash).unwrap_or_default() => {
                    let number = block.header.number;
                    if !late && number <= tip {
                        break;
                    }
                    end = position;
                    tip = tip.min(number.saturating_sub(1));
                }
                _ if late => end = position,
                _ => {}
            }
        }
        (tip, end)
    }

    /// Number of the oldest block that isn't pruned when `tip` is the newest.
    pub(super) fn oldest_kept(&self, tip: u64) -> u64 {
        self.faults.keep.map_or(0, |keep| (tip + 1).saturating_sub(keep))
    }
}

/// The faults in force, by the name of the path that has them.
#[derive(Default)]
pub(super) struct FaultBook {
    sets: BTreeMap<String, Arc<FaultSet>>,
}

impl FaultBook {
    /// The faults of `name`: none unless it was given some.
    pub(super) fn of(&self, name: &str) -> Option<Arc<FaultSet>> {
        self.sets.get(name).cloned()
    }

    fn put(&mut self, name: &str, faults: Option<Faults>) -> Result<(), RpcError> {
        let Some(faults) = faults else {
            self.sets.remove(name);
            return Ok(());
        };
        if self.sets.len() >= MAX_FAULT_SETS && !self.sets.contains_key(name) {
            return Err(RpcError::too_much(format!("too many names with faults: at most {MAX_FAULT_SETS}")));
        }
        self.sets.insert(name.to_owned(), Arc::new(FaultSet { faults, ..FaultSet::default() }));
        Ok(())
    }
}

/// Whether `name` can be part of a path: letters, digits, dashes.
pub(super) fn is_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    plain && (1..=MAX_FAULT_NAME_BYTES).contains(&name.len())
}

/// `dev_faults`: gives a name its faults, in place of those it had; null takes them away. Without arguments,
/// all names with their faults.
pub(super) fn set(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let name: Option<String> = arguments.optional()?;
    let Some(name) = name else {
        let book = caller.service.fault_book();
        let all = book.sets.iter().map(|(name, set)| (name.clone(), json!(set.faults)));
        return view::json(all.collect::<BTreeMap<_, _>>());
    };
    if !is_name(&name) {
        return Err(RpcError::invalid_params(format!(
            "a name is made of letters, digits and dashes, at most {MAX_FAULT_NAME_BYTES}"
        )));
    }
    caller.service.fault_book().put(&name, arguments.optional()?)?;
    Ok(json!({ "path": format!("/faults/{name}") }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(faults: Faults) -> FaultSet {
        FaultSet { faults, ..FaultSet::default() }
    }

    #[test]
    fn logs_are_dropped_and_doubled_by_count() {
        let dropping = set(Faults { drop_logs: 3, ..Faults::default() });
        assert_eq!(dropping.distort(vec![1, 2, 3, 4]), [1, 2, 4]);
        assert_eq!(dropping.distort(vec![5, 6, 7]), [5, 7], "the count goes on");
        let doubling = set(Faults { duplicate_logs: 2, ..Faults::default() });
        assert_eq!(doubling.distort(vec![1, 2, 3]), [1, 2, 2, 3]);
        assert_eq!(set(Faults { drop_logs: 1, ..Faults::default() }).distort(vec![1, 2]), [0; 0]);
        assert_eq!(set(Faults::default()).distort(vec![1, 2]), [1, 2]);
    }

    #[test]
    fn it_dies_after_its_last_answer() {
        let mortal = set(Faults { answers: Some(2), ..Faults::default() });
        assert_eq!([mortal.is_dead(), mortal.is_dead(), mortal.is_dead()], [false, false, true]);
        assert!(!set(Faults::default()).is_dead());
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        assert_eq!(Faults::read(json!({})), Ok(Faults::default()));
        for wrong in
            [json!(7), json!([]), json!({"lags": 1}), json!({"lag": -1}), json!({"answerDelay": 60_001})]
        {
            assert!(Faults::read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_have_a_form_and_a_bound() {
        assert!(is_name("provider-1"));
        for wrong in ["", "a/b", "ü", "..", &"a".repeat(MAX_FAULT_NAME_BYTES + 1)] {
            assert!(!is_name(wrong), "{wrong}");
        }
        let mut book = FaultBook::default();
        for number in 0..MAX_FAULT_SETS {
            book.put(&number.to_string(), Some(Faults::default())).unwrap();
        }
        assert!(book.put("more", Some(Faults::default())).is_err());
        book.put("0", None).unwrap();
        assert!(book.put("more", Some(Faults::default())).is_ok());
    }
}
