//! The chain and the node of a load: processes of the product over a copy of a fixture, and the fixture's devices.

use crate::systems::windlass::program;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use windlass_client::{Client, Mode, Policy, SecretKey, Service, VerifiedSpec, verify_spec};
use windlass_protocol::keccak256;

/// What every device publishes here.
pub const SERVICE: Service = Service::Stream(9000);
/// How long a part may take until it is ready, and the node until it serves.
const READY: Duration = Duration::from_secs(60);
/// Between two looks at the node's health.
const PAUSE: Duration = Duration::from_millis(50);

/// Everything a device is told, and a part of a measurement with it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Contact {
    spec: PathBuf,
    publisher: String,
    node: String,
}

impl Contact {
    /// The fixture's device with this number, as a client with shipped limits.
    pub async fn device(&self, number: u64, direct: bool) -> Result<Client> {
        let nodes = [self.node.parse()?];
        Ok(Client::builder(self.spec()?, key(number)?).nodes(nodes).direct(direct).start().await?)
    }

    /// The node, for whoever only reserves there.
    pub fn relay(&self) -> Result<libp2p::Multiaddr> {
        Ok(self.node.parse()?)
    }

    fn spec(&self) -> Result<VerifiedSpec> {
        Ok(verify_spec(&std::fs::read(&self.spec)?, self.publisher.parse()?)?)
    }
}

/// Open to every active device of the fixture's fleet.
pub fn policy() -> Policy {
    Policy { mode: Mode::Protected, ..Policy::default() }
}

/// The key of the fixture's device with this number.
pub fn key(number: u64) -> Result<SecretKey> {
    Ok(SecretKey::from_bytes(&keccak256([&b"device"[..], &number.to_be_bytes()].concat()).0)?)
}

/// A running chain and node.
pub struct Site {
    folder: PathBuf,
    chain: Option<Running>,
    node: Option<Running>,
    pub contact: Contact,
    admin: String,
    port: u16,
}

/// A part and its ready line; killed when dropped.
struct Running {
    child: Child,
    ready: serde_json::Value,
}

