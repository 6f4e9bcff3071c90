//! Real processes on an internet of their own: homes behind gateways, blocked and changing networks, bad roads.
//!
//! Each scenario runs apart, in namespaces that go with it (`windlass_tests::internet`).

#![allow(missing_docs)]

mod direct;
mod gateways;
mod moves;
mod opened;
mod relayed;
mod roads;
mod sieges;
