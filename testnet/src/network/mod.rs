//! A whole Windlass network on this machine: the chain, the contracts, nodes, enrolled devices.
//!
//! Owns which processes run and the files they need. The parts are real processes of one program, which
//! runs itself with a subcommand for each; nothing here speaks a protocol or keeps state that a part needs.
//!
//! ```no_run
//! # async fn example() -> Result<(), windlass_testnet::network::NetworkError> {
//! use windlass_testnet::network::Testnet;
//! let testnet = Testnet::builder("windlass-testnet".into()).nodes(3).devices(2).start().await?;
//! println!("{}", testnet.rpc_url());
//! testnet.shutdown().await;
//! # Ok(()) }
//! ```

mod files;
mod health;
mod part;

pub use files::DeviceFiles;
pub use health::health;
pub use part::Part;

use crate::chain::Finality;
use files::Files;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use windlass_protocol::SecretKey;
use windlass_protocol::address::KeyAddress;

/// Most nodes of one network: the committee's bound.
pub const MAX_NODES: usize = windlass_protocol::spec::MAX_COMMITTEE;
/// Most devices made at the start; more can be enrolled with `windlass`.
pub const MAX_DEVICES: usize = 100;

/// How long nodes may take to mirror the registry and attest a head.
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

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
    #[error("{part} serves no attested head; its health is {said} and its log {}", .log.display())]
    Unhealthy {
        /// Which.
        part: String,
        /// Its health.
        said: String,
        /// Where its log is.
        log: PathBuf,
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
    fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}

fn status_text(status: &Option<ExitStatus>) -> String {
    status.map_or_else(|| "no exit status".to_owned(), |status| status.to_string())
}

/// What a network is made of.
#[derive(Clone, Debug)]
pub struct Builder {
    program: PathBuf,
    directory: Option<PathBuf>,
    rpc_url: Option<String>,
    nodes: usize,
    devices: usize,
    finality: Finality,
    heartbeat: f64,
    block_time: f64,
    port: u16,
}

impl Builder {
    /// How many nodes, all of them in the committee. Default 3.
    pub fn nodes(self, nodes: usize) -> Self {
        Self { nodes, ..self }
    }

    /// How many enrolled and named devices. Default 0.
    pub fn devices(self, devices: usize) -> Self {
        Self { devices, ..self }
    }

    /// Where keys, mirrors and logs go. Default: a temporary folder that goes with the network.
    pub fn directory(self, directory: PathBuf) -> Self {
        Self { directory: Some(directory), ..self }
    }

    /// Another chain than the embedded one. The first development account must be funded there.
    pub fn rpc_url(self, rpc_url: Option<String>) -> Self {
        Self { rpc_url, ..self }
    }

    /// When blocks of the embedded chain become final. Default: at once.
    pub fn finality(self, finality: Finality) -> Self {
        Self { finality, ..self }
    }

    /// Seconds after which an idle chain makes an empty block; 0 for never. Default 5.
    pub fn heartbeat(self, heartbeat: f64) -> Self {
        Self { heartbeat, ..self }
    }

    /// Seconds between blocks; 0 makes one per transaction. Default 0.
    pub fn block_time(self, block_time: f64) -> Self {
        Self { block_time, ..self }
    }

    /// The embedded chain's TCP port; 0 takes a free one. Default 0.
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Starts everything and returns when it can be used.
    pub async fn start(self) -> Result<Testnet, NetworkError> {
        count("nodes", self.nodes, 1, MAX_NODES)?;
        count("devices", self.devices, 0, MAX_DEVICES)?;
        let files = Files::create(self.directory.as_deref(), self.nodes)?;
        let mut testnet = Testnet {
            program: self.program.clone(),
            chain: None,
            rpc_url: String::new(),
            nodes: Vec::new(),
            devices: Vec::new(),
            fleet: 0,
            files,
            timeline: Vec::new(),
        };
        let mut since = Instant::now();
        testnet.start_chain(&self).await?;
        testnet.lap("the chain", &mut since);
        testnet.deploy().await?;
        testnet.lap("the contracts", &mut since);
        for index in 0..self.nodes {
            testnet.nodes.push(None);
            testnet.start_node(index).await?;
        }
        testnet.wait_healthy().await?;
        testnet.lap("the nodes", &mut since);
        testnet.files.write_profile(&testnet.rpc_url, &testnet.multiaddrs())?;
        if self.devices > 0 {
            testnet.fleet = testnet.create_fleet().await?;
        }
        for index in 0..self.devices {
            let device = testnet.enrol_device(&format!("device-{}", index + 1)).await?;
            testnet.devices.push(device);
        }
        testnet.lap("the devices", &mut since);
        Ok(testnet)
    }
}

fn count(what: &'static str, asked: usize, least: usize, most: usize) -> Result<(), NetworkError> {
    if (least..=most).contains(&asked) { Ok(()) } else { Err(NetworkError::Count { what, asked, most }) }
}

