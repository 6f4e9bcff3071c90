//! Who may attest the heads of which epoch, and how a device gets from one committee to the next.
//!
//! The spec names the first committee. In the first half of epoch e anyone may propose one for e + 1; a head of e's
//! second half, signed by e's committee, proves whether somebody did: then the list whose hash stands in the slot is in
//! office from e + 1 on, otherwise e's stays. Nobody skips an epoch without a proof that its slot is empty.

use crate::bundle::{Bundle, BundleError, MAX_BUNDLE_SLOTS, VerifiedBundle, verify_bundle};
use crate::head::Trust;
use crate::header::{Header, HeaderError};
use crate::slot::Slot;
use crate::spec::{ChainSpec, MAX_COMMITTEE, VerifiedSpec};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use alloy_primitives::{Address, B256, keccak256};

/// Committees that are remembered: the one in office and those before it, for heads that are still fresh enough.
pub const REMEMBERED: usize = 8;
/// Most epochs of one step: each takes a slot of its bundle.
pub const MAX_STEP_EPOCHS: u32 = MAX_BUNDLE_SLOTS as u32;

/// Who may attest heads, strictly ascending, and in which epochs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committee {
    members: Vec<Address>,
    from: u32,
    through: u32,
}

impl Committee {
    /// The spec's first committee as if it were never replaced: for whoever knows that it wasn't.
    pub fn first(spec: &VerifiedSpec) -> Self {
        Self { members: spec.committee.clone(), from: 0, through: u32::MAX }
    }

    /// The members.
    pub fn members(&self) -> &[Address] {
        &self.members
    }

    /// Whether this address is a member.
    pub fn contains(&self, address: &Address) -> bool {
        self.members.binary_search(address).is_ok()
    }

    /// Its first epoch.
    pub fn from(&self) -> u32 {
        self.from
    }

    /// The last epoch that it is known to be in office for.
    pub fn through(&self) -> u32 {
        self.through
    }

    /// Whether it is known to be in office in this epoch.
    pub fn is_in_office(&self, epoch: u32) -> bool {
        (self.from..=self.through).contains(&epoch)
    }
}

/// A list that nobody can propose: not strictly ascending, empty, or too long; or not the one whose hash is proven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Against the contract's rules.
    #[error("a committee has 1 to {MAX_COMMITTEE} members in ascending order, each once")]
    Illegal,
    /// Another list.
    #[error("the list of the committee of epoch {epoch} hashes to {actual}, its slot holds {proven}")]
    OtherHash {
        /// The epoch.
        epoch: u32,
        /// Of the list.
        actual: B256,
        /// In the registry.
        proven: B256,
    },
}

/// keccak256(abi.encodePacked(address[])) of a committee list, as its registry slot holds it. Solidity pads
/// array elements to 32 bytes in packed encoding.
pub fn committee_hash(members: &[Address]) -> B256 {
    let mut bytes = Vec::with_capacity(members.len() * 32);
    for member in members {
        bytes.extend_from_slice(member.into_word().as_slice());
    }
    keccak256(bytes)
}

fn check_list(epoch: u32, proven: B256, members: &[Address]) -> Result<(), ListError> {
    let ascending = members.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || !(1..=MAX_COMMITTEE).contains(&members.len()) {
        return Err(ListError::Illegal);
    }
    match committee_hash(members) {
        actual if actual == proven => Ok(()),
        actual => Err(ListError::OtherHash { epoch, actual, proven }),
    }
}

/// The committees of the epochs walked so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committees {
    /// Ascending and without gaps; never empty.
    terms: VecDeque<Committee>,
}

impl Committees {
    /// Where every walk begins: the spec's committee, in office until the spec was made.
    pub fn first(spec: &VerifiedSpec) -> Self {
        let through = spec.epoch_at(spec.date);
        Self { terms: VecDeque::from([Committee { members: spec.committee.clone(), from: 0, through }]) }
    }

