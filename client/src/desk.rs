//! The places where inbound streams wait to be judged, and who has to leave when all are taken.
//!
//! A stream costs whoever opens it next to nothing, and peer ids are free, so places can't be rationed by peer alone:
//! when there is none left, one that hasn't said anything yet makes room. What has been heard is judged to the end.

use crate::limits::JUDGING_PER_PEER;
use libp2p::PeerId;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::task::{AbortHandle, Id, JoinSet};

/// Set once a stream has said what it wants.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard(Arc<AtomicBool>);

impl Heard {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct Place {
    peer: PeerId,
    /// Higher for those that came later.
    number: u64,
    heard: Heard,
    task: AbortHandle,
}

/// See the module.
pub(crate) struct Desk {
    /// How many places there are, and how many of them a peer may hold that has said nothing.
    most: (usize, usize),
    tasks: JoinSet<()>,
    places: HashMap<Id, Place>,
    next: u64,
}

/// What one peer holds without having said anything.
struct Silent {
    count: usize,
    oldest: (u64, Id),
}

impl Desk {
    /// With so many places.
    pub(crate) fn new(places: usize) -> Self {
        let per_peer = JUDGING_PER_PEER.min(places.div_ceil(4));
        Self { most: (places, per_peer), tasks: JoinSet::new(), places: HashMap::new(), next: 0 }
    }

    /// Whether another stream can be taken: while one is silent, it makes room.
    pub(crate) fn has_room(&self) -> bool {
        self.places.len() < self.most.0 || self.places.values().any(|place| !place.heard.is_set())
    }

    /// Gives a stream of `peer` a place, and work that is dropped when it has to leave.
    pub(crate) fn take<W>(&mut self, peer: PeerId, work: impl FnOnce(Heard) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        if let Some(leaves) = self.who_leaves(&peer)
            && let Some(place) = self.places.remove(&leaves)
        {
            tracing::debug!(peer = %place.peer, "reset a stream that had said nothing: its place was needed");
            place.task.abort();
        }
        let heard = Heard::default();
        let task = self.tasks.spawn(work(heard.clone()));
        self.next += 1;
        self.places.insert(task.id(), Place { peer, number: self.next, heard, task });
    }

    /// The longest silent stream of `peer` if it has its share, or of whoever has most if all places are taken.
    fn who_leaves(&self, peer: &PeerId) -> Option<Id> {
        let mut silent: HashMap<PeerId, Silent> = HashMap::new();
        for (id, place) in self.places.iter().filter(|(_, place)| !place.heard.is_set()) {
            let entry = silent.entry(place.peer).or_insert(Silent { count: 0, oldest: (place.number, *id) });
            entry.count += 1;
            if place.number < entry.oldest.0 {
                entry.oldest = (place.number, *id);
            }
        }
        if let Some(own) = silent.get(peer).filter(|own| own.count >= self.most.1) {
            return Some(own.oldest.1);
        }
        let full = self.places.len() >= self.most.0;
        let most =
            silent.values().filter(|_| full).max_by_key(|silent| (silent.count, u64::MAX - silent.oldest.0));
        most.map(|silent| silent.oldest.1)
    }

    /// Waits until one is done; `None` when there is none.
    pub(crate) async fn finished(&mut self) -> Option<()> {
        let ended = self.tasks.join_next_with_id().await?;
        self.places.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
        Some(())
    }

    /// Drops all that is under way.
    pub(crate) async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::limits::JUDGING;
    use std::{future::pending, sync::mpsc};

    /// Work that says nothing; tells its number when it is dropped.
    fn mute(
        number: usize,
        left: &mpsc::Sender<usize>,
    ) -> impl FnOnce(Heard) -> futures::future::BoxFuture<'static, ()> {
        struct Leaves(usize, mpsc::Sender<usize>);
        impl Drop for Leaves {
            fn drop(&mut self) {
                let _ = self.1.send(self.0);
            }
        }
        let leaves = Leaves(number, left.clone());
        move |_| {
            Box::pin(async move {
                let _leaves = leaves;
                pending().await
            })
        }
    }

    async fn reap(desk: &mut Desk, count: usize) {
        for _ in 0..count {
            desk.finished().await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_longest_silent_of_the_most_crowded_leaves_first() {
        let (left, who) = mpsc::channel();
        let (crowd, other) = (PeerId::random(), PeerId::random());
        let mut desk = Desk::new(JUDGING);
        // Others come first, one stream each; then one peer takes as much as it can.
        for number in 0..JUDGING - JUDGING_PER_PEER {
            desk.take(PeerId::random(), mute(number, &left));
        }
        for number in 1_000..1_000 + JUDGING_PER_PEER {
            desk.take(crowd, mute(number, &left));
        }
        assert!(who.try_recv().is_err() && desk.has_room());
        // Its next one displaces its own first, a stranger's the next of the crowd.
        desk.take(crowd, mute(2_000, &left));
        desk.take(other, mute(3_000, &left));
        reap(&mut desk, 2).await;
        assert_eq!(who.try_iter().collect::<Vec<_>>(), [1_000, 1_001]);
        assert_eq!(desk.places.len(), JUDGING);
    }

    #[tokio::test]
    async fn what_was_heard_is_judged_to_the_end() {
        let (left, who) = mpsc::channel();
        let mut desk = Desk::new(JUDGING);
        let peer = PeerId::random();
        for number in 0..JUDGING {
            let work = mute(number, &left);
            desk.take(PeerId::random(), |heard| {
                heard.set();
                work(heard)
            });
        }
        assert!(!desk.has_room());
        desk.take(peer, mute(JUDGING, &left));
        assert!(desk.has_room());
        desk.take(PeerId::random(), mute(JUDGING + 1, &left));
        reap(&mut desk, 1).await;
        assert_eq!(who.try_iter().collect::<Vec<_>>(), [JUDGING]);
    }
}
