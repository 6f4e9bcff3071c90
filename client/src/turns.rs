//! Turns: how many callers may do the same thing at the same place at a time. A burst of opens to one device is never
//! taken for silence at its door, and a thousand callers with one question ask it once.
//!
//! Decides nothing about who may do what, and forgets places that nobody is at.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One place: those who have their turn, and all who are there.
struct Place {
    turns: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// The places, by what they are.
pub(crate) struct Turns<K> {
    places: Mutex<HashMap<K, Weak<Place>>>,
    at_once: usize,
    waiting: usize,
}

/// A turn; the next one's when dropped.
pub(crate) struct Turn {
    _turn: OwnedSemaphorePermit,
    _room: OwnedSemaphorePermit,
    _place: Arc<Place>,
}

impl<K: Hash + Eq> Turns<K> {
    /// So many at once at each place, and so many who wait.
    pub(crate) fn new(at_once: usize, waiting: usize) -> Self {
        Self { places: Mutex::default(), at_once, waiting }
    }

    /// Waits for a turn; `None` at once where too many wait already. Cancel-safe.
    pub(crate) async fn take(&self, key: K) -> Option<Turn> {
        let place = self.place(key);
        let room = place.room.clone().try_acquire_owned().ok()?;
        // Nobody ever closes it.
        let turn = place.turns.clone().acquire_owned().await.ok()?;
        Some(Turn { _turn: turn, _room: room, _place: place })
    }

    fn place(&self, key: K) -> Arc<Place> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get(&key).and_then(Weak::upgrade) {
            return place;
        }
        // What is left of places that nobody is at any more goes with the next new one.
        places.retain(|_, place| place.strong_count() > 0);
        let (turns, room) = (Semaphore::new(self.at_once), Semaphore::new(self.at_once + self.waiting));
        let place = Arc::new(Place { turns: Arc::new(turns), room: Arc::new(room) });
        places.insert(key, Arc::downgrade(&place));
        place
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::FutureExt;

    #[test]
    fn turns_are_bounded_so_are_those_who_wait_and_places_are_forgotten() {
        let turns = Turns::new(2, 1);
        let take = |key: &'static str| turns.take(key).now_or_never();
        let (first, second) = (take("here").unwrap().unwrap(), take("here").unwrap().unwrap());
        let mut waiting = Box::pin(turns.take("here"));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(take("here").unwrap().is_none(), "one waits already");
        assert!(take("there").unwrap().is_some(), "another place has turns of its own");
        drop(first);
        let third = waiting.now_or_never().unwrap().unwrap();
        drop((second, third));
        drop(take("elsewhere"));
        assert_eq!(turns.places.lock().unwrap().len(), 1, "places that nobody is at are forgotten");
    }
}
