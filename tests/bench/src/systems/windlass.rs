//! Windlass: two enrolled devices of a local network, one holding a grant to the other's service, through
//! a node or directly. What the clock sees is all of `open` by name: look-up with proofs, their
//! verification, connecting, authorisation on both ends.

use crate::system::{DIALLERS, Dialler, Running, Stream, System};
use crate::workload;
use anyhow::{Context, Result, bail, ensure};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use windlass_client::{Client, Event, Events, Policy, Question, Service, Target, VerifiedSpec, verify_spec};

/// Names the `windlass-testnet` program to use; `make bench` builds one and sets it.
const PROGRAM: &str = "WINDLASS_TESTNET";
const SERVICE: Service = Service::Stream(9000);
const SERVICE_TEXT: &str = "tcp/9000";
/// Time the network has to start, and the grant to be mirrored.
const READY: Duration = Duration::from_secs(55);
/// Between two looks at whether the grant is mirrored.
const PAUSE: Duration = Duration::from_millis(100);
/// Time for an idle connection to be closed: a minute, and some.
const CLOSED: Duration = Duration::from_secs(90);

pub struct Windlass {
    pub relayed: bool,
}

impl System for Windlass {
    fn label(&self) -> &'static str {
        if self.relayed { "Windlass through a node" } else { "Windlass, direct (TCP)" }
    }

    fn has_network(&self) -> bool {
        true
    }

    fn network(&self) -> BoxFuture<'_, Result<Running>> {
        async {
            let (network, contact) = start_network(1 + DIALLERS).await?;
            let description: Description = serde_json::from_str(&contact)?;
            grant(&description).await?;
            Ok(Running { contact, alive: Box::new(network) })
        }
        .boxed()
    }

    fn listen<'a>(&'a self, network: Option<&'a str>) -> BoxFuture<'a, Result<Running>> {
        async move {
            let description = Description::parse(network)?;
            let publisher = description.publisher()?;
            let client = description.client(publisher, !self.relayed).await?;
            let mut publication = client.publish(SERVICE, Policy::default()).await?;
            let accepting = tokio::spawn(async move {
                while let Some(stream) = publication.accept().await {
                    tokio::spawn(workload::serve(stream));
                }
            });
            Ok(Running { contact: publisher.name.clone(), alive: Box::new((client, accepting)) })
        }
        .boxed()
    }

    fn dialler<'a>(
        &'a self,
        network: Option<&'a str>,
        number: usize,
    ) -> BoxFuture<'a, Result<Box<dyn Dialler>>> {
        async move {
            let description = Description::parse(network)?;
            let caller = description.devices.get(1 + number).context("the network has fewer devices")?;
            let client = description.client(caller, !self.relayed).await?;
            // Connects to a node, as a device that runs has; nothing about the listener is known yet.
            client.ask(vec![Question::Target(Target::Device(client.device_id()))]).await?;
            let events = client.events();
            Ok(Box::new(One { client, events, relayed: self.relayed }) as Box<dyn Dialler>)
        }
        .boxed()
    }
}

struct One {
    client: Client,
    events: Events,
    relayed: bool,
}

impl Dialler for One {
    fn open<'a>(&'a mut self, contact: &'a str) -> BoxFuture<'a, Result<Stream>> {
        async move {
            let stream = self.client.open(&contact.parse()?, SERVICE).await?;
            let relayed = matches!(stream.path(), windlass_client::Path::Relayed { .. });
            ensure!(relayed == self.relayed, "the stream took the wrong path: {}", stream.path());
            Ok(Box::new(stream) as Stream)
        }
        .boxed()
    }

    fn disconnect(&mut self) -> BoxFuture<'_, Result<()>> {
        async {
            // It closes by itself once nothing has used it for a while.
            let gone = async {
                while let Some(event) = self.events.next().await {
                    if matches!(event, Event::Path { path: None, .. }) {
                        return Ok(());
                    }
                }
                bail!("the client ended")
            };
            tokio::time::timeout(CLOSED, gone).await.context("the connection does not close by itself")?
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.client.shutdown().boxed()
    }
}

/// What `windlass-testnet up --json` prints, as far as it is needed here.
#[derive(Deserialize)]
pub struct Description {
    directory: PathBuf,
    profile: PathBuf,
    spec: PathBuf,
    publisher: String,
    passphrase_file: PathBuf,
    fleet: u64,
    pub nodes: Vec<Node>,
    pub devices: Vec<Device>,
}

