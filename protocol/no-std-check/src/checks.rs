//! What the program does with `windlass-protocol`: the work of a device that was handed evidence.
//! Each check is an accept and a reject; none reads a clock, a file or a socket.

use windlass_protocol::trie::{self, MemoryStore, TrieId};
use windlass_protocol::{B256, Name, SecretKey, keccak256, parse_address};

extern crate alloc;
use alloc::collections::BTreeMap;
use alloc::vec;

/// The well-known first development key and its address: an answer fixed by others.
const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const ADDRESS: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

/// The number of the first check that failed, 0 when every one holds.
pub fn first_failure() -> i32 {
    let checks: [fn() -> Option<bool>; 3] = [names_and_addresses, signatures, proofs];
    match checks.iter().position(|check| check() != Some(true)) {
        Some(index) => index as i32 + 1,
        None => 0,
    }
}

fn names_and_addresses() -> Option<bool> {
    let wrong_case = "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
    Some(
        "camera-7".parse::<Name>().is_ok()
            && "Camera 7".parse::<Name>().is_err()
            && parse_address(ADDRESS).is_ok()
            && parse_address(wrong_case).is_err(),
    )
}

fn signatures() -> Option<bool> {
    let bytes: B256 = KEY.parse().ok()?;
    let key = SecretKey::from_bytes(&bytes.0).ok()?;
    let digest = keccak256(b"windlass");
    let signature = key.sign(&digest);
    let signer = signature.recover(&digest).ok()?.address();
    let other = signature.recover(&keccak256(b"another")).ok()?.address();
    Some(signer == key.address() && other != signer && signer.0 == parse_address(ADDRESS).ok()?)
}

fn proofs() -> Option<bool> {
    let mut store = MemoryStore::default();
    let leaves: BTreeMap<B256, _> = (0u8..100).map(|n| (keccak256([n]), Some(vec![n | 1; 3]))).collect();
    let root = trie::update(&mut store, TrieId::ZERO, &leaves).ok()?;

    let present = keccak256([42]);
    let proof = trie::prove(&store, TrieId::ZERO, &present).ok()?;
    let absent = keccak256([200]);
    let absence = trie::prove(&store, TrieId::ZERO, &absent).ok()?;
    Some(
        trie::verify_proof(root, &present, &proof).ok()? == Some(vec![43; 3])
            && trie::verify_proof(root, &absent, &absence).ok()?.is_none()
            && trie::verify_proof(root, &present, &proof[..proof.len() - 1]).is_err()
            && trie::verify_proof(keccak256(b"another root"), &present, &proof).is_err(),
    )
}
