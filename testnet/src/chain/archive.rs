//! The chain's blocks, from the first to the newest, by height, hash and transaction.
//!
//! Owns how a block is kept and found. Only the newest blocks are in memory; the others are read when asked
//! for. It doesn't know what a block means, and decides nothing about the chain.

use super::block::{Block, Included};
use super::limits::{MAX_RECENT_BLOCKS, MAX_RECENT_TRANSACTIONS, MAX_VISITED_BLOCKS};
use super::state::StateError;
use super::store::{Batch, Key, Store};
use alloy_consensus::transaction::Recovered;
use alloy_consensus::{Header, ReceiptEnvelope, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_rlp::{Decodable, RlpDecodable, RlpEncodable};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use windlass_protocol::{Address, B256, Bytes};

/// What a block holds besides its header, as it is kept.
#[derive(RlpEncodable, RlpDecodable)]
struct Body {
    transactions: Vec<Bytes>,
    receipts: Vec<Bytes>,
    /// Recovering them from the signatures would take far longer than reading them.
    senders: Vec<Address>,
}

/// The kept blocks.
pub(crate) struct Archive {
    store: Arc<Store>,
    /// The newest blocks, each the next one's parent; never empty.
    recent: VecDeque<Arc<Block>>,
    /// Transactions in those.
    recent_transactions: usize,
    /// Older blocks that were asked for lately, the last of them at the end.
    visited: Mutex<VecDeque<Arc<Block>>>,
}

impl Archive {
    /// The blocks of `store`, whose newest is at height `tip`.
    pub(crate) fn open(store: Arc<Store>, tip: u64) -> Result<Self, StateError> {
        let block = load(&store, tip)?.ok_or_else(|| missing(tip))?;
        Ok(Self::starting_at(store, Arc::new(block)))
    }

    /// The blocks of `store`, whose newest is `tip`.
    pub(crate) fn starting_at(store: Arc<Store>, tip: Arc<Block>) -> Self {
        let recent_transactions = tip.included.len();
        Self { store, recent: VecDeque::from([tip]), recent_transactions, visited: Mutex::default() }
    }

    /// The newest block.
    pub(crate) fn latest(&self) -> &Arc<Block> {
        self.recent.back().expect("the newest block is always among the recent ones")
    }

    /// The block at `height`, if there is one.
    pub(crate) fn block(&self, height: u64) -> Result<Option<Arc<Block>>, StateError> {
        if height > self.latest().header.number {
            return Ok(None);
        }
        if let Some(block) = self.recent(height) {
            return Ok(Some(block.clone()));
        }
        let mut visited = self.visited.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = visited.iter().find(|block| block.header.number == height) {
            return Ok(Some(block.clone()));
        }
        let block = Arc::new(load(&self.store, height)?.ok_or_else(|| missing(height))?);
        if visited.len() == MAX_VISITED_BLOCKS {
            visited.pop_front();
        }
        visited.push_back(block.clone());
        Ok(Some(block))
    }

    /// The hash and header of the block at `height`, if there is one: cheaper than all of it.
    pub(crate) fn header(&self, height: u64) -> Result<Option<(B256, Header)>, StateError> {
        match self.recent(height) {
            Some(block) => Ok(Some((block.hash, block.header.clone()))),
            None => load_header(&self.store, height),
        }
    }

    fn recent(&self, height: u64) -> Option<&Arc<Block>> {
        let age = self.latest().header.number.checked_sub(height)?;
        self.recent.iter().nth_back(usize::try_from(age).ok()?)
    }

    /// The height of the block with this hash, if it is on the chain.
    pub(crate) fn height_of(&self, hash: &B256) -> Result<Option<u64>, StateError> {
        Ok(self.store.number(Key::Hash(*hash))?)
    }

    /// Where the transaction with this hash is: its block's height and its index there.
    pub(crate) fn place_of(&self, transaction: &B256) -> Result<Option<(u64, usize)>, StateError> {
        let place = self.store.get(Key::Transaction(*transaction))?;
        Ok(place.and_then(|place| {
            let (height, index) = place.split_first_chunk()?;
            let index = u32::from_be_bytes(index.try_into().ok()?);
            Some((u64::from_be_bytes(*height), index as usize))
        }))
    }

    /// The blocks below `height` as a block at `height` sees them.
    pub(crate) fn below(&self, height: u64) -> Ancestors<'_> {
        Ancestors { archive: self, height }
    }

    /// Takes the block that now follows the newest.
    pub(crate) fn push(&mut self, block: Arc<Block>) {
        self.recent_transactions += block.included.len();
        self.recent.push_back(block);
        while self.recent.len() > 1
            && (self.recent.len() > MAX_RECENT_BLOCKS || self.recent_transactions > MAX_RECENT_TRANSACTIONS)
        {
            let oldest = self.recent.pop_front();
            self.recent_transactions -= oldest.map_or(0, |block| block.included.len());
        }
    }

    /// Forgets the newest block, which `parent` is now.
    pub(crate) fn pop(&mut self, parent: Arc<Block>) {
        if let Some(block) = self.recent.pop_back() {
            self.recent_transactions -= block.included.len();
        }
        if self.recent.is_empty() {
            self.push(parent);
        }
        // A block of the same height may come to be, so nothing older may be mistaken for it.
        self.visited.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The hashes of the blocks below one height.
#[derive(Clone, Copy)]
pub(crate) struct Ancestors<'a> {
    archive: &'a Archive,
    height: u64,
}

impl Ancestors<'_> {
    /// The hash of the ancestor at `number`, if there is one.
    pub(crate) fn hash(&self, number: u64) -> Result<Option<B256>, StateError> {
        let ancestor = if number < self.height { self.archive.header(number)? } else { None };
        Ok(ancestor.map(|(hash, _)| hash))
    }
}

