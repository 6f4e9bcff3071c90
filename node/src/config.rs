//! The node's configuration file: what may stand in it, and what each mistake is called.
//!
//! Paths are relative to the file's folder. Secrets never stand in it, only where they are kept.

use crate::head::Peer;
use crate::limits::{LEAST_STORE_CACHE_BYTES, MAX_CONFIG_BYTES, MAX_CONFIGURED, STORE_CACHE_BYTES};
use crate::relay::{RelaySettings, RelayTable};
use libp2p::{Multiaddr, multiaddr::Protocol};
use serde::Deserialize;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use windlass_protocol::spec::{MAX_SPEC_BYTES, SpecError, VerifiedSpec, verify_spec};
use windlass_protocol::{KeyAddress, SecretKey};

/// Why a configuration can't be used. One line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that can't be read.
    #[error("can't read {what} {}: {source}", .path.display())]
    Read {
        /// What it should hold.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file larger than any real one.
    #[error("{what} {} is over {limit} bytes: is it the right file?", .path.display())]
    TooLarge {
        /// What it should hold.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Most bytes.
        limit: u64,
    },
    /// Not the TOML that is expected.
    #[error("{}: {reason}", .path.display())]
    Toml {
        /// The configuration file.
        path: PathBuf,
        /// What and on which line.
        reason: String,
    },
    /// A value that can't be.
    #[error("{}: {key}: {reason}", .path.display())]
    Value {
        /// The configuration file.
        path: PathBuf,
        /// Which entry.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The chain spec.
    #[error("chain spec {}: {source}", .path.display())]
    Spec {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        source: SpecError,
    },
    /// The passphrase file.
    #[error(transparent)]
    Passphrase(#[from] windlass_keyfile::PassphraseError),
    /// The key file.
    #[error(transparent)]
    Key(#[from] windlass_keyfile::ReadError),
}

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: PathBuf,
    key_file: PathBuf,
    passphrase_file: PathBuf,
    spec_file: PathBuf,
    publisher: String,
    providers: Vec<String>,
    #[serde(default = "everywhere")]
    listen: Vec<String>,
    #[serde(default)]
    external: Vec<String>,
    #[serde(default)]
    upnp: bool,
    #[serde(default)]
    peers: Vec<String>,
    admin: String,
    poll_interval_ms: Option<u64>,
    cache_bytes: Option<usize>,
    #[serde(default)]
    relay: RelayTable,
    evidence: Option<EvidenceTable>,
}

/// The table `[evidence]` as written: the account that pays for reports of members that signed two blocks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EvidenceTable {
    key_file: PathBuf,
    passphrase_file: PathBuf,
}

/// Where a node listens unless told otherwise: TCP and QUIC, on every interface.
fn everywhere() -> Vec<String> {
    ["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"].map(str::to_owned).to_vec()
}

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The data directory, made when it doesn't exist.
    pub data_dir: PathBuf,
    /// The verified chain spec.
    pub spec: VerifiedSpec,
    /// Where it was read from, and where a renewed one will lie.
    pub spec_file: PathBuf,
    /// JSON-RPC URLs, asked in this order.
    pub providers: Vec<String>,
    /// Where to listen.
    pub listen: Vec<Multiaddr>,
    /// Where others reach this node, if not at the addresses it listens on.
    pub external: Vec<Multiaddr>,
    /// Whether to ask the router, by UPnP, to open the ports listened on.
    pub upnp: bool,
    /// Nodes to exchange attestations with.
    pub peers: Vec<Peer>,
    /// Where to serve health.
    pub admin: SocketAddr,
    /// Pause between looks at the chain.
    pub poll_interval: Duration,
    /// Bytes of memory for what was read of the data directory lately.
    pub cache_bytes: usize,
    /// Whom the relay serves, and how much.
    pub relay: RelaySettings,
    /// The account that pays for reports of members that signed two blocks; none are sent without one.
    pub evidence_key: Option<SecretKey>,
}

/// A key file and where its passphrase is.
struct KeyFiles {
    key: PathBuf,
    passphrase: PathBuf,
}

