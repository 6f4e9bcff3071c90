//! The demo's story, one function per step, for the demo and for the scenarios alike. Every step drives
//! real processes and fails with what went wrong; what it returns says what happened.

mod lies;
mod revocation;
mod rotation;

use crate::site::{FILE_BYTES, PAGE, Site, file_hash};
use crate::windlass::{Running, Windlass, program};
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::process::Command;
use windlass_protocol::keccak256;
use windlass_testnet::network::{Builder, DeviceFiles, Testnet};

/// The service A publishes.
pub const SERVICE: &str = "tcp/8080";
/// The name that points at A.
pub const NAME: &str = "pump-7";
/// How long anything that needs a round trip or two may take.
pub const SOON: Duration = Duration::from_secs(20);

/// Somebody with a key, enrolled or not.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Its device id, EIP-55.
    pub id: String,
    /// Its key file and profile.
    pub files: DeviceFiles,
    /// The command line with its profile.
    pub windlass: Windlass,
}

/// A local forward that runs.
#[derive(Debug)]
pub struct Forward {
    /// The process.
    pub running: Running,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The network and who acts on it.
#[derive(Debug)]
pub struct Story {
    /// Chain and nodes.
    pub testnet: Testnet,
    /// Deployed the contracts and runs the fleet.
    pub operator: Windlass,
    /// The fleet.
    pub fleet: u64,
    site: Site,
    publish: Option<Running>,
}

/// A network of so many nodes, to be started.
pub fn network(nodes: usize) -> anyhow::Result<Builder> {
    Ok(Testnet::builder(program("windlass-testnet")?).nodes(nodes))
}

impl Story {
    /// Starts the chain, deploys the contracts, and starts three nodes.
    pub async fn start() -> anyhow::Result<Self> {
        Self::over(network(3)?).await
    }

    /// Starts a network of one's own making.
    pub async fn over(network: Builder) -> anyhow::Result<Self> {
        let testnet = network.start().await?;
        let operator = Windlass::new(&testnet.profile())?;
        Ok(Self { testnet, operator, fleet: 0, site: Site::start().await?, publish: None })
    }

    /// A network with A, named and published through two relays or more, and B with a grant.
    pub async fn published() -> anyhow::Result<(Self, Actor, Actor)> {
        let mut story = Self::start().await?;
        story.create_fleet().await?;
        let (a, b) = (story.enrol("a").await?, story.enrol("b").await?);
        story.register_name(&a).await?;
        story.grant(&a, &b).await?;
        ensure!(story.publish(&a).await? >= 2, "A is reachable through one relay only");
        Ok((story, a, b))
    }

    /// A key that is enrolled nowhere.
    pub fn stranger(&self, name: &str) -> anyhow::Result<Actor> {
        let (key, files) = self.testnet.create_key(name)?;
        let windlass = Windlass::new(&files.profile)?;
        Ok(Actor { id: key.address().to_string(), files, windlass })
    }

    /// Runs a command of the operator's that sends a transaction, and waits until every node serves its block.
    pub async fn change(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let done = self.operator.done(arguments).await?;
        let block = done["block"].as_u64().with_context(|| format!("no block in {done}"))?;
        self.testnet.wait_served(block).await?;
        Ok(done)
    }

    /// Makes the fleet.
    pub async fn create_fleet(&mut self) -> anyhow::Result<u64> {
        let made = self.change(&["fleet", "create"]).await?;
        self.fleet = made["fleet"].as_u64().with_context(|| format!("no fleet in {made}"))?;
        Ok(self.fleet)
    }

    /// Makes a key and enrols it, with its consent.
    pub async fn enrol(&self, name: &str) -> anyhow::Result<Actor> {
        let actor = self.stranger(name)?;
        let (fleet, key) = (self.fleet.to_string(), actor.files.key.to_string_lossy().into_owned());
        self.change(&["device", "enrol", "--fleet", &fleet, "--device-key", &key]).await?;
        Ok(actor)
    }

    /// Registers [`NAME`] for a device, by commitment and revelation.
    pub async fn register_name(&self, target: &Actor) -> anyhow::Result<()> {
        self.change(&["name", "register", NAME, "--target", &target.id]).await.map(drop)
    }

    /// Lets the grantee open [`SERVICE`] on the target.
    pub async fn grant(&self, target: &Actor, grantee: &Actor) -> anyhow::Result<()> {
        let fleet = self.fleet.to_string();
        let arguments = [
            "grant",
            "add",
            "--fleet",
            &fleet,
            "--target",
            &target.id,
            "--grantee",
            &grantee.id,
            "--service",
            SERVICE,
        ];
        self.change(&arguments).await.map(drop)
    }

