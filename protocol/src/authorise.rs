//! Who may open a service: the rules, as functions of proven evidence and the time.
//!
//! Deny is the default. The caller's key comes from the handshake, its device id is what it states; only
//! the registry's record joins the two. Run again on every change of evidence and at [`Authorisation::until`],
//! the same function keeps a live stream honest: what it rests on changed, expired or went stale, it ends.

use crate::address::{DeviceId, KeyAddress};
use crate::evidence::{Evidence, Proven};
use crate::grant::candidates;
use crate::head::MAX_CLOCK_SKEW;
use crate::question::grant_valid;
use crate::record::{DeviceRecord, DeviceStatus, FleetRecord, GrantRecord, KeyRecord, NEVER, expired};
use crate::service::Service;
use crate::slot::Slot;
use alloc::vec::Vec;

/// Seconds for which proven evidence counts, unless the caller or publisher says otherwise.
pub const DEFAULT_MAX_AGE: u64 = 600;
/// Seconds for which proven evidence counts where revocation must bite fast.
pub const STRICT_MAX_AGE: u64 = 90;
/// The longest anyone may ask to rely on old evidence, in seconds.
pub const OFFLINE_MAX_AGE: u64 = 86_400;

/// To whom a service is open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mode {
    /// To anyone, unenrolled callers too.
    Public,
    /// To active devices of the publisher's fleet.
    Protected,
    /// To devices with a valid grant on chain, or on the publisher's own list.
    Private {
        /// Whether grants count.
        grants: bool,
        /// Who else may.
        list: Vec<Listed>,
    },
}

/// An entry of a publisher's list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    /// One device.
    Device(DeviceId),
    /// Every active device of a fleet.
    Fleet(u64),
}

/// A published service's rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// To whom it is open.
    pub mode: Mode,
    /// Seconds for which evidence counts.
    pub max_age: u64,
}

impl Default for Policy {
    /// Private, by grants alone.
    fn default() -> Self {
        Self { mode: Mode::Private { grants: true, list: Vec::new() }, max_age: DEFAULT_MAX_AGE }
    }
}

/// What a caller says it is, and which evidence it sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// In no fleet: proofs that its key is no device's.
    Unenrolled,
    /// This device, enrolled.
    Device(DeviceId),
    /// This device, with the grant at this place among the twelve candidates (`grant::candidates`).
    Granted(DeviceId, u8),
}

impl Claim {
    /// The device id stated; of an unenrolled caller, the one its key would have.
    pub fn device(&self, key: KeyAddress) -> DeviceId {
        match self {
            Self::Unenrolled => key.as_first_key(),
            Self::Device(id) | Self::Granted(id, _) => *id,
        }
    }
}

/// Why a caller may not, or may no longer, use a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 1: the caller is enrolled nowhere.
    #[error("the caller is not registered")]
    NotRegistered,
    /// 2: revoked, for ever.
    #[error("the device is revoked")]
    Revoked,
    /// 3: suspended, or its revocation is under way.
    #[error("the device is suspended")]
    Suspended,
    /// 4: past its `validUntil`.
    #[error("the device's enrolment has expired")]
    Expired,
    /// 5: no valid grant, not listed, not of the fleet.
    #[error("no grant lets the caller open this service")]
    NoGrant,
    /// 6: nothing is published there.
    #[error("no such service")]
    NoService,
    /// 7: evidence too old to rely on, on either side.
    #[error("the evidence is too old")]
    Stale,
    /// 8: more opens than the publisher serves at once.
    #[error("the device is busy")]
    Busy,
    /// 9: the staple proves nothing, or not what was claimed.
    #[error("the caller's evidence was not accepted")]
    BadStaple,
    /// 10: the key of the handshake is not the stated device's: a retired key, or a false claim.
    #[error("the key is not the stated device's")]
    NotItsKey,
    /// 11: ended by its publisher.
    #[error("the service was withdrawn")]
    Withdrawn,
}

impl Refusal {
    const ALL: [Self; 11] = [
        Self::NotRegistered,
        Self::Revoked,
        Self::Suspended,
        Self::Expired,
        Self::NoGrant,
        Self::NoService,
        Self::Stale,
        Self::Busy,
        Self::BadStaple,
        Self::NotItsKey,
        Self::Withdrawn,
    ];