impl KeyFiles {
    fn read(&self) -> Result<SecretKey, ConfigError> {
        let passphrase = windlass_keyfile::read_passphrase(&self.passphrase)?;
        Ok(windlass_keyfile::read(&self.key, &passphrase)?)
    }
}

impl NodeConfig {
    /// Reads a configuration file, the spec and the key that it names. Decrypting the key takes up to a
    /// second: call it where blocking is allowed.
    pub fn load(path: &Path) -> Result<(Self, SecretKey), ConfigError> {
        let (mut config, node, evidence) = Self::read(path)?;
        config.evidence_key = evidence.map(|files| files.read()).transpose()?;
        Ok((config, node.read()?))
    }

    /// The same for what needs no key.
    pub fn load_without_key(path: &Path) -> Result<Self, ConfigError> {
        Self::read(path).map(|(config, _, _)| config)
    }

    /// The configuration, where the node's key is, and where that of the account for evidence.
    fn read(path: &Path) -> Result<(Self, KeyFiles, Option<KeyFiles>), ConfigError> {
        let text = read_text("the configuration", path, MAX_CONFIG_BYTES)?;
        let file: File = toml::from_str(&text)
            .map_err(|error| ConfigError::Toml { path: path.to_owned(), reason: explain(&text, &error) })?;
        let place = Place { path, folder: path.parent().unwrap_or(Path::new("")) };
        let publisher: KeyAddress = file
            .publisher
            .parse()
            .map_err(|error| place.wrong("publisher", format!("{}: {error}", file.publisher)))?;
        let spec = place.spec(&file.spec_file, publisher)?;
        let config = Self {
            data_dir: place.file(&file.data_dir),
            providers: place.bounded("providers", file.providers)?,
            listen: place.multiaddrs("listen", file.listen)?,
            external: place.multiaddrs("external", file.external)?,
            upnp: file.upnp,
            peers: place.peers(file.peers)?,
            admin: file.admin.parse().map_err(|_| {
                place.wrong("admin", format!("{:?} is no socket address such as 127.0.0.1:9090", file.admin))
            })?,
            poll_interval: poll_interval(file.poll_interval_ms, spec.dev),
            cache_bytes: match file.cache_bytes.unwrap_or(STORE_CACHE_BYTES) {
                bytes if bytes < LEAST_STORE_CACHE_BYTES => {
                    let reason =
                        format!("{bytes} is less than {LEAST_STORE_CACHE_BYTES}, what a small mirror takes");
                    return Err(place.wrong("cache_bytes", reason));
                }
                bytes => bytes,
            },
            spec_file: place.file(&file.spec_file),
            relay: file.relay.settings().map_err(|reason| place.wrong("relay", reason))?,
            evidence_key: None,
            spec,
        };
        let files = |key: &Path, passphrase: &Path| KeyFiles {
            key: place.file(key),
            passphrase: place.file(passphrase),
        };
        let evidence = file.evidence.map(|table| files(&table.key_file, &table.passphrase_file));
        Ok((config, files(&file.key_file, &file.passphrase_file), evidence))
    }
}

/// A development chain makes a block whenever somebody sends a transaction; others every few seconds.
fn poll_interval(configured: Option<u64>, dev: bool) -> Duration {
    let milliseconds = configured.unwrap_or(if dev { 200 } else { 2_000 });
    Duration::from_millis(milliseconds.max(1))
}

/// Where a configuration stands, for its paths and errors.
struct Place<'a> {
    path: &'a Path,
    folder: &'a Path,
}

