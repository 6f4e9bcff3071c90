//! Which committee is in office in which epoch, as the mirror has it; and the task that keeps it up to date.
//!
//! The registry holds the hash of a committee, the chain's events its list: one that hashes to the slot is the
//! committee, whoever told it. What can't be had is asked again; until then heads of that epoch are neither signed nor
//! served.

use crate::follower::MirrorState;
use crate::limits::{COMMITTEES_KEPT, LIST_PAUSE, STEPS_KEPT};
use crate::on_disk::on_disk;
use crate::store::{Column, Durability, Family, Headers, Store, StoreError, View, ViewError};
use rlp::{Rlp, RlpStream};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_protocol::committee::{Committee, Committees, ListError, committee_hash};
use windlass_protocol::header::Header;
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::{Address, B256};

/// The committees so far.
#[derive(Clone, Debug)]
pub struct Lineage {
    committees: Committees,
    /// The epochs that brought a committee of their own, with its list.
    changes: BTreeMap<u32, Vec<Address>>,
    /// Those up to the spec's date, where a renewed spec begins later than devices that know an older one: `None` until
    /// they were read.
    earlier: Option<BTreeSet<u32>>,
}

impl Lineage {
    /// The spec's committee, before anything was read.
    pub fn first(spec: &VerifiedSpec) -> Self {
        Self { committees: Committees::first(spec), changes: BTreeMap::new(), earlier: None }
    }

    /// The spec's committee in office for ever: for a registry in which nobody can be proposed.
    pub fn lasting(spec: &VerifiedSpec) -> Self {
        let committees = Committees::resume(spec, spec.committee.clone(), 0, u32::MAX);
        let committees = committees.unwrap_or_else(|| Committees::first(spec));
        Self { committees, changes: BTreeMap::new(), earlier: Some(BTreeSet::new()) }
    }

    /// Who is in office.
    pub fn committees(&self) -> &Committees {
        &self.committees
    }

    /// The committee of an epoch, if it is known.
    pub fn of(&self, epoch: u32) -> Option<&Committee> {
        self.committees.of(epoch)
    }

    /// The first epoch from this one on that brought a committee of its own.
    pub fn change_from(&self, epoch: u32) -> Option<u32> {
        let earlier = self.earlier.iter().flat_map(|earlier| earlier.range(epoch..)).next();
        earlier.or_else(|| self.changes.range(epoch..).next().map(|(epoch, _)| epoch)).copied()
    }

    /// The committee that an epoch brought, if it brought one.
    pub fn change_at(&self, epoch: u32) -> Option<&[Address]> {
        self.changes.get(&epoch).map(Vec::as_slice)
    }

    /// Where a device stands that has walked to the end of the epoch before this one; `None` for what lies before the spec,
    /// or ahead.
    pub(super) fn before(&self, spec: &VerifiedSpec, epoch: u32) -> Option<Committees> {
        let through = epoch.checked_sub(1).filter(|through| *through <= self.committees.through())?;
        let first = || (0, spec.committee.clone());
        let last = self.changes.range(..epoch).next_back();
        // Where changes were forgotten, who was in office before those that are remembered isn't known.
        let whole = self.changes.len() < COMMITTEES_KEPT;
        let (from, members) = match last {
            Some((from, members)) => (*from, members.clone()),
            None => whole.then(first)?,
        };
        Committees::resume(spec, members, from, through)
    }

    /// Walks one epoch on.
    pub(super) fn advance(&mut self, proven: B256, members: &[Address]) -> Result<(), ListError> {
        self.committees.advance(proven, members)?;
        if !proven.is_zero() {
            self.changes.insert(self.committees.through(), members.to_vec());
            while self.changes.len() > COMMITTEES_KEPT {
                self.changes.pop_first();
            }
        }
        Ok(())
    }
}

/// The lineage as others see it.
pub type KnownLineage = watch::Receiver<Arc<Lineage>>;

/// Who can tell the list of a committee whose hash is known. The answer is checked.
pub trait ListSource: Send + Sync + 'static {
    /// Lists that were proposed for an epoch; `until` is the last block to look at.
    fn proposed(
        &self,
        spec: &VerifiedSpec,
        epoch: u32,
        until: u64,
    ) -> impl Future<Output = Vec<Vec<Address>>> + Send;
}

/// Epoch → list of its committee, as far as epochs brought one.
struct Lists;

impl Column for Lists {
    const FAMILY: Family = Family::Head;
    type Key = u32;
    type Value = Vec<Address>;
    fn key(epoch: &u32) -> Vec<u8> {
        [b"list", &epoch.to_be_bytes()[..]].concat()
    }
    fn encode(members: &Vec<Address>) -> Vec<u8> {
        let mut s = RlpStream::new_list(members.len());
        members.iter().for_each(|member| {
            s.append(&member.as_slice());
        });
        s.out().to_vec()
    }
    fn decode(bytes: &[u8]) -> Option<Vec<Address>> {
        Rlp::new(bytes).iter().map(|item| Address::try_from(item.data().ok()?).ok()).collect()
    }
}

