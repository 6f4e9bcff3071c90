#![allow(clippy::unwrap_used)]
//! One accept test and a reject test per rule, on bundles over real tries and real signatures.

use super::*;
use crate::authorise::{Ask, Claim, Policy, Refusal, authorise};
use crate::evidence::Evidence;
use crate::grant::{GrantService, GrantTarget, Grantee, grant_id, parties_hash};
use crate::head::tests::attest;
use crate::head::{Committee, HeadError};
use crate::header::tests::header_rlp;
use crate::question::{Question, Target};
use crate::record::{DeviceStatus, NEVER, NameKind, RIGHT_OPEN};
use crate::service::Service;
use crate::spec::tests::{example, verified};
use crate::spec::{ChainSpec, VerifiedSpec};
use crate::trie::{ACCOUNT_TRIE, MemoryStore, encode_slot_value, prove, update};
use alloc::collections::BTreeSet;
use alloc::vec;
use alloy_primitives::{Address, U256};

const NOW: u64 = 1_800_000_000;
const OWN: DeviceId = DeviceId(Address::repeat_byte(1));
const CALLER: DeviceId = DeviceId(Address::repeat_byte(2));
const SERVICE: Service = Service::Stream(8080);

/// A registry with some records and filler, under a state root, with a prover.
struct Chain {
    spec: VerifiedSpec,
    store: MemoryStore,
    header: Vec<u8>,
    records: BTreeMap<Slot, B256>,
}

fn device(id: DeviceId, fleet: u64) -> DeviceRecord {
    DeviceRecord { key: KeyAddress(id.0), fleet, valid_until: NEVER, status: DeviceStatus::Active }
}

fn grant_slot() -> Slot {
    let parties = parties_hash(GrantTarget::Device(OWN), Grantee::Device(CALLER), GrantService::One(SERVICE));
    Slot::Grant(grant_id(7, parties))
}

fn records() -> BTreeMap<Slot, B256> {
    let label = "pump-7".parse::<crate::Name>().unwrap().label_hash();
    let name = NameRecord { target: OWN.0, expiry: NOW + 100, kind: Some(NameKind::Device), version: 1 };
    let fleet = FleetRecord { operator: Address::repeat_byte(9), policy_epoch: 1, nonce: 0, flags: 0 };
    let grant = GrantRecord { expiry: NEVER, policy_epoch: 1, fleet: 7, rights: RIGHT_OPEN };
    let mut records: BTreeMap<Slot, B256> = (100..300u64).map(|n| (Slot::Fleet(n), fleet.encode())).collect();
    records.insert(Slot::Device(OWN), device(OWN, 7).encode());
    records.insert(Slot::Device(CALLER), device(CALLER, 8).encode());
    records.insert(Slot::Fleet(7), fleet.encode());
    records.insert(Slot::Name(label), name.encode());
    records.insert(grant_slot(), grant.encode());
    records
}

impl Chain {
    fn new(number: u64, records: BTreeMap<Slot, B256>) -> Self {
        Self::with_code(number, records, B256::repeat_byte(3))
    }

    fn with_code(number: u64, records: BTreeMap<Slot, B256>, code_hash: B256) -> Self {
        let spec = verified(&ChainSpec { max_finality_lag: 10_000, ..example() });
        let mut store = MemoryStore::default();
        let registry = keccak256(spec.contracts.registry.address);
        let leaves =
            records.iter().map(|(slot, value)| (slot.trie_key(), Some(encode_slot_value(value)))).collect();
        let storage_root = update(&mut store, registry, &leaves).unwrap();
        let account = Account { nonce: 1, balance: U256::ZERO, storage_root, code_hash };
        let mut accounts = BTreeMap::from([(registry, Some(account.encode()))]);
        for byte in 20..60u8 {
            accounts.insert(keccak256([byte]), Some(account.encode()));
        }
        let state_root = update(&mut store, ACCOUNT_TRIE, &accounts).unwrap();
        Self { spec, store, header: header_rlp(number, NOW - 5, state_root), records }
    }

