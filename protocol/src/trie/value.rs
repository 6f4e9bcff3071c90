//! What leaves hold: accounts in the account trie, 32-byte slots in a storage trie.
//!
//! Owns both codecs, strict in both directions; never looks at trie nodes.

use super::EMPTY_ROOT;
use super::verify::ProofError;
use alloc::vec::Vec;
use alloy_primitives::{B256, U256, b256};
use alloy_rlp::{Encodable, Header};

/// keccak256 of no code, the code hash of every account that isn't a contract.
pub const EMPTY_CODE_HASH: B256 = b256!("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");

/// Why a leaf's value isn't an account or a slot in its only canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not canonical RLP.
    #[error("not canonical RLP: {0}")]
    Rlp(alloy_rlp::Error),
    /// Something follows the value.
    #[error("bytes follow the end of the value")]
    TrailingBytes,
    /// An integer with a leading zero byte.
    #[error("an integer with a leading zero byte")]
    LeadingZero,
    /// A slot of zero, which would be deleted, not stored.
    #[error("a slot that holds zero")]
    Zero,
    /// A field longer or shorter than it may be.
    #[error("a field of the wrong length")]
    Length,
}

impl From<alloy_rlp::Error> for ValueError {
    fn from(error: alloy_rlp::Error) -> Self {
        Self::Rlp(error)
    }
}

/// The leaf value of a slot: RLP of the big-endian integer without leading zeros. Zero has no leaf; to write
/// a slot that may be zero, use [`slot_change`].
pub fn encode_slot_value(value: &B256) -> Vec<u8> {
    let mut out = Vec::with_capacity(33);
    trimmed(&value.0).encode(&mut out);
    out
}

/// What to hand to [`update`](super::update) for a slot that becomes `value`: zero deletes its leaf.
pub fn slot_change(value: &B256) -> Option<Vec<u8>> {
    (!value.is_zero()).then(|| encode_slot_value(value))
}

/// Reads the leaf value of a slot. Refuses leading zeros, zero itself, and more than 32 bytes.
pub fn decode_slot_value(rlp: &[u8]) -> Result<B256, ProofError> {
    let mut rest = rlp;
    let value = integer::<32>(&mut rest).map_err(ProofError::SlotValue)?;
    if !rest.is_empty() {
        return Err(ProofError::SlotValue(ValueError::TrailingBytes));
    }
    if value == [0; 32] {
        return Err(ProofError::SlotValue(ValueError::Zero));
    }
    Ok(value.into())
}

/// What the account trie holds about one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Transactions sent, or contracts created by a contract.
    pub nonce: u64,
    /// Balance in wei.
    pub balance: U256,
    /// Root of the account's storage trie.
    pub storage_root: B256,
    /// keccak256 of the account's code.
    pub code_hash: B256,
}

/// An account that has neither sent nor owns nor holds anything.
impl Default for Account {
    fn default() -> Self {
        Self { nonce: 0, balance: U256::ZERO, storage_root: EMPTY_ROOT, code_hash: EMPTY_CODE_HASH }
    }
}

impl Account {
    /// The account's leaf value: the RLP list of its four fields.
    pub fn encode(&self) -> Vec<u8> {
        let (nonce, balance) = (self.nonce.to_be_bytes(), self.balance.to_be_bytes::<32>());
        let (storage_root, code_hash) = (self.storage_root.as_slice(), self.code_hash.as_slice());
        let fields: [&[u8]; 4] = [trimmed(&nonce), trimmed(&balance), storage_root, code_hash];
        let header = Header { list: true, payload_length: fields.iter().map(|field| field.length()).sum() };
        let mut out = Vec::with_capacity(header.length_with_payload());
        header.encode(&mut out);
        fields.iter().for_each(|field| field.encode(&mut out));
        out
    }

    /// Reads an account's leaf value, refusing every form but the canonical one.
    pub fn decode(rlp: &[u8]) -> Result<Self, ProofError> {
        Self::decode_fields(rlp).map_err(ProofError::Account)
    }

    fn decode_fields(rlp: &[u8]) -> Result<Self, ValueError> {
        let mut after = rlp;
        let mut fields = Header::decode_bytes(&mut after, true)?;
        let account = Self {
            nonce: u64::from_be_bytes(integer(&mut fields)?),
            balance: U256::from_be_bytes(integer::<32>(&mut fields)?),
            storage_root: hash(&mut fields)?,
            code_hash: hash(&mut fields)?,
        };
        if !fields.is_empty() || !after.is_empty() {
            return Err(ValueError::TrailingBytes);
        }
        Ok(account)
    }
}

fn trimmed(big_endian: &[u8]) -> &[u8] {
    let zeros = big_endian.iter().take_while(|&&byte| byte == 0).count();
    &big_endian[zeros..]
}

fn integer<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], ValueError> {
    let bytes = Header::decode_bytes(input, false)?;
    if bytes.first() == Some(&0) {
        return Err(ValueError::LeadingZero);
    }
    let start = N.checked_sub(bytes.len()).ok_or(ValueError::Length)?;
    let mut padded = [0; N];
    padded[start..].copy_from_slice(bytes);
    Ok(padded)
}

