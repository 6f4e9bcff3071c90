//! What the node asks of a chain, and how an answer may fail.
//!
//! Owns the seam: the follower knows [`ChainSource`] and nothing of JSON-RPC. Nothing here is believed beyond
//! its hash: headers are decoded from their RLP, account proofs are verified, logs are checked by root.
//!
//! | file | holds |
//! | --- | --- |
//! | `providers` | several providers as one source: which is asked, which is left, what they say of each other |
//! | `provider` | one of them over JSON-RPC |
//! | `transact` | a transaction of an account that the operator gave the node |
//! | `eligibility` | what a chain must show at the start |

mod eligibility;
mod provider;
mod providers;
mod transact;

pub use provider::BadUrl;
pub use providers::{ProviderHealth, Providers};
pub use transact::{Included, Ledger, Signed, Tried};

use std::future::Future;
use windlass_protocol::header::{Header, HeaderError};
use windlass_protocol::{B256, Bytes};

/// A header and the RLP that it was decoded from: its hash is the RLP's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// The decoded fields.
    pub header: Header,
    /// The header's RLP.
    pub rlp: Bytes,
}

impl Block {
    /// Decodes a header's RLP.
    pub fn decode(rlp: Bytes) -> Result<Self, HeaderError> {
        Ok(Self { header: Header::decode(&rlp)?, rlp })
    }
}

/// A slot, and the value it was set to.
pub type Change = (B256, B256);

/// Why the chain didn't answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The provider serves another chain than the spec pins. Ours to fix: the configuration.
    #[error(
        "provider {url} serves another chain: its {what} is {found}, the chain spec pins {pinned}; set `providers` to the chain of the spec, or use another spec"
    )]
    OtherChain {
        /// Which provider.
        url: String,
        /// What differs.
        what: &'static str,
        /// The provider's.
        found: String,
        /// The spec's.
        pinned: String,
    },
    /// The chain's headers don't hash as Ethereum's do: nothing about it can be proven.
    #[error(
        "provider {url}: block {number} says its hash is {claimed}, its header has {actual}; this chain is not eligible"
    )]
    Ineligible {
        /// Which provider.
        url: String,
        /// The block.
        number: u64,
        /// The hash in the answer.
        claimed: B256,
        /// The hash of the header.
        actual: B256,
    },
    /// The chain's state can't be proven to a device.
    #[error("provider {url}: its proof of {what} doesn't verify ({reason}); this chain is not eligible")]
    Unproven {
        /// Which provider.
        url: String,
        /// Of what.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The range has more logs than a provider gives at once: ask for less.
    #[error("provider {url} refuses so many logs at once: {reason}")]
    TooMuch {
        /// Which provider.
        url: String,
        /// Its words.
        reason: String,
    },
    /// No provider answered, or none knows the block now. Asking later may help.
    #[error("{0}")]
    Unavailable(String),
}

impl SourceError {
    /// Whether the node should not be started like this. Once it runs, it is one provider's failure.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::OtherChain { .. } | Self::Ineligible { .. } | Self::Unproven { .. })
    }
}

/// Answers of a source.
pub type Answer<T> = Result<T, SourceError>;

/// A chain, as far as the node asks about it.
pub trait ChainSource: Send + Sync + 'static {
    /// The newest block.
    fn latest(&self) -> impl Future<Output = Answer<Block>> + Send;

    /// The newest final block by the chain's own word, `None` before there is one.
    fn finalized(&self) -> impl Future<Output = Answer<Option<Block>>> + Send;

    /// The canonical block of this number.
    fn by_number(&self, number: u64) -> impl Future<Output = Answer<Option<Block>>> + Send;

    /// The block with this hash, canonical or not.
    fn by_hash(&self, hash: B256) -> impl Future<Output = Answer<Block>> + Send;

    /// What the registry's slots were set to in the block with this hash, in order.
    fn changes(&self, hash: B256) -> impl Future<Output = Answer<Vec<Change>>> + Send;

    /// What the registry's slots were set to in these canonical blocks, both included, in order.
    fn changes_between(&self, from: u64, to: u64) -> impl Future<Output = Answer<Vec<Change>>> + Send;

    /// The proof of the registry's account after the block with this hash, root first.
    fn account(&self, hash: B256) -> impl Future<Output = Answer<Vec<Bytes>>> + Send;

    /// How many independent providers there are to compare.
    fn independent(&self) -> usize;

    /// What the independent providers that hold the block of this number to be final themselves have there, compared
    /// with this hash. Takes a moment, not a provider's deadline.
    fn cross_check(&self, number: u64, hash: B256) -> impl Future<Output = CrossCheck> + Send;

    /// What was answered turned out to be wrong, for this reason: prefer another provider from now on.
    fn distrust(&self, reason: &str);
}

/// What independent providers say about one block. Who doesn't answer, or doesn't call it final, says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CrossCheck {
    /// So many have the same block as final.
    pub confirmations: usize,
    /// So many have another one as final.
    pub contradictions: usize,
}
