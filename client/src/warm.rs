//! Answers that were proven, kept for who asks the same again: while they are fresh and nothing in them changed, it costs
//! no question; once they are old, the newest head alone makes them new where the registry's storage root held.
//!
//! What is kept is watched meanwhile, so a change takes it back at once; never is it used for longer than evidence may
//! count. A denial is never kept, and one that comes of something kept is asked again.

use crate::{
    ask::{Answer, AskError, Provenance, Source},
    client::Core,
    guard::{Guard, Held},
    limits::WARM_FOR,
    verifier::Verifier,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use windlass_protocol::{question::Question, route::VerifiedRoute};

struct Kept {
    questions: Vec<Question>,
    /// Of a question that leads to a device: where it said it is.
    route: Option<VerifiedRoute>,
    answer: Answer,
    used: Instant,
    /// Its slots are watched as long as it is kept, and was asked for again.
    held: Option<Held>,
}

/// The kept answers.
pub(crate) struct Warm {
    kept: Mutex<Vec<Kept>>,
    guard: Arc<Guard>,
    verifier: Arc<Verifier>,
    max_age: u64,
    /// Answers that may be kept at a time.
    most: usize,
}

/// An answer, and the route that came with it, as long as it lasts.
pub(crate) type Proven = (Option<VerifiedRoute>, Answer);

/// What is kept of some questions.
pub(crate) enum Lookup {
    /// It still holds.
    Holds(Box<Proven>),
    /// Nothing newer is known of any of it, but it is too old: a newer head may do.
    Old,
    /// Nothing, or nothing that still holds.
    Nothing,
}

impl Core {
    /// What was proven for these questions before and still holds. Where it is only too old, the newest head is asked for,
    /// with the registry's account proven under it: where the storage root held, so did all of it.
    pub(crate) async fn proven_before(&self, questions: &[Question]) -> Result<Option<Proven>, AskError> {
        match self.warm.find(questions) {
            Lookup::Holds(proven) => return Ok(Some(*proven)),
            Lookup::Nothing => return Ok(None),
            Lookup::Old => {}
        }
        let ((), head) = self.asker.ask(Vec::new(), |_, _| Ok(())).await?;
        let Lookup::Holds(proven) = self.warm.find(questions) else { return Ok(None) };
        let (route, mut answer) = *proven;
        answer.provenance = Provenance { source: Source::Revalidated, ..head.provenance };
        Ok(Some((route, answer)))
    }
}

impl Warm {
    pub(crate) fn new(guard: Arc<Guard>, verifier: Arc<Verifier>, max_age: u64, most: usize) -> Self {
        Self { kept: Mutex::default(), guard, verifier, max_age, most }
    }

    /// What was proven for these questions, if it still holds. Half of what evidence may count for: whoever is shown it as a
    /// staple judges its age, too, and may be strict.
    pub(crate) fn find(&self, questions: &[Question]) -> Lookup {
        let asked = Instant::now();
        let mut kept = self.lock();
        let Some(place) = kept.iter().position(|kept| kept.questions == questions) else {
            return Lookup::Nothing;
        };
        let entry = &mut kept[place];
        // Where the storage root held, one newer head makes all of it new.
        self.guard.renew(&mut entry.answer.bundle);
        if self.guard.holds(&entry.answer.bundle, self.max_age / 2) {
            entry.used = Instant::now();
            if entry.held.is_none() {
                entry.held = Some(self.hold(&entry.answer));
            }
            let now = self.guard.now();
            let lasts = |route: &VerifiedRoute| route.route().issued_at + route.route().ttl > now;
            let (route, mut answer) = (entry.route.clone().filter(lasts), entry.answer.clone());
            drop(kept);
            self.date(&mut answer, asked.elapsed());
            return Lookup::Holds(Box::new((route, answer)));
        }
        // Its age apart, nothing speaks against it.
        if self.guard.holds(&entry.answer.bundle, u64::MAX) {
            return Lookup::Old;
        }
        let stale = kept.swap_remove(place);
        drop(kept);
        drop(stale);
        Lookup::Nothing
    }

    /// Says under which head it holds now.
    fn date(&self, answer: &mut Answer, took: Duration) {
        let head = *answer.bundle.head();
        let known = &answer.provenance;
        let (epoch, threshold) =
            self.verifier.threshold_at(head.header().timestamp).unwrap_or((known.epoch, known.threshold));
        answer.provenance = Provenance {
            number: head.number(),
            hash: head.header().hash,
            timestamp: head.header().timestamp,
            age: head.age(self.guard.now()),
            signers: head.signers(),
            threshold,
            epoch,
            bytes: 0,
            took,
            refused: Vec::new(),
            source: Source::Kept,
            ..known.clone()
        };
    }

    /// Keeps what was answered. Watched from now on it is for whoever will certainly ask again; else from the second time
    /// on: one question is no reason to have nodes push.
    pub(crate) fn keep(
        &self,
        questions: &[Question],
        route: Option<VerifiedRoute>,
        answer: Answer,
        watched: bool,
    ) {
        self.forget(questions);
        let held = watched.then(|| self.hold(&answer));
        let entry = Kept { questions: questions.to_vec(), route, answer, used: Instant::now(), held };
        let mut kept = self.lock();
        let oldest = (0..kept.len()).min_by_key(|place| kept[*place].used);
        let left = oldest.filter(|_| kept.len() >= self.most).map(|place| kept.swap_remove(place));
        kept.push(entry);
        drop(kept);
        drop(left);
    }

    fn hold(&self, answer: &Answer) -> Held {
        self.guard.hold(answer.bundle.values().keys().copied().collect(), self.max_age)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.remove(|_| true);
    }

    /// It led to a failure.
    pub(crate) fn forget(&self, questions: &[Question]) {
        self.remove(|kept| kept.questions == questions);
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
