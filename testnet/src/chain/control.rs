//! What a developer decides about a running chain: when blocks are made, what time it is, who may send
//! without a key, and which heights to come back to.
//!
//! Owns these decisions, not their execution. All of them end with the process.

use super::Mining;
use super::limits::{MAX_IMPERSONATED, MAX_SNAPSHOTS, MAX_TIMESTAMP};
use std::collections::{BTreeMap, HashSet};
use windlass_protocol::{Address, B256};

/// Why it can't be decided like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("timestamp {asked} is not after the newest block's, {latest}")]
    NotAfter { asked: u64, latest: u64 },
    #[error("timestamps end with the year 9999, {MAX_TIMESTAMP}")]
    TooLate,
    #[error("too many: at most {most} {what}")]
    TooMany { most: usize, what: &'static str },
}

/// What time it is on the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Seconds the chain is ahead of the system's clock, or behind it.
    offset: i64,
    /// Timestamp of the next block, if it was decided.
    next: Option<u64>,
}

impl Clock {
    /// The time on the chain when the system's clock says `system`.
    pub(crate) fn now(&self, system: u64) -> u64 {
        system.saturating_add_signed(self.offset)
    }

    /// The timestamp that was promised to the next block.
    pub(crate) fn promised(&self) -> Option<u64> {
        self.next
    }

    /// The time for a block made now; a promise is thereby kept, and time goes on from there.
    pub(crate) fn stamp(&mut self, system: u64) -> u64 {
        if let Some(next) = self.next.take() {
            self.offset = next as i64 - system as i64;
        }
        self.now(system)
    }

    /// Puts the clock forward, and gives how far it is ahead altogether.
    pub(crate) fn increase(&mut self, seconds: u64, system: u64) -> Result<i64, ControlError> {
        let later = self.now(system).checked_add(seconds).filter(|later| *later <= MAX_TIMESTAMP);
        later.ok_or(ControlError::TooLate)?;
        self.offset += seconds as i64;
        Ok(self.offset)
    }

    /// Decides the timestamp of the next block.
    pub(crate) fn promise(&mut self, timestamp: u64, latest: u64) -> Result<(), ControlError> {
        if timestamp <= latest {
            return Err(ControlError::NotAfter { asked: timestamp, latest });
        }
        if timestamp > MAX_TIMESTAMP {
            return Err(ControlError::TooLate);
        }
        self.next = Some(timestamp);
        Ok(())
    }
}

/// A height to come back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) height: u64,
    /// Of the block at that height: another one there means that the height is gone.
    pub(crate) hash: B256,
    clock: Clock,
}

/// All decisions.
#[derive(Default)]
pub(crate) struct Control {
    pub(crate) clock: Clock,
    impersonated: HashSet<Address>,
    snapshots: BTreeMap<u64, Snapshot>,
    taken: u64,
}

impl Control {
    /// Lets anybody send as `address`.
    pub(crate) fn impersonate(&mut self, address: Address) -> Result<(), ControlError> {
        if self.impersonated.len() >= MAX_IMPERSONATED && !self.impersonated.contains(&address) {
            return Err(ControlError::TooMany { most: MAX_IMPERSONATED, what: "impersonated accounts" });
        }
        self.impersonated.insert(address);
        Ok(())
    }

    /// Lets nobody send as `address` without its key any more.
    pub(crate) fn stop_impersonating(&mut self, address: Address) {
        self.impersonated.remove(&address);
    }

    /// Whether anybody may send as `address`.
    pub(crate) fn is_impersonated(&self, address: Address) -> bool {
        self.impersonated.contains(&address)
    }

    /// Remembers the block at `height`, and gives the number to come back with.
    pub(crate) fn take_snapshot(&mut self, height: u64, hash: B256) -> u64 {
        if self.snapshots.len() >= MAX_SNAPSHOTS {
            self.snapshots.pop_first();
        }
        self.taken += 1;
        self.snapshots.insert(self.taken, Snapshot { height, hash, clock: self.clock });
        self.taken
    }

    /// The snapshot with this number.
    pub(crate) fn snapshot(&self, id: u64) -> Option<Snapshot> {
        self.snapshots.get(&id).copied()
    }

    /// Goes back to what was decided at the snapshot, which is used up with all that came later.
    pub(crate) fn return_to(&mut self, id: u64, snapshot: Snapshot) {
        self.snapshots.split_off(&id);
        self.clock = snapshot.clock;
    }
}

/// What mining becomes when automatic mining is turned on or off.
pub(crate) fn automine(on: bool, now: Mining) -> Mining {
    match (on, now) {
        (true, _) => Mining::Instant,
        (false, Mining::Instant) => Mining::Manual,
        (false, other) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_where_it_was_put() {
        let mut clock = Clock::default();
        assert_eq!(clock.increase(100, 1_000), Ok(100));
        assert_eq!(clock.stamp(1_000), 1_100);
        assert_eq!(clock.promise(5_000, 1_100), Ok(()));
        assert_eq!(clock.stamp(1_001), 5_000);
        assert_eq!(clock.stamp(1_003), 5_002, "two seconds later");
    }

    #[test]
    fn time_neither_stands_still_nor_leaves_its_bounds() {
        let mut clock = Clock::default();
        assert_eq!(clock.promise(7, 7), Err(ControlError::NotAfter { asked: 7, latest: 7 }));
        assert_eq!(clock.promise(MAX_TIMESTAMP + 1, 7), Err(ControlError::TooLate));
        assert_eq!(clock.increase(u64::MAX, 1_000), Err(ControlError::TooLate));
        assert_eq!(clock.increase(MAX_TIMESTAMP, 1_000), Err(ControlError::TooLate));
        assert_eq!(clock, Clock::default());
    }

    #[test]
    fn a_snapshot_is_used_up_with_the_later_ones() {
        let mut control = Control::default();
        let ids: Vec<_> = (0..3).map(|height| control.take_snapshot(height, B256::ZERO)).collect();
        assert!(control.clock.increase(5, 0).is_ok());
        let snapshot = control.snapshot(ids[1]);
        assert!(snapshot.is_some_and(|snapshot| snapshot.height == 1));
        control.return_to(ids[1], snapshot.unwrap_or_else(|| unreachable!()));
        assert_eq!(control.clock, Clock::default());
        assert!(control.snapshot(ids[0]).is_some());
        assert!(control.snapshot(ids[1]).is_none() && control.snapshot(ids[2]).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut control = Control::default();
        for number in 0..=MAX_SNAPSHOTS as u64 {
            control.take_snapshot(number, B256::ZERO);
        }
        assert_eq!(control.snapshots.len(), MAX_SNAPSHOTS);
        for number in 0..MAX_IMPERSONATED as u64 {
            assert!(control.impersonate(Address::left_padding_from(&number.to_be_bytes())).is_ok());
        }
        assert!(control.impersonate(Address::repeat_byte(0xff)).is_err());
    }
}
