//! Each fault that the embedded chain knows, at a provider of a real node: what the node does about it, and says.

#![allow(missing_docs)]

use alloy::rpc::client::ClientBuilder;
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::process::Command;
use windlass_testnet::network::{Testnet, health};
use windlass_tests::windlass::{Running, program};

/// How long a node may take to notice a fault: two comparisons of its providers, and some rounds.
const NOTICED_WITHIN: Duration = Duration::from_secs(40);
/// Between two looks at a node's health.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A network of one node, and its chain.
struct World {
    testnet: Testnet,
    folder: tempfile::TempDir,
}

/// A node of nobody's committee, with providers of its own.
struct Observer {
    name: &'static str,
    running: Running,
    admin: String,
}

impl World {
    async fn start() -> anyhow::Result<Self> {
        let network = Testnet::builder(program("windlass-testnet")?).nodes(1).devices(1).heartbeat(0.5);
        Ok(Self { testnet: network.start().await?, folder: tempfile::tempdir()? })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.testnet.rpc_url().trim_end_matches('/'))
    }

    /// From now on whoever connects to `/faults/NAME` gets these.
    async fn fault(&self, name: &str, faults: Value) -> anyhow::Result<()> {
        let client = ClientBuilder::default().http(self.url("").parse()?);
        client.request::<_, Value>("dev_faults", json!([name, faults])).await?;
        Ok(())
    }

    async fn latest(&self) -> anyhow::Result<u64> {
        let client = ClientBuilder::default().http(self.url("").parse()?);
        let number: String = client.request("eth_blockNumber", ()).await?;
        Ok(u64::from_str_radix(number.trim_start_matches("0x"), 16)?)
    }

    fn command(&self, name: &str, providers: &[String]) -> anyhow::Result<Command> {
        let (_, key) = self.testnet.create_key(name)?;
        let text = |path: &std::path::Path| toml(&path.display().to_string());
        let config = [
            format!("data_dir = {}", text(&self.folder.path().join(name))),
            format!("key_file = {}", text(&key.key)),
            format!("passphrase_file = {}", text(&self.testnet.passphrase_file())),
            format!("spec_file = {}", text(&self.testnet.spec_file())),
            format!("publisher = \"{}\"", self.testnet.publisher()),
            format!("providers = {providers:?}"),
            "listen = [\"/ip4/127.0.0.1/tcp/0\"]".to_owned(),
            format!("peers = {:?}", self.testnet.multiaddrs()),
            "admin = \"127.0.0.1:0\"".to_owned(),
            "poll_interval_ms = 100".to_owned(),
        ];
        let path = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&path, config.join("\n") + "\n")?;
        let mut command = Command::new(program("windlass-node")?);
        command.args(["run", "--json", "--config"]).arg(path).env("WINDLASS_LOG", "off");
        Ok(command)
    }

    /// A node whose first provider has the faults of its name, and the second none, if there is one.
    async fn observe(&self, name: &'static str, alone: bool) -> anyhow::Result<Observer> {
        let mut providers = vec![self.url(&format!("/faults/{name}"))];
        if !alone {
            providers.push(self.url(""));
        }
        let mut command = self.command(name, &providers)?;
        command.arg("--stdin-guard");
        let mut running = Running::start(command, name.to_owned())?;
        let up = running.event(NOTICED_WITHIN, |line| line["admin"].is_string()).await?;
        let admin = up["admin"].as_str().context("an admin address")?.to_owned();
        Ok(Observer { name, running, admin })
    }

    /// What a node that is started on the faulty provider alone says when it refuses.
    async fn refusal(&self, name: &'static str) -> anyhow::Result<String> {
        let providers = [self.url(&format!("/faults/{name}"))];
        let ended = self.command(name, &providers)?.kill_on_drop(true).output().await?;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        ensure!(ended.status.code() == Some(2) && said.lines().count() == 1, "{name}: {said}");
        Ok(said)
    }
}

fn toml(text: &str) -> String {
    format!("{text:?}")
}

