//! The command line of `windlass-node`. Another binary can run the same code by handing it the arguments.

use crate::chain::Providers;
use crate::config::NodeConfig;
use crate::node::Node;
use crate::snapshot;
use crate::store::{Store, request_rebuild};
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

/// Usage, network, chain or disk.
const FAILED: u8 = 2;
/// Ended by the keyboard.
const INTERRUPTED: u8 = 130;

#[derive(Parser)]
#[command(
    name = "windlass-node",
    version,
    about = "Mirrors a Windlass registry, answers with proofs, relays sealed bytes"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node until it is told to stop
    Run(Run),
    /// Write the mirror to a file, or start one from a file
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Have the mirror built anew beside the one that is read, by the node that is running or the next one
    Rebuild(Rebuild),
}

#[derive(Args)]
struct Rebuild {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Snapshot {
    /// Write the newest block that can be proven to a new file; the node may be running
    Export(File),
    /// Fill an empty data_dir from a file, if the chain proves all of it
    Import(File),
}

#[derive(Args)]
struct File {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The snapshot
    #[arg(value_name = "SNAPSHOT")]
    path: PathBuf,
}

#[derive(Args)]
struct Run {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print the ready line as JSON
    #[arg(long)]
    json: bool,
    /// End when standard input closes
    #[arg(long)]
    stdin_guard: bool,
}

/// Why the node ended.
enum End {
    Asked,
    Interrupted,
    Failed(String),
}

/// Runs the command line `args`, the program's name first.
pub fn run<I, T>(args: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is nobody's fault.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { FAILED } else { 0 });
        }
    };
    log_to_stderr();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("can't start: {error}")),
    };
    let end = match cli.command {
        Command::Run(options) => runtime.block_on(run_node(options)),
        Command::Rebuild(options) => match ask_for_rebuild(&options.config) {
            Ok(()) => End::Asked,
            Err(reason) => End::Failed(reason),
        },
        Command::Snapshot(command) => match runtime.block_on(take_snapshot(command)) {
            Ok(()) => End::Asked,
            Err(reason) => End::Failed(reason),
        },
    };
    match end {
        End::Asked => ExitCode::SUCCESS,
        End::Interrupted => ExitCode::from(INTERRUPTED),
        End::Failed(reason) => fail(&reason),
    }
}

fn fail(reason: &str) -> ExitCode {
    // Nowhere is left to say it when standard error is closed.
    let _ = writeln!(io::stderr(), "error: {reason}");
    ExitCode::from(FAILED)
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("WINDLASS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours);
    // Somebody who runs us as a library may have set up their own.
    let _ = log.try_init();
}

async fn run_node(options: Run) -> End {
    // Taken before anything is started, so that no signal is missed.
    let mut stop = match Stop::listen(options.stdin_guard) {
        Ok(stop) => stop,
        Err(error) => return End::Failed(format!("can't listen to signals: {error}")),
    };
    // A silent provider or a slow disk must not make a starting node deaf.
    let mut node = tokio::select! {
        end = stop.asked() => return end,
        started = start(options.config) => match started {
            Ok(node) => node,
            Err(reason) => return End::Failed(reason),
        },
    };
    announce(&node, options.json);
    let end = tokio::select! {
        end = stop.asked() => end,
        ended = node.failed() => End::Failed(ended.to_string()),
    };
    node.shutdown().await;
    end
}

/// Leaves word in the data directory.
fn ask_for_rebuild(config: &Path) -> Result<(), String> {
    let config = NodeConfig::load_without_key(config).map_err(|error| error.to_string())?;
    let folder = config.data_dir.display();
    request_rebuild(&config.data_dir)
        .map_err(|error| format!("data_dir {folder}: {error}: there is no mirror to build anew"))?;
    let said = format!(
        "the mirror in {folder} will be built anew while the present one is read; see `beside` in /health"
    );
    // Whoever closed the pipe doesn't want to know.
    let _ = writeln!(io::stdout(), "{said}");
    Ok(())
}

/// Exports or imports; prints what the file holds as one line of JSON.
async fn take_snapshot(command: Snapshot) -> Result<(), String> {
    let summary = match command {
        Snapshot::Export(file) => tokio::task::spawn_blocking(move || {
            let config = NodeConfig::load_without_key(&file.config).map_err(|e| e.to_string())?;
            let store =
                Store::open_read_only(&config.data_dir, &config.spec).map_err(|error| error.to_string())?;
            snapshot::export(&store, &config.spec, &file.path).map_err(|error| error.to_string())
        })
        .await
        .map_err(|error| error.to_string())??,
        Snapshot::Import(file) => {
            let config = NodeConfig::load_without_key(&file.config).map_err(|error| error.to_string())?;
            let providers =
                Providers::new(&config.providers, &config.spec).map_err(|error| error.to_string())?;
            providers.check(&config.spec).await.map_err(|error| error.to_string())?;
            let store = Store::open(&config.data_dir, &config.spec).map_err(|error| error.to_string())?;
            let imported = snapshot::import(&store, &config.spec, &providers, &file.path).await;
            imported.map_err(|error| error.to_string())?
        }
    };
    let (number, hash) = (summary.position.number, summary.position.hash.to_string());
    let line = json!({ "number": number, "hash": hash, "slots": summary.rows });
    // Whoever closed the pipe doesn't want to know.
    let _ = writeln!(io::stdout(), "{line}");
    Ok(())
}

async fn start(config: PathBuf) -> Result<Node, String> {
    let loaded = tokio::task::spawn_blocking(move || NodeConfig::load(&config)).await;
    let (config, key) = loaded.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    Node::start(config, key).await.map_err(|error| error.to_string())
}

/// Whatever asks the node to end.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    stdin: Option<oneshot::Receiver<()>>,
}

impl Stop {
    fn listen(stdin_guard: bool) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            stdin: stdin_guard.then(stdin_closed),
        })
    }

    /// Waits until one of them does. Cancel-safe.
    async fn asked(&mut self) -> End {
        let stdin = &mut self.stdin;
        let closed = async {
            match stdin {
                Some(closed) => drop(closed.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => End::Interrupted,
            _ = self.terminate.recv() => End::Asked,
            () = closed => End::Asked,
        }
    }
}

fn announce(node: &Node, as_json: bool) {
    let listen: Vec<String> = node.listen_addrs().iter().map(ToString::to_string).collect();
    let line = match as_json {
        true => json!({
            "peer_id": node.peer_id().to_string(),
            "address": node.key_address().to_string(),
            "listen": listen,
            "admin": node.admin_addr().to_string(),
        })
        .to_string(),
        false => format!(
            "node {} is ready: {}; health at http://{}/health",
            node.key_address(),
            listen.join(", "),
            node.admin_addr()
        ),
    };
    let mut out = io::stdout();
    // Whoever closed the pipe doesn't want to know.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Told when standard input ends, so that a node never outlives whoever started it.
fn stdin_closed() -> oneshot::Receiver<()> {
    let (closed, ended) = oneshot::channel();
    // A thread of its own, which nobody joins: a runtime would wait for the read when the node ends otherwise.
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        while matches!(io::stdin().read(&mut bytes), Ok(read) if read > 0) {}
        let _ = closed.send(());
    });
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mistakes_are_usage_errors() {
        assert_eq!(run(["windlass-node", "rum"]), ExitCode::from(FAILED));
        assert_eq!(run(["windlass-node", "run"]), ExitCode::from(FAILED));
        assert_eq!(
            run(["windlass-node", "run", "--config", "/nonexistent/node.toml"]),
            ExitCode::from(FAILED)
        );
    }
}