/// A running node.
#[derive(Debug)]
pub struct NodePart {
    part: Part,
    /// Where to dial it, with its peer id.
    pub multiaddr: String,
    /// Where its health is.
    pub admin: String,
}

impl NodePart {
    /// Its process.
    pub fn part(&self) -> &Part {
        &self.part
    }
}

/// An enrolled device, with the files to act as it.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its address, EIP-55.
    pub id: String,
    /// The name that points at it.
    pub name: String,
    /// Its key file and profile.
    pub files: DeviceFiles,
}

/// A running network. Its processes end when it is dropped.
#[derive(Debug)]
pub struct Testnet {
    program: PathBuf,
    chain: Option<Part>,
    rpc_url: String,
    nodes: Vec<Option<NodePart>>,
    devices: Vec<Device>,
    fleet: u64,
    files: Files,
    timeline: Vec<(&'static str, Duration)>,
}

impl Testnet {
    /// A network whose parts are run by this program, which is `windlass-testnet` or has its subcommands.
    pub fn builder(program: PathBuf) -> Builder {
        Builder {
            program,
            directory: None,
            rpc_url: None,
            nodes: 3,
            devices: 0,
            finality: Finality::Immediate,
            heartbeat: 5.0,
            block_time: 0.0,
            port: 0,
        }
    }

    /// The chain's JSON-RPC.
    pub fn rpc_url(&self) -> &str {
        &self.rpc_url
    }

