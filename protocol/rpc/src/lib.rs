//! JSON-RPC of chain providers over http and https: the transport that node and command line share, and the transactions
//! that they send over it.
//!
//! It owns what is between a URL and an answer: certificates, the access key in the URL, the bound on an answer's
//! length, and what each way of failing is called. It never follows a redirect, and nothing it says repeats more of
//! a URL than scheme, host and port, since what follows may hold an access key. Deadlines are the caller's.

mod error;
mod http;
#[cfg(test)]
mod tests;
mod tls;
mod transaction;

pub use error::{HttpError, UrlError, one_line};
pub use http::BoundedHttp;
pub use transaction::{SignedTransaction, is_known_already};
