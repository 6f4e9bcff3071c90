//! What a bad road does to packets: it delays, loses, reorders, and holds only so many.
//!
//! Decides when each packet comes out; it reads no clock and moves no bytes. The same seed has the same fates.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the road is like.
#[derive(Clone, Copy, Debug)]
pub struct Road {
    /// How long each packet takes.
    pub delay: Duration,
    /// How many in a thousand are lost.
    pub lost_per_mille: u32,
    /// How many in a thousand overtake all others, taking no time at all.
    pub reordered_per_mille: u32,
    /// Packets that are under way at most; more are lost.
    pub most: usize,
}

/// How many packets came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Came out after the delay.
    pub passed: u64,
    /// Lost at random.
    pub lost: u64,
    /// Overtook others that were under way.
    pub reordered: u64,
    /// Lost because the road was full.
    pub crowded: u64,
}

/// Packets under way.
#[derive(Debug)]
pub struct Shaper {
    road: Road,
    random: StdRng,
    under_way: BTreeMap<(Instant, u64), Vec<u8>>,
    count: u64,
    fates: Fates,
}

impl Shaper {
    /// An empty road.
    pub fn new(road: Road, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { road, random, under_way: BTreeMap::new(), count: 0, fates: Fates::default() }
    }

    /// A packet comes in.
    pub fn enter(&mut self, now: Instant, packet: &[u8]) {
        let mut happens = |per_mille: u32| self.random.random_range(0..1000) < per_mille;
        if happens(self.road.lost_per_mille) {
            self.fates.lost += 1;
            return;
        }
        if self.under_way.len() >= self.road.most {
            self.fates.crowded += 1;
            return;
        }
        let overtakes = happens(self.road.reordered_per_mille) && !self.under_way.is_empty();
        let delay = if overtakes { Duration::ZERO } else { self.road.delay };
        match overtakes {
            true => self.fates.reordered += 1,
            false => self.fates.passed += 1,
        }
        self.count += 1;
        self.under_way.insert((now + delay, self.count), packet.to_vec());
    }

    /// When the next packet comes out.
    pub fn next_at(&self) -> Option<Instant> {
        self.under_way.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next packet that is through by now.
    pub fn leave(&mut self, now: Instant) -> Option<Vec<u8>> {
        let next = self.under_way.first_entry().filter(|next| next.key().0 <= now)?;
        Some(next.remove())
    }

    /// What came of all packets so far.
    pub fn fates(&self) -> Fates {
        self.fates
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ROAD: Road =
        Road { delay: Duration::from_millis(40), lost_per_mille: 0, reordered_per_mille: 0, most: 8 };

    #[test]
    fn packets_come_out_in_their_order_after_the_delay_and_no_more_than_there_is_room_for() {
        let (mut shaper, start) = (Shaper::new(ROAD, 1), Instant::now());
        for number in 0..10u8 {
            shaper.enter(start, &[number]);
        }
        assert_eq!(shaper.leave(start + ROAD.delay - Duration::from_millis(1)), None);
        let through: Vec<_> = std::iter::from_fn(|| shaper.leave(start + ROAD.delay)).collect();
        assert_eq!(through, (0..8u8).map(|number| vec![number]).collect::<Vec<_>>());
        assert_eq!(shaper.fates(), Fates { passed: 8, crowded: 2, ..Fates::default() });
    }

    #[test]
    fn so_many_are_lost_and_reordered_as_the_road_says() {
        let road = Road { lost_per_mille: 100, reordered_per_mille: 200, most: 100_000, ..ROAD };
        let (mut shaper, start) = (Shaper::new(road, 2), Instant::now());
        for number in 0..10_000u32 {
            shaper.enter(start, &number.to_be_bytes());
        }
        let fates = shaper.fates();
        assert!((800..1_200).contains(&fates.lost), "{fates:?}");
        assert!((1_500..2_100).contains(&fates.reordered), "{fates:?}");
        assert_eq!(fates.passed + fates.lost + fates.reordered, 10_000);
        let early = std::iter::from_fn(|| shaper.leave(start)).count();
        assert_eq!(early as u64, fates.reordered);
    }
}
