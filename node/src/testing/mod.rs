//! For this crate's tests: a chain spec with a committee whose keys are known, a chain that answers as told,
//! and a mirror of it that is served.

// The tests of the whole process use this, too, and each uses another part of it.
#![allow(clippy::unwrap_used, dead_code)]

pub(crate) mod device;
pub(crate) mod rpc;

use crate::chain::{Answer, Block, ChainSource, Change, CrossCheck, SourceError};
use crate::follower::Follower;
use crate::head::{Attester, Heard, KnownLineage, Lineage, ServedHead};
use crate::store::{Position, Store};
use alloy::consensus::Header as ConsensusHeader;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use windlass_protocol::bundle::verify_account;
use windlass_protocol::head::Head;
use windlass_protocol::message::head::HeadMessage;
use windlass_protocol::spec::{
    ChainSpec, ContractPin, Contracts, FinalityRule, Fraction, SignedSpec, VerifiedSpec, verify_spec,
};
use windlass_protocol::trie::{self, ACCOUNT_TRIE, Account, MemoryStore, slot_change};
use windlass_protocol::{Address, B256, Bytes, KeyAddress, SecretKey, U256, keccak256};

pub(crate) const REGISTRY: Address = Address::repeat_byte(0x11);
const CODE_HASH: B256 = B256::repeat_byte(0xcc);

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

pub(crate) fn publisher() -> SecretKey {
    key(0x50)
}

/// A spec with a committee of this many, and the members' keys.
pub(crate) fn spec(members: u8) -> (VerifiedSpec, Vec<SecretKey>) {
    spec_with(members, |_| {})
}

pub(crate) fn spec_with(members: u8, change: impl FnOnce(&mut ChainSpec)) -> (VerifiedSpec, Vec<SecretKey>) {
    let keys: Vec<SecretKey> = (1..=members).map(key).collect();
    let mut committee: Vec<Address> = keys.iter().map(|key| key.address().0).collect();
    committee.sort_unstable();
    let mut spec = ChainSpec {
        version: 1,
        chain_id: 1_337,
        genesis_hash: FakeChain::new().hash(0),
        contracts: Contracts {
            registry: ContractPin { address: REGISTRY, code_hash: CODE_HASH },
            ..Contracts::default()
        },
        deploy_block: 1,
        committee,
        head_interval: 1,
        finality: FinalityRule::Tag,
        max_finality_lag: 1 << 40,
        trusting_period: 7 * 86_400,
        epoch_length: 86_400,
        stake_age: 0,
        unbonding_period: 0,
        fault_fraction: Fraction { numerator: 1, denominator: 2 },
        dev: true,
        date: 0,
    };
    change(&mut spec);
    let bytes = SignedSpec::sign(&spec, &publisher()).to_bytes();
    (verify_spec(&bytes, publisher().address()).unwrap(), keys)
}

/// The spec's committee in office for ever.
pub(crate) fn lineage(spec: &VerifiedSpec) -> KnownLineage {
    let (known, lineage) = watch::channel(Arc::new(Lineage::lasting(spec)));
    // Whoever asks for changes is told that there are none, not that it is over.
    std::mem::forget(known);
    lineage
}

/// A signed spec as in a file, and its publisher.
pub(crate) fn signed_spec() -> (Vec<u8>, KeyAddress) {
    let (spec, _) = spec(3);
    (spec_bytes(&spec), publisher().address())
}

/// A spec's bytes as in a file.
pub(crate) fn spec_bytes(spec: &VerifiedSpec) -> Vec<u8> {
    SignedSpec::sign(spec, &publisher()).to_bytes()
}

/// One made-up block and all that is known of its state.
#[derive(Clone)]
struct FakeBlock {
    block: Block,
    changes: Vec<Change>,
    slots: BTreeMap<B256, B256>,
    account: Vec<Bytes>,
}

