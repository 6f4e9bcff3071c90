//! The verifier, rule by rule: what it accepts, and one proof for each way to break a rule.

use super::*;
use crate::limits::{MAX_PROOF_BYTES, MAX_PROOF_KEYS, MAX_PROOF_LEVELS, MAX_PROOF_POOL_BYTES};
use alloc::vec;

const VALUE: [u8; 40] = [7; 40];

fn refused(node: &[u8], nibbles: &[u8]) -> NodeError {
    match verify_root(node, nibbles) {
        Err(ProofError::Node { level: 0, fault }) => fault,
        other => panic!("{other:?}"),
    }
}

/// A leaf that takes the last `nibbles` nibbles, all zero.
fn leaf(nibbles: usize) -> Vec<u8> {
    list(&[path(&vec![0; nibbles], true), string(&VALUE)])
}

/// A child of no interest.
fn other_child() -> Vec<u8> {
    string(&[0xaa; 32])
}

#[test]
fn accepts_presence_and_every_kind_of_absence() {
    let below = leaf(61);
    let branch = branch(&[(2, reference(&below)), (3, other_child())]);
    let extension = list(&[path(&[5, 1], false), reference(&branch)]);
    let root = keccak256(&extension);
    let proof: Vec<Bytes> = vec![extension.into(), branch.into(), below.into()];
    let verify = |nibbles: &[u8], nodes: usize| verify_proof(root, &key(nibbles), &proof[..nodes]);

    assert_eq!(verify(&[5, 1, 2], 3), Ok(Some(VALUE.to_vec())));
    assert_eq!(verify(&[5, 1, 2, 9], 3), Ok(None), "the leaf of another key");
    assert_eq!(verify(&[5, 1, 4], 2), Ok(None), "an empty child");
    assert_eq!(verify(&[5, 2, 2], 1), Ok(None), "an extension that leads elsewhere");
    assert_eq!(verify_proof(EMPTY_ROOT, &key(&[1]), &[]), Ok(None), "the empty trie");
    assert_eq!(verify_root(&leaf(64), &[]), Ok(Some(VALUE.to_vec())), "a lone leaf");
}

#[test]
fn accepts_nodes_embedded_in_nodes() {
    // Keys that differ in the last nibbles only, with values of one byte: a branch in an extension in a branch.
    let tail = |nibble: u8| list(&[path(&[nibble], true), string(&[nibble])]);
    let inner = list(&[path(&[9], false), branch(&[(1, tail(3)), (2, tail(4))])]);
    assert!(inner.len() < 32);
    let middle = branch(&[(6, inner), (7, other_child())]);
    let top = list(&[path(&[0; 60], false), reference(&middle)]);
    let proof = [top.clone().into(), middle.into()];
    let verify = |tail: &[u8]| verify_proof(keccak256(&top), &key(&[&[0; 60], tail].concat()), &proof);
    assert_eq!(verify(&[6, 9, 1, 3]), Ok(Some(vec![3])));
    assert_eq!(verify(&[6, 9, 2, 4]), Ok(Some(vec![4])));
    assert_eq!(verify(&[6, 9, 1, 4]), Ok(None));
    assert_eq!(verify(&[6, 9, 5, 4]), Ok(None));
    assert_eq!(verify(&[6, 8, 1, 3]), Ok(None));
}

#[test]
fn refuses_what_is_not_canonical_rlp() {
    use alloy_rlp::Error;
    let key_path = path(&[0; 64], true);
    let cases = [
        (vec![], Error::InputTooShort),
        (vec![0x83, 1, 2, 3], Error::UnexpectedString),
        (vec![0xf8, 0x02, 0x01, 0x02], Error::NonCanonicalSize),
        (vec![0xf9, 0x00, 0x38], Error::LeadingZero),
        (vec![0xc3, 0x01], Error::InputTooShort),
        (list(&[key_path.clone(), vec![0x81, 0x05]]), Error::NonCanonicalSingleByte),
        (list(&[key_path.clone(), vec![0xb8, 0x02, 1, 2]]), Error::NonCanonicalSize),
        (list(&[key_path, vec![0x83, 1, 2]]), Error::InputTooShort),
    ];
    for (node, error) in cases {
        assert_eq!(refused(&node, &[]), NodeError::Rlp(error), "{node:02x?}");
    }
}