impl Place<'_> {
    fn file(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    fn wrong(&self, key: &'static str, reason: String) -> ConfigError {
        ConfigError::Value { path: self.path.to_owned(), key, reason }
    }

    fn bounded(&self, key: &'static str, values: Vec<String>) -> Result<Vec<String>, ConfigError> {
        match values.len() {
            count if count > MAX_CONFIGURED => {
                Err(self.wrong(key, format!("{count} entries are more than {MAX_CONFIGURED}")))
            }
            0 if key == "providers" || key == "listen" => {
                Err(self.wrong(key, "at least one is needed".to_owned()))
            }
            _ => Ok(values),
        }
    }

    fn multiaddrs(&self, key: &'static str, texts: Vec<String>) -> Result<Vec<Multiaddr>, ConfigError> {
        let parse = |text: &String| {
            text.parse::<Multiaddr>().map_err(|error| {
                self.wrong(key, format!("{text:?} is no multiaddr such as /ip4/127.0.0.1/tcp/4001: {error}"))
            })
        };
        self.bounded(key, texts)?.iter().map(parse).collect()
    }

    /// The nodes to exchange attestations with; one that is named at several addresses is one.
    fn peers(&self, texts: Vec<String>) -> Result<Vec<Peer>, ConfigError> {
        let mut peers: Vec<Peer> = Vec::new();
        for mut address in self.multiaddrs("peers", texts)? {
            let Some(Protocol::P2p(id)) = address.pop() else {
                return Err(self.wrong("peers", format!("{address} doesn't end in /p2p/ and a peer id")));
            };
            windlass_p2p::identity::key_address_of(&id)
                .map_err(|error| self.wrong("peers", format!("{id}: {error}")))?;
            match peers.iter_mut().find(|peer| peer.id == id) {
                Some(peer) => peer.addresses.push(address),
                None => peers.push(Peer { id, addresses: vec![address] }),
            }
        }
        Ok(peers)
    }

    fn spec(&self, path: &Path, publisher: KeyAddress) -> Result<VerifiedSpec, ConfigError> {
        let path = self.file(path);
        let bytes = read("the chain spec", &path, 4 * MAX_SPEC_BYTES as u64)?;
        verify_spec(&bytes, publisher).map_err(|source| ConfigError::Spec { path, source })
    }
}

