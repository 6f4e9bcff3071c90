//! What a caller states about itself, and the staple that proves it: chosen on one side, checked on the other.

use windlass_protocol::{
    DeviceId, KeyAddress, Service,
    authorise::{Claim, Refusal, judge_device},
    bundle::{BundleError, VerifiedBundle, open_bundle},
    grant::candidates,
    head::Trust,
    message::stream::Open,
    question::grant_valid,
    record::{DeviceRecord, GrantRecord},
    slot::Slot,
};

/// The caller's own standing, and the target it wants to open.
pub(crate) struct Caller {
    pub(crate) own: DeviceId,
    pub(crate) key: KeyAddress,
    pub(crate) service: Service,
    pub(crate) now: u64,
}

/// Why a caller has nothing to claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoClaim {
    /// By its own proven record.
    Refused(Refusal),
    /// The answer lacks a slot the question leads to.
    Unproven(BundleError),
}

impl From<BundleError> for NoClaim {
    fn from(error: BundleError) -> Self {
        Self::Unproven(error)
    }
}

impl Caller {
    /// The best claim that the answer to the open question supports: the valid grant that lasts longest, else
    /// the device itself, else that its key is nobody's.
    pub(crate) fn choose(
        &self,
        bundle: &VerifiedBundle,
        target: DeviceId,
        target_record: &DeviceRecord,
    ) -> Result<(Claim, Vec<Slot>), NoClaim> {
        let Some(own) = bundle.device(self.own)? else {
            if self.own != self.key.as_first_key() || bundle.key(self.key)?.is_some() {
                return Err(NoClaim::Refused(Refusal::NotRegistered));
            }
            return Ok((Claim::Unenrolled, vec![Slot::Device(self.own), Slot::KeyOf(self.key)]));
        };
        let timestamp = bundle.head().header().timestamp;
        judge_device(&own, timestamp, self.now).map_err(NoClaim::Refused)?;
        if own.key != self.key {
            return Err(NoClaim::Refused(Refusal::NotItsKey));
        }
        let places = candidates(target, target_record.fleet, self.own, own.fleet, self.service);
        let fleet = bundle.fleet(target_record.fleet)?;
        let mut longest: Option<(u64, u8, Slot)> = None;
        for (place, id) in (0..).zip(places) {
            let (Some(fleet), Ok(grant)) = (&fleet, bundle.grant(id)) else { break };
            let valid = |grant: &GrantRecord| {
                grant_valid(grant, target_record.fleet, fleet, timestamp, Some(self.now))
            };
            let Some(grant) = grant.filter(valid) else { continue };
            if longest.is_none_or(|(expiry, ..)| grant.expiry > expiry) {
                longest = Some((grant.expiry, place, Slot::Grant(id)));
            }
        }
        let device = Slot::Device(self.own);
        Ok(match longest {
            Some((_, place, grant)) => (Claim::Granted(self.own, place), vec![device, grant]),
            None => (Claim::Device(self.own), vec![device]),
        })
    }
}

/// Verifies a caller's staple: exactly the slots its claim derives, proven under one head. Which grant a
/// place means follows from the publisher's own fleet and the caller's proven one.
pub(crate) fn verify_staple(
    trust: &Trust<'_>,
    open: &Open,
    key: KeyAddress,
    own: DeviceId,
    own_fleet: u64,
) -> Result<VerifiedBundle, BundleError> {
    let mut staple = open_bundle(trust, &open.staple)?;
    match open.claim {
        Claim::Unenrolled => {
            staple.value(Slot::Device(key.as_first_key()))?;
            staple.value(Slot::KeyOf(key))?;
        }
        Claim::Device(id) => {
            staple.value(Slot::Device(id))?;
        }
        Claim::Granted(id, place) => {
            let record = DeviceRecord::decode(&staple.value(Slot::Device(id))?)?;
            let caller_fleet = record.map_or(0, |record| record.fleet);
            let grant = candidates(own, own_fleet, id, caller_fleet, open.service).nth(usize::from(place));
            if let Some(grant) = grant {
                staple.value(Slot::Grant(grant))?;
            }
        }
    }
    staple.finish()
}