    /// Where a walk ended before. Believed as it is: it must come from where nobody else writes. `None` for what no walk
    /// ends with.
    pub fn resume(spec: &VerifiedSpec, members: Vec<Address>, from: u32, through: u32) -> Option<Self> {
        let first = Self::first(spec);
        if through < first.through() || from > through {
            return None;
        }
        check_list(from, committee_hash(&members), &members).ok()?;
        Some(Self { terms: VecDeque::from([Committee { members, from, through }]) })
    }

    /// The last epoch whose committee is known.
    pub fn through(&self) -> u32 {
        self.latest().through
    }

    /// The latest known committee.
    pub fn latest(&self) -> &Committee {
        self.terms.back().expect("made with one, and never emptied")
    }

    /// The committee of an epoch, if it was walked to and is still remembered.
    pub fn of(&self, epoch: u32) -> Option<&Committee> {
        self.terms.iter().find(|committee| committee.is_in_office(epoch))
    }

    /// The last epoch in which this address was a member, where it is in the latest committee no more.
    pub fn retired(&self, address: &Address) -> Option<u32> {
        let term = self.terms.iter().rev().find(|committee| committee.contains(address))?;
        (term.through < self.through()).then_some(term.through)
    }

    /// Whether this address is in any committee that is remembered.
    pub fn knows(&self, address: &Address) -> bool {
        self.terms.iter().any(|committee| committee.contains(address))
    }

    /// Walks one epoch on: `proven` is the value of its slot, `members` the list that hashes to it. For who reads the
    /// registry itself; a device takes steps that it verified.
    pub fn advance(&mut self, proven: B256, members: &[Address]) -> Result<(), ListError> {
        let Some(epoch) = self.through().checked_add(1) else { return Ok(()) };
        if !proven.is_zero() {
            check_list(epoch, proven, members)?;
            self.terms.push_back(Committee { members: members.to_vec(), from: epoch, through: epoch });
            while self.terms.len() > REMEMBERED {
                self.terms.pop_front();
            }
        } else if let Some(latest) = self.terms.back_mut() {
            latest.through = epoch;
        }
        Ok(())
    }

    /// Takes a verified step, if it begins where this walk has come to.
    pub fn take(&mut self, step: &VerifiedStep) {
        if step.after != self.through() {
            return;
        }
        match &step.next {
            Some(members) => {
                if let Some(latest) = self.terms.back_mut() {
                    latest.through = step.last - 1;
                }
                // The list was checked with its step.
                let _ = self.advance(committee_hash(members), members);
            }
            None => {
                if let Some(latest) = self.terms.back_mut() {
                    latest.through = step.last;
                }
            }
        }
    }
}

/// An answer to a question of a committee, as sent: RLP `[2, bundle, last, [member…]]`. The bundle proves the committee
/// slots of all epochs from the one asked for to `last`, all empty but perhaps the last one, whose list follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitteeStep {
    /// Head and slot proofs.
    pub bundle: Bundle,
    /// The last epoch it leads to.
    pub last: u32,
    /// Who is in office from then on; empty if nothing changes.
    pub members: Vec<Address>,
}

