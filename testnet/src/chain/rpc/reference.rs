//! Which block a call means: a tag, a number, a hash, or the object of EIP-1898.

use super::argument::{Argument, Quantity, parse_quantity};
use super::caller::Seen;
use super::error::RpcError;
use crate::chain::block::Block;
use crate::chain::state::StateError;
use serde_json::Value;
use std::sync::Arc;
use windlass_protocol::B256;

/// How a call names a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockReference {
    /// The first block.
    Earliest,
    /// The newest block.
    Latest,
    /// The newest block that won't be taken off in the ordinary course: here, the last final one.
    Safe,
    /// The last final block.
    Finalized,
    /// The block in the making.
    Pending,
    /// By number.
    Number(u64),
    /// By hash; perhaps only if it is on the chain.
    Hash {
        /// The hash.
        hash: B256,
        /// Whether a block that was taken off counts as missing.
        canonical: bool,
    },
}

/// A block by its number or a tag, and nothing else.
pub(super) struct ByNumber(pub(super) BlockReference);

impl Argument for ByNumber {
    fn read(value: Value) -> Result<Self, String> {
        BlockReference::read_number(value).map(Self)
    }
}

/// A block by its hash, and nothing else.
pub(super) struct ByHash(pub(super) BlockReference);

impl Argument for ByHash {
    fn read(value: Value) -> Result<Self, String> {
        B256::read(value).map(|hash| Self(BlockReference::Hash { hash, canonical: false }))
    }
}

impl Argument for BlockReference {
    fn read(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Self::parse(&text),
            Value::Object(mut members) => {
                let canonical =
                    members.remove("requireCanonical").map(bool::read).transpose()?.unwrap_or(false);
                let (number, hash) = (members.remove("blockNumber"), members.remove("blockHash"));
                if let Some(unknown) = members.keys().next() {
                    return Err(format!("unknown member '{unknown}' of a block reference"));
                }
                match (number, hash) {
                    (Some(number), None) => Self::read_number(number),
                    (None, Some(hash)) => Ok(Self::Hash { hash: B256::read(hash)?, canonical }),
                    (Some(_), Some(_)) => Err("cannot specify both blockHash and blockNumber".to_owned()),
                    (None, None) => Err("a block reference needs blockHash or blockNumber".to_owned()),
                }
            }
            other => Err(format!("expected a block tag, number or hash, got {other}")),
        }
    }
}

impl BlockReference {
    fn read_number(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) if text.len() != 66 => Self::parse(&text),
            other => Quantity::read(other).map(|Quantity(number)| Self::Number(number)),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            "safe" => Ok(Self::Safe),
            "finalized" => Ok(Self::Finalized),
            "pending" => Ok(Self::Pending),
            hash if hash.len() == 66 => {
                B256::read(Value::String(hash.to_owned())).map(|hash| Self::Hash { hash, canonical: false })
            }
            number => {
                let number = parse_quantity(number)?;
                number.try_into().map(Self::Number).map_err(|_| "block number larger than 64 bits".to_owned())
            }
        }
    }

    /// The block it means; the pending one counts as the newest. `None` if there is none.
    pub(super) fn find(&self, seen: &Seen<'_>) -> Result<Option<Arc<Block>>, StateError> {
        match *self {
            Self::Earliest => seen.block(0),
            Self::Latest | Self::Pending => seen.latest().map(Some),
            Self::Safe | Self::Finalized => seen.block(seen.finalized()),
            Self::Number(number) => seen.block(number),
            Self::Hash { hash, canonical } => {
                let fits = !canonical || seen.is_canonical(&hash)?;
                if fits { seen.block_by_hash(&hash) } else { Ok(None) }
            }
        }
    }

    /// The block it means, for calls that can't do without.
    pub(super) fn require(&self, seen: &Seen<'_>) -> Result<Arc<Block>, RpcError> {
        match (self.find(seen)?, self) {
            (Some(block), _) => Ok(block),
            (None, Self::Hash { hash, canonical: true }) if seen.block_by_hash(hash)?.is_some() => {
                Err(RpcError::server(format!("hash {hash} is not currently canonical")))
            }
            (None, _) => Err(RpcError::no_block()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn every_form_is_read() {
        let hash = B256::repeat_byte(7);
        let read = |value| BlockReference::read(value).unwrap();
        assert_eq!(read(json!("latest")), BlockReference::Latest);
        assert_eq!(read(json!("safe")), BlockReference::Safe);
        assert_eq!(read(json!("0x10")), BlockReference::Number(16));
        assert_eq!(read(json!(hash)), BlockReference::Hash { hash, canonical: false });
        assert_eq!(read(json!({"blockNumber": "0x10"})), BlockReference::Number(16));
        let canonical = json!({"blockHash": hash, "requireCanonical": true});
        assert_eq!(read(canonical), BlockReference::Hash { hash, canonical: true });
    }

    #[test]
    fn other_forms_are_refused() {
        let hash = B256::ZERO;
        for wrong in [
            json!(7),
            json!("newest"),
            json!("0x01"),
            json!(""),
            json!({}),
            json!({"blockHash": hash, "blockNumber": "0x1"}),
            json!({"blockNumber": hash}),
            json!({"blockHash": "0x1"}),
            json!({"blockHash": hash, "extra": 1}),
        ] {
            assert!(BlockReference::read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
