//! A chain whose blocks are made by the test, and a provider of it that fails and lies as told.

use super::{CODE_HASH, REGISTRY};
use crate::chain::{Answer, Block, ChainSource, Change, CrossCheck, SourceError};
use crate::store::Position;
use alloy::consensus::Header as ConsensusHeader;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use windlass_protocol::bundle::verify_account;
use windlass_protocol::spec::ContractPin;
use windlass_protocol::trie::{self, ACCOUNT_TRIE, Account, MemoryStore, slot_change};
use windlass_protocol::{Address, B256, Bytes, U256, keccak256};

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