#[test]
fn refuses_trailing_bytes() {
    assert_eq!(refused(&[leaf(64), vec![0x80]].concat(), &[]), NodeError::TrailingBytes);
}

#[test]
fn refuses_other_numbers_of_items() {
    for count in [0, 1, 3, 16, 18, 40] {
        assert_eq!(refused(&list(&vec![string(&[]); count]), &[]), NodeError::ItemCount, "{count}");
    }
}

#[test]
fn refuses_paths_not_in_hex_prefix_form() {
    let cases: [&[u8]; 5] = [&[], &[0x40, 0], &[0x21, 0], &[0x05, 0], &[0x20; 34]];
    for case in cases {
        assert_eq!(refused(&list(&[string(case), string(&VALUE)]), &[]), NodeError::HexPrefix, "{case:02x?}");
    }
    assert_eq!(refused(&list(&[list(&[string(&[1])]), string(&VALUE)]), &[]), NodeError::HexPrefix);
    // 65 nibbles, which no key has.
    assert_eq!(refused(&list(&[string(&[0x30; 33]), string(&VALUE)]), &[]), NodeError::HexPrefix);
}

#[test]
fn refuses_empty_things() {
    let child = other_child();
    assert_eq!(refused(&list(&[path(&[], false), child]), &[]), NodeError::EmptyExtension);
    assert_eq!(refused(&list(&[path(&[1], false), string(&[])]), &[1]), NodeError::EmptyChild);
    assert_eq!(refused(&list(&[path(&[0; 64], true), string(&[])]), &[]), NodeError::EmptyValue);
}

#[test]
fn refuses_a_value_that_is_a_list() {
    let node = list(&[path(&[0; 64], true), list(&[string(&VALUE)])]);
    assert_eq!(refused(&node, &[]), NodeError::ListValue);
}

#[test]
fn refuses_a_branch_with_a_value() {
    let children = [(0, other_child()), (1, other_child())];
    let with = |value: Vec<u8>| branch(&[&children[..], &[(16, value)]].concat());
    assert_eq!(refused(&with(string(&[1])), &[5]), NodeError::BranchValue);
    assert_eq!(refused(&with(list(&[])), &[5]), NodeError::BranchValue);
    assert_eq!(verify_root(&with(string(&[])), &[5]), Ok(None));
}

#[test]
fn refuses_a_branch_that_should_have_collapsed() {
    assert_eq!(refused(&branch(&[]), &[5]), NodeError::LoneChild);
    assert_eq!(refused(&branch(&[(4, other_child())]), &[5]), NodeError::LoneChild);
}

#[test]
fn refuses_references_of_other_lengths() {
    for length in [1, 31, 33] {
        let child = string(&vec![0xaa; length]);
        assert_eq!(refused(&branch(&[(0, child.clone()), (1, other_child())]), &[5]), NodeError::Reference);
        assert_eq!(refused(&list(&[path(&[1], false), child]), &[2]), NodeError::Reference);
    }
}

#[test]
fn refuses_embedded_nodes_that_should_be_hashed() {
    let embedded = |bytes: usize| list(&[path(&[0; 3], true), string(&vec![9; bytes - 5])]);
    let (fits, long) = (embedded(31), embedded(32));
    assert_eq!((fits.len(), long.len()), (31, 32));
    let node = |child: Vec<u8>| branch(&[(0, child), (1, other_child())]);
    assert_eq!(verify_root(&node(fits), &[5]), Ok(None));
    assert_eq!(refused(&node(long), &[5]), NodeError::LongEmbedded);
}

#[test]
fn refuses_malformed_nodes_embedded_beside_the_way() {
    let beside = |child: Vec<u8>| branch(&[(0, child), (1, other_child())]);
    assert_eq!(refused(&beside(list(&[])), &[5]), NodeError::ItemCount);
    let empty_value = list(&[path(&[1], true), string(&[])]);
    assert_eq!(refused(&beside(empty_value.clone()), &[5]), NodeError::EmptyValue);
    let deeper =
        list(&[path(&[1], false), branch(&[(0, empty_value), (1, list(&[path(&[1], true), vec![1]]))])]);
    assert!(deeper.len() < 32);
    assert_eq!(refused(&beside(deeper), &[5]), NodeError::EmptyValue);
}

