//! One attested head of each epoch's second half, kept with the proof of who comes next: what a device that slept walks
//! on. The mirror proves only recent heights, so the proof is taken while the head is served.

use super::{Lineage, ServedHead};
use crate::limits::{STEP_EPOCHS, STEPS_KEPT};
use crate::store::{Column, Durability, Family, Headers, Store, StoreError, ViewError};
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};
use windlass_protocol::bundle::{Bundle, MAX_BUNDLE_BYTES, verify_account};
use windlass_protocol::committee::{CommitteeStep, MAX_STEP_EPOCHS, StepError, verify_step};
use windlass_protocol::header::Header;
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::trie::ProofPool;
use windlass_protocol::{Address, keccak256, wire};

/// A kept head: it proves the committee slots of the epochs from `first` to the one after its own.
#[derive(Clone, PartialEq, Eq, Debug)]
struct KeptStep {
    first: u32,
    bundle: Bundle,
    members: Vec<Address>,
}

/// `[first, bundle, [member…]]`.
impl Encodable for KeptStep {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(3).append(&self.first).append(&self.bundle).begin_list(self.members.len());
        self.members.iter().for_each(|member| {
            s.append(&member.as_slice());
        });
    }
}

impl Decodable for KeptStep {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let member =
            |item: Rlp<'_>| Address::try_from(item.data()?).map_err(|_| DecoderError::RlpInvalidLength);
        let members = rlp.at(2)?.iter().map(member).collect::<Result<_, _>>()?;
        Ok(Self { first: rlp.val_at(0)?, bundle: rlp.val_at(1)?, members })
    }
}

/// Epoch → its kept head.
struct Steps;

impl Column for Steps {
    const FAMILY: Family = Family::Head;
    type Key = u32;
    type Value = KeptStep;
    fn key(epoch: &u32) -> Vec<u8> {
        [b"step", &epoch.to_be_bytes()[..]].concat()
    }
    fn encode(step: &KeptStep) -> Vec<u8> {
        rlp::encode(step).to_vec()
    }
    fn decode(bytes: &[u8]) -> Option<KeptStep> {
        rlp::decode(bytes).ok()
    }
}

fn slots(first: u32, last: u32) -> Vec<Slot> {
    (first..=last).map(Slot::Committee).collect()
}

/// Keeps a served head, if it is the first of its epoch's second half; gives the epoch. Reads and writes the disk.
pub(super) fn keep(
    store: &Store,
    spec: &VerifiedSpec,
    lineage: &Lineage,
    head: &ServedHead,
) -> Result<Option<u32>, StoreError> {
    let timestamp = head.header.timestamp;
    let epoch = spec.epoch_at(timestamp);
    let Some(next) = epoch.checked_add(1).filter(|_| spec.is_second_half(timestamp)) else { return Ok(None) };
    // Nobody steps over an epoch with a committee of its own.
    let Some(committee) = lineage.of(epoch) else { return Ok(None) };
    if lineage.of(next).is_none() || store.get::<Steps>(&epoch)?.is_some() {
        return Ok(None);
    }
    let mut first = next.saturating_sub(STEP_EPOCHS - 1).max(committee.from() + 1).min(next);
    let bundle = loop {
        match head.prove(store, &slots(first, next)) {
            Ok(bundle) if wire::encode(&bundle).len() <= MAX_BUNDLE_BYTES => break bundle,
            Ok(_) if first < next => first += (next - first).div_ceil(2),
            Ok(_) => return Ok(None),
            Err(ViewError::Store(error)) => return Err(error),
            // The window moved on: a later head of this half will do.
            Err(_) => return Ok(None),
        }
    };
    let members = lineage.change_at(next).map(<[Address]>::to_vec).unwrap_or_default();
    let mut batch = store.batch();
    batch.put::<Steps>(&epoch, &KeptStep { first, bundle, members });
    if let Some(old) = epoch.checked_sub(STEPS_KEPT) {
        batch.delete::<Steps>(&old);
    }
    batch.commit(Durability::Disk)?;
    Ok(Some(epoch))
}

/// A step towards `epoch` from the one before, as long as it can be. Reads the disk.
pub(crate) fn towards(
    store: &Store,
    spec: &VerifiedSpec,
    lineage: &Lineage,
    head: &ServedHead,
    epoch: u32,
) -> Result<Option<CommitteeStep>, ViewError> {
    let newest = spec.epoch_at(head.header.timestamp);
    match lineage.change_from(epoch) {
        Some(change) => kept_towards(store, spec, epoch, change).map_err(ViewError::Store),
        None if epoch <= newest => under(store, head, epoch, newest),
        None => Ok(None),
    }
}

/// Those who come to be replaced have signed heads until then: the last of them leads furthest.
fn kept_towards(
    store: &Store,
    spec: &VerifiedSpec,
    epoch: u32,
    change: u32,
) -> Result<Option<CommitteeStep>, StoreError> {
    let kept = last_kept(store, epoch, change)?;
    Ok(kept.and_then(|(of, kept)| trimmed(spec, kept, epoch, of + 1)))
}