impl Observer {
    /// Waits until the node's health is as wanted.
    async fn says(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let deadline = Instant::now() + NOTICED_WITHIN;
        loop {
            let said = health(&self.admin).await.unwrap_or_default();
            if wanted(&said) {
                return Ok(said);
            }
            ensure!(Instant::now() < deadline, "{} is not {what}: {said}", self.name);
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn serves(&self, block: u64) -> anyhow::Result<Value> {
        self.says("serving", |said| {
            said["status"] == "ok" && said["served"]["number"].as_u64() >= Some(block)
        })
        .await
    }

    /// The second provider is asked first, and of the first the node says this.
    async fn left(&self, words: &[&str]) -> anyhow::Result<Value> {
        let left = |said: &Value| {
            let failure = said["providers"][0]["last_failure"].as_str().unwrap_or_default();
            said["providers"][1]["preferred"] == true && words.iter().any(|words| failure.contains(words))
        };
        self.says(&format!("saying {words:?} of a provider it left"), left).await
    }

    async fn end(self) -> anyhow::Result<()> {
        self.running.kill().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_provider_is_left_for_the_next_one_and_named_with_its_fault() -> anyhow::Result<()> {
    let world = World::start().await?;
    let cases = [
        ("lag", json!({"lag": 8}), ["stays behind", "has no block"]),
        ("slow", json!({"answerDelay": 2_500}), ["waiting", "no answer within"]),
        ("forgetful", json!({"dropLogs": 1}), ["the chain proves", "the chain proves"]),
        ("stale", json!({"staleProofs": 2}), ["proof", "proof"]),
        ("cut", json!({"truncatedProofs": true}), ["proof", "proof"]),
        ("pruned", json!({"keep": 0}), ["pruned", "pruned"]),
        ("dead", json!({"answers": 0}), ["provider", "provider"]),
    ];
    let mut observers = Vec::new();
    for (name, _, _) in &cases {
        observers.push(world.observe(name, false).await?);
    }
    for observer in &observers {
        observer.serves(1).await?;
    }
    // The faults come while the nodes follow, and something is written under their eyes.
    for (name, faults, _) in &cases {
        world.fault(name, faults.clone()).await?;
    }
    world.testnet.create_fleet().await?;
    for (observer, (_, _, words)) in observers.iter().zip(&cases) {
        let said = observer.left(words).await?;
        ensure!(said["providers"][0]["failures"].as_u64() > Some(0), "{said}");
        ensure!(said["mirror"]["rebuilds"] == 0, "nothing that was proven is lost: {said}");
    }
    let latest = world.latest().await?;
    for observer in observers {
        observer.serves(latest).await?;
        observer.end().await?;
    }
    world.testnet.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_faulty_provider_alone_serves_what_is_proven_and_recovers() -> anyhow::Result<()> {
    let world = World::start().await?;
    let cases = [
        ("forgetful", json!({"dropLogs": 1}), "the chain proves"),
        ("cut", json!({"truncatedProofs": true}), "proof"),
        ("dead", json!({"answers": 0}), "provider"),
    ];
    let mut observers = Vec::new();
    for (name, _, _) in &cases {
        observers.push(world.observe(name, true).await?);
    }
    // What is no lie costs nothing: logs that come twice, values that no proof is asked for, late heads.
    let harmless = [("twice", json!({"duplicateLogs": 1})), ("delayed", json!({"headDelay": 300}))];
    for (name, faults) in &harmless {
        world.fault(name, faults.clone()).await?;
        observers.push(world.observe(name, true).await?);
    }
    for observer in &observers {
        observer.serves(1).await?;
    }
    for (name, faults, _) in &cases {
        world.fault(name, faults.clone()).await?;
    }
    world.testnet.create_fleet().await?;
    let latest = world.latest().await?;
    for (observer, (_, _, words)) in observers.iter().zip(&cases) {
        let told = |said: &Value| {
            ["trouble", "unproven"]
                .iter()
                .any(|key| said[key].as_str().is_some_and(|why| why.contains(words)))
        };
        let said = observer.says(&format!("saying \"{words}\""), told).await?;
        ensure!(said["served"]["number"].as_u64() < Some(latest), "{said}");
        ensure!(said["providers"][0]["failures"].as_u64() > Some(0), "{said}");
    }
    for observer in &observers[cases.len()..] {
        let said = observer.serves(latest).await?;
        ensure!(said["providers"][0]["failures"] == 0, "{said}");
    }
    for (name, _, _) in &cases {
        world.fault(name, Value::Null).await?;
    }
    for observer in observers {
        let said = observer.serves(latest).await?;
        ensure!(said["mirror"]["rebuilds"] == 0, "{said}");
        observer.end().await?;
    }
    world.testnet.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_proves_wrongly_is_refused_at_the_start_by_name() -> anyhow::Result<()> {
    let world = World::start().await?;
    for (name, faults, words) in [
        ("stale", json!({"staleProofs": 1}), "not eligible"),
        ("cut", json!({"truncatedProofs": true}), "not eligible"),
        ("wrong", json!({"wrongValues": true}), "not eligible"),
        ("dead", json!({"answers": 0}), "no chain provider answers"),
    ] {
        world.fault(name, faults).await?;
        let said = world.refusal(name).await?;
        ensure!(said.contains(words) && said.contains("127.0.0.1"), "{name}: {said}");
        ensure!(!said.contains("/faults/"), "a path may hold an access key: {said}");
    }
    world.testnet.shutdown().await;
    Ok(())
}
