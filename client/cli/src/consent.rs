//! A device's consent to its enrolment, as it travels from the device to the fleet's operator: one line of
//! hexadecimal digits.
//!
//! Layout, 96 bytes: version 1 (1) | device id (20) | validUntil (5) | deadline (5) | signature r ‖ s ‖ v (65), numbers
//! big endian. Fleet and operator aren't carried: the operator states them, and the signature is over them.

use windlass_protocol::alloy_primitives::hex;
use windlass_protocol::consent::Enrol;
use windlass_protocol::record::NEVER;
use windlass_protocol::spec::ChainSpec;
use windlass_protocol::{Address, DeviceId, SecretKey, Signature};

const VERSION: u8 = 1;
const BYTES: usize = 96;

/// A device's signed consent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Consent {
    /// The device.
    pub device: DeviceId,
    /// Unix seconds until which it will be enrolled; 2^40 − 1 is no expiry.
    pub valid_until: u64,
    /// Unix seconds until which the consent may be used.
    pub deadline: u64,
    /// Over [`Enrol`], by the device's key.
    pub signature: Signature,
}

/// Why a text is no consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConsentError {
    /// Not the 96 bytes of version 1.
    #[error("not a consent: expected the line of {} hexadecimal digits that `device consent` prints", BYTES * 2)]
    Malformed,
    /// The signature can't be by anyone.
    #[error("not a consent: its signature is malformed")]
    Signature,
    /// Signed for another chain, fleet or operator, or by another key.
    #[error("the consent of {0} is not for this chain, fleet and operator: make it again with these")]
    Other(DeviceId),
}

impl Consent {
    /// Signs the consent of `key`'s device to be enrolled in `fleet` by `operator`.
    pub fn sign(
        spec: &ChainSpec,
        key: &SecretKey,
        fleet: u64,
        operator: Address,
        valid_until: u64,
        deadline: u64,
    ) -> Self {
        let device = key.address().as_first_key();
        let (valid_until, deadline) = (valid_until.min(NEVER), deadline.min(NEVER));
        let statement = Enrol { device, fleet, operator, valid_until, deadline };
        Self { device, valid_until, deadline, signature: key.sign(&statement.digest(spec)) }
    }

    /// Checks that the device signed it for this chain, fleet and operator, as the contract will.
    ///
    /// # Errors
    /// [`ConsentError::Other`].
    pub fn check(&self, spec: &ChainSpec, fleet: u64, operator: Address) -> Result<(), ConsentError> {
        let statement = Enrol {
            device: self.device,
            fleet,
            operator,
            valid_until: self.valid_until,
            deadline: self.deadline,
        };
        match self.signature.recover(&statement.digest(spec)) {
            Ok(key) if key.address().0 == self.device.0 => Ok(()),
            _ => Err(ConsentError::Other(self.device)),
        }
    }

    /// The line to carry.
    pub fn to_hex(&self) -> String {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(self.device.0.as_slice());
        bytes.extend_from_slice(&self.valid_until.to_be_bytes()[3..]);
        bytes.extend_from_slice(&self.deadline.to_be_bytes()[3..]);
        bytes.extend_from_slice(self.signature.as_bytes());
        hex::encode(bytes)
    }
}

impl std::str::FromStr for Consent {
    type Err = ConsentError;

    fn from_str(text: &str) -> Result<Self, ConsentError> {
        let bytes: [u8; BYTES] = hex::decode_to_array(text.trim()).map_err(|_| ConsentError::Malformed)?;
        if bytes[0] != VERSION {
            return Err(ConsentError::Malformed);
        }
        let number = |at: usize| bytes[at..at + 5].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Ok(Self {
            device: DeviceId(Address::from_slice(&bytes[1..21])),
            valid_until: number(21),
            deadline: number(26),
            signature: Signature::from_bytes(&bytes[31..]).map_err(|_| ConsentError::Signature)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::deploy::tests::example_spec;

    fn example() -> (ChainSpec, Consent) {
        let (spec, key) = (example_spec(), SecretKey::from_bytes(&[7; 32]).unwrap());
        let consent = Consent::sign(&spec, &key, 5, Address::repeat_byte(1), NEVER, 1_800_000_000);
        (spec, consent)
    }

    #[test]
    fn it_travels_as_one_line() {
        let (_, consent) = example();
        let line = consent.to_hex();
        assert_eq!(line.len(), 192);
        assert!(line.starts_with("01") && !line.contains(char::is_whitespace));
        assert_eq!(line.parse(), Ok(consent));
        assert_eq!(format!("0x{line}\n").parse(), Ok(consent));
    }

    #[test]
    fn it_counts_for_its_fleet_operator_and_chain_only() {
        let (spec, consent) = example();
        assert_eq!(consent.check(&spec, 5, Address::repeat_byte(1)), Ok(()));
        assert!(consent.check(&spec, 6, Address::repeat_byte(1)).is_err());
        assert!(consent.check(&spec, 5, Address::repeat_byte(2)).is_err());
        assert!(
            consent.check(&ChainSpec { chain_id: 1, ..spec.clone() }, 5, Address::repeat_byte(1)).is_err()
        );
        let later = Consent { valid_until: 1, ..consent };
        assert_eq!(later.check(&spec, 5, Address::repeat_byte(1)), Err(ConsentError::Other(consent.device)));
    }

    #[test]
    fn other_texts_are_refused() {
        let (_, consent) = example();
        let line = consent.to_hex();
        for text in [
            "",
            "0x",
            &line[2..],
            &format!("02{}", &line[2..]),
            &format!("{line}00"),
            &line.replace('0', "g"),
        ] {
            assert_eq!(text.parse::<Consent>(), Err(ConsentError::Malformed), "{text}");
        }
        // v = 2.
        let bad = format!("{}02", &line[..190]);
        assert_eq!(bad.parse::<Consent>(), Err(ConsentError::Signature));
    }
}
