//! The verifier beside a second one (`eth_trie`), on proofs of which half are changed.
//!
//! The second verifier looks nodes up in a pool, so it knows no rule about order, needless nodes or
//! canonical form. Where both speak, ours may only be the stricter one, and only by such a rule.

use super::*;
use alloy_primitives::hex;
use core::panic::AssertUnwindSafe;
use eth_trie::{EthTrie, MemoryDB, Trie};
use proptest::collection::vec as list_of;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};
use std::sync::Arc;

/// A proof, and what it is meant to show.
#[derive(Clone, Debug)]
struct Claim {
    root: B256,
    key: B256,
    proof: Vec<Bytes>,
}

impl Claim {
    fn ours(&self) -> Result<Option<Vec<u8>>, ProofError> {
        verify_proof(self.root, &self.key, &self.proof)
    }

    /// The second verifier's verdict; its panics on malformed trie nodes count as refusals.
    fn theirs(&self) -> Option<Option<Vec<u8>>> {
        let proof = self.proof.iter().map(|node| node.to_vec()).collect();
        let trie = EthTrie::new(Arc::new(MemoryDB::new(true)));
        let verify = || trie.verify_proof(self.root, self.key.as_slice(), proof).ok();
        std::panic::catch_unwind(AssertUnwindSafe(verify)).ok().flatten()
    }

    /// Changes a trie node and then all above it, root included, so that every hash is right again.
    fn change_rehashed(&mut self, level: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let mut before = keccak256(&self.proof[level]);
        let mut node = self.proof[level].to_vec();
        change(&mut node);
        let mut after = keccak256(&node);
        self.proof[level] = node.into();
        for parent in self.proof[..level].iter_mut().rev() {
            let text = hex::encode(&*parent).replace(&hex::encode(before), &hex::encode(after));
            before = keccak256(&*parent);
            *parent = hex::decode(text).unwrap().into();
            after = keccak256(&*parent);
        }
        self.root = after;
    }
}

struct Random(TestRng);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    fn change_bytes(&mut self, node: &mut Vec<u8>) {
        let (at, last) = (self.below(node.len()), node.len() - 1);
        match self.below(7) {
            0 => node[at] ^= 1 << self.below(8),
            1 => node[at] = [0x00, 0x20, 0x80, 0x81, 0xa0, 0xc0][self.below(6)],
            2 => node.insert(at, 0x80),
            3 => drop(node.remove(at)),
            4 => node.truncate(at),
            5 => node.push(0),
            // The value of a branch, or the end of a leaf's.
            _ => node[last] = 5,
        }
    }

    /// One change that a stranger could make, to the claim or to a part of its proof.
    fn mutate(&mut self, claim: &mut Claim, spare: &Bytes) {
        let level = self.below(claim.proof.len());
        match self.below(10) {
            0 => drop(claim.proof.remove(level)),
            1 => claim.proof.insert(level, spare.clone()),
            2 => claim.proof.push(spare.clone()),
            3 => claim.proof.swap(0, level),
            4 => claim.key[self.below(32)] ^= 1 << self.below(8),
            5 => claim.root[self.below(32)] ^= 1 << self.below(8),
            6 => {
                let mut node = claim.proof[level].to_vec();
                self.change_bytes(&mut node);
                claim.proof[level] = node.into();
            }
            _ => claim.change_rehashed(level, |node| self.change_bytes(node)),
        }
    }
}

/// `eth_trie` hands out a one-byte value of 0x80 or more together with its RLP header.
fn same_value(ours: &Option<Vec<u8>>, theirs: &Option<Vec<u8>>) -> bool {
    match (ours.as_deref(), theirs.as_deref()) {
        (Some([byte]), Some([0x81, theirs])) => byte == theirs,
        (ours, theirs) => ours == theirs,
    }
}

#[derive(Debug, Default)]
struct Verdicts {
    both_accept: usize,
    both_refuse: usize,
    ours_stricter: usize,
    accepted_after_mutation: usize,
    refused_by_form: usize,
}

