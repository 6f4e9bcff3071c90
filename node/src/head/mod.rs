//! Heads: what this node vouches for, what others do, and which head it serves under.
//!
//! Owns the signing record, the collected attestations and the choice of the served head. It never follows
//! the chain itself and never answers clients.
//!
//! | file | holds |
//! | --- | --- |
//! | `book` | attestations of recent heights; pure |
//! | `signing` | what may be signed, and the record of it on disk |
//! | `attester` | the task that signs, collects and chooses the served head |
//! | `gossip` | the task that carries attestations between nodes |
//! | `served` | a head that answers can be proven under |

mod attester;
mod book;
mod gossip;
mod served;
mod signing;

pub use attester::{AttestError, Attester, Heard, SigningState};
pub use book::{Book, Observed};
pub use gossip::{Gossip, Peer};
pub use served::ServedHead;
pub use signing::{SignError, Signing};