/// Why a step leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Who vouches has not been known to be in office for longer than anyone may rely on it.
    #[error(
        "the last committee known is of epoch {through}, which ended more than the trusting period of {period} s ago: a newer chain spec is needed"
    )]
    Expired {
        /// The last epoch walked to.
        through: u32,
        /// The spec's trusting period, seconds.
        period: u64,
    },
    /// It leads back, nowhere, or too far at once.
    #[error("a step from epoch {after} to {last}: it is from 1 to {MAX_STEP_EPOCHS} epochs")]
    Length {
        /// The last epoch walked to.
        after: u32,
        /// Where it leads.
        last: u32,
    },
    /// The header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Head or proofs.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The head says nothing yet about an epoch so late.
    #[error("block {number} of epoch {epoch} doesn't settle the committee of epoch {last}")]
    Early {
        /// The block.
        number: u64,
        /// Its epoch.
        epoch: u32,
        /// Where the step leads.
        last: u32,
    },
    /// By its own proof, those who signed were replaced before its epoch.
    #[error("block {number} of epoch {epoch} is signed by the committee that epoch {replaced} retired")]
    Retired {
        /// The block.
        number: u64,
        /// Its epoch.
        epoch: u32,
        /// Since when there is another committee.
        replaced: u32,
    },
    /// An epoch in between has a committee of its own.
    #[error("a step over epoch {0}, which has a committee of its own")]
    Skipped(u32),
    /// A list where the slot is empty.
    #[error("a committee for epoch {0}, for which nobody proposed one")]
    Unproposed(u32),
    /// The list.
    #[error(transparent)]
    List(#[from] ListError),
}

/// A step whose every proof holds; made only by [`verify_step`].
#[derive(Clone, Debug)]
pub struct VerifiedStep {
    after: u32,
    last: u32,
    next: Option<Vec<Address>>,
    bundle: VerifiedBundle,
}

impl VerifiedStep {
    /// What it proves.
    pub fn bundle(&self) -> &VerifiedBundle {
        &self.bundle
    }

    /// The last epoch it leads to.
    pub fn last(&self) -> u32 {
        self.last
    }

    /// The new committee, if it leads to one.
    pub fn next(&self) -> Option<&[Address]> {
        self.next.as_deref()
    }
}

/// Checks a step on from the latest known committee. `now` is Unix seconds, `None` without a clock.
pub fn verify_step(
    spec: &VerifiedSpec,
    committees: &Committees,
    now: Option<u64>,
    step: &CommitteeStep,
) -> Result<VerifiedStep, StepError> {
    let (after, last) = (committees.through(), step.last);
    verify_trusting_period(spec, after, now)?;
    if !(1..=MAX_STEP_EPOCHS).contains(&last.saturating_sub(after)) {
        return Err(StepError::Length { after, last });
    }
    let header = Header::decode(&step.bundle.header)?;
    let (number, epoch) = (header.number, spec.epoch_at(header.timestamp));
    let settled = if spec.is_second_half(header.timestamp) { epoch.saturating_add(1) } else { epoch };
    if last > settled || epoch < after {
        return Err(StepError::Early { number, epoch, last });
    }
    // Whether they were in office in the head's own epoch follows from the slots they vouch for.
    let latest = committees.latest();
    let signers = Committee { members: latest.members.clone(), from: latest.from, through: epoch.max(after) };
    let slots: Vec<Slot> = (after + 1..=last).map(Slot::Committee).collect();
    let trust = Trust { spec, committee: &signers, now, nonce: None };
    let bundle = verify_bundle(&trust, &step.bundle, &slots)?;
    for skipped in after + 1..last {
        if !bundle.value(Slot::Committee(skipped))?.is_zero() {
            return Err(StepError::Skipped(skipped));
        }
    }
    let proven = bundle.value(Slot::Committee(last))?;
    let next = match (proven.is_zero(), step.members.is_empty()) {
        (true, true) => None,
        (true, false) => return Err(StepError::Unproposed(last)),
        (false, _) if last <= epoch => return Err(StepError::Retired { number, epoch, replaced: last }),
        (false, _) => {
            check_list(last, proven, &step.members)?;
            Some(step.members.clone())
        }
    };
    Ok(VerifiedStep { after, last, next, bundle })
}

fn verify_trusting_period(spec: &ChainSpec, through: u32, now: Option<u64>) -> Result<(), StepError> {
    let period = spec.trusting_period;
    let ends = spec.epoch_start(through.saturating_add(1)).saturating_add(period);
    match now {
        Some(now) if now > ends => Err(StepError::Expired { through, period }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
