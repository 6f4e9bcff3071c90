//! The Merkle-Patricia trie.
