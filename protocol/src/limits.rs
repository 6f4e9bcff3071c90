//! Bounds of everything a stranger can send, each with its unit and reason.

// Proofs. A walk down a trie of 10^9 hashed keys passes 8 to 9 hashed trie nodes of at most 532 bytes, so these
// leave room to spare and still keep what a stranger can make a device hash within a few hundred microseconds.

/// Hashed trie nodes on the path from a root to one key.
pub const MAX_PROOF_LEVELS: usize = 16;
/// Bytes of all trie nodes on the path from a root to one key.
pub const MAX_PROOF_BYTES: usize = 16 * 1024;
/// Keys proven by one pool of trie nodes: the slots of one bundle.
pub const MAX_PROOF_KEYS: usize = 24;
/// Bytes of all trie nodes of one pool: a bundle, which fits one frame.
pub const MAX_PROOF_POOL_BYTES: usize = 64 * 1024;
