//! Accounts, slots and code after any block of the window.
//!
//! Owns the state of the chain: two-level tries over versioned trie nodes, and code by its hash. What is
//! read is what a proof shows, since there is no other copy. It never executes anything.

use super::evm::Code;
use super::limits::MAX_CACHED_CODES;
use super::nodes::{NodeHistory, Writes};
use super::store::{Batch, Key, Store, StoreError};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use windlass_protocol::trie::{
    self, ACCOUNT_TRIE, Account, EMPTY_CODE_HASH, EMPTY_ROOT, ProofError, TrieError,
};
use windlass_protocol::{Address, B256, Bytes, U256, keccak256};

/// The chain's state or blocks can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the chain's state is damaged: {0}")]
    Trie(#[from] TrieError<StoreError>),
    #[error("the chain's state is damaged: {0}")]
    Value(#[from] ProofError),
    #[error("the chain's state is damaged: no code has hash {0}")]
    NoCode(B256),
    #[error("the chain is damaged: block {height} can't be read ({reason})")]
    Block { height: u64, reason: String },
}

/// What an account is, without its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Basic {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code_hash: B256,
}

impl Default for Basic {
    fn default() -> Self {
        Self { nonce: 0, balance: U256::ZERO, code_hash: EMPTY_CODE_HASH }
    }
}

/// What became of one account: `basic` is `None` when it went away.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccountChange {
    pub(crate) basic: Option<Basic>,
    pub(crate) slots: BTreeMap<U256, U256>,
}

/// What one or several transactions changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) accounts: BTreeMap<Address, AccountChange>,
    pub(crate) codes: HashMap<B256, Code>,
}

/// An account with the proof of it, as `eth_getProof` answers.
pub(crate) struct AccountProof {
    pub(crate) account: Option<Account>,
    pub(crate) proof: Vec<Bytes>,
    pub(crate) slots: Vec<SlotProof>,
}

/// One slot with its proof.
pub(crate) struct SlotProof {
    pub(crate) slot: U256,
    pub(crate) value: U256,
    pub(crate) proof: Vec<Bytes>,
}

/// The state after each block of the window.
pub(crate) struct State {
    store: Arc<Store>,
    nodes: NodeHistory,
    /// Codes in use, analysed.
    codes: Mutex<HashMap<B256, Code>>,
}

impl State {
    /// The state in `store`, whose newest block is `tip`.
    pub(crate) fn open(store: Arc<Store>, tip: u64) -> Result<Self, StateError> {
        let nodes = NodeHistory::open(store.clone(), tip)?;
        Ok(Self { store, nodes, codes: Mutex::default() })
    }

    /// The state after block `height`.
    pub(crate) fn at(&self, height: u64) -> StateAt<'_> {
        StateAt { state: self, height }
    }

    /// Puts what block `height` changed into `batch`, as [`StateAt::apply`] gave it, and forgets every
    /// block below `oldest`.
    pub(crate) fn commit(
        &self,
        batch: &mut Batch,
        height: u64,
        oldest: u64,
        writes: &Writes,
        codes: &HashMap<B256, Code>,
    ) -> Result<(), StateError> {
        self.nodes.commit(batch, height, writes);
        codes.iter().for_each(|(hash, code)| batch.put(Key::Code(*hash), code.bytes()));
        Ok(self.nodes.prune(batch, oldest)?)
    }

    /// Puts into `batch` what undoes every block above `height`.
    pub(crate) fn rewind(&self, batch: &mut Batch, height: u64) -> Result<(), StateError> {
        Ok(self.nodes.rewind(batch, height)?)
    }

    /// The oldest block whose state can still be read.
    pub(crate) fn oldest(&self) -> u64 {
        self.nodes.oldest()
    }

    /// Says that the store now holds blocks up to `tip`, the state from `oldest` on.
    pub(crate) fn moved(&mut self, tip: u64, oldest: u64) {
        self.nodes.moved(tip, oldest);
    }

    fn code(&self, code_hash: B256) -> Result<Code, StateError> {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = codes.get(&code_hash) {
            return Ok(code.clone());
        }
        let bytes = self.store.get(Key::Code(code_hash))?.ok_or(StateError::NoCode(code_hash))?;
        let code = Code::new(bytes.into());
        if codes.len() >= MAX_CACHED_CODES {
            codes.clear();
        }
        codes.insert(code_hash, code.clone());
        Ok(code)
    }
}

