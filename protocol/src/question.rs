//! What a client may ask of a node, and which slots answer it.
//!
//! [`Question::expand`] is the one definition of what an answer must prove. The node runs it over its
//! mirror to collect the slots to prove; the client runs it over the proofs it received. So a node can't
//! leave out a step: a slot the expansion asks for and the bundle doesn't prove fails the answer.

use crate::address::{DeviceId, KeyAddress};
use crate::grant::candidates;
use crate::name::Name;
use crate::record::{
    DeviceRecord, FleetRecord, GrantRecord, NameKind, NameRecord, RIGHT_OPEN, RecordError, expired,
};
use crate::service::Service;
use crate::slot::Slot;
use crate::wire;
use alloc::string::String;
use alloy_primitives::{Address, B256};
use core::fmt;
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

/// Most questions in one request.
pub const MAX_QUESTIONS: usize = 16;

/// Seconds after a header's time within which a grant that ends is not enough by itself: the answer is read
/// later, by at most the lag of a head (an hour on public chains) and the usual age of evidence (10 minutes).
pub const ENDS_SOON: u64 = 4_200;

/// A device, by its name or by its id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// By name.
    Name(Name),
    /// By device id.
    Device(DeviceId),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Device(id) => id.fmt(f),
        }
    }
}

impl core::str::FromStr for Target {
    type Err = TargetError;
    fn from_str(text: &str) -> Result<Self, TargetError> {
        if text.starts_with("0x") {
            return text.parse().map(Self::Device).map_err(TargetError::Address);
        }
        text.parse().map(Self::Name).map_err(TargetError::Name)
    }
}

/// A text that is neither a name nor an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It starts with 0x but is no address.
    #[error(transparent)]
    Address(crate::address::AddressError),
    /// It is no name.
    #[error(transparent)]
    Name(crate::name::NameError),
}

impl Encodable for Target {
    fn rlp_append(&self, s: &mut RlpStream) {
        match self {
            Self::Name(name) => s.begin_list(2).append(&0u8).append(&name.as_str()),
            Self::Device(id) => s.begin_list(2).append(&1u8).append(&id.0.as_slice()),
        };
    }
}

impl Decodable for Target {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 2)?;
        match f[0].as_val::<u8>()? {
            0 => name(&f[1]).map(Self::Name),
            1 => Ok(Self::Device(DeviceId(wire::address(&f[1])?))),
            _ => Err(DecoderError::Custom("an unknown kind of target")),
        }
    }
}

fn name(rlp: &Rlp<'_>) -> Result<Name, DecoderError> {
    let text: String = rlp.as_val()?;
    text.parse().map_err(|_| DecoderError::Custom("not a name"))
}

/// One question. RLP `[kind, …]` with the kind's number below.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// 0 `[0, target]`: the device or name, and the device it points at.
    Target(Target),
    /// 1 `[1, address]`: the label hash an address gives as its name.
    Reverse(Address),
    /// 2 `[2, key]`: the device that took this key by rotation.
    Key(KeyAddress),
    /// 3 `[3, fleet]`.
    Fleet(u64),
    /// 4 `[4, grant id]`.
    Grant(B256),
    /// 5 `[5, node]`.
    Node(Address),
    /// 6 `[6, epoch]`: how to get from the committee of the epoch before to this one's or a later one's. A request of its
    /// own: it is answered by a step, under another head than everything else.
    Committee(u32),
    /// 7 `[7, target, caller, service]`: everything needed to connect, in one round trip.
    Open {
        /// Whom to reach.
        target: Target,
        /// Who asks.
        caller: DeviceId,
        /// What to open.
        service: Service,
    },
    /// 8 `[8, kind, key]`: one slot as it is, for watching and re-proving.
    Slot(Slot),
    /// 9 `[9, version]`: the newest signed chain spec, if it is above this version. A request of its own: it is answered
    /// by the spec, and nothing of the registry proves it.
    Spec(u64),
}

impl Encodable for Question {
    fn rlp_append(&self, s: &mut RlpStream) {
        match self {
            Self::Target(target) => s.begin_list(2).append(&0u8).append(target),
            Self::Reverse(address) => s.begin_list(2).append(&1u8).append(&address.as_slice()),
            Self::Key(key) => s.begin_list(2).append(&2u8).append(&key.0.as_slice()),
            Self::Fleet(fleet) => s.begin_list(2).append(&3u8).append(fleet),
            Self::Grant(id) => s.begin_list(2).append(&4u8).append(&id.as_slice()),
            Self::Node(address) => s.begin_list(2).append(&5u8).append(&address.as_slice()),
            Self::Committee(epoch) => s.begin_list(2).append(&6u8).append(epoch),
            Self::Open { target, caller, service } => s
                .begin_list(4)
                .append(&7u8)
                .append(target)
                .append(&caller.0.as_slice())
                .append(&service.number()),
            Self::Slot(slot) => {
                s.begin_list(3).append(&8u8).append(&slot.kind()).append(&slot.mapping_key().as_slice())
            }
            Self::Spec(version) => s.begin_list(2).append(&9u8).append(version),
        };
    }
}

