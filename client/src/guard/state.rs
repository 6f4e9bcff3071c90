//! What is judged over: the newest evidence, the live streams, and who needs which slot watched.

use super::rule::Rule;
use crate::stream::Pipe;
use libp2p::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use windlass_protocol::{
    authorise::{Authorisation, Refusal},
    bundle::VerifiedBundle,
    evidence::Evidence,
    slot::Slot,
};

pub(super) struct Live {
    pub(super) pipe: Arc<Pipe>,
    pub(super) rule: Rule,
    pub(super) authorisation: Authorisation,
}

/// How many need a slot watched, and how fresh.
pub(super) struct Interest {
    pub(super) holders: u32,
    pub(super) max_age: u64,
    pub(super) pinned: bool,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) evidence: Evidence,
    /// The newest head that was verified, with the proof of the registry's account.
    pub(super) newest: Option<VerifiedBundle>,
    pub(super) live: BTreeMap<u64, Live>,
    pub(super) interest: BTreeMap<Slot, Interest>,
    /// Of watched slots: the block under which the value they have now was first proven, where it was another before.
    pub(super) changed: BTreeMap<Slot, u64>,
    /// Which node's notice put a slot in doubt.
    pub(super) doubted_by: BTreeMap<Slot, PeerId>,
    /// Nodes whose notice came to nothing, of those configured.
    pub(super) unfounded: BTreeSet<PeerId>,
    pub(super) next: u64,
    pub(super) stopped: bool,
}

impl State {
    pub(super) fn hold(&mut self, slots: &[Slot], max_age: u64) {
        for slot in slots {
            let interest =
                self.interest.entry(*slot).or_insert(Interest { holders: 0, max_age, pinned: false });
            interest.holders += 1;
            interest.max_age = interest.max_age.min(max_age);
            interest.pinned = interest.pinned || self.evidence.pin(*slot);
        }
    }

    pub(super) fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            let Some(interest) = self.interest.get_mut(slot) else { continue };
            interest.holders -= 1;
            if interest.holders == 0 {
                if interest.pinned {
                    self.evidence.unpin(*slot);
                }
                self.interest.remove(slot);
            }
        }
    }

    pub(super) fn note_changes(&mut self, changed: &[Slot], number: u64) {
        let interest = &self.interest;
        self.changed
            .extend(changed.iter().filter(|slot| interest.contains_key(slot)).map(|slot| (*slot, number)));
        self.changed.retain(|slot, _| interest.contains_key(slot));
    }

    pub(super) fn see_head(&mut self, bundle: &VerifiedBundle) {
        let age = |bundle: &VerifiedBundle| (bundle.head().number(), bundle.head().attested_at());
        if self.newest.as_ref().is_none_or(|newest| age(newest) < age(bundle)) {
            self.newest = Some(bundle.head_alone());
        }
    }

    /// Ends doubts that are decided, and remembers whose were unfounded.
    pub(super) fn settle(&mut self, now: u64) {
        for slot in self.evidence.settle(now) {
            self.unfounded.extend(self.doubted_by.get(&slot));
        }
        let evidence = &self.evidence;
        self.doubted_by.retain(|slot, _| evidence.is_doubted(*slot));
    }

    pub(super) fn pin_proven(&mut self, bundle: &VerifiedBundle) {
        for slot in bundle.values().keys() {
            if let Some(interest) = self.interest.get_mut(slot).filter(|interest| !interest.pinned) {
                interest.pinned = self.evidence.pin(*slot);
            }
        }
    }

    /// Judges the live streams that `concerned` picks; takes out those that are refused.
    pub(super) fn judge(
        &mut self,
        now: u64,
        concerned: impl Fn(&Authorisation) -> bool,
    ) -> Vec<(Live, Refusal)> {
        let ids: Vec<u64> =
            self.live.iter().filter(|(_, live)| concerned(&live.authorisation)).map(|(id, _)| *id).collect();
        let mut refused = Vec::new();
        for id in ids {
            let Some(mut live) = self.live.remove(&id) else { continue };
            let max_age = live.rule.max_age();
            let judged = live.rule.judge(&self.evidence, now);
            if let Ok(authorisation) = &judged {
                self.hold(&authorisation.slots, max_age);
            }
            self.release(&live.authorisation.slots);
            match judged {
                Ok(authorisation) => {
                    live.authorisation = authorisation;
                    self.live.insert(id, live);
                }
                Err(refusal) => refused.push((live, refusal)),
            }
        }
        refused
    }
}

pub(super) fn fresh_until(evidence: &Evidence, slot: Slot, interest: &Interest) -> u64 {
    evidence.lookup(slot).map_or(0, |proven| proven.attested_at.saturating_add(interest.max_age / 2))
}
