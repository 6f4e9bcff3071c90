//! How often a peer may ask: a token bucket per peer, for a bounded number of peers. Reads no clock.

use crate::limits::{RATED_PEERS, REQUEST_BURST, REQUESTS_PER_SECOND};
use libp2p::PeerId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self { tokens: REQUEST_BURST, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.at);
        self.tokens = (self.tokens + since.as_secs_f64() * REQUESTS_PER_SECOND).min(REQUEST_BURST);
        self.at = now;
    }
}

/// The rates of all peers.
#[derive(Default)]
pub struct Rates {
    buckets: Mutex<HashMap<PeerId, Bucket>>,
}

impl Rates {
    /// Takes one request of a peer; `false` if it has to wait.
    pub fn admit(&self, peer: PeerId, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= RATED_PEERS && !buckets.contains_key(&peer) {
            // A bucket that is full again says no more than none does.
            let refilled = Duration::from_secs_f64(REQUEST_BURST / REQUESTS_PER_SECOND);
            buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < refilled);
            if buckets.len() >= RATED_PEERS {
                return false;
            }
        }
        let bucket = buckets.entry(peer).or_insert_with(|| Bucket::full(now));
        bucket.refill(now);
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_rate_and_each_peer_for_itself() {
        let rates = Rates::default();
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
        let rates = Rates::default();
        let start = Instant::now();
        for _ in 0..RATED_PEERS {
            assert!(rates.admit(PeerId::random(), start));
        }
        assert!(!rates.admit(PeerId::random(), start), "full of peers that just asked");
        assert!(rates.admit(PeerId::random(), start + Duration::from_secs(4)));
    }
}
