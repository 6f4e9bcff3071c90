//! The chain follower: the only writer of the mirror.
//!
//! Owns the way from the chain to the store: walking by parent hash, the tail of unfinalised blocks, moving
//! final ones into the base, account proofs while blocks are new, the root check, and what follows when it
//! fails. It never signs, serves or talks to peers; what it knows it says through one watch channel.
//!
//! | file | holds |
//! | --- | --- |
//! | `state` | what the follower tells everybody else |
//! | `tail` | the unfinalised blocks, in memory and in the store |
//! | `catch_up` | what was missed, in ranges fetched ahead |
//! | `step` | one round: fetch, extend the tail, finalise |
//! | `agree` | which final block is believed, where providers contradict each other |
//! | `error` | how a round fails, and what it may find to be wrong |
//! | `rebuild` | a mirror built beside the one that is read, and the change-over |
//! | `resolve` | what becomes of the mirror when a round found something wrong |
//! | `task` | rounds in time, with pauses after failures |

mod agree;
mod catch_up;
mod error;
mod rebuild;
mod resolve;
mod state;
mod step;
mod tail;
mod task;

pub use error::FollowError;
pub use state::{FinalHead, MirrorState, Phase, Recent, Unfinal};
pub use step::Follower;
pub use task::run;

#[cfg(test)]
mod tests;
