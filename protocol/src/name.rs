//! The one grammar of names, the same as in the NameRegistrar contract. Nothing is mapped silently:
//! an upper-case letter is an error, not a lower-case one.

use alloc::string::String;
use alloy_primitives::{B256, keccak256};
use core::fmt;
use core::str::FromStr;

/// Shortest and longest label, in bytes.
pub const NAME_BYTES: core::ops::RangeInclusive<usize> = 3..=63;

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Shorter than 3 or longer than 63 bytes.
    #[error("a name has 3 to 63 characters")]
    Length,
    /// Something other than a-z, 0-9 and the hyphen.
    #[error("a name consists of a-z, 0-9 and hyphens (lower case only)")]
    Character,
    /// A hyphen at an edge, or hyphens in 3rd and 4th place (reserved for encodings).
    #[error("a name neither starts nor ends with a hyphen, nor has hyphens in 3rd and 4th place")]
    Hyphen,
}

/// A label that satisfies the grammar.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The label.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// keccak256 of the label: its key in the registry.
    pub fn label_hash(&self) -> B256 {
        keccak256(self.0.as_bytes())
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        if !NAME_BYTES.contains(&bytes.len()) {
            return Err(NameError::Length);
        }
        if !bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            return Err(NameError::Character);
        }
        let edge = bytes[0] == b'-' || bytes[bytes.len() - 1] == b'-';
        if edge || bytes.get(2..4) == Some(b"--") {
            return Err(NameError::Hyphen);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar() {
        let long = "a".repeat(63);
        for good in ["abc", "a-b", "0-9", "pump-7", "a--b", long.as_str()] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        let bad = [
            ("", NameError::Length),
            ("ab", NameError::Length),
            (too_long.as_str(), NameError::Length),
            ("Abc", NameError::Character),
            ("a.b", NameError::Character),
            ("aé1", NameError::Character),
            ("-ab", NameError::Hyphen),
            ("ab-", NameError::Hyphen),
            ("ab--c", NameError::Hyphen),
        ];
        for (text, error) in bad {
            assert_eq!(text.parse::<Name>(), Err(error), "{text}");
        }
    }
}
