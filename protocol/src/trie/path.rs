//! A path of nibbles from the root of a trie, and its hex-prefix form inside trie nodes.
//!
//! Owns the order of paths and the one canonical hex-prefix form; never looks at a trie node.

use alloc::vec::Vec;
use alloy_primitives::B256;
use core::fmt;

/// Nibbles in a whole key: two for each of its 32 bytes.
pub(super) const KEY_NIBBLES: usize = 64;

/// Where a trie node lives: the nibbles from the root down to it, 64 at most.
///
/// Paths are ordered as strings of nibbles, so a path sorts right before everything below it.
// Packed two to a byte from the high half on, the unused rest zero: the derived order (bytes, then
// length) is then exactly the order of the nibble strings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NibblePath {
    packed: [u8; KEY_NIBBLES / 2],
    len: u8,
}

impl NibblePath {
    /// The path of the root: no nibble.
    pub const ROOT: Self = Self { packed: [0; KEY_NIBBLES / 2], len: 0 };

    /// The whole path of a key, all 64 nibbles.
    pub fn from_key(key: &B256) -> Self {
        Self { packed: key.0, len: KEY_NIBBLES as u8 }
    }

    /// Reads one nibble per byte, as [`to_bytes`](Self::to_bytes) writes it. `None` if there are more than
    /// 64 bytes or one is above 15.
    pub fn from_bytes(nibbles: &[u8]) -> Option<Self> {
        if nibbles.len() > KEY_NIBBLES || nibbles.iter().any(|&nibble| nibble > 0x0f) {
            return None;
        }
        let mut path = Self::ROOT;
        nibbles.iter().for_each(|&nibble| path.push(nibble));
        Some(path)
    }

    /// One byte per nibble, from the root on. Sorting these bytes sorts the paths.
    pub fn to_bytes(&self) -> Vec<u8> {
        (0..self.len()).map(|index| self.nibble(index)).collect()
    }

    /// How many nibbles the path has.
    pub fn len(&self) -> usize {
        self.len.into()
    }

    /// Whether this is the path of the root.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The nibble at `index`, which is below the length.
    pub(super) fn nibble(&self, index: usize) -> u8 {
        let byte = self.packed[index / 2];
        if index.is_multiple_of(2) { byte >> 4 } else { byte & 0x0f }
    }

    /// This path and one nibble more. The caller knows that there is room.
    pub(super) fn child(mut self, nibble: u8) -> Self {
        self.push(nibble);
        self
    }

    /// This path followed by `tail`. The caller knows that both fit into 64 nibbles.
    pub(super) fn join(mut self, tail: &Self) -> Self {
        (0..tail.len()).for_each(|index| self.push(tail.nibble(index)));
        self
    }

    /// The first `len` nibbles.
    pub(super) fn prefix(&self, len: usize) -> Self {
        let mut head = Self::ROOT;
        (0..len).for_each(|index| head.push(self.nibble(index)));
        head
    }

    /// What follows the first `from` nibbles.
    pub(super) fn suffix(&self, from: usize) -> Self {
        let mut tail = Self::ROOT;
        (from..self.len()).for_each(|index| tail.push(self.nibble(index)));
        tail
    }

    /// How many leading nibbles both paths share.
    pub(super) fn common(&self, other: &Self) -> usize {
        let shorter = self.len().min(other.len());
        let differing = self.packed.iter().zip(&other.packed).position(|(a, b)| a != b);
        let shared = differing.map_or(KEY_NIBBLES, |byte| {
            2 * byte + usize::from((self.packed[byte] ^ other.packed[byte]) & 0xf0 == 0)
        });
        shared.min(shorter)
    }

    /// Whether `head` leads to this path.
    pub(super) fn starts_with(&self, head: &Self) -> bool {
        self.common(head) == head.len()
    }

    /// Whether this path is what `key` has from nibble `from` on.
    pub(super) fn follows(&self, key: &Self, from: usize) -> bool {
        from + self.len() <= key.len()
            && (0..self.len()).all(|index| self.nibble(index) == key.nibble(from + index))
    }

    /// Appends the path to `out` as the RLP string of its hex-prefix form (yellow paper, appendix C).
    pub(super) fn encode_hex_prefix(&self, leaf: bool, out: &mut Vec<u8>) {
        let odd = self.len() % 2;
        let flag = if leaf { 0x20 } else { 0 };
        let bytes = self.len() / 2 + 1;
        if bytes > 1 {
            // At most 33 bytes, so the short form; a lone byte is below 0x40 and stands for itself.
            out.push(alloy_rlp::EMPTY_STRING_CODE + bytes as u8);
        }
        out.push(if odd == 1 { flag | 0x10 | self.nibble(0) } else { flag });
        out.extend(
            (odd..self.len()).step_by(2).map(|index| self.nibble(index) << 4 | self.nibble(index + 1)),
        );
    }

