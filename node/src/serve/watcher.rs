//! What one client watches, and what it is owed. No sockets: the stream's task moves the bytes.
//!
//! However slow the client, there is one thing to send: the newest head with what changed since the last one
//! sent. So a slow reader costs memory for its slots and nothing more.

use super::{AnswerError, Answers};
use crate::follower::Unfinal;
use crate::head::ServedHead;
use std::collections::{BTreeMap, BTreeSet};
use windlass_protocol::B256;
use windlass_protocol::bundle::MAX_BUNDLE_SLOTS;
use windlass_protocol::message::watch::{MAX_WATCH_FRAME_SLOTS, Push, TailNotice, Watch};
use windlass_protocol::slot::Slot;

/// More slots than the client may watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("watching {0} slots is more than this client may")]
pub(super) struct TooMany(pub(super) usize);

/// What brings a client up to a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    /// It has all of it.
    Nothing,
    /// The head alone: nothing that it watches has changed.
    Head,
    /// Proofs of some of its slots.
    Proofs,
}

/// One client's slots.
#[derive(Default)]
pub(super) struct Watcher {
    slots: BTreeMap<B256, Slot>,
    /// Slots to prove in the next pushes, whatever the head.
    owed: BTreeSet<Slot>,
    /// The head sent last: its number and the time it was attested at.
    sent: Option<(u64, u64)>,
    /// Unfinalised blocks that it was told about.
    noticed: BTreeSet<B256>,
}

impl Watcher {
    /// Takes a client's message.
    pub(super) fn change(&mut self, watch: Watch, most: usize) -> Result<(), TooMany> {
        for slot in watch.drop {
            self.slots.remove(&slot.storage_key());
            self.owed.remove(&slot);
        }
        if !watch.add.is_empty() {
            // What is new to this client was not looked for in the blocks it was told about.
            self.noticed.clear();
        }
        for slot in watch.add {
            self.slots.insert(slot.storage_key(), slot);
            self.owed.insert(slot);
        }
        if self.slots.len() > most { Err(TooMany(self.slots.len())) } else { Ok(()) }
    }

    /// What to tell the client of blocks that aren't final yet, each block once.
    pub(super) fn notices(&mut self, tail: &[Unfinal]) -> Vec<TailNotice> {
        self.noticed.retain(|hash| tail.iter().any(|block| block.position.hash == *hash));
        let mut notices = Vec::new();
        for block in tail {
            if !self.noticed.insert(block.position.hash) {
                continue;
            }
            let watched = |(key, value): &(B256, B256)| Some((*self.slots.get(key)?, *value));
            // Of several writes to one slot the last counts.
            let written: BTreeMap<Slot, B256> = block.changes.iter().filter_map(watched).collect();
            let slots: Vec<_> = written.into_iter().take(MAX_WATCH_FRAME_SLOTS).collect();
            if !slots.is_empty() {
                let (number, hash) = (block.position.number, block.position.hash);
                notices.push(TailNotice { number, hash, slots });
            }
        }
        notices
    }

    /// What the client is owed under `head`.
    pub(super) fn owed(&mut self, head: &ServedHead) -> Owed {
        self.owe_changes(head);
        if !self.owed.is_empty() {
            return Owed::Proofs;
        }
        let now = (head.position.number, head.attested_at);
        if self.sent.replace(now) == Some(now) { Owed::Nothing } else { Owed::Head }
    }

    /// The pushes that prove what is owed under `head`. Reads the disk: call it where blocking is allowed.
    pub(super) fn proofs(&mut self, answers: &Answers, head: &ServedHead) -> Result<Vec<Push>, AnswerError> {
        let now = (head.position.number, head.attested_at);
        let owed: Vec<Slot> = self.owed.iter().copied().collect();
        let mut pushes = Vec::new();
        for slots in owed.chunks(MAX_BUNDLE_SLOTS) {
            prove_in_parts(answers, head, slots, &mut pushes)?;
        }
        self.owed.clear();
        self.sent = Some(now);
        Ok(pushes)
    }

    /// Adds the watched slots that were written since the head sent last.
    fn owe_changes(&mut self, head: &ServedHead) {
        let Some((sent, _)) = self.sent else { return };
        match head.recent.written(sent, head.position.number) {
            Some(keys) => self.owed.extend(keys.iter().filter_map(|key| self.slots.get(key))),
            // Too long ago to know: all of them may have changed.
            None => self.owed.extend(self.slots.values()),
        }
    }
}

/// Proves slots in as few pushes as fit a frame each.
fn prove_in_parts(
    answers: &Answers,
    head: &ServedHead,
    slots: &[Slot],
    pushes: &mut Vec<Push>,
) -> Result<(), AnswerError> {
    match answers.prove(head, slots) {
        Ok(bundle) => pushes.push(Push { slots: slots.to_vec(), bundle }),
        Err(AnswerError::TooLarge) if slots.len() > 1 => {
            let (first, second) = slots.split_at(slots.len() / 2);
            prove_in_parts(answers, head, first, pushes)?;
            prove_in_parts(answers, head, second, pushes)?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
