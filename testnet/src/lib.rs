//! Everything a developer or a test needs to run Windlass on one machine: an embedded EVM chain, and a
//! whole network of chain, contracts, nodes and devices from one command.
//!
//! Never part of a deployment: its keys are public and its chain has one maker.

pub mod chain;
pub mod cli;
mod directory;
pub mod network;

pub use directory::DirectoryError;
