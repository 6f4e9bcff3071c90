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

mod builder;
mod error;
mod files;
mod health;
mod part;
mod record;
mod renewal;

pub use builder::Builder;
pub use error::NetworkError;
pub use files::DeviceFiles;
pub use health::health;
pub use part::Part;

use crate::chain::Finality;
use files::Files;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use windlass_protocol::SecretKey;
use windlass_protocol::address::KeyAddress;

/// Most nodes of one network: the committee's bound.
pub const MAX_NODES: usize = windlass_protocol::spec::MAX_COMMITTEE;
/// Most devices made at the start; more can be enrolled with `windlass`.
pub const MAX_DEVICES: usize = 100;

/// How long nodes may take to mirror the registry and attest a head.
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

/// A running node.
#[derive(Debug)]
pub struct NodePart {
    part: Part,
    /// Where to dial it over TCP, with its peer id.
    pub multiaddr: String,
    /// Everywhere it listens, with its peer id: TCP, QUIC.
    pub multiaddrs: Vec<String>,
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
        Builder::new(program)
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

    /// Where to dial the nodes that run, one address each.
    pub fn multiaddrs(&self) -> Vec<String> {
        self.nodes.iter().flatten().map(|node| node.multiaddr.clone()).collect()
    }

    /// Everywhere the nodes that run listen, as profiles name them.
    fn all_multiaddrs(&self) -> Vec<String> {
        self.nodes.iter().flatten().flat_map(|node| node.multiaddrs.clone()).collect()
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
        let mut arguments = vec![
            "chain".to_owned(),
            "--json".to_owned(),
            "--stdin-guard".to_owned(),
            format!("--port={}", builder.port),
            format!("--finality={finality}"),
            format!("--heartbeat={}", builder.heartbeat),
            format!("--block-time={}", builder.block_time),
        ];
        arguments.extend(self.files.chain_state().map(|state| format!("--state={}", state.display())));
        let part = Part::start("chain", &self.program, &arguments, self.files.log("chain")).await?;
        self.rpc_url = part.ready_text("rpc_url")?;
        self.chain = Some(part);
        Ok(())
    }