    fn bundle(&self, slots: &[Slot]) -> Bundle {
        let registry = keccak256(self.spec.contracts.registry.address);
        let nodes: BTreeSet<Bytes> =
            slots.iter().flat_map(|slot| prove(&self.store, registry, &slot.trie_key()).unwrap()).collect();
        Bundle {
            header: self.header.clone().into(),
            attestations: vec![
                attest(&self.spec, &self.header, 1, NOW - 2),
                attest(&self.spec, &self.header, 2, NOW - 1),
            ],
            account: prove(&self.store, ACCOUNT_TRIE, &registry).unwrap(),
            storage: nodes.into_iter().collect(),
        }
    }

    fn verify(&self, bundle: &Bundle, slots: &[Slot]) -> Result<VerifiedBundle, BundleError> {
        let committee = Committee::first(&self.spec);
        let trust = Trust { spec: &self.spec, committee: &committee, now: Some(NOW), nonce: None };
        verify_bundle(&trust, bundle, slots)
    }

    fn answer(&self, question: &Question) -> (Bundle, Vec<Slot>) {
        let mut slots = Vec::new();
        question
            .expand(NOW - 5, &mut |slot| {
                slots.push(slot);
                Ok::<_, BundleError>(self.records.get(&slot).copied().unwrap_or_default())
            })
            .unwrap();
        (self.bundle(&slots), slots)
    }
}

#[test]
fn present_and_absent_slots_are_proven() {
    let chain = Chain::new(7, records());
    let slots = [Slot::Device(OWN), Slot::Device(DeviceId(Address::repeat_byte(0xee)))];
    let verified = chain.verify(&chain.bundle(&slots), &slots).unwrap();
    assert_eq!(verified.device(OWN), Ok(Some(device(OWN, 7))));
    assert_eq!(verified.device(DeviceId(Address::repeat_byte(0xee))), Ok(None));
    assert_eq!(verified.fleet(7), Err(BundleError::NotProven(Slot::Fleet(7))));
    assert_eq!(verified.head().age(NOW), 2);
}

#[test]
fn a_missing_node_is_never_absence() {
    let chain = Chain::new(7, records());
    let slots = [Slot::Device(OWN)];
    let whole = chain.bundle(&slots);
    for index in 0..whole.storage.len() {
        let mut cut = whole.clone();
        cut.storage.remove(index);
        assert!(matches!(chain.verify(&cut, &slots), Err(BundleError::Slot { .. })), "node {index}");
    }
    for index in 0..whole.account.len() {
        let mut cut = whole.clone();
        cut.account.truncate(index);
        assert!(matches!(chain.verify(&cut, &slots), Err(BundleError::Account(_))), "node {index}");
    }
}

#[test]
fn nodes_that_serve_no_slot_are_refused() {
    let chain = Chain::new(7, records());
    let bundle = chain.bundle(&[Slot::Device(OWN), Slot::Device(CALLER)]);
    let refused = chain.verify(&bundle, &[Slot::Device(OWN)]);
    assert!(matches!(refused, Err(BundleError::Storage(ProofError::UnusedNode { .. }))));
    let mut twice = chain.bundle(&[Slot::Device(OWN)]);
    twice.storage.push(twice.storage[0].clone());
    let refused = chain.verify(&twice, &[Slot::Device(OWN)]);
    assert!(matches!(refused, Err(BundleError::Storage(ProofError::RepeatedNode { .. }))));
}

/// These bytes with one bit of one of them the other way round: another bit from byte to byte.
fn flipped(bytes: &Bytes, byte: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[byte] ^= 1 << (byte % 8);
    bytes.into()
}

