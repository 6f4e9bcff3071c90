//! The highest head this client ever verified, per chain spec: what makes "never back" hold over restarts.
//!
//! Whether a head is believed at all is decided in `windlass_protocol::head`; here only whether it is older
//! than, or contradicts, one that was believed before.

use crate::{refused::Rejection, verifier::Verifier};
use std::{collections::BTreeMap, io, sync::Arc, sync::Mutex, sync::PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_protocol::{Address, B256, committee::Committees, head::VerifiedHead};

/// The number and hash of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HighestHead {
    /// The block's number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
}

/// How far a client has walked from committee to committee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// The latest committee known, ascending.
    pub members: Vec<Address>,
    /// Its first epoch.
    pub from: u32,
    /// The last epoch that it is known to be in office for.
    pub through: u32,
}

/// Keeps the highest verified head of each chain spec, by the spec's hash, and how far the client has walked. Called on
/// a thread where blocking is allowed. Believed as it is: nobody else may write there.
pub trait HeadStore: Send + Sync + 'static {
    /// The head kept for this spec, if there is one.
    fn load(&self, spec: B256) -> io::Result<Option<HighestHead>>;

    /// Keeps a head in place of a lower one.
    fn store(&self, spec: B256, head: HighestHead) -> io::Result<()>;

    /// How far the client walked under this spec. Default: nothing is kept, so that each start walks from the spec on, as
    /// long as that is within the trusting period.
    fn load_committee(&self, _spec: B256) -> io::Result<Option<Walked>> {
        Ok(None)
    }

    /// Keeps how far the client walked, in place of less.
    fn store_committee(&self, _spec: B256, _walked: Walked) -> io::Result<()> {
        Ok(())
    }
}

/// Forgets everything when the process ends: a device that restarts may be shown an older head once, as
/// far back as its max_age allows.
#[derive(Debug, Default)]
pub struct MemoryHeadStore(Mutex<BTreeMap<B256, HighestHead>>, Mutex<BTreeMap<B256, Walked>>);

impl HeadStore for MemoryHeadStore {
    fn load(&self, spec: B256) -> io::Result<Option<HighestHead>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&spec).copied())
    }

    fn store(&self, spec: B256, head: HighestHead) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(spec, head);
        Ok(())
    }

    fn load_committee(&self, spec: B256) -> io::Result<Option<Walked>> {
        Ok(self.1.lock().unwrap_or_else(PoisonError::into_inner).get(&spec).cloned())
    }

    fn store_committee(&self, spec: B256, walked: Walked) -> io::Result<()> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).insert(spec, walked);
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

    fn load_committee(&self, spec: B256) -> io::Result<Option<Walked>> {
        (**self).load_committee(spec)
    }

    fn store_committee(&self, spec: B256, walked: Walked) -> io::Result<()> {
        (**self).store_committee(spec, walked)
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

/// Writes the highest head and the latest committee to the store whenever they change, and once more before it ends.
pub(crate) async fn keep(
    heads: Arc<Heads>,
    verifier: Arc<Verifier>,
    store: Arc<dyn HeadStore>,
    stop: CancellationToken,
) {
    let (mut highest, mut committees) = (heads.subscribe(), verifier.subscribe());
    let spec = verifier.spec.hash();
    let mut running = true;
    while running {
        tokio::select! {
            () = stop.cancelled() => running = false,
            changed = highest.changed() => running = changed.is_ok(),
            changed = committees.changed() => running = changed.is_ok(),
        }
        let head = *highest.borrow_and_update();
        let walked = walked(&committees.borrow_and_update());
        write(store.clone(), spec, head, walked).await;
    }
}

fn walked(committees: &Committees) -> Walked {
    let latest = committees.latest();
    Walked { members: latest.members().to_vec(), from: latest.from(), through: latest.through() }
}

async fn write(store: Arc<dyn HeadStore>, spec: B256, head: Option<HighestHead>, walked: Walked) {
    let through = walked.through;
    let write = move || {
        // The committee first: a head can't be believed without it.
        store.store_committee(spec, walked)?;
        head.map_or(Ok(()), |head| store.store(spec, head))
    };
    if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
        tracing::warn!(%error, number = head.map(|head| head.number), epoch = through,
            "can't keep the highest head: after a restart older ones pass");
    }
}
