//! What peers may ask: proofs, watching, routes.
//!
//! Owns the three protocols' streams, their limits and the routes that devices publish. It reads the mirror at
//! the served head, never writes it, and never says anything it can't prove.
//!
//! | file | holds |
//! | --- | --- |
//! | `streams` | a task per stream, bounded for each peer before it is for all |
//! | `answer` | from questions to a proven response; no sockets |
//! | `resolver` | `/windlass/resolve/1` |
//! | `watch`, `watcher`, `news` | `/windlass/watch/1`: its streams; what one client watches and what it is owed; what all are told |
//! | `routes`, `route_book`, `route_judge` | `/windlass/route/1`: its streams; which route is kept; which is one |

mod answer;
mod news;
mod resolver;
mod route_book;
mod route_judge;
mod routes;
pub(crate) mod streams;
mod watch;
mod watcher;

pub use answer::{AnswerError, Answers};
pub use resolver::run as run_resolver;
pub use route_book::RouteBook;
pub use route_judge::RouteJudge;
pub use routes::run as run_routes;
pub use watch::run as run_watch;

use crate::head::ServedHead;
use std::sync::Arc;

/// The served head, as the tasks here see it.
pub type Served = tokio::sync::watch::Receiver<Option<Arc<ServedHead>>>;

#[cfg(test)]
mod tests;
