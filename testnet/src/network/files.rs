//! The files of a local network: keys, spec, profiles, configurations, logs.
//!
//! Owns where everything is. The keys of a testnet are worth nothing and encrypted all the same, so that
//! every command works as it does in earnest; their passphrase lies beside them.

use super::NetworkError;
use super::record::Record;
use crate::chain::DEV_ACCOUNTS;
use crate::directory::{Claim, Mark};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use windlass_keyfile::Strength;
use windlass_protocol::SecretKey;
use windlass_protocol::address::KeyAddress;

const PASSPHRASE: &str = "testnet";

/// What marks a directory as a network's.
const MARK: Mark =
    Mark { file: "windlass-network", text: "windlass-testnet network, format 1\n", what: "network" };

/// What somebody needs to act on the network with `windlass`.
#[derive(Clone, Debug)]
pub struct DeviceFiles {
    /// The encrypted key.
    pub key: PathBuf,
    /// The profile that names it.
    pub profile: PathBuf,
}

#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    nodes: Vec<KeyAddress>,
    record: Record,
    /// Where each node listens.
    hosts: Vec<Vec<IpAddr>>,
    /// Whether the first node has an account to report from.
    pub(super) reporting: bool,
    /// Whether somebody else wants the folder afterwards.
    kept: bool,
    /// Keeps a folder that is kept to this process.
    _claim: Option<Claim>,
    /// Removes the folder in the end, if it is ours.
    _temporary: Option<TempDir>,
}

/// The operator of a testnet: the first development account.
pub(super) fn operator() -> SecretKey {
    SecretKey::from_bytes(&DEV_ACCOUNTS[0].key.0).expect("the development keys are valid")
}

impl Files {
    /// Makes a folder that goes with the network, or goes on with the one given, in which an earlier network
    /// may have left its own: then it has to be the same one.
    pub(super) fn create(
        directory: Option<&Path>,
        nodes: usize,
        rpc_url: Option<&str>,
    ) -> Result<Self, NetworkError> {
        let mut files = match directory {
            Some(directory) => Self::keep(directory, nodes, rpc_url)?,
            None => Self::temporary(nodes)?,
        };
        files.make(nodes)?;
        Ok(files)
    }

    fn temporary(nodes: usize) -> Result<Self, NetworkError> {
        let made = tempfile::Builder::new().prefix("windlass-").tempdir();
        let made = made.map_err(|source| NetworkError::file(&std::env::temp_dir(), source))?;
        // Programs are started from other folders.
        let directory = std::path::absolute(made.path());
        let directory = directory.map_err(|source| NetworkError::file(made.path(), source))?;
        Ok(Self {
            directory,
            nodes: Vec::new(),
            record: Record { nodes, ports: vec![None; nodes], ..Record::default() },
            hosts: Vec::new(),
            reporting: false,
            kept: false,
            _claim: None,
            _temporary: Some(made),
        })
    }

    fn keep(directory: &Path, nodes: usize, rpc_url: Option<&str>) -> Result<Self, NetworkError> {
        let claim = Claim::new(directory, MARK)?;
        // Programs are started from other folders.
        let directory = directory.canonicalize().map_err(|source| NetworkError::file(directory, source))?;
        let rpc_url = rpc_url.map(str::to_owned);
        let new =
            || Record { nodes, rpc_url: rpc_url.clone(), ports: vec![None; nodes], ..Record::default() };
        let record = Record::read(&directory)?.unwrap_or_else(new);
        if record.nodes != nodes {
            return Err(NetworkError::OtherNodes { directory, found: record.nodes, asked: nodes });
        }
        if record.rpc_url != rpc_url {
            let found = record.rpc_url.unwrap_or_else(|| "the embedded one".to_owned());
            return Err(NetworkError::OtherChain { directory, found });
        }
        let hosts = Vec::new();
        Ok(Self {
            directory,
            nodes: Vec::new(),
            record,
            hosts,
            reporting: false,
            kept: true,
            _claim: Some(claim),
            _temporary: None,
        })
    }

