//! The ids of grants. Parties never appear on chain: a grant's slot is derived from hashes that both
//! ends compute themselves.

use crate::address::DeviceId;
use crate::service::{ALL_SERVICES, Service};
use alloy_primitives::{B256, U256, keccak256};

/// What is granted access to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GrantTarget {
    /// One device.
    Device(DeviceId),
    /// Every device of a fleet.
    Fleet(u64),
}

/// Who is granted access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grantee {
    /// One device.
    Device(DeviceId),
    /// Every active device of a fleet.
    Fleet(u64),
    /// Any enrolled, active device.
    Anyone,
}

/// Which services a grant opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GrantService {
    /// One service.
    One(Service),
    /// All of them.
    All,
}

/// `h = keccak256(abi.encode(uint8 targetKind, uint256 target, uint8 granteeKind, uint256 grantee, uint32 service))`.
pub fn parties_hash(target: GrantTarget, grantee: Grantee, service: GrantService) -> B256 {
    let (target_kind, target) = match target {
        GrantTarget::Device(DeviceId(address)) => (1u8, U256::from_be_bytes(address.into_word().0)),
        GrantTarget::Fleet(fleet) => (2, U256::from(fleet)),
    };
    let (grantee_kind, grantee) = match grantee {
        Grantee::Device(DeviceId(address)) => (1u8, U256::from_be_bytes(address.into_word().0)),
        Grantee::Fleet(fleet) => (2, U256::from(fleet)),
        Grantee::Anyone => (3, U256::ZERO),
    };
    let service = match service {
        GrantService::One(service) => service.number(),
        GrantService::All => ALL_SERVICES,
    };
    let words = [U256::from(target_kind), target, U256::from(grantee_kind), grantee, U256::from(service)];
    keccak_words(&words)
}

/// `g = keccak256(abi.encode(uint48 fleet, bytes32 h))`: the key of the grant's slot. The verifier takes
/// the fleet from the proven record of the target, so no other fleet's operator can write it.
pub fn grant_id(fleet: u64, parties: B256) -> B256 {
    keccak_words(&[U256::from(fleet), U256::from_be_bytes(parties.0)])
}

/// The twelve grants that could let `caller` open `service` on `target`, in the order they are tried:
/// target (device, fleet) × grantee (device, fleet, anyone) × (the service, all services).
pub fn candidates(
    target: DeviceId,
    target_fleet: u64,
    caller: DeviceId,
    caller_fleet: u64,
    service: Service,
) -> impl Iterator<Item = B256> {
    let targets = [GrantTarget::Device(target), GrantTarget::Fleet(target_fleet)];
    let grantees = [Grantee::Device(caller), Grantee::Fleet(caller_fleet), Grantee::Anyone];
    let services = [GrantService::One(service), GrantService::All];
    targets.into_iter().flat_map(move |target| {
        grantees.into_iter().flat_map(move |grantee| {
            services
                .into_iter()
                .map(move |service| grant_id(target_fleet, parties_hash(target, grantee, service)))
        })
    })
}

fn keccak_words(words: &[U256]) -> B256 {
    let mut bytes = [0u8; 5 * 32];
    for (chunk, word) in bytes.chunks_exact_mut(32).zip(words) {
        chunk.copy_from_slice(&word.to_be_bytes::<32>());
    }
    keccak256(&bytes[..words.len() * 32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloy_primitives::Address;

    #[test]
    fn twelve_distinct_candidates_the_narrowest_first() {
        let (target, caller) = (DeviceId(Address::repeat_byte(1)), DeviceId(Address::repeat_byte(2)));
        let service = Service::Stream(80);
        let ids: alloc::vec::Vec<_> = candidates(target, 5, caller, 6, service).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 12);
        let narrowest =
            parties_hash(GrantTarget::Device(target), Grantee::Device(caller), GrantService::One(service));
        assert_eq!(ids[0], grant_id(5, narrowest));
        let widest = parties_hash(GrantTarget::Fleet(5), Grantee::Anyone, GrantService::All);
        assert_eq!(ids[11], grant_id(5, widest));
    }

    #[test]
    fn the_service_number_is_part_of_the_hash() {
        let (target, caller) = (DeviceId(Address::repeat_byte(1)), DeviceId(Address::repeat_byte(2)));
        let hash = |service| {
            parties_hash(GrantTarget::Device(target), Grantee::Device(caller), GrantService::One(service))
        };
        assert_ne!(hash(Service::Stream(80)), hash(Service::Datagram(80)));
    }
}
