//! Lies: a device that asks a node that lies refuses its answer, says which node and what was wrong, and
//! is served by another.

use super::{Actor, NAME, SOON, Story};
use crate::evil::Lie;
use crate::windlass::{Running, Windlass, program};
use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde_json::Value;
use std::fs;
use tokio::process::Command;

/// How often a connection to the lying node may break, on a machine that is busy with everything else.
const BROKEN: usize = 3;

impl Story {
    /// Starts a node that lies like this. It asks the first node that runs.
    pub async fn start_evil(&self, lie: Lie) -> anyhow::Result<(Running, String)> {
        let honest = self.testnet.multiaddrs().into_iter().next().context("no node runs")?;
        let name = lie.to_possible_value().context("every lie has a name")?;
        let mut command = Command::new(program("evil-node")?);
        command.args(["--honest", &honest, "--lie", name.get_name(), "--record", NAME]);
        let folder = self.testnet.directory();
        command.arg("--spec").arg(folder.join("chain.spec"));
        command.args(["--publisher", &self.testnet.publisher().to_string()]);
        if lie.needs_member() {
            // The third node's, which the first, honest one has nothing to do with; or the one that was replaced.
            let member = if lie == Lie::RetiredCommittee { "keys/node-1.json" } else { "keys/node-3.json" };
            command.arg("--member-key").arg(folder.join(member));
            command.arg("--passphrase-file").arg(folder.join("passphrase"));
        }
        let mut running = Running::start(command, "evil-node".to_owned())?;
        let event = running.event(SOON, |event| event["listen"].is_array()).await?;
        let multiaddr = event["listen"][0].as_str().context("no multiaddr in the ready line")?.to_owned();
        Ok((running, multiaddr))
    }

    /// The device's command line, with these nodes alone.
    pub fn with_nodes(&self, device: &Actor, suffix: &str, nodes: &[String]) -> anyhow::Result<Windlass> {
        let profile = fs::read_to_string(&device.files.profile)?;
        let nodes = serde_json::to_string(nodes)?;
        let lines = profile.lines().map(|line| match line.starts_with("nodes") {
            true => format!("nodes = {nodes}\n"),
            false => format!("{line}\n"),
        });
        let path = device.files.profile.with_extension(format!("{suffix}.toml"));
        fs::write(&path, lines.collect::<String>())?;
        Windlass::new(&path)
    }

    /// Resolves the name where the lying node is asked first; returns what the device says of it, which must be
    /// what this lie deserves: a node that merely died or was slow doesn't pass for one that lied.
    pub async fn resolve_past_a_lie(
        &self,
        device: &Actor,
        target: &Actor,
        lie: Lie,
    ) -> anyhow::Result<String> {
        let (evil, multiaddr) = self.start_evil(lie).await?;
        if lie == Lie::StaleHead {
            self.grow_past_recording(device).await?;
        }
        let mut nodes = vec![multiaddr.clone()];
        nodes.extend(self.testnet.multiaddrs());
        let windlass = self.with_nodes(device, "lied-to", &nodes)?;
        let peer = multiaddr.rsplit('/').next().unwrap_or_default();
        let mut answer = windlass.done(&["resolve", NAME]).await?;
        for _ in 0..BROKEN {
            // Where the connection broke before the lie arrived, nothing was shown yet.
            let broke = refusal_of(&answer, peer).and_then(|entry| entry["reason"].as_str());
            if !broke.is_some_and(|reason| reason.contains("the stream failed")) {
                break;
            }
            answer = windlass.done(&["resolve", NAME]).await?;
        }
        evil.kill().await?;
        ensure!(answer["device"] == target.id.as_str(), "{lie:?} was believed: {answer}");
        let entry =
            refusal_of(&answer, peer).with_context(|| format!("{lie:?} was not reported: {answer}"))?;
        let (words, is_lie) = lie.deserves();
        let reason = entry["reason"].as_str().context("a refusal without its reason")?;
        ensure!(reason.contains(words), "{lie:?} was refused for another reason: {reason}");
        ensure!(entry["lie"] == is_lie, "{lie:?} was told as {entry}");
        Ok(reason.to_owned())
    }

    /// Makes a block, and has this device see a later head than any recorded so far.
    async fn grow_past_recording(&self, device: &Actor) -> anyhow::Result<()> {
        self.change(&["fleet", "create"]).await?;
        self.resolve(device).await.map(drop)
    }
}

/// What an answer says about a refused node.
fn refusal_of<'a>(answer: &'a Value, peer: &str) -> Option<&'a Value> {
    answer["proof"]["refused"].as_array()?.iter().find(|entry| entry["peer"] == peer)
}
