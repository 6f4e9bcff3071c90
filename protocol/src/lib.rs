//! What every part of Windlass must agree on: keys, addresses, names, registry slots and records,
//! proofs, trusted heads, signed routes, wire messages and the rules of authorisation.
//!
//! The crate is pure: no sockets, no clock, no files, no threads, `no_std` with `alloc`. Time and
//! randomness arrive as arguments; the same inputs give the same outputs. Everything that checks
//! evidence is a function `verify_*` whose `Verified…` result nothing else can construct.
#![no_std]
extern crate alloc;

pub mod address;
pub mod authorise;
pub mod bundle;
pub mod committee;
pub mod consent;
pub mod evidence;
pub mod grant;
pub mod head;
pub mod header;
pub mod keys;
pub mod limits;
pub mod message;
pub mod name;
pub mod peer_id;
pub mod question;
pub mod record;
pub mod route;
pub mod service;
pub mod slot;
pub mod spec;
pub mod ticket;
pub mod trie;
pub mod whereabouts;
pub mod wire;

pub use address::{DeviceId, KeyAddress, parse_address};
pub use alloy_primitives::{self, Address, B256, Bytes, U256, keccak256};
pub use keys::{PublicKey, SecretKey, Signature};
pub use name::Name;
pub use service::Service;