/// Puts a block into `batch`.
pub(crate) fn put(batch: &mut Batch, block: &Block) {
    let height = block.header.number;
    let header = [block.hash.as_slice(), &alloy_rlp::encode(&block.header)].concat();
    batch.put(Key::Header(height), header);
    if !block.included.is_empty() {
        batch.put(Key::Body(height), alloy_rlp::encode(encode(&block.included)));
    }
    batch.put_number(Key::Hash(block.hash), height);
    for (index, included) in (0u32..).zip(&block.included) {
        let place = [&height.to_be_bytes()[..], &index.to_be_bytes()].concat();
        batch.put(Key::Transaction(*included.transaction.tx_hash()), place);
    }
}

/// Puts into `batch` what takes a block off.
pub(crate) fn delete(batch: &mut Batch, block: &Block) {
    batch.delete(Key::Header(block.header.number));
    batch.delete(Key::Body(block.header.number));
    batch.delete(Key::Hash(block.hash));
    for included in &block.included {
        batch.delete(Key::Transaction(*included.transaction.tx_hash()));
    }
}

fn encode(included: &[Included]) -> Body {
    Body {
        transactions: included.iter().map(|one| one.transaction.encoded_2718().into()).collect(),
        receipts: included.iter().map(|one| one.receipt.encoded_2718().into()).collect(),
        senders: included.iter().map(|one| one.transaction.signer()).collect(),
    }
}

fn missing(height: u64) -> StateError {
    StateError::Block { height, reason: "it is missing".to_owned() }
}

fn load(store: &Store, height: u64) -> Result<Option<Block>, StateError> {
    let damaged = |reason: alloy_rlp::Error| StateError::Block { height, reason: reason.to_string() };
    let Some((hash, header)) = load_header(store, height)? else { return Ok(None) };
    let included = match store.get(Key::Body(height))? {
        Some(body) => decode(&body).map_err(damaged)?,
        None => Vec::new(),
    };
    Ok(Some(Block { hash, header, included }))
}

fn load_header(store: &Store, height: u64) -> Result<Option<(B256, Header)>, StateError> {
    let Some(entry) = store.get(Key::Header(height))? else { return Ok(None) };
    let short = || StateError::Block { height, reason: "its header is cut short".to_owned() };
    let (hash, mut header) = entry.split_first_chunk::<32>().ok_or_else(short)?;
    let header = Header::decode(&mut header)
        .map_err(|reason| StateError::Block { height, reason: reason.to_string() })?;
    Ok(Some((B256::from(hash), header)))
}

fn decode(body: &[u8]) -> Result<Vec<Included>, alloy_rlp::Error> {
    let Body { transactions, receipts, senders } = Body::decode(&mut &body[..])?;
    if transactions.len() != receipts.len() || transactions.len() != senders.len() {
        return Err(alloy_rlp::Error::Custom("transactions, receipts and senders differ in number"));
    }
    let mut included: Vec<Included> = Vec::with_capacity(transactions.len());
    for ((transaction, receipt), sender) in transactions.iter().zip(&receipts).zip(senders) {
        let transaction = TxEnvelope::decode_2718(&mut &transaction[..])?;
        let receipt = ReceiptEnvelope::decode_2718(&mut &receipt[..])?;
        let transaction = Arc::new(Recovered::new_unchecked(transaction, sender));
        included.push(Included::after(included.last(), transaction, receipt));
    }
    Ok(included)
}