/// Why the task ended.
#[derive(Debug, thiserror::Error)]
#[error("the committees can't be read: {0}")]
pub struct LineageError(#[from] StoreError);

/// Reads committees from the mirror.
pub struct Genealogist<S> {
    source: Arc<S>,
    store: Arc<Store>,
    spec: Arc<VerifiedSpec>,
    known: watch::Sender<Arc<Lineage>>,
}

impl<S: ListSource> Genealogist<S> {
    /// Starts with the spec's committee.
    pub fn new(source: Arc<S>, store: Arc<Store>, spec: Arc<VerifiedSpec>) -> Self {
        let known = watch::Sender::new(Arc::new(Lineage::first(&spec)));
        Self { source, store, spec, known }
    }

    /// The lineage, now and from now on.
    pub fn known(&self) -> KnownLineage {
        self.known.subscribe()
    }

    /// Follows the mirror until cancelled, or until the disk fails.
    pub async fn run(
        self,
        mut mirror: watch::Receiver<MirrorState>,
        cancelled: CancellationToken,
    ) -> Result<(), LineageError> {
        mirror.mark_changed();
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return Ok(()),
                changed = mirror.changed() => if changed.is_err() {
                    // The follower has ended, and says why; the node is about to.
                    cancelled.cancelled().await;
                    return Ok(());
                },
            }
            let state = mirror.borrow_and_update().clone();
            let Some(head) = state.attestable else { continue };
            tokio::select! {
                () = cancelled.cancelled() => return Ok(()),
                outcome = self.catch_up(head.position.number, state.generation) => if !outcome? {
                    // Asked again soon: nothing can be signed meanwhile.
                    tokio::time::sleep(LIST_PAUSE).await;
                    mirror.mark_changed();
                },
            }
        }
    }

    /// Walks as far as a final head settles; `false` if a list can't be had now.
    pub(super) async fn catch_up(&self, number: u64, generation: u64) -> Result<bool, StoreError> {
        let header =
            on_disk(|| self.store.get::<Headers>(&number))?.and_then(|rlp| Header::decode(&rlp).ok());
        let Some(header) = header else { return Ok(true) };
        let epoch = self.spec.epoch_at(header.timestamp);
        let settled =
            if self.spec.is_second_half(header.timestamp) { epoch.saturating_add(1) } else { epoch };
        let mut lineage = (**self.known.borrow()).clone();
        let before = lineage.committees.through();
        let mut news = false;
        if lineage.earlier.is_none() {
            let Some(earlier) = on_disk(|| self.earlier(number, generation))? else { return Ok(true) };
            lineage.earlier = Some(earlier);
            news = true;
        }
        let mut whole = true;
        while lineage.committees.through() < settled {
            let next = lineage.committees.through() + 1;
            let view = View::new(&self.store, number, generation);
            let value = on_disk(|| view.slot(Slot::Committee(next)))?;
            match view.check() {
                Ok(()) => {}
                Err(ViewError::Store(error)) => return Err(error),
                // Rebuilt or pruned meanwhile: a newer state is on its way.
                Err(_) => break,
            }
            let list =
                if value.is_zero() { Some(Vec::new()) } else { self.list(next, value, number).await? };
            let Some(list) = list else {
                whole = false;
                break;
            };
            if let Err(error) = lineage.advance(value, &list) {
                tracing::error!(epoch = next, %error, "a proposed committee that can't be");
                whole = false;
                break;
            }
            if !value.is_zero() {
                tracing::info!(
                    epoch = next,
                    members = list.len(),
                    "a new committee is in office from this epoch on"
                );
            }
        }
        if news || lineage.committees.through() > before {
            self.known.send_replace(Arc::new(lineage));
        }
        Ok(whole)
    }

    /// The epochs up to the spec's date that brought a committee of their own, as far back as heads are kept: devices that
    /// know only an older version of the spec walk over them. `None` while the mirror is being rebuilt.
    fn earlier(&self, number: u64, generation: u64) -> Result<Option<BTreeSet<u32>>, StoreError> {
        let last = self.spec.epoch_at(self.spec.date);
        let view = View::new(&self.store, number, generation);
        let mut earlier = BTreeSet::new();
        for epoch in last.saturating_sub(STEPS_KEPT - 1)..=last {
            if !view.slot(Slot::Committee(epoch))?.is_zero() {
                earlier.insert(epoch);
            }
        }
        match view.check() {
            Ok(()) => Ok(Some(earlier)),
            Err(ViewError::Store(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The list with this hash: kept, or told by the chain.
    async fn list(&self, epoch: u32, hash: B256, until: u64) -> Result<Option<Vec<Address>>, StoreError> {
        let kept = on_disk(|| self.store.get::<Lists>(&epoch))?;
        if let Some(kept) = kept.filter(|kept| committee_hash(kept) == hash) {
            return Ok(Some(kept));
        }
        let proposed = self.source.proposed(&self.spec, epoch, until).await;
        let Some(list) = proposed.into_iter().find(|list| committee_hash(list) == hash) else {
            tracing::warn!(epoch, "no chain provider tells the list of this epoch's committee");
            return Ok(None);
        };
        on_disk(|| {
            let mut batch = self.store.batch();
            batch.put::<Lists>(&epoch, &list);
            batch.commit(Durability::Disk)
        })?;
        Ok(Some(list))
    }
}
