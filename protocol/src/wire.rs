//! The RLP of our own messages: one decoding entrance that bounds the size and refuses trailing bytes,
//! and the fixed-size fields the `rlp` crate has no types for.
//!
//! Unknown trailing *fields* of a list are ignored, so that later versions can add some; unknown
//! trailing *bytes* are an error.

use crate::keys::Signature;
use alloc::vec::Vec;
use alloy_primitives::{Address, B256, Bytes};
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than this kind of message may have.
    #[error("message of {actual} bytes is over its limit of {limit}")]
    TooLarge {
        /// What arrived.
        actual: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Bytes after the message.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    /// Not the RLP this message has.
    #[error("not a well-formed message: {0}")]
    Rlp(DecoderError),
}

impl From<DecoderError> for DecodeError {
    fn from(error: DecoderError) -> Self {
        Self::Rlp(error)
    }
}

/// Decodes one message of at most `limit` bytes.
pub fn decode<T: Decodable>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge { actual: bytes.len(), limit });
    }
    let rlp = Rlp::new(bytes);
    let info = rlp.payload_info()?;
    let total = info.header_len.checked_add(info.value_len).ok_or(DecoderError::RlpIsTooShort)?;
    if total < bytes.len() {
        return Err(DecodeError::Trailing(bytes.len() - total));
    }
    Ok(T::decode(&rlp)?)
}

/// Encodes a message.
pub fn encode<T: Encodable>(value: &T) -> Vec<u8> {
    rlp::encode(value).to_vec()
}

/// The items of a list, at least `fields` of them, at most `most`; anything else is refused.
pub(crate) fn items<'a>(rlp: &Rlp<'a>, fields: usize, most: usize) -> Result<Vec<Rlp<'a>>, DecoderError> {
    if !rlp.is_list() {
        return Err(DecoderError::RlpExpectedToBeList);
    }
    let mut items = Vec::with_capacity(fields.min(32));
    let mut consumed = 0;
    for item in rlp.iter() {
        if items.len() == most {
            return Err(DecoderError::RlpIncorrectListLen);
        }
        consumed += item.as_raw().len();
        items.push(item);
    }
    // The crate's iterator ends quietly at the first item it can't read.
    if consumed != rlp.payload_info()?.value_len {
        return Err(DecoderError::RlpInconsistentLengthAndData);
    }
    if items.len() < fields { Err(DecoderError::RlpIncorrectListLen) } else { Ok(items) }
}

/// Most fields a struct-like message may have, known and unknown together.
pub(crate) const MOST_FIELDS: usize = 32;

/// The fields of a struct-like message: at least `fields`, later ones ignored.
pub(crate) fn fields<'a>(rlp: &Rlp<'a>, fields: usize) -> Result<Vec<Rlp<'a>>, DecoderError> {
    items(rlp, fields, MOST_FIELDS)
}

/// A list of at most `most` values.
pub(crate) fn list<T: Decodable>(rlp: &Rlp<'_>, most: usize) -> Result<Vec<T>, DecoderError> {
    items(rlp, 0, most)?.iter().map(T::decode).collect()
}

/// A list of at most `most` byte strings.
pub(crate) fn byte_strings(rlp: &Rlp<'_>, most: usize) -> Result<Vec<Bytes>, DecoderError> {
    items(rlp, 0, most)?.iter().map(|item| Ok(Bytes::copy_from_slice(item.data()?))).collect()
}

/// A list of at most `most` addresses.
pub(crate) fn addresses(rlp: &Rlp<'_>, most: usize) -> Result<Vec<Address>, DecoderError> {
    items(rlp, 0, most)?.iter().map(address).collect()
}

/// A byte string of exactly `N` bytes.
pub(crate) fn fixed<const N: usize>(rlp: &Rlp<'_>) -> Result<[u8; N], DecoderError> {
    rlp.data()?.try_into().map_err(|_| DecoderError::RlpInvalidLength)
}

pub(crate) fn word(rlp: &Rlp<'_>) -> Result<B256, DecoderError> {
    fixed(rlp).map(B256::new)
}

pub(crate) fn address(rlp: &Rlp<'_>) -> Result<Address, DecoderError> {
    fixed(rlp).map(Address::new)
}

pub(crate) fn signature(rlp: &Rlp<'_>) -> Result<Signature, DecoderError> {
    Signature::from_bytes(rlp.data()?).map_err(|_| DecoderError::Custom("not a valid signature"))
}

pub(crate) fn append_slices<T: AsRef<[u8]>>(stream: &mut RlpStream, values: &[T]) {
    stream.begin_list(values.len());
    for value in values {
        stream.append(&value.as_ref());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Pair(u64, u64);
    impl Decodable for Pair {
        fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
            let items = fields(rlp, 2)?;
            Ok(Self(items[0].as_val()?, items[1].as_val()?))
        }
    }

    #[test]
    fn trailing_fields_are_ignored_and_trailing_bytes_refused() {
        let pair: Pair = decode(&[0xc3, 1, 2, 3], 16).unwrap();
        assert_eq!((pair.0, pair.1), (1, 2));
        assert_eq!(decode::<Pair>(&[0xc2, 1, 2, 3], 16).err(), Some(DecodeError::Trailing(1)));
        assert!(decode::<Pair>(&[0xc1, 1], 16).is_err());
        assert!(decode::<Pair>(&[0xc3, 1, 2, 0x82], 16).is_err());
        assert_eq!(
            decode::<Pair>(&[0xc2, 1, 2], 2).err(),
            Some(DecodeError::TooLarge { actual: 3, limit: 2 })
        );
        assert!(decode::<Pair>(&[], 16).is_err());
    }
}
