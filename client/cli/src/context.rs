//! What a command acts with: the options given, over the profile. Opens files and connections when a command needs
//! them, so that a command says only what *it* misses.

use crate::args::Global;
use crate::chain::Chain;
use crate::failure::Failure;
use crate::head_file::HeadFiles;
use crate::output::Output;
use crate::passphrase::Source;
use crate::profile::{Places, Profile, ProfileError, variable};
use crate::state::read_bounded;
use std::path::{Path, PathBuf};
use windlass_client::{
    Client, DeviceId, HeadStore, KeyAddress, Multiaddr, SecretKey, StartError, VerifiedSpec, verify_spec,
};
use windlass_keyfile::{generate, read};
use windlass_protocol::spec::{ChainSpec, MAX_SPEC_BYTES};

/// Options and profile, merged.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) passphrase: Source,
    profile: Profile,
}

impl From<ProfileError> for Failure {
    fn from(error: ProfileError) -> Self {
        Self::fault("profile", error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = match error {
            StartError::Node(_) => "nodes",
            StartError::Network(_) | StartError::Listen(_) => "network",
            StartError::Heads(_) => "state",
            StartError::MaxAge(_) => "max_age",
            StartError::Limit { .. } => "limits",
        };
        Self::fault(code, error)
    }
}

impl Context {
    /// Reads the profile and lays the options over it.
    pub(crate) fn new(global: Global) -> Result<Self, Failure> {
        let mut profile = Profile::find(&Places::of_process(global.profile))?;
        let environment = variable("WINDLASS_PASSPHRASE_FILE");
        if global.key.is_some() {
            // The profile's device id and passphrase belong to the profile's key.
            profile.device_id = None;
            profile.passphrase_file = None;
        }
        let passphrase = Source::choose(global.passphrase_file, environment, profile.passphrase_file.take());
        profile.key = global.key.or(profile.key);
        profile.rpc = global.rpc.or(profile.rpc);
        profile.spec = global.spec.or(profile.spec);
        profile.publisher = global.publisher.or(profile.publisher);
        profile.max_age = global.max_age.or(profile.max_age);
        if !global.nodes.is_empty() {
            profile.nodes = global.nodes;
        }
        Ok(Self { output: Output { json: global.json }, passphrase, profile })
    }

    /// The chain spec, signed by the stated publisher.
    pub(crate) fn spec(&self) -> Result<VerifiedSpec, Failure> {
        let path = self.profile.spec.as_ref().ok_or_else(|| missing("chain spec", "--spec FILE", "spec"))?;
        let stated = self
            .profile
            .publisher
            .as_deref()
            .ok_or_else(|| missing("publisher", "--publisher ADDRESS", "publisher"))?;
        let publisher: KeyAddress = stated
            .parse()
            .map_err(|error| Failure::fault("publisher", format!("the publisher {stated}: {error}")))?;
        let failed = |reason: String| Failure::fault("chain_spec", format!("{}: {reason}", path.display()));
        let bytes = read_bounded(path, MAX_SPEC_BYTES as u64)
            .map_err(|error| failed(format!("can't read the chain spec: {error}")))?
            .ok_or_else(|| failed("no such chain spec".to_owned()))?;
        verify_spec(&bytes, publisher).map_err(|error| failed(error.to_string()))
    }

    /// The newest chain spec known here: the one stated, or a later version of it that a node brought before.
    pub(crate) fn newest_spec(&self) -> Result<VerifiedSpec, Failure> {
        let stated = self.spec()?;
        let Some(folder) = self.profile.state_dir() else { return Ok(stated) };
        let failed = |error: &dyn std::fmt::Display| Failure::fault("state", error);
        let kept = HeadFiles::new(folder).load_spec(stated.network()).map_err(|error| failed(&error))?;
        let kept = kept.map(|bytes| verify_spec(&bytes, stated.publisher())).transpose()?;
        Ok(kept.filter(|kept| kept.succeeds(&stated).is_ok()).unwrap_or(stated))
    }

    /// The RPC URL.
    pub(crate) fn rpc(&self) -> Result<&str, Failure> {
        self.profile.rpc.as_deref().ok_or_else(|| missing("RPC URL", "--rpc URL", "rpc"))
    }