    /// Reads a hex-prefix form: the path and whether it is a leaf's. `None` if it isn't the canonical form.
    pub(super) fn decode_hex_prefix(bytes: &[u8]) -> Option<(Self, bool)> {
        let (&first, rest) = bytes.split_first()?;
        let (leaf, odd) = match first >> 4 {
            0 => (false, false),
            1 => (false, true),
            2 => (true, false),
            3 => (true, true),
            _ => return None,
        };
        if rest.len() * 2 + usize::from(odd) > KEY_NIBBLES || (!odd && first & 0x0f != 0) {
            return None;
        }
        let mut path = Self::ROOT;
        if odd {
            path.push(first & 0x0f);
            rest.iter().for_each(|&byte| {
                path.push(byte >> 4);
                path.push(byte & 0x0f);
            });
        } else {
            path.packed[..rest.len()].copy_from_slice(rest);
            path.len = 2 * rest.len() as u8;
        }
        Some((path, leaf))
    }

    fn push(&mut self, nibble: u8) {
        let index = self.len();
        self.packed[index / 2] |= if index.is_multiple_of(2) { nibble << 4 } else { nibble };
        self.len += 1;
    }
}

/// The nibbles as hexadecimal digits, nothing for the root.
impl fmt::Display for NibblePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..self.len()).try_for_each(|index| write!(f, "{:x}", self.nibble(index)))
    }
}

impl fmt::Debug for NibblePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NibblePath({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn any_path() -> impl Strategy<Value = Vec<u8>> {
        // Few different nibbles, so that paths share prefixes.
        prop::collection::vec(prop_oneof![0..2_u8, 0..16_u8], 0..=64)
    }

    fn decode(bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
        NibblePath::decode_hex_prefix(bytes).map(|(path, leaf)| (path.to_bytes(), leaf))
    }

    /// The examples of the yellow paper's predecessor, the wiki page on Patricia trees.
    #[test]
    fn hex_prefix_forms_are_the_known_ones() {
        let encode = |nibbles: &[u8], leaf| {
            let mut out = Vec::new();
            NibblePath::from_bytes(nibbles).unwrap().encode_hex_prefix(leaf, &mut out);
            out
        };
        assert_eq!(encode(&[1, 2, 3, 4, 5], false), [0x83, 0x11, 0x23, 0x45]);
        assert_eq!(encode(&[0, 1, 2, 3, 4, 5], false), [0x84, 0x00, 0x01, 0x23, 0x45]);
        assert_eq!(encode(&[0, 15, 1, 12, 11, 8], true), [0x84, 0x20, 0x0f, 0x1c, 0xb8]);
        assert_eq!(encode(&[15, 1, 12, 11, 8], true), [0x83, 0x3f, 0x1c, 0xb8]);
        assert_eq!(encode(&[7], true), [0x37], "a lone byte is its own RLP");
        assert_eq!(encode(&[], true), [0x20]);
    }

    #[test]
    fn other_hex_prefix_forms_are_refused() {
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0x40]), None);
        assert_eq!(decode(&[0x01, 0x23]), None);
        assert_eq!(decode(&[0x2f]), None);
        assert_eq!(decode(&[0x20; 33]).map(|(nibbles, _)| nibbles.len()), Some(64));
        assert_eq!(decode(&[0x20; 34]), None);
        assert_eq!(decode(&[0x30; 32]).map(|(nibbles, _)| nibbles.len()), Some(63));
        assert_eq!(decode(&[0x30; 33]), None);
    }

    #[test]
    fn bytes_that_are_no_path_are_refused() {
        assert_eq!(NibblePath::from_bytes(&[16]), None);
        assert_eq!(NibblePath::from_bytes(&[0; 65]), None);
        assert_eq!(NibblePath::from_bytes(&[15; 64]), Some(NibblePath::from_key(&B256::repeat_byte(0xff))));
    }

    proptest! {
        #[test]
        fn paths_survive_both_codecs(nibbles in any_path(), leaf: bool) {
            let path = NibblePath::from_bytes(&nibbles).unwrap();
            prop_assert_eq!(path.to_bytes(), nibbles.clone());
            let mut rlp = Vec::new();
            path.encode_hex_prefix(leaf, &mut rlp);
            let bytes = alloy_rlp::Header::decode_bytes(&mut rlp.as_slice(), false).unwrap();
            prop_assert_eq!(decode(bytes), Some((nibbles, leaf)));
        }

        #[test]
        fn paths_behave_as_strings_of_nibbles(a in any_path(), b in any_path(), cut in 0..=64_usize) {
            let (left, right) = (NibblePath::from_bytes(&a).unwrap(), NibblePath::from_bytes(&b).unwrap());
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(left == right, a == b);
            let shared = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            prop_assert_eq!(left.common(&right), shared);
            prop_assert_eq!(left.starts_with(&right), a.starts_with(&b));
            let cut = cut.min(a.len());
            let (head, tail) = (left.prefix(cut), left.suffix(cut));
            prop_assert_eq!((head.to_bytes(), tail.to_bytes()), (a[..cut].to_vec(), a[cut..].to_vec()));
            prop_assert_eq!(head.join(&tail), left);
            prop_assert!(tail.follows(&left, cut));
            prop_assert_eq!(right.follows(&left, cut), a[cut..].starts_with(&b));
        }
    }
}
