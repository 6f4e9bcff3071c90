//! How long to wait after failures: doubling, bounded, and jittered so that devices which lost the same
//! node come back one after the other, over all of the pause.

use crate::limits::{BACKOFF_FIRST, BACKOFF_LONGEST};
use std::time::Duration;

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure: as much of it as `jitter` (0 to 1) says, a tenth at least. A narrower window, such
    /// as its upper half, has thousands come at twice the rate, and those that find their node too busy for them wait again.
    pub(crate) fn after_failure(&mut self, jitter: f64) -> Duration {
        let doubled = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        doubled.min(BACKOFF_LONGEST).mul_f64(jitter.clamp(0.1, 1.0))
    }

    /// The pause after one more failure.
    pub(crate) fn pause(&mut self) -> Duration {
        self.after_failure(rand::random())
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_start_anew() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.after_failure(1.0), BACKOFF_FIRST);
        assert_eq!(backoff.after_failure(1.0), BACKOFF_FIRST * 2);
        assert_eq!(backoff.after_failure(0.0), (BACKOFF_FIRST * 4).mul_f64(0.1));
        for _ in 0..100 {
            assert!(backoff.after_failure(1.0) <= BACKOFF_LONGEST);
        }
        backoff.reset();
        assert_eq!(backoff.after_failure(1.0), BACKOFF_FIRST);
    }
}