    /// The chain at the RPC URL, checked to be the spec's.
    pub(crate) async fn chain(&self, spec: &ChainSpec) -> Result<Chain, Failure> {
        Ok(Chain::of_spec(self.rpc()?, spec).await?)
    }

    /// The key file to act with.
    pub(crate) fn key_file(&self) -> Result<&Path, Failure> {
        self.profile.key.as_deref().ok_or_else(|| missing("key", "--key FILE", "key"))
    }

    /// Opens the key to act with.
    pub(crate) fn key(&self) -> Result<SecretKey, Failure> {
        self.open_key(self.key_file()?, &self.passphrase)
    }

    /// Opens a key file.
    pub(crate) fn open_key(&self, path: &Path, passphrase: &Source) -> Result<SecretKey, Failure> {
        // What is plainly no key file is said before anybody types a passphrase.
        if !path.exists() {
            return Err(Failure::fault(
                "key_file",
                format!("no key file at {}: make one with `windlass key new --out FILE`", path.display()),
            ));
        }
        let passphrase = passphrase.read(path)?;
        Ok(read(path, &passphrase)?)
    }

    /// The device that the key acts for: the profile's `device_id`, or the one the key is the first of.
    pub(crate) fn device_id(&self, key: &SecretKey) -> Result<DeviceId, Failure> {
        match &self.profile.device_id {
            None => Ok(key.address().as_first_key()),
            Some(text) => text.parse().map_err(|error| {
                Failure::fault("profile", format!("the profile's device_id {text}: {error}"))
            }),
        }
    }

    /// A client that acts as the device of this key.
    pub(crate) async fn device_client(&self, spec: &VerifiedSpec, key: SecretKey) -> Result<Client, Failure> {
        let device = self.device_id(&key)?;
        self.client(spec, key, device).await
    }

    /// A client that only reads: with a key of its own, made for this run and forgotten.
    pub(crate) async fn reader(&self, spec: &VerifiedSpec) -> Result<Client, Failure> {
        let key = generate()?;
        let device = key.address().as_first_key();
        self.client(spec, key, device).await
    }

    async fn client(&self, spec: &VerifiedSpec, key: SecretKey, device: DeviceId) -> Result<Client, Failure> {
        let mut builder = Client::builder(spec.clone(), key).nodes(self.nodes()?).device_id(device);
        if let Some(folder) = self.profile.state_dir() {
            builder = builder.head_store(HeadFiles::new(folder));
        }
        if let Some(seconds) = self.profile.max_age {
            builder = builder.max_age(seconds);
        }
        if let Some(punch) = self.profile.punch {
            builder = builder.punch(punch);
        }
        if let Some(upnp) = self.profile.upnp {
            builder = builder.upnp(upnp);
        }
        if let Some(lan) = self.profile.lan {
            builder = builder.lan(lan);
        }
        Ok(builder.start().await?)
    }

    fn nodes(&self) -> Result<Vec<Multiaddr>, Failure> {
        if self.profile.nodes.is_empty() {
            return Err(missing("node", "--node MULTIADDR", "nodes"));
        }
        let parse = |text: &String| {
            let hint = "expected one like /ip4/127.0.0.1/tcp/4001/p2p/16Uiu2…";
            text.parse().map_err(|_| Failure::fault("nodes", format!("`{text}` is not a multiaddr: {hint}")))
        };
        self.profile.nodes.iter().map(parse).collect()
    }

    /// Seconds for which proofs count, if stated.
    pub(crate) fn max_age(&self) -> Option<u64> {
        self.profile.max_age
    }
}

/// A new file must not replace anything.
pub(crate) fn refuse_existing(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        let message = format!("{} exists, and is not overwritten: choose another path", path.display());
        return Err(Failure::fault("exists", message));
    }
    Ok(())
}

/// `path` with something added to its last part.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn missing(what: &str, option: &str, key: &str) -> Failure {
    Failure::fault("missing", format!("no {what}: give {option}, or `{key}` in a profile (windlass.toml)"))
}
