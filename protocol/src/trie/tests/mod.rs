//! Tests across the whole trie: random histories against another implementation, forged proofs, a second
//! verifier, and what an update costs.
#![allow(clippy::unwrap_used)]

extern crate std;

mod chain_vectors;
mod cost;
mod differential;
mod forgeries;
mod histories;
mod rules;

use super::*;
use alloc::{collections::BTreeMap, vec::Vec};
use alloy_primitives::{Bytes, U256, keccak256};

/// The storage trie that tests use when one is enough.
const TRIE: TrieId = B256::repeat_byte(0x77);

/// A hashed key, as real ones are.
fn hashed(number: u64) -> B256 {
    keccak256(number.to_be_bytes())
}

/// Real slot values of different lengths, for the hashed keys below `count`.
fn slots(count: u64) -> BTreeMap<B256, Option<Vec<u8>>> {
    let value = |number: u64| U256::from(number + 1).pow(U256::from(number % 30 + 1)).to_be_bytes().into();
    (0..count).map(|number| (hashed(number), slot_change(&value(number)))).collect()
}

/// A store that holds these leaves in [`TRIE`], and their root.
fn stored(leaves: &BTreeMap<B256, Option<Vec<u8>>>) -> (MemoryStore, B256) {
    let mut store = MemoryStore::new();
    let root = update(&mut store, TRIE, leaves).unwrap();
    (store, root)
}

/// RLP of a string.
fn string(bytes: &[u8]) -> Vec<u8> {
    alloy_rlp::encode(bytes)
}

/// RLP of a list whose items are already RLP.
fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let payload = items.concat();
    let mut rlp = Vec::new();
    alloy_rlp::Header { list: true, payload_length: payload.len() }.encode(&mut rlp);
    rlp.extend_from_slice(&payload);
    rlp
}

/// RLP of a path in hex-prefix form.
fn path(nibbles: &[u8], leaf: bool) -> Vec<u8> {
    let mut rlp = Vec::new();
    NibblePath::from_bytes(nibbles).unwrap().encode_hex_prefix(leaf, &mut rlp);
    rlp
}

/// RLP of a reference: the hash of a trie node, or the node itself when it is short.
fn reference(node: &[u8]) -> Vec<u8> {
    if node.len() < 32 { node.to_vec() } else { string(keccak256(node).as_slice()) }
}

/// RLP of a branch whose children, already references, stand at the given nibbles.
fn branch(children: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let mut items: [Vec<u8>; 17] = core::array::from_fn(|_| string(&[]));
    children.iter().for_each(|(nibble, child)| items[*nibble] = child.clone());
    list(&items)
}

/// A proof of one trie node, which is the root, for a key of these nibbles followed by zeros.
fn verify_root(node: &[u8], nibbles: &[u8]) -> Result<Option<Vec<u8>>, ProofError> {
    verify_proof(keccak256(node), &key(nibbles), &[Bytes::copy_from_slice(node)])
}

/// The key of these nibbles followed by zeros.
fn key(nibbles: &[u8]) -> B256 {
    let nibble = |index: usize| nibbles.get(index).copied().unwrap_or(0);
    B256::from(core::array::from_fn::<u8, 32, _>(|byte| nibble(2 * byte) << 4 | nibble(2 * byte + 1)))
}
