//! The Merkle-Patricia trie of the yellow paper (appendix D), for 32-byte hashed keys: checking proofs,
//! and keeping a trie up to date and provable over any [`NodeStore`].
//!
//! Owns the form of a trie node, the walk from a root to a key and the codecs of what account and storage
//! leaves hold. It never hashes a key (callers pass keccak256 of the address or the slot), never does
//! input or output itself, and never believes a trie node that isn't reached by its hash.
//!
//! | file | holds |
//! | --- | --- |
//! | `path` | a path of nibbles, and its hex-prefix form inside trie nodes |
//! | `node` | one trie node: strict decoding, encoding |
//! | `walk` | one step from a trie node towards a key, shared by verifier and store |
//! | `verify`, `pool` | proofs from strangers |
//! | `store` | where trie nodes are kept |
//! | `read`, `update` | look-ups and proofs, changes, over a store |
//! | `ordered` | roots of transaction and receipt lists |
//! | `value` | what account and storage leaves hold |

use alloy_primitives::{B256, b256};

mod node;
mod ordered;
mod path;
mod pool;
mod read;
mod store;
mod update;
mod value;
mod verify;
mod walk;

pub use node::NodeError;
pub use ordered::ordered_root;
pub use path::NibblePath;
pub use pool::ProofPool;
pub use read::{lookup, prove, prove_all, root};
pub use store::{MemoryStore, NodeStore, TrieError};
pub use update::update;
pub use value::{Account, EMPTY_CODE_HASH, ValueError, decode_slot_value, encode_slot_value, slot_change};
pub use verify::{ProofError, verify_multiproof, verify_proof};

/// Which trie a node belongs to: zero is the account trie; keccak256 of an account's address is that
/// account's storage trie.
pub type TrieId = B256;

/// The account trie.
pub const ACCOUNT_TRIE: TrieId = B256::ZERO;

/// Root of a trie without any leaf: keccak256 of the RLP of the empty string.
pub const EMPTY_ROOT: B256 = b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");

#[cfg(test)]
mod tests;