    /// How long each stage of the start took.
    pub fn timeline(&self) -> &[(&'static str, Duration)] {
        &self.timeline
    }

    fn lap(&mut self, stage: &'static str, since: &mut Instant) {
        self.timeline.push((stage, since.elapsed()));
        *since = Instant::now();
    }

    /// The nodes that run, by their place from 0; `None` where one was killed.
    pub fn nodes(&self) -> &[Option<NodePart>] {
        &self.nodes
    }

    /// The devices made at the start.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The fleet of those devices, 0 if none were made.
    pub fn fleet(&self) -> u64 {
        self.fleet
    }

    /// The chain's process, unless another chain is used.
    pub fn chain(&self) -> Option<&Part> {
        self.chain.as_ref()
    }

    /// Keys, profile, logs and mirrors.
    pub fn directory(&self) -> &Path {
        self.files.directory()
    }

    /// The operator's profile: the default one for commands on this network.
    pub fn profile(&self) -> PathBuf {
        self.files.profile()
    }

    /// The operator's key file: it deployed the contracts, published the spec and runs the fleets.
    pub fn operator_key(&self) -> PathBuf {
        self.files.key("operator")
    }

    /// The passphrase file of every key of this network.
    pub fn passphrase_file(&self) -> PathBuf {
        self.files.passphrase()
    }

    /// The signed chain spec.
    pub fn spec_file(&self) -> PathBuf {
        self.files.spec()
    }

    /// Who signed the chain spec.
    pub fn publisher(&self) -> KeyAddress {
        files::operator().address()
    }

    /// Where to dial the nodes that run.
    pub fn multiaddrs(&self) -> Vec<String> {
        self.nodes.iter().flatten().map(|node| node.multiaddr.clone()).collect()
    }

    async fn start_chain(&mut self, builder: &Builder) -> Result<(), NetworkError> {
        if let Some(url) = &builder.rpc_url {
            self.rpc_url = url.clone();
            return Ok(());
        }
        let finality = match builder.finality {
            Finality::Immediate => "immediate".to_owned(),
            Finality::Manual => "manual".to_owned(),
            Finality::Depth(depth) => format!("depth:{depth}"),
        };
        let arguments = [
            "chain".to_owned(),
            "--json".to_owned(),
            "--stdin-guard".to_owned(),
            format!("--port={}", builder.port),
            format!("--finality={finality}"),
            format!("--heartbeat={}", builder.heartbeat),
            format!("--block-time={}", builder.block_time),
        ];
        let part = Part::start("chain", &self.program, &arguments, self.files.log("chain")).await?;
        self.rpc_url = part.ready_text("rpc_url")?;
        self.chain = Some(part);
        Ok(())
    }

    async fn deploy(&self) -> Result<(), NetworkError> {
        let spec = self.files.spec();
        if spec.exists() {
            return Ok(());
        }
        let committee: Vec<String> =
            self.files.node_addresses().iter().map(|address| address.to_string()).collect();
        let key = self.files.key("operator");
        let arguments = [
            "chain",
            "deploy",
            "--dev",
            "--rpc",
            &self.rpc_url,
            "--committee",
            &committee.join(","),
            "--key",
            &key.to_string_lossy(),
            "--out",
            &spec.to_string_lossy(),
        ];
        self.windlass(&arguments).await.map(drop)
    }

    /// Starts the node at this place, or starts it again after it was killed.
    pub async fn start_node(&mut self, index: usize) -> Result<(), NetworkError> {
        let name = format!("node-{}", index + 1);
        let config =
            self.files.write_node_config(index, &self.rpc_url, &self.multiaddrs(), self.publisher())?;
        let arguments = [
            "node".to_owned(),
            "run".to_owned(),
            "--json".to_owned(),
            "--stdin-guard".to_owned(),
            "--config".to_owned(),
            config.to_string_lossy().into_owned(),
        ];
        let part = Part::start(&name, &self.program, &arguments, self.files.log(&name)).await?;
        let multiaddr = part.ready().pointer("/listen/0").and_then(Value::as_str).map(str::to_owned);
        let multiaddr = match multiaddr {
            Some(multiaddr) if multiaddr.contains("/p2p/") => multiaddr,
            Some(multiaddr) => format!("{multiaddr}/p2p/{}", part.ready_text("peer_id")?),
            None => part.ready_text("listen")?,
        };
        self.files.keep_port(index, &multiaddr);
        let admin = part.ready_text("admin")?;
        self.nodes[index] = Some(NodePart { part, multiaddr, admin });
        Ok(())
    }

    /// Waits until every node that runs serves an attested head.
    pub async fn wait_healthy(&self) -> Result<(), NetworkError> {
        for node in self.nodes.iter().flatten() {
            health::healthy(&node.admin, HEALTHY_WITHIN).await.map_err(|said| NetworkError::Unhealthy {
                part: node.part.name().to_owned(),
                said: said.to_string(),
                log: node.part.log().to_owned(),
            })?;
        }
        Ok(())
    }

    /// Kills a node as kill -9 does.
    pub async fn kill_node(&mut self, index: usize) -> Result<(), NetworkError> {
        match self.nodes.get_mut(index).and_then(Option::take) {
            Some(node) => node.part.kill().await,
            None => Ok(()),
        }
    }

    /// Kills the chain as kill -9 does.
    pub async fn kill_chain(&mut self) -> Result<(), NetworkError> {
        match self.chain.take() {
            Some(chain) => chain.kill().await,
            None => Ok(()),
        }
    }

    /// Makes a fleet of the operator's.
    pub async fn create_fleet(&self) -> Result<u64, NetworkError> {
        let made = self.windlass(&["fleet", "create"]).await?;
        made.get("fleet").and_then(Value::as_u64).ok_or_else(|| NetworkError::Command {
            command: "fleet create".to_owned(),
            message: format!("no fleet in {made}"),
        })
    }

    /// Makes a key and profile for somebody, enrolled nowhere.
    pub fn create_key(&self, name: &str) -> Result<(SecretKey, DeviceFiles), NetworkError> {
        self.files.create_device(name, &self.rpc_url, &self.multiaddrs(), self.publisher())
    }

    /// Makes a device: its key, its enrolment in the fleet, and a name of its own.
    pub async fn enrol_device(&self, name: &str) -> Result<Device, NetworkError> {
        let (key, files) = self.create_key(name)?;
        let device_key = files.key.to_string_lossy().into_owned();
        let fleet = self.fleet.to_string();
        self.windlass(&["device", "enrol", "--fleet", &fleet, "--device-key", &device_key]).await?;
        let id = key.address().to_string();
        self.windlass(&["name", "register", name, "--target", &id]).await?;
        Ok(Device { id, name: name.to_owned(), files })
    }

    /// Runs `windlass` with the operator's profile and key, and returns what it printed as JSON.
    pub async fn windlass(&self, arguments: &[&str]) -> Result<Value, NetworkError> {
        let output = tokio::process::Command::new(&self.program)
            .arg("cli")
            .arg("--json")
            .args(self.files.profile().exists().then_some("--profile"))
            .args(self.files.profile().exists().then(|| self.files.profile()))
            .args(arguments)
            .env("WINDLASS_PASSPHRASE_FILE", self.files.passphrase())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| NetworkError::file(&self.program, source))?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        if output.status.success()
            && let Some(line) = stdout.lines().last()
            && let Ok(value) = serde_json::from_str(line)
        {
            return Ok(value);
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(NetworkError::Command { command: arguments.join(" "), message: format!("{stdout}{message}") })
    }

    /// Waits until some part ends by itself, and says which and how.
    pub async fn part_ended(&mut self) -> NetworkError {
        let nodes = self.nodes.iter_mut().flatten().map(|node| &mut node.part);
        let parts: Vec<_> = self.chain.iter_mut().chain(nodes).map(|part| Box::pin(ended(part))).collect();
        futures::future::select_all(parts).await.0
    }

    /// Ends every part, nodes first.
    pub async fn shutdown(mut self) {
        let nodes = self.nodes.drain(..).flatten().map(|node| node.part.stop());
        futures::future::join_all(nodes).await;
        if let Some(chain) = self.chain.take() {
            chain.stop().await;
        }
    }
}

async fn ended(part: &mut Part) -> NetworkError {
    let status = part.ended().await.ok();
    let (log, tail) = (part.log().to_owned(), part::tail(part.log()));
    NetworkError::Part { part: part.name().to_owned(), status, log, tail }
}
