//! One process of the local network: starting it, knowing when it is ready, ending it.
//!
//! A part prints one line of JSON when it is ready, writes its log to standard error, and ends when its
//! standard input closes. That input is held here and by nobody else, so a part never outlives this
//! process, not even after kill -9.

use super::NetworkError;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long a part may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a part may take to end by itself once its standard input is closed.
const END_WITHIN: Duration = Duration::from_secs(5);
/// How long a part of an earlier network, whose parent is gone, may take to end.
const EARLIER_ENDS_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks whether it has.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// Bytes of a part's log that its failure quotes.
const LOG_TAIL_BYTES: usize = 2_000;

/// A running process of the network. Killed when dropped.
#[derive(Debug)]
pub struct Part {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    ready: serde_json::Value,
    log: PathBuf,
    drain: JoinHandle<()>,
}

impl Part {
    /// Starts `program arguments…` with its log in `log`, and waits for its ready line.
    pub(super) async fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        log: PathBuf,
    ) -> Result<Self, NetworkError> {
        let log_file = hold(name, &log).await?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| NetworkError::file(program, source))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout is piped above");
        let mut lines = BufReader::new(stdout).lines();
        let line = match timeout(READY_WITHIN, lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            _ => return Err(failed(name, &mut child, &log).await),
        };
        let Ok(ready) = serde_json::from_str(&line) else {
            return Err(failed(name, &mut child, &log).await);
        };
        let drain = tokio::spawn(drain(lines));
        Ok(Self { name: name.to_owned(), child, stdin, ready, log, drain })
    }

    /// What the part said when it was ready.
    pub fn ready(&self) -> &serde_json::Value {
        &self.ready
    }

    /// A string of the ready line.
    pub(super) fn ready_text(&self, field: &str) -> Result<String, NetworkError> {
        let text = self.ready.get(field).and_then(serde_json::Value::as_str);
        text.map(str::to_owned).ok_or_else(|| self.lacks(field))
    }

    /// The error for a field that the ready line should have.
    pub(super) fn lacks(&self, field: &str) -> NetworkError {
        NetworkError::ReadyLine {
            part: self.name.clone(),
            field: field.to_owned(),
            line: self.ready.to_string(),
        }
    }

    /// What it is, as in `node-1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Where its log is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends it at once, as kill -9 does.
    pub async fn kill(mut self) -> Result<(), NetworkError> {
        let killed = self.child.kill().await;
        self.drain.abort();
        killed.map_err(|source| NetworkError::file(Path::new(&self.name), source))
    }

    /// Asks it to end by closing its standard input; kills it if it does not.
    pub async fn stop(mut self) {
        drop(self.stdin.take());
        if timeout(END_WITHIN, self.child.wait()).await.is_err() {
            tracing::warn!(part = %self.name, "did not end in time and is killed");
            // An error means that it has ended in between.
            let _ = self.child.kill().await;
        }
        self.drain.abort();
    }
}

/// Opens and locks a file that a part holds as long as it runs: nobody else starts one in its place, not even after the
/// network that started it was killed. Of most parts it is the log, which goes with them as their standard error.
pub(super) async fn hold(name: &str, log: &Path) -> Result<File, NetworkError> {
    let failed = |source| NetworkError::file(log, source);
    let file = File::options().create(true).append(true).open(log).map_err(failed)?;
    let deadline = Instant::now() + EARLIER_ENDS_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(NetworkError::StillRunning { part: name.to_owned(), log: log.to_owned() });
            }
            Err(TryLockError::WouldBlock) => sleep(LOOK_AGAIN_AFTER).await,
        }
    }
}

/// A part that prints more than its ready line must not block on a full pipe.
async fn drain(mut lines: Lines<BufReader<ChildStdout>>) {
    while matches!(lines.next_line().await, Ok(Some(_))) {}
}

async fn failed(name: &str, child: &mut Child, log: &Path) -> NetworkError {
    // It may still be running without having said that it is ready.
    let _ = child.start_kill();
    let status = child.wait().await.ok();
    NetworkError::Part { part: name.to_owned(), status, log: log.to_owned(), tail: tail(log) }
}

pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let start = text.len().saturating_sub(LOG_TAIL_BYTES);
    String::from_utf8_lossy(&text[start..]).trim().to_owned()
}
