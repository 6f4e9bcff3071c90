//! The command line of `windlass-node`. Another binary can run the same code by handing it the arguments.

use crate::chain::Providers;
use crate::config::NodeConfig;
use crate::node::Node;
use crate::snapshot;
use crate::store::Store;
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
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
    let _ = writeln!(std::io::stderr(), "error: {reason}");
    ExitCode::from(FAILED)
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("WINDLASS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // Somebody who runs us as a library may have set up their own.
    let _ = log.try_init();
}

async fn run_node(options: Run) -> End {
    let path = options.config.clone();
    let loaded = tokio::task::spawn_blocking(move || NodeConfig::load(&path)).await;
    let (config, key) = match loaded {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(error)) => return End::Failed(error.to_string()),
        Err(error) => return End::Failed(error.to_string()),
    };
    // Taken before anything is started, so that no signal is missed.
    let (mut interrupt, mut terminate) =
        match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
            (Err(error), _) | (_, Err(error)) => {
                return End::Failed(format!("can't listen to signals: {error}"));
            }
        };
    let mut node = match Node::start(config, key).await {
        Ok(node) => node,
        Err(error) => return End::Failed(error.to_string()),
    };
    announce(&node, options.json);
    let end = tokio::select! {
        _ = interrupt.recv() => End::Interrupted,
        _ = terminate.recv() => End::Asked,
        () = stdin_closed(), if options.stdin_guard => End::Asked,
        ended = node.failed() => End::Failed(ended.to_string()),
    };
    node.shutdown().await;
    end
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
            let registry = config.spec.contracts.registry.address;
            let providers = Providers::new(&config.providers, registry).map_err(|error| error.to_string())?;
            providers.check(&config.spec).await.map_err(|error| error.to_string())?;
            let store = Store::open(&config.data_dir, &config.spec).map_err(|error| error.to_string())?;
            let imported = snapshot::import(&store, &config.spec, &providers, &file.path).await;
            imported.map_err(|error| error.to_string())?
        }
    };
    let (number, hash) = (summary.position.number, summary.position.hash.to_string());
    let line = json!({ "number": number, "hash": hash, "slots": summary.rows });
    // Whoever closed the pipe doesn't want to know.
    let _ = writeln!(std::io::stdout(), "{line}");
    Ok(())
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
    let mut out = std::io::stdout();
    // Whoever closed the pipe doesn't want to know.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Ends when standard input does, so that a node never outlives whoever started it.
async fn stdin_closed() {
    let (closed, ended) = oneshot::channel();
    // A thread of its own, which nobody joins: a runtime would wait for the read when the node ends otherwise.
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        while matches!(std::io::stdin().read(&mut bytes), Ok(read) if read > 0) {}
        let _ = closed.send(());
    });
    let _ = ended.await;
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