impl Verdicts {
    fn judge(&mut self, claim: &Claim, mutated: bool) {
        match (claim.ours(), claim.theirs()) {
            (Ok(ours), Some(theirs)) => {
                assert!(same_value(&ours, &theirs), "{claim:?}: {ours:?}, {theirs:?}");
                self.both_accept += 1;
                self.accepted_after_mutation += usize::from(mutated);
            }
            (Ok(ours), None) => panic!("only ours believes {claim:?}: {ours:?}"),
            (Err(error), Some(theirs)) => {
                assert!(
                    mutated && by_a_rule_of_ours(error),
                    "only ours refuses {claim:?}: {error}, {theirs:?}"
                );
                self.ours_stricter += 1;
                self.refused_by_form += usize::from(matches!(error, ProofError::Node { .. }));
            }
            (Err(error), None) => {
                assert!(mutated, "both refuse the honest {claim:?}: {error}");
                self.both_refuse += 1;
            }
        }
    }
}

/// Whether the second verifier doesn't know the broken rule: never when something is missing.
fn by_a_rule_of_ours(error: ProofError) -> bool {
    use ProofError::{HashMismatch, Node, UnusedNode};
    matches!(error, HashMismatch { .. } | UnusedNode { .. } | Node { .. })
}

/// Hashed keys as in real tries, and one deep family so that extensions and embedded leaves occur.
fn leaves() -> BTreeMap<B256, Option<Vec<u8>>> {
    let mut leaves = slots(400);
    for last in 0..40_u8 {
        let mut deep = hashed(1);
        deep[31] = last;
        deep[30] = last / 16;
        leaves.insert(deep, Some(Vec::from([last + 1])));
    }
    leaves
}

#[test]
fn a_second_verifier_agrees_on_honest_and_on_changed_proofs() {
    let (store, root) = stored(&leaves());
    let keys: Vec<B256> = leaves().into_keys().chain((1000..1400).map(hashed)).collect();
    let mut random = Random(TestRunner::new(Config::default()).new_rng());
    let mut verdicts = Verdicts::default();
    for round in 0..6000 {
        let key = keys[random.below(keys.len())];
        let mut claim = Claim { root, key, proof: prove(&store, TRIE, &key).unwrap() };
        let mutated = round % 2 == 1;
        if mutated {
            let other = prove(&store, TRIE, &keys[random.below(keys.len())]).unwrap();
            let spare = &other[random.below(other.len())];
            let before = claim.clone();
            random.mutate(&mut claim, spare);
            if (before.root, before.key, &before.proof) == (claim.root, claim.key, &claim.proof) {
                continue;
            }
        }
        verdicts.judge(&claim, mutated);
    }
    std::println!("{verdicts:?}");
    assert!(verdicts.both_accept > 2500 && verdicts.both_refuse > 800, "{verdicts:?}");
    assert!(verdicts.accepted_after_mutation > 100, "{verdicts:?}");
    assert!(verdicts.ours_stricter > 100 && verdicts.refused_by_form > 20, "{verdicts:?}");
}

proptest! {
    #![proptest_config(Config { cases: Config::default().cases * 8, failure_persistence: None, ..Config::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(nodes in list_of(list_of(any::<u8>(), 0..80), 0..4), key: [u8; 32]) {
        let nodes: Vec<Bytes> = nodes.into_iter().map(Bytes::from).collect();
        let root = nodes.first().map_or(EMPTY_ROOT, keccak256);
        let _ = verify_proof(root, &key.into(), &nodes);
        let _ = verify_multiproof(root, &[key.into()], &nodes);
        nodes.iter().for_each(|bytes| {
            let _ = (Account::decode(bytes), decode_slot_value(bytes));
        });
    }

    /// Lists of two and seventeen items, so that the bytes get past the outermost check.
    #[test]
    fn arbitrary_items_never_panic(
        items in list_of(list_of(any::<u8>(), 0..40), 17),
        short: bool,
        key: [u8; 32],
    ) {
        let count = if short { 2 } else { 17 };
        let items: Vec<_> = items[..count].iter().map(|item| string(item)).collect();
        let _ = verify_proof(keccak256(list(&items)), &key.into(), &[list(&items).into()]);
    }
}
