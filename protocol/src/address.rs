//! Addresses as people write them, and the two things an address can mean for a device.
//!
//! This module never decides who a caller is: a [`KeyAddress`] is evidence only once a handshake or
//! a signature produced it.

use alloc::string::ToString;
use alloy_primitives::Address;
use core::fmt;
use core::str::FromStr;

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `0x` followed by 40 hexadecimal digits.
    #[error("not an address: expected 0x and 40 hexadecimal digits")]
    Malformed,
    /// Mixed case that disagrees with EIP-55: most likely a typing error.
    #[error(
        "wrong EIP-55 checksum: check the address for a typing error (all lower case is taken unchecked)"
    )]
    Checksum,
}

/// Parses an address: EIP-55 mixed case is checked, all lower or all upper case is taken as it is.
pub fn parse_address(text: &str) -> Result<Address, AddressError> {
    let digits = text.strip_prefix("0x").ok_or(AddressError::Malformed)?;
    if digits.len() != 40 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(AddressError::Malformed);
    }
    let address = Address::from_str(text).map_err(|_| AddressError::Malformed)?;
    let lower = digits.bytes().any(|b| b.is_ascii_lowercase());
    let upper = digits.bytes().any(|b| b.is_ascii_uppercase());
    if lower && upper && address.to_checksum(None) != text {
        return Err(AddressError::Checksum);
    }
    Ok(address)
}

macro_rules! address_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Address);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.to_checksum(None))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_string())
            }
        }
        impl FromStr for $name {
            type Err = AddressError;
            fn from_str(text: &str) -> Result<Self, AddressError> {
                parse_address(text).map(Self)
            }
        }
        impl From<$name> for Address {
            fn from(value: $name) -> Address {
                value.0
            }
        }
    };
}

address_newtype! {
    /// The address of a device's first key: its identity for life, whatever key it uses now.
    DeviceId
}
address_newtype! {
    /// The address of the key somebody proved to hold, by a handshake or a signature.
    KeyAddress
}

impl KeyAddress {
    /// The device id this key would have as a device's first key.
    pub fn as_first_key(self) -> DeviceId {
        DeviceId(self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // From the EIP-55 text.
    const CHECKED: [&str; 4] = [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ];

    #[test]
    fn eip55_vectors_parse_and_print() {
        for text in CHECKED {
            assert_eq!(text.parse::<DeviceId>().unwrap().to_string(), text);
            assert!(parse_address(&text.to_lowercase()).is_ok());
        }
    }

    #[test]
    fn one_wrong_case_is_a_checksum_error() {
        let wrong = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed";
        assert_eq!(parse_address(wrong), Err(AddressError::Checksum));
    }

    #[test]
    fn malformed_texts_are_refused() {
        for text in [
            "",
            "0x",
            "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0x12",
            "0xzz",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed00",
        ] {
            assert_eq!(parse_address(text), Err(AddressError::Malformed), "{text}");
        }
    }
}
