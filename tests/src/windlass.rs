//! Running the project's programs as a person would: as processes, judged by what they print and by
//! their exit codes.

use anyhow::{Context, bail};
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long one command may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);
/// Lines of a running program that wait to be read.
const LINES: usize = 256;

/// One of this project's programs, built beside the one that runs now.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    // Tests lie in a folder below the programs'.
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built beside {}; run make build", own.display()))
}

/// `windlass` with one profile.
#[derive(Clone, Debug)]
pub struct Windlass {
    program: PathBuf,
    profile: PathBuf,
    /// What runs the program somewhere else, if anything.
    place: Vec<OsString>,
}

/// What a command said in the end.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// The last line of standard output, as JSON; null when there is none.
    pub json: Value,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Windlass {
    /// The command line with this profile.
    pub fn new(profile: &Path) -> anyhow::Result<Self> {
        Ok(Self { program: program("windlass")?, profile: profile.to_owned(), place: Vec::new() })
    }

    /// The same, run by another command: one that runs what it is given somewhere else.
    pub fn within<A: Into<OsString>>(&self, place: impl IntoIterator<Item = A>) -> Self {
        Self { place: place.into_iter().map(Into::into).collect(), ..self.clone() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self.place.iter().map(OsString::as_os_str).chain([self.program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command.arg("--json").arg("--profile").arg(&self.profile).args(arguments).kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<Outcome> {
        let running = self.command(arguments).stdin(Stdio::null()).output();
        let output = timeout(COMMAND_WITHIN, running)
            .await
            .with_context(|| format!("windlass {} did not end in time", arguments.join(" ")))??;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let json = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
        Ok(Outcome {
            code: output.status.code().unwrap_or(-1),
            json: json.unwrap_or(Value::Null),
            stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub async fn done(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let outcome = self.run(arguments).await?;
        if outcome.code != 0 {
            bail!("windlass {} ended with {}: {}", arguments.join(" "), outcome.code, outcome.stderr.trim());
        }
        Ok(outcome.json)
    }

    /// Starts a command that goes on until it is ended.
    pub fn start(&self, arguments: &[&str]) -> anyhow::Result<Running> {
        let mut command = self.command(arguments);
        command.arg("--stdin-guard");
        Running::start(command, arguments.join(" "))
    }
}

/// A program that runs on and prints lines of JSON. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    events: mpsc::Receiver<Value>,
    errors: mpsc::Receiver<Value>,
}

impl Running {
    /// Starts any program that prints lines of JSON.
    pub fn start(mut command: Command, what: String) -> anyhow::Result<Self> {
        let mut child = command
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let stdin = child.stdin.take();
        Ok(Self { what, child, stdin, events: lines(stdout), errors: lines(stderr) })
    }

    /// The next line on standard output for which `wanted` holds.
    pub async fn event(
        &mut self,
        within: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let mut seen = Vec::new();
        let search = async {
            while let Some(event) = self.events.recv().await {
                if wanted(&event) {
                    return Some(event);
                }
                seen.push(event.to_string());
            }
            None
        };
        match timeout(within, search).await {
            Ok(Some(event)) => Ok(event),
            outcome => {
                let why = if outcome.is_ok() { "ended" } else { "said nothing of the kind in time" };
                let errors: Vec<String> =
                    std::iter::from_fn(|| self.errors.try_recv().ok()).map(|line| line.to_string()).collect();
                bail!("{} {why}; it said: {} {}", self.what, seen.join(" "), errors.join(" "))
            }
        }
    }

    /// The next line on standard output, or `None` when it has ended.
    pub async fn next(&mut self) -> Option<Value> {
        self.events.recv().await
    }

    /// Writes a line to its standard input, which stays open until it ends.
    pub async fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("stdin is piped")?;
        stdin.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(stdin.flush().await?)
    }

    /// Its process id, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks it to end by closing its standard input, and returns the last line it prints.
    pub async fn finish(mut self, within: Duration) -> anyhow::Result<Value> {
        drop(self.stdin.take());
        let last = async {
            let mut last = Value::Null;
            while let Some(line) = self.events.recv().await {
                last = line;
            }
            last
        };
        timeout(within, last).await.with_context(|| format!("{} did not end in time", self.what))
    }

    /// Ends it at once, as kill -9 does.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Each line as JSON, or as a string where it is none. A reader that lags makes the program wait.
fn lines(output: impl AsyncRead + Unpin + Send + 'static) -> mpsc::Receiver<Value> {
    let (sender, receiver) = mpsc::channel(LINES);
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
            // Lines that nobody waits for any more are dropped, but still read.
            let _ = sender.send(value).await;
        }
    });
    receiver
}