    fn make(&mut self, nodes: usize) -> Result<(), NetworkError> {
        for folder in ["keys", "logs", "state"] {
            let folder = self.directory.join(folder);
            fs::create_dir_all(&folder).map_err(|source| NetworkError::file(&folder, source))?;
        }
        self.write("passphrase", PASSPHRASE)?;
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.passphrase(), private)
            .map_err(|source| NetworkError::file(&self.passphrase(), source))?;
        if !self.key("operator").exists() {
            windlass_keyfile::create(&self.key("operator"), &operator(), PASSPHRASE, Strength::Light)?;
        }
        for index in 0..nodes {
            let key = self.random_key(&format!("node-{}", index + 1))?;
            self.nodes.push(key.address());
        }
        Ok(())
    }

    /// The key with this name: the one that is there, or a new one.
    fn random_key(&self, name: &str) -> Result<SecretKey, NetworkError> {
        let path = self.key(name);
        if path.exists() {
            return Ok(windlass_keyfile::read(&path, PASSPHRASE)?);
        }
        let key = windlass_keyfile::generate()?;
        windlass_keyfile::create(&path, &key, PASSPHRASE, Strength::Light)?;
        Ok(key)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, NetworkError> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(|source| NetworkError::file(&path, source))?;
        Ok(path)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.directory.join("keys").join(format!("{name}.json"))
    }

    pub(super) fn passphrase(&self) -> PathBuf {
        self.directory.join("passphrase")
    }

    pub(super) fn spec(&self) -> PathBuf {
        self.directory.join("chain.spec")
    }

    /// What `chain deploy` holds while it makes the spec.
    pub(super) fn deployment_lock(&self) -> PathBuf {
        self.directory.join("chain.spec.lock")
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{name}.log"))
    }

    pub(super) fn profile(&self) -> PathBuf {
        self.directory.join("windlass.toml")
    }

    pub(super) fn node_addresses(&self) -> &[KeyAddress] {
        &self.nodes
    }

    /// Where the chain keeps its state, in a network that is kept.
    pub(super) fn chain_state(&self) -> Option<PathBuf> {
        self.kept.then(|| self.directory.join("chain"))
    }

    /// What is known of the network from before.
    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// Changes what is known of the network, for the next time as well.
    pub(super) fn note(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), NetworkError> {
        change(&mut self.record);
        if self.kept { self.record.write(&self.directory) } else { Ok(()) }
    }

    /// Remembers the ports of a node's multiaddrs, so that it is found again where it was.
    pub(super) fn keep_ports(&mut self, index: usize, multiaddrs: &[String]) -> Result<(), NetworkError> {
        let port = |kind: &str| {
            let after = |multiaddr: &String| {
                multiaddr.split('/').skip_while(|part| *part != kind).nth(1)?.parse().ok()
            };
            multiaddrs.iter().find_map(after)
        };
        let (tcp, udp) = (port("tcp"), port("udp"));
        self.note(|record| {
            record.ports[index] = tcp;
            record.udp_ports.resize(record.ports.len(), None);
            record.udp_ports[index] = udp;
        })
    }

    /// The port for a node to listen on: the one it had, unless somebody took it meanwhile.
    fn port(&self, index: usize) -> u16 {
        let port = self.record.ports.get(index).copied().flatten().unwrap_or_default();
        let free = |host: &IpAddr| TcpListener::bind((*host, port)).is_ok();
        if self.hosts(index).iter().all(free) { port } else { 0 }
    }

    /// Says where nodes listen, in turn.
    pub(super) fn place(&mut self, hosts: Vec<Vec<IpAddr>>) {
        self.hosts = hosts;
    }

    fn hosts(&self, index: usize) -> Vec<IpAddr> {
        let turn = index % self.hosts.len().max(1);
        self.hosts.get(turn).cloned().unwrap_or_else(|| vec![Ipv4Addr::LOCALHOST.into()])
    }

    /// The multiaddrs for a node to listen on, TCP and QUIC.
    fn listen(&self, index: usize) -> Vec<String> {
        let (tcp, udp) = (self.port(index), self.udp_port(index));
        let multiaddrs = |host: &IpAddr| {
            let host = match host {
                IpAddr::V4(host) => format!("/ip4/{host}"),
                IpAddr::V6(host) => format!("/ip6/{host}"),
            };
            [format!("{host}/tcp/{tcp}"), format!("{host}/udp/{udp}/quic-v1")]
        };
        self.hosts(index).iter().flat_map(multiaddrs).collect()
    }

    /// The same of UDP, for QUIC.
    fn udp_port(&self, index: usize) -> u16 {
        let port = self.record.udp_ports.get(index).copied().flatten().unwrap_or_default();
        let free = |host: &IpAddr| UdpSocket::bind((*host, port)).is_ok();
        if self.hosts(index).iter().all(free) { port } else { 0 }
    }

    pub(super) fn write_node_config(
        &self,
        index: usize,
        rpc_url: &str,
        peers: &[String],
        publisher: KeyAddress,
    ) -> Result<PathBuf, NetworkError> {
        let name = format!("node-{}", index + 1);
        let config = [
            entry("data_dir", &self.directory.join(&name)),
            entry("key_file", &self.key(&name)),
            entry("passphrase_file", &self.passphrase()),
            entry("spec_file", &self.spec()),
            format!("publisher = \"{publisher}\""),
            format!("providers = [\"{rpc_url}\"]"),
            format!("listen = {}", list(&self.listen(index))),
            format!("peers = {}", list(peers)),
            "admin = \"127.0.0.1:0\"".to_owned(),
        ];
        let mut config = config.to_vec();
        if self.reporting && index == 0 {
            config.push("[evidence]".to_owned());
            config.push(entry("key_file", &self.key("operator")));
            config.push(entry("passphrase_file", &self.passphrase()));
        }
        self.write(&format!("{name}.toml"), &(config.join("\n") + "\n"))
    }

    /// The operator's profile.
    pub(super) fn write_profile(&self, rpc_url: &str, nodes: &[String]) -> Result<(), NetworkError> {
        let text = self.profile_text("operator", rpc_url, nodes, operator().address());
        self.write("windlass.toml", &text).map(drop)
    }

    fn profile_text(&self, key: &str, rpc_url: &str, nodes: &[String], publisher: KeyAddress) -> String {
        let mut profile = vec![
            entry("spec", &self.spec()),
            format!("publisher = \"{publisher}\""),
            format!("rpc = \"{rpc_url}\""),
            format!("nodes = {}", list(nodes)),
            entry("key", &self.key(key)),
            entry("passphrase_file", &self.passphrase()),
            entry("state_dir", &self.directory.join("state").join(key)),
        ];
        if self.hosts.is_empty() {
            // On one machine every device reaches every other: what there is to be seen there is the relays.
            profile.push("punch = false".to_owned());
        }
        profile.join("\n") + "\n"
    }

    /// A key and a profile for somebody.
    pub(super) fn create_device(
        &self,
        name: &str,
        rpc_url: &str,
        nodes: &[String],
        publisher: KeyAddress,
    ) -> Result<(SecretKey, DeviceFiles), NetworkError> {
        let key = self.random_key(name)?;
        let profile =
            self.write(&format!("{name}.toml"), &self.profile_text(name, rpc_url, nodes, publisher))?;
        Ok((key, DeviceFiles { key: self.key(name), profile }))
    }
}

/// A TOML entry with a path as a basic string.
fn entry(name: &str, path: &Path) -> String {
    format!("{name} = {}", toml::Value::String(path.to_string_lossy().into_owned()))
}

fn list(texts: &[String]) -> String {
    toml::Value::Array(texts.iter().cloned().map(toml::Value::String).collect()).to_string()
}
