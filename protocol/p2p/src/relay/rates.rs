//! How often a peer may ask something of the relay: a token bucket per peer, for a bounded number of peers.

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
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    buckets: HashMap<PeerId, Bucket>,
    swept: Option<Instant>,
}

/// How long it takes an idle peer's bucket to fill: it then says no more than none does.
fn refill() -> Duration {
    Duration::from_secs_f64(HOP_BURST / HOPS_PER_SECOND)
}

impl Rates {
    /// Takes one request of a peer; `false` if it comes too soon.
    pub(super) fn admit(&self, peer: PeerId, now: Instant) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.buckets.len() >= RATED_PEERS && !table.buckets.contains_key(&peer) {
            // Newcomers to a full table don't have it searched each time.
            if table.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= refill()) {
                table.swept = Some(now);
                table.buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < refill());
            }
            if table.buckets.len() >= RATED_PEERS {
                return false;
            }
        }
        let bucket = table.buckets.entry(peer).or_insert(Bucket { tokens: HOP_BURST, at: now });
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + since * HOPS_PER_SECOND).min(HOP_BURST);
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
        assert!(rates.admit(PeerId::random(), start + refill() * 2));
    }
}
