//! What everything is verified against: the pinned spec, the committees walked to so far, and the time.
//!
//! The one place that says which committee a head is checked with. How a walk is done is in `walk`.

use crate::{
    clock::{Clock, Timekeeper},
    heads::Walked,
    refused::Rejection,
};
use std::sync::Arc;
use tokio::sync::watch;
use windlass_protocol::{
    bundle::BundleError,
    committee::{Committee, CommitteeStep, Committees, VerifiedStep, verify_step},
    head::{HeadError, Trust},
    header::Header,
    spec::VerifiedSpec,
};

pub(crate) struct Verifier {
    pub(crate) spec: VerifiedSpec,
    pub(crate) time: Arc<Timekeeper>,
    committees: watch::Sender<Committees>,
}

impl Verifier {
    /// Takes up the walk where it ended before, or begins it at the spec.
    pub(crate) fn new(spec: VerifiedSpec, time: Arc<Timekeeper>, walked: Option<Walked>) -> Self {
        let resumed = walked
            .and_then(|Walked { members, from, through }| Committees::resume(&spec, members, from, through));
        let committees = resumed.unwrap_or_else(|| Committees::first(&spec));
        Self { spec, time, committees: watch::Sender::new(committees) }
    }

    pub(crate) fn now(&self) -> u64 {
        self.time.unix_seconds()
    }

    /// The committees, now and from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Committees> {
        self.committees.subscribe()
    }

    /// The last epoch walked to.
    pub(crate) fn through(&self) -> u32 {
        self.committees.borrow().through()
    }

    /// The committee of the epoch that a header is of, or that nobody has walked there yet.
    pub(crate) fn committee(&self, header: &[u8]) -> Result<Committee, Rejection> {
        let header = Header::decode(header)
            .map_err(|error| Rejection::Unproven(BundleError::Head(HeadError::Header(error))))?;
        let epoch = self.spec.epoch_at(header.timestamp);
        let committees = self.committees.borrow();
        match committees.of(epoch) {
            Some(committee) => Ok(committee.clone()),
            None if epoch > committees.through() => {
                Err(Rejection::Unwalked { epoch, known: committees.through() })
            }
            // Longer ago than is remembered: the check itself says so.
            None => Ok(committees.latest().clone()),
        }
    }

    /// What a head is checked against.
    pub(crate) fn trust<'a>(&'a self, committee: &'a Committee) -> Trust<'a> {
        Trust { spec: &self.spec, committee, now: Some(self.now()), nonce: None }
    }

    /// Why a bundle proves nothing; names those who sign though they were replaced.
    pub(crate) fn rejection(&self, error: BundleError) -> Rejection {
        if let BundleError::Head(HeadError::NotCommittee { number, signer }) = error
            && let Some(through) = self.committees.borrow().retired(&signer.0)
        {
            return Rejection::Retired { number, signer, through };
        }
        error.into()
    }

    /// Checks a step on from where the walk has come to.
    pub(crate) fn verify_step(&self, step: &CommitteeStep) -> Result<VerifiedStep, Rejection> {
        let committees = self.committees.borrow().clone();
        // Who is cold learns from its anchor, not from an old committee, what time it is.
        let now = (!self.time.is_cold()).then(|| self.now());
        verify_step(&self.spec, &committees, now, step).map_err(Rejection::from)
    }

    /// Walks on.
    pub(crate) fn take(&self, step: &VerifiedStep) {
        self.committees.send_modify(|committees| committees.take(step));
    }
}
