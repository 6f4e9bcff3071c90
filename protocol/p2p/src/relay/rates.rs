//! How often a peer may ask something of the relay, or of what stands beside it: a token bucket per peer, for a bounded number of peers.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::limits::{HOP_BURST, HOPS_PER_SECOND, RATED_PEERS};

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// The rates of all peers.
#[derive(Debug)]
pub(crate) struct Rates {
    per_second: f64,
    burst: f64,
    table: Mutex<Table>,
}

impl Default for Rates {
    fn default() -> Self {
        Self::new(HOPS_PER_SECOND, HOP_BURST)
    }
}

#[derive(Debug, Default)]
struct Table {
    buckets: HashMap<PeerId, Bucket>,
    swept: Option<Instant>,
}

impl Rates {
    /// So many requests per second and peer, and so many at once.
    pub(crate) fn new(per_second: f64, burst: f64) -> Self {
        Self { per_second, burst, table: Mutex::default() }
    }

    /// How long it takes an idle peer's bucket to fill: it then says no more than none does.
    fn refill(&self) -> Duration {
        Duration::from_secs_f64(self.burst / self.per_second)
    }

    /// Takes one request of a peer; `false` if it comes too soon.
    pub(crate) fn admit(&self, peer: PeerId, now: Instant) -> bool {
        let refill = self.refill();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.buckets.len() >= RATED_PEERS && !table.buckets.contains_key(&peer) {
            // Newcomers to a full table don't have it searched each time.
            if table.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= refill) {
                table.swept = Some(now);
                table.buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < refill);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_rate_each_peer_for_itself_and_a_bounded_table() {
        let rates = Rates::default();
        let (peer, start) = (PeerId::random(), Instant::now());
        let at = |now| (0..1_000).filter(|_| rates.admit(peer, now)).count();
        assert_eq!(at(start), HOP_BURST as usize);
        assert_eq!(at(start + Duration::from_secs(1)), HOPS_PER_SECOND as usize);
        for _ in 1..RATED_PEERS {
            assert!(rates.admit(PeerId::random(), start));
        }
        assert!(!rates.admit(PeerId::random(), start), "full of peers that just asked");
        assert!(rates.admit(PeerId::random(), start + rates.refill() * 2));
    }
}
