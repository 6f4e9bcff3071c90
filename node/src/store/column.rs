//! The typed columns: which entries a family has, and the bytes of their keys and values.
//!
//! Numbers in keys are big-endian, so that keys sort by them.

use super::family::Family;
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};
use windlass_protocol::head::Attestation;
use windlass_protocol::{Address, B256, Bytes, DeviceId};

/// A typed column: entries of one family with one type of key and value.
pub trait Column {
    /// Where it lives.
    const FAMILY: Family;
    /// What finds an entry.
    type Key;
    /// What an entry holds.
    type Value;
    /// The key's bytes.
    fn key(key: &Self::Key) -> Vec<u8>;
    /// The value's bytes.
    fn encode(value: &Self::Value) -> Vec<u8>;
    /// The value of stored bytes, `None` when they are damaged.
    fn decode(bytes: &[u8]) -> Option<Self::Value>;
}

pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

macro_rules! rlp_value {
    ($value:ty) => {
        fn encode(value: &$value) -> Vec<u8> {
            rlp::encode(value).to_vec()
        }
        fn decode(bytes: &[u8]) -> Option<$value> {
            rlp::decode(bytes).ok()
        }
    };
}

macro_rules! by_number {
    () => {
        type Key = u64;
        fn key(number: &u64) -> Vec<u8> {
            number.to_be_bytes().to_vec()
        }
    };
}

macro_rules! one_entry {
    ($(#[$doc:meta])* $visible:vis $column:ident, $family:expr, $key:literal, $value:ty) => {
        $(#[$doc])*
        $visible struct $column;
        impl Column for $column {
            const FAMILY: Family = $family;
            type Key = ();
            type Value = $value;
            fn key((): &()) -> Vec<u8> {
                $key.to_vec()
            }
            rlp_value!($value);
        }
    };
}

one_entry! {
    /// The schema of the directory.
    pub Schema, Family::Meta, b"schema", u64
}
one_entry! {
    /// The hash of the chain spec that the directory belongs to.
    pub SpecHash, Family::Meta, b"spec", Word
}
one_entry! {
    /// The side that is read; see [`Side::number`].
    pub(super) Live, Family::Meta, b"live", u64
}
/// The signed chain spec that the directory belongs to, as its publisher signed it.
pub struct SpecBytes;

impl Column for SpecBytes {
    const FAMILY: Family = Family::Meta;
    type Key = ();
    type Value = Bytes;
    fn key((): &()) -> Vec<u8> {
        b"signed spec".to_vec()
    }
    fn encode(value: &Bytes) -> Vec<u8> {
        value.to_vec()
    }
    fn decode(bytes: &[u8]) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(bytes))
    }
}

one_entry! {
    /// The last final block that the mirror holds.
    pub Cursor, Family::Mark, b"cursor", Position
}
one_entry! {
    /// The lowest height at which the mirror can still be read.
    pub Floor, Family::Mark, b"floor", u64
}
one_entry! {
    /// Where the mirror is being taken back to: until it is there nothing in it counts.
    pub(super) Rewinding, Family::Mark, b"rewinding", Position
}
one_entry! {
    /// The highest head this node ever signed.
    pub Signed, Family::Head, b"signed", SignedHead
}

/// A 32-byte word as RLP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word(pub B256);

impl Encodable for Word {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.encoder().encode_value(self.0.as_slice());
    }
}

impl Decodable for Word {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        B256::try_from(rlp.data()?).map(Self).map_err(|_| DecoderError::RlpInvalidLength)
    }
}

/// A block, by number and hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
}

/// What was signed: a block, by number and hash.
pub type SignedHead = Position;

impl Encodable for Position {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(2).append(&self.number).append(&Word(self.hash));
    }
}

impl Decodable for Position {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        Ok(Self { number: rlp.val_at(0)?, hash: rlp.val_at::<Word>(1)?.0 })
    }
}

/// Number → header RLP.
pub struct Headers;

impl Column for Headers {
    const FAMILY: Family = Family::Header;
    type Value = Bytes;
    by_number!();
    fn encode(value: &Bytes) -> Vec<u8> {
        value.to_vec()
    }
    fn decode(bytes: &[u8]) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(bytes))
    }
}

/// Height → the trie nodes that prove the registry's account, root first.
pub struct Accounts;

impl Column for Accounts {
    const FAMILY: Family = Family::Account;
    type Value = Vec<Bytes>;
    by_number!();
    fn encode(value: &Vec<Bytes>) -> Vec<u8> {
        let mut s = RlpStream::new_list(value.len());
        value.iter().for_each(|node| {
            s.append(&node.as_ref());
        });
        s.out().to_vec()
    }
    fn decode(bytes: &[u8]) -> Option<Vec<Bytes>> {
        byte_strings(&Rlp::new(bytes)).ok()
    }
}

fn byte_strings(rlp: &Rlp<'_>) -> Result<Vec<Bytes>, DecoderError> {
    rlp.iter().map(|item| Ok(Bytes::copy_from_slice(item.data()?))).collect()
}

