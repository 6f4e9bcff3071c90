//! The time: nothing else in the client reads the wall clock.
//!
//! A device may have none, or one that was never set. Such a device is *cold*: it believes nothing until its anchor has
//! signed a nonce of its own; from then on it counts on from what was signed.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where the client takes the time from.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch; anything before the chain spec was made counts as no clock at all.
    fn unix_millis(&self) -> u64;

    /// Seconds since the Unix epoch.
    fn unix_seconds(&self) -> u64 {
        self.unix_millis() / 1_000
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_millis(&self) -> u64 {
        // A clock before 1970 is none.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// No clock at all: the device is cold until its anchor has signed a nonce.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoClock;

impl Clock for NoClock {
    fn unix_millis(&self) -> u64 {
        0
    }
}

/// The owner's clock where it is plausible, else the time since an anchored head.
pub(crate) struct Timekeeper {
    clock: Arc<dyn Clock>,
    /// Unix seconds before which no clock is right: when the chain spec was made.
    earliest: u64,
    /// When a head was signed over our nonce, and when that was here.
    anchored: OnceLock<(u64, Instant)>,
}

impl Timekeeper {
    pub(crate) fn new(clock: Arc<dyn Clock>, earliest: u64) -> Self {
        Self { clock, earliest, anchored: OnceLock::new() }
    }

    /// Whether nothing is known of the time.
    pub(crate) fn is_cold(&self) -> bool {
        self.anchored.get().is_none() && self.clock.unix_seconds() < self.earliest
    }

    /// The time is this now, Unix seconds: somebody trusted signed it over our nonce.
    pub(crate) fn anchor(&self, unix_seconds: u64) {
        // The first one counts: later ones can only say the same.
        let _ = self.anchored.set((unix_seconds, Instant::now()));
    }
}

impl Clock for Timekeeper {
    fn unix_millis(&self) -> u64 {
        let own = self.clock.unix_millis();
        match self.anchored.get() {
            // Set meanwhile, or never wrong.
            _ if own / 1_000 >= self.earliest => own,
            Some((at, since)) => {
                let passed = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                at.saturating_mul(1_000).saturating_add(passed)
            }
            None => own,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Set(AtomicU64);

    impl Clock for Arc<Set> {
        fn unix_millis(&self) -> u64 {
            self.0.load(Ordering::Relaxed) * 1_000
        }
    }

    #[test]
    fn a_clock_before_the_spec_is_none_until_somebody_tells_the_time() {
        let set = Arc::<Set>::default();
        let time = Timekeeper::new(Arc::new(set.clone()), 1_000);
        for implausible in [0, 999] {
            set.0.store(implausible, Ordering::Relaxed);
            assert!(time.is_cold(), "{implausible}");
        }
        time.anchor(5_000);
        assert!(!time.is_cold() && (5_000..5_100).contains(&time.unix_seconds()));
        // The owner sets its clock at last.
        set.0.store(6_000, Ordering::Relaxed);
        assert_eq!(time.unix_seconds(), 6_000);
        let right = Timekeeper::new(Arc::new(set), 1_000);
        assert!(!right.is_cold());
    }
}
