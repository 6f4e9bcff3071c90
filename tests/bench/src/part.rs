//! Processes of a measurement: this program started again with another subcommand. A part says on its
//! first line how to reach it, and ends when its standard input closes, so none outlives the run.

use crate::system::Running;
use anyhow::{Context, Result, bail};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

/// Time a part has to say how to reach it; iroh looks for its relay first, Windlass starts a
/// chain, deploys its contracts and mirrors them.
const READY: Duration = Duration::from_secs(60);
/// Time one round's measurement may take before it counts as hung.
const MEASURE: Duration = Duration::from_secs(180);

/// A running network or listener.
pub struct Part {
    child: Child,
    input: ChildStdin,
    contact: String,
}

impl Part {
    /// Starts it and waits until it can be reached.
    pub async fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = command(arguments)?.stdin(Stdio::piped()).spawn().context("starting a part")?;
        let input = child.stdin.take().context("a part without standard input")?;
        let mut output = BufReader::new(child.stdout.take().context("a part without standard output")?);
        let mut contact = String::new();
        timeout(READY, output.read_line(&mut contact)).await.context("a part was not ready in time")??;
        if contact.is_empty() {
            bail!("the part '{}' ended before it was ready", arguments.join(" "));
        }
        Ok(Self { child, input, contact: contact.trim_end().to_owned() })
    }

    pub fn contact(&self) -> &str {
        &self.contact
    }

    /// Ends it and waits for its end.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.input);
        self.child.wait().await.context("waiting for a part")?;
        Ok(())
    }
}

/// Runs a part to its end and returns what it printed.
pub async fn output(arguments: &[&str], more: &[String]) -> Result<String> {
    let run = command(arguments)?.args(more).stdin(Stdio::null()).output();
    let output = timeout(MEASURE, run).await.context("a measurement hung")?.context("starting a part")?;
    if !output.status.success() {
        bail!("the dialling process failed ({})", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// In the part itself: says how to reach it and waits for the end of standard input.
pub async fn serve(running: Running) -> Result<()> {
    println!("{}", running.contact);
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await?;
    drop(running.alive);
    // The listener's tasks have nothing to finish: the runtime's own end would wait for them.
    std::process::exit(0);
}

fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    Ok(command)
}