    async fn deploy(&self, members: usize) -> Result<(), NetworkError> {
        let spec = self.files.spec();
        // One that a killed network began may still be ending, or come to its end.
        drop(part::hold("deployment", &self.files.deployment_lock()).await?);
        if spec.exists() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            return renewal::renew_if_old(&spec, &files::operator(), now).map(drop);
        }
        let committee = self.files.node_addresses().iter().take(members);
        let committee: Vec<String> = committee.map(|address| address.to_string()).collect();
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
        let listen = part.ready().get("listen").and_then(Value::as_array).cloned().unwrap_or_default();
        let multiaddrs: Vec<String> = listen.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let Some(multiaddr) = multiaddrs.first().cloned() else { return Err(part.lacks("listen")) };
        self.files.keep_ports(index, &multiaddrs)?;
        let admin = part.ready_text("admin")?;
        self.nodes[index] = Some(NodePart { part, multiaddr, multiaddrs, admin });
        Ok(())
    }

    /// Waits until every node that runs serves an attested head.
    pub async fn wait_healthy(&self) -> Result<(), NetworkError> {
        for node in self.nodes.iter().flatten() {
            let healthy = |said: &Value| said["status"] == "ok";
            health::reached(&node.admin, HEALTHY_WITHIN, healthy)
                .await
                .map_err(|said| unhealthy(node, &said))?;
        }
        Ok(())
    }

    /// Waits until every node that runs serves this block or a later one.
    pub async fn wait_served(&self, block: u64) -> Result<(), NetworkError> {
        for node in self.nodes.iter().flatten() {
            let served =
                |said: &Value| said["served"]["number"].as_u64().is_some_and(|number| number >= block);
            health::reached(&node.admin, HEALTHY_WITHIN, served)
                .await
                .map_err(|said| unhealthy(node, &said))?;
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
        self.files.create_device(name, &self.rpc_url, &self.all_multiaddrs(), self.publisher())
    }

    /// Sees to it that there are this many devices in a fleet, with those from before.
    async fn equip(&mut self, devices: usize) -> Result<(), NetworkError> {
        let devices = devices.max(self.files.record().devices.len());
        if devices == 0 {
            return Ok(());
        }
        self.fleet = match self.files.record().fleet {
            Some(fleet) => fleet,
            None => self.create_fleet().await?,
        };
        let fleet = self.fleet;
        self.files.note(|record| record.fleet = Some(fleet))?;
        for number in 1..=devices {
            let name = format!("device-{number}");
            let device = if self.files.record().devices.contains(&name) {
                let (key, files) = self.create_key(&name)?;
                Device { id: key.address().to_string(), name, files }
            } else {
                let device = self.enrol_device(&name).await?;
                self.files.note(|record| record.devices.push(name))?;
                device
            };
            self.devices.push(device);
        }
        Ok(())
    }

    /// Makes a device: its key, its enrolment in the fleet, and a name of its own. What of it was done before,
    /// by a network that was killed, is left as it is.
    pub async fn enrol_device(&self, name: &str) -> Result<Device, NetworkError> {
        let (key, files) = self.create_key(name)?;
        let (id, device_key) = (key.address().to_string(), files.key.to_string_lossy().into_owned());
        let fleet = self.fleet.to_string();
        let enrol = ["device", "enrol", "--fleet", &fleet, "--device-key", &device_key];
        let enrolled = |shown: &Value| shown["status"] == "active";
        let enrolled = self.unless_done(&enrol, &["device", "show", &id], enrolled).await?;
        let register = ["name", "register", name, "--target", &id];
        let leads_here = |resolved: &Value| resolved["device"] == id.as_str();
        let named = self.unless_done(&register, &["resolve", name], leads_here).await?;
        let block = [enrolled, named].iter().filter_map(|done| done["block"].as_u64()).max();
        self.wait_served(block.unwrap_or_default()).await?;
        Ok(Device { id, name: name.to_owned(), files })
    }

    /// Runs a command of `windlass`; if it fails, what counts is whether `look` shows that it was done before.
    async fn unless_done(
        &self,
        command: &[&str],
        look: &[&str],
        done: impl Fn(&Value) -> bool,
    ) -> Result<Value, NetworkError> {
        match self.windlass(command).await {
            Ok(value) => Ok(value),
            Err(error) => match self.windlass(look).await {
                Ok(shown) if done(&shown) => Ok(Value::Null),
                _ => Err(error),
            },
        }
    }

    /// Runs `windlass` with the operator's profile and key, and returns what it printed as JSON.
    pub async fn windlass(&self, arguments: &[&str]) -> Result<Value, NetworkError> {
        let failed = |source| NetworkError::file(&self.program, source);
        let mut command = tokio::process::Command::new(&self.program)
            .args(["cli", "--json", "--stdin-guard"])
            .args(self.files.profile().exists().then_some("--profile"))
            .args(self.files.profile().exists().then(|| self.files.profile()))
            .args(arguments)
            .env("WINDLASS_PASSPHRASE_FILE", self.files.passphrase())
            // The caller's may name a network that is gone; before ours is written, none is wanted.
            .env_remove("WINDLASS_PROFILE")
            .current_dir(self.files.directory())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        // Open as long as this process lives: a command that waits for a receipt doesn't outlive it.
        let guard = command.stdin.take();
        let output = command.wait_with_output().await.map_err(failed)?;
        drop(guard);
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

    /// Waits until some part ends by itself, says which and how, and goes on without it. `None` when nothing
    /// runs any more. Cancel-safe.
    pub async fn part_ended(&mut self) -> Option<NetworkError> {
        let chain = self.chain.iter_mut().map(|part| (None, part));
        let nodes = self.nodes.iter_mut().enumerate();
        let nodes = nodes.filter_map(|(index, node)| Some((Some(index), &mut node.as_mut()?.part)));
        let parts: Vec<_> = chain
            .chain(nodes)
            .map(|(index, part)| Box::pin(async move { (index, ended(part).await) }))
            .collect();
        if parts.is_empty() {
            return None;
        }
        let (index, reason) = futures::future::select_all(parts).await.0;
        match index {
            Some(index) => self.nodes[index] = None,
            None => self.chain = None,
        }
        Some(reason)
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

fn unhealthy(node: &NodePart, said: &Value) -> NetworkError {
    NetworkError::Unhealthy {
        part: node.part.name().to_owned(),
        said: said.to_string(),
        log: node.part.log().to_owned(),
        tail: part::tail(node.part.log()),
    }
}

async fn ended(part: &mut Part) -> NetworkError {
    let status = part.ended().await.ok();
    let (log, tail) = (part.log().to_owned(), part::tail(part.log()));
    NetworkError::Part { part: part.name().to_owned(), status, log, tail }
}
