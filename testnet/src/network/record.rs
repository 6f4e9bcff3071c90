//! What a kept network is made of, so that the same one comes up again.
//!
//! Owns the record's form and that it is written whole or not at all. Keys, mirrors and the chain have files
//! of their own; what is here says which of them belong together.

use super::NetworkError;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// Name of the record's file.
const FILE: &str = "network.json";

/// What a kept network is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// The nodes of the committee, which a spec fixes.
    pub(super) nodes: usize,
    /// The chain, unless it is the embedded one.
    pub(super) rpc_url: Option<String>,
    /// The port each node listens on, once it has one.
    pub(super) ports: Vec<Option<u16>>,
    /// The same over QUIC.
    #[serde(default)]
    pub(super) udp_ports: Vec<Option<u16>>,
    /// The operator's fleet, once it is made.
    pub(super) fleet: Option<u64>,
    /// The devices that are enrolled and named.
    pub(super) devices: Vec<String>,
}

impl Record {
    /// The record in `directory`; `None` in a new one.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, NetworkError> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(NetworkError::file(&path, error)),
        };
        let damaged = |error: serde_json::Error| NetworkError::file(&path, error.into());
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }

    /// Writes it to `directory`.
    pub(super) fn write(&self, directory: &Path) -> Result<(), NetworkError> {
        let (path, new) = (directory.join(FILE), directory.join("network.json.new"));
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| NetworkError::file(&path, error.into()))?;
        fs::write(&new, text).map_err(|error| NetworkError::file(&new, error))?;
        // A rename replaces the former record in one step.
        fs::rename(&new, &path).map_err(|error| NetworkError::file(&path, error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_survives_and_a_damaged_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(directory.path()).unwrap(), None);
        let devices = vec!["device-1".to_owned()];
        let record = Record {
            nodes: 2,
            ports: vec![Some(7), None],
            udp_ports: vec![None, Some(8)],
            fleet: Some(1),
            devices,
            rpc_url: None,
        };
        record.write(directory.path()).unwrap();
        assert_eq!(Record::read(directory.path()).unwrap(), Some(record));
        fs::write(directory.path().join(FILE), "{").unwrap();
        assert!(Record::read(directory.path()).unwrap_err().to_string().contains(FILE));
    }
}