impl Site {
    pub async fn start(fixture: &Path) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("windlass-load-{}", std::process::id()));
        let copied = Command::new("cp").arg("-r").arg(fixture).arg(&folder).status().await?;
        ensure!(copied.success(), "can't copy {}", fixture.display());
        let port = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port();
        let publisher = publisher(&folder)?;
        // The fixture's own spec is older than anybody may trust by now.
        let spec = folder.join("renewed.spec");
        renew(&folder, &publisher, &spec).await?;
        // The fixture may be older than the release: what a mirror knows of its spec changes, the chain doesn't.
        std::fs::remove_dir_all(folder.join("node-1"))?;
        let contact = Contact { spec, publisher, node: String::new() };
        let mut site = Self { folder, chain: None, node: None, contact, admin: String::new(), port };
        let state = format!("--state={}", site.folder.join("chain").display());
        let chain = ["chain", "--json", "--stdin-guard", "--port=0", "--finality=immediate", "--heartbeat=5"];
        site.chain = Some(start(&[&chain[..], &[&state]].concat()).await.context("the chain")?);
        site.start_node().await?;
        Ok(site)
    }

    /// Starts the node, where it was before, and waits until it serves.
    pub async fn start_node(&mut self) -> Result<()> {
        let chain = self.chain.as_ref().context("the chain has ended")?;
        let rpc = chain.ready["rpc_url"].as_str().context("no rpc_url")?;
        let config = self.folder.join("load.toml");
        let text = [
            "data_dir = \"node-1\"".to_owned(),
            "key_file = \"keys/node-1.json\"".to_owned(),
            "passphrase_file = \"passphrase\"".to_owned(),
            "spec_file = \"renewed.spec\"".to_owned(),
            format!("publisher = \"{}\"", self.contact.publisher),
            format!("providers = [\"{rpc}\"]"),
            format!("listen = [\"/ip4/127.0.0.1/tcp/{}\"]", self.port),
            "admin = \"127.0.0.1:0\"".to_owned(),
        ];
        std::fs::write(&config, text.join("\n"))?;
        let config = config.to_string_lossy().into_owned();
        let node = start(&["node", "run", "--json", "--stdin-guard", "--config", &config]).await?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("no such field");
        self.contact.node = text(&node.ready["listen"][0])?;
        self.admin = text(&node.ready["admin"])?;
        self.node = Some(node);
        let serves = async {
            while self.health().await.is_none_or(|said| said["status"] != "ok") {
                tokio::time::sleep(PAUSE).await;
            }
        };
        timeout(READY, serves).await.context("the node does not serve in time")
    }

    /// Ends the node as kill -9 does.
    pub async fn kill_node(&mut self) -> Result<()> {
        let mut node = self.node.take().context("the node has ended")?;
        Ok(node.child.kill().await?)
    }

    /// What the node says of itself.
    pub async fn health(&self) -> Option<serde_json::Value> {
        let mut stream = TcpStream::connect(&self.admin).await.ok()?;
        let request = format!("GET /health HTTP/1.0\r\nHost: {}\r\n\r\n", self.admin);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// KiB of memory that the node has.
    pub fn resident(&self) -> Result<u64> {
        self.of_node("status", |text| {
            text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
        })
    }

    /// Seconds of processor time that the node has used.
    pub fn processor_seconds(&self) -> Result<f64> {
        self.of_node("stat", |text| {
            let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
            let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
            // Linux counts in hundredths for whoever asks.
            Some(ticks / 100.0)
        })
    }

    fn of_node<T>(&self, file: &str, read: impl Fn(&str) -> Option<T>) -> Result<T> {
        let id = self.node.as_ref().and_then(|node| node.child.id()).context("the node has ended")?;
        let text = std::fs::read_to_string(format!("/proc/{id}/{file}"))?;
        read(&text).with_context(|| format!("/proc/{id}/{file} has another form"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Both are killed with their handles; what is left is the copy.
        (self.node, self.chain) = (None, None);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Signs the spec anew, dated today, with the same committee.
async fn renew(folder: &Path, publisher: &str, out: &Path) -> Result<()> {
    let old = verify_spec(&std::fs::read(folder.join("chain.spec"))?, publisher.parse()?)?;
    let committee: Vec<String> = old.committee.iter().map(ToString::to_string).collect();
    let mut command = Command::new(program()?);
    command.args(["cli", "--json", "--profile"]).arg(folder.join("windlass.toml")).args(["chain", "renew"]);
    command.args(["--committee", &committee.join(",")]).arg("--spec").arg(folder.join("chain.spec"));
    command.arg("--key").arg(folder.join("keys/operator.json"));
    command.arg("--passphrase-file").arg(folder.join("passphrase")).arg("--out").arg(out);
    let output = command.stdin(Stdio::null()).output().await?;
    ensure!(output.status.success(), "renewing the spec: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Who signed the fixture's spec, as its profile says.
fn publisher(folder: &Path) -> Result<String> {
    let profile = std::fs::read_to_string(folder.join("windlass.toml"))?;
    let line = profile.lines().find_map(|line| line.strip_prefix("publisher = \""));
    let publisher = line.and_then(|line| line.strip_suffix('"')).context("no publisher in the profile")?;
    Ok(publisher.to_owned())
}

async fn start(arguments: &[&str]) -> Result<Running> {
    let mut command = Command::new(program()?);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("starting windlass-testnet")?;
    let mut output = BufReader::new(child.stdout.take().context("stdout is piped")?);
    let mut line = String::new();
    timeout(READY, output.read_line(&mut line)).await.context("a part was not ready in time")??;
    let ready = serde_json::from_str(&line).with_context(|| format!("{} ended", arguments.join(" ")))?;
    // It prints nothing more; whoever reads on would only hold the pipe.
    tokio::spawn(
        async move { while output.read_line(&mut String::new()).await.is_ok_and(|read| read > 0) {} },
    );
    Ok(Running { child, ready })
}