#[derive(Default)]
struct Script {
    blocks: HashMap<B256, FakeBlock>,
    canonical: Vec<B256>,
    finalized: u64,
    forks: u64,
    /// How many blocks behind its newest the provider claims to be.
    lag: usize,
    /// How many of the next answers with logs leave out the last one, or repeat the first.
    drop_logs: usize,
    repeat_logs: usize,
    /// The same of ranges of blocks.
    drop_ranges: usize,
    /// How many of the next answers with logs say another value than the chain has.
    forge_logs: usize,
    /// How many of the next account proofs can't be had, or have a bit flipped.
    withheld_accounts: usize,
    forge_accounts: usize,
    /// How many answers, of whatever kind, are failures, and after how many good ones.
    failures: usize,
    good_before: usize,
    distrusted: usize,
    /// What another provider, otherwise silent, calls final.
    confirmed_elsewhere: Option<Position>,
    /// How many more providers than this one agree with it.
    followers: usize,
    /// How many have another block than it at every final height.
    dissenters: usize,
    largest_range: u64,
}

/// A chain whose blocks are made by the test.
pub(crate) struct FakeChain(Mutex<Script>);

impl FakeChain {
    /// A chain of the genesis block alone.
    pub(crate) fn new() -> Arc<Self> {
        let chain = Self(Mutex::new(Script { largest_range: u64::MAX, ..Script::default() }));
        chain.extend(Vec::new());
        Arc::new(chain)
    }

    /// Becomes another chain, of the same height: as when a provider is started anew.
    pub(crate) fn replace(&self) {
        let height = self.height();
        {
            let mut script = self.0.lock().unwrap();
            script.canonical.clear();
            script.forks += 1;
        }
        for _ in 0..=height {
            self.extend(Vec::new());
        }
    }

    /// Adds a block with these changes on top.
    pub(crate) fn extend(&self, changes: Vec<Change>) {
        let mut script = self.0.lock().unwrap();
        let parent = script.canonical.last().map(|hash| script.blocks[hash].clone());
        let number = script.canonical.len() as u64;
        let mut slots = parent.as_ref().map(|parent| parent.slots.clone()).unwrap_or_default();
        for (slot, value) in &changes {
            match value.is_zero() {
                true => slots.remove(slot),
                false => slots.insert(*slot, *value),
            };
        }
        let (state_root, account) = account(&slots);
        let header = ConsensusHeader {
            number,
            parent_hash: parent.map_or(B256::ZERO, |parent| parent.block.header.hash),
            state_root,
            timestamp: 1_000_000 + number,
            base_fee_per_gas: Some(7),
            extra_data: script.forks.to_be_bytes().to_vec().into(),
            ..ConsensusHeader::default()
        };
        let block = Block::decode(alloy_rlp::encode(&header).into()).unwrap();
        script.canonical.push(block.header.hash);
        script.blocks.insert(block.header.hash, FakeBlock { block, changes, slots, account });
    }

    /// Takes blocks off, none of them final; those made next are others.
    pub(crate) fn reorg(&self, depth: usize) {
        let mut script = self.0.lock().unwrap();
        let keep =
            (script.canonical.len() - depth.min(script.canonical.len())).max(script.finalized as usize + 1);
        script.canonical.truncate(keep);
        script.forks += 1;
    }

    /// Takes blocks off, final ones too: what no honest chain does.
    pub(crate) fn break_finality(&self, height: u64) {
        let mut script = self.0.lock().unwrap();
        script.canonical.truncate(height as usize + 1);
        script.finalized = height;
        script.forks += 1;
    }

    /// What is canonical and how much of it is final, to come back to.
    pub(crate) fn image(&self) -> (Vec<B256>, u64) {
        let script = self.0.lock().unwrap();
        (script.canonical.clone(), script.finalized)
    }

    /// Comes back to it.
    pub(crate) fn restore(&self, image: (Vec<B256>, u64)) {
        let mut script = self.0.lock().unwrap();
        (script.canonical, script.finalized) = image;
    }

    pub(crate) fn finalise(&self, blocks: u64) {
        let mut script = self.0.lock().unwrap();
        script.finalized = (script.finalized + blocks).min(script.canonical.len() as u64 - 1);
    }

    pub(crate) fn finalised(&self) -> u64 {
        self.0.lock().unwrap().finalized
    }

    pub(crate) fn height(&self) -> u64 {
        self.0.lock().unwrap().canonical.len() as u64 - 1
    }

    pub(crate) fn lag(&self, blocks: usize) {
        self.0.lock().unwrap().lag = blocks;
    }

    pub(crate) fn drop_logs(&self, answers: usize) {
        self.0.lock().unwrap().drop_logs = answers;
    }

