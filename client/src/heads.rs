//! The highest head this client ever verified, per chain spec: what makes "never back" hold over restarts.
//!
//! Whether a head is believed at all is decided in `windlass_protocol::head`; here only whether it is older
//! than, or contradicts, one that was believed before.

use crate::refused::Rejection;
use std::{collections::BTreeMap, io, sync::Arc, sync::Mutex, sync::PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_protocol::{B256, head::VerifiedHead};

/// The number and hash of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HighestHead {
    /// The block's number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
}

/// Keeps the highest verified head of each chain spec, by the spec's hash. Called on a thread where
/// blocking is allowed.
pub trait HeadStore: Send + Sync + 'static {
    /// The head kept for this spec, if there is one.
    fn load(&self, spec: B256) -> io::Result<Option<HighestHead>>;

    /// Keeps a head in place of a lower one.
    fn store(&self, spec: B256, head: HighestHead) -> io::Result<()>;
}

/// Forgets everything when the process ends: a device that restarts may be shown an older head once, as
/// far back as its max_age allows.
#[derive(Debug, Default)]
pub struct MemoryHeadStore(Mutex<BTreeMap<B256, HighestHead>>);

impl HeadStore for MemoryHeadStore {
    fn load(&self, spec: B256) -> io::Result<Option<HighestHead>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&spec).copied())
    }

    fn store(&self, spec: B256, head: HighestHead) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(spec, head);
        Ok(())
    }
}

impl<S: HeadStore> HeadStore for Arc<S> {
    fn load(&self, spec: B256) -> io::Result<Option<HighestHead>> {
        (**self).load(spec)
    }

    fn store(&self, spec: B256, head: HighestHead) -> io::Result<()> {
        (**self).store(spec, head)
    }
}

/// The highest verified head, for all who verify.
#[derive(Debug)]
pub(crate) struct Heads {
    highest: watch::Sender<Option<HighestHead>>,
}

impl Heads {
    pub(crate) fn new(known: Option<HighestHead>) -> Self {
        Self { highest: watch::Sender::new(known) }
    }

    /// Takes in the head of an answer to a question of ours: refused if it is older than one we know.
    pub(crate) fn advance(&self, head: &VerifiedHead) -> Result<(), Rejection> {
        self.note(head)?;
        match *self.highest.borrow() {
            Some(known) if head.number() < known.number => {
                Err(Rejection::Older { number: head.number(), highest: known.number })
            }
            _ => Ok(()),
        }
    }

    /// Takes in the head of a push: an older one is nothing new, a contradiction is refused.
    pub(crate) fn note(&self, head: &VerifiedHead) -> Result<(), Rejection> {
        let mut conflict = None;
        let (number, hash) = (head.number(), head.header().hash);
        self.highest.send_if_modified(|highest| match *highest {
            Some(known) if known.number == number && known.hash != hash => {
                conflict = Some(Rejection::Conflict { number, hash, known: known.hash });
                false
            }
            Some(known) if known.number >= number => false,
            _ => {
                *highest = Some(HighestHead { number, hash });
                true
            }
        });
        conflict.map_or(Ok(()), Err)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<HighestHead>> {
        self.highest.subscribe()
    }
}

/// Writes the highest head to the store whenever it rises, and once more before it ends.
pub(crate) async fn keep(heads: Arc<Heads>, store: Arc<dyn HeadStore>, spec: B256, stop: CancellationToken) {
    let mut highest = heads.subscribe();
    let mut running = true;
    while running {
        tokio::select! {
            () = stop.cancelled() => running = false,
            changed = highest.changed() => running = changed.is_ok(),
        }
        let head = *highest.borrow_and_update();
        if let Some(head) = head {
            write(store.clone(), spec, head).await;
        }
    }
}

async fn write(store: Arc<dyn HeadStore>, spec: B256, head: HighestHead) {
    let written = tokio::task::spawn_blocking(move || store.store(spec, head)).await;
    if let Ok(Err(error)) = written {
        tracing::warn!(%error, number = head.number, "can't keep the highest head: after a restart older ones pass");
    }
}
