//! Which route of a device is kept: the newest valid one, until it ends.
//!
//! The store holds the routes; a count in memory bounds them. A route is verified against the mirrored record
//! of its device before it is kept, and by every client again.

use crate::limits::MAX_ROUTES_KEPT;
use crate::store::{Durability, KeptRoute, Routes, Store, StoreError};
use std::sync::{Arc, Mutex, PoisonError};
use windlass_protocol::DeviceId;
use windlass_protocol::route::{SignedRoute, VerifiedRoute};

/// The routes that devices published here.
pub struct RouteBook {
    store: Arc<Store>,
    /// How many are kept. Locked while one is compared and put.
    kept: Mutex<usize>,
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
        let book = Self { store, kept: Mutex::new(0) };
        book.sweep(now)?;
        Ok(book)
    }

    /// The newest route of a device that hasn't ended.
    pub fn newest(&self, device: DeviceId, now: u64) -> Result<Option<SignedRoute>, StoreError> {
        let kept = self.store.get::<Routes>(&device)?.filter(|kept| kept.ends > now);
        Ok(kept.and_then(|kept| SignedRoute::from_bytes(&kept.route).ok()))
    }

    /// Keeps a verified route if it is newer than what is there. Of equal ones the first stays.
    pub fn keep(&self, verified: &VerifiedRoute, signed: &SignedRoute, now: u64) -> Result<Kept, StoreError> {
        let route = verified.route();
        let mut count = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let former = self.store.get::<Routes>(&route.device)?;
        if former.as_ref().is_some_and(|former| former.ends > now && former.seq >= route.seq) {
            return Ok(Kept::Older);
        }
        if former.is_none() {
            if *count >= MAX_ROUTES_KEPT {
                return Ok(Kept::Full);
            }
            *count += 1;
        }
        let ends = route.issued_at.saturating_add(route.ttl);
        let mut batch = self.store.batch();
        batch.put::<Routes>(
            &route.device,
            &KeptRoute { seq: route.seq, ends, route: signed.to_bytes().into() },
        );
        batch.commit(Durability::Process)?;
        Ok(Kept::Newest)
    }

    /// Deletes the routes that have ended.
    pub fn sweep(&self, now: u64) -> Result<(), StoreError> {
        let mut count = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = self.store.routes()?;
        let mut batch = self.store.batch();
        let mut alive = routes.len();
        for (device, _) in routes.iter().filter(|(_, kept)| kept.ends <= now) {
            batch.delete::<Routes>(device);
            alive -= 1;
        }
        *count = alive;
        batch.commit(Durability::Process)
    }

    /// How many routes are kept.
    pub fn len(&self) -> usize {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no route is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
