//! Who asks, and what of the chain they see.
//!
//! Owns the state behind the door that isn't the chain's: installed filters and the number of connections.
//! Every method reads the chain through [`Seen`], so that what a caller is shown is decided in one place.

use super::faults::{FaultBook, FaultSet};
use super::filters::Filters;
use super::subscriptions::Subscriptions;
use crate::chain::Shared;
use crate::chain::block::{Block, Candidate, Transacted};
use crate::chain::evm::{CallTracer, Overlay};
use crate::chain::feed::{Event, Forgotten};
use crate::chain::ledger::{Ledger, Place, ReadError, TraceError};
use crate::chain::limits::MAX_CONNECTIONS;
use crate::chain::state::{StateAt, StateError};
use alloy_consensus::Header;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockReadGuard};
use tokio::sync::Semaphore;
use windlass_protocol::{Address, B256};

/// What all callers share.
pub(in crate::chain) struct Service {
    pub(super) shared: Arc<Shared>,
    filters: Mutex<Filters>,
    faults: Mutex<FaultBook>,
    faultless: Arc<FaultSet>,
    /// Held while a transaction's missing members are filled in and it is taken in, so that two at a time
    /// don't get one nonce. Taken before the chain's lock.
    sending: Mutex<()>,
    /// One permit for each WebSocket connection there may be.
    pub(super) connections: Arc<Semaphore>,
    opened: AtomicU64,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Service")
    }
}

impl Service {
    pub(in crate::chain) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            filters: Mutex::default(),
            faults: Mutex::default(),
            faultless: Arc::default(),
            sending: Mutex::default(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            opened: AtomicU64::new(0),
        })
    }

    /// Who has which faults. No other lock is taken while this one is held.
    pub(super) fn fault_book(&self) -> MutexGuard<'_, FaultBook> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn to fill in a transaction and send it.
    pub(super) fn turn_to_send(&self) -> MutexGuard<'_, ()> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// The name of the faults it gets, if it connected to a path that has them.
    faulty: Option<String>,
}

impl Caller {
    /// Somebody over HTTP, perhaps by the path of a name with faults.
    pub(super) fn http(service: Arc<Service>, faulty: Option<String>) -> Self {
        Self { service, connection: None, faulty }
    }

    /// Somebody over a new WebSocket connection.
    pub(super) fn socket(service: Arc<Service>, faulty: Option<String>) -> Self {
        let id = service.opened.fetch_add(1, Ordering::Relaxed);
        let connection = Connection { id, subscriptions: Mutex::default() };
        Self { service, connection: Some(connection), faulty }
    }

    /// The chain, to change.
    pub(super) fn shared(&self) -> &Shared {
        &self.service.shared
    }

    /// The chain as this caller sees it.
    pub(super) fn read(&self) -> Seen<'_> {
        let faults = self.faults();
        let ledger = self.shared().read();
        let (tip, feed_end) = faults.horizon(&ledger);
        Seen { ledger, faults, tip, feed_end, now: self.shared().now() }
    }

    /// What goes wrong for this caller at present.
    pub(super) fn faults(&self) -> Arc<FaultSet> {
        let named = self.faulty.as_ref().and_then(|name| self.service.fault_book().of(name));
        named.unwrap_or_else(|| self.service.faultless.clone())
    }

    /// Which filters are this caller's: its connection's, or those installed over HTTP.
    pub(super) fn owner(&self) -> Option<u64> {
        self.connection.as_ref().map(|connection| connection.id)
    }
}

/// The chain up to a block.
pub(super) struct Seen<'a> {
    ledger: RwLockReadGuard<'a, Ledger>,
    pub(super) faults: Arc<FaultSet>,
    /// Number of the newest block that is seen.
    tip: u64,
    /// The position after the last event that is seen.
    feed_end: u64,
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

    /// What the transaction at `place` did.
    pub(super) fn trace(&self, place: &Place, tracer: CallTracer) -> Result<CallTracer, TraceError> {
        self.ledger.trace(place, tracer)
    }

    pub(super) fn state(&self, block: &Block) -> Result<StateAt<'_>, ReadError> {
        self.check_kept(block)?;
        self.ledger.state(block)
    }

    pub(super) fn overlay(&self, block: &Block) -> Result<Overlay<'_>, ReadError> {
        self.check_kept(block)?;
        self.ledger.overlay(block)
    }

    /// Number of the oldest block that isn't pruned for this caller.
    pub(super) fn oldest_kept(&self) -> u64 {
        self.faults.oldest_kept(self.tip)
    }

    fn check_kept(&self, block: &Block) -> Result<(), ReadError> {
        let height = block.header.number;
        if height < self.oldest_kept() { Err(ReadError::Pruned { height }) } else { Ok(()) }
    }

    /// Whether the newest block is seen, and with it the one in the making.
    pub(super) fn is_current(&self) -> bool {
        self.tip == self.ledger.height()
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
        self.feed_end
    }

    /// What happened from `position` on.
    pub(super) fn events(&self, position: u64) -> Result<impl Iterator<Item = &Event>, Forgotten> {
        let seen = usize::try_from(self.feed_end.saturating_sub(position)).unwrap_or(usize::MAX);
        Ok(self.ledger.feed.since(position)?.take(seen).map(|entry| &entry.event))
    }

    /// Whether something happened that isn't seen yet.
    pub(super) fn hides_events(&self) -> bool {
        self.feed_end < self.ledger.feed.end()
    }
}
