//! One trie node: decoding what a stranger or a store hands over, and encoding what an update made.
//!
//! Owns the canonical form of leaf, extension and branch. It never follows a reference and never hashes.
//! Keys are all 32 bytes long, so no branch has a value (no key ends inside another one).

use super::path::NibblePath;
use alloc::{boxed::Box, vec::Vec};
use alloy_primitives::B256;
use alloy_rlp::{EMPTY_STRING_CODE, Header};

/// Children of a branch.
pub(super) const RADIX: usize = 16;

/// A trie node shorter than this, in bytes of RLP, stands inside its parent instead of its hash.
pub(super) const HASHED_FROM_BYTES: usize = 32;

/// RLP header of a 32-byte string.
const HASH_CODE: u8 = EMPTY_STRING_CODE + 32;

/// Why bytes are not a trie node in its only canonical form, or not one that belongs where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The bytes are not canonical RLP.
    #[error("not canonical RLP: {0}")]
    Rlp(alloy_rlp::Error),
    /// Something follows the list that should be the whole node.
    #[error("bytes follow the end of the node")]
    TrailingBytes,
    /// Neither 2 items (leaf, extension) nor 17 (branch).
    #[error("a list of neither 2 nor 17 items")]
    ItemCount,
    /// The path of a leaf or extension is a list or not in hex-prefix form.
    #[error("the path is not in hex-prefix form")]
    HexPrefix,
    /// An extension without a nibble extends nothing.
    #[error("an extension without a path")]
    EmptyExtension,
    /// A leaf whose value is empty would be deleted, not stored.
    #[error("a leaf without a value")]
    EmptyValue,
    /// A leaf whose value is a list instead of a string.
    #[error("a leaf's value that is a list")]
    ListValue,
    /// A branch with a value, though all keys have the same length.
    #[error("a branch with a value")]
    BranchValue,
    /// A branch with fewer than two children would have been collapsed.
    #[error("a branch with fewer than two children")]
    LoneChild,
    /// A child that is neither empty, nor a 32-byte hash, nor an embedded node.
    #[error("a reference that is neither empty, nor a hash, nor an embedded node")]
    Reference,
    /// An embedded child of 32 bytes or more would be referenced by its hash.
    #[error("an embedded node of 32 bytes or more")]
    LongEmbedded,
    /// An extension that leads nowhere.
    #[error("an extension without a child")]
    EmptyChild,
    /// An extension's child that is not a branch would have been merged with it.
    #[error("an extension whose child is not a branch")]
    ExtensionChild,
    /// A leaf that doesn't end at 64 nibbles, or another node at or beyond that depth.
    #[error("a path that doesn't end at 64 nibbles")]
    PathLength,
    /// A trie node referenced by its hash though it is shorter than 32 bytes.
    #[error("a node under 32 bytes that is referenced by its hash")]
    ShortHashed,
}

impl From<alloy_rlp::Error> for NodeError {
    fn from(error: alloy_rlp::Error) -> Self {
        Self::Rlp(error)
    }
}

/// What a trie node says, borrowed from its bytes.
#[expect(clippy::large_enum_variant, reason = "it lives for one step on the stack; a box would cost more")]
pub(super) enum NodeView<'a> {
    /// The rest of one key and its value.
    Leaf { path: NibblePath, value: &'a [u8] },
    /// Nibbles that everything below shares, then a branch.
    Extension { path: NibblePath, child: Reference<'a> },
    /// A child for each next nibble, two at least.
    Branch([Reference<'a>; RADIX]),
}

/// How a trie node points at a child.
#[derive(Clone, Copy)]
pub(super) enum Reference<'a> {
    /// There is none.
    Empty,
    /// The child is kept on its own; this is keccak256 of it.
    Hash(&'a [u8; 32]),
    /// The child itself, its whole RLP, under 32 bytes.
    Embedded(&'a [u8]),
}

struct Item<'a> {
    list: bool,
    payload: &'a [u8],
    whole: &'a [u8],
}

/// Decodes exactly one trie node, refusing every form but the canonical one, in the node itself and in all
/// that are embedded in it.
pub(super) fn decode(rlp: &[u8]) -> Result<NodeView<'_>, NodeError> {
    let view = decode_outer(rlp)?;
    // Each one lies inside a former one, so this ends; the list stays empty in nearly all tries.
    let mut embedded = Vec::new();
    view.list_embedded(&mut embedded);
    while let Some(inner) = embedded.pop() {
        decode_outer(inner)?.list_embedded(&mut embedded);
    }
    Ok(view)
}

impl<'a> NodeView<'a> {
    fn list_embedded(&self, list: &mut Vec<&'a [u8]>) {
        let children = match self {
            Self::Leaf { .. } => &[],
            Self::Extension { child, .. } => core::slice::from_ref(child),
            Self::Branch(children) => children.as_slice(),
        };
        list.extend(children.iter().filter_map(|child| match child {
            Reference::Embedded(rlp) => Some(*rlp),
            _ => None,
        }));
    }
}

fn decode_outer(rlp: &[u8]) -> Result<NodeView<'_>, NodeError> {
    let mut after = rlp;
    let mut payload = Header::decode_bytes(&mut after, true)?;
    if !after.is_empty() {
        return Err(NodeError::TrailingBytes);
    }
    let first = next_item(&mut payload)?;
    let second = next_item(&mut payload)?;
    if payload.is_empty() { decode_short(first, second) } else { decode_branch(first, second, payload) }
}

fn next_item<'a>(input: &mut &'a [u8]) -> Result<Item<'a>, NodeError> {
    let start = *input;
    if start.is_empty() {
        return Err(NodeError::ItemCount);
    }
    let header = Header::decode(input)?;
    let (payload, rest) = input.split_at(header.payload_length);
    *input = rest;
    Ok(Item { list: header.list, payload, whole: &start[..start.len() - rest.len()] })
}