#[test]
fn refuses_hashed_nodes_that_should_be_embedded() {
    let verify = |value: &[u8]| {
        let below = list(&[path(&[0; 43], true), string(value)]);
        let middle = branch(&[(0, string(keccak256(&below).as_slice())), (1, other_child())]);
        let top = list(&[path(&[0; 20], false), reference(&middle)]);
        let (root, length) = (keccak256(&top), below.len());
        (length, verify_proof(root, &B256::ZERO, &[top.into(), middle.into(), below.into()]))
    };
    assert_eq!(verify(&[1; 7]), (32, Ok(Some(vec![1; 7]))));
    let fault = NodeError::ShortHashed;
    assert_eq!(verify(&[1; 6]), (31, Err(ProofError::Node { level: 2, fault })));
}

#[test]
fn refuses_an_extension_without_a_branch_below() {
    let extension = |below: &[u8]| list(&[path(&[0; 2], false), reference(below)]);
    let deeper = list(&[path(&[0; 2], false), other_child()]);
    for below in [leaf(62), deeper] {
        let top = extension(&below);
        let proof = [top.clone().into(), below.into()];
        let refused = verify_proof(keccak256(&top), &B256::ZERO, &proof);
        assert_eq!(refused, Err(ProofError::Node { level: 1, fault: NodeError::ExtensionChild }));
    }
    let embedded = list(&[path(&[0; 3], false), list(&[path(&[1], true), string(&[1])])]);
    assert_eq!(refused(&embedded, &[]), NodeError::ExtensionChild);
}

#[test]
fn refuses_paths_that_do_not_end_with_the_key() {
    assert_eq!(refused(&leaf(63), &[]), NodeError::PathLength);
    assert_eq!(refused(&list(&[path(&[0; 64], false), other_child()]), &[]), NodeError::PathLength);
    // A leaf of 64 nibbles below a branch would be 65 deep.
    let long = leaf(64);
    let top = branch(&[(0, reference(&long)), (1, other_child())]);
    let proof = [top.clone().into(), long.into()];
    let fault = NodeError::PathLength;
    let verdict = verify_proof(keccak256(&top), &B256::ZERO, &proof);
    assert_eq!(verdict, Err(ProofError::Node { level: 1, fault }));
    // So would be the children of a branch at depth 64.
    let bottom = branch(&[(0, other_child()), (1, other_child())]);
    let last = branch(&[(0, reference(&bottom)), (1, other_child())]);
    let top = list(&[path(&[0; 63], false), reference(&last)]);
    let proof = [top.clone().into(), last.into(), bottom.into()];
    let verdict = verify_proof(keccak256(&top), &B256::ZERO, &proof);
    assert_eq!(verdict, Err(ProofError::Node { level: 2, fault }));
}

#[test]
fn refuses_foreign_unordered_needless_and_repeated_nodes() {
    let (store, root) = stored(&slots(600));
    let proof = prove(&store, TRIE, &hashed(1)).unwrap();
    assert!(proof.len() >= 3);
    for level in 0..proof.len() {
        let mut changed = proof.clone();
        let mut node = changed[level].to_vec();
        *node.last_mut().unwrap() ^= 1;
        changed[level] = node.into();
        let verdict = verify_proof(root, &hashed(1), &changed);
        assert_eq!(verdict, Err(ProofError::HashMismatch { level }));
    }
    let mut swapped = proof.clone();
    swapped.swap(0, 1);
    assert_eq!(verify_proof(root, &hashed(1), &swapped), Err(ProofError::HashMismatch { level: 0 }));
    let mut repeated = proof.clone();
    repeated.insert(1, proof[0].clone());
    assert_eq!(verify_proof(root, &hashed(1), &repeated), Err(ProofError::HashMismatch { level: 1 }));
    let index = proof.len();
    let mut needless = proof;
    needless.push(prove(&store, TRIE, &hashed(2)).unwrap()[1].clone());
    assert_eq!(verify_proof(root, &hashed(1), &needless), Err(ProofError::UnusedNode { index }));
    let node = needless.pop().unwrap();
    assert_eq!(verify_proof(EMPTY_ROOT, &hashed(1), &[node]), Err(ProofError::UnusedNode { index: 0 }));
}

