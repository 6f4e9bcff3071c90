//! Where each fact lives in the Registry's storage: the slot a device derives itself and asks a proof of.

use crate::address::{DeviceId, KeyAddress};
use alloy_primitives::{Address, B256, keccak256};

/// A question of one storage slot of the Registry: a mapping's kind and the key in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Slot {
    /// Kind 0: the device's record.
    Device(DeviceId),
    /// Kind 1: which device took this key by rotation.
    KeyOf(KeyAddress),
    /// Kind 2: the fleet's record.
    Fleet(u64),
    /// Kind 3: who was offered the fleet.
    PendingOperator(u64),
    /// Kind 4: the grant with this id (`grant::grant_id`).
    Grant(B256),
    /// Kind 5: the name with this label hash.
    Name(B256),
    /// Kind 6: who owns the name.
    NameOwner(B256),
    /// Kind 7: the hash of the name's record set.
    NameRecords(B256),
    /// Kind 8: the label hash an address gives as its name.
    Reverse(Address),
    /// Kind 9: the node's stake.
    Node(Address),
    /// Kind 10: who owns the node.
    NodeOwner(Address),
    /// Kind 11: the hash of the committee of an epoch.
    Committee(u32),
    /// Slot 12: how many fleets there are.
    FleetCount,
}

impl Slot {
    /// The mapping's number in the storage layout.
    pub fn kind(self) -> u8 {
        match self {
            Self::Device(_) => 0,
            Self::KeyOf(_) => 1,
            Self::Fleet(_) => 2,
            Self::PendingOperator(_) => 3,
            Self::Grant(_) => 4,
            Self::Name(_) => 5,
            Self::NameOwner(_) => 6,
            Self::NameRecords(_) => 7,
            Self::Reverse(_) => 8,
            Self::Node(_) => 9,
            Self::NodeOwner(_) => 10,
            Self::Committee(_) => 11,
            Self::FleetCount => 12,
        }
    }

    /// The key in the mapping, padded to 32 bytes as Solidity does; zero for `FleetCount`.
    pub fn mapping_key(self) -> B256 {
        match self {
            Self::Device(DeviceId(address)) | Self::KeyOf(KeyAddress(address)) => address.into_word(),
            Self::Reverse(address) | Self::Node(address) | Self::NodeOwner(address) => address.into_word(),
            Self::Fleet(number) | Self::PendingOperator(number) => number_word(number),
            Self::Committee(epoch) => number_word(u64::from(epoch)),
            Self::Grant(hash) | Self::Name(hash) | Self::NameOwner(hash) | Self::NameRecords(hash) => hash,
            Self::FleetCount => B256::ZERO,
        }
    }

    /// The storage key: keccak256(mapping key ‖ mapping slot), or the slot itself for `FleetCount`.
    pub fn storage_key(self) -> B256 {
        let kind = number_word(u64::from(self.kind()));
        if self == Self::FleetCount {
            return kind;
        }
        let mut preimage = [0; 64];
        preimage[..32].copy_from_slice(self.mapping_key().as_slice());
        preimage[32..].copy_from_slice(kind.as_slice());
        keccak256(preimage)
    }

    /// The key of the slot in the storage trie: keccak256 of the storage key.
    pub fn trie_key(self) -> B256 {
        keccak256(self.storage_key())
    }

    /// The slot of a mapping kind and key, as a registry's `get(kind, key)` takes them.
    pub fn from_parts(kind: u8, key: B256) -> Option<Self> {
        let address = || Address::from_slice(&key[12..]);
        let number =
            || u64::from_be_bytes([key[24], key[25], key[26], key[27], key[28], key[29], key[30], key[31]]);
        let slot = match kind {
            0 => Self::Device(DeviceId(address())),
            1 => Self::KeyOf(KeyAddress(address())),
            2 => Self::Fleet(number()),
            3 => Self::PendingOperator(number()),
            4 => Self::Grant(key),
            5 => Self::Name(key),
            6 => Self::NameOwner(key),
            7 => Self::NameRecords(key),
            8 => Self::Reverse(address()),
            9 => Self::Node(address()),
            10 => Self::NodeOwner(address()),
            11 => Self::Committee(u32::try_from(number()).ok()?),
            12 => Self::FleetCount,
            _ => return None,
        };
        // A key with bits where the padding belongs names no slot.
        (slot.mapping_key() == key).then_some(slot)
    }
}

fn number_word(number: u64) -> B256 {
    let mut word = B256::ZERO;
    word[24..].copy_from_slice(&number.to_be_bytes());
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{address, b256};

    #[test]
    fn storage_key_matches_solidity() {
        // keccak256(abi.encode(uint256(1), uint256(2))), computed with an independent tool.
        assert_eq!(
            Slot::Fleet(1).storage_key(),
            b256!("e90b7bceb6e7df5418fb78d8ee546e97c83a08bbccc01a0644d599ccd2a7c2e0")
        );
        assert_eq!(Slot::FleetCount.storage_key(), number_word(12));
    }

    #[test]
    fn parts_round_trip_and_dirty_padding_is_no_slot() {
        let who = address!("5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed");
        let hash = B256::repeat_byte(7);
        let slots = [
            Slot::Device(DeviceId(who)),
            Slot::KeyOf(KeyAddress(who)),
            Slot::Fleet(5),
            Slot::PendingOperator(5),
            Slot::Grant(hash),
            Slot::Name(hash),
            Slot::NameOwner(hash),
            Slot::NameRecords(hash),
            Slot::Reverse(who),
            Slot::Node(who),
            Slot::NodeOwner(who),
            Slot::Committee(9),
            Slot::FleetCount,
        ];
        for slot in slots {
            assert_eq!(Slot::from_parts(slot.kind(), slot.mapping_key()), Some(slot));
        }
        let mut dirty = who.into_word();
        dirty[0] = 1;
        assert_eq!(Slot::from_parts(0, dirty), None);
        assert_eq!(Slot::from_parts(13, B256::ZERO), None);
    }
}
