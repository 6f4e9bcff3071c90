//! What can go wrong with a local network.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Why the network does not start or run.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A file or program.
    #[error("cannot use {}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The directory to keep the network in.
    #[error(transparent)]
    Directory(#[from] crate::DirectoryError),
    /// The directory holds a network of another size.
    #[error("{} holds a network of {found} nodes, not {asked}: start it with --nodes {found}, or choose another directory", .directory.display())]
    OtherNodes {
        /// The directory.
        directory: PathBuf,
        /// Nodes that its committee has.
        found: usize,
        /// Nodes that were asked for.
        asked: usize,
    },
    /// The directory holds a network on another chain.
    #[error("{} holds a network on another chain ({found}): start it with that one, or choose another directory", .directory.display())]
    OtherChain {
        /// The directory.
        directory: PathBuf,
        /// The chain that it is on.
        found: String,
    },
    /// A part of a former network that was ended still runs.
    #[error("the {part} of an earlier network on this directory has not ended; its log is {}", .log.display())]
    StillRunning {
        /// Which.
        part: String,
        /// Where its log is.
        log: PathBuf,
    },
    /// A key file that can't be made.
    #[error(transparent)]
    CreateKey(#[from] windlass_keyfile::CreateError),
    /// A key file from before that can't be read.
    #[error(transparent)]
    ReadKey(#[from] windlass_keyfile::ReadError),
    /// A part ended, or did not say in time that it is ready.
    #[error("{part} ended or did not start ({}); the end of {}:\n{tail}", status_text(status), .log.display())]
    Part {
        /// Which.
        part: String,
        /// How it ended.
        status: Option<ExitStatus>,
        /// Where its log is.
        log: PathBuf,
        /// The log's end.
        tail: String,
    },
    /// A ready line without what it must say.
    #[error("{part} said it is ready without saying its {field}: {line}")]
    ReadyLine {
        /// Which.
        part: String,
        /// What is missing.
        field: String,
        /// What it said.
        line: String,
    },
    /// A command of `windlass` failed while the network was set up.
    #[error("`windlass {command}` failed: {message}")]
    Command {
        /// The arguments.
        command: String,
        /// What it printed.
        message: String,
    },
    /// A node that does not get to an attested head.
    #[error("{part} serves no attested head; its health is {said}; the end of {}:\n{tail}", .log.display())]
    Unhealthy {
        /// Which.
        part: String,
        /// Its health.
        said: String,
        /// Where its log is.
        log: PathBuf,
        /// The log's end.
        tail: String,
    },
    /// More nodes or devices than are made.
    #[error("{asked} {what} are more than the {most} this makes, or none at all")]
    Count {
        /// Nodes or devices.
        what: &'static str,
        /// How many were asked for.
        asked: usize,
        /// The bound.
        most: usize,
    },
}

impl NetworkError {
    pub(super) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}

fn status_text(status: &Option<ExitStatus>) -> String {
    status.map_or_else(|| "no exit status".to_owned(), |status| status.to_string())
}
