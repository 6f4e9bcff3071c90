//! The chain itself: its blocks, its state, what waits, and how far it is final.
//!
//! Owns every change: taking in a transaction, making a block, taking blocks off again, moving the final
//! block. Every change is one batch of the store, written before it counts: whenever the process ends, the
//! store holds the chain as it was after some block. One lock guards it. It reads no clock: the time
//! arrives with each call.

use super::amend::{AmendError, Amendment, Change};
use super::archive::{self, Ancestors, Archive};
use super::block::{Attributes, Block, Candidate, Site, Transacted};
use super::evm::{CallTracer, ExecuteError, Overlay};
use super::feed::{Event, Feed};
use super::genesis::Genesis;
use super::limits::{MAX_ORPHANS, STATE_WINDOW_BLOCKS};
use super::pool::{Conditions, Pool, SubmitError};
use super::state::{State, StateAt, StateError};
use super::store::{Batch, Key, Meta, OpenStateError, Store};
use super::{ChainConfig, Finality};
use alloy_consensus::{Header, Transaction};
use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use tracing::{debug, warn};
use windlass_protocol::{Address, B256, Bytes};

/// What clients see in a block's extra data.
const EXTRA_DATA: &[u8] = b"windlass";

/// Why blocks can't be taken off the chain, or made final.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MoveError {
    #[error(
        "block {height} is final, as all blocks up to {finalized} are: start the chain with --finality manual or depth:N to reorganise it"
    )]
    Final { height: u64, finalized: u64 },
    #[error("there is no block {height}: the newest is {latest}")]
    NoBlock { height: u64, latest: u64 },
    #[error("blocks become final by themselves here: start the chain with --finality manual to decide it")]
    NotManual,
    #[error("block {height} is older than the {STATE_WINDOW_BLOCKS} blocks whose state is kept")]
    OutsideWindow { height: u64 },
    #[error(transparent)]
    State(#[from] StateError),
}

/// Why the state of a block can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("state of block {height} is not available: only the last {STATE_WINDOW_BLOCKS} blocks' is kept")]
    Pruned { height: u64 },
    #[error("hash {0} is not currently canonical")]
    NotCanonical(B256),
    #[error(transparent)]
    State(#[from] StateError),
}

/// Why what a transaction did can't be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

/// Where a transaction was included.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) block: Arc<Block>,
    pub(crate) index: usize,
}

/// The chain.
pub(crate) struct Ledger {
    pub(crate) config: ChainConfig,
    store: Arc<Store>,
    archive: Archive,
    /// Blocks a reorg took off, the oldest first.
    orphans: VecDeque<Arc<Block>>,
    state: State,
    pub(crate) pool: Pool,
    /// What happened lately, for subscriptions and filters.
    pub(crate) feed: Feed,
    finalized: u64,
    /// How often blocks were taken off: written into the blocks made afterwards, so that they differ.
    forks: u64,
}

impl Ledger {
    /// The chain that the configured directory holds, or else a chain of one block, made at `now`, in
    /// seconds since 1970.
    pub(crate) fn open(config: ChainConfig, now: u64) -> Result<Self, OpenStateError> {
        let directory = config.state.clone().unwrap_or_default();
        let damaged = |reason: String| OpenStateError::Damaged { path: directory.clone(), reason };
        let store = match &config.state {
            Some(directory) => Store::open(directory)?,
            None => Store::in_memory().map_err(|error| damaged(error.to_string()))?,
        };
        check_chain(&store, &directory, config.chain_id)?;
        Self::load(config, Arc::new(store), now).map_err(|error| damaged(error.to_string()))
    }

    fn load(config: ChainConfig, store: Arc<Store>, now: u64) -> Result<Self, StateError> {
        let number = |meta| store.number(Key::Meta(meta));
        let (tip, finalized) = (number(Meta::Tip)?, number(Meta::Finalized)?.unwrap_or_default());
        let forks = number(Meta::Forks)?.unwrap_or_default();
        let state = State::open(store.clone(), tip.unwrap_or_default())?;
        let archive = match tip {
            Some(tip) => Archive::open(store.clone(), tip)?,
            None => Archive::starting_at(store.clone(), start(&config, &store, &state, now)?),
        };
        let (orphans, pool) = (VecDeque::new(), Pool::default());
        let feed = Feed::default();
        let mut ledger = Self { config, store, archive, orphans, state, pool, feed, finalized, forks };
        let (height, oldest) = (ledger.height(), ledger.oldest_state());
        ledger.state.moved(height, oldest);
        Ok(ledger)
    }

