//! Everything a developer or a test needs to run Windlass on one machine: an embedded EVM chain.
//!
//! Never part of a deployment: its keys are public and its chain has one maker.

pub mod chain;
