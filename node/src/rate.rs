//! How often a peer, or a network, may ask or tell: a token bucket for each, for a bounded number of them.

use crate::limits::RATED_PEERS;
use libp2p::PeerId;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

struct Bucket {
    tokens: f64,
    at: Instant,
}

/// The rates of all peers, or of whatever else is told apart.
pub struct Rates<Key = PeerId> {
    per_second: f64,
    burst: f64,
    table: Mutex<Table<Key>>,
}

struct Table<Key> {
    buckets: HashMap<Key, Bucket>,
    /// When idle places were looked for last.
    swept: Option<Instant>,
}

impl<Key: Copy + Eq + Hash> Rates<Key> {
    /// As many messages per second and peer, and as many at once.
    pub fn new(per_second: f64, burst: f64) -> Self {
        let table = Table { buckets: HashMap::new(), swept: None };
        Self { per_second, burst, table: Mutex::new(table) }
    }

    /// Waits until a message of a peer may be taken: reading no further slows the peer down.
    pub async fn wait(&self, peer: Key) {
        while !self.admit(peer, Instant::now()) {
            tokio::time::sleep(Duration::from_secs_f64(1.0 / self.per_second)).await;
        }
    }

    /// Takes one request of a peer; `false` if it has to wait.
    pub fn admit(&self, peer: Key, now: Instant) -> bool {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.buckets.len() >= RATED_PEERS && !table.buckets.contains_key(&peer) {
            table.sweep(now, Duration::from_secs_f64(self.burst / self.per_second));
            if table.buckets.len() >= RATED_PEERS {
                return false;
            }
        }
        let bucket = table.buckets.entry(peer).or_insert(Bucket { tokens: self.burst, at: now });
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + since * self.per_second).min(self.burst);
        bucket.at = now;
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }
}

impl<Key: Copy + Eq + Hash> Table<Key> {
    /// Forgets who has been idle for as long as it takes to fill a bucket: it says no more than none does. In
    /// between nothing much can have changed, so newcomers to a full table don't have it searched each time.
    fn sweep(&mut self, now: Instant, refilled: Duration) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < refilled) {
            return;
        }
        self.swept = Some(now);
        self.buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < refilled);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::limits::{REQUEST_BURST, REQUESTS_PER_SECOND};

    #[test]
    fn a_burst_then_a_rate_and_each_peer_for_itself() {
        let rates = Rates::new(REQUESTS_PER_SECOND, REQUEST_BURST);
        let (one, other) = (PeerId::random(), PeerId::random());
        let start = Instant::now();
        let admitted = (0..100).filter(|_| rates.admit(one, start)).count();
        assert_eq!(admitted, REQUEST_BURST as usize);
        assert!(rates.admit(other, start));
        let later = start + Duration::from_secs(1);
        let admitted = (0..100).filter(|_| rates.admit(one, later)).count();
        assert_eq!(admitted, REQUESTS_PER_SECOND as usize);
    }

    #[test]
    fn the_table_is_bounded_and_frees_idle_places() {
        let rates = Rates::new(REQUESTS_PER_SECOND, REQUEST_BURST);
        let start = Instant::now();
        for _ in 0..RATED_PEERS {
            assert!(rates.admit(PeerId::random(), start));
        }
        assert!(!rates.admit(PeerId::random(), start), "full of peers that just asked");
        // Searched once, not for every newcomer, and again when places may have become free.
        assert!(!rates.admit(PeerId::random(), start + Duration::from_secs(2)));
        assert_eq!(rates.table.lock().unwrap().swept, Some(start));
        assert!(rates.admit(PeerId::random(), start + Duration::from_secs(4)));
    }
}