    /// Its number on the wire, from 1.
    pub fn code(self) -> u8 {
        Self::ALL.iter().position(|refusal| *refusal == self).map_or(0, |index| index as u8 + 1)
    }

    /// The refusal with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// A permission, as long as nothing it rests on changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authorisation {
    /// Unix seconds: with no newer evidence by then it ends.
    pub until: u64,
    /// The slots it rests on, to watch and re-prove.
    pub slots: Vec<Slot>,
}

/// One caller at one service of one publisher.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The service's rules.
    pub policy: &'a Policy,
    /// The service.
    pub service: Service,
    /// The publisher.
    pub own: DeviceId,
    /// The key the publisher acts with.
    pub own_key: KeyAddress,
    /// The key the caller proved to hold.
    pub key: KeyAddress,
    /// What the caller states.
    pub claim: Claim,
}

/// Reads slots out of the evidence, collecting what the answer rests on and until when.
struct Reader<'a> {
    evidence: &'a Evidence,
    now: u64,
    max_age: u64,
    until: u64,
    slots: Vec<Slot>,
}

impl<'a> Reader<'a> {
    fn new(evidence: &'a Evidence, now: u64, max_age: u64) -> Self {
        Self { evidence, now, max_age, until: u64::MAX, slots: Vec::new() }
    }

    fn read(&mut self, slot: Slot) -> Result<&'a Proven, Refusal> {
        let proven = self.evidence.lookup(slot).ok_or(Refusal::BadStaple)?;
        let stale_at = proven.attested_at.saturating_add(self.max_age);
        // Vouched for in our future: our clock was set back, and nothing tells how old the evidence is.
        let ahead = proven.attested_at > self.now.saturating_add(MAX_CLOCK_SKEW);
        if ahead || self.now > stale_at {
            return Err(Refusal::Stale);
        }
        self.until = self.until.min(stale_at);
        self.slots.push(slot);
        Ok(proven)
    }

    fn expires(&mut self, t: u64) {
        if t != NEVER {
            self.until = self.until.min(t);
        }
    }

    /// The record of a device that is active now.
    fn active(&mut self, id: DeviceId) -> Result<DeviceRecord, Refusal> {
        let proven = self.read(Slot::Device(id))?;
        let record = DeviceRecord::decode(&proven.value).map_err(|_| Refusal::BadStaple)?;
        let record = record.ok_or(Refusal::NotRegistered)?;
        judge_device(&record, proven.timestamp, self.now)?;
        self.expires(record.valid_until);
        Ok(record)
    }

    fn fleet(&mut self, fleet: u64) -> Result<FleetRecord, Refusal> {
        let proven = self.read(Slot::Fleet(fleet))?;
        FleetRecord::decode(&proven.value).ok().flatten().ok_or(Refusal::BadStaple)
    }

    fn end(self) -> Authorisation {
        Authorisation { until: self.until, slots: self.slots }
    }
}

/// Whether a device may act at all.
pub fn judge_device(record: &DeviceRecord, timestamp: u64, now: u64) -> Result<(), Refusal> {
    let over = expired(record.valid_until, timestamp, Some(now));
    match record.status {
        DeviceStatus::Revoked => Err(Refusal::Revoked),
        DeviceStatus::Revoking if over => Err(Refusal::Revoked),
        DeviceStatus::Revoking | DeviceStatus::Suspended => Err(Refusal::Suspended),
        DeviceStatus::Active if over => Err(Refusal::Expired),
        DeviceStatus::Active => Ok(()),
    }
}

/// Whether the caller may use the service, by the newest evidence on both sides.
///
/// The publisher's own device and fleet must be in the evidence and fresh, and its key the one it acts with: a
/// publisher that can't prove its own standing has nothing to grant with ([`Refusal::Stale`]).
pub fn authorise(ask: &Ask<'_>, evidence: &Evidence, now: u64) -> Result<Authorisation, Refusal> {
    let mut reader = Reader::new(evidence, now, ask.policy.max_age);
    // Why the publisher itself has no standing is none of the caller's business.
    let own = reader.active(ask.own).map_err(|_| Refusal::Stale)?;
    if own.key != ask.own_key {
        return Err(Refusal::Stale);
    }
    match ask.claim {
        Claim::Unenrolled => unenrolled(ask, &mut reader)?,
        Claim::Device(id) => enrolled(ask, &mut reader, id, None, &own)?,
        Claim::Granted(id, place) => enrolled(ask, &mut reader, id, Some(place), &own)?,
    }
    Ok(reader.end())
}