impl Decodable for Question {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 2)?;
        let field = |index: usize| f.get(index).ok_or(DecoderError::RlpIncorrectListLen);
        Ok(match f[0].as_val::<u8>()? {
            0 => Self::Target(f[1].as_val()?),
            1 => Self::Reverse(wire::address(&f[1])?),
            2 => Self::Key(KeyAddress(wire::address(&f[1])?)),
            3 => Self::Fleet(f[1].as_val()?),
            4 => Self::Grant(wire::word(&f[1])?),
            5 => Self::Node(wire::address(&f[1])?),
            6 => Self::Committee(f[1].as_val()?),
            7 => Self::Open {
                target: f[1].as_val()?,
                caller: DeviceId(wire::address(field(2)?)?),
                service: service(field(3)?)?,
            },
            8 => Self::Slot(slot(&f[1], field(2)?)?),
            9 => Self::Spec(f[1].as_val()?),
            _ => return Err(DecoderError::Custom("an unknown kind of question")),
        })
    }
}

pub(crate) fn service(rlp: &Rlp<'_>) -> Result<Service, DecoderError> {
    Service::from_number(rlp.as_val()?).map_err(|_| DecoderError::Custom("not a service"))
}

pub(crate) fn slot(kind: &Rlp<'_>, key: &Rlp<'_>) -> Result<Slot, DecoderError> {
    Slot::from_parts(kind.as_val()?, wire::word(key)?).ok_or(DecoderError::Custom("not a registry slot"))
}

/// Why an expansion ended: the look-up failed, or a record makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError<E> {
    /// From the look-up.
    #[error(transparent)]
    Lookup(E),
    /// From a value.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Question {
    /// Calls `lookup` for every slot an answer must prove, in order. Whether a record is expired is judged
    /// by the head's timestamp alone, so that both ends expand alike.
    pub fn expand<E>(
        &self,
        timestamp: u64,
        lookup: &mut dyn FnMut(Slot) -> Result<B256, E>,
    ) -> Result<(), ExpandError<E>> {
        match self {
            Self::Target(target) => expand_target(target, timestamp, lookup).map(drop),
            Self::Open { target, caller, service } => {
                expand_open(target, *caller, *service, timestamp, lookup)
            }
            Self::Reverse(address) => one(Slot::Reverse(*address), lookup),
            Self::Key(key) => one(Slot::KeyOf(*key), lookup),
            Self::Fleet(fleet) => one(Slot::Fleet(*fleet), lookup),
            Self::Grant(id) => one(Slot::Grant(*id), lookup),
            Self::Node(address) => one(Slot::Node(*address), lookup),
            Self::Committee(epoch) => one(Slot::Committee(*epoch), lookup),
            Self::Slot(slot) => one(*slot, lookup),
            Self::Spec(_) => Ok(()),
        }
    }
}

type Lookup<'a, E> = &'a mut dyn FnMut(Slot) -> Result<B256, E>;

fn one<E>(slot: Slot, lookup: Lookup<'_, E>) -> Result<(), ExpandError<E>> {
    lookup(slot).map(drop).map_err(ExpandError::Lookup)
}

/// Proves the name, if it is one, and the device: its id and record where there is one.
fn expand_target<E>(
    target: &Target,
    timestamp: u64,
    lookup: Lookup<'_, E>,
) -> Result<Option<(DeviceId, DeviceRecord)>, ExpandError<E>> {
    let id = match target {
        Target::Device(id) => *id,
        Target::Name(name) => {
            let value = lookup(Slot::Name(name.label_hash())).map_err(ExpandError::Lookup)?;
            match name_target(NameRecord::decode(&value)?, timestamp, None) {
                Ok(id) => id,
                Err(_) => return Ok(None),
            }
        }
    };
    let value = lookup(Slot::Device(id)).map_err(ExpandError::Lookup)?;
    Ok(DeviceRecord::decode(&value)?.map(|record| (id, record)))
}

