//! What a device's key signs for the Registry: consent to enrolment, to a rotation, and its own
//! revocation. EIP-712 in the domain {"Registry", "1", chain id, registry}.

use crate::address::{DeviceId, KeyAddress};
use crate::spec::ChainSpec;
use alloy_primitives::{Address, B256, U256, Uint};
use alloy_sol_types::{Eip712Domain, SolStruct};

mod eip712 {
    #![allow(missing_docs)]
    alloy_sol_types::sol! {
        struct Enrol { address device; uint48 fleet; address operator; uint40 validUntil; uint40 deadline; }
        struct Rotate { address device; address oldKey; address newKey; uint40 deadline; }
        struct RevokeOwn { address device; uint40 deadline; }
    }
}

/// The statement a device consents to when it joins a fleet. Signed by the device's key, and by the
/// operator when a third party pays for the transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Enrol {
    /// The device.
    pub device: DeviceId,
    /// The fleet's number.
    pub fleet: u64,
    /// The fleet's operator at the time of signing.
    pub operator: Address,
    /// Unix seconds; 2^40 − 1 is no expiry.
    pub valid_until: u64,
    /// Unix seconds until which the consent may be used.
    pub deadline: u64,
}

/// The statement both keys sign when a device changes its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotate {
    /// The device.
    pub device: DeviceId,
    /// Its key until now.
    pub old_key: KeyAddress,
    /// Its key from then on.
    pub new_key: KeyAddress,
    /// Unix seconds until which the statement may be used.
    pub deadline: u64,
}

/// The statement of a device that revokes itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RevokeOwn {
    /// The device.
    pub device: DeviceId,
    /// Unix seconds until which the statement may be used.
    pub deadline: u64,
}

impl Enrol {
    /// The digest to sign.
    pub fn digest(&self, spec: &ChainSpec) -> B256 {
        let statement = eip712::Enrol {
            device: self.device.0,
            fleet: Uint::from(self.fleet),
            operator: self.operator,
            validUntil: Uint::from(self.valid_until),
            deadline: Uint::from(self.deadline),
        };
        statement.eip712_signing_hash(&domain(spec))
    }
}

impl Rotate {
    /// The digest to sign.
    pub fn digest(&self, spec: &ChainSpec) -> B256 {
        let statement = eip712::Rotate {
            device: self.device.0,
            oldKey: self.old_key.0,
            newKey: self.new_key.0,
            deadline: Uint::from(self.deadline),
        };
        statement.eip712_signing_hash(&domain(spec))
    }
}

impl RevokeOwn {
    /// The digest to sign.
    pub fn digest(&self, spec: &ChainSpec) -> B256 {
        let statement = eip712::RevokeOwn { device: self.device.0, deadline: Uint::from(self.deadline) };
        statement.eip712_signing_hash(&domain(spec))
    }
}

fn domain(spec: &ChainSpec) -> Eip712Domain {
    Eip712Domain::new(
        Some("Registry".into()),
        Some("1".into()),
        Some(U256::from(spec.chain_id)),
        Some(spec.contracts.registry.address),
        None,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::spec::tests::{example, key};

    #[test]
    fn consent_binds_every_field_and_the_deployment() {
        let spec = example();
        let consent = Enrol {
            device: key(1).address().as_first_key(),
            fleet: 1,
            operator: Address::repeat_byte(1),
            valid_until: 2,
            deadline: 3,
        };
        let signature = key(1).sign(&consent.digest(&spec));
        assert_eq!(signature.recover(&consent.digest(&spec)).unwrap().address(), key(1).address());
        let mut elsewhere = example();
        elsewhere.contracts.registry.address = Address::repeat_byte(7);
        let mut other_chain = example();
        other_chain.chain_id += 1;
        let digests = [
            consent.digest(&spec),
            Enrol { fleet: 2, ..consent }.digest(&spec),
            Enrol { operator: Address::ZERO, ..consent }.digest(&spec),
            Enrol { valid_until: 9, ..consent }.digest(&spec),
            Enrol { deadline: 9, ..consent }.digest(&spec),
            consent.digest(&elsewhere),
            consent.digest(&other_chain),
        ];
        let distinct: alloc::collections::BTreeSet<_> = digests.iter().collect();
        assert_eq!(distinct.len(), digests.len());
    }
}