#[derive(Deserialize)]
pub struct Node {
    multiaddr: String,
}

#[derive(Deserialize)]
pub struct Device {
    pub name: String,
    pub id: String,
}

impl Description {
    fn parse(network: Option<&str>) -> Result<Self> {
        Ok(serde_json::from_str(network.context("no network was started")?)?)
    }

    /// The one that publishes; the others call.
    fn publisher(&self) -> Result<&Device> {
        self.devices.first().context("the network has no device")
    }

    /// A client that acts as this device.
    pub async fn client(&self, device: &Device, direct: bool) -> Result<Client> {
        let passphrase = std::fs::read_to_string(&self.passphrase_file)?;
        let key = windlass_keyfile::read(&self.key_of(device), passphrase.trim_end())?;
        let nodes: Result<Vec<_>, _> = self.nodes.iter().map(|node| node.multiaddr.parse()).collect();
        Ok(Client::builder(self.verified_spec()?, key).nodes(nodes?).direct(direct).start().await?)
    }

    fn key_of(&self, device: &Device) -> PathBuf {
        self.directory.join("keys").join(format!("{}.json", device.name))
    }

    pub fn verified_spec(&self) -> Result<VerifiedSpec> {
        Ok(verify_spec(&std::fs::read(&self.spec)?, self.publisher.parse()?)?)
    }
}

/// A running `windlass-testnet`, interrupted when dropped: then it ends its parts and removes its files.
pub struct Network(Child);

impl Network {
    /// Its process.
    pub fn process(&self) -> Option<u32> {
        self.0.id()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let Some(id) = self.0.id() else { return };
        let interrupted = std::process::Command::new("kill").args(["-INT", &id.to_string()]).status();
        let started = Instant::now();
        while interrupted.is_ok() && started.elapsed() < READY && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(PAUSE);
        }
    }
}

/// The `windlass-testnet` to use.
pub fn program() -> Result<PathBuf> {
    let path = std::env::var_os(PROGRAM).with_context(|| {
        format!("set {PROGRAM} to a built windlass-testnet, or run make bench, which builds one")
    })?;
    Ok(path.into())
}

/// Starts chain, contracts, three nodes and devices; returns how it describes them.
pub async fn start_network(devices: usize) -> Result<(Network, String)> {
    let mut child = Command::new(program()?)
        .args(["up", "--nodes=3", &format!("--devices={devices}"), "--port=0", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting windlass-testnet")?;
    let mut output = BufReader::new(child.stdout.take().context("windlass-testnet has no output")?);
    let network = Network(child);
    let mut line = String::new();
    tokio::time::timeout(READY, output.read_line(&mut line)).await.context("the network did not start")??;
    ensure!(!line.is_empty(), "windlass-testnet ended before the network was up");
    Ok((network, line.trim_end().to_owned()))
}

/// Grants every device of the fleet the first one's service, and waits until the nodes can prove it.
async fn grant(description: &Description) -> Result<()> {
    let (fleet, grantee) = (description.fleet.to_string(), format!("fleet:{}", description.fleet));
    let target = &description.publisher()?.id;
    let about = ["--fleet", &fleet, "--target", target, "--grantee", &grantee, "--service", SERVICE_TEXT];
    if !windlass(description, "add", &about).await? {
        bail!("the grant was not made");
    }
    let started = Instant::now();
    while !windlass(description, "show", &about).await? {
        ensure!(started.elapsed() < READY, "no node mirrored the grant in time");
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn windlass(description: &Description, what: &str, about: &[&str]) -> Result<bool> {
    let passphrase_file: &Path = &description.passphrase_file;
    let output = Command::new(program()?)
        .args(["cli", "--json", "--profile"])
        .arg(&description.profile)
        .args(["grant", what])
        .args(about)
        .env("WINDLASS_PASSPHRASE_FILE", passphrase_file)
        .stdin(Stdio::null())
        .output()
        .await?;
    match output.status.code() {
        Some(0) => Ok(true),
        // A proven no: not mirrored yet.
        Some(1) => Ok(false),
        _ => bail!("windlass grant {what}: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}