fn expand_open<E>(
    target: &Target,
    caller: DeviceId,
    service: Service,
    timestamp: u64,
    lookup: Lookup<'_, E>,
) -> Result<(), ExpandError<E>> {
    let target = expand_target(target, timestamp, lookup)?;
    let value = lookup(Slot::Device(caller)).map_err(ExpandError::Lookup)?;
    let caller_record = DeviceRecord::decode(&value)?;
    if caller_record.is_none() {
        // The proof that the caller is nobody: it may still open a public service.
        one(Slot::KeyOf(KeyAddress(caller.0)), lookup)?;
    }
    let (Some((target, target_record)), Some(caller_record)) = (target, caller_record) else {
        return Ok(());
    };
    let value = lookup(Slot::Fleet(target_record.fleet)).map_err(ExpandError::Lookup)?;
    let Some(fleet) = FleetRecord::decode(&value)? else {
        return Ok(());
    };
    for id in candidates(target, target_record.fleet, caller, caller_record.fleet, service) {
        let value = lookup(Slot::Grant(id)).map_err(ExpandError::Lookup)?;
        let grant = GrantRecord::decode(&value)?;
        // By the time the answer is read a grant that ends soon may have ended: then a wider one counts.
        let by_then = Some(timestamp.saturating_add(ENDS_SOON));
        if grant.is_some_and(|grant| grant_valid(&grant, target_record.fleet, &fleet, timestamp, by_then)) {
            break;
        }
    }
    Ok(())
}

/// A grant is valid iff unexpired, with the right to open, of this fleet and of its current policy epoch.
pub fn grant_valid(
    grant: &GrantRecord,
    fleet: u64,
    record: &FleetRecord,
    timestamp: u64,
    now: Option<u64>,
) -> bool {
    grant.rights & RIGHT_OPEN != 0
        && grant.fleet == fleet
        && grant.policy_epoch == record.policy_epoch
        && !expired(grant.expiry, timestamp, now)
}

/// Why a name leads to no device. Each is a proven *no*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameDenial {
    /// Nobody registered it.
    #[error("no such name")]
    Unknown,
    /// Past its expiry; in grace its owner can still renew it.
    #[error("the name has expired")]
    Expired,
    /// It points at nothing, or at something that is not a device.
    #[error("the name points at no device")]
    NoDevice,
}

/// The device a name's record points at.
pub fn name_target(
    record: Option<NameRecord>,
    timestamp: u64,
    now: Option<u64>,
) -> Result<DeviceId, NameDenial> {
    let record = record.ok_or(NameDenial::Unknown)?;
    if expired(record.expiry, timestamp, now) {
        return Err(NameDenial::Expired);
    }
    match record.kind {
        Some(NameKind::Device) => Ok(DeviceId(record.target)),
        _ => Err(NameDenial::NoDevice),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::{DeviceStatus, NEVER};
    use alloc::vec::Vec;
    use core::convert::Infallible;

    const NOW: u64 = 1_000_000;
    const TARGET: DeviceId = DeviceId(Address::repeat_byte(1));
    const CALLER: DeviceId = DeviceId(Address::repeat_byte(2));
    const SERVICE: Service = Service::Stream(80);

    /// How many grants are asked for when the first candidate is a grant with this expiry.
    fn grants_asked(expiry: u64) -> usize {
        let first = candidates(TARGET, 7, CALLER, 7, SERVICE).next().unwrap();
        let mut asked = Vec::new();
        let mut lookup = |slot| {
            asked.push(slot);
            Ok::<_, Infallible>(match slot {
                Slot::Device(id) => {
                    let (key, status) = (KeyAddress(id.0), DeviceStatus::Active);
                    DeviceRecord { key, fleet: 7, valid_until: NEVER, status }.encode()
                }
                Slot::Fleet(_) => {
                    FleetRecord { operator: TARGET.0, policy_epoch: 1, nonce: 0, flags: 0 }.encode()
                }
                Slot::Grant(id) if id == first => {
                    GrantRecord { expiry, policy_epoch: 1, fleet: 7, rights: RIGHT_OPEN }.encode()
                }
                _ => B256::ZERO,
            })
        };
        let question = Question::Open { target: Target::Device(TARGET), caller: CALLER, service: SERVICE };
        question.expand(NOW, &mut lookup).unwrap();
        asked.iter().filter(|slot| matches!(slot, Slot::Grant(_))).count()
    }

    #[test]
    fn a_grant_that_ends_soon_does_not_hide_a_wider_one() {
        assert_eq!(grants_asked(NEVER), 1);
        assert_eq!(grants_asked(NOW + ENDS_SOON + 1), 1);
        for ends_soon in [NOW + 1, NOW + ENDS_SOON] {
            assert_eq!(grants_asked(ends_soon), 12, "a grant until {ends_soon}");
        }
    }
}