#[test]
fn a_pool_proves_several_keys_in_any_order() {
    let leaves = slots(600);
    let (store, root) = stored(&leaves);
    let keys: Vec<B256> = (590..610).map(hashed).collect();
    let mut pool = prove_all(&store, TRIE, &keys).unwrap();
    let expected: Vec<_> = keys.iter().map(|key| leaves.get(key).cloned().flatten()).collect();
    assert_eq!(expected.iter().flatten().count(), 10);
    assert_eq!(verify_multiproof(root, &keys, &pool), Ok(expected.clone()));
    pool.reverse();
    assert_eq!(verify_multiproof(root, &keys, &pool), Ok(expected));
    assert_eq!(verify_multiproof(EMPTY_ROOT, &keys[..2], &[]), Ok(vec![None, None]));
    assert_eq!(verify_multiproof(root, &[], &[]), Ok(vec![]));
}

#[test]
fn a_pool_refuses_needless_missing_and_repeated_nodes() {
    let (store, root) = stored(&slots(600));
    let keys: Vec<B256> = (0..10).map(hashed).collect();
    let pool = prove_all(&store, TRIE, &keys).unwrap();

    for index in 0..pool.len() {
        let mut missing = pool.clone();
        missing.remove(index);
        let verdict = verify_multiproof(root, &keys, &missing);
        assert!(matches!(verdict, Err(ProofError::Truncated { .. })), "{verdict:?}");
        let mut repeated = pool.clone();
        repeated.push(pool[index].clone());
        let verdict = verify_multiproof(root, &keys, &repeated);
        assert_eq!(verdict, Err(ProofError::RepeatedNode { index: pool.len() }));
    }
    // The pool of ten keys holds more than nine of them need.
    let verdict = verify_multiproof(root, &keys[..9], &pool);
    assert!(matches!(verdict, Err(ProofError::UnusedNode { .. })), "{verdict:?}");
    let verdict = verify_multiproof(EMPTY_ROOT, &keys, &pool);
    assert_eq!(verdict, Err(ProofError::UnusedNode { index: 0 }));
    let none = verify_multiproof(root, &[], &pool[..1]);
    assert_eq!(none, Err(ProofError::UnusedNode { index: 0 }));
}

/// A proof of `levels` trie nodes for the key of zeros: branches, then a leaf.
fn deep(levels: usize) -> (B256, Vec<Bytes>) {
    let mut node = leaf(64 - (levels - 1));
    let mut proof: Vec<Bytes> = vec![node.clone().into()];
    for _ in 1..levels {
        node = branch(&[(0, reference(&node)), (1, other_child())]);
        proof.insert(0, node.clone().into());
    }
    (keccak256(&node), proof)
}

#[test]
fn refuses_more_levels_than_the_limit() {
    let (root, proof) = deep(MAX_PROOF_LEVELS);
    assert_eq!(verify_proof(root, &B256::ZERO, &proof), Ok(Some(VALUE.to_vec())));
    assert_eq!(verify_multiproof(root, &[B256::ZERO], &proof), Ok(vec![Some(VALUE.to_vec())]));
    let (root, proof) = deep(MAX_PROOF_LEVELS + 1);
    assert_eq!(verify_proof(root, &B256::ZERO, &proof), Err(ProofError::TooDeep));
    assert_eq!(verify_multiproof(root, &[B256::ZERO], &proof), Err(ProofError::TooDeep));
}

/// Before anything is hashed: needless trie nodes don't hide behind a short walk.
#[test]
fn refuses_oversized_proofs_before_walking() {
    let root = keccak256(leaf(64));
    let padded = |padding: Vec<Bytes>| {
        let proof: Vec<Bytes> = core::iter::once(leaf(64).into()).chain(padding).collect();
        verify_proof(root, &B256::ZERO, &proof)
    };
    let many = |count: usize| vec![Bytes::from(other_child()); count];
    assert_eq!(padded(many(MAX_PROOF_LEVELS - 1)), Err(ProofError::UnusedNode { index: 1 }));
    assert_eq!(padded(many(MAX_PROOF_LEVELS)), Err(ProofError::TooDeep));
    let bytes = MAX_PROOF_BYTES - leaf(64).len();
    assert_eq!(padded(vec![vec![0; bytes].into()]), Err(ProofError::UnusedNode { index: 1 }));
    assert_eq!(padded(vec![vec![0; bytes + 1].into()]), Err(ProofError::TooLarge));
}

/// A leaf for the last `nibbles` nibbles, all zero, that takes exactly `bytes`.
fn heavy(nibbles: usize, bytes: usize) -> Vec<u8> {
    let head = path(&vec![0; nibbles], true);
    let node = list(&[head.clone(), string(&vec![7; bytes - head.len() - 6])]);
    assert_eq!(node.len(), bytes);
    node
}

