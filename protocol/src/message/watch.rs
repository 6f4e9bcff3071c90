//! `/windlass/watch/1`: the client says which slots it watches; the node pushes every new head, with
//! proofs of the watched slots that changed, and tells at once, without proof, what blocks write that aren't final yet.

use crate::bundle::{Bundle, MAX_BUNDLE_SLOTS};
use crate::question::slot;
use crate::slot::Slot;
use crate::wire;
use alloc::vec::Vec;
use alloy_primitives::B256;
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

/// Most slots in one frame.
pub const MAX_WATCH_FRAME_SLOTS: usize = 512;
/// Most slots a stranger may watch on one connection.
pub const MAX_STRANGER_SLOTS: usize = 64;
/// Most slots an active device may watch on one connection.
pub const MAX_DEVICE_SLOTS: usize = 4_096;

/// From the client: RLP `[0, [slot to add…], [slot to drop…]]`, a slot being `[kind, key]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Watch {
    /// Slots to watch from now on: each is proven at once in a push, then on every change.
    pub add: Vec<Slot>,
    /// Slots not to watch any more.
    pub drop: Vec<Slot>,
}

/// From the node: RLP `[0, [slot…], bundle]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Push {
    /// The slots the bundle proves, in their order; none when only the head is new.
    pub slots: Vec<Slot>,
    /// Head and proofs.
    pub bundle: Bundle,
}

/// From the node: an unfinalised block writes watched slots. Nothing proves it, so it may only deny, and only until a
/// final head decides. RLP `[1, number, hash, [[kind, key, value]…]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TailNotice {
    /// The block.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Watched slots and what the block leaves in them, at most [`MAX_WATCH_FRAME_SLOTS`].
    pub slots: Vec<(Slot, B256)>,
}

/// Whatever a node sends on this protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FromNode {
    /// Proven.
    Push(Push),
    /// Unproven.
    Notice(TailNotice),
}

fn append_slots(s: &mut RlpStream, slots: &[Slot]) {
    s.begin_list(slots.len());
    for slot in slots {
        s.begin_list(2).append(&slot.kind()).append(&slot.mapping_key().as_slice());
    }
}

fn slots(rlp: &Rlp<'_>, most: usize) -> Result<Vec<Slot>, DecoderError> {
    let items = wire::items(rlp, 0, most)?;
    items
        .iter()
        .map(|item| {
            let f = wire::fields(item, 2)?;
            slot(&f[0], &f[1])
        })
        .collect()
}

impl Encodable for Watch {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(3).append(&0u8);
        append_slots(s, &self.add);
        append_slots(s, &self.drop);
    }
}

impl Decodable for Watch {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 3)?;
        if f[0].as_val::<u8>()? != 0 {
            return Err(DecoderError::Custom("an unknown kind of watch message"));
        }
        Ok(Self { add: slots(&f[1], MAX_WATCH_FRAME_SLOTS)?, drop: slots(&f[2], MAX_WATCH_FRAME_SLOTS)? })
    }
}

impl Encodable for Push {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(3).append(&0u8);
        append_slots(s, &self.slots);
        s.append(&self.bundle);
    }
}

impl Decodable for Push {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 3)?;
        if f[0].as_val::<u8>()? != 0 {
            return Err(DecoderError::Custom("an unknown kind of push"));
        }
        Ok(Self { slots: slots(&f[1], MAX_BUNDLE_SLOTS)?, bundle: f[2].as_val()? })
    }
}

impl Encodable for TailNotice {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(4).append(&1u8).append(&self.number).append(&self.hash.as_slice());
        s.begin_list(self.slots.len());
        for (slot, value) in &self.slots {
            s.begin_list(3).append(&slot.kind()).append(&slot.mapping_key().as_slice());
            s.append(&value.as_slice());
        }
    }
}

impl Decodable for TailNotice {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 4)?;
        if f[0].as_val::<u8>()? != 1 {
            return Err(DecoderError::Custom("an unknown kind of notice"));
        }
        let written = |item: &Rlp<'_>| {
            let f = wire::fields(item, 3)?;
            Ok((slot(&f[0], &f[1])?, wire::word(&f[2])?))
        };
        let slots = wire::items(&f[3], 0, MAX_WATCH_FRAME_SLOTS)?;
        let slots = slots.iter().map(written).collect::<Result<_, DecoderError>>()?;
        Ok(Self { number: f[1].as_val()?, hash: wire::word(&f[2])?, slots })
    }
}

impl Encodable for FromNode {
    fn rlp_append(&self, s: &mut RlpStream) {
        match self {
            Self::Push(push) => push.rlp_append(s),
            Self::Notice(notice) => notice.rlp_append(s),
        }
    }
}

impl Decodable for FromNode {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        match wire::fields(rlp, 1)?[0].as_val::<u8>()? {
            0 => Push::decode(rlp).map(Self::Push),
            _ => TailNotice::decode(rlp).map(Self::Notice),
        }
    }
}