    /// The newest block.
    pub(crate) fn latest(&self) -> &Arc<Block> {
        self.archive.latest()
    }

    /// Number of the newest block.
    pub(crate) fn height(&self) -> u64 {
        self.latest().header.number
    }

    /// Number of the last final block.
    pub(crate) fn finalized(&self) -> u64 {
        self.finalized_at(self.height())
    }

    /// The last final block once the newest is `height`.
    fn finalized_at(&self, height: u64) -> u64 {
        match self.config.finality {
            Finality::Immediate => height,
            Finality::Manual => self.finalized,
            Finality::Depth(depth) => self.finalized.max(height.saturating_sub(depth)),
        }
    }

    /// The block at `height`.
    pub(crate) fn block(&self, height: u64) -> Result<Option<Arc<Block>>, StateError> {
        self.archive.block(height)
    }

    /// The block with this hash, also one that a reorg took off.
    pub(crate) fn block_by_hash(&self, hash: &B256) -> Result<Option<Arc<Block>>, StateError> {
        match self.archive.height_of(hash)? {
            Some(height) => self.block(height),
            None => Ok(self.orphans.iter().find(|block| block.hash == *hash).cloned()),
        }
    }

    /// Whether this block is on the chain.
    pub(crate) fn is_canonical(&self, hash: &B256) -> Result<bool, StateError> {
        Ok(self.archive.height_of(hash)?.is_some())
    }

    /// Where the transaction with this hash was included.
    pub(crate) fn place(&self, transaction: &B256) -> Result<Option<Place>, StateError> {
        let Some((height, index)) = self.archive.place_of(transaction)? else { return Ok(None) };
        Ok(self.block(height)?.map(|block| Place { block, index }))
    }