    /// Publishes the site as a private service of the device, reachable through at least two relays.
    pub async fn publish(&mut self, device: &Actor) -> anyhow::Result<usize> {
        let to = self.site.address().to_string();
        let arguments = ["publish", "--service", SERVICE, "--to", &to, "--mode", "private"];
        let mut running = device.windlass.start(&arguments)?;
        let reachable = |event: &Value| relays(event) >= 2;
        let event = running.event(SOON, reachable).await?;
        self.publish = Some(running);
        Ok(relays(&event))
    }

    /// Resolves [`NAME`] as this device, with proofs.
    pub async fn resolve(&self, device: &Actor) -> anyhow::Result<Value> {
        device.windlass.done(&["resolve", NAME]).await
    }

    /// Kills what publishes the site, as kill -9 does.
    pub async fn kill_publisher(&mut self) -> anyhow::Result<()> {
        self.publish.take().context("nothing is published")?.kill().await
    }

    /// Starts a local forward to the service.
    pub async fn forward(&self, device: &Actor) -> anyhow::Result<Forward> {
        self.forward_at(device, "127.0.0.1:0").await
    }

    /// Starts a local forward to the service that listens on this address.
    pub async fn forward_at(&self, device: &Actor, listen: &str) -> anyhow::Result<Forward> {
        let target = format!("{NAME}:{SERVICE}");
        let mut running = device.windlass.start(&["forward", "--listen", listen, &target])?;
        let event = running.event(SOON, |event| event["event"] == "listening").await?;
        let address = event["address"].as_str().context("no address in the forward's event")?.parse()?;
        Ok(Forward { running, address })
    }

    /// Fetches the page with curl and compares it.
    pub async fn fetch_page(&self, forward: &Forward) -> anyhow::Result<()> {
        let page = curl(&format!("http://{}/", forward.address)).await?;
        ensure!(page == PAGE.as_bytes(), "the page came back as {:?}", String::from_utf8_lossy(&page));
        Ok(())
    }

    /// Fetches the file with curl and compares hashes; returns bytes per second.
    pub async fn fetch_file(&self, forward: &Forward) -> anyhow::Result<f64> {
        let since = Instant::now();
        let file = curl(&format!("http://{}/file", forward.address)).await?;
        let seconds = since.elapsed().as_secs_f64();
        ensure!(file.len() == FILE_BYTES, "the file came back with {} bytes", file.len());
        ensure!(keccak256(&file) == file_hash(), "the file came back changed");
        Ok(file.len() as f64 / seconds)
    }

    /// Tries to fetch the page, and returns the code of the refusal.
    pub async fn refusal(&self, device: &Actor) -> anyhow::Result<String> {
        let mut forward = self.forward(device).await?;
        if let Ok(page) = curl(&format!("http://{}/", forward.address)).await {
            bail!("a page of {} bytes came back where none should", page.len());
        }
        let event = forward.running.event(SOON, |event| event["event"] == "refused").await?;
        Ok(event["code"].as_str().context("a refusal without a code")?.to_owned())
    }

    /// Kills the node that relays this forward's streams.
    pub async fn kill_relay(&mut self, forward: &mut Forward) -> anyhow::Result<usize> {
        let event = forward.running.event(SOON, |event| event["event"] == "opened").await?;
        let via = relay_of(&event).with_context(|| format!("no relay in {event}"))?;
        let mut nodes = self.testnet.nodes().iter();
        let index = nodes
            .position(|node| node.as_ref().is_some_and(|node| node.multiaddr.ends_with(&via)))
            .with_context(|| format!("the relay {via} is none of the nodes"))?;
        self.testnet.kill_node(index).await?;
        Ok(index)
    }

    /// Ends everything.
    pub async fn shutdown(self) {
        if let Some(publish) = self.publish {
            // It has ended already if this fails.
            let _ = publish.kill().await;
        }
        self.testnet.shutdown().await;
    }
}

/// The peer id of the relay that a stream goes through.
pub fn relay_of(opened: &Value) -> Option<String> {
    opened["path"].as_str()?.strip_prefix("relayed via ").map(str::to_owned)
}

fn relays(event: &Value) -> usize {
    event["relays"].as_array().map_or(0, Vec::len)
}

/// Fetches a page as anybody would.
pub async fn curl(url: &str) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "60", url])
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run curl")?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    bail!("curl {url}: {}", String::from_utf8_lossy(&output.stderr).trim())
}
