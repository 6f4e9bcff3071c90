//! Heads: what this node vouches for, what others do, and which head it serves under.
//!
//! Owns the signing record, the collected attestations and the choice of the served head. It never follows
//! the chain itself and never answers clients.
//!
//! | file | holds |
//! | --- | --- |
//! | `challenge` | devices' nonces that members are asked to sign |
//! | `book` | attestations of recent heights; pure |
//! | `signing` | what may be signed, and the record of it on disk |
//! | `attester` | the task that signs, collects and chooses the served head |
//! | `gossip` | the task that carries attestations between nodes |
//! | `lineage` | the task that knows which committee is in office in which epoch |
//! | `steps` | heads that are kept for devices that slept, one of each epoch |
//! | `recovery` | the task that asks peers for kept heads which are missing |
//! | `served` | a head that answers can be proven under |
//! | `vouched` | what the committee says where chain providers contradict each other |

mod attester;
mod book;
mod challenge;
mod gossip;
mod lineage;
mod recovery;
mod served;
mod signing;
pub(crate) mod steps;
mod vouched;

pub use attester::{AttestError, Attester, Heard, SigningState};
pub use book::{Book, Observed};
pub use challenge::{Challenger, Challenges};
pub use gossip::{Gossip, Peer};
pub use lineage::{Genealogist, KnownLineage, Lineage, LineageError, ListSource};
pub use recovery::{AskPeers, Recovery, StepSource};
pub use served::ServedHead;
pub use signing::{SignError, Signing};
pub use vouched::{KnownVouched, Undecided, Vouched};

#[cfg(test)]
mod tests;