    /// The state after `block`.
    pub(crate) fn state(&self, block: &Block) -> Result<StateAt<'_>, ReadError> {
        let height = block.header.number;
        if !self.is_canonical(&block.hash)? {
            return Err(ReadError::NotCanonical(block.hash));
        }
        if height < self.oldest_state() {
            return Err(ReadError::Pruned { height });
        }
        Ok(self.state.at(height))
    }

    /// The state after `block`, ready to execute on.
    pub(crate) fn overlay(&self, block: &Block) -> Result<Overlay<'_>, ReadError> {
        Ok(Overlay::new(self.state(block)?, self.archive.below(block.header.number)))
    }

    /// The blocks from one height to another, both included, as far as there are any, whose header is
    /// `wanted`; of the others only that is read.
    pub(crate) fn blocks_where(
        &self,
        from: u64,
        to: u64,
        wanted: impl Fn(&Header) -> bool,
    ) -> impl Iterator<Item = Result<Arc<Block>, StateError>> {
        let heights = from..=to.min(self.height());
        heights.filter_map(move |height| match self.archive.header(height) {
            Ok(Some((_, header))) if wanted(&header) => self.block(height).transpose(),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    }

    /// The block in the making, and the state after it.
    pub(crate) fn pending_overlay(&self, now: u64) -> Result<(Block, Overlay<'_>), StateError> {
        let Candidate { block, changes, .. } = self.pending(now)?;
        let base = self.state.at(self.height());
        Ok((block, Overlay { base, changes, ancestors: self.ancestors() }))
    }

    /// Takes in a signed transaction.
    pub(crate) fn submit(&mut self, transaction: Transacted) -> Result<(), SubmitError> {
        if self.archive.place_of(transaction.tx_hash())?.is_some() {
            return Err(SubmitError::Known);
        }
        let latest = self.latest().clone();
        let conditions = Conditions {
            state: Overlay::new(self.state.at(latest.header.number), self.archive.below(self.height() + 1)),
            chain_id: self.config.chain_id,
            gas_limit: self.config.gas_limit,
            next_base_fee: latest.next_base_fee(),
        };
        self.pool.add(transaction.clone(), &conditions)?;
        self.feed.push(Event::Waiting(transaction));
        Ok(())
    }

    /// The nonce of `sender`'s next transaction, counting those that wait.
    pub(crate) fn pending_nonce(&self, sender: Address) -> Result<u64, StateError> {
        Ok(self.pool.next_nonce(sender, self.nonce(sender)?))
    }

    /// Whether the waiting transaction with this hash only waits for a block, not for one before it.
    pub(crate) fn is_ready(&self, hash: &B256) -> Result<bool, StateError> {
        let Some(transaction) = self.pool.find(hash) else { return Ok(false) };
        Ok(transaction.nonce() < self.pending_nonce(transaction.signer())?)
    }

    /// Whether anything waits only for a block.
    pub(crate) fn has_ready(&self) -> Result<bool, StateError> {
        Ok(self.pool.ready(|sender| self.nonce(sender))?.next().is_some())
    }

    /// The block that [`Ledger::mine`] would make.
    pub(crate) fn pending(&self, now: u64) -> Result<Candidate, StateError> {
        let ready = self.pool.ready(|sender| self.nonce(sender))?;
        self.assemble(now, ready)
    }

    /// Makes the next block from what waits, and gives what it refused, which waits no longer.
    pub(crate) fn mine(&mut self, now: u64) -> Result<Vec<(B256, String)>, StateError> {
        let mut candidate = self.pending(now)?;
        let refused = std::mem::take(&mut candidate.refused);
        for (hash, reason) in &refused {
            warn!(transaction = %hash, reason, "dropped a transaction that can't be mined any more");
            self.pool.remove(hash);
        }
        self.append(candidate)?;
        Ok(refused)
    }

    /// Makes a block of nothing but `amendment`.
    pub(crate) fn amend(&mut self, now: u64, amendment: &Amendment) -> Result<(), AmendError> {
        let (parent, attributes) = (self.latest(), self.attributes(now));
        let candidate = self.site().amend(parent, attributes, amendment)?;
        self.append(candidate)?;
        if let Change::Nonce(nonce) = amendment.change {
            self.pool.settle(amendment.address, nonce);
        }
        Ok(())
    }

    /// What the transaction at `place` did, as a tree of calls.
    pub(crate) fn trace(&self, place: &Place, tracer: CallTracer) -> Result<CallTracer, TraceError> {
        let header = &place.block.header;
        let parent = self.block(header.number.saturating_sub(1)).map_err(ReadError::from)?;
        let overlay = self.overlay(parent.as_ref().unwrap_or(&place.block))?;
        Ok(self.site().trace(overlay, &place.block, place.index, tracer)?)
    }

    /// Takes the newest `depth` blocks off and makes as many others in their place, the first of them with
    /// the lost transactions if `keep`, the rest empty. Gives the block above which the chain is new.
    pub(crate) fn reorg(&mut self, depth: u64, keep: bool, now: u64) -> Result<Arc<Block>, MoveError> {
        let latest = self.height();
        let Some(height) = latest.checked_sub(depth) else {
            return Err(MoveError::NoBlock { height: depth, latest });
        };
        let lost = self.rewind(height)?;
        let fork = self.latest().clone();
        let lost = lost.iter().flat_map(|block| &block.included).map(|included| included.transaction.clone());
        let mut transactions: Vec<_> = if keep { lost.collect() } else { Vec::new() };
        for _ in 0..depth {
            let candidate = self.assemble(now, std::mem::take(&mut transactions))?;
            self.append(candidate)?;
        }
        Ok(fork)
    }

    /// Takes all blocks above `height` off and gives them back, the lowest first.
    pub(crate) fn rewind(&mut self, height: u64) -> Result<Vec<Arc<Block>>, MoveError> {
        let finalized = self.finalized();
        if height < finalized {
            return Err(MoveError::Final { height: height + 1, finalized });
        }
        if height < self.oldest_state() {
            return Err(MoveError::OutsideWindow { height });
        }
        let mut removed = Vec::new();
        while self.height() > height {
            removed.push(self.take_off()?);
        }
        removed.reverse();
        self.orphans.extend(removed.iter().cloned());
        while self.orphans.len() > MAX_ORPHANS {
            self.orphans.pop_front();
        }
        Ok(removed)
    }

    /// Takes the newest block off.
    fn take_off(&mut self) -> Result<Arc<Block>, StateError> {
        let block = self.latest().clone();
        let height = block.header.number.saturating_sub(1);
        let missing = || StateError::Block { height, reason: "it is missing".to_owned() };
        let parent = self.block(height)?.ok_or_else(missing)?;
        let mut batch = Batch::default();
        self.state.rewind(&mut batch, height)?;
        archive::delete(&mut batch, &block);
        batch.put_number(Key::Meta(Meta::Tip), height);
        batch.put_number(Key::Meta(Meta::Forks), self.forks + 1);
        self.store.write(batch)?;
        self.forks += 1;
        self.archive.pop(parent);
        self.feed.push(Event::Removed(block.clone()));
        self.state.moved(height, self.oldest_state());
        Ok(block)
    }

    /// Makes every block up to `height` final.
    pub(crate) fn finalize(&mut self, height: u64) -> Result<(), MoveError> {
        let finalized = self.finalized();
        if self.config.finality != Finality::Manual {
            return Err(MoveError::NotManual);
        }
        if height > self.height() {
            return Err(MoveError::NoBlock { height, latest: self.height() });
        }
        if height < finalized {
            return Err(MoveError::Final { height, finalized });
        }
        let mut batch = Batch::default();
        batch.put_number(Key::Meta(Meta::Finalized), height);
        self.store.write(batch).map_err(StateError::from)?;
        self.finalized = height;
        Ok(())
    }

    fn assemble(
        &self,
        now: u64,
        transactions: impl IntoIterator<Item = Transacted>,
    ) -> Result<Candidate, StateError> {
        self.site().assemble(self.latest(), self.attributes(now), transactions)
    }

    fn attributes(&self, now: u64) -> Attributes {
        Attributes {
            timestamp: now.max(self.latest().header.timestamp + 1),
            beneficiary: self.config.coinbase,
            gas_limit: self.config.gas_limit,
            extra_data: self.extra_data(),
        }
    }

    fn site(&self) -> Site<'_> {
        Site { state: &self.state, ancestors: self.ancestors(), chain_id: self.config.chain_id }
    }

    fn append(&mut self, candidate: Candidate) -> Result<(), StateError> {
        let block = Arc::new(candidate.block);
        let height = block.header.number;
        let oldest = oldest_state(height);
        // A depth mode never unmakes what was final.
        let finalized = self.finalized_at(height);
        let mut batch = Batch::default();
        self.state.commit(&mut batch, height, oldest, &candidate.writes, &candidate.changes.codes)?;
        archive::put(&mut batch, &block);
        batch.put_number(Key::Meta(Meta::Tip), height);
        batch.put_number(Key::Meta(Meta::Finalized), finalized);
        self.store.write(batch)?;
        self.finalized = finalized;
        self.state.moved(height, oldest);
        self.archive.push(block.clone());
        self.feed.push(Event::Sealed(block.clone()));
        self.settle(&block)?;
        debug!(height, hash = %block.hash, transactions = block.included.len(), "sealed a block");
        Ok(())
    }

    /// Forgets what waited and is now in `block`, or can't be mined any more.
    fn settle(&mut self, block: &Block) -> Result<(), StateError> {
        let mut senders = HashSet::new();
        for included in &block.included {
            self.pool.remove(included.transaction.tx_hash());
            senders.insert(included.transaction.signer());
        }
        for sender in senders {
            self.pool.settle(sender, self.nonce(sender)?);
        }
        Ok(())
    }

    fn nonce(&self, sender: Address) -> Result<u64, StateError> {
        Ok(self.state.at(self.height()).account(sender)?.map_or(0, |account| account.nonce))
    }

    fn oldest_state(&self) -> u64 {
        // A reorg moves the window back, but what was pruned stays away.
        oldest_state(self.height()).max(self.state.oldest())
    }

    /// What the next block sees below it.
    fn ancestors(&self) -> Ancestors<'_> {
        self.archive.below(self.height() + 1)
    }

    fn extra_data(&self) -> Bytes {
        match self.forks {
            0 => Bytes::from_static(EXTRA_DATA),
            forks => [EXTRA_DATA, format!("/{forks}").as_bytes()].concat().into(),
        }
    }
}

