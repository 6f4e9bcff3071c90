//! Who asks, and what of the chain they see.
//!
//! Owns the state behind the door that isn't the chain's: installed filters and the number of connections.
//! Every method reads the chain through [`Seen`], so that what a caller is shown is decided in one place.

use super::filters::Filters;
use super::subscriptions::Subscriptions;
use crate::chain::Shared;
use crate::chain::block::{Block, Candidate, Transacted};
use crate::chain::evm::Overlay;
use crate::chain::feed::{Event, Forgotten};
use crate::chain::ledger::{Ledger, Place, ReadError};
use crate::chain::limits::MAX_CONNECTIONS;
use crate::chain::state::{StateAt, StateError};
use alloy_consensus::Header;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockReadGuard};
use tokio::sync::Semaphore;
use windlass_protocol::{Address, B256};

/// What all callers share.
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
    filters: Mutex<Filters>,
    /// One permit for each WebSocket connection there may be.
    pub(super) connections: Arc<Semaphore>,
    opened: AtomicU64,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            filters: Mutex::default(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            opened: AtomicU64::new(0),
        })
    }

    /// The installed filters. Their lock is taken before the chain's, never under it.
    pub(super) fn filters(&self) -> MutexGuard<'_, Filters> {
        self.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One WebSocket connection.
pub(super) struct Connection {
    pub(super) id: u64,
    subscriptions: Mutex<Subscriptions>,
}

impl Connection {
    /// What it is subscribed to.
    pub(super) fn subscriptions(&self) -> MutexGuard<'_, Subscriptions> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asks.
pub(super) struct Caller {
    pub(super) service: Arc<Service>,
    /// Its WebSocket connection; `None` over HTTP, where one program's requests come over several.
    pub(super) connection: Option<Connection>,
}

impl Caller {
    /// Somebody over HTTP.
    pub(super) fn http(service: Arc<Service>) -> Self {
        Self { service, connection: None }
    }

    /// Somebody over a new WebSocket connection.
    pub(super) fn socket(service: Arc<Service>) -> Self {
        let id = service.opened.fetch_add(1, Ordering::Relaxed);
        let connection = Connection { id, subscriptions: Mutex::default() };
        Self { service, connection: Some(connection) }
    }

    /// The chain, to change.
    pub(super) fn shared(&self) -> &Shared {
        &self.service.shared
    }

    /// The chain as this caller sees it.
    pub(super) fn read(&self) -> Seen<'_> {
        let ledger = self.shared().read();
        let tip = ledger.height();
        Seen { ledger, tip, now: self.shared().now() }
    }

    /// Which filters are this caller's: its connection's, or those installed over HTTP.
    pub(super) fn owner(&self) -> Option<u64> {
        self.connection.as_ref().map(|connection| connection.id)
    }
}

/// The chain up to a block.
pub(super) struct Seen<'a> {
    ledger: RwLockReadGuard<'a, Ledger>,
    /// Number of the newest block that is seen.
    tip: u64,
    /// Seconds since 1970, as the chain counts them.
    now: u64,
}

impl Seen<'_> {
    pub(super) fn chain_id(&self) -> u64 {
        self.ledger.config.chain_id
    }

    pub(super) fn height(&self) -> u64 {
        self.tip
    }

    pub(super) fn latest(&self) -> Result<Arc<Block>, StateError> {
        Ok(self.ledger.block(self.tip)?.unwrap_or_else(|| self.ledger.latest().clone()))
    }

    pub(super) fn finalized(&self) -> u64 {
        self.ledger.finalized().min(self.tip)
    }

    pub(super) fn block(&self, height: u64) -> Result<Option<Arc<Block>>, StateError> {
        if height <= self.tip { self.ledger.block(height) } else { Ok(None) }
    }

    pub(super) fn block_by_hash(&self, hash: &B256) -> Result<Option<Arc<Block>>, StateError> {
        Ok(self.ledger.block_by_hash(hash)?.filter(|block| block.header.number <= self.tip))
    }

    pub(super) fn is_canonical(&self, hash: &B256) -> Result<bool, StateError> {
        self.ledger.is_canonical(hash)
    }

    /// The blocks from one height to another whose headers are wanted; of the others only those are read.
    pub(super) fn blocks_where(
        &self,
        from: u64,
        to: u64,
        wanted: impl Fn(&Header) -> bool,
    ) -> impl Iterator<Item = Result<Arc<Block>, StateError>> {
        self.ledger.blocks_where(from, to.min(self.tip), wanted)
    }

    /// Where a transaction was included.
    pub(super) fn place(&self, transaction: &B256) -> Result<Option<Place>, StateError> {
        Ok(self.ledger.place(transaction)?.filter(|place| place.block.header.number <= self.tip))
    }

    /// A transaction that waits.
    pub(super) fn waiting(&self, transaction: &B256) -> Option<&Transacted> {
        self.ledger.pool.find(transaction)
    }

    pub(super) fn state(&self, block: &Block) -> Result<StateAt<'_>, ReadError> {
        self.ledger.state(block)
    }

    pub(super) fn overlay(&self, block: &Block) -> Result<Overlay<'_>, ReadError> {
        self.ledger.overlay(block)
    }

    /// The block in the making, for who sees the newest one.
    pub(super) fn pending(&self) -> Result<Candidate, StateError> {
        self.ledger.pending(self.now)
    }

    /// The block in the making and the state after it.
    pub(super) fn pending_overlay(&self) -> Result<(Block, Overlay<'_>), StateError> {
        self.ledger.pending_overlay(self.now)
    }

    pub(super) fn pending_nonce(&self, sender: Address) -> Result<u64, StateError> {
        self.ledger.pending_nonce(sender)
    }

    /// Where a new reader of events begins.
    pub(super) fn feed_end(&self) -> u64 {
        self.ledger.feed.end()
    }

    /// What happened from `position` on.
    pub(super) fn events(&self, position: u64) -> Result<impl Iterator<Item = &Event>, Forgotten> {
        self.ledger.feed.since(position)
    }
}