/// The state after one block.
#[derive(Clone, Copy)]
pub(crate) struct StateAt<'a> {
    state: &'a State,
    height: u64,
}

impl StateAt<'_> {
    /// The account at `address`, with the root of its storage.
    pub(crate) fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        let leaf = trie::lookup(&self.state.nodes.at(self.height), ACCOUNT_TRIE, &keccak256(address))?;
        Ok(leaf.map(|leaf| Account::decode(&leaf)).transpose()?)
    }

    /// The value in `slot` of `address`; zero when it was never set.
    pub(crate) fn slot(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        let key = keccak256(slot.to_be_bytes::<32>());
        let leaf = trie::lookup(&self.state.nodes.at(self.height), keccak256(address), &key)?;
        decode_slot(leaf)
    }

    /// The code whose hash is `code_hash`.
    pub(crate) fn code(&self, code_hash: B256) -> Result<Code, StateError> {
        if code_hash == EMPTY_CODE_HASH {
            return Ok(Code::default());
        }
        self.state.code(code_hash)
    }

    /// The account and `slots` of `address` with their proofs, present or absent.
    pub(crate) fn prove(&self, address: Address, slots: &[U256]) -> Result<AccountProof, StateError> {
        let (nodes, id) = (self.state.nodes.at(self.height), keccak256(address));
        let prove_slot = |&slot: &U256| {
            let key = keccak256(slot.to_be_bytes::<32>());
            let value = decode_slot(trie::lookup(&nodes, id, &key)?)?;
            Ok(SlotProof { slot, value, proof: trie::prove(&nodes, id, &key)? })
        };
        Ok(AccountProof {
            account: self.account(address)?,
            proof: trie::prove(&nodes, ACCOUNT_TRIE, &id)?,
            slots: slots.iter().map(prove_slot).collect::<Result<_, StateError>>()?,
        })
    }

    /// What `changes` on top make of the tries: the new state root, and the writes that lead there.
    pub(crate) fn apply(&self, changes: &Changes) -> Result<(B256, Writes), StateError> {
        let mut draft = self.state.nodes.draft(self.height);
        let mut leaves = BTreeMap::new();
        for (address, change) in &changes.accounts {
            let id = keccak256(address);
            let Some(basic) = change.basic else {
                leaves.insert(id, None);
                continue;
            };
            let storage_root = if change.slots.is_empty() {
                self.account(*address)?.map_or(EMPTY_ROOT, |account| account.storage_root)
            } else {
                trie::update(&mut draft, id, &slot_leaves(&change.slots))?
            };
            let Basic { nonce, balance, code_hash } = basic;
            leaves.insert(id, Some(Account { nonce, balance, storage_root, code_hash }.encode()));
        }
        let root = trie::update(&mut draft, ACCOUNT_TRIE, &leaves)?;
        Ok((root, draft.into_writes()))
    }
}

fn slot_leaves(slots: &BTreeMap<U256, U256>) -> BTreeMap<B256, Option<Vec<u8>>> {
    slots
        .iter()
        .map(|(slot, value)| {
            (keccak256(slot.to_be_bytes::<32>()), trie::slot_change(&B256::from(value.to_be_bytes())))
        })
        .collect()
}

fn decode_slot(leaf: Option<Vec<u8>>) -> Result<U256, StateError> {
    let value = leaf.map(|leaf| trie::decode_slot_value(&leaf)).transpose()?;
    Ok(value.map_or(U256::ZERO, |value| U256::from_be_bytes(value.0)))
}
