//! How fast bytes may pass: a token bucket whose takers are served in turn, a quantum each.
//!
//! Whoever wants to forward takes a quantum and spends it before taking the next. The lock is fair, first come, first
//! served, so circuits that always want more get equal shares, and one that wants little waits for one round at most.

use std::time::Duration;

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use crate::limits::{RELAY_BURST, RELAY_QUANTUM};

/// A rate in bytes per second, shared by all who take from it.
#[derive(Debug)]
pub(super) struct Bandwidth(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    bytes_per_second: f64,
    /// Bytes that may pass at once; negative after a quantum was taken ahead of its time.
    tokens: f64,
    at: Instant,
}

impl Bandwidth {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self(Mutex::new(Bucket::new(bytes_per_second, Instant::now())))
    }

    /// Waits for this taker's turn and for the tokens of one quantum. A taker that stops waiting has paid for the
    /// quantum it was waiting for, if its turn had come.
    pub(super) async fn quantum(&self) {
        let mut bucket = self.0.lock().await;
        let wait = bucket.take(Instant::now());
        if !wait.is_zero() {
            // With the lock held: who comes next waits behind.
            sleep(wait).await;
        }
    }
}

impl Bucket {
    fn new(bytes_per_second: u64, now: Instant) -> Self {
        let bytes_per_second = bytes_per_second.max(1) as f64;
        let mut bucket = Self { bytes_per_second, tokens: 0.0, at: now };
        bucket.tokens = bucket.burst();
        bucket
    }

    /// What may pass at once after a pause.
    fn burst(&self) -> f64 {
        (self.bytes_per_second * RELAY_BURST.as_secs_f64()).max(RELAY_QUANTUM as f64)
    }

    /// Takes a quantum and says how long it has to be waited for.
    fn take(&mut self, now: Instant) -> Duration {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.bytes_per_second;
        self.at = now;
        self.tokens = (self.tokens + earned).min(self.burst()) - RELAY_QUANTUM as f64;
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.bytes_per_second)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn no_more_passes_than_the_rate_and_a_pause_saves_no_more_than_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100 * RELAY_QUANTUM as u64, start);
        let mut now = start;
        for _ in 0..300 {
            now += bucket.take(now);
        }
        let took = (now - start).as_secs_f64();
        assert!((3.0 - RELAY_BURST.as_secs_f64()..=3.0).contains(&took), "{took}");
        let later = now + Duration::from_secs(3600);
        let at_once = (0..300).take_while(|_| bucket.take(later).is_zero()).count();
        assert!(at_once <= (100.0 * RELAY_BURST.as_secs_f64()) as usize, "{at_once}");
    }

    /// Whatever the machine's load: turns are counted, not time.
    #[tokio::test]
    async fn takers_get_equal_shares_however_eager_they_are() {
        const TAKERS: usize = 5;
        let bandwidth = Arc::new(Bandwidth::new(2_000 * RELAY_QUANTUM as u64));
        let shares: Arc<Vec<AtomicUsize>> = Arc::new((0..TAKERS).map(|_| AtomicUsize::new(0)).collect());
        let all = Arc::new(AtomicUsize::new(0));
        let takers: Vec<_> = (0..TAKERS)
            .map(|taker| {
                let (bandwidth, shares, all) = (bandwidth.clone(), shares.clone(), all.clone());
                tokio::spawn(async move {
                    while all.fetch_add(1, Ordering::Relaxed) < 500 {
                        bandwidth.quantum().await;
                        shares[taker].fetch_add(1, Ordering::Relaxed);
                        // Some are back at once, others let everybody else go first.
                        (0..taker).for_each(|_| std::hint::spin_loop());
                    }
                })
            })
            .collect();
        for taker in takers {
            assert!(taker.await.is_ok());
        }
        let shares: Vec<usize> = shares.iter().map(|share| share.load(Ordering::Relaxed)).collect();
        // The burst may go to whoever runs first; what has to be waited for goes around.
        let burst = (2_000.0 * RELAY_BURST.as_secs_f64()) as usize;
        let least = (500 - burst) / TAKERS - 2;
        assert!(shares.iter().all(|share| *share >= least), "{shares:?}, each at least {least}");
    }
}
