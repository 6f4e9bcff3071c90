//! No key, passphrase or payload is in anything a program writes, not even at the most talkative level.

#![allow(missing_docs)]

use anyhow::{Context, ensure};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::{Child, Command};
use windlass_protocol::SecretKey;
use windlass_tests::site::{PAGE, Site};
use windlass_tests::story::curl;
use windlass_tests::windlass::{Running, program};

/// A network whose parts all log everything.
struct Network {
    running: Running,
    up: Value,
    folder: tempfile::TempDir,
}

/// A program whose every output goes to a file. Killed when dropped.
struct Told {
    _child: Child,
    output: PathBuf,
}

impl Network {
    async fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(program("windlass-testnet")?);
        command.args(["up", "--nodes=2", "--devices=2", "--port=0", "--json"]).env("WINDLASS_LOG", "trace");
        let mut running = Running::start(command, "the network".to_owned())?;
        let up = running.event(Duration::from_secs(60), |event| event["devices"].is_array()).await?;
        Ok(Self { running, up, folder: tempfile::tempdir()? })
    }

    fn text(&self, pointer: &str) -> anyhow::Result<&str> {
        self.up.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no {pointer}"))
    }

    fn windlass(&self, name: &str, profile: &str, arguments: &[&str]) -> anyhow::Result<Told> {
        let output = self.folder.path().join(name);
        let file = File::create(&output)?;
        let child = Command::new(program("windlass")?)
            .args(["--json", "--profile", profile])
            .args(arguments)
            .env("WINDLASS_LOG", "trace")
            .stdin(std::process::Stdio::null())
            .stderr(file.try_clone()?)
            .stdout(file)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Told { _child: child, output })
    }

    /// Every way in which a secret of this network could be written.
    fn secrets(&self) -> anyhow::Result<Vec<String>> {
        let passphrase = fs::read_to_string(self.text("/passphrase_file")?)?;
        let keys = Path::new(self.text("/directory")?).join("keys");
        let mut secrets = Vec::new();
        for file in fs::read_dir(keys)? {
            let key: SecretKey = windlass_keyfile::read(&file?.path(), passphrase.trim())?;
            let bytes = key.to_bytes();
            secrets.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
            secrets.push(bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", "));
        }
        ensure!(secrets.len() >= 10, "an operator, two nodes and two devices have keys: {}", secrets.len());
        Ok(secrets)
    }
}

impl Told {
    /// Waits until it has written this.
    async fn says(&self, words: &str) -> anyhow::Result<()> {
        let said = async {
            while !fs::read_to_string(&self.output).is_ok_and(|text| text.contains(words)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), said).await.with_context(|| format!("no {words:?}"))
    }
}

/// What this address serves, once the nodes serve the block with the grant.
async fn fetched(address: &str) -> anyhow::Result<Vec<u8>> {
    let url = format!("http://{address}/");
    let page = async {
        loop {
            match curl(&url).await {
                Ok(page) => return page,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), page).await.context("nothing comes through")
}

fn written(folder: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry?.path();
        let text = String::from_utf8_lossy(&fs::read(&path)?).to_lowercase();
        anyhow::Ok((path, text))
    };
    fs::read_dir(folder)?.map(read).collect()
}

#[tokio::test]
async fn no_key_passphrase_or_payload_is_in_any_log() -> anyhow::Result<()> {
    let network = Network::start().await?;
    let (site, fleet) = (Site::start().await?, network.up["fleet"].to_string());
    let (one, two) = (network.text("/devices/0/id")?, network.text("/devices/1/id")?);
    let grant =
        ["grant", "add", "--fleet", &fleet, "--target", one, "--grantee", two, "--service", "tcp/8080"];
    let granted = network.windlass("grant", network.text("/profile")?, &grant)?;
    granted.says("\"did\":\"granted\"").await?;
    let to = site.address().to_string();
    let publish = ["publish", "--service", "tcp/8080", "--to", &to];
    let published = network.windlass("publish", network.text("/devices/0/profile")?, &publish)?;
    published.says("\"relays\":[\"").await?;
    let forward = ["forward", "--listen", "127.0.0.1:0", "device-1:tcp/8080"];
    let forwarded = network.windlass("forward", network.text("/devices/1/profile")?, &forward)?;
    forwarded.says("\"event\":\"listening\"").await?;
    let text = fs::read_to_string(&forwarded.output)?;
    let line = text.lines().find(|line| line.contains("\"listening\"")).context("a listening line")?;
    let event: Value = serde_json::from_str(line)?;
    let address = event["address"].as_str().context("no address")?;
    ensure!(fetched(address).await? == PAGE.as_bytes(), "another page");

    let mut logs = written(&Path::new(network.text("/directory")?).join("logs"))?;
    logs.extend(written(network.folder.path())?);
    ensure!(logs.len() == 6, "a chain, two nodes, three commands: {}", logs.len());
    let payload = "hello from behind the relay";
    for (path, text) in &logs {
        // The chain has nothing to tell while all goes well.
        ensure!(text.contains("trace") || path.ends_with("chain.log"), "{} holds no traces", path.display());
        for secret in network.secrets()? {
            ensure!(!text.contains(&secret), "{} holds a key", path.display());
        }
        ensure!(!text.contains(payload), "{} holds what was sent", path.display());
        // The development passphrase is an everyday word; as a value it is quoted.
        ensure!(!text.contains("passphrase: \"") && !text.contains("passphrase=\""), "{}", path.display());
    }
    network.running.kill().await
}