fn unenrolled(ask: &Ask<'_>, reader: &mut Reader<'_>) -> Result<(), Refusal> {
    let device = reader.read(Slot::Device(ask.key.as_first_key()))?.value;
    let key = reader.read(Slot::KeyOf(ask.key))?.value;
    match (device.is_zero(), KeyRecord::decode(&key)) {
        (true, Ok(None)) if ask.policy.mode == Mode::Public => Ok(()),
        (true, Ok(None)) => Err(Refusal::NotRegistered),
        // It is somebody after all, and says it isn't.
        _ => Err(Refusal::BadStaple),
    }
}

fn enrolled(
    ask: &Ask<'_>,
    reader: &mut Reader<'_>,
    id: DeviceId,
    place: Option<u8>,
    own: &DeviceRecord,
) -> Result<(), Refusal> {
    let caller = reader.active(id)?;
    if caller.key != ask.key {
        return Err(Refusal::NotItsKey);
    }
    match &ask.policy.mode {
        Mode::Public => Ok(()),
        Mode::Protected if caller.fleet == own.fleet => Ok(()),
        Mode::Protected => Err(Refusal::NoGrant),
        Mode::Private { list, .. } if listed(list, id, caller.fleet) => Ok(()),
        Mode::Private { grants: true, .. } => granted(ask, reader, id, caller.fleet, place, own),
        Mode::Private { .. } => Err(Refusal::NoGrant),
    }
}

fn listed(list: &[Listed], id: DeviceId, fleet: u64) -> bool {
    list.iter().any(|entry| match entry {
        Listed::Device(device) => *device == id,
        Listed::Fleet(number) => *number == fleet,
    })
}

fn granted(
    ask: &Ask<'_>,
    reader: &mut Reader<'_>,
    id: DeviceId,
    caller_fleet: u64,
    place: Option<u8>,
    own: &DeviceRecord,
) -> Result<(), Refusal> {
    let place = place.ok_or(Refusal::NoGrant)?;
    let grant_id = candidates(ask.own, own.fleet, id, caller_fleet, ask.service)
        .nth(usize::from(place))
        .ok_or(Refusal::BadStaple)?;
    let fleet = reader.fleet(own.fleet).map_err(|_| Refusal::Stale)?;
    let proven = reader.read(Slot::Grant(grant_id))?;
    let grant =
        GrantRecord::decode(&proven.value).map_err(|_| Refusal::BadStaple)?.ok_or(Refusal::NoGrant)?;
    if !grant_valid(&grant, own.fleet, &fleet, proven.timestamp, Some(reader.now)) {
        return Err(Refusal::NoGrant);
    }
    reader.expires(grant.expiry);
    Ok(())
}

