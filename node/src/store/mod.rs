//! The node's data directory: typed column families over one RocksDB, and the mirror of the registry in it.
//!
//! Owns every byte on disk and how it is encoded. It never talks to a chain or a peer, and never decides
//! what to write: the follower, the attester and the route book do.
//!
//! | file | holds |
//! | --- | --- |
//! | `column` | the column families, each with the types of its keys and values |
//! | `options` | how RocksDB is set up |
//! | `database` | opening, point reads, scans, batches |
//! | `migrate` | bringing a directory of an older release up to date |
//! | `owner` | whose a directory is, and which renewed spec may take it over |
//! | `mirror` | applying a block to the mirror, and its pruning |
//! | `rewind` | taking the mirror back to a proven height |
//! | `sides` | building a mirror beside the one that is read, and changing over |
//! | `upper` | the trie nodes of the upper levels in memory |
//! | `view` | the mirror at one height: slots, trie nodes, proofs |

mod column;
mod database;
mod migrate;
mod mirror;
mod options;
mod owner;
mod rewind;
mod sides;
mod upper;
mod view;

pub use column::{
    Accounts, Column, Cursor, Family, Fault, Faults, Floor, Headers, KeptRoute, Position, Routes, Schema,
    Signed, SignedHead, SpecBytes, SpecHash, Tail, TailBlock,
};
pub use database::{Batch, Durability, Store, StoreError, StoreSize};
pub use mirror::{ApplyError, FinalBlock};
pub use sides::request_rebuild;
pub use view::{View, ViewError};

#[cfg(test)]
mod tests;
