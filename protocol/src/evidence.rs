//! The newest proven value of every slot a device cares about, and how fresh it is.
//!
//! "Never back" lives here: a value proven under an older head never replaces one proven under a newer
//! head. The table is bounded: slots in use are pinned, the others are forgotten when room is needed.

use crate::bundle::VerifiedBundle;
use crate::slot::Slot;
use alloc::collections::BTreeMap;
use alloy_primitives::B256;

/// Slots a table keeps. Beyond it, everything unpinned is forgotten.
pub const MAX_EVIDENCE: usize = 8_192;

/// What is known of one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proven {
    /// The value, zero for a proven absence.
    pub value: B256,
    /// The block it was proven under.
    pub number: u64,
    /// That block's timestamp, Unix seconds.
    pub timestamp: u64,
    /// The latest Unix second at which a threshold of members vouched for a head that has this value.
    pub attested_at: u64,
    storage_root: B256,
    pins: u32,
}

/// What an unfinalised block says of a slot. Nothing proves it: it can make a judgement stricter, never milder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Doubt {
    value: B256,
    /// What was proven when the doubt arose.
    was: B256,
    number: u64,
    until: u64,
}

/// The newest proven values, by slot, and what is in doubt about them.
#[derive(Debug, Default)]
pub struct Evidence {
    slots: BTreeMap<Slot, Proven>,
    /// Of known slots only, so bounded as they are.
    doubts: BTreeMap<Slot, Doubt>,
}

impl Evidence {
    /// Takes in a bundle: newer values replace older ones, and values proven under the same storage root
    /// are as fresh as the bundle's head. Returns the slots whose value changed.
    pub fn observe(&mut self, bundle: &VerifiedBundle) -> alloc::vec::Vec<Slot> {
        let head = bundle.head();
        let mut changed = alloc::vec::Vec::new();
        for (slot, value) in bundle.values() {
            let fresh = Proven {
                value: *value,
                number: head.number(),
                timestamp: head.header().timestamp,
                attested_at: head.attested_at(),
                storage_root: bundle.storage_root(),
                pins: 0,
            };
            if self.replace(*slot, fresh) {
                changed.push(*slot);
            }
        }
        self.refresh(bundle);
        changed
    }

    fn replace(&mut self, slot: Slot, fresh: Proven) -> bool {
        if let Some(known) = self.slots.get_mut(&slot) {
            if fresh.number < known.number {
                return false;
            }
            let changed = known.value != fresh.value;
            let attested_at = if changed || fresh.number > known.number {
                fresh.attested_at
            } else {
                fresh.attested_at.max(known.attested_at)
            };
            *known = Proven { attested_at, pins: known.pins, ..fresh };
            return changed;
        }
        if self.slots.len() >= MAX_EVIDENCE {
            self.slots.retain(|_, proven| proven.pins > 0);
        }
        if self.slots.len() < MAX_EVIDENCE {
            self.slots.insert(slot, fresh);
        }
        true
    }

    /// While the storage root holds, nothing in the registry changed: what was proven under it is proven now.
    fn refresh(&mut self, bundle: &VerifiedBundle) {
        let head = bundle.head();
        for proven in self.slots.values_mut() {
            if proven.storage_root == bundle.storage_root() && proven.number <= head.number() {
                proven.number = head.number();
                proven.timestamp = head.header().timestamp;
                proven.attested_at = proven.attested_at.max(head.attested_at());
            }
        }
    }

    /// Doubts a known slot: block `number`, not final yet, is said to leave `value` in it. Counts until a final head
    /// as high decides, at most until `until` (Unix seconds). False where nothing newer or else than what is proven
    /// is said.
    pub fn doubt(&mut self, slot: Slot, value: B256, number: u64, until: u64) -> bool {
        match self.slots.get(&slot) {
            Some(known) if number > known.number && value != known.value => {
                self.doubts.insert(slot, Doubt { value, was: known.value, number, until });
                true
            }
            _ => false,
        }
    }

    /// Ends the doubts that a head has decided or whose time is over, and says of which slots nothing came of them.
    pub fn settle(&mut self, now: u64) -> alloc::vec::Vec<Slot> {
        let mut unfounded = alloc::vec::Vec::new();
        let slots = &self.slots;
        self.doubts.retain(|slot, doubt| {
            let Some(known) = slots.get(slot) else { return false };
            let decided = known.number >= doubt.number || now >= doubt.until;
            if decided && known.value == doubt.was {
                unfounded.push(*slot);
            }
            !decided
        });
        unfounded
    }

    /// Whether a slot is in doubt.
    pub fn is_doubted(&self, slot: Slot) -> bool {
        self.doubts.contains_key(&slot)
    }

    /// These slots as they would be if all doubts about them were true; `None` if there are none. What is allowed must
    /// be allowed by both.
    pub fn if_doubts_are_true(&self, slots: &[Slot]) -> Option<Self> {
        if !slots.iter().any(|slot| self.is_doubted(*slot)) {
            return None;
        }
        let doubted = |slot: &Slot| {
            let known = self.slots.get(slot)?;
            let value = self.doubts.get(slot).map_or(known.value, |doubt| doubt.value);
            Some((*slot, Proven { value, ..*known }))
        };
        Some(Self { slots: slots.iter().filter_map(doubted).collect(), doubts: BTreeMap::new() })
    }