/// Whether a caller may go on talking to the device it reached: that device is still active and its key
/// still the one of the connection; so is the caller itself, with the key it acts with, unless it never was
/// enrolled.
pub fn authorise_callee(
    target: DeviceId,
    target_key: KeyAddress,
    own: Option<(DeviceId, KeyAddress)>,
    max_age: u64,
    evidence: &Evidence,
    now: u64,
) -> Result<Authorisation, Refusal> {
    let mut reader = Reader::new(evidence, now, max_age);
    if reader.active(target)?.key != target_key {
        return Err(Refusal::NotItsKey);
    }
    if let Some((own, own_key)) = own
        && reader.active(own)?.key != own_key
    {
        return Err(Refusal::NotItsKey);
    }
    Ok(reader.end())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::grant::{GrantService, GrantTarget, Grantee, grant_id, parties_hash};
    use crate::record::RIGHT_OPEN;
    use alloc::vec;
    use alloy_primitives::{Address, B256};

    const NOW: u64 = 10_000;
    const SERVICE: Service = Service::Stream(80);
    const OWN: DeviceId = DeviceId(Address::repeat_byte(1));
    const OWN_KEY: KeyAddress = KeyAddress(OWN.0);
    const CALLER: DeviceId = DeviceId(Address::repeat_byte(2));
    const CALLER_KEY: KeyAddress = KeyAddress(Address::repeat_byte(0x22));

    fn device(key: KeyAddress, fleet: u64) -> DeviceRecord {
        DeviceRecord { key, fleet, valid_until: NEVER, status: DeviceStatus::Active }
    }

    fn fleet() -> FleetRecord {
        FleetRecord { operator: Address::repeat_byte(9), policy_epoch: 3, nonce: 0, flags: 0 }
    }

    fn grant() -> GrantRecord {
        GrantRecord { expiry: NEVER, policy_epoch: 3, fleet: 7, rights: RIGHT_OPEN }
    }

    fn grant_slot() -> Slot {
        let parties =
            parties_hash(GrantTarget::Device(OWN), Grantee::Device(CALLER), GrantService::One(SERVICE));
        Slot::Grant(grant_id(7, parties))
    }

    /// Everything in order: publisher in fleet 7, caller in fleet 8, a grant for the pair.
    fn evidence() -> Evidence {
        let mut evidence = Evidence::default();
        evidence.insert(Slot::Device(OWN), device(KeyAddress(OWN.0), 7).encode(), 1, NOW);
        evidence.insert(Slot::Fleet(7), fleet().encode(), 1, NOW);
        evidence.insert(Slot::Device(CALLER), device(CALLER_KEY, 8).encode(), 1, NOW);
        evidence.insert(grant_slot(), grant().encode(), 1, NOW);
        evidence
    }

    fn judge(policy: &Policy, claim: Claim, evidence: &Evidence, now: u64) -> Result<Authorisation, Refusal> {
        let ask = Ask { policy, service: SERVICE, own: OWN, own_key: OWN_KEY, key: CALLER_KEY, claim };
        authorise(&ask, evidence, now)
    }

    /// A fixed bug: a publisher whose key had been rotated away went on accepting.
    #[test]
    fn a_key_that_was_rotated_away_neither_grants_nor_goes_on_calling() {
        let mut e = evidence();
        assert!(private(&e).is_ok());
        e.insert(Slot::Device(OWN), device(KeyAddress(Address::repeat_byte(0x55)), 7).encode(), 2, NOW);
        for (mode, claim) in
            [(Mode::Public, Claim::Device(CALLER)), (Policy::default().mode, Claim::Granted(CALLER, 0))]
        {
            let policy = Policy { mode, max_age: 600 };
            assert_eq!(judge(&policy, claim, &e, NOW), Err(Refusal::Stale));
        }
        let callee =
            |e: &Evidence| authorise_callee(CALLER, CALLER_KEY, Some((OWN, OWN_KEY)), 600, e, NOW).map(drop);
        assert_eq!(callee(&e), Err(Refusal::NotItsKey));
        assert_eq!(callee(&evidence()), Ok(()));
    }

    fn private(evidence: &Evidence) -> Result<Authorisation, Refusal> {
        judge(&Policy::default(), Claim::Granted(CALLER, 0), evidence, NOW)
    }

    #[test]
    fn a_valid_grant_opens_and_says_what_it_rests_on() {
        let authorisation = private(&evidence()).unwrap();
        assert_eq!(authorisation.until, NOW + DEFAULT_MAX_AGE);
        assert_eq!(
            authorisation.slots,
            vec![Slot::Device(OWN), Slot::Device(CALLER), Slot::Fleet(7), grant_slot()]
        );
    }

    #[test]
    fn the_earliest_expiry_ends_it() {
        let mut e = evidence();
        e.insert(grant_slot(), GrantRecord { expiry: NOW + 5, ..grant() }.encode(), 2, NOW);
        assert_eq!(private(&e).unwrap().until, NOW + 5);
        let valid_until = NOW + 3;
        e.insert(
            Slot::Device(CALLER),
            DeviceRecord { valid_until, ..device(CALLER_KEY, 8) }.encode(),
            2,
            NOW,
        );
        assert_eq!(private(&e).unwrap().until, NOW + 3);
    }

    #[test]
    fn default_is_deny() {
        let e = evidence();
        assert_eq!(judge(&Policy::default(), Claim::Device(CALLER), &e, NOW), Err(Refusal::NoGrant));
        let nobody = Mode::Private { grants: false, list: vec![] };
        let policy = Policy { mode: nobody, max_age: 60 };
        assert_eq!(judge(&policy, Claim::Granted(CALLER, 0), &e, NOW), Err(Refusal::NoGrant));
    }

    #[test]
    fn a_grant_that_is_void_does_not_open() {
        let voids = [
            GrantRecord { expiry: NOW, ..grant() },
            GrantRecord { policy_epoch: 2, ..grant() },
            GrantRecord { fleet: 8, ..grant() },
            GrantRecord { rights: 2, ..grant() },
        ];
        for void in voids {
            let mut e = evidence();
            e.insert(grant_slot(), void.encode(), 2, NOW);
            assert_eq!(private(&e), Err(Refusal::NoGrant), "{void:?}");
        }
        let mut e = evidence();
        e.insert(grant_slot(), B256::ZERO, 2, NOW);
        assert_eq!(private(&e), Err(Refusal::NoGrant));
    }

    #[test]
    fn a_grant_at_another_place_was_not_proven() {
        let policy = Policy::default();
        for place in [1, 11, 12, 255] {
            assert_eq!(
                judge(&policy, Claim::Granted(CALLER, place), &evidence(), NOW),
                Err(Refusal::BadStaple)
            );
        }
    }

    #[test]
    fn status_and_expiry_of_the_caller_deny_in_every_mode() {
        let fits = |status, valid_until| DeviceRecord { status, valid_until, ..device(CALLER_KEY, 7) };
        let cases = [
            (fits(DeviceStatus::Revoked, 5), Refusal::Revoked),
            (fits(DeviceStatus::Revoking, NOW), Refusal::Revoked),
            (fits(DeviceStatus::Revoking, NOW + 1), Refusal::Suspended),
            (fits(DeviceStatus::Suspended, NEVER), Refusal::Suspended),
            (fits(DeviceStatus::Active, NOW), Refusal::Expired),
        ];
        let listed = Mode::Private { grants: true, list: vec![Listed::Device(CALLER), Listed::Fleet(7)] };
        for mode in [Mode::Public, Mode::Protected, listed] {
            for (record, refusal) in &cases {
                let mut e = evidence();
                e.insert(Slot::Device(CALLER), record.encode(), 2, NOW);
                let policy = Policy { mode: mode.clone(), max_age: 60 };
                assert_eq!(judge(&policy, Claim::Granted(CALLER, 0), &e, NOW), Err(*refusal));
            }
        }
    }

    #[test]
    fn a_key_that_is_not_the_devices_is_nobody() {
        let mut e = evidence();
        let other = KeyAddress(Address::repeat_byte(0x33));
        e.insert(Slot::Device(CALLER), device(other, 8).encode(), 2, NOW);
        assert_eq!(private(&e), Err(Refusal::NotItsKey));
    }

    #[test]
    fn protected_is_for_the_same_fleet() {
        let policy = Policy { mode: Mode::Protected, max_age: 60 };
        let mut e = evidence();
        assert_eq!(judge(&policy, Claim::Device(CALLER), &e, NOW), Err(Refusal::NoGrant));
        e.insert(Slot::Device(CALLER), device(CALLER_KEY, 7).encode(), 2, NOW);
        assert!(judge(&policy, Claim::Device(CALLER), &e, NOW).is_ok());
    }

    #[test]
    fn lists_hold_devices_and_fleets() {
        for list in [vec![Listed::Device(CALLER)], vec![Listed::Fleet(8)]] {
            let policy = Policy { mode: Mode::Private { grants: false, list }, max_age: 60 };
            assert!(judge(&policy, Claim::Device(CALLER), &evidence(), NOW).is_ok());
        }
    }

    #[test]
    fn unenrolled_callers_may_open_public_services_only() {
        let mut e = evidence();
        e.insert(Slot::Device(CALLER_KEY.as_first_key()), B256::ZERO, 1, NOW);
        e.insert(Slot::KeyOf(CALLER_KEY), B256::ZERO, 1, NOW);
        let public = Policy { mode: Mode::Public, max_age: 60 };
        assert!(judge(&public, Claim::Unenrolled, &e, NOW).is_ok());
        assert_eq!(judge(&Policy::default(), Claim::Unenrolled, &e, NOW), Err(Refusal::NotRegistered));
        // A rotated key may not pose as a stranger.
        let taken = KeyRecord { device: CALLER, since: 1 };
        e.insert(Slot::KeyOf(CALLER_KEY), taken.encode(), 2, NOW);
        assert_eq!(judge(&public, Claim::Unenrolled, &e, NOW), Err(Refusal::BadStaple));
    }

    #[test]
    fn silence_denies() {
        let policy = Policy { max_age: 60, ..Policy::default() };
        assert!(judge(&policy, Claim::Granted(CALLER, 0), &evidence(), NOW + 60).is_ok());
        assert_eq!(judge(&policy, Claim::Granted(CALLER, 0), &evidence(), NOW + 61), Err(Refusal::Stale));
    }

    #[test]
    fn a_clock_set_back_does_not_lengthen_the_life_of_evidence() {
        let policy = Policy::default();
        let at = |now| judge(&policy, Claim::Granted(CALLER, 0), &evidence(), now);
        assert!(at(NOW - MAX_CLOCK_SKEW).is_ok());
        assert_eq!(at(NOW - MAX_CLOCK_SKEW - 1), Err(Refusal::Stale));
        let key = KeyAddress(OWN.0);
        let callee = |now| authorise_callee(OWN, key, Some((CALLER, CALLER_KEY)), 600, &evidence(), now);
        assert_eq!(callee(NOW - MAX_CLOCK_SKEW - 1), Err(Refusal::Stale));
    }

    #[test]
    fn a_publisher_without_standing_grants_nothing() {
        let mut e = evidence();
        let gone = DeviceRecord { status: DeviceStatus::Revoked, ..device(KeyAddress(OWN.0), 7) };
        e.insert(Slot::Device(OWN), gone.encode(), 2, NOW);
        assert_eq!(private(&e), Err(Refusal::Stale));
        assert_eq!(private(&Evidence::default()), Err(Refusal::Stale));
    }

    #[test]
    fn newer_evidence_beats_the_staple() {
        let mut e = evidence();
        let gone = DeviceRecord { status: DeviceStatus::Revoked, ..device(CALLER_KEY, 8) };
        e.insert(Slot::Device(CALLER), gone.encode(), 5, NOW);
        // An older staple that still shows the device active arrives afterwards.
        e.insert(Slot::Device(CALLER), device(CALLER_KEY, 8).encode(), 4, NOW);
        assert_eq!(private(&e), Err(Refusal::Revoked));
    }

    #[test]
    fn codes_are_stable() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal.code() as usize, index + 1);
            assert_eq!(Refusal::from_code(refusal.code()), Some(refusal));
        }
        assert_eq!((Refusal::from_code(0), Refusal::from_code(12)), (None, None));
    }

    #[test]
    fn a_caller_leaves_a_device_that_was_revoked_or_rotated() {
        let mut e = evidence();
        let key = KeyAddress(OWN.0);
        assert!(authorise_callee(OWN, key, Some((CALLER, CALLER_KEY)), 60, &e, NOW).is_ok());
        assert_eq!(authorise_callee(OWN, CALLER_KEY, None, 60, &e, NOW), Err(Refusal::NotItsKey));
        assert_eq!(authorise_callee(OWN, key, None, 60, &e, NOW + 61), Err(Refusal::Stale));
        let gone = DeviceRecord { status: DeviceStatus::Revoked, ..device(CALLER_KEY, 8) };
        e.insert(Slot::Device(CALLER), gone.encode(), 2, NOW);
        assert_eq!(
            authorise_callee(OWN, key, Some((CALLER, CALLER_KEY)), 60, &e, NOW),
            Err(Refusal::Revoked)
        );
    }
}