#[test]
fn refuses_more_bytes_on_a_path_than_the_limit() {
    assert!(verify_root(&heavy(64, MAX_PROOF_BYTES), &[]).is_ok());
    let node = heavy(64, MAX_PROOF_BYTES + 1);
    assert_eq!(verify_root(&node, &[]), Err(ProofError::TooLarge));
    let pool = verify_multiproof(keccak256(&node), &[B256::ZERO], &[node.into()]);
    assert_eq!(pool, Err(ProofError::TooLarge));
}

/// Verifies a pool of a branch and five leaves, all of different sizes, that takes exactly `bytes`.
fn verify_pool_of(bytes: usize) -> Result<usize, ProofError> {
    let branch_bytes = branch(&[0, 1, 2, 3, 4].map(|nibble| (nibble, other_child()))).len();
    let usual = bytes / 5 - 100;
    let mut leaves: Vec<_> = (0..4).map(|more| heavy(63, usual + more)).collect();
    let rest = bytes - branch_bytes - leaves.iter().map(Vec::len).sum::<usize>();
    leaves.push(heavy(63, rest));
    let top = branch(&leaves.iter().map(|leaf| reference(leaf)).enumerate().collect::<Vec<_>>());
    let keys: Vec<B256> = (0..5).map(|nibble| key(&[nibble])).collect();
    let root = keccak256(&top);
    let pool: Vec<Bytes> = core::iter::once(top).chain(leaves).map(Bytes::from).collect();
    assert_eq!(pool.iter().map(|node| node.len()).sum::<usize>(), bytes);
    verify_multiproof(root, &keys, &pool).map(|values| values.iter().flatten().count())
}

#[test]
fn refuses_more_bytes_in_a_pool_than_the_limit() {
    assert_eq!(verify_pool_of(MAX_PROOF_POOL_BYTES), Ok(5));
    assert_eq!(verify_pool_of(MAX_PROOF_POOL_BYTES + 1), Err(ProofError::TooLarge));
}

#[test]
fn refuses_more_nodes_in_a_pool_than_the_limit() {
    let node = |index: usize| Bytes::copy_from_slice(&index.to_be_bytes());
    let pool = |count: usize| ProofPool::new(&(0..count).map(node).collect::<Vec<_>>()).map(|_| ());
    assert_eq!(pool(MAX_PROOF_KEYS * MAX_PROOF_LEVELS), Ok(()));
    assert_eq!(pool(MAX_PROOF_KEYS * MAX_PROOF_LEVELS + 1), Err(ProofError::TooLarge));
}

/// A pool read key by key, as the rules of a look-up ask for more.
#[test]
fn a_pool_answers_one_key_at_a_time() {
    let leaves = slots(600);
    let (store, root) = stored(&leaves);
    let keys: Vec<B256> = (590..610).map(hashed).collect();
    let mut pool = ProofPool::new(&prove_all(&store, TRIE, &keys).unwrap()).unwrap();
    for key in &keys {
        assert!(matches!(pool.all_used(), Err(ProofError::UnusedNode { .. })));
        assert_eq!(pool.path(root, key), Ok(prove(&store, TRIE, key).unwrap()));
        assert_eq!(pool.lookup(root, key), Ok(leaves.get(key).cloned().flatten()));
    }
    assert_eq!(pool.all_used(), Ok(()));
    let elsewhere = (0..500).map(hashed).find(|key| pool.lookup(root, key).is_err()).unwrap();
    assert!(matches!(pool.lookup(root, &elsewhere), Err(ProofError::Truncated { .. })));
    assert!(matches!(pool.path(root, &elsewhere), Err(ProofError::Truncated { .. })));
}

#[test]
fn refuses_more_keys_than_the_limit() {
    let (store, root) = stored(&slots(100));
    let keys: Vec<B256> = (0..=MAX_PROOF_KEYS as u64).map(hashed).collect();
    let pool = prove_all(&store, TRIE, &keys).unwrap();
    assert_eq!(verify_multiproof(root, &keys, &pool), Err(ProofError::TooManyKeys));
    let pool = prove_all(&store, TRIE, &keys[1..]).unwrap();
    assert!(verify_multiproof(root, &keys[1..], &pool).is_ok());
}
