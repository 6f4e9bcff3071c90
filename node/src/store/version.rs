//! What stands in the mirror and what stood there before: how versions lie on disk, and how one is read at a height.
//!
//! Both lie apart: the newest state is one point read per slot or trie node, an older one two.

use super::column::number;
use super::family::Family;
use super::{Store, StoreError};
use rocksdb::{DBPinnableSlice, IteratorMode};
use windlass_protocol::B256;
use windlass_protocol::trie::NibblePath;

/// What stands at a key as of some height.
pub(super) struct Standing {
    /// The block that put it there.
    pub(super) since: u64,
    /// Whether nothing newer is there.
    pub(super) newest: bool,
    /// None of them if there is nothing any more.
    pub(super) bytes: Vec<u8>,
}

/// An entry of the past.
pub(super) struct PastEntry {
    pub(super) key: Box<[u8]>,
    /// Whether its block left nothing there.
    pub(super) removed: bool,
}

/// Where a trie node stands: how deep, then the nibbles two to a byte. So the upper levels, which every proof needs,
/// lie together.
pub(super) fn trie_key(path: &NibblePath) -> Vec<u8> {
    let nibbles = path.to_bytes();
    let mut key = Vec::with_capacity(1 + nibbles.len().div_ceil(2));
    key.push(nibbles.len() as u8);
    key.extend(nibbles.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or_default()));
    key
}

/// What stands at a key: since which block, and its bytes, none if there is nothing any more.
pub(super) fn standing(since: u64, bytes: &[u8]) -> Vec<u8> {
    [&since.to_be_bytes()[..], bytes].concat()
}

/// The parts of [`standing`].
pub(super) fn parse_standing(value: &[u8]) -> Option<(u64, &[u8])> {
    let (since, bytes) = value.split_at_checked(8)?;
    Some((number(since)?, bytes))
}

/// The key of what the block at `height` replaced at `key` of `family`. Height first: what nobody reads any more lies
/// together, and so does what a rewind takes back.
pub(super) fn past_key(height: u64, family: Family, key: &[u8]) -> Vec<u8> {
    let mut past = Vec::with_capacity(9 + key.len());
    past.extend_from_slice(&height.to_be_bytes());
    past.push(match family {
        Family::Slot => 0,
        _ => 1,
    });
    past.extend_from_slice(key);
    past
}

/// The parts of a [`past_key`].
pub(super) fn parse_past_key(past: &[u8]) -> Option<(u64, Family, &[u8])> {
    let height = number(past.get(..8)?)?;
    let family = match past.get(8)? {
        0 => Family::Slot,
        1 => Family::Trie,
        _ => return None,
    };
    Some((height, family, &past[9..]))
}

/// What a block replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Former<'a> {
    /// Whether the block left nothing there: a mark that says so can go once nobody reads below.
    pub(super) removed: bool,
    /// What stood there, as [`standing`] has it; `None` for nothing.
    pub(super) stood: Option<&'a [u8]>,
}

impl<'a> Former<'a> {
    const REMOVED: u8 = 1;
    const STOOD: u8 = 2;

    pub(super) fn encode(&self) -> Vec<u8> {
        let removed = if self.removed { Self::REMOVED } else { 0 };
        let stood = if self.stood.is_some() { Self::STOOD } else { 0 };
        [&[removed | stood][..], self.stood.unwrap_or_default()].concat()
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (flags, rest) = bytes.split_first()?;
        let removed = flags & Self::REMOVED != 0;
        match flags & !Self::REMOVED {
            0 if rest.is_empty() => Some(Self { removed, stood: None }),
            Self::STOOD if rest.len() >= 8 => Some(Self { removed, stood: Some(rest) }),
            _ => None,
        }
    }
}

impl Store {
    /// What stands at a key now: since when, and the bytes that [`parse_standing`] takes apart.
    pub(super) fn now(
        &self,
        family: Family,
        key: &[u8],
    ) -> Result<Option<(u64, DBPinnableSlice<'_>)>, StoreError> {
        let value = self.db.get_pinned_cf(&self.family(family), key).map_err(|e| self.disk(e))?;
        let Some(value) = value else { return Ok(None) };
        let (since, _) = parse_standing(&value).ok_or_else(|| self.damaged(family))?;
        Ok(Some((since, value)))
    }

