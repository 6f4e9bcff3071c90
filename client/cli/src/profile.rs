//! The profile: which chain, which nodes, which key, so that commands needn't repeat them.
//!
//! A TOML file; a misspelt key is an error. Relative paths in it are meant from its own folder. What is given on
//! the command line wins over it.

use crate::limits::MAX_PROFILE_BYTES;
use crate::state::read_bounded;
use serde::Deserialize;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// What a profile may hold; everything is optional, and commands say what they miss.
///
/// ```toml
/// spec = "local.spec"                       # the chain spec's file
/// publisher = "0x…"                         # who must have signed it: the root of trust
/// nodes = ["/ip4/…/tcp/…/p2p/…"]            # nodes to ask, each with its peer id
/// rpc = "http://127.0.0.1:8545"             # for commands that send transactions
/// key = "device.json"                       # an encrypted key file
/// device_id = "0x…"                         # only after a rotation: the id isn't the key's address then
/// passphrase_file = "passphrase"            # instead of the prompt
/// state_dir = "state"                       # default: $XDG_STATE_HOME/windlass
/// max_age = 600                             # seconds for which proofs count
/// upnp = true                               # have the router open ports for those who were let in
/// lan = true                                # find, and be found, in the local network
/// punch = false                             # stay on relays, also with devices that have let this one in
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// The chain spec's file.
    pub(crate) spec: Option<PathBuf>,
    /// The address that must have signed the spec.
    pub(crate) publisher: Option<String>,
    /// Multiaddrs of nodes, each ending in `/p2p/<peer id>`.
    #[serde(default)]
    pub(crate) nodes: Vec<String>,
    /// The chain's JSON-RPC URL.
    pub(crate) rpc: Option<String>,
    /// The key file.
    pub(crate) key: Option<PathBuf>,
    /// The device id, if it isn't the key's address.
    pub(crate) device_id: Option<String>,
    /// The file whose first line is the key file's passphrase.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Where the highest verified head is kept.
    pub(crate) state_dir: Option<PathBuf>,
    /// Seconds for which proofs count.
    pub(crate) max_age: Option<u64>,
    /// Whether to try for direct connections with devices that have let this one in.
    pub(crate) punch: Option<bool>,
    /// Whether to have the router open ports.
    pub(crate) upnp: Option<bool>,
    /// Whether to find other devices in the local network, and be found there.
    pub(crate) lan: Option<bool>,
}

/// Why there is no usable profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// It was asked for and isn't there.
    #[error("no profile at {0}: check --profile or WINDLASS_PROFILE")]
    Missing(PathBuf),
    /// It can't be read.
    #[error("can't read the profile {path}: {source}")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It isn't TOML, or has a key that no profile has.
    #[error("the profile {path}{place}: {reason}")]
    Malformed {
        /// Where.
        path: PathBuf,
        /// Which line, as `, line 3`.
        place: String,
        /// What is wrong.
        reason: String,
    },
}

/// Where to look for a profile, the first that applies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// `--profile`.
    pub(crate) given: Option<PathBuf>,
    /// `WINDLASS_PROFILE`.
    pub(crate) environment: Option<PathBuf>,
    /// The folder with `windlass.toml`.
    pub(crate) here: PathBuf,
    /// The user's configuration folder.
    pub(crate) config: Option<PathBuf>,
}

impl Places {
    /// As the process's arguments and environment say.
    pub(crate) fn of_process(given: Option<PathBuf>) -> Self {
        let config = folder("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("windlass"));
        Self { given, environment: variable("WINDLASS_PROFILE"), here: PathBuf::from("."), config }
    }
}

impl Profile {
    /// Reads the profile of the first place that applies; an empty one when there is none anywhere.
    ///
    /// # Errors
    /// [`ProfileError`]; a profile that was asked for must be there.
    pub(crate) fn find(places: &Places) -> Result<Self, ProfileError> {
        if let Some(path) = places.given.as_ref().or(places.environment.as_ref()) {
            return Self::read(path)?.ok_or_else(|| ProfileError::Missing(path.clone()));
        }
        if let Some(profile) = Self::read(&places.here.join("windlass.toml"))? {
            return Ok(profile);
        }
        let found =
            places.config.as_ref().map(|folder| Self::read(&folder.join("windlass.toml"))).transpose()?;
        Ok(found.flatten().unwrap_or_default())
    }