fn decode_short<'a>(path: Item<'a>, content: Item<'a>) -> Result<NodeView<'a>, NodeError> {
    let decoded = if path.list { None } else { NibblePath::decode_hex_prefix(path.payload) };
    let (path, leaf) = decoded.ok_or(NodeError::HexPrefix)?;
    if !leaf {
        let child = reference(content)?;
        return match child {
            _ if path.is_empty() => Err(NodeError::EmptyExtension),
            Reference::Empty => Err(NodeError::EmptyChild),
            _ => Ok(NodeView::Extension { path, child }),
        };
    }
    if content.list {
        return Err(NodeError::ListValue);
    }
    if content.payload.is_empty() {
        return Err(NodeError::EmptyValue);
    }
    Ok(NodeView::Leaf { path, value: content.payload })
}

fn decode_branch<'a>(
    first: Item<'a>,
    second: Item<'a>,
    mut rest: &'a [u8],
) -> Result<NodeView<'a>, NodeError> {
    let mut children = [Reference::Empty; RADIX];
    children[0] = reference(first)?;
    children[1] = reference(second)?;
    for child in &mut children[2..] {
        *child = next_reference(&mut rest)?;
    }
    let value = next_item(&mut rest)?;
    if !rest.is_empty() {
        return Err(NodeError::ItemCount);
    }
    if value.list || !value.payload.is_empty() {
        return Err(NodeError::BranchValue);
    }
    if children.iter().filter(|child| !matches!(child, Reference::Empty)).count() < 2 {
        return Err(NodeError::LoneChild);
    }
    Ok(NodeView::Branch(children))
}

/// Reads a reference; the two forms that nearly all have take a short way.
fn next_reference<'a>(input: &mut &'a [u8]) -> Result<Reference<'a>, NodeError> {
    if let Some((&first, rest)) = input.split_first() {
        if first == EMPTY_STRING_CODE {
            *input = rest;
            return Ok(Reference::Empty);
        }
        if let (HASH_CODE, Some((hash, rest))) = (first, rest.split_first_chunk()) {
            *input = rest;
            return Ok(Reference::Hash(hash));
        }
    }
    reference(next_item(input)?)
}

fn reference(item: Item<'_>) -> Result<Reference<'_>, NodeError> {
    if item.list {
        return if item.whole.len() < HASHED_FROM_BYTES {
            Ok(Reference::Embedded(item.whole))
        } else {
            Err(NodeError::LongEmbedded)
        };
    }
    if item.payload.is_empty() {
        return Ok(Reference::Empty);
    }
    item.payload.try_into().map(Reference::Hash).map_err(|_| NodeError::Reference)
}

/// A trie node being changed, or made, by an update.
#[derive(Debug)]
pub(super) enum Node {
    Leaf { path: NibblePath, value: Vec<u8> },
    Extension { path: NibblePath, child: Link },
    Branch(Box<[Link; RADIX]>),
}

/// An owned [`Reference`].
#[derive(Debug, Default)]
pub(super) enum Link {
    #[default]
    Empty,
    Hash(B256),
    Embedded(Vec<u8>),
}

impl From<NodeView<'_>> for Node {
    fn from(view: NodeView<'_>) -> Self {
        match view {
            NodeView::Leaf { path, value } => Self::Leaf { path, value: value.to_vec() },
            NodeView::Extension { path, child } => Self::Extension { path, child: child.into() },
            NodeView::Branch(children) => Self::Branch(Box::new(children.map(Link::from))),
        }
    }
}

impl From<Reference<'_>> for Link {
    fn from(reference: Reference<'_>) -> Self {
        match reference {
            Reference::Empty => Self::Empty,
            Reference::Hash(hash) => Self::Hash(B256::from(hash)),
            Reference::Embedded(rlp) => Self::Embedded(rlp.to_vec()),
        }
    }
}

impl Node {
    /// The node's RLP.
    pub(super) fn encode(&self) -> Vec<u8> {
        // A branch of sixteen hashes takes 532 bytes; one allocation holds any node of a storage trie.
        let mut payload = Vec::with_capacity(544);
        match self {
            Self::Leaf { path, value } => {
                path.encode_hex_prefix(true, &mut payload);
                alloy_rlp::Encodable::encode(value.as_slice(), &mut payload);
            }
            Self::Extension { path, child } => {
                path.encode_hex_prefix(false, &mut payload);
                child.encode(&mut payload);
            }
            Self::Branch(children) => {
                children.iter().for_each(|child| child.encode(&mut payload));
                payload.push(EMPTY_STRING_CODE);
            }
        }
        let header = Header { list: true, payload_length: payload.len() };
        let mut rlp = Vec::with_capacity(header.length_with_payload());
        header.encode(&mut rlp);
        rlp.extend_from_slice(&payload);
        rlp
    }
}

impl Link {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Empty => out.push(EMPTY_STRING_CODE),
            Self::Hash(hash) => {
                out.push(HASH_CODE);
                out.extend_from_slice(hash.as_slice());
            }
            Self::Embedded(rlp) => out.extend_from_slice(rlp),
        }
    }
}