/// The last head before a change that proves the slots from this epoch on, and its own epoch.
fn last_kept(store: &Store, epoch: u32, change: u32) -> Result<Option<(u32, KeptStep)>, StoreError> {
    let lowest = epoch.saturating_sub(1).max(change.saturating_sub(STEPS_KEPT));
    for of in (lowest..change).rev() {
        if let Some(kept) = store.get::<Steps>(&of)?.filter(|kept| kept.first <= epoch) {
            return Ok(Some((of, kept)));
        }
    }
    Ok(None)
}

/// The first epoch since the spec to whose committee no kept head leads, although another one came into office there or
/// later, up to `newest`. What is about to be pruned isn't missed. Reads the disk.
pub(super) fn missing(
    store: &Store,
    spec: &VerifiedSpec,
    lineage: &Lineage,
    newest: u32,
) -> Result<Option<u32>, StoreError> {
    let first = spec.epoch_at(spec.date).saturating_add(1);
    let mut epoch = first.max(newest.saturating_sub(STEPS_KEPT - STEP_EPOCHS));
    while let Some(change) = lineage.change_from(epoch).filter(|change| *change <= newest) {
        match last_kept(store, epoch, change)? {
            Some((of, _)) => epoch = of.saturating_add(2),
            None => return Ok(Some(epoch)),
        }
    }
    Ok(None)
}

/// Why a head that a peer gave isn't kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unkept {
    /// Who was in office before isn't known.
    #[error("who was in office before epoch {0} isn't known")]
    Before(u32),
    /// A device wouldn't believe it either.
    #[error(transparent)]
    Step(#[from] StepError),
    /// Signed by those who were in office, and not what the mirror holds.
    #[error("it leads to another committee of epoch {0} than our own mirror proves")]
    Contradicts(u32),
    /// Another block than ours, or one that we can't know.
    #[error("its block {0} isn't one of our final ones")]
    Block(u64),
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps a head that a peer gave as a step towards `epoch`, if those signed it who were in office, and it proves what our
/// own mirror says; `newest` is our newest final block. Gives the epoch it leads to. Reads and writes the disk.
pub(super) fn take(
    store: &Store,
    spec: &VerifiedSpec,
    lineage: &Lineage,
    epoch: u32,
    newest: u64,
    step: CommitteeStep,
) -> Result<u32, Unkept> {
    let before = lineage.before(spec, epoch).ok_or(Unkept::Before(epoch))?;
    // Without the time: however long ago it was, our own mirror tells who was in office.
    let verified = verify_step(spec, &before, None, &step)?;
    let (last, head) = (verified.last(), verified.bundle().head());
    let change = lineage.change_from(epoch);
    let as_mirrored = match verified.next() {
        Some(members) => change == Some(last) && lineage.change_at(last) == Some(members),
        None => change.is_none_or(|change| last < change),
    };
    if !as_mirrored {
        return Err(Unkept::Contradicts(last));
    }
    // Devices remember the highest block that was shown to them: those who left office may not put it where they like.
    let ours = store.get::<Headers>(&head.number())?.map(|rlp| keccak256(&rlp));
    if head.number() > newest || ours.is_some_and(|ours| ours != head.header().hash) {
        return Err(Unkept::Block(head.number()));
    }
    let of = last.saturating_sub(1);
    let mut batch = store.batch();
    batch.put::<Steps>(&of, &KeptStep { first: epoch, bundle: step.bundle, members: step.members });
    batch.commit(Durability::Disk)?;
    Ok(last)
}

/// The same proof without the slots of epochs that were walked already.
fn trimmed(spec: &VerifiedSpec, kept: KeptStep, first: u32, last: u32) -> Option<CommitteeStep> {
    let KeptStep { mut bundle, members, .. } = kept;
    let state_root = Header::decode(&bundle.header).ok()?.state_root;
    let root = verify_account(&spec.contracts.registry, state_root, &bundle.account).ok()?.storage_root;
    let pool = ProofPool::new(&bundle.storage).ok()?;
    let mut storage = Vec::new();
    for slot in slots(first, last) {
        for node in pool.path(root, &slot.trie_key()).ok()? {
            if !storage.contains(&node) {
                storage.push(node);
            }
        }
    }
    bundle.storage = storage;
    Some(CommitteeStep { bundle, last, members })
}

/// Nobody was replaced since: the served head proves as many empty slots as fit. One that isn't empty, of an epoch longer
/// ago than heads are kept, leads nowhere.
fn under(
    store: &Store,
    head: &ServedHead,
    first: u32,
    newest: u32,
) -> Result<Option<CommitteeStep>, ViewError> {
    let mut last = newest.min(first.saturating_add(MAX_STEP_EPOCHS - 1));
    let view = head.view(store);
    for slot in slots(first, last) {
        if !view.slot(slot)?.is_zero() {
            return view.check().map(|()| None);
        }
    }
    loop {
        let bundle = head.prove(store, &slots(first, last))?;
        if first == last || wire::encode(&bundle).len() <= MAX_BUNDLE_BYTES {
            return Ok(Some(CommitteeStep { bundle, last, members: Vec::new() }));
        }
        last -= (last - first).div_ceil(2);
    }
}