    /// What stood at a key as of `height`. Where it was overwritten since, each block that did left what it replaced.
    pub(super) fn at(&self, family: Family, key: &[u8], height: u64) -> Result<Option<Standing>, StoreError> {
        let Some((mut since, now)) = self.now(family, key)? else { return Ok(None) };
        if since <= height {
            return Ok(Some(Standing { since, newest: true, bytes: now[8..].to_vec() }));
        }
        loop {
            let past = past_key(since, family, key);
            let past = self.db.get_pinned_cf(&self.family(Family::Past), past).map_err(|e| self.disk(e))?;
            // Pruned or taken back meanwhile, which the reader finds out when it checks.
            let Some(past) = past else { return Ok(None) };
            let damaged = || self.damaged(Family::Past);
            let Some(stood) = Former::decode(&past).ok_or_else(damaged)?.stood else { return Ok(None) };
            let (before, bytes) = parse_standing(stood).ok_or_else(damaged)?;
            if before <= height {
                return Ok(Some(Standing { since: before, newest: false, bytes: bytes.to_vec() }));
            }
            // Each is older than the one before, so this ends.
            if before >= since {
                return Err(damaged());
            }
            since = before;
        }
    }

    /// Every slot that has a value at `height`, ascending.
    pub fn slots_at(&self, height: u64) -> Result<Vec<(B256, B256)>, StoreError> {
        let mut slots: Vec<(B256, B256)> = Vec::new();
        for entry in self.db.iterator_cf(&self.family(Family::Slot), IteratorMode::Start) {
            let (key, value) = entry.map_err(|e| self.disk(e))?;
            let damaged = || self.damaged(Family::Slot);
            let slot = B256::try_from(key.as_ref()).map_err(|_| damaged())?;
            let (since, bytes) = parse_standing(&value).ok_or_else(damaged)?;
            let bytes = match since <= height {
                true => bytes.to_vec(),
                false => self.at(Family::Slot, &key, height)?.map_or_else(Vec::new, |found| found.bytes),
            };
            if !bytes.is_empty() {
                slots.push((slot, B256::try_from(bytes.as_slice()).map_err(|_| damaged())?));
            }
        }
        Ok(slots)
    }

    /// The keys of the past up to and including `height`, the oldest first, so many at most.
    pub(super) fn past_up_to(&self, height: u64, most: usize) -> Result<Vec<PastEntry>, StoreError> {
        let mut entries = Vec::new();
        for entry in self.db.iterator_cf(&self.family(Family::Past), IteratorMode::Start).take(most) {
            let (key, former) = entry.map_err(|e| self.disk(e))?;
            let damaged = || self.damaged(Family::Past);
            let (at, _, _) = parse_past_key(&key).ok_or_else(damaged)?;
            if at > height {
                break;
            }
            let removed = Former::decode(&former).ok_or_else(damaged)?.removed;
            entries.push(PastEntry { key, removed });
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn damaged_values_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_past_key(&bytes);
            let _ = parse_standing(&bytes);
            let _ = Former::decode(&bytes);
        }

        #[test]
        fn what_was_replaced_survives(height: u64, removed: bool, stood in prop::option::of(prop::collection::vec(any::<u8>(), 8..90))) {
            let former = Former { removed, stood: stood.as_deref() };
            let encoded = former.encode();
            prop_assert_eq!(Former::decode(&encoded), Some(former));
            let key = past_key(height, Family::Trie, &[1, 2]);
            prop_assert_eq!(parse_past_key(&key), Some((height, Family::Trie, &[1, 2][..])));
        }
    }

    #[test]
    fn no_two_paths_share_a_key_and_upper_ones_lie_together() {
        let key = |nibbles: &[u8]| trie_key(&NibblePath::from_bytes(nibbles).unwrap());
        assert_eq!(key(&[]), [0]);
        assert_eq!((key(&[1]), key(&[1, 0])), (vec![1, 0x10], vec![2, 0x10]));
        assert_eq!(key(&[1, 2, 3]), [3, 0x12, 0x30]);
        assert!(key(&[15]) < key(&[0, 0]));
    }
}
