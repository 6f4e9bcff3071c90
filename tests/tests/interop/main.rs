//! The embedded chain beside other people's: compared with anvil, used by their clients, walked block by
//! block with their implementations of the formats.
//!
//! Needs what `make peers` installs; without it each test says that it was skipped, and fails with `CI=true`.
#![allow(missing_docs)]

mod assembler;
mod clients;
mod differential;
mod explorer;
mod history;
mod libp2p;
mod mirror;
mod network;
mod pylibp2p;
mod refusals;
mod registry;
mod rpc;
mod script;
mod second;
mod twins;
