//! The newest evidence, and every live stream that rests on it.
//!
//! The one place that lets streams live: [`Guard::admit`] judges a stream before it begins, every change of
//! evidence and every expiry judges it again, and what is refused is ended on the spot. It asks nobody for
//! evidence and has no task of its own: `keep` calls it in time. By which rules it judges is in `rule`, what it judges over
//! in `state`.

mod rule;
mod state;

pub(crate) use rule::{Own, Rule};

use crate::{
    clock::Clock,
    events::{Event, Teller},
    stream::{Ended, Pipe},
};
use libp2p::PeerId;
use state::{Live, State, fresh_until};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, watch};
use windlass_protocol::{
    DeviceId, Service,
    authorise::{Authorisation, Refusal},
    bundle::VerifiedBundle,
    message::watch::TailNotice,
    question::{Target, name_target},
    record::{DeviceRecord, NameRecord},
    slot::Slot,
};

/// What a live stream rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The proven slots.
    pub slots: Vec<Slot>,
    /// Unix seconds: with no newer evidence by then, the stream ends.
    pub until: u64,
    /// The oldest block any of the slots was last proven under.
    pub number: u64,
    /// Seconds since a threshold of the committee vouched for the oldest of that evidence.
    pub age: u64,
}

/// A device as far as it is known without asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub device: DeviceId,
    /// Its proven record, whatever its status.
    pub record: DeviceRecord,
    /// The oldest block that any of it was last proven under.
    pub number: u64,
    /// Seconds since a threshold of the committee vouched for the oldest of it.
    pub age: u64,
}

/// Evidence and live streams. See the module.
pub(crate) struct Guard {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    teller: Teller,
    /// Streams that may live at a time.
    most: usize,
    /// Counts changes of the set of slots to watch.
    interest: watch::Sender<u64>,
    /// Something is due earlier than before.
    due: Notify,
}

impl Guard {
    pub(crate) fn new(clock: Arc<dyn Clock>, teller: Teller, most: usize) -> Arc<Self> {
        let state = Mutex::new(State::default());
        Arc::new(Self { state, clock, teller, most, interest: watch::Sender::new(0), due: Notify::new() })
    }

    /// Takes in proven slots, and ends the streams that they no longer allow.
    pub(crate) fn observe(&self, bundle: &VerifiedBundle) {
        let now = self.clock.unix_seconds();
        let refused = {
            let mut state = self.lock();
            let changed = state.evidence.observe(bundle);
            state.see_head(bundle);
            state.note_changes(&changed, bundle.head().number());
            state.settle(now);
            state.pin_proven(bundle);
            if changed.is_empty() {
                Vec::new()
            } else {
                // What changed may also end something earlier than was known.
                self.due.notify_one();
                state.judge(now, |rests| rests.slots.iter().any(|slot| changed.contains(slot)))
            }
        };
        self.end(refused);
    }

    /// Takes in what a node says of a block that isn't final, until a final head decides, at most for `lasting`
    /// seconds: ends streams and keeps others from beginning, never allows anything.
    pub(crate) fn doubt(&self, notice: &TailNotice, by: PeerId, lasting: u64) {
        let now = self.clock.unix_seconds();
        let refused = {
            let mut state = self.lock();
            state.settle(now);
            if state.unfounded.contains(&by) {
                return;
            }
            let mut doubted = Vec::new();
            for (slot, value) in &notice.slots {
                if state.evidence.doubt(*slot, *value, notice.number, now.saturating_add(lasting)) {
                    state.doubted_by.insert(*slot, by);
                    doubted.push(*slot);
                }
            }
            state.judge(now, |rests| rests.slots.iter().any(|slot| doubted.contains(slot)))
        };
        self.end(refused);
    }

    /// Whether a notice of this node's came to nothing.
    pub(crate) fn is_unfounded(&self, node: &PeerId) -> bool {
        self.lock().unfounded.contains(node)
    }

    /// Ends the streams whose time is up, unless newer evidence prolongs it.
    pub(crate) fn sweep(&self) {
        let now = self.clock.unix_seconds();
        let refused = {
            let mut state = self.lock();
            state.settle(now);
            state.judge(now, |rests| rests.until <= now)
        };
        self.end(refused);
    }

