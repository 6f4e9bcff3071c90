//! The task that keeps live streams honest in time: it has the guard judge what is due, and has slots proven
//! anew whose evidence ages.

use crate::{
    ask::{AskError, Asker},
    backoff::Backoff,
    clock::Clock,
    warm::Warm,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use windlass_protocol::question::{MAX_QUESTIONS, Question};

/// Between two rounds of proving anew: 64 slots a second are within any node's rate.
const REPROVE_PAUSE: Duration = Duration::from_millis(250);

/// Longest sleep, so that a clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Runs until stopped.
pub(crate) async fn keep(asker: Arc<Asker>, warm: Arc<Warm>, stop: CancellationToken) {
    let mut keeper =
        Keeper { asker, rounds: JoinSet::new(), not_before: Instant::now(), backoff: Backoff::default() };
    loop {
        keeper.asker.guard.sweep();
        warm.sweep();
        keeper.reprove();
        let (until_sweep, next_round) = (keeper.until_sweep(), keeper.next_round());
        let idle = keeper.rounds.is_empty();
        tokio::select! {
            () = stop.cancelled() => break,
            () = keeper.asker.guard.rescheduled() => {}
            Some(round) = keeper.rounds.join_next() => keeper.finished(round.is_ok_and(|round| round.is_ok())),
            () = sleep(until_sweep) => {}
            () = sleep_until(next_round), if idle => {}
        }
    }
    keeper.rounds.shutdown().await;
}

struct Keeper {
    asker: Arc<Asker>,
    /// At most one round at a time.
    rounds: JoinSet<Result<(), AskError>>,
    not_before: Instant,
    backoff: Backoff,
}

impl Keeper {
    fn reprove(&mut self) {
        if !self.rounds.is_empty() || Instant::now() < self.not_before {
            return;
        }
        let questions: Vec<_> =
            self.asker.guard.stale(MAX_QUESTIONS).into_iter().map(Question::Slot).collect();
        if questions.is_empty() {
            return;
        }
        let asker = self.asker.clone();
        // What it proves, the asker hands to the guard.
        self.rounds.spawn(async move { asker.ask(questions, |_, _| Ok(())).await.map(drop) });
    }

    fn finished(&mut self, proven: bool) {
        let pause = match proven {
            true => {
                self.backoff.reset();
                REPROVE_PAUSE
            }
            false => self.backoff.pause(),
        };
        self.not_before = Instant::now() + pause;
    }

    fn until_sweep(&self) -> Duration {
        // At the very second evidence is still good; the next judgement must not come before the next one.
        self.asker
            .guard
            .next_sweep()
            .map_or(LONGEST_SLEEP, |at| self.until(at.max(self.asker.verifier.now() + 1)))
    }

    fn next_round(&self) -> Instant {
        let due = self.asker.guard.next_stale().map_or(LONGEST_SLEEP, |at| self.until(at));
        (Instant::now() + due).max(self.not_before)
    }

    fn until(&self, unix_seconds: u64) -> Duration {
        let now = self.asker.verifier.time.unix_millis();
        Duration::from_millis(unix_seconds.saturating_mul(1_000).saturating_sub(now)).min(LONGEST_SLEEP)
    }
}
