//! Answers to opens, kept for the next open of the same service: while they are fresh and nothing in them changed, it
//! costs no question.
//!
//! What is kept is watched meanwhile, so a change takes it back at once; never is it used for longer than evidence may
//! count. A denial is never kept, and one that comes of something kept is asked again.

use crate::{
    guard::{Guard, Held},
    limits::{WARM_ANSWERS, WARM_FOR},
    resolve::Found,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use windlass_protocol::{Service, bundle::VerifiedBundle, question::Target};

struct Kept {
    target: Target,
    service: Service,
    found: Found,
    bundle: VerifiedBundle,
    used: Instant,
    /// Its slots are watched as long as it is kept.
    _held: Held,
}

/// The kept answers.
pub(crate) struct Warm {
    kept: Mutex<Vec<Kept>>,
    guard: Arc<Guard>,
    max_age: u64,
}

impl Warm {
    pub(crate) fn new(guard: Arc<Guard>, max_age: u64) -> Self {
        Self { kept: Mutex::default(), guard, max_age }
    }

    /// What was proven for this service, if it still holds.
    pub(crate) fn find(&self, target: &Target, service: Service) -> Option<(Found, VerifiedBundle)> {
        let mut kept = self.lock();
        let place = kept.iter().position(|kept| kept.target == *target && kept.service == service)?;
        let entry = &mut kept[place];
        // Where the storage root held, one newer head makes all of it new.
        self.guard.renew(&mut entry.bundle);
        // The other side judges the staple's age, too, and its service may be strict: half leaves it room.
        if !self.guard.holds(&entry.bundle, self.max_age / 2) {
            let stale = kept.swap_remove(place);
            drop(kept);
            drop(stale);
            return None;
        }
        entry.used = Instant::now();
        let mut found = entry.found.clone();
        let now = self.guard.now();
        found.route = found.route.filter(|route| route.route().issued_at + route.route().ttl > now);
        Some((found, entry.bundle.clone()))
    }

    /// Keeps what opened a service.
    pub(crate) fn keep(&self, target: &Target, service: Service, found: Found, bundle: VerifiedBundle) {
        self.forget(target, service);
        let held = self.guard.hold(bundle.values().keys().copied().collect(), self.max_age);
        let entry =
            Kept { target: target.clone(), service, found, bundle, used: Instant::now(), _held: held };
        let mut kept = self.lock();
        let oldest = (0..kept.len()).min_by_key(|place| kept[*place].used);
        let left = oldest.filter(|_| kept.len() >= WARM_ANSWERS).map(|place| kept.swap_remove(place));
        kept.push(entry);
        drop(kept);
        drop(left);
    }

    /// It led to a failure.
    pub(crate) fn forget(&self, target: &Target, service: Service) {
        self.remove(|kept| kept.target == *target && kept.service == service);
    }

    /// Lets go of what nobody used for long.
    pub(crate) fn sweep(&self) {
        self.remove(|kept| kept.used.elapsed() > WARM_FOR);
    }

    fn remove(&self, unwanted: impl Fn(&Kept) -> bool) {
        let left: Vec<Kept> = self.lock().extract_if(.., |kept| unwanted(kept)).collect();
        // Letting go of the slots takes the guard's lock.
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
