//! A registry made up in memory: slots, blocks, and a committee that attests them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;
use windlass_client::{DeviceId, Name, SecretKey, Service, VerifiedSpec, verify_spec};
use windlass_protocol::{
    Address, B256, Bytes,
    bundle::Bundle,
    committee::committee_hash,
    grant::{GrantService, GrantTarget, Grantee, grant_id, parties_hash},
    head::Head,
    keccak256,
    record::{DeviceRecord, DeviceStatus, FleetRecord, GrantRecord, NEVER, NameKind, NameRecord, RIGHT_OPEN},
    slot::Slot,
    spec::{ChainSpec, ContractPin, Contracts, FinalityRule, Fraction, SignedSpec},
    trie::{self, ACCOUNT_TRIE, Account, MemoryStore},
};

pub(crate) const FLEET: u64 = 7;
pub(crate) const SERVICE: Service = Service::Stream(8080);
const REGISTRY: Address = Address::repeat_byte(2);
const CODE_HASH: B256 = B256::repeat_byte(3);

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The key made of 32 times this byte; committee members are 1, 2 and 3.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

pub(crate) fn device(seed: u8) -> DeviceId {
    key(seed).address().as_first_key()
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The registry at one block.
#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) timestamp: u64,
    slots: BTreeMap<Slot, B256>,
}

impl Block {
    pub(crate) fn value(&self, slot: Slot) -> B256 {
        self.slots.get(&slot).copied().unwrap_or_default()
    }

    fn header(&self, state_root: B256) -> Bytes {
        let mut stream = rlp::RlpStream::new_list(15);
        let zero = vec![0u8; 32];
        stream.append(&zero).append(&zero).append(&vec![0u8; 20]).append(&state_root.as_slice());
        stream.append(&zero).append(&zero).append(&vec![0u8; 256]).append(&0u8).append(&self.number);
        stream.append(&30_000_000u64).append(&0u8).append(&self.timestamp).append(&Vec::<u8>::new());
        stream.append(&zero).append(&vec![0u8; 8]);
        stream.out().to_vec().into()
    }

    /// Proofs of these slots, attested by these members at this time.
    pub(crate) fn bundle(
        &self,
        spec: &ChainSpec,
        slots: &[Slot],
        members: &[u8],
        attested_at: u64,
    ) -> Bundle {
        self.bundle_over(B256::ZERO, spec, slots, members, attested_at)
    }

    /// The same with signatures over a nonce.
    pub(crate) fn bundle_over(
        &self,
        nonce: B256,
        spec: &ChainSpec,
        slots: &[Slot],
        members: &[u8],
        attested_at: u64,
    ) -> Bundle {
        let mut store = MemoryStore::new();
        let storage = keccak256(REGISTRY);
        let changes =
            self.slots.iter().map(|(slot, value)| (slot.trie_key(), trie::slot_change(value))).collect();
        let storage_root = trie::update(&mut store, storage, &changes).unwrap();
        let account = Account { storage_root, code_hash: CODE_HASH, ..Account::default() };
        let accounts = BTreeMap::from([
            (storage, Some(account.encode())),
            (keccak256(Address::repeat_byte(9)), Some(Account::default().encode())),
        ]);
        let state_root = trie::update(&mut store, ACCOUNT_TRIE, &accounts).unwrap();
        let header = self.header(state_root);
        let head = Head { number: self.number, hash: keccak256(&header), attested_at, nonce };
        let keys: Vec<B256> = slots.iter().map(|slot| slot.trie_key()).collect();
        Bundle {
            header,
            attestations: members.iter().map(|member| head.attest(spec, &key(*member))).collect(),
            account: trie::prove(&store, ACCOUNT_TRIE, &storage).unwrap(),
            storage: trie::prove_all(&store, storage, &keys).unwrap(),
        }
    }
}

/// All blocks so far; the last one is what honest nodes serve.
pub(crate) struct World {
    pub(crate) spec: VerifiedSpec,
    blocks: Mutex<Vec<Block>>,
    height: watch::Sender<u64>,
    /// The epochs that brought a committee of their own, with its keys, ascending.
    committees: Mutex<BTreeMap<u32, Vec<u8>>>,
}

impl World {
    /// Fleet 7 with the devices 20 and 21, the name `lamp` for 20, and a grant of [`SERVICE`] on 20 to 21.
    /// Device 22 is enrolled in fleet 8 without any grant, device 30 nowhere.
    pub(crate) fn new() -> Arc<Self> {
        Self::with(|_| {})
    }

    /// The same under a spec that was changed like this.
    pub(crate) fn with(change: impl FnOnce(&mut ChainSpec)) -> Arc<Self> {
        let block = Block { number: 100, timestamp: now(), slots: BTreeMap::new() };
        let world = Self {
            spec: spec(change),
            blocks: Mutex::new(vec![block]),
            height: watch::Sender::new(100),
            committees: Mutex::new(BTreeMap::from([(0, vec![1, 2, 3])])),
        };
        let active = |seed: u8, fleet| DeviceRecord {
            key: key(seed).address(),
            fleet,
            valid_until: NEVER,
            status: DeviceStatus::Active,
        };
        let fleet = |byte| {
            let operator = Address::repeat_byte(byte);
            FleetRecord { operator, policy_epoch: 1, nonce: 0, flags: 0 }.encode()
        };
        let lamp =
            NameRecord { target: device(20).0, expiry: NEVER, kind: Some(NameKind::Device), version: 1 };
        let grant = GrantRecord { expiry: NEVER, policy_epoch: 1, fleet: FLEET, rights: RIGHT_OPEN };
        let parties = parties_hash(
            GrantTarget::Device(device(20)),
            Grantee::Device(device(21)),
            GrantService::One(SERVICE),
        );
        world.mine([
            (Slot::Fleet(FLEET), fleet(5)),
            (Slot::Fleet(8), fleet(6)),
            (Slot::Device(device(20)), active(20, FLEET).encode()),
            (Slot::Device(device(21)), active(21, FLEET).encode()),
            (Slot::Device(device(22)), active(22, 8).encode()),
            (Slot::Name(name("lamp").label_hash()), lamp.encode()),
            (Slot::Grant(grant_id(FLEET, parties)), grant.encode()),
        ]);
        Arc::new(world)
    }