fn read(what: &'static str, path: &Path, limit: u64) -> Result<Vec<u8>, ConfigError> {
    let failed = |source| ConfigError::Read { what, path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > limit {
        return Err(ConfigError::TooLarge { what, path: path.to_owned(), limit });
    }
    fs::read(path).map_err(failed)
}

fn read_text(what: &'static str, path: &Path, limit: u64) -> Result<String, ConfigError> {
    String::from_utf8(read(what, path, limit)?).map_err(|_| ConfigError::Read {
        what,
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8 text"),
    })
}

/// A TOML error on one line, with its place.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or_default();
            format!("line {}: {message}", before.matches('\n').count() + 1)
        }
        None => message,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use windlass_keyfile::Strength;

    /// A folder with all a configuration names, and its text.
    fn folder() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let (spec, publisher) = testing::signed_spec();
        let key = testing::key(1);
        windlass_keyfile::create(&folder.path().join("key.json"), &key, "word", Strength::Light).unwrap();
        fs::write(folder.path().join("passphrase"), "word\n").unwrap();
        fs::write(folder.path().join("chain.spec"), spec).unwrap();
        let peer = windlass_p2p::identity::peer_id_of(&testing::key(2).public_key());
        let text = format!(
            r#"data_dir = "data"
key_file = "key.json"
passphrase_file = "passphrase"
spec_file = "chain.spec"
publisher = "{publisher}"
providers = ["http://127.0.0.1:8545"]
listen = ["/ip4/127.0.0.1/tcp/0"]
peers = ["/ip4/127.0.0.1/tcp/4001/p2p/{peer}"]
admin = "127.0.0.1:0"
"#
        );
        (folder, text)
    }

    fn load(folder: &Path, text: &str) -> Result<(NodeConfig, SecretKey), ConfigError> {
        let path = folder.join("node.toml");
        fs::write(&path, text).unwrap();
        NodeConfig::load(&path)
    }

    #[test]
    fn a_good_file_is_taken() {
        let (folder, text) = folder();
        let (config, key) = load(folder.path(), &text).unwrap();
        assert_eq!(key.address(), testing::key(1).address());
        assert_eq!(config.data_dir, folder.path().join("data"));
        assert_eq!(config.peers.len(), 1);
        assert_eq!(config.peers[0].addresses[0].to_string(), "/ip4/127.0.0.1/tcp/4001");
        assert_eq!(config.poll_interval, Duration::from_millis(200));
        assert!(config.evidence_key.is_none(), "nothing is paid for unless somebody says so");
        let pays = format!("{text}[evidence]\nkey_file = \"key.json\"\npassphrase_file = \"passphrase\"\n");
        let paying = load(folder.path(), &pays).unwrap().0;
        assert_eq!(paying.evidence_key.unwrap().address(), testing::key(1).address());
    }

    #[test]
    fn a_peer_at_several_addresses_is_one_peer() {
        let (folder, text) = folder();
        let peer = windlass_p2p::identity::peer_id_of(&testing::key(2).public_key());
        let both = format!("peers = [\"/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{peer}\", ");
        let (config, _) = load(folder.path(), &text.replace("peers = [", &both)).unwrap();
        assert_eq!((config.peers.len(), config.peers[0].addresses.len()), (1, 2));
    }

    #[test]
    fn a_node_listens_over_tcp_and_quic_unless_told_otherwise() {
        let (folder, text) = folder();
        let text = text.replace("listen = [\"/ip4/127.0.0.1/tcp/0\"]\n", "");
        let (config, _) = load(folder.path(), &text).unwrap();
        let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"]);
    }

    #[test]
    fn each_mistake_is_one_line_that_says_where() {
        let (folder, text) = folder();
        let base = text.clone();
        let publisher = testing::publisher().address().to_string();
        let swapped: String = publisher
            .chars()
            .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect();
        let swapped = swapped.replacen("0X", "0x", 1);
        let cases = [
            (text.replace("data_dir", "data_dri"), "data_dri"),
            (text.replace("admin = ", "# "), "admin"),
            (text.replace("chain.spec", "absent.spec"), "absent.spec"),
            (text.replace("passphrase\"", "absent\""), "absent"),
            (text.replace("key.json", "absent.json"), "absent.json"),
            (text.replace(&publisher, &swapped), "EIP-55"),
            (text.replace(&publisher, &testing::key(77).address().to_string()), "publisher"),
            (text.replace("/ip4/127.0.0.1/tcp/0", "127.0.0.1:0"), "listen"),
            (
                text.replace("/p2p/", "/p2p-circuit/p2p/")
                    .replace("admin = \"127.0.0.1:0\"", "admin = \"here\""),
                "admin",
            ),
            (text.replace("[\"http://127.0.0.1:8545\"]", "[]"), "providers"),
            (text.replace("data_dir = \"data\"", "data_dir = 5"), "line 1"),
            (format!("{text}[relay]\nserve = \"channel\"\n"), "settlement"),
            (format!("{text}[relay]\nserve = \"anybody\"\n"), "anybody"),
            (format!("{text}[relay]\nserve = \"allow-list\"\n"), "allow"),
            (format!("{text}[relay]\nallow = [\"{publisher}\"]\n"), "allow-list"),
            (format!("{text}[relay]\nserve = \"allow-list\"\nallow = [\"pump\"]\n"), "pump"),
            (format!("{text}[relay]\ncircuits_per_device = 4000\n"), "384"),
            (format!("{text}[relay]\nbytes_per_second = 5\n"), "bytes_per_second"),
            (format!("{text}cache_bytes = 5\n"), "cache_bytes"),
            (format!("{text}[evidence]\nkey_file = \"key.json\"\n"), "passphrase_file"),
            (
                format!("{text}[evidence]\nkey_file = \"none.json\"\npassphrase_file = \"passphrase\"\n"),
                "none.json",
            ),
        ];
        for (text, expected) in cases {
            let error = load(folder.path(), &text).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{expected}: {error}");
        }
        // As the command line reads it: what follows the first line is not part of it.
        fs::write(folder.path().join("passphrase"), "word\r\n\n# of the node in the shed\n").unwrap();
        assert!(load(folder.path(), &base).is_ok());
        fs::write(folder.path().join("passphrase"), "wrong").unwrap();
        assert!(matches!(load(folder.path(), &base), Err(ConfigError::Key(_))));
        let missing = NodeConfig::load(&folder.path().join("nothing.toml")).unwrap_err();
        assert!(missing.to_string().contains("nothing.toml"));
    }
}
