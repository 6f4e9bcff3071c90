//! The real `windlass-node`, as a process, against a made-up chain over JSON-RPC: killed at any moment, on a
//! disk that fills, on files that were cut.
#![allow(clippy::unwrap_used)]

// The made-up chain is the unit tests' own; it names the crate's modules as they do.
use windlass_node::{chain, follower, head, serve, store};

#[path = "../../src/testing/mod.rs"]
mod testing;

mod clock {
    use std::time::{SystemTime, UNIX_EPOCH};

    pub(crate) fn unix_seconds() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }
}

mod disk;
mod kill;
mod renewal;
mod snapshot;
mod world;