/// An unfinalised block: all that is needed to apply it once it is final.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TailBlock {
    /// Header RLP.
    pub header: Bytes,
    /// Every slot the block writes, in order of the writes.
    pub changes: Vec<(B256, B256)>,
    /// The proof of the registry's account after it, where one was taken.
    pub account: Option<Vec<Bytes>>,
}

/// `[header, [[slot, value]…], [[node…]] or []]`.
impl Encodable for TailBlock {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(3).append(&self.header.as_ref()).begin_list(self.changes.len());
        for (slot, value) in &self.changes {
            s.begin_list(2).append(&Word(*slot)).append(&Word(*value));
        }
        s.begin_list(usize::from(self.account.is_some()));
        if let Some(nodes) = &self.account {
            s.append_raw(&Accounts::encode(nodes), 1);
        }
    }
}

impl Decodable for TailBlock {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let change = |item: Rlp<'_>| Ok((item.val_at::<Word>(0)?.0, item.val_at::<Word>(1)?.0));
        let account = rlp.at(2)?;
        Ok(Self {
            header: Bytes::copy_from_slice(rlp.at(0)?.data()?),
            changes: rlp.at(1)?.iter().map(change).collect::<Result<_, DecoderError>>()?,
            account: account.iter().next().map(|nodes| byte_strings(&nodes)).transpose()?,
        })
    }
}

/// Number → unfinalised block.
pub struct Tail;

impl Column for Tail {
    const FAMILY: Family = Family::Tail;
    type Value = TailBlock;
    by_number!();
    rlp_value!(TailBlock);
}

/// A device's newest route, as kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptRoute {
    /// The route's sequence number: Unix milliseconds when it was made.
    pub seq: u64,
    /// Unix seconds when it ends.
    pub ends: u64,
    /// The signed route's bytes.
    pub route: Bytes,
}

/// `[seq, ends, route]`.
impl Encodable for KeptRoute {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(3).append(&self.seq).append(&self.ends).append(&self.route.as_ref());
    }
}

impl Decodable for KeptRoute {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let route = Bytes::copy_from_slice(rlp.at(2)?.data()?);
        Ok(Self { seq: rlp.val_at(0)?, ends: rlp.val_at(1)?, route })
    }
}

/// Device → route.
pub struct Routes;

impl Column for Routes {
    const FAMILY: Family = Family::Route;
    type Key = DeviceId;
    type Value = KeptRoute;
    fn key(device: &DeviceId) -> Vec<u8> {
        device.0.to_vec()
    }
    rlp_value!(KeptRoute);
}

/// Two signatures of one member that can't both be honest: what the staking contract convicts on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The number that it signed twice.
    pub number: u64,
    /// One hash, and the signature of it.
    pub one: (B256, Attestation),
    /// The other.
    pub other: (B256, Attestation),
}

/// `[number, hash, attestation, hash, attestation]`.
impl Encodable for Fault {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(5).append(&self.number);
        for (hash, attestation) in [&self.one, &self.other] {
            s.append(&Word(*hash)).append(attestation);
        }
    }
}

impl Decodable for Fault {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let signed = |at: usize| Ok((rlp.val_at::<Word>(at)?.0, rlp.val_at(at + 1)?));
        Ok(Self { number: rlp.val_at(0)?, one: signed(1)?, other: signed(3)? })
    }
}

/// Member → its first fault. One is enough for a conviction, and a committee is small.
pub struct Faults;

impl Column for Faults {
    const FAMILY: Family = Family::Head;
    type Key = Address;
    type Value = Fault;
    fn key(member: &Address) -> Vec<u8> {
        member.to_vec()
    }
    rlp_value!(Fault);
}

/// The member in a key of [`Faults`]; the family has other entries, too.
pub(super) fn member_of_key(key: &[u8]) -> Option<Address> {
    Address::try_from(key).ok()
}

/// The number in a key of a column by number.
pub(super) fn number_of_key(key: &[u8]) -> Option<u64> {
    number(key)
}

/// The device in a key of [`Routes`].
pub(super) fn device_of_key(key: &[u8]) -> Option<DeviceId> {
    Address::try_from(key).ok().map(DeviceId)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn word() -> impl Strategy<Value = B256> {
        any::<[u8; 32]>().prop_map(B256::from)
    }

    proptest! {
        #[test]
        fn tail_blocks_survive(
            header in prop::collection::vec(any::<u8>(), 0..600),
            changes in prop::collection::vec((word(), word()), 0..5),
            account in prop::option::of(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4)),
        ) {
            let account = account.map(|nodes| nodes.into_iter().map(Bytes::from).collect());
            let block = TailBlock { header: header.into(), changes, account };
            prop_assert_eq!(Tail::decode(&Tail::encode(&block)), Some(block));
        }

        #[test]
        fn damaged_values_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Tail::decode(&bytes);
            let _ = Accounts::decode(&bytes);
            let _ = Routes::decode(&bytes);
            let _ = Cursor::decode(&bytes);
            let _ = Faults::decode(&bytes);
        }
    }
}