fn hash(input: &mut &[u8]) -> Result<B256, ValueError> {
    let bytes = Header::decode_bytes(input, false)?;
    B256::try_from(bytes).map_err(|_| ValueError::Length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloc::vec;
    use alloy_primitives::hex;
    use proptest::prelude::*;

    fn slot_error(rlp: &[u8]) -> ValueError {
        match decode_slot_value(rlp) {
            Err(ProofError::SlotValue(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    fn account_error(rlp: &[u8]) -> ValueError {
        match Account::decode(rlp) {
            Err(ProofError::Account(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    fn sample() -> Account {
        let (storage_root, code_hash) = (B256::repeat_byte(0x11), B256::repeat_byte(0x22));
        Account { nonce: 1, balance: U256::from(0x0de0_b6b3_a764_0000_u64), storage_root, code_hash }
    }

    #[test]
    fn slot_values_have_known_bytes() {
        assert_eq!(encode_slot_value(&B256::with_last_byte(1)), [0x01]);
        assert_eq!(encode_slot_value(&B256::with_last_byte(0x80)), [0x81, 0x80]);
        assert_eq!(encode_slot_value(&B256::left_padding_from(&[4, 0])), [0x82, 4, 0]);
        assert_eq!(encode_slot_value(&B256::repeat_byte(9)), [&[0xa0][..], &[9; 32]].concat());
        assert_eq!(slot_change(&B256::ZERO), None);
        assert_eq!(slot_change(&B256::with_last_byte(1)), Some(vec![0x01]));
    }

    #[test]
    fn other_slot_values_are_refused() {
        use alloy_rlp::Error;
        assert_eq!(slot_error(&[]), ValueError::Rlp(Error::InputTooShort));
        assert_eq!(slot_error(&[0xc0]), ValueError::Rlp(Error::UnexpectedList));
        assert_eq!(slot_error(&[0x81, 0x7f]), ValueError::Rlp(Error::NonCanonicalSingleByte));
        assert_eq!(slot_error(&[0x80]), ValueError::Zero);
        assert_eq!(slot_error(&[0x00]), ValueError::LeadingZero);
        assert_eq!(slot_error(&[0x82, 0, 1]), ValueError::LeadingZero);
        assert_eq!(slot_error(&[0x01, 0x01]), ValueError::TrailingBytes);
        assert_eq!(slot_error(&[&[0xa1][..], &[1; 33]].concat()), ValueError::Length);
    }

    #[test]
    fn accounts_have_known_bytes() {
        let expected = [&hex!("f84c01880de0b6b3a7640000a0")[..], &[0x11; 32], &[0xa0], &[0x22; 32]];
        assert_eq!(sample().encode(), expected.concat());
        let empty = Account::default().encode();
        assert_eq!(empty[..5], hex!("f8448080a0"));
        assert_eq!(Account::decode(&empty), Ok(Account::default()));
    }

    #[test]
    fn other_accounts_are_refused() {
        use alloy_rlp::Error;
        let good = sample().encode();
        let with = |from: &[u8], to: &[u8]| {
            hex::decode(hex::encode(&good).replace(&hex::encode(from), &hex::encode(to)))
        };
        assert_eq!(account_error(&[]), ValueError::Rlp(Error::InputTooShort));
        assert_eq!(account_error(&[0x80]), ValueError::Rlp(Error::UnexpectedString));
        assert_eq!(account_error(&good[..good.len() - 1]), ValueError::Rlp(Error::InputTooShort));
        assert_eq!(account_error(&[&good[..], &[0]].concat()), ValueError::TrailingBytes);
        assert_eq!(account_error(&with(&[0x4c, 0x01], &[0x4c, 0x00]).unwrap()), ValueError::LeadingZero);
        assert_eq!(
            account_error(&with(&[0x4c, 0x01], &[0x4d, 0x81, 0x01]).unwrap()),
            ValueError::Rlp(Error::NonCanonicalSingleByte)
        );
        assert_eq!(account_error(&with(&[0x88, 0x0d], &[0x88, 0x00]).unwrap()), ValueError::LeadingZero);
        let nine_byte_nonce = [&[0x55, 0x89][..], &[1; 9]].concat();
        assert_eq!(account_error(&with(&[0x4c, 0x01], &nine_byte_nonce).unwrap()), ValueError::Length);
        let short_hash = with(&[0xa0, 0x11, 0x11], &[0x9f, 0x11]).unwrap();
        assert_eq!(account_error(&with_length(short_hash, 0x4b)), ValueError::Length);
        // A fifth field.
        assert_eq!(account_error(&with_length([&good[..], &[1]].concat(), 0x4d)), ValueError::TrailingBytes);
        // Only three.
        let three = with_length(good[..good.len() - 33].to_vec(), 0x4c - 33);
        assert!(matches!(account_error(&three), ValueError::Rlp(_)));
    }

    fn with_length(mut rlp: Vec<u8>, length: u8) -> Vec<u8> {
        rlp[1] = length;
        rlp
    }

    proptest! {
        #[test]
        fn slot_values_survive(bytes: [u8; 32], zeros in 0..32_usize) {
            let mut value = B256::from(bytes);
            value[..zeros].fill(0);
            prop_assume!(!value.is_zero());
            prop_assert_eq!(decode_slot_value(&encode_slot_value(&value)), Ok(value));
        }

        #[test]
        fn accounts_survive(
            nonce: u64,
            mut balance: [u8; 32],
            zeros in 0..=32_usize,
            root: [u8; 32],
            code: [u8; 32],
        ) {
            balance[..zeros].fill(0);
            let balance = U256::from_be_bytes(balance);
            let account = Account { nonce, balance, storage_root: root.into(), code_hash: code.into() };
            prop_assert_eq!(Account::decode(&account.encode()), Ok(account));
        }

        /// What is decoded is the only form: it encodes to the same bytes.
        #[test]
        fn decoded_slots_encode_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..36)) {
            if let Ok(value) = decode_slot_value(&bytes) {
                prop_assert_eq!(encode_slot_value(&value), bytes);
            }
        }
    }
}
