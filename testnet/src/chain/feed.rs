//! What happened to the chain lately, in its order.
//!
//! Owns a bounded journal that subscriptions and filters read at their own pace, each from a position of its
//! own: a reader costs nothing while it doesn't read, and one that falls too far behind learns that it did.
//! It decides nothing; the ledger writes it under its lock.

use super::block::{Block, Transacted, logs};
use super::limits::{MAX_FEED_BYTES, MAX_FEED_EVENTS};
use alloy_eips::eip2718::Encodable2718;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A block became the newest one.
    Sealed(Arc<Block>),
    /// The newest block was taken off.
    Removed(Arc<Block>),
    /// A transaction was taken in.
    Waiting(Transacted),
}

impl Event {
    /// Bytes of the transactions and logs it keeps in memory, roughly.
    fn size(&self) -> usize {
        match self {
            Self::Waiting(transaction) => transaction.encode_2718_len(),
            Self::Sealed(block) | Self::Removed(block) => {
                let transactions: usize =
                    block.included.iter().map(|included| included.transaction.encode_2718_len()).sum();
                let logs: usize = logs(block).map(|(.., log)| log.data.data.len()).sum();
                transactions + logs
            }
        }
    }
}

/// An event, and when it was written down. The time decides nothing but when a provider with delayed heads
/// notices.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: Instant,
    pub(crate) event: Event,
    size: usize,
}

/// The reader fell so far behind that events it hasn't read are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forgotten;

/// The journal. Positions count events from the start of the chain.
pub(crate) struct Feed {
    entries: VecDeque<Entry>,
    /// Bytes of all entries.
    bytes: usize,
    end: watch::Sender<u64>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { entries: VecDeque::new(), bytes: 0, end: watch::Sender::new(0) }
    }
}

impl Feed {
    /// Writes what happened, and wakes who waits for it.
    pub(crate) fn push(&mut self, event: Event) {
        let size = event.size();
        self.append(Entry { at: Instant::now(), event, size });
    }

    fn append(&mut self, entry: Entry) {
        while self.entries.len() >= MAX_FEED_EVENTS || self.bytes.saturating_add(entry.size) > MAX_FEED_BYTES
        {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.size;
        }
        self.bytes += entry.size;
        self.entries.push_back(entry);
        self.end.send_modify(|end| *end += 1);
    }

    /// The position after the newest event: where a new reader begins.
    pub(crate) fn end(&self) -> u64 {
        *self.end.borrow()
    }

    /// Changes whenever something happens.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// The events from `position` on.
    pub(crate) fn since(&self, position: u64) -> Result<impl Iterator<Item = &Entry>, Forgotten> {
        let unread = usize::try_from(self.end().saturating_sub(position)).unwrap_or(usize::MAX);
        let first = self.entries.len().checked_sub(unread).ok_or(Forgotten)?;
        Ok(self.entries.range(first..))
    }

    /// The events, the newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::chain::block::{Included, bare_header};
    use crate::chain::pool::sample;
    use alloy_consensus::{Receipt, ReceiptEnvelope, ReceiptWithBloom};

    fn event() -> Event {
        Event::Sealed(Arc::new(Block::seal(bare_header(), Vec::new())))
    }

    #[test]
    fn each_reader_reads_from_its_own_position() {
        let mut feed = Feed::default();
        let early = feed.end();
        feed.push(event());
        let late = feed.end();
        feed.push(event());
        assert_eq!(feed.since(early).unwrap().count(), 2);
        assert_eq!(feed.since(late).unwrap().count(), 1);
        assert_eq!(feed.since(feed.end()).unwrap().count(), 0);
    }

    #[test]
    fn a_reader_that_fell_behind_learns_it() {
        let mut feed = Feed::default();
        let event = event();
        for _ in 0..=MAX_FEED_EVENTS {
            feed.push(event.clone());
        }
        assert_eq!(feed.since(0).err(), Some(Forgotten));
        assert_eq!(feed.since(1).unwrap().count(), MAX_FEED_EVENTS);
    }

    #[test]
    fn large_events_push_out_old_ones_and_stay_until_the_next() {
        let mut feed = Feed::default();
        let large = |bytes| Entry { at: Instant::now(), event: event(), size: bytes };
        feed.append(large(MAX_FEED_BYTES / 2));
        feed.append(large(MAX_FEED_BYTES / 2));
        assert_eq!(feed.since(0).unwrap().count(), 2);
        feed.append(large(1));
        assert_eq!(feed.since(0).err(), Some(Forgotten));
        assert_eq!(feed.since(1).unwrap().count(), 2);
        feed.append(large(MAX_FEED_BYTES + 1));
        assert_eq!(feed.since(2).err(), Some(Forgotten));
        assert_eq!(feed.since(3).unwrap().count(), 1);
        feed.append(large(1));
        assert_eq!((feed.since(4).unwrap().count(), feed.bytes), (1, 1));
    }

    #[test]
    fn an_event_counts_the_bytes_of_its_transactions() {
        let transaction = sample(0, vec![0; 1_000]);
        assert!((1_000..1_200).contains(&Event::Waiting(transaction.clone()).size()));
        let receipt = ReceiptEnvelope::Legacy(ReceiptWithBloom::from(Receipt::default()));
        let included = Included::after(None, transaction, receipt);
        let block = Arc::new(Block::seal(bare_header(), vec![included]));
        assert!((1_000..1_200).contains(&Event::Sealed(block).size()));
    }

    #[test]
    fn whoever_waits_is_woken() {
        let mut feed = Feed::default();
        let watch = feed.watch();
        assert!(!watch.has_changed().unwrap());
        feed.push(event());
        assert!(watch.has_changed().unwrap());
    }
}
