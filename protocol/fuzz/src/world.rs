//! A small registry with a committee whose keys are known: what genuine evidence looks like.

use std::collections::BTreeMap;
use windlass_protocol::bundle::Bundle;
use windlass_protocol::committee::committee_hash;
use windlass_protocol::grant::{GrantService, GrantTarget, Grantee, grant_id, parties_hash};
use windlass_protocol::head::Head;
use windlass_protocol::record::{
    DeviceRecord, DeviceStatus, FleetRecord, GrantRecord, NEVER, NameKind, NameRecord, RIGHT_OPEN,
};
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::{
    ChainSpec, ContractPin, Contracts, FinalityRule, Fraction, SignedSpec, VerifiedSpec, verify_spec,
};
use windlass_protocol::trie::{self, ACCOUNT_TRIE, Account, MemoryStore};
use windlass_protocol::{Address, B256, Bytes, DeviceId, Name, SecretKey, Service, keccak256};

/// When everything is judged, Unix seconds: in the second half of an epoch.
pub(crate) const NOW: u64 = 1_800_028_800;
/// Seconds of an epoch.
pub(crate) const EPOCH: u64 = 86_400;
/// The fleet of the two devices.
pub(crate) const FLEET: u64 = 7;
/// The service that one of them may open.
pub(crate) const SERVICE: Service = Service::Stream(8_080);

const REGISTRY: Address = Address::repeat_byte(2);
const CODE_HASH: B256 = B256::repeat_byte(3);

pub(crate) fn key(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&[byte; 32]).expect("such a number is below the order")
}

pub(crate) fn device(byte: u8) -> DeviceId {
    key(byte).address().as_first_key()
}

pub(crate) fn lamp() -> Name {
    "lamp".parse().expect("a name")
}

pub(crate) fn record(byte: u8) -> DeviceRecord {
    DeviceRecord { key: key(byte).address(), fleet: FLEET, valid_until: NEVER, status: DeviceStatus::Active }
}

pub(crate) fn members(keys: &[u8]) -> Vec<Address> {
    let mut members: Vec<Address> = keys.iter().map(|byte| key(*byte).address().0).collect();
    members.sort_unstable();
    members
}

/// The spec, in some version.
pub(crate) fn spec(version: u64) -> ChainSpec {
    ChainSpec {
        version,
        chain_id: 1_337,
        genesis_hash: B256::repeat_byte(1),
        contracts: Contracts {
            registry: ContractPin { address: REGISTRY, code_hash: CODE_HASH },
            ..Contracts::default()
        },
        deploy_block: 1,
        committee: members(&[1, 2, 3]),
        head_interval: 1,
        finality: FinalityRule::Tag,
        max_finality_lag: 60,
        trusting_period: 7 * EPOCH,
        epoch_length: EPOCH,
        stake_age: EPOCH,
        unbonding_period: 21 * EPOCH,
        fault_fraction: Fraction { numerator: 1, denominator: 2 },
        dev: true,
        date: NOW - EPOCH,
    }
}

/// As its publisher, key 9, signs it.
pub(crate) fn signed(version: u64) -> Vec<u8> {
    SignedSpec::sign(&spec(version), &key(9)).to_bytes()
}

pub(crate) fn verified() -> VerifiedSpec {
    verify_spec(&signed(1), key(9).address()).expect("signed by its publisher")
}

/// Devices 20 and 21 in one fleet, a name for 20, a grant of [`SERVICE`] to 21, and the next epoch's committee.
fn slots() -> BTreeMap<Slot, B256> {
    let fleet = FleetRecord { operator: Address::repeat_byte(5), policy_epoch: 1, nonce: 0, flags: 0 };
    let name = NameRecord { target: device(20).0, expiry: NEVER, kind: Some(NameKind::Device), version: 1 };
    let grant = GrantRecord { expiry: NEVER, policy_epoch: 1, fleet: FLEET, rights: RIGHT_OPEN };
    let parties = parties_hash(
        GrantTarget::Device(device(20)),
        Grantee::Device(device(21)),
        GrantService::One(SERVICE),
    );
    BTreeMap::from([
        (Slot::Fleet(FLEET), fleet.encode()),
        (Slot::Device(device(20)), record(20).encode()),
        (Slot::Device(device(21)), record(21).encode()),
        (Slot::Name(lamp().label_hash()), name.encode()),
        (Slot::Grant(grant_id(FLEET, parties)), grant.encode()),
        (Slot::Committee(epoch() + 1), committee_hash(&members(&[4, 5, 6]))),
    ])
}

/// The epoch that [`NOW`] is in.
pub(crate) fn epoch() -> u32 {
    u32::try_from(NOW / EPOCH).expect("before the year ten million")
}

/// The value of a slot.
pub(crate) fn value(slot: Slot) -> B256 {
    slots().get(&slot).copied().unwrap_or_default()
}

/// Proofs of these slots under a block made now, attested by two of three.
pub(crate) fn bundle(proven: &[Slot]) -> Bundle {
    let mut store = MemoryStore::new();
    let storage = keccak256(REGISTRY);
    let changes = slots().iter().map(|(slot, value)| (slot.trie_key(), trie::slot_change(value))).collect();
    let storage_root = trie::update(&mut store, storage, &changes).expect("a fresh trie");
    let account = Account { storage_root, code_hash: CODE_HASH, ..Account::default() };
    let accounts = BTreeMap::from([
        (storage, Some(account.encode())),
        (keccak256(Address::repeat_byte(9)), Some(Account::default().encode())),
    ]);
    let state_root = trie::update(&mut store, ACCOUNT_TRIE, &accounts).expect("a fresh trie");
    let header = header(state_root);
    let head = Head { number: 100, hash: keccak256(&header), attested_at: NOW, nonce: B256::ZERO };
    let keys: Vec<B256> = proven.iter().map(|slot| slot.trie_key()).collect();
    Bundle {
        attestations: [1, 2].map(|member| head.attest(&spec(1), &key(member))).to_vec(),
        header,
        account: trie::prove(&store, ACCOUNT_TRIE, &storage).expect("it is there"),
        storage: trie::prove_all(&store, storage, &keys).expect("all of the trie is there"),
    }
}

fn header(state_root: B256) -> Bytes {
    let mut stream = rlp::RlpStream::new_list(15);
    let zero = vec![0_u8; 32];
    stream.append(&zero).append(&zero).append(&vec![0_u8; 20]).append(&state_root.as_slice());
    stream.append(&zero).append(&zero).append(&vec![0_u8; 256]).append(&0_u8).append(&100_u64);
    stream.append(&30_000_000_u64).append(&0_u8).append(&NOW).append(&Vec::<u8>::new());
    stream.append(&zero).append(&vec![0_u8; 8]);
    stream.out().to_vec().into()
}
