//! What the 32 bytes of a registry slot mean, typed. Fields are packed low bits first, as the Solidity
//! compiler does; a value with bits outside its fields is refused, never masked.

use crate::address::{DeviceId, KeyAddress};
use alloy_primitives::{Address, B256, U256};

/// 2^40 − 1: no expiry.
pub const NEVER: u64 = (1 << 40) - 1;

/// A slot value that no contract of this layout writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {record} slot holds a value outside its layout")]
pub struct RecordError {
    record: &'static str,
}

/// Takes fields off the low end of a word, and at the end refuses what is left.
struct Fields {
    word: U256,
    record: &'static str,
}

impl Fields {
    fn new(value: &B256, record: &'static str) -> Self {
        Self { word: U256::from_be_bytes(value.0), record }
    }

    fn number(&mut self, bits: usize) -> u64 {
        debug_assert!(bits <= 48);
        let field = self.word & U256::from((1u64 << bits) - 1);
        self.word >>= bits;
        field.to::<u64>()
    }

    fn address(&mut self) -> Address {
        let bytes: [u8; 32] = self.word.to_be_bytes();
        self.word >>= 160;
        Address::from_slice(&bytes[12..])
    }

    fn wide(&mut self) -> u128 {
        let field = self.word & U256::from((1u128 << 96) - 1);
        self.word >>= 96;
        field.to::<u128>()
    }

    fn end(self) -> Result<(), RecordError> {
        if self.word.is_zero() { Ok(()) } else { Err(RecordError { record: self.record }) }
    }

    fn invalid(&self) -> RecordError {
        RecordError { record: self.record }
    }
}

/// Packs fields low bits first: `[(value, bits), …]`.
fn pack(fields: &[(U256, usize)]) -> B256 {
    let mut word = U256::ZERO;
    let mut shift = 0;
    for (value, bits) in fields {
        debug_assert!(value.bit_len() <= *bits);
        word |= *value << shift;
        shift += bits;
    }
    B256::from(word.to_be_bytes::<32>())
}

fn word(address: Address) -> U256 {
    U256::from_be_bytes(address.into_word().0)
}

fn narrow(number: u64) -> U256 {
    U256::from(number)
}

/// Where a device stands. An absent record (all zero) is `None` of an `Option<DeviceRecord>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceStatus {
    /// In use until `valid_until`.
    Active,
    /// Denied until resumed.
    Suspended,
    /// A tombstone, for ever.
    Revoked,
    /// Suspended now, revoked from `valid_until` on (fleets with slow revocation).
    Revoking,
}

/// Kind 0: key(160) | fleet(48) | validUntil(40) | status(8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceRecord {
    /// The address of the key the device uses now.
    pub key: KeyAddress,
    /// The fleet's number, from 1.
    pub fleet: u64,
    /// Unix seconds; [`NEVER`] is no expiry. Of a revoked device, when the revocation took effect.
    pub valid_until: u64,
    /// Where the device stands.
    pub status: DeviceStatus,
}

impl DeviceRecord {
    /// Reads a slot value; zero is `None`.
    pub fn decode(value: &B256) -> Result<Option<Self>, RecordError> {
        if value.is_zero() {
            return Ok(None);
        }
        let mut fields = Fields::new(value, "device");
        let (key, fleet, valid_until) = (KeyAddress(fields.address()), fields.number(48), fields.number(40));
        let status = match fields.number(8) {
            1 => DeviceStatus::Active,
            2 => DeviceStatus::Suspended,
            3 => DeviceStatus::Revoked,
            4 => DeviceStatus::Revoking,
            _ => return Err(fields.invalid()),
        };
        fields.end()?;
        Ok(Some(Self { key, fleet, valid_until, status }))
    }

    /// The slot value.
    pub fn encode(&self) -> B256 {
        let status = match self.status {
            DeviceStatus::Active => 1,
            DeviceStatus::Suspended => 2,
            DeviceStatus::Revoked => 3,
            DeviceStatus::Revoking => 4,
        };
        pack(&[
            (word(self.key.0), 160),
            (narrow(self.fleet), 48),
            (narrow(self.valid_until), 40),
            (narrow(status), 8),
        ])
    }
}

/// Kind 1: device(160) | since(40), written by rotation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyRecord {
    /// The device that took the key.
    pub device: DeviceId,
    /// Unix seconds of the rotation.
    pub since: u64,
}