#[test]
fn any_changed_byte_of_the_proofs_is_refused() {
    let chain = Chain::new(7, records());
    let slots = [Slot::Device(OWN)];
    let whole = chain.bundle(&slots);
    for node in 0..whole.storage.len() {
        for byte in 0..whole.storage[node].len() {
            let mut changed = whole.clone();
            changed.storage[node] = flipped(&whole.storage[node], byte);
            assert!(chain.verify(&changed, &slots).is_err());
        }
    }
    for node in 0..whole.account.len() {
        for byte in 0..whole.account[node].len() {
            let mut changed = whole.clone();
            changed.account[node] = flipped(&whole.account[node], byte);
            assert!(matches!(chain.verify(&changed, &slots), Err(BundleError::Account(_))));
        }
    }
    for attestation in 0..whole.attestations.len() {
        let bytes = Bytes::from(rlp::encode(&whole.attestations[attestation]).to_vec());
        for byte in 0..bytes.len() {
            // What is no attestation any more never gets as far as a bundle.
            let Ok(other) = rlp::decode(&flipped(&bytes, byte)) else { continue };
            let mut changed = whole.clone();
            changed.attestations[attestation] = other;
            assert!(matches!(chain.verify(&changed, &slots), Err(BundleError::Head(_))), "byte {byte}");
        }
    }
    for byte in 0..whole.header.len() {
        let mut changed = whole.clone();
        changed.header = flipped(&whole.header, byte);
        assert!(matches!(chain.verify(&changed, &slots), Err(BundleError::Head(_))));
    }
}

#[test]
fn the_proof_of_another_slot_does_not_answer() {
    let chain = Chain::new(7, records());
    let bundle = chain.bundle(&[Slot::Device(CALLER)]);
    assert!(chain.verify(&bundle, &[Slot::Device(OWN)]).is_err());
}

#[test]
fn other_code_at_the_registrys_address_is_refused() {
    let chain = Chain::with_code(7, records(), B256::repeat_byte(4));
    let slots = [Slot::Device(OWN)];
    let refused = chain.verify(&chain.bundle(&slots), &slots);
    let (found, pinned) = (B256::repeat_byte(4), B256::repeat_byte(3));
    assert_eq!(refused.err(), Some(BundleError::CodeHash { found, pinned }));
}

#[test]
fn too_few_attestations_are_refused() {
    let chain = Chain::new(7, records());
    let slots = [Slot::Device(OWN)];
    let mut bundle = chain.bundle(&slots);
    bundle.attestations.truncate(1);
    let refused = chain.verify(&bundle, &slots);
    assert!(matches!(refused, Err(BundleError::Head(HeadError::TooFew { .. }))));
}

#[test]
fn more_slots_than_a_bundle_may_prove_are_refused() {
    let chain = Chain::new(7, records());
    let slots: Vec<Slot> = (100..100 + MAX_BUNDLE_SLOTS as u64 + 1).map(Slot::Fleet).collect();
    let refused = chain.verify(&chain.bundle(&slots), &slots);
    assert!(matches!(refused, Err(BundleError::TooManySlots)));
}

#[test]
fn both_ends_expand_an_open_alike() {
    let chain = Chain::new(7, records());
    let target = Target::Name("pump-7".parse().unwrap());
    let question = Question::Open { target, caller: CALLER, service: SERVICE };
    let (bundle, asked) = chain.answer(&question);
    assert_eq!(asked.len(), 5, "name, target, caller, fleet, and the first candidate, which is valid");
    let committee = Committee::first(&chain.spec);
    let trust = Trust { spec: &chain.spec, committee: &committee, now: Some(NOW), nonce: None };
    let mut open = open_bundle(&trust, &bundle).unwrap();
    question.expand(open.head().header().timestamp, &mut |slot| open.value(slot)).unwrap();
    let verified = open.finish().unwrap();
    assert_eq!(verified.values().len(), 5);
}

