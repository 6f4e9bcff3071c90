//! What everything is verified against: the spec, the committees walked to so far, and the time.
//!
//! The one place that says which committee a head is checked with, and which spec is in use. How a walk is done is in
//! `walk`, where a newer spec comes from in `renewal`.

use crate::{
    clock::{Clock, Timekeeper},
    heads::Walked,
    refused::Rejection,
};
use std::sync::Arc;
use tokio::sync::watch;
use windlass_protocol::{
    bundle::BundleError,
    committee::{Committee, CommitteeStep, Committees, verify_step},
    head::{HeadError, Trust},
    header::Header,
    spec::VerifiedSpec,
};

/// The spec in use, and how far the client walked under it.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) spec: Arc<VerifiedSpec>,
    pub(crate) committees: Committees,
}

/// What one head is checked against: taken at one moment, so that spec and committee belong together.
pub(crate) struct Grounds {
    pub(crate) spec: Arc<VerifiedSpec>,
    committee: Committee,
    now: u64,
}

impl Grounds {
    pub(crate) fn trust(&self) -> Trust<'_> {
        Trust { spec: &self.spec, committee: &self.committee, now: Some(self.now), nonce: None }
    }

    /// How many members must have signed.
    pub(crate) fn threshold(&self) -> usize {
        self.spec.threshold(self.committee.members().len())
    }
}

pub(crate) struct Verifier {
    pub(crate) time: Arc<Timekeeper>,
    standing: watch::Sender<Standing>,
}

impl Verifier {
    /// Takes up the walk where it ended before, or begins it at the spec.
    pub(crate) fn new(spec: VerifiedSpec, time: Arc<Timekeeper>, walked: Option<Walked>) -> Self {
        let resumed = walked
            .and_then(|Walked { members, from, through }| Committees::resume(&spec, members, from, through));
        let committees = resumed.unwrap_or_else(|| Committees::first(&spec));
        Self { time, standing: watch::Sender::new(Standing { spec: Arc::new(spec), committees }) }
    }

    pub(crate) fn now(&self) -> u64 {
        self.time.unix_seconds()
    }

    /// The spec in use.
    pub(crate) fn spec(&self) -> Arc<VerifiedSpec> {
        self.standing.borrow().spec.clone()
    }

    /// Spec and committees, now and from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// The epoch of a head with this timestamp, and how many members had to sign it, where that is known.
    pub(crate) fn threshold_at(&self, timestamp: u64) -> Option<(u32, usize)> {
        let Standing { spec, committees } = &*self.standing.borrow();
        let epoch = spec.epoch_at(timestamp);
        committees.of(epoch).map(|committee| (epoch, spec.threshold(committee.members().len())))
    }

    /// How far the walk has come.
    pub(crate) fn walked(&self) -> Walked {
        Walked::of(&self.standing.borrow().committees)
    }

    /// The last epoch walked to.
    pub(crate) fn through(&self) -> u32 {
        self.standing.borrow().committees.through()
    }

    /// The committee of the epoch that a header is of, or that nobody has walked there yet.
    pub(crate) fn grounds(&self, header: &[u8]) -> Result<Grounds, Rejection> {
        let header = Header::decode(header)
            .map_err(|error| Rejection::Unproven(BundleError::Head(HeadError::Header(error))))?;
        let now = self.now();
        let Standing { spec, committees } = &*self.standing.borrow();
        let epoch = spec.epoch_at(header.timestamp);
        let committee = match committees.of(epoch) {
            Some(committee) => committee.clone(),
            None if epoch > committees.through() => {
                return Err(Rejection::Unwalked { epoch, known: committees.through() });
            }
            // Longer ago than is remembered: the check itself says so.
            None => committees.latest().clone(),
        };
        Ok(Grounds { spec: spec.clone(), committee, now })
    }

    /// Why a bundle proves nothing; names those who sign though they were replaced.
    pub(crate) fn rejection(&self, error: BundleError) -> Rejection {
        if let BundleError::Head(HeadError::NotCommittee { number, signer }) = error
            && let Some(through) = self.standing.borrow().committees.retired(&signer.0)
        {
            return Rejection::Retired { number, signer, through };
        }
        error.into()
    }

    /// Walks on, if the step leads from where the walk has come to; gives the last epoch it led to.
    pub(crate) fn walk_on(&self, step: &CommitteeStep) -> Result<u32, Rejection> {
        let Standing { spec, committees } = self.standing.borrow().clone();
        // Who is cold learns from its anchor, not from an old committee, what time it is.
        let now = (!self.time.is_cold()).then(|| self.now());
        let step = verify_step(&spec, &committees, now, step).map_err(Rejection::from)?;
        self.standing.send_modify(|standing| {
            // Under another spec adopted meanwhile the walk begins anew.
            if standing.spec.hash() == spec.hash() {
                standing.committees.take(&step);
            }
        });
        Ok(step.last())
    }

    /// Goes on under a newer spec, from its committee on; false if one at least as new is in use.
    pub(crate) fn adopt(&self, newer: VerifiedSpec) -> bool {
        self.standing.send_if_modified(|standing| {
            let adopts = newer.succeeds(&standing.spec).is_ok();
            if adopts {
                standing.committees = Committees::first(&newer);
                standing.spec = Arc::new(newer);
            }
            adopts
        })
    }
}
