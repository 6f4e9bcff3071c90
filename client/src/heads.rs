//! The highest head this client ever verified, per network: what makes "never back" hold over restarts.
//!
//! Whether a head is believed at all is decided in `windlass_protocol::head`; here only whether it is older
//! than, or contradicts, one that was believed before.

use crate::{
    events::{Event, Teller},
    refused::Rejection,
    verifier::{Standing, Verifier},
};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
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

impl Walked {
    pub(crate) fn of(committees: &Committees) -> Self {
        let latest = committees.latest();
        Self { members: latest.members().to_vec(), from: latest.from(), through: latest.through() }
    }
}

/// Keeps the highest verified head of each network ([`VerifiedSpec::network`]), the newest chain spec used there, and how
/// far the client has walked. Called on a thread where blocking is allowed. Believed as it is, the signed spec excepted:
/// nobody else may write there.
///
/// [`VerifiedSpec::network`]: crate::VerifiedSpec::network
pub trait HeadStore: Send + Sync + 'static {
    /// The head kept for this network, if there is one.
    fn load(&self, network: B256) -> io::Result<Option<HighestHead>>;

    /// Keeps a head in place of a lower one.
    fn store(&self, network: B256, head: HighestHead) -> io::Result<()>;

    /// The newest chain spec used in this network, as its publisher signed it. Default: nothing is kept, so that each start
    /// begins with the spec that is given, however old.
    fn load_spec(&self, _network: B256) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Keeps a signed chain spec in place of one of a lower version.
    fn store_spec(&self, _network: B256, _signed: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// How far the client walked under this spec, by its hash. Default: nothing is kept, so that each start walks from the spec on, as
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
pub struct MemoryHeadStore(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    heads: BTreeMap<B256, HighestHead>,
    specs: BTreeMap<B256, Vec<u8>>,
    committees: BTreeMap<B256, Walked>,
}

impl MemoryHeadStore {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeadStore for MemoryHeadStore {
    fn load(&self, network: B256) -> io::Result<Option<HighestHead>> {
        Ok(self.lock().heads.get(&network).copied())
    }

    fn store(&self, network: B256, head: HighestHead) -> io::Result<()> {
        self.lock().heads.insert(network, head);
        Ok(())
    }

    fn load_spec(&self, network: B256) -> io::Result<Option<Vec<u8>>> {
        Ok(self.lock().specs.get(&network).cloned())
    }

    fn store_spec(&self, network: B256, signed: &[u8]) -> io::Result<()> {
        self.lock().specs.insert(network, signed.to_vec());
        Ok(())
    }

    fn load_committee(&self, spec: B256) -> io::Result<Option<Walked>> {
        Ok(self.lock().committees.get(&spec).cloned())
    }

    fn store_committee(&self, spec: B256, walked: Walked) -> io::Result<()> {
        self.lock().committees.insert(spec, walked);
        Ok(())
    }
}

impl<S: HeadStore> HeadStore for Arc<S> {
    fn load(&self, network: B256) -> io::Result<Option<HighestHead>> {
        (**self).load(network)
    }

    fn store(&self, network: B256, head: HighestHead) -> io::Result<()> {
        (**self).store(network, head)
    }

    fn load_spec(&self, network: B256) -> io::Result<Option<Vec<u8>>> {
        (**self).load_spec(network)
    }

    fn store_spec(&self, network: B256, signed: &[u8]) -> io::Result<()> {
        (**self).store_spec(network, signed)
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
    teller: Teller,
    stop: CancellationToken,
) {
    let (mut highest, mut standing) = (heads.subscribe(), verifier.subscribe());
    let mut running = true;
    while running {
        tokio::select! {
            () = stop.cancelled() => running = false,
            changed = highest.changed() => running = changed.is_ok(),
            changed = standing.changed() => running = changed.is_ok(),
        }
        let head = *highest.borrow_and_update();
        let standing = standing.borrow_and_update().clone();
        if let Err(error) = write(store.clone(), standing, head).await {
            tracing::warn!(%error, number = head.map(|head| head.number),
                "can't keep the highest head: after a restart older ones pass");
            teller.tell(|| Event::NotKept(Arc::new(error)));
        }
    }
}

async fn write(store: Arc<dyn HeadStore>, standing: Standing, head: Option<HighestHead>) -> io::Result<()> {
    let Standing { spec, committees } = standing;
    let write = move || {
        // The committee first: a head can't be believed without it.
        store.store_committee(spec.hash(), Walked::of(&committees))?;
        head.map_or(Ok(()), |head| store.store(spec.network(), head))
    };
    tokio::task::spawn_blocking(write).await.map_err(io::Error::other).flatten()
}
