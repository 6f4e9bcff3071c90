//! Roots that Ethereum's other implementations agree on.

use super::*;
use alloy_primitives::{address, b256, bytes};

#[test]
fn empty_root_is_the_hash_of_an_empty_string() {
    assert_eq!(EMPTY_ROOT, keccak256([0x80]));
    assert_eq!(EMPTY_CODE_HASH, keccak256([]));
    assert_eq!(root(&MemoryStore::new(), TRIE), Ok(EMPTY_ROOT));
}

/// ethereum/tests, TrieTests/hex_encoded_securetrie_test.json, test1: five accounts by hashed address.
#[test]
fn accounts_of_the_secure_trie_vector_give_its_root() {
    let accounts = [
        (
            address!("a94f5374fce5edbc8e2a8697c15331677e6ebf0b"),
            bytes!(
                "f848018405f446a7a056e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421a0c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
            ),
        ),
        (
            address!("095e7baea6a6c7c4c2dfeb977efac326af552d87"),
            bytes!(
                "f8440101a056e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421a004bccc5d94f4d1f99aab44369a910179931772f2a5c001c3229f57831c102769"
            ),
        ),
        (
            address!("d2571607e241ecf590ed94b12d87c94babe36db6"),
            bytes!(
                "f8440180a0ba4b47865c55a341a4a78759bb913cd15c3ee8eaf30a62fa8d1c8863113d84e8a0c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
            ),
        ),
        (
            address!("62c01474f089b07dae603491675dc5b5748f7049"),
            bytes!(
                "f8448080a056e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421a0c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
            ),
        ),
        (
            address!("2adc25665018aa1fe0e6bc666dac8fc2697ff9ba"),
            bytes!(
                "f8478083019a59a056e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421a0c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
            ),
        ),
    ];
    let mut store = MemoryStore::new();
    for (address, leaf) in &accounts {
        assert_eq!(Account::decode(leaf).unwrap().encode(), *leaf);
        let change = BTreeMap::from([(keccak256(address), Some(leaf.to_vec()))]);
        update(&mut store, ACCOUNT_TRIE, &change).unwrap();
    }
    let expected = b256!("730a444e08ab4b8dee147c9b232fc52d34a223d600031c1e9d25bfc985cbd797");
    assert_eq!(root(&store, ACCOUNT_TRIE), Ok(expected));
    for (address, leaf) in &accounts {
        let key = keccak256(address);
        let proof = prove(&store, ACCOUNT_TRIE, &key).unwrap();
        assert_eq!(verify_proof(expected, &key, &proof), Ok(Some(leaf.to_vec())));
    }
}

#[test]
fn ordered_roots_are_those_of_alloy() {
    assert_eq!(ordered_root(&[]), EMPTY_ROOT);
    // Around the indexes where RLP gets longer, with items that fit into a parent and some that don't.
    for count in [1, 2, 3, 16, 127, 128, 129, 255, 256, 257, 300] {
        let items: Vec<Vec<u8>> = (0..count).map(|index| alloc::vec![index as u8; index % 60 + 1]).collect();
        assert_eq!(
            ordered_root(&items),
            alloy_trie::root::ordered_trie_root_encoded(&items),
            "{count} items"
        );
    }
}
