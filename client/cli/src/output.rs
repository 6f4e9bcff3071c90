//! What a command prints: one result on standard output, as text or as one JSON object; streams of events as lines.

use crate::failure::Failure;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Output {
    /// JSON instead of text.
    pub(crate) json: bool,
}

impl Output {
    /// Prints a result, or one event of a stream of them.
    ///
    /// # Errors
    /// [`Failure`] when standard output fails; quiet when its reader went away.
    pub(crate) fn print(self, result: &(impl Serialize + Display)) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = if self.json {
            let line = serde_json::to_string(result).map_err(|error| Failure::fault("output", error))?;
            writeln!(out, "{line}")
        } else {
            writeln!(out, "{result}")
        };
        written.and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
    }

    /// Says what is going on, to people only: on standard error, and not at all with JSON.
    pub(crate) fn note(self, line: &str) {
        if !self.json {
            // A closed standard error only means that nobody listens.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}