    fn read(path: &Path) -> Result<Option<Self>, ProfileError> {
        let failed = |source| ProfileError::Read { path: path.to_owned(), source };
        let Some(bytes) = read_bounded(path, MAX_PROFILE_BYTES).map_err(failed)? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes).map_err(|_| ProfileError::Malformed {
            path: path.to_owned(),
            place: String::new(),
            reason: "not UTF-8 text".to_owned(),
        })?;
        let profile: Self = toml::from_str(&text).map_err(|error| malformed(path, &text, &error))?;
        Ok(Some(profile.seen_from(path.parent().unwrap_or(Path::new("")))))
    }

    /// Paths are meant from the profile's folder.
    fn seen_from(mut self, folder: &Path) -> Self {
        let paths = [&mut self.spec, &mut self.key, &mut self.passphrase_file, &mut self.state_dir];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
        self
    }

    /// Where state is kept; `None` when the process has no home.
    pub(crate) fn state_dir(&self) -> Option<PathBuf> {
        self.state_dir
            .clone()
            .or_else(|| folder("XDG_STATE_HOME", ".local/state").map(|dir| dir.join("windlass")))
    }
}

fn malformed(path: &Path, text: &str, error: &toml::de::Error) -> ProfileError {
    let place = error.span().map_or_else(String::new, |span| {
        let line =
            text.as_bytes()[..span.start.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!(", line {line}")
    });
    let reason = error.message().replace('\n', " ");
    ProfileError::Malformed { path: path.to_owned(), place, reason }
}

pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
}

/// A folder of the XDG base directory specification: absolute, or the default under the home folder.
fn folder(name: &str, under_home: &str) -> Option<PathBuf> {
    let stated = variable(name).filter(|path| path.is_absolute());
    stated.or_else(|| variable("HOME").map(|home| home.join(under_home)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn places(here: &Path) -> Places {
        Places { here: here.to_owned(), ..Places::default() }
    }

    #[test]
    fn paths_are_meant_from_the_profiles_folder() {
        let folder = tempfile::tempdir().unwrap();
        let text = "spec = 'a.spec'\nkey = '/keys/b.json'\nnodes = ['/ip4/127.0.0.1/tcp/1']\nmax_age = 90\n";
        std::fs::write(folder.path().join("windlass.toml"), text).unwrap();
        let profile = Profile::find(&places(folder.path())).unwrap();
        assert_eq!(profile.spec, Some(folder.path().join("a.spec")));
        assert_eq!(profile.key, Some(PathBuf::from("/keys/b.json")));
        assert_eq!((profile.nodes.len(), profile.max_age), (1, Some(90)));
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("windlass.toml"), "rpc = 'http://x'\npublsher = '0x'\n").unwrap();
        let error = Profile::find(&places(folder.path())).unwrap_err().to_string();
        assert!(error.contains("windlass.toml, line 2") && error.contains("publsher"), "{error}");
        assert!(error.contains("publisher") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn the_nearest_place_wins_and_one_asked_for_must_exist() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, url: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("rpc = '{url}'")).unwrap();
            path
        };
        let rpc = |places: &Places| Profile::find(places).unwrap().rpc.unwrap_or_default();
        let mut places = places(&folder.path().join("here"));
        assert_eq!(Profile::find(&places).unwrap(), Profile::default());
        file("config/windlass.toml", "config");
        places.config = Some(folder.path().join("config"));
        assert_eq!(rpc(&places), "config");
        file("here/windlass.toml", "here");
        assert_eq!(rpc(&places), "here");
        places.environment = Some(file("environment.toml", "environment"));
        assert_eq!(rpc(&places), "environment");
        places.given = Some(file("given.toml", "given"));
        assert_eq!(rpc(&places), "given");
        places.given = Some(folder.path().join("none.toml"));
        assert!(matches!(Profile::find(&places), Err(ProfileError::Missing(_))));
    }
}
