//! Forged proofs that other verifiers once believed.

use super::*;
use alloc::vec;

/// alloy-trie before 0.9.7: the valid proof of an existing key, cut to any prefix, verified as absence.
#[test]
fn proof_cut_to_a_prefix_is_not_absence() {
    let leaves = slots(600);
    let (store, root) = stored(&leaves);
    let mut cuts = 0;
    for key in leaves.keys() {
        let proof = prove(&store, TRIE, key).unwrap();
        for level in 0..proof.len() {
            let cut = verify_proof(root, key, &proof[..level]);
            assert_eq!(cut, Err(ProofError::Truncated { level }));
            let mut pool = proof.clone();
            pool.remove(level);
            let holed = verify_multiproof(root, &[*key], &pool);
            assert_eq!(holed, Err(ProofError::Truncated { level }));
            cuts += 1;
        }
    }
    assert!(cuts > 1200, "{cuts} cuts");
}

/// The same for the proof of an absent key: less than all of it shows nothing.
#[test]
fn absence_proof_cut_to_a_prefix_is_not_absence() {
    let (store, root) = stored(&slots(600));
    for number in 1000..1200 {
        let proof = prove(&store, TRIE, &hashed(number)).unwrap();
        assert_eq!(verify_proof(root, &hashed(number), &proof), Ok(None));
        for level in 0..proof.len() {
            let cut = verify_proof(root, &hashed(number), &proof[..level]);
            assert_eq!(cut, Err(ProofError::Truncated { level }));
        }
    }
}

/// alloy-trie before 0.9.9: where an attacker chooses a stored value that looks like the reference to a
/// leaf of its own, that leaf appended to the proof verified as the key's value.
#[test]
fn leaf_appended_behind_a_chosen_value_is_refused() {
    let forged = list(&[path(&[], true), string(&[0xff; 40])]);
    let chosen = encode_slot_value(&keccak256(&forged));
    assert_eq!(chosen, reference(&forged), "the value is a reference to the forged leaf");
    let mut leaves = slots(600);
    leaves.insert(hashed(3), Some(chosen.clone()));
    let (store, root) = stored(&leaves);

    let mut proof = prove(&store, TRIE, &hashed(3)).unwrap();
    assert_eq!(verify_proof(root, &hashed(3), &proof), Ok(Some(chosen)));
    let index = proof.len();
    proof.push(forged.into());
    assert_eq!(verify_proof(root, &hashed(3), &proof), Err(ProofError::UnusedNode { index }));
    assert_eq!(verify_multiproof(root, &[hashed(3)], &proof), Err(ProofError::UnusedNode { index }));
}

/// The same forgery in a trie made for it, whose leaf ends early so that the appended one has nibbles left.
#[test]
fn leaf_that_ends_early_is_refused() {
    let forged = list(&[path(&[2; 63], true), string(&[0xff; 32])]);
    let early = list(&[path(&[1], true), string(&reference(&forged))]);
    let mut nibbles = vec![2; 64];
    nibbles[0] = 1;
    let proof = [early.clone().into(), forged.into()];
    let fault = NodeError::PathLength;
    let refused = verify_proof(keccak256(&early), &key(&nibbles), &proof);
    assert_eq!(refused, Err(ProofError::Node { level: 0, fault }));
}

/// A storage leaf is no proof about an account, though both tries look alike.
#[test]
fn proof_under_another_root_is_refused() {
    let (store, root) = stored(&slots(50));
    let (_, other) = stored(&slots(51));
    let proof = prove(&store, TRIE, &hashed(7)).unwrap();
    assert!(verify_proof(root, &hashed(7), &proof).is_ok());
    assert_eq!(verify_proof(other, &hashed(7), &proof), Err(ProofError::HashMismatch { level: 0 }));
    assert_eq!(verify_multiproof(other, &[hashed(7)], &proof), Err(ProofError::Truncated { level: 0 }));
}