/// The oldest block whose state is kept when the newest is `height`.
fn oldest_state(height: u64) -> u64 {
    (height + 1).saturating_sub(STATE_WINDOW_BLOCKS)
}

/// Makes the first block.
fn start(config: &ChainConfig, store: &Store, state: &State, now: u64) -> Result<Arc<Block>, StateError> {
    let (extra_data, seed) = (Bytes::from_static(EXTRA_DATA), B256::new(rand::random()));
    let genesis = Genesis { timestamp: now, gas_limit: config.gas_limit, extra_data, seed };
    let mut batch = Batch::default();
    let block = genesis.seal(state, &mut batch)?;
    archive::put(&mut batch, &block);
    batch.put_number(Key::Meta(Meta::ChainId), config.chain_id);
    batch.put_number(Key::Meta(Meta::Tip), 0);
    store.write(batch)?;
    Ok(Arc::new(block))
}

/// Refuses a store that holds another chain than the one asked for.
fn check_chain(store: &Store, directory: &Path, asked: u64) -> Result<(), OpenStateError> {
    let path = directory.to_owned();
    match store.number(Key::Meta(Meta::ChainId)) {
        Ok(Some(found)) if found != asked => Err(OpenStateError::OtherChain { path, found, asked }),
        Ok(_) => Ok(()),
        Err(error) => Err(OpenStateError::Damaged { path, reason: error.to_string() }),
    }
}
