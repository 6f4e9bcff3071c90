//! Which route of a device is kept: the newest valid one, until it ends.
//!
//! The store holds the routes; a count in memory bounds them. A route is verified against the mirrored record
//! of its device before it is kept, and by every client again.

use crate::limits::MAX_ROUTES_KEPT;
use crate::store::{Durability, KeptRoute, Routes, Store, StoreError};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use windlass_protocol::DeviceId;
use windlass_protocol::route::{SignedRoute, VerifiedRoute};

/// The routes that devices published here.
pub struct RouteBook {
    store: Arc<Store>,
    /// How many are kept, for whoever only wants to know.
    kept: AtomicUsize,
    /// Locked while one route is compared and put, or one that ended is deleted.
    changing: Mutex<()>,
}

/// What became of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// It is the newest and kept.
    Newest,
    /// An equal or newer one was there.
    Older,
    /// There is no room for another device's route.
    Full,
}

impl RouteBook {
    /// The book over a store; drops what has ended. Reads the disk: call it where blocking is allowed.
    pub fn open(store: Arc<Store>, now: u64) -> Result<Self, StoreError> {
        let book = Self { store, kept: AtomicUsize::new(0), changing: Mutex::default() };
        let mut kept = 0;
        book.store.for_each_route(|_, _| kept += 1)?;
        book.kept.store(kept, Ordering::Relaxed);
        book.sweep(now)?;
        Ok(book)
    }

    /// The newest route of a device that hasn't ended.
    pub fn newest(&self, device: DeviceId, now: u64) -> Result<Option<SignedRoute>, StoreError> {
        let kept = self.store.get::<Routes>(&device)?.filter(|kept| kept.ends > now);
        Ok(kept.and_then(|kept| SignedRoute::from_bytes(&kept.route).ok()))
    }

    /// Keeps a verified route if it is newer than what is there. Of equal ones the first stays. Writes the
    /// disk: call it where blocking is allowed.
    pub fn keep(&self, verified: &VerifiedRoute, signed: &SignedRoute, now: u64) -> Result<Kept, StoreError> {
        let route = verified.route();
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let former = self.store.get::<Routes>(&route.device)?;
        if former.as_ref().is_some_and(|former| former.ends > now && former.seq >= route.seq) {
            return Ok(Kept::Older);
        }
        if former.is_none() && self.len() >= MAX_ROUTES_KEPT {
            return Ok(Kept::Full);
        }
        let ends = route.issued_at.saturating_add(route.ttl);
        let mut batch = self.store.batch();
        batch.put::<Routes>(
            &route.device,
            &KeptRoute { seq: route.seq, ends, route: signed.to_bytes().into() },
        );
        batch.commit(Durability::Process)?;
        if former.is_none() {
            self.kept.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Kept::Newest)
    }

    /// Deletes the routes that have ended. Reads them all, but remembers and locks only those: call it where
    /// blocking is allowed.
    pub fn sweep(&self, now: u64) -> Result<(), StoreError> {
        let mut ended = Vec::new();
        self.store.for_each_route(|device, kept| {
            if kept.ends <= now {
                ended.push(device);
            }
        })?;
        for device in ended {
            self.delete_if_ended(device, now)?;
        }
        Ok(())
    }

    /// A new route may have come since it was seen.
    fn delete_if_ended(&self, device: DeviceId, now: u64) -> Result<(), StoreError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.store.get::<Routes>(&device)?.is_none_or(|kept| kept.ends > now) {
            return Ok(());
        }
        let mut batch = self.store.batch();
        batch.delete::<Routes>(&device);
        batch.commit(Durability::Process)?;
        self.kept.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// How many routes are kept. Never waits.
    pub fn len(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// Whether no route is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use std::thread;

    #[test]
    fn how_many_are_kept_is_known_while_one_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path(), &testing::spec(3).0).unwrap());
        let book = Arc::new(RouteBook::open(store, 0).unwrap());
        let _writing = book.changing.lock().unwrap();
        let asked = book.clone();
        assert_eq!(thread::spawn(move || asked.len()).join().unwrap(), 0);
    }
}
