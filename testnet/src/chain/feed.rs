//! What happened to the chain lately, in its order.
//!
//! Owns a bounded journal that subscriptions and filters read at their own pace, each from a position of its
//! own: a reader costs nothing while it doesn't read, and one that falls too far behind learns that it did.
//! It decides nothing; the ledger writes it under its lock.

use super::block::{Block, Transacted};
use super::limits::MAX_FEED_EVENTS;
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

/// An event, and when it was written down. The time decides nothing but when a provider with delayed heads
/// notices.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: Instant,
    pub(crate) event: Event,
}

/// The reader fell so far behind that events it hasn't read are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forgotten;

/// The journal. Positions count events from the start of the chain.
pub(crate) struct Feed {
    entries: VecDeque<Entry>,
    end: watch::Sender<u64>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { entries: VecDeque::new(), end: watch::Sender::new(0) }
    }
}

impl Feed {
    /// Writes what happened, and wakes who waits for it.
    pub(crate) fn push(&mut self, event: Event) {
        if self.entries.len() == MAX_FEED_EVENTS {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { at: Instant::now(), event });
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
    use crate::chain::block::bare_header;

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
    fn whoever_waits_is_woken() {
        let mut feed = Feed::default();
        let watch = feed.watch();
        assert!(!watch.has_changed().unwrap());
        feed.push(event());
        assert!(watch.has_changed().unwrap());
    }
}
