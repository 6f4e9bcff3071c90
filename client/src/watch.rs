//! Watching: nodes push every new head, with proofs of the slots that live streams rest on.
//!
//! Each seat watches through a node of its own, so that one node alone can't withhold a revocation. A push
//! counts only if it proves exactly slots that were asked for; a node that pushes anything else is left. So is one
//! that pushes faster than anybody needs, or tells the same again and again: that is silence in disguise.

use crate::{
    backoff::Backoff,
    client::Core,
    limits::{
        NODE_DEADLINE, WATCH_CHANGE_PAUSE, WATCH_DROPPED, WATCH_LINGER, WATCH_PUSH_PAUSE, WATCH_PUSHES,
        WATCH_SILENCE,
    },
    pool::{Node, Purpose},
    refused::Rejection,
};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use libp2p::StreamProtocol;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use windlass_p2p::frame::{FrameError, read_frame, write_frame};
use windlass_protocol::{
    authorise::judge_device,
    bundle::verify_bundle,
    head::VerifiedHead,
    message::{
        MAX_FRAME, names,
        watch::{FromNode, MAX_DEVICE_SLOTS, MAX_STRANGER_SLOTS, MAX_WATCH_FRAME_SLOTS, Watch},
    },
    slot::Slot,
    wire,
};

/// Watches through one node after the other, whenever there is something to watch, until stopped.
pub(crate) async fn seat(core: Arc<Core>, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    let work = async {
        let mut interest = core.guard.subscribe();
        loop {
            while core.guard.interest().is_empty() {
                if interest.changed().await.is_err() {
                    return;
                }
            }
            if let Some(claim) = core.asker.pool.claim(Purpose::Watch) {
                let known = core.guard.is_unfounded(&claim.node.peer);
                let session = Session { core: &core, node: &claim.node, known, slots: Mutex::default() };
                match session.run(&mut backoff).await {
                    Ok(()) => continue,
                    Err(reason) => core.asker.pool.rejected(&claim.node, &reason),
                }
            }
            sleep(backoff.pause()).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// How new a head is: its number, then when it was last attested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Freshness(u64, u64);

/// The slots of one watch stream.
#[derive(Default)]
struct Slots {
    /// The node was told to watch them; under which head it last proved each.
    watched: BTreeMap<Slot, Freshness>,
    /// The newest head it pushed.
    newest: Freshness,
    /// It was told to stop, and may have had a push under way.
    dropped: BTreeSet<Slot>,
}

impl Slots {
    /// Takes in a push; true if it told anything new: a newer head, or a slot not yet proven under this one.
    fn progress(&mut self, pushed: &[Slot], head: Freshness) -> bool {
        let mut progress = head > self.newest;
        self.newest = self.newest.max(head);
        for slot in pushed {
            if let Some(proven) = self.watched.get_mut(slot).filter(|proven| **proven < head) {
                *proven = head;
                progress = true;
            }
        }
        progress
    }
}

/// How many more pushes a node may send now: as many as a stream full of slots takes, and a few each second.
struct Allowance {
    left: u32,
    counted: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: WATCH_PUSHES, counted: now }
    }

    /// Whether one more push is within it.
    fn spend(&mut self, now: Instant) -> bool {
        let regained = now.duration_since(self.counted).as_millis() / WATCH_PUSH_PAUSE.as_millis();
        let regained = u32::try_from(regained).unwrap_or(u32::MAX);
        self.counted += WATCH_PUSH_PAUSE * regained.min(WATCH_PUSHES);
        self.left = self.left.saturating_add(regained).min(WATCH_PUSHES);
        if self.left == WATCH_PUSHES {
            self.counted = now;
        }
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return false,
        };
        true
    }
}

/// One watch stream at one node.
struct Session<'a> {
    core: &'a Core,
    node: &'a Node,
    /// A notice of this node's came to nothing before; it still proves as well as any.
    known: bool,
    slots: Mutex<Slots>,
}

