//! windlass-protocol
#![no_std]
extern crate alloc;

pub mod limits;
pub mod trie;
