//! The node's data directory: typed column families over one RocksDB, and the mirror of the registry in it.
//!
//! Owns every byte on disk and how it is encoded. It never talks to a chain or a peer, and never decides
//! what to write: the follower, the attester and the route book do.
//!
//! | file | holds |
//! | --- | --- |
//! | `family` | the column families, and the two mirrors |
//! | `column` | their typed entries: keys and values |
//! | `version` | what stands and what stood before, on disk and at a height |
//! | `options` | how RocksDB is set up |
//! | `database` | opening, point reads, scans |
//! | `batch` | what is written whole or not at all |
//! | `error` | how the directory fails, and what to do about it |
//! | `migrate` | bringing a directory of an older release up to date |
//! | `owner` | whose a directory is, and which renewed spec may take it over |
//! | `mirror` | applying a block to the mirror, and its pruning |
//! | `rewind` | taking the mirror back to a proven height |
//! | `sides` | building a mirror beside the one that is read, and changing over |
//! | `upper` | the trie nodes of the upper levels in memory |
//! | `view` | the mirror at one height: slots, trie nodes, proofs |

mod batch;
mod column;
mod database;
mod error;
mod family;
mod migrate;
mod mirror;
mod options;
mod owner;
mod rewind;
mod sides;
mod upper;
mod version;
mod view;

pub use batch::{Batch, Durability};
pub use column::{
    Accounts, Column, Cursor, Fault, Faults, Floor, Headers, KeptRoute, Position, Routes, Schema, Signed,
    SignedHead, SpecBytes, SpecHash, Tail, TailBlock,
};
pub use database::{Store, StoreSize};
pub use error::StoreError;
pub use family::Family;
pub use mirror::{ApplyError, FinalBlock};
pub use sides::request_rebuild;
pub use view::{View, ViewError};

#[cfg(test)]
mod tests;