    fn end(&self, refused: Vec<(Live, Refusal)>) {
        if refused.is_empty() {
            return;
        }
        for (live, refusal) in refused {
            let (peer, service) = live.rule.other_end();
            tracing::info!(%peer, %refusal, "ended a live stream");
            let why = Ended::Denied(refusal);
            live.pipe.end(why);
            self.teller.tell(|| Event::StreamEnded { peer, service, why });
        }
        self.touched();
    }

    fn touched(&self) {
        self.interest.send_modify(|version| *version += 1);
        self.due.notify_one();
    }

    /// Judges a stream that has not begun.
    pub(crate) fn judge(&self, rule: &Rule) -> Result<Authorisation, Refusal> {
        let now = self.clock.unix_seconds();
        rule.judge(&self.lock().evidence, now)
    }

    /// Lets a stream live under a rule, if the evidence allows it now.
    pub(crate) fn admit(self: &Arc<Self>, pipe: Arc<Pipe>, rule: Rule) -> Result<Admission, Refusal> {
        let now = self.clock.unix_seconds();
        let id = {
            let mut state = self.lock();
            if state.stopped || state.live.len() >= self.most {
                return Err(Refusal::Busy);
            }
            let authorisation = rule.judge(&state.evidence, now)?;
            state.hold(&authorisation.slots, rule.max_age());
            state.next += 1;
            let id = state.next;
            state.live.insert(id, Live { pipe, rule, authorisation });
            id
        };
        self.touched();
        Ok(Admission { guard: self.clone(), id })
    }

    /// Ends the accepted streams of a service that is published no more.
    pub(crate) fn withdraw(&self, service: Service) {
        let withdrawn: Vec<_> = {
            let mut guarded = self.lock();
            let State { live, .. } = &mut *guarded;
            let accepted = live.extract_if(.., |_, live| live.rule.serves(service));
            let withdrawn: Vec<Live> = accepted.map(|(_, live)| live).collect();
            withdrawn.iter().for_each(|live| guarded.release(&live.authorisation.slots));
            withdrawn.into_iter().map(|live| (live, Refusal::Withdrawn)).collect()
        };
        self.end(withdrawn);
    }

