//! The few fields of a block header that proofs rest on, read strictly from its RLP.

use alloy_primitives::{B256, keccak256};
use alloy_rlp::{Decodable, Header as RlpHeader};

/// Most bytes of a header's RLP. Ethereum's are ~600; L2s append fields, and some chains keep signatures
/// in `extraData`.
pub const MAX_HEADER_BYTES: usize = 2_048;

/// Fields every header since London has (through `baseFeePerGas`); later ones are appended.
const LEAST_FIELDS: usize = 15;

/// Why bytes are not a block header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Over [`MAX_HEADER_BYTES`].
    #[error("header of {0} bytes is over the limit of {MAX_HEADER_BYTES}")]
    TooLarge(usize),
    /// Not canonical RLP of a header.
    #[error("not a block header: {0}")]
    Rlp(alloy_rlp::Error),
    /// Bytes after the header, or a list where a string belongs.
    #[error("not a block header: malformed fields")]
    Malformed,
}

impl From<alloy_rlp::Error> for HeaderError {
    fn from(error: alloy_rlp::Error) -> Self {
        Self::Rlp(error)
    }
}

/// A decoded header. It proves nothing by itself: see [`crate::head::verify_head`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// keccak256 of the RLP: the block's hash.
    pub hash: B256,
    /// The parent block's hash.
    pub parent_hash: B256,
    /// The root of the state after this block.
    pub state_root: B256,
    /// The block's number.
    pub number: u64,
    /// Unix seconds.
    pub timestamp: u64,
}

impl Header {
    /// Reads a header's RLP.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() > MAX_HEADER_BYTES {
            return Err(HeaderError::TooLarge(bytes.len()));
        }
        let mut rest = bytes;
        let outer = RlpHeader::decode(&mut rest)?;
        if !outer.list || rest.len() != outer.payload_length {
            return Err(HeaderError::Malformed);
        }
        let mut header = Self {
            hash: keccak256(bytes),
            parent_hash: B256::ZERO,
            state_root: B256::ZERO,
            number: 0,
            timestamp: 0,
        };
        let mut index = 0;
        while !rest.is_empty() {
            match index {
                0 => header.parent_hash = word(&mut rest)?,
                3 => header.state_root = word(&mut rest)?,
                8 => header.number = u64::decode(&mut rest)?,
                11 => header.timestamp = u64::decode(&mut rest)?,
                _ => skip(&mut rest)?,
            }
            index += 1;
        }
        if index < LEAST_FIELDS { Err(HeaderError::Malformed) } else { Ok(header) }
    }
}

fn word(rest: &mut &[u8]) -> Result<B256, HeaderError> {
    Ok(B256::new(<[u8; 32]>::decode(rest)?))
}

fn skip(rest: &mut &[u8]) -> Result<(), HeaderError> {
    let item = RlpHeader::decode(rest)?;
    if item.list || item.payload_length > rest.len() {
        return Err(HeaderError::Malformed);
    }
    *rest = &rest[item.payload_length..];
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    /// The RLP of a header with these fields and otherwise empty ones of the right kind.
    pub(crate) fn header_rlp(number: u64, timestamp: u64, state_root: B256) -> Vec<u8> {
        let mut stream = rlp::RlpStream::new_list(15);
        let zero = vec![0u8; 32];
        stream.append(&zero).append(&zero).append(&vec![0u8; 20]).append(&state_root.as_slice());
        stream.append(&zero).append(&zero).append(&vec![0u8; 256]).append(&0u8).append(&number);
        stream.append(&30_000_000u64).append(&0u8).append(&timestamp).append(&Vec::<u8>::new());
        stream.append(&zero).append(&vec![0u8; 8]);
        stream.out().to_vec()
    }

    #[test]
    fn the_fields_are_found() {
        let bytes = header_rlp(77, 1_700_000_000, B256::repeat_byte(3));
        let header = Header::decode(&bytes).unwrap();
        assert_eq!((header.number, header.timestamp), (77, 1_700_000_000));
        assert_eq!((header.state_root, header.hash), (B256::repeat_byte(3), keccak256(&bytes)));
    }

    #[test]
    fn truncated_and_extended_headers_are_refused() {
        let bytes = header_rlp(77, 1, B256::ZERO);
        for length in 0..bytes.len() {
            assert!(Header::decode(&bytes[..length]).is_err());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Header::decode(&longer), Err(HeaderError::Malformed));
        assert!(Header::decode(&vec![0; MAX_HEADER_BYTES + 1]).is_err());
    }

    #[test]
    fn too_few_fields_are_refused() {
        let mut stream = rlp::RlpStream::new_list(12);
        let zero = vec![0u8; 32];
        for _ in 0..8 {
            stream.append(&zero);
        }
        stream.append(&1u8).append(&zero).append(&zero).append(&1u8);
        assert_eq!(Header::decode(&stream.out()), Err(HeaderError::Malformed));
    }
}
