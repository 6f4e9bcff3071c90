//! `windlass-testnet up` and the library beneath it, with real processes: what comes up, what ends it, and
//! what comes up again.
#![allow(clippy::unwrap_used)]

mod ends;
mod keeps;
mod library;

use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const PROGRAM: &str = env!("CARGO_BIN_EXE_windlass-testnet");

/// Longer than any network takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network as somebody at a terminal has it. Killed when dropped.
struct Up {
    child: Child,
    /// What it said when it was ready.
    ready: Value,
}

fn up(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["up", "--port", "0"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

impl Up {
    async fn start(arguments: &[&str]) -> Self {
        let mut child = up(arguments).arg("--json").spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(line) = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap() else {
            panic!("the network did not start: {}", errors(&mut child).await);
        };
        Self { child, ready: serde_json::from_str(&line).unwrap() }
    }

    fn text(&self, pointer: &str) -> &str {
        self.ready.pointer(pointer).and_then(Value::as_str).unwrap()
    }

    /// The processes of the parts, the chain's first.
    fn parts(&self) -> Vec<u32> {
        let nodes = self.ready["nodes"].as_array().unwrap().iter().map(|node| &node["process"]);
        let parts = std::iter::once(&self.ready["chain_process"]).chain(nodes);
        parts.filter_map(Value::as_u64).map(|process| process.try_into().unwrap()).collect()
    }

    /// The socket addresses the parts listen on.
    fn ports(&self) -> Vec<String> {
        let mut ports = vec![self.text("/rpc_url").strip_prefix("http://").unwrap().to_owned()];
        for node in self.ready["nodes"].as_array().unwrap() {
            let multiaddr = node["multiaddr"].as_str().unwrap();
            let port = multiaddr.split('/').skip_while(|part| *part != "tcp").nth(1).unwrap();
            ports.push(format!("127.0.0.1:{port}"));
            let health = node["health"].as_str().unwrap().strip_prefix("http://").unwrap();
            ports.push(health.strip_suffix("/health").unwrap().to_owned());
        }
        ports
    }

    /// Kill -9.
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until it ends by itself: its exit code and what it said.
    async fn ended(mut self) -> (Option<i32>, String) {
        let said = errors(&mut self.child).await;
        (self.child.wait().await.unwrap().code(), said)
    }

    /// Runs `windlass` with a profile of this network and gives what it printed.
    async fn windlass(&self, profile: &str, arguments: &[&str]) -> Value {
        windlass(Path::new(profile), arguments).await
    }
}

async fn errors(child: &mut Child) -> String {
    let mut said = String::new();
    timeout(PATIENCE, child.stderr.take().unwrap().read_to_string(&mut said)).await.unwrap().unwrap();
    said
}

async fn windlass(profile: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(PROGRAM);
    command.args(["cli", "--json", "--profile"]).arg(profile).args(arguments).stdin(Stdio::null());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether the process runs; one that only waits for somebody to ask how it ended doesn't.
fn runs(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Ends a process as kill -9 does.
fn kill(process: u32) {
    let killed = std::process::Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
    assert!(killed.success());
}