impl KeyRecord {
    /// Reads a slot value; zero is `None`.
    pub fn decode(value: &B256) -> Result<Option<Self>, RecordError> {
        if value.is_zero() {
            return Ok(None);
        }
        let mut fields = Fields::new(value, "key");
        let record = Self { device: DeviceId(fields.address()), since: fields.number(40) };
        fields.end()?;
        Ok(Some(record))
    }

    /// The slot value.
    pub fn encode(&self) -> B256 {
        pack(&[(word(self.device.0), 160), (narrow(self.since), 40)])
    }
}

/// Kind 2: operator(160) | policyEpoch(40) | nonce(40) | flags(16).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FleetRecord {
    /// Who controls the fleet: an account or a contract.
    pub operator: Address,
    /// Grants of another epoch are void. From 1.
    pub policy_epoch: u64,
    /// The next nonce of a signed call.
    pub nonce: u64,
    /// Bit 0: slow revocation. Fixed at creation.
    pub flags: u16,
}

impl FleetRecord {
    /// Reads a slot value; zero is `None`.
    pub fn decode(value: &B256) -> Result<Option<Self>, RecordError> {
        if value.is_zero() {
            return Ok(None);
        }
        let mut fields = Fields::new(value, "fleet");
        let record = Self {
            operator: fields.address(),
            policy_epoch: fields.number(40),
            nonce: fields.number(40),
            flags: fields.number(16) as u16,
        };
        fields.end()?;
        Ok(Some(record))
    }

    /// The slot value.
    pub fn encode(&self) -> B256 {
        pack(&[
            (word(self.operator), 160),
            (narrow(self.policy_epoch), 40),
            (narrow(self.nonce), 40),
            (narrow(u64::from(self.flags)), 16),
        ])
    }
}

/// Bit 0 of a grant's rights: the grantee may open the service.
pub const RIGHT_OPEN: u8 = 1;

/// Kind 4: expiry(40) | policyEpoch(40) | fleet(48) | rights(8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrantRecord {
    /// Unix seconds; [`NEVER`] is no expiry.
    pub expiry: u64,
    /// The fleet's policy epoch when it was granted.
    pub policy_epoch: u64,
    /// The fleet whose operator granted.
    pub fleet: u64,
    /// Bit 0: open.
    pub rights: u8,
}

impl GrantRecord {
    /// Reads a slot value; zero is `None`.
    pub fn decode(value: &B256) -> Result<Option<Self>, RecordError> {
        if value.is_zero() {
            return Ok(None);
        }
        let mut fields = Fields::new(value, "grant");
        let record = Self {
            expiry: fields.number(40),
            policy_epoch: fields.number(40),
            fleet: fields.number(48),
            rights: fields.number(8) as u8,
        };
        fields.end()?;
        Ok(Some(record))
    }

    /// The slot value.
    pub fn encode(&self) -> B256 {
        pack(&[
            (narrow(self.expiry), 40),
            (narrow(self.policy_epoch), 40),
            (narrow(self.fleet), 48),
            (narrow(u64::from(self.rights)), 8),
        ])
    }
}

/// What a name points at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameKind {
    /// A device id.
    Device,
    /// A node's address.
    Node,
    /// Any other account.
    Account,
}

/// Kind 5: target(160) | expiry(40) | kind(8) | version(48).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameRecord {
    /// What the name points at; zero after a transfer, until the new owner sets it.
    pub target: Address,
    /// Unix seconds.
    pub expiry: u64,
    /// What kind of thing the target is; `None` while the target is cleared.
    pub kind: Option<NameKind>,
    /// Raised by each transfer and re-registration.
    pub version: u64,
}

impl NameRecord {
    /// Reads a slot value; zero is `None`.
    pub fn decode(value: &B256) -> Result<Option<Self>, RecordError> {
        if value.is_zero() {
            return Ok(None);
        }
        let mut fields = Fields::new(value, "name");
        let (target, expiry) = (fields.address(), fields.number(40));
        let kind = match fields.number(8) {
            0 => None,
            1 => Some(NameKind::Device),
            2 => Some(NameKind::Node),
            3 => Some(NameKind::Account),
            _ => return Err(fields.invalid()),
        };
        let version = fields.number(48);
        fields.end()?;
        Ok(Some(Self { target, expiry, kind, version }))
    }

