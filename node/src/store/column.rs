//! The column families: which there are, and the types of their keys and values.
//!
//! Owns the layout on disk. Numbers in keys are big-endian, so that keys sort by them. What stands now and what stood
//! before lie apart: the newest state is one point read per slot or trie node, an older one two.

use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};
use windlass_protocol::head::Attestation;
use windlass_protocol::{Address, B256, Bytes, DeviceId, trie::NibblePath};

/// Changes whenever a codec or a family here changes, together with a step in `migrate`.
pub(super) const SCHEMA: u64 = 2;

/// One of the two mirrors that a directory has room for: the one that is read, and one that is built beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// Where a new directory begins.
    A,
    /// The other.
    B,
}

impl Side {
    /// The other one.
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(super) fn number(self) -> u64 {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    pub(super) fn of_number(number: u64) -> Option<Self> {
        [Self::A, Self::B].into_iter().find(|side| side.number() == number)
    }
}

/// A column family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// Schema, chain spec, which side is read.
    Meta,
    /// Cursor and floor of a mirror.
    Mark,
    /// Number → header RLP of recent final blocks.
    Header,
    /// Slot → since when it has which value.
    Slot,
    /// Path → since when which trie node is there.
    Trie,
    /// Height and key → what the block of that height replaced, as long as somebody may read below it.
    Past,
    /// Number → what an unfinalised block will change.
    Tail,
    /// Height → proof of the registry's account.
    Account,
    /// Device → its newest route.
    Route,
    /// What this node signed.
    Head,
    /// Usage tickets.
    Ticket,
}

impl Family {
    /// Those of the node itself: one each, whichever mirror is read.
    const OF_NODE: [Self; 4] = [Self::Meta, Self::Route, Self::Head, Self::Ticket];

    /// Those of a mirror, one on each side: everything that the chain can tell again.
    pub(super) const OF_MIRROR: [Self; 7] =
        [Self::Mark, Self::Header, Self::Slot, Self::Trie, Self::Past, Self::Tail, Self::Account];

    /// All of a directory, each with its side; of the node's own either is the same.
    pub(super) fn all() -> impl Iterator<Item = (Self, Side)> {
        let of_node = Self::OF_NODE.map(|family| (family, Side::A));
        let sides = [Side::A, Side::B].into_iter();
        of_node.into_iter().chain(sides.flat_map(|side| Self::OF_MIRROR.map(|family| (family, side))))
    }

    /// The name on disk.
    pub(super) fn name(self, side: Side) -> &'static str {
        let of = |a, b| match side {
            Side::A => a,
            Side::B => b,
        };
        match self {
            Self::Meta => "meta",
            Self::Route => "route",
            Self::Head => "head",
            Self::Ticket => "ticket",
            Self::Mark => of("mark-a", "mark-b"),
            Self::Header => of("header-a", "header-b"),
            Self::Slot => of("slot-a", "slot-b"),
            Self::Trie => of("trie-a", "trie-b"),
            Self::Past => of("past-a", "past-b"),
            Self::Tail => of("tail-a", "tail-b"),
            Self::Account => of("account-a", "account-b"),
        }
    }
}

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

fn number(bytes: &[u8]) -> Option<u64> {
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

/// Where a trie node stands: how deep, then the nibbles two to a byte. So the upper levels, which every proof needs,
/// lie together.
pub(super) fn trie_key(path: &NibblePath) -> Vec<u8> {
    let nibbles = path.to_bytes();
    let mut key = Vec::with_capacity(1 + nibbles.len().div_ceil(2));
    key.push(nibbles.len() as u8);
    key.extend(nibbles.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or_default()));
    key
}

/// What stands at a key: since which block, and its bytes, none if there is nothing any more.
pub(super) fn standing(since: u64, bytes: &[u8]) -> Vec<u8> {
    [&since.to_be_bytes()[..], bytes].concat()
}

/// The parts of [`standing`].
pub(super) fn parse_standing(value: &[u8]) -> Option<(u64, &[u8])> {
    let (since, bytes) = value.split_at_checked(8)?;
    Some((number(since)?, bytes))
}

/// The key of what the block at `height` replaced at `key` of `family`. Height first: what nobody reads any more lies
/// together, and so does what a rewind takes back.
pub(super) fn past_key(height: u64, family: Family, key: &[u8]) -> Vec<u8> {
    let mut past = Vec::with_capacity(9 + key.len());
    past.extend_from_slice(&height.to_be_bytes());
    past.push(match family {
        Family::Slot => 0,
        _ => 1,
    });
    past.extend_from_slice(key);
    past
}

/// The parts of a [`past_key`].
pub(super) fn parse_past_key(past: &[u8]) -> Option<(u64, Family, &[u8])> {
    let height = number(past.get(..8)?)?;
    let family = match past.get(8)? {
        0 => Family::Slot,
        1 => Family::Trie,
        _ => return None,
    };
    Some((height, family, &past[9..]))
}

/// What a block replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Former<'a> {
    /// Whether the block left nothing there: a mark that says so can go once nobody reads below.
    pub(super) removed: bool,
    /// What stood there, as [`standing`] has it; `None` for nothing.
    pub(super) stood: Option<&'a [u8]>,
}

impl<'a> Former<'a> {
    const REMOVED: u8 = 1;
    const STOOD: u8 = 2;

    pub(super) fn encode(&self) -> Vec<u8> {
        let removed = if self.removed { Self::REMOVED } else { 0 };
        let stood = if self.stood.is_some() { Self::STOOD } else { 0 };
        [&[removed | stood][..], self.stood.unwrap_or_default()].concat()
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (flags, rest) = bytes.split_first()?;
        let removed = flags & Self::REMOVED != 0;
        match flags & !Self::REMOVED {
            0 if rest.is_empty() => Some(Self { removed, stood: None }),
            Self::STOOD if rest.len() >= 8 => Some(Self { removed, stood: Some(rest) }),
            _ => None,
        }
    }
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
            let _ = parse_past_key(&bytes);
            let _ = parse_standing(&bytes);
            let _ = Former::decode(&bytes);
        }

        #[test]
        fn what_was_replaced_survives(height: u64, removed: bool, stood in prop::option::of(prop::collection::vec(any::<u8>(), 8..90))) {
            let former = Former { removed, stood: stood.as_deref() };
            let encoded = former.encode();
            prop_assert_eq!(Former::decode(&encoded), Some(former));
            let key = past_key(height, Family::Trie, &[1, 2]);
            prop_assert_eq!(parse_past_key(&key), Some((height, Family::Trie, &[1, 2][..])));
        }
    }

    #[test]
    fn no_two_paths_share_a_key_and_upper_ones_lie_together() {
        let key = |nibbles: &[u8]| trie_key(&NibblePath::from_bytes(nibbles).unwrap());
        assert_eq!(key(&[]), [0]);
        assert_eq!((key(&[1]), key(&[1, 0])), (vec![1, 0x10], vec![2, 0x10]));
        assert_eq!(key(&[1, 2, 3]), [3, 0x12, 0x30]);
        assert!(key(&[15]) < key(&[0, 0]));
    }

    #[test]
    fn each_family_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> =
            Family::all().map(|(family, side)| family.name(side)).collect();
        assert_eq!(names.len(), Family::all().count());
    }
}
