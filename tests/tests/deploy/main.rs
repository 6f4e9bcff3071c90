//! Deploying the contracts with `windlass chain deploy`: what goes wrong is said on one line, and a second run completes.
//!
//! The chain is the embedded one, behind a gate that cuts off, changes answers or falls silent.

#![allow(missing_docs)]

mod anvil;
mod desk;
mod gate;
mod interruptions;
mod refusals;