    /// Whether every slot of a bundle still is as it proves, vouched for at `since` (Unix seconds) or later, and nothing
    /// is said against it.
    pub fn holds(&self, bundle: &VerifiedBundle, since: u64) -> bool {
        bundle.values().iter().all(|(slot, value)| {
            let known = self.slots.get(slot);
            known.is_some_and(|known| known.value == *value && known.attested_at >= since)
                && !self.is_doubted(*slot)
        })
    }

    /// What is known of a slot.
    pub fn lookup(&self, slot: Slot) -> Option<&Proven> {
        self.slots.get(&slot)
    }

    /// Keeps a known slot until [`Evidence::unpin`]; calls nest. False if the slot is not known.
    pub fn pin(&mut self, slot: Slot) -> bool {
        self.slots.get_mut(&slot).map(|proven| proven.pins += 1).is_some()
    }

    /// Ends one [`Evidence::pin`].
    pub fn unpin(&mut self, slot: Slot) {
        if let Some(proven) = self.slots.get_mut(&slot) {
            proven.pins = proven.pins.saturating_sub(1);
        }
    }

    /// How many slots are known.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no slot is known.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn insert(&mut self, slot: Slot, value: B256, number: u64, attested_at: u64) -> bool {
        let storage_root = B256::with_last_byte(number as u8);
        self.replace(
            slot,
            Proven { value, number, timestamp: attested_at, attested_at, storage_root, pins: 0 },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot::Fleet(1);

    #[test]
    fn an_older_head_never_replaces_a_newer_value() {
        let mut evidence = Evidence::default();
        evidence.insert(SLOT, B256::repeat_byte(2), 10, 100);
        assert!(!evidence.insert(SLOT, B256::repeat_byte(1), 9, 200));
        assert_eq!(
            evidence.lookup(SLOT).map(|p| (p.value, p.attested_at)),
            Some((B256::repeat_byte(2), 100))
        );
        assert!(evidence.insert(SLOT, B256::repeat_byte(3), 11, 150));
    }

    #[test]
    fn under_one_head_the_later_word_counts_and_what_is_pinned_stays_so() {
        let mut evidence = Evidence::default();
        let value = B256::repeat_byte(2);
        let attested_at = |evidence: &Evidence| evidence.lookup(SLOT).map(|proven| proven.attested_at);
        evidence.insert(SLOT, value, 10, 100);
        assert!(evidence.pin(SLOT));
        assert!(!evidence.insert(SLOT, value, 10, 90));
        assert_eq!(attested_at(&evidence), Some(100), "somebody vouched for it later than that");
        assert!(!evidence.insert(SLOT, value, 10, 110));
        assert_eq!(attested_at(&evidence), Some(110));
        assert!(!evidence.insert(SLOT, value, 11, 105));
        assert_eq!(attested_at(&evidence), Some(105), "of the newer head nobody said so later");
        for fleet in 2..(2 * MAX_EVIDENCE as u64) {
            evidence.insert(Slot::Fleet(fleet), B256::ZERO, 1, 1);
        }
        assert!(evidence.lookup(SLOT).is_some(), "pinned before it was proven again");
    }

    #[test]
    fn a_doubt_lasts_until_a_head_as_high_or_its_time() {
        let (old, new) = (B256::repeat_byte(1), B256::repeat_byte(2));
        let mut evidence = Evidence::default();
        assert!(!evidence.doubt(SLOT, new, 11, 500), "nothing is known to doubt");
        evidence.insert(SLOT, old, 10, 100);
        assert!(!evidence.doubt(SLOT, new, 10, 500), "that block is decided");
        assert!(!evidence.doubt(SLOT, old, 11, 500), "that is what is proven");
        assert!(evidence.if_doubts_are_true(&[SLOT]).is_none());
        assert!(evidence.doubt(SLOT, new, 12, 500));
        assert_eq!(evidence.lookup(SLOT).map(|proven| proven.value), Some(old), "proven stays proven");
        let doubted = evidence.if_doubts_are_true(&[SLOT]);
        assert_eq!(doubted.and_then(|it| it.lookup(SLOT).map(|it| it.value)), Some(new));
        evidence.insert(SLOT, old, 11, 110);
        assert!(evidence.settle(200).is_empty() && evidence.is_doubted(SLOT));
        // The block is final and left the slot as it was.
        evidence.insert(SLOT, old, 12, 120);
        assert_eq!(evidence.settle(200), [SLOT]);
        assert!(!evidence.is_doubted(SLOT));
        // The block is final and did what was said.
        assert!(evidence.doubt(SLOT, new, 14, 500));
        evidence.insert(SLOT, new, 14, 130);
        assert!(evidence.settle(200).is_empty() && !evidence.is_doubted(SLOT));
        // Nothing ever came of it.
        assert!(evidence.doubt(SLOT, old, u64::MAX, 500));
        assert!(evidence.settle(499).is_empty());
        assert_eq!(evidence.settle(500), [SLOT]);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_is_pinned() {
        let mut evidence = Evidence::default();
        evidence.insert(SLOT, B256::ZERO, 1, 1);
        assert!(evidence.pin(SLOT));
        assert!(!evidence.pin(Slot::Fleet(999_999)));
        for fleet in 2..(2 * MAX_EVIDENCE as u64) {
            evidence.insert(Slot::Fleet(fleet), B256::ZERO, 1, 1);
            assert!(evidence.len() <= MAX_EVIDENCE);
        }
        assert!(evidence.lookup(SLOT).is_some());
        evidence.unpin(SLOT);
        for fleet in 2..(2 * MAX_EVIDENCE as u64) {
            evidence.insert(Slot::Fleet(fleet), B256::ZERO, 1, 1);
        }
        assert!(evidence.lookup(SLOT).is_none());
    }
}