    /// The slot value.
    pub fn encode(&self) -> B256 {
        let kind = match self.kind {
            None => 0,
            Some(NameKind::Device) => 1,
            Some(NameKind::Node) => 2,
            Some(NameKind::Account) => 3,
        };
        pack(&[
            (word(self.target), 160),
            (narrow(self.expiry), 40),
            (narrow(kind), 8),
            (narrow(self.version), 48),
        ])
    }
}

/// Kind 9: stake(96) | since(40) | unbondAt(40) | flags(16).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeRecord {
    /// The stake in wei.
    pub stake: u128,
    /// Unix seconds of the registration.
    pub since: u64,
    /// Unix seconds when the stake may leave; 0 while bonded.
    pub unbond_at: u64,
    /// Bit 0: slashed, for ever.
    pub flags: u16,
}

impl NodeRecord {
    /// Reads a slot value; zero is `None`.
    pub fn decode(value: &B256) -> Result<Option<Self>, RecordError> {
        if value.is_zero() {
            return Ok(None);
        }
        let mut fields = Fields::new(value, "node");
        let record = Self {
            stake: fields.wide(),
            since: fields.number(40),
            unbond_at: fields.number(40),
            flags: fields.number(16) as u16,
        };
        fields.end()?;
        Ok(Some(record))
    }

    /// The slot value.
    pub fn encode(&self) -> B256 {
        pack(&[
            (U256::from(self.stake), 96),
            (narrow(self.since), 40),
            (narrow(self.unbond_at), 40),
            (narrow(u64::from(self.flags)), 16),
        ])
    }
}

/// The one rule of expiry: passed when max(header timestamp, now) ≥ t. Without a clock `now` is `None`.
pub fn expired(t: u64, header_timestamp: u64, now: Option<u64>) -> bool {
    t != NEVER && header_timestamp.max(now.unwrap_or(0)) >= t
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloy_primitives::{address, b256};

    #[test]
    fn device_layout_is_low_bits_first() {
        let record = DeviceRecord {
            key: KeyAddress(address!("00112233445566778899aabbccddeeff00112233")),
            fleet: 7,
            valid_until: NEVER,
            status: DeviceStatus::Active,
        };
        let value = b256!("01ffffffffff00000000000700112233445566778899aabbccddeeff00112233");
        assert_eq!(record.encode(), value);
        assert_eq!(DeviceRecord::decode(&value), Ok(Some(record)));
        assert_eq!(DeviceRecord::decode(&B256::ZERO), Ok(None));
    }

    #[test]
    fn grant_layout_is_low_bits_first() {
        let record = GrantRecord { expiry: 0x11, policy_epoch: 0x22, fleet: 0x33, rights: RIGHT_OPEN };
        let value = b256!("0000000000000000000000000000000100000000003300000000220000000011");
        assert_eq!(record.encode(), value);
        assert_eq!(GrantRecord::decode(&value), Ok(Some(record)));
    }

    #[test]
    fn every_record_round_trips() {
        let who = Address::repeat_byte(0xab);
        let key = KeyRecord { device: DeviceId(who), since: 3 };
        assert_eq!(KeyRecord::decode(&key.encode()), Ok(Some(key)));
        let fleet = FleetRecord { operator: who, policy_epoch: 1, nonce: 2, flags: 1 };
        assert_eq!(FleetRecord::decode(&fleet.encode()), Ok(Some(fleet)));
        let name = NameRecord { target: who, expiry: 9, kind: Some(NameKind::Device), version: 4 };
        assert_eq!(NameRecord::decode(&name.encode()), Ok(Some(name)));
        let node = NodeRecord { stake: (1 << 96) - 1, since: 1, unbond_at: 2, flags: 1 };
        assert_eq!(NodeRecord::decode(&node.encode()), Ok(Some(node)));
    }

    #[test]
    fn bits_outside_the_layout_are_refused() {
        let mut value = GrantRecord { expiry: 1, policy_epoch: 1, fleet: 1, rights: 1 }.encode();
        value[0] = 1;
        assert!(GrantRecord::decode(&value).is_err());
        let mut device = B256::ZERO;
        device[0] = 5;
        assert!(DeviceRecord::decode(&device).is_err());
    }

    #[test]
    fn expiry_takes_the_later_of_header_and_clock() {
        assert!(!expired(100, 99, Some(99)));
        assert!(expired(100, 100, Some(0)));
        assert!(expired(100, 0, Some(100)));
        assert!(expired(100, 100, None) && !expired(100, 99, None));
        assert!(!expired(NEVER, u64::MAX, Some(u64::MAX)));
    }
}
