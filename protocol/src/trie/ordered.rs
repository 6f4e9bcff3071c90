//! Roots of lists: the trie from each item's index to the item, of which block headers carry the root.
//!
//! Owns the order of such keys; keeps no trie node.

use super::path::NibblePath;
use super::store::NodeStore;
use super::update::{Change, Update};
use super::{ACCOUNT_TRIE, TrieId};
use alloc::vec::Vec;
use alloy_primitives::B256;
use core::convert::Infallible;

/// Root of the trie from RLP of the index to the item, for transaction and receipt lists. Items are not
/// empty; an empty list has [`EMPTY_ROOT`](super::EMPTY_ROOT).
pub fn ordered_root(items: &[Vec<u8>]) -> B256 {
    // No RLP of an integer is the beginning of another one's, so no branch needs a value here either.
    let mut entries: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(index, item)| Change { key: index_path(index), value: Some(item.as_slice()) })
        .collect();
    entries.sort_unstable_by_key(|entry| entry.key);
    let built = Update { store: &mut Forgetful, trie: ACCOUNT_TRIE }.run(&entries);
    built.expect("a store that does nothing doesn't fail")
}

fn index_path(index: usize) -> NibblePath {
    let key = alloy_rlp::encode(index);
    let nibbles: Vec<u8> = key.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]).collect();
    NibblePath::from_bytes(&nibbles).expect("an index takes 9 bytes of RLP at most")
}

/// Keeps nothing: inserts into an empty trie never read what they wrote.
struct Forgetful;

impl NodeStore for Forgetful {
    type Error = Infallible;

    fn load(&self, _: TrieId, _: &NibblePath) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(None)
    }

    fn store(&mut self, _: TrieId, _: &NibblePath, _: Option<&[u8]>) -> Result<(), Infallible> {
        Ok(())
    }
}
