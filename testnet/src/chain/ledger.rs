//! The chain itself: its blocks, its state, what waits, and how far it is final.
//!
//! Owns every change: taking in a transaction, making a block, taking blocks off again, moving the final
//! block. One lock guards it. It reads no clock: the time arrives with each call.

use super::block::{Attributes, Block, Candidate, Site, Transacted};
use super::evm::Overlay;
use super::feed::{Event, Feed};
use super::genesis::Genesis;
use super::limits::{MAX_ORPHANS, STATE_WINDOW_BLOCKS};
use super::pool::{Conditions, Pool, SubmitError};
use super::state::{State, StateAt, StateError};
use super::{ChainConfig, Finality};
use alloy_consensus::Transaction;
use std::collections::{HashMap, VecDeque};
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
    blocks: Vec<Arc<Block>>,
    by_hash: HashMap<B256, u64>,
    transactions: HashMap<B256, (u64, usize)>,
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
    /// A chain of one block, made at `now`, in seconds since 1970.
    pub(crate) fn start(config: ChainConfig, now: u64) -> Result<Self, StateError> {
        let mut state = State::default();
        let extra_data = Bytes::from_static(EXTRA_DATA);
        let seed = B256::new(rand::random());
        let genesis = Arc::new(
            Genesis { timestamp: now, gas_limit: config.gas_limit, extra_data, seed }.seal(&mut state)?,
        );
        Ok(Self {
            config,
            by_hash: HashMap::from([(genesis.hash, 0)]),
            blocks: vec![genesis],
            transactions: HashMap::new(),
            orphans: VecDeque::new(),
            state,
            pool: Pool::default(),
            feed: Feed::default(),
            finalized: 0,
            forks: 0,
        })
    }

    /// The newest block.
    pub(crate) fn latest(&self) -> &Arc<Block> {
        self.blocks.last().expect("genesis is never taken off")
    }

    /// Number of the newest block.
    pub(crate) fn height(&self) -> u64 {
        self.latest().header.number
    }

    /// Number of the last final block.
    pub(crate) fn finalized(&self) -> u64 {
        match self.config.finality {
            Finality::Immediate => self.height(),
            Finality::Manual => self.finalized,
            Finality::Depth(depth) => self.finalized.max(self.height().saturating_sub(depth)),
        }
    }

    /// The block at `height`.
    pub(crate) fn block(&self, height: u64) -> Option<&Arc<Block>> {
        self.blocks.get(usize::try_from(height).ok()?)
    }

    /// The block with this hash, also one that a reorg took off.
    pub(crate) fn block_by_hash(&self, hash: &B256) -> Option<&Arc<Block>> {
        let on_chain = self.by_hash.get(hash).and_then(|height| self.block(*height));
        on_chain.or_else(|| self.orphans.iter().find(|block| block.hash == *hash))
    }

    /// Whether this block is on the chain.
    pub(crate) fn is_canonical(&self, hash: &B256) -> bool {
        self.by_hash.contains_key(hash)
    }

    /// Where the transaction with this hash was included.
    pub(crate) fn place(&self, transaction: &B256) -> Option<Place> {
        let (height, index) = self.transactions.get(transaction)?;
        Some(Place { block: self.block(*height)?.clone(), index: *index })
    }

    /// The state after `block`.
    pub(crate) fn state(&self, block: &Block) -> Result<StateAt<'_>, ReadError> {
        let height = block.header.number;
        if !self.is_canonical(&block.hash) {
            return Err(ReadError::NotCanonical(block.hash));
        }
        if height < self.oldest_state() {
            return Err(ReadError::Pruned { height });
        }
        Ok(self.state.at(height))
    }

    /// The state after `block`, ready to execute on.
    pub(crate) fn overlay(&self, block: &Block) -> Result<Overlay<'_>, ReadError> {
        Ok(Overlay::new(self.state(block)?, self.ancestors(block)))
    }

    /// The blocks from one height to another, both included, as far as there are any.
    pub(crate) fn blocks_between(&self, from: u64, to: u64) -> &[Arc<Block>] {
        let end = self.blocks.len().min(usize::try_from(to).unwrap_or(usize::MAX).saturating_add(1));
        let start = usize::try_from(from).unwrap_or(usize::MAX).min(end);
        &self.blocks[start..end]
    }

    /// The block in the making, and the state after it.
    pub(crate) fn pending_overlay(&self, now: u64) -> Result<(Block, Overlay<'_>), StateError> {
        let Candidate { block, changes, .. } = self.pending(now)?;
        let base = self.state.at(self.height());
        Ok((block, Overlay { base, changes, ancestors: &self.blocks }))
    }

    /// Takes in a signed transaction.
    pub(crate) fn submit(&mut self, transaction: Transacted) -> Result<(), SubmitError> {
        if self.transactions.contains_key(transaction.tx_hash()) {
            return Err(SubmitError::Known);
        }
        let latest = self.latest().clone();
        let conditions = Conditions {
            state: Overlay::new(self.state.at(latest.header.number), &self.blocks),
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
        self.state.rewind(height);
        let removed = self.blocks.split_off(self.blocks.len().min(height as usize + 1));
        for block in &removed {
            self.by_hash.remove(&block.hash);
            for included in &block.included {
                self.transactions.remove(included.transaction.tx_hash());
            }
            self.orphans.push_back(block.clone());
        }
        for block in removed.iter().rev() {
            self.feed.push(Event::Removed(block.clone()));
        }
        while self.orphans.len() > MAX_ORPHANS {
            self.orphans.pop_front();
        }
        self.forks += 1;
        Ok(removed)
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
        self.finalized = height;
        Ok(())
    }

    fn assemble(&self, now: u64, transactions: Vec<Transacted>) -> Result<Candidate, StateError> {
        let parent = self.latest();
        let attributes = Attributes {
            timestamp: now.max(parent.header.timestamp + 1),
            beneficiary: self.config.coinbase,
            gas_limit: self.config.gas_limit,
            extra_data: self.extra_data(),
        };
        let site = Site { state: &self.state, ancestors: &self.blocks, chain_id: self.config.chain_id };
        site.assemble(parent, attributes, transactions)
    }

    fn append(&mut self, candidate: Candidate) -> Result<(), StateError> {
        let block = Arc::new(candidate.block);
        let height = block.header.number;
        // A depth mode never unmakes what was final.
        self.finalized = self.finalized();
        self.state.commit(height, candidate.writes, candidate.changes.codes);
        self.by_hash.insert(block.hash, height);
        for (index, included) in block.included.iter().enumerate() {
            let hash = *included.transaction.tx_hash();
            self.transactions.insert(hash, (height, index));
            self.pool.remove(&hash);
        }
        self.blocks.push(block.clone());
        self.feed.push(Event::Sealed(block.clone()));
        self.state.prune(self.oldest_state());
        for included in &block.included {
            let sender = included.transaction.signer();
            self.pool.settle(sender, self.nonce(sender)?);
        }
        debug!(height, hash = %block.hash, transactions = block.included.len(), "sealed a block");
        Ok(())
    }

    fn nonce(&self, sender: Address) -> Result<u64, StateError> {
        Ok(self.state.at(self.height()).account(sender)?.map_or(0, |account| account.nonce))
    }

    fn oldest_state(&self) -> u64 {
        (self.height() + 1).saturating_sub(STATE_WINDOW_BLOCKS)
    }

    fn ancestors(&self, block: &Block) -> &[Arc<Block>] {
        self.blocks_between(0, block.header.number.saturating_sub(1))
    }

    fn extra_data(&self) -> Bytes {
        match self.forks {
            0 => Bytes::from_static(EXTRA_DATA),
            forks => [EXTRA_DATA, format!("/{forks}").as_bytes()].concat().into(),
        }
    }
}