    /// Adds a block with these changes, zero deleting a slot, and tells watching nodes.
    pub(crate) fn mine(&self, changes: impl IntoIterator<Item = (Slot, B256)>) {
        let mut blocks = self.blocks.lock().unwrap();
        let mut block = blocks.last().unwrap().clone();
        block.number += 1;
        block.timestamp = now();
        block.slots.extend(changes);
        block.slots.retain(|_, value| !value.is_zero());
        self.height.send_replace(block.number);
        blocks.push(block);
    }

    /// Adds a block that is made at this time, perhaps ahead of the clock.
    pub(crate) fn mine_at(&self, timestamp: u64, changes: impl IntoIterator<Item = (Slot, B256)>) {
        self.mine(changes);
        self.blocks.lock().unwrap().last_mut().unwrap().timestamp = timestamp;
    }

    /// A block in the first half of the epoch before proposes a committee of these keys, the next one is in its second
    /// half, and one more in the epoch itself.
    pub(crate) fn replace_committee(&self, epoch: u32, keys: &[u8]) {
        let members = addresses(keys);
        self.committees.lock().unwrap().insert(epoch, keys.to_vec());
        let (start, length) = (self.spec.epoch_start(epoch - 1), self.spec.epoch_length);
        self.mine_at(start, [(Slot::Committee(epoch), committee_hash(&members))]);
        self.mine_at(start + length / 2, []);
        self.mine_at(start + length, []);
    }

    /// These keys sign the heads of this epoch and later ones, and no slot of the registry says so.
    pub(crate) fn elect(&self, epoch: u32, keys: &[u8]) {
        self.committees.lock().unwrap().insert(epoch, keys.to_vec());
    }

    /// The next version of the spec as its publisher signs it, changed like this.
    pub(crate) fn renewed(&self, change: impl FnOnce(&mut ChainSpec)) -> Vec<u8> {
        let mut spec = ChainSpec { version: self.spec.version + 1, date: now(), ..(*self.spec).clone() };
        change(&mut spec);
        SignedSpec::sign(&spec, &key(9)).to_bytes()
    }

    /// The keys of the committee of an epoch, and the first epoch after `epoch` that has another one.
    pub(crate) fn committee(&self, epoch: u32) -> (Vec<u8>, Option<u32>) {
        let committees = self.committees.lock().unwrap();
        let keys = committees.range(..=epoch).next_back().unwrap().1.clone();
        (keys, committees.range(epoch + 1..).next().map(|(epoch, _)| *epoch))
    }

    /// The last block of an epoch's first or second half.
    pub(crate) fn block_of(&self, epoch: u32, second_half: bool) -> Option<Block> {
        let wanted = |block: &&Block| {
            self.spec.epoch_at(block.timestamp) == epoch
                && self.spec.is_second_half(block.timestamp) == second_half
        };
        self.blocks.lock().unwrap().iter().rev().find(wanted).cloned()
    }

    /// Changes a device's status in a new block.
    pub(crate) fn set_status(&self, id: DeviceId, status: DeviceStatus) {
        let record = DeviceRecord::decode(&self.tip().value(Slot::Device(id))).unwrap().unwrap();
        let valid_until = if status == DeviceStatus::Revoked { now() } else { record.valid_until };
        self.mine([(Slot::Device(id), DeviceRecord { status, valid_until, ..record }.encode())]);
    }

    pub(crate) fn tip(&self) -> Block {
        self.blocks.lock().unwrap().last().unwrap().clone()
    }

    /// The block before the last one.
    pub(crate) fn previous(&self) -> Block {
        let blocks = self.blocks.lock().unwrap();
        blocks[blocks.len() - 2].clone()
    }

    pub(crate) fn heights(&self) -> watch::Receiver<u64> {
        self.height.subscribe()
    }
}

/// The addresses of these keys, ascending.
pub(crate) fn addresses(keys: &[u8]) -> Vec<Address> {
    let mut members: Vec<Address> = keys.iter().map(|seed| key(*seed).address().0).collect();
    members.sort();
    members
}

/// A development chain whose committee are the keys 1, 2 and 3; two must attest.
fn spec(change: impl FnOnce(&mut ChainSpec)) -> VerifiedSpec {
    let committee = addresses(&[1, 2, 3]);
    let mut spec = ChainSpec {
        version: 1,
        chain_id: 1337,
        genesis_hash: B256::repeat_byte(1),
        contracts: Contracts {
            registry: ContractPin { address: REGISTRY, code_hash: CODE_HASH },
            ..Contracts::default()
        },
        deploy_block: 1,
        committee,
        head_interval: 1,
        finality: FinalityRule::Tag,
        max_finality_lag: 3_600,
        trusting_period: 604_800,
        epoch_length: 86_400,
        stake_age: 86_400,
        unbonding_period: 1_814_400,
        fault_fraction: Fraction { numerator: 1, denominator: 2 },
        dev: true,
        date: now(),
    };
    change(&mut spec);
    verify_spec(&SignedSpec::sign(&spec, &key(9)).to_bytes(), key(9).address()).unwrap()
}