    /// Whether another stream could live.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        !state.stopped && state.live.len() < self.most
    }

    /// Keeps slots watched and fresh until the result is dropped.
    pub(crate) fn hold(self: &Arc<Self>, slots: Vec<Slot>, max_age: u64) -> Held {
        self.lock().hold(&slots, max_age);
        self.touched();
        Held { guard: self.clone(), slots }
    }

    /// The proven record of a device, as far as it is known.
    pub(crate) fn device(&self, id: DeviceId) -> Option<DeviceRecord> {
        let state = self.lock();
        DeviceRecord::decode(&state.evidence.lookup(Slot::Device(id))?.value).ok().flatten()
    }

    /// Of these slots with the block each was last proven under by somebody who had come as far as `number`: one that had
    /// changed by then, and of which it said nothing.
    pub(crate) fn withheld<'s>(
        &self,
        mut proven: impl Iterator<Item = (&'s Slot, u64)>,
        number: u64,
    ) -> Option<Slot> {
        let state = self.lock();
        let withheld = |(slot, under): &(&Slot, u64)| {
            state.changed.get(slot).is_some_and(|changed| *under < *changed && *changed <= number)
        };
        proven.find(withheld).map(|(slot, _)| *slot)
    }

    /// Puts a bundle under the newest head there is, if nothing in the registry changed since.
    pub(crate) fn renew(&self, bundle: &mut VerifiedBundle) {
        if let Some(newest) = &self.lock().newest {
            bundle.renew(newest);
        }
    }

    /// Unix seconds.
    pub(crate) fn now(&self) -> u64 {
        self.clock.unix_seconds()
    }

    /// Whether a bundle is vouched for within this many seconds, and nothing newer is known of any of its slots.
    pub(crate) fn holds(&self, bundle: &VerifiedBundle, max_age: u64) -> bool {
        let now = self.clock.unix_seconds();
        bundle.head().age(now) <= max_age && self.lock().evidence.holds(bundle, now.saturating_sub(max_age))
    }

    /// What is known of a device without asking anybody: its record, the block it was proven under, and the age of that.
    pub(crate) fn known(&self, target: &Target, max_age: u64) -> Option<Known> {
        let now = self.clock.unix_seconds();
        let state = self.lock();
        let proven = |slot: Slot| {
            let proven = state.evidence.lookup(slot).filter(|_| !state.evidence.is_doubted(slot))?;
            (now.saturating_sub(proven.attested_at) <= max_age).then_some(*proven)
        };
        let (device, name) = match target {
            Target::Device(id) => (*id, None),
            Target::Name(name) => {
                let proven = proven(Slot::Name(name.label_hash()))?;
                let record = NameRecord::decode(&proven.value).ok()?;
                (name_target(record, proven.timestamp, Some(now)).ok()?, Some(proven))
            }
        };
        let own = proven(Slot::Device(device))?;
        let record = DeviceRecord::decode(&own.value).ok()??;
        let rests = || name.iter().chain([&own]);
        Some(Known {
            device,
            record,
            number: rests().map(|proven| proven.number).min()?,
            age: now.saturating_sub(rests().map(|proven| proven.attested_at).min()?),
        })
    }

    /// The slots to watch.
    pub(crate) fn interest(&self) -> BTreeSet<Slot> {
        self.lock().interest.keys().copied().collect()
    }

    /// Tells when the slots to watch change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.interest.subscribe()
    }

    /// At most `most` slots whose evidence is older than half the age allowed, or missing.
    pub(crate) fn stale(&self, most: usize) -> Vec<Slot> {
        let now = self.clock.unix_seconds();
        let state = self.lock();
        let mut stale: Vec<(u64, Slot)> = state
            .interest
            .iter()
            .map(|(slot, interest)| (fresh_until(&state.evidence, *slot, interest), *slot))
            .filter(|(until, _)| *until <= now)
            .collect();
        stale.sort_unstable();
        stale.into_iter().take(most).map(|(_, slot)| slot).collect()
    }

    /// Unix seconds when the next stream must be judged.
    pub(crate) fn next_sweep(&self) -> Option<u64> {
        self.lock().live.values().map(|live| live.authorisation.until).min()
    }

    /// Unix seconds when the next slot must be proven anew.
    pub(crate) fn next_stale(&self) -> Option<u64> {
        let state = self.lock();
        state.interest.iter().map(|(slot, interest)| fresh_until(&state.evidence, *slot, interest)).min()
    }

    /// Waits until something may be due earlier than before.
    pub(crate) async fn rescheduled(&self) {
        self.due.notified().await;
    }

    /// Ends every stream, and lets none begin any more.
    pub(crate) fn stop(&self) {
        let live = {
            let mut state = self.lock();
            state.stopped = true;
            std::mem::take(&mut state.live)
        };
        live.into_values().for_each(|live| live.pipe.end(Ended::Stopped));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream's place among the live ones; given back when dropped.
pub(crate) struct Admission {
    guard: Arc<Guard>,
    id: u64,
}

impl Admission {
    pub(crate) fn authorization(&self) -> Option<Authorization> {
        let now = self.guard.clock.unix_seconds();
        let state = self.guard.lock();
        let rests = &state.live.get(&self.id)?.authorisation;
        let proven = || rests.slots.iter().filter_map(|slot| state.evidence.lookup(*slot));
        Some(Authorization {
            slots: rests.slots.clone(),
            until: rests.until,
            number: proven().map(|proven| proven.number).min()?,
            age: now.saturating_sub(proven().map(|proven| proven.attested_at).min()?),
        })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let removed = {
            let mut state = self.guard.lock();
            let live = state.live.remove(&self.id);
            if let Some(live) = &live {
                state.release(&live.authorisation.slots);
            }
            live
        };
        if removed.is_some() {
            self.guard.touched();
        }
    }
}

/// Slots kept watched; see [`Guard::hold`].
pub(crate) struct Held {
    guard: Arc<Guard>,
    slots: Vec<Slot>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.guard.lock().release(&self.slots);
        self.guard.touched();
    }
}