impl Session<'_> {
    /// Returns when there is nothing to watch any more, or the stream is due to be made anew.
    async fn run(&self, backoff: &mut Backoff) -> Result<(), Rejection> {
        let control = &self.core.asker.control;
        let protocol = StreamProtocol::new(names::WATCH);
        let stream = control
            .open(self.node.peer, self.node.dial.clone(), protocol, NODE_DEADLINE)
            .await
            .map_err(|error| Rejection::Unreachable(Box::new(error)))?;
        let (reader, writer) = stream.split();
        tokio::select! {
            outcome = self.receive(reader, backoff) => outcome,
            outcome = self.tell(writer, self.core.guard.subscribe()) => outcome,
        }
    }

    /// Tells the node what to watch, whenever that changes.
    async fn tell(
        &self,
        mut writer: impl AsyncWrite + Unpin,
        mut interest: watch::Receiver<u64>,
    ) -> Result<(), Rejection> {
        loop {
            interest.mark_unchanged();
            let wanted = self.core.guard.interest();
            if self.slots().dropped.len() > WATCH_DROPPED {
                return Ok(());
            }
            let messages = self.difference(&wanted);
            for message in &messages {
                write_frame(&mut writer, &wire::encode(message)).await.map_err(broken)?;
            }
            if !messages.is_empty() {
                // Streams that come and go in a burst must not use up the node's patience.
                sleep(WATCH_CHANGE_PAUSE).await;
            }
            // One stream after the other needs the same slots: worth waiting for.
            let patience = if wanted.is_empty() { WATCH_LINGER } else { Duration::MAX };
            match timeout(patience, interest.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(()),
            }
        }
    }

    /// The messages that bring the node from what it watches to what is wanted, as far as it lets us.
    fn difference(&self, wanted: &BTreeSet<Slot>) -> Vec<Watch> {
        let most = self.most();
        let mut slots = self.slots();
        let drop: Vec<Slot> = slots.watched.keys().filter(|slot| !wanted.contains(slot)).copied().collect();
        for slot in &drop {
            slots.watched.remove(slot);
            slots.dropped.insert(*slot);
        }
        // What finds no room is proven anew in rotation, as its evidence ages.
        let room = most.saturating_sub(slots.watched.len());
        let missing = wanted.iter().filter(|slot| !slots.watched.contains_key(slot));
        let add: Vec<Slot> = missing.take(room).copied().collect();
        slots.watched.extend(add.iter().map(|slot| (*slot, Freshness::default())));
        let drops = drop.chunks(MAX_WATCH_FRAME_SLOTS).map(|drop| Watch { add: vec![], drop: drop.to_vec() });
        let adds = add.chunks(MAX_WATCH_FRAME_SLOTS).map(|add| Watch { add: add.to_vec(), drop: vec![] });
        drops.chain(adds).collect()
    }

    /// How many slots a node lets this device watch.
    fn most(&self) -> usize {
        let now = self.core.asker.verifier.now();
        let own = self.core.guard.device(self.core.own);
        let active = own.is_some_and(|record| {
            record.key == self.core.key.address() && judge_device(&record, 0, now).is_ok()
        });
        if active { MAX_DEVICE_SLOTS } else { MAX_STRANGER_SLOTS }
    }

    async fn receive(
        &self,
        mut reader: impl AsyncRead + Unpin,
        backoff: &mut Backoff,
    ) -> Result<(), Rejection> {
        let mut allowance = Allowance::new(Instant::now());
        let mut silent_at = Instant::now() + WATCH_SILENCE;
        loop {
            let frame = timeout_at(silent_at, read_frame(&mut reader))
                .await
                .map_err(|_| Rejection::Silent { after: WATCH_SILENCE })?
                .map_err(broken)?;
            let now = Instant::now();
            if !allowance.spend(now) {
                return Err(Rejection::TooMany);
            }
            let taken = match self.take(&frame) {
                Err(Rejection::Unwalked { epoch, .. }) => {
                    self.core.asker.walk(self.node, epoch).await?;
                    self.take(&frame)
                }
                taken => taken,
            };
            if taken? {
                silent_at = now + WATCH_SILENCE;
                backoff.reset();
            }
        }
    }

    /// Takes in what the node said; true if it told anything new that is proven.
    fn take(&self, frame: &[u8]) -> Result<bool, Rejection> {
        let verifier = &self.core.asker.verifier;
        let push = match wire::decode(frame, MAX_FRAME).map_err(Rejection::Malformed)? {
            FromNode::Push(push) => push,
            FromNode::Notice(notice) => {
                self.asked_for(notice.slots.iter().map(|(slot, _)| slot))?;
                self.core.guard.doubt(&notice, self.node.peer, verifier.spec().max_finality_lag);
                // Unproven: who only notifies is as good as silent.
                return Ok(false);
            }
        };
        self.asked_for(push.slots.iter())?;
        let grounds = verifier.grounds(&push.bundle.header)?;
        let bundle = verify_bundle(&grounds.trust(), &push.bundle, &push.slots)
            .map_err(|error| verifier.rejection(error))?;
        self.core.asker.heads.note(bundle.head())?;
        self.check_complete(bundle.head())?;
        self.core.guard.observe(&bundle);
        if self.core.guard.is_unfounded(&self.node.peer) && !self.known {
            return Err(Rejection::FalseNotice);
        }
        Ok(self.slots().progress(&push.slots, freshness(bundle.head())))
    }

    /// With a newer head the node has told all there was under the one before. What others proved to have changed by then,
    /// and it didn't tell, it has withheld.
    fn check_complete(&self, head: &VerifiedHead) -> Result<(), Rejection> {
        let slots = self.slots();
        let before = slots.newest.0;
        if before == 0 || head.number() <= before {
            return Ok(());
        }
        // One that it was only just told to watch may still be on its way.
        let proven = slots.watched.iter().filter(|(_, proven)| proven.0 > 0);
        let withheld = self.core.guard.withheld(proven.map(|(slot, proven)| (slot, proven.0)), before);
        withheld.map_or(Ok(()), |slot| Err(Rejection::Withheld(slot)))
    }

    /// A node that speaks of what nobody asked for is left.
    fn asked_for<'s>(&self, mut said: impl Iterator<Item = &'s Slot>) -> Result<(), Rejection> {
        let slots = self.slots();
        let asked = |slot: &Slot| slots.watched.contains_key(slot) || slots.dropped.contains(slot);
        said.find(|slot| !asked(slot)).map_or(Ok(()), |unasked| Err(Rejection::Unasked(*unasked)))
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn freshness(head: &VerifiedHead) -> Freshness {
    Freshness(head.number(), head.attested_at())
}

fn broken(error: FrameError) -> Rejection {
    Rejection::Broken(Arc::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed bug: one genuine push, told again every minute, kept a node its seat for ever.
    #[test]
    fn the_same_told_again_is_no_progress() {
        let mut slots = Slots::default();
        let (one, two) = (Slot::Fleet(1), Slot::Fleet(2));
        slots.watched.extend([(one, Freshness::default()), (two, Freshness::default())]);
        let head = Freshness(7, 100);
        assert!(slots.progress(&[one], head));
        assert!(!slots.progress(&[one], head));
        assert!(slots.progress(&[two], head), "a slot not yet proven under this head is news");
        assert!(!slots.progress(&[one, two], head) && !slots.progress(&[], head));
        assert!(slots.progress(&[], Freshness(7, 120)), "so is that somebody vouches for it later");
        assert!(!slots.progress(&[], Freshness(6, 500)), "an older block is none, whoever vouches for it");
        assert!(slots.progress(&[], Freshness(8, 120)));
        // A slot that was asked for later may be proven under the same head.
        slots.watched.insert(Slot::Fleet(3), Freshness::default());
        assert!(slots.progress(&[Slot::Fleet(3)], Freshness(8, 120)));
    }

    #[test]
    fn a_node_may_push_a_stream_full_of_slots_at_once_and_a_few_more_each_second() {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(now);
        let spent = |allowance: &mut Allowance, now| (0..10_000).take_while(|_| allowance.spend(now)).count();
        assert_eq!(spent(&mut allowance, now), WATCH_PUSHES as usize);
        now += Duration::from_secs(1);
        assert_eq!(spent(&mut allowance, now), 10);
        now += Duration::from_secs(3_600);
        assert_eq!(spent(&mut allowance, now), WATCH_PUSHES as usize);
        // Half a pause regains nothing, two halves one.
        now += WATCH_PUSH_PAUSE / 2;
        assert_eq!(spent(&mut allowance, now), 0);
        now += WATCH_PUSH_PAUSE / 2;
        assert_eq!(spent(&mut allowance, now), 1);
    }
}