    pub(crate) fn drop_ranges(&self, answers: usize) {
        self.0.lock().unwrap().drop_ranges = answers;
    }

    pub(crate) fn repeat_logs(&self, answers: usize) {
        self.0.lock().unwrap().repeat_logs = answers;
    }

    pub(crate) fn forge_logs(&self, answers: usize) {
        self.0.lock().unwrap().forge_logs = answers;
    }

    pub(crate) fn forge_accounts(&self, answers: usize) {
        self.0.lock().unwrap().forge_accounts = answers;
    }

    pub(crate) fn fail(&self, answers: usize) {
        let mut script = self.0.lock().unwrap();
        (script.failures, script.good_before) = (answers, 0);
    }

    /// After so many good answers every one fails, until told otherwise.
    pub(crate) fn fail_after(&self, answers: usize) {
        let mut script = self.0.lock().unwrap();
        (script.failures, script.good_before) = (usize::MAX, answers);
    }

    /// Whether this answer is a failure.
    fn failing(&self) -> Answer<()> {
        let mut script = self.0.lock().unwrap();
        if script.failures > 0 && script.good_before > 0 {
            script.good_before -= 1;
            return Ok(());
        }
        match script.failures.checked_sub(1) {
            Some(left) => {
                script.failures = left;
                Err(SourceError::Unavailable("the provider fails".to_owned()))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn withhold_accounts(&self, answers: usize) {
        self.0.lock().unwrap().withheld_accounts = answers;
    }

    pub(crate) fn limit_ranges(&self, blocks: u64) {
        self.0.lock().unwrap().largest_range = blocks;
    }

    /// From now on another provider, otherwise silent, calls this block final.
    pub(crate) fn confirm(&self, position: Position) {
        self.0.lock().unwrap().confirmed_elsewhere = Some(position);
    }

    /// From now on there are so many more providers, each with another block at every final height.
    pub(crate) fn contradict(&self, others: usize) {
        self.0.lock().unwrap().dissenters = others;
    }

    /// From now on there are so many more providers, which agree with this one.
    pub(crate) fn agree(&self, others: usize) {
        self.0.lock().unwrap().followers = others;
    }

    pub(crate) fn distrusted(&self) -> usize {
        self.0.lock().unwrap().distrusted
    }

    /// Proofs of storage keys after the block with this hash: each with its value and its trie nodes.
    pub(crate) fn prove(&self, hash: B256, keys: &[B256]) -> Vec<(B256, B256, Vec<Bytes>)> {
        let slots = self.slots_of(hash).unwrap_or_default();
        let mut store = MemoryStore::new();
        let trie = keccak256(REGISTRY);
        let changes = slots.iter().map(|(slot, value)| (keccak256(slot), slot_change(value))).collect();
        trie::update(&mut store, trie, &changes).unwrap();
        let prove = |key: &B256| {
            let nodes = trie::prove(&store, trie, &keccak256(key)).unwrap();
            (*key, slots.get(key).copied().unwrap_or_default(), nodes)
        };
        keys.iter().map(prove).collect()
    }

    /// The hash of a canonical block.
    pub(crate) fn hash(&self, number: u64) -> B256 {
        self.0.lock().unwrap().canonical[number as usize]
    }

    /// A canonical block with the proof of the registry's account and the root it shows.
    pub(crate) fn proven(&self, number: u64) -> (Block, Vec<Bytes>, B256) {
        let script = self.0.lock().unwrap();
        let fake = &script.blocks[&script.canonical[number as usize]];
        let pin = ContractPin { address: REGISTRY, code_hash: CODE_HASH };
        let account = verify_account(&pin, fake.block.header.state_root, &fake.account).unwrap();
        (fake.block.clone(), fake.account.clone(), account.storage_root)
    }

    /// What the registry held after the block with this hash, canonical or not.
    pub(crate) fn slots_of(&self, hash: B256) -> Option<BTreeMap<B256, B256>> {
        self.0.lock().unwrap().blocks.get(&hash).map(|fake| fake.slots.clone())
    }

    /// What the registry holds at a canonical height.
    pub(crate) fn slots(&self, number: u64) -> BTreeMap<B256, B256> {
        let script = self.0.lock().unwrap();
        script.blocks[&script.canonical[number as usize]].slots.clone()
    }

    fn at(&self, number: u64) -> Option<Block> {
        let script = self.0.lock().unwrap();
        let visible = script.canonical.len().saturating_sub(script.lag).max(1);
        let hash = script.canonical[..visible].get(number as usize)?;
        Some(script.blocks[hash].block.clone())
    }
}

fn account(slots: &BTreeMap<B256, B256>) -> (B256, Vec<Bytes>) {
    let mut store = MemoryStore::new();
    let trie = keccak256(REGISTRY);
    let changes = slots.iter().map(|(slot, value)| (keccak256(slot), slot_change(value))).collect();
    let storage_root = trie::update(&mut store, trie, &changes).unwrap();
    let registry = Account { nonce: 1, balance: U256::ZERO, storage_root, code_hash: CODE_HASH };
    let other = Account { nonce: 7, ..Account::default() };
    let accounts =
        BTreeMap::from([(trie, Some(registry.encode())), (keccak256(Address::ZERO), Some(other.encode()))]);
    let state_root = trie::update(&mut store, ACCOUNT_TRIE, &accounts).unwrap();
    (state_root, trie::prove(&store, ACCOUNT_TRIE, &trie).unwrap())
}

fn unknown(what: impl std::fmt::Display) -> SourceError {
    SourceError::Unavailable(format!("no block {what}"))
}

impl ChainSource for FakeChain {
    async fn latest(&self) -> Answer<Block> {
        self.failing()?;
        let newest = self.height().saturating_sub(self.0.lock().unwrap().lag as u64);
        self.at(newest).ok_or_else(|| unknown("at all"))
    }

    async fn finalized(&self) -> Answer<Option<Block>> {
        self.failing()?;
        let newest = self.height().saturating_sub(self.0.lock().unwrap().lag as u64);
        Ok(self.at(self.finalised().min(newest)))
    }

    async fn by_number(&self, number: u64) -> Answer<Option<Block>> {
        self.failing()?;
        Ok(self.at(number))
    }

    async fn by_hash(&self, hash: B256) -> Answer<Block> {
        self.failing()?;
        let script = self.0.lock().unwrap();
        script.blocks.get(&hash).map(|fake| fake.block.clone()).ok_or_else(|| unknown(hash))
    }

    async fn changes(&self, hash: B256) -> Answer<Vec<Change>> {
        self.failing()?;
        let mut script = self.0.lock().unwrap();
        let mut changes =
            script.blocks.get(&hash).map(|fake| fake.changes.clone()).ok_or_else(|| unknown(hash))?;
        if script.drop_logs > 0 && changes.pop().is_some() {
            script.drop_logs -= 1;
        }
        if script.forge_logs > 0
            && let Some((_, value)) = changes.last_mut()
        {
            *value = B256::from(value.0.map(|byte| byte ^ 0x40));
            script.forge_logs -= 1;
        }
        if script.repeat_logs > 0
            && let Some(last) = changes.last().copied()
        {
            changes.push(last);
            script.repeat_logs -= 1;
        }
        Ok(changes)
    }

    async fn changes_between(&self, from: u64, to: u64) -> Answer<Vec<Change>> {
        self.failing()?;
        let mut script = self.0.lock().unwrap();
        if to - from >= script.largest_range {
            return Err(SourceError::TooMuch { url: "fake".to_owned(), reason: "limit exceeded".to_owned() });
        }
        let range = script.canonical.get(from as usize..=to as usize).ok_or_else(|| unknown(to))?;
        let mut changes: Vec<Change> =
            range.iter().flat_map(|hash| script.blocks[hash].changes.clone()).collect();
        if script.drop_ranges > 0 && changes.pop().is_some() {
            script.drop_ranges -= 1;
        }
        Ok(changes)
    }

    async fn account(&self, hash: B256) -> Answer<Vec<Bytes>> {
        self.failing()?;
        let mut script = self.0.lock().unwrap();
        if script.withheld_accounts > 0 {
            script.withheld_accounts -= 1;
            return Err(unknown("state"));
        }
        let fake = script.blocks.get(&hash).ok_or_else(|| unknown(hash))?;
        let mut account = fake.account.clone();
        if script.forge_accounts > 0
            && let Some(leaf) = account.last_mut()
        {
            let mut forged = leaf.to_vec();
            *forged.last_mut().unwrap() ^= 1;
            *leaf = forged.into();
            script.forge_accounts -= 1;
        }
        Ok(account)
    }

    fn independent(&self) -> usize {
        let script = self.0.lock().unwrap();
        1 + script.followers + script.dissenters + usize::from(script.confirmed_elsewhere.is_some())
    }

    async fn cross_check(&self, number: u64, hash: B256) -> CrossCheck {
        let is_final = number <= self.finalised();
        let ours = self.at(number).filter(|_| is_final).map(|block| block.header.hash == hash);
        let script = self.0.lock().unwrap();
        let elsewhere = script.confirmed_elsewhere == Some(Position { number, hash });
        let count = |says: bool| if ours == Some(says) { 1 + script.followers } else { 0 };
        CrossCheck {
            confirmations: count(true) + usize::from(elsewhere),
            contradictions: count(false) + script.dissenters,
        }
    }

    fn distrust(&self, _: &str) {
        self.0.lock().unwrap().distrusted += 1;
    }
}

/// A mirror that follows a made-up chain and serves what two made-up members attest.
pub(crate) struct Served {
    pub(crate) chain: Arc<FakeChain>,
    pub(crate) store: Arc<Store>,
    pub(crate) spec: Arc<VerifiedSpec>,
    pub(crate) members: Vec<SecretKey>,
    pub(crate) head: crate::serve::Served,
    pub(crate) now: u64,
    follower: Follower<FakeChain>,
    inbox: mpsc::Sender<Heard>,
    cancelled: CancellationToken,
    _directory: tempfile::TempDir,
}

impl Served {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (spec, members) = spec(3);
        let spec = Arc::new(spec);
        let chain = FakeChain::new();
        let store = Arc::new(Store::open(directory.path(), &spec).unwrap());
        let follower = Follower::new(chain.clone(), store.clone(), spec.clone()).unwrap();
        let lineage = lineage(&spec);
        let attester = Attester::new(store.clone(), spec.clone(), lineage, None, follower.state());
        let head = attester.served();
        let (inbox, heard) = mpsc::channel(64);
        let cancelled = CancellationToken::new();
        let (_, challengers) = crate::head::Challenges::channel();
        tokio::spawn(attester.run(heard, challengers, cancelled.clone()));
        let now = crate::clock::unix_seconds();
        Self { chain, store, spec, members, head, now, follower, inbox, cancelled, _directory: directory }
    }

    /// Has the attester hear that a member signed this hash at this number.
    pub(crate) async fn hear(&self, member: usize, number: u64, hash: B256) {
        let member = &self.members[member];
        let head = Head { number, hash, attested_at: self.now, nonce: B256::ZERO };
        let attestation = head.attest(&self.spec, member);
        let message = HeadMessage::Attested { number, hash, attestation };
        self.inbox.send(Heard { from: member.address().0, message }).await.unwrap();
    }

    /// What the follower says.
    pub(crate) fn state(&self) -> tokio::sync::watch::Receiver<crate::follower::MirrorState> {
        self.follower.state()
    }

    /// A block with these changes that isn't final yet, seen by the follower.
    pub(crate) async fn announce(&mut self, changes: Vec<Change>) {
        self.chain.extend(changes);
        self.follower.step().await.unwrap();
    }

    /// A final block with these changes, mirrored, attested by two members, and served.
    pub(crate) async fn advance(&mut self, changes: Vec<Change>) -> Arc<ServedHead> {
        self.chain.extend(changes);
        self.chain.finalise(1);
        self.follower.step().await.unwrap();
        self.attest(self.now).await
    }

    /// Two members vouch for the newest final head at this time.
    pub(crate) async fn attest(&mut self, attested_at: u64) -> Arc<ServedHead> {
        let position = self.store.cursor().unwrap().unwrap();
        for member in &self.members[..2] {
            let head = Head { number: position.number, hash: position.hash, attested_at, nonce: B256::ZERO };
            let attestation = head.attest(&self.spec, member);
            let message = HeadMessage::Attested { number: position.number, hash: position.hash, attestation };
            self.inbox.send(Heard { from: member.address().0, message }).await.unwrap();
        }
        let served = self.head.wait_for(|head| {
            head.as_ref().is_some_and(|head| head.position == position && head.attested_at == attested_at)
        });
        served.await.unwrap().clone().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.cancelled.cancel();
    }
}