#[test]
fn without_a_grant_all_candidates_are_proven_absent() {
    let mut records = records();
    records.remove(&grant_slot());
    let chain = Chain::new(7, records);
    let question = Question::Open { target: Target::Device(OWN), caller: CALLER, service: SERVICE };
    let (bundle, asked) = chain.answer(&question);
    assert_eq!(asked.len(), 3 + 12);
    assert!(chain.verify(&bundle, &asked).is_ok());
    // An answer that leaves the last candidate out proves too little.
    let shorter = chain.bundle(&asked[..asked.len() - 1]);
    assert!(chain.verify(&shorter, &asked).is_err());
}

#[test]
fn an_unenrolled_caller_is_proven_to_be_nobody() {
    let chain = Chain::new(7, records());
    let caller = DeviceId(Address::repeat_byte(0xee));
    let question = Question::Open { target: Target::Device(OWN), caller, service: SERVICE };
    let (bundle, asked) = chain.answer(&question);
    assert_eq!(asked, [Slot::Device(OWN), Slot::Device(caller), Slot::KeyOf(KeyAddress(caller.0))]);
    assert!(chain.verify(&bundle, &asked).is_ok());
}

#[test]
fn a_staple_taken_out_of_an_answer_stands_alone_and_authorises() {
    let chain = Chain::new(7, records());
    let question = Question::Open { target: Target::Device(OWN), caller: CALLER, service: SERVICE };
    let (bundle, asked) = chain.answer(&question);
    let verified = chain.verify(&bundle, &asked).unwrap();
    let slots = [Slot::Device(CALLER), grant_slot()];
    let staple = verified.extract(&slots).unwrap();
    assert!(wire::encode(&staple).len() < MAX_STAPLE_BYTES);
    let stapled = chain.verify(&staple, &slots).unwrap();

    let mut evidence = Evidence::default();
    let own = [Slot::Device(OWN), Slot::Fleet(7)];
    evidence.observe(&chain.verify(&chain.bundle(&own), &own).unwrap());
    evidence.observe(&stapled);
    let policy = Policy::default();
    let ask = Ask {
        policy: &policy,
        service: SERVICE,
        own: OWN,
        own_key: KeyAddress(OWN.0),
        key: KeyAddress(CALLER.0),
        claim: Claim::Granted(CALLER, 0),
    };
    assert!(authorise(&ask, &evidence, NOW).is_ok());

    // A later head revokes the caller: the same staple does not help any more.
    let mut later = records();
    let gone = DeviceRecord { status: DeviceStatus::Revoked, ..device(CALLER, 8) };
    later.insert(Slot::Device(CALLER), gone.encode());
    let later = Chain::new(8, later);
    let slot = [Slot::Device(CALLER)];
    let changed = evidence.observe(&later.verify(&later.bundle(&slot), &slot).unwrap());
    assert_eq!(changed, slot);
    evidence.observe(&stapled);
    assert_eq!(authorise(&ask, &evidence, NOW), Err(Refusal::Revoked));
}

#[test]
fn the_same_root_under_a_newer_head_refreshes_what_was_proven() {
    let chain = Chain::new(7, records());
    let slots = [Slot::Device(OWN)];
    let mut evidence = Evidence::default();
    evidence.observe(&chain.verify(&chain.bundle(&slots), &slots).unwrap());
    let later = Chain::new(9, records());
    evidence.observe(&later.verify(&later.bundle(&[]), &[]).unwrap());
    assert_eq!(evidence.lookup(slots[0]).unwrap().number, 9);
    let mut other = records();
    other.remove(&Slot::Fleet(100));
    let other = Chain::new(11, other);
    evidence.observe(&other.verify(&other.bundle(&[]), &[]).unwrap());
    assert_eq!(evidence.lookup(slots[0]).unwrap().number, 9, "another root proves nothing about this slot");
}

#[test]
fn a_staple_of_an_unproven_slot_cannot_be_made() {
    let chain = Chain::new(7, records());
    let slots = [Slot::Device(OWN)];
    let verified = chain.verify(&chain.bundle(&slots), &slots).unwrap();
    assert_eq!(verified.extract(&[Slot::Fleet(7)]), Err(BundleError::NotProven(Slot::Fleet(7))));
}
