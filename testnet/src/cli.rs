//! The command line of `windlass-testnet`: a whole network with `up`, the chain alone with `chain`, and
//! two hidden subcommands with which the program runs the network's parts as processes of its own.

use crate::chain::{Chain, ChainConfig, DEFAULT_CHAIN_ID, Finality, Mining};
use crate::network::{Part, Testnet};
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// How long after a part's end Ctrl-C may still turn out to be its reason.
const INTERRUPT_LAG: Duration = Duration::from_millis(200);

/// A local Windlass network for developing and testing.
#[derive(Parser)]
#[command(name = "windlass-testnet", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a chain, the contracts, nodes and enrolled devices until Ctrl-C
    Up(UpArguments),
    /// Run the embedded EVM chain alone and print its RPC URL
    Chain(ChainArguments),
    /// Run one node of the network
    #[command(hide = true, disable_help_flag = true)]
    Node {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run one command of `windlass`
    #[command(hide = true, disable_help_flag = true)]
    Cli {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Args)]
struct UpArguments {
    /// How many nodes; all of them attest
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How many enrolled and named devices
    #[arg(long, default_value_t = 2)]
    devices: usize,
    /// Seconds between blocks; 0 makes one at once for each transaction
    #[arg(long, default_value_t = 0.0, value_parser = seconds)]
    block_time: f64,
    /// Seconds without a block after which an empty one is made; 0 for never
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    heartbeat: f64,
    /// Loopback TCP port of the embedded chain; 0 takes a free one
    #[arg(long, default_value_t = 8545)]
    port: u16,
    /// Use this chain instead of the embedded one; its first development account pays
    #[arg(long, value_name = "URL")]
    rpc_url: Option<String>,
    /// Directory to keep everything in: keys, nodes' mirrors, the chain; the same network comes up from it again
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Go on when a part ends
    #[arg(long)]
    keep_going: bool,
    /// Print one line of JSON instead of the table
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ChainArguments {
    /// Loopback TCP port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8545)]
    port: u16,
    /// Chain id that transactions are signed for
    #[arg(long, default_value_t = DEFAULT_CHAIN_ID)]
    chain_id: u64,
    /// When a block becomes final: immediate, manual or depth:N
    #[arg(long, default_value = "immediate")]
    finality: Finality,
    /// Seconds without a block after which an empty one is made; 0 for never
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    heartbeat: f64,
    /// Seconds between blocks; 0 makes one at once for each transaction
    #[arg(long, default_value_t = 0.0, value_parser = seconds)]
    block_time: f64,
    /// Directory to keep the chain in and go on from; without it the chain is gone in the end
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print one line of JSON when ready
    #[arg(long)]
    json: bool,
    /// End when standard input closes, so that no chain outlives who started it
    #[arg(long)]
    stdin_guard: bool,
}

impl ChainArguments {
    fn config(&self) -> ChainConfig {
        let period = |seconds: f64| (seconds > 0.0).then(|| Duration::from_secs_f64(seconds));
        ChainConfig {
            port: self.port,
            chain_id: self.chain_id,
            finality: self.finality,
            mining: period(self.block_time).map_or(Mining::Instant, Mining::Interval),
            heartbeat: period(self.heartbeat),
            state: self.state.clone(),
            ..ChainConfig::default()
        }
    }
}

/// A day at most: longer periods are typing mistakes, and some don't fit a duration.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(0.0) => Ok(0.0),
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.01 to 86400, or 0".to_owned()),
    }
}

/// Runs the program with these arguments, the first being its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.command,
        Err(error) => {
            // Help and version are no errors, and a broken pipe is quiet.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let named = |name: &str, arguments| std::iter::once(OsString::from(name)).chain(arguments);
    let result = match command {
        Command::Node { arguments } => return windlass_node::cli::run(named("windlass-node", arguments)),
        Command::Cli { arguments } => return windlass_cli::run(named("windlass", arguments)),
        Command::Chain(arguments) => in_runtime(run_chain(arguments)),
        Command::Up(arguments) => in_runtime(run_up(arguments)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("windlass-testnet: {error:#}");
        ExitCode::from(2)
    })
}

fn in_runtime(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    // Ignored when the caller has set up its own logging.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("WINDLASS_LOG"))
        .with_writer(std::io::stderr)
        .try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}

async fn run_chain(arguments: ChainArguments) -> anyhow::Result<ExitCode> {
    let chain = Chain::start(arguments.config()).await?;
    if arguments.json {
        println!("{}", json!({ "rpc_url": chain.rpc_url(), "chain_id": arguments.chain_id }));
    } else {
        println!("chain {} is up at {}", arguments.chain_id, chain.rpc_url());
    }
    let code = tokio::select! {
        interrupted = tokio::signal::ctrl_c(), if !arguments.stdin_guard => {
            interrupted.context("cannot listen for Ctrl-C")?;
            ExitCode::from(130)
        }
        // A part of a network ends with the network, which Ctrl-C reaches as well.
        () = stdin_closes(), if arguments.stdin_guard => ExitCode::SUCCESS,
    };
    chain.shutdown().await;
    Ok(code)
}

async fn stdin_closes() {
    let (mut stdin, mut buffer) = (tokio::io::stdin(), [0; 256]);
    // What is written there is of no interest, only its end; an error is an end, too.
    while stdin.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

/// Waits for Ctrl-C, or to be told to end by the system or a closing terminal.
async fn interrupted() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let context = "cannot listen for signals";
    let mut end = signal(SignalKind::terminate()).context(context)?;
    let mut hangup = signal(SignalKind::hangup()).context(context)?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context(context),
        _ = end.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
    }
}

async fn run_up(arguments: UpArguments) -> anyhow::Result<ExitCode> {
    let program: PathBuf = std::env::current_exe().context("cannot find this program")?;
    let start = Testnet::builder(program)
        .nodes(arguments.nodes)
        .devices(arguments.devices)
        .rpc_url(arguments.rpc_url)
        .state(arguments.state)
        .heartbeat(arguments.heartbeat)
        .block_time(arguments.block_time)
        .port(arguments.port)
        .start();
    let mut interrupt = Box::pin(interrupted());
    let mut testnet = tokio::select! {
        started = start => started?,
        interrupted = &mut interrupt => {
            interrupted?;
            return Ok(ExitCode::from(130));
        }
    };
    let shown = if arguments.json { format!("{}\n", description(&testnet)) } else { table(&testnet) };
    if let Err(error) = std::io::stdout().write_all(shown.as_bytes()) {
        // A reader that has seen enough is no failure, and the network goes on.
        anyhow::ensure!(error.kind() == std::io::ErrorKind::BrokenPipe, "cannot say what runs: {error}");
    }
    loop {
        let ended = tokio::select! {
            // The parts share our terminal: Ctrl-C ends them, too, and is why.
            biased;
            interrupted = &mut interrupt => {
                interrupted?;
                testnet.shutdown().await;
                return Ok(ExitCode::from(130));
            }
            ended = testnet.part_ended() => ended,
        };
        // A part may learn of Ctrl-C before we do.
        if tokio::time::timeout(INTERRUPT_LAG, &mut interrupt).await.is_ok() {
            testnet.shutdown().await;
            return Ok(ExitCode::from(130));
        }
        if let Some(ended) = &ended {
            eprintln!("windlass-testnet: {ended}");
        }
        if ended.is_none() || !arguments.keep_going {
            testnet.shutdown().await;
            return Ok(ExitCode::from(2));
        }
    }
}

/// What runs, for programs.
fn description(testnet: &Testnet) -> serde_json::Value {
    let nodes: Vec<_> = testnet.nodes().iter().flatten().collect();
    json!({
        "rpc_url": testnet.rpc_url(),
        "chain_process": testnet.chain().and_then(Part::process_id),
        "directory": testnet.directory(),
        "profile": testnet.profile(),
        "spec": testnet.spec_file(),
        "publisher": testnet.publisher().to_string(),
        "passphrase_file": testnet.passphrase_file(),
        "fleet": testnet.fleet(),
        "commands": commands(testnet).iter().map(|command| format!("windlass {command}")).collect::<Vec<_>>(),
        "nodes": nodes.iter().map(|node| json!({
            "name": node.part().name(),
            "process": node.part().process_id(),
            "multiaddr": node.multiaddr,
            "multiaddrs": node.multiaddrs,
            "health": format!("http://{}/health", node.admin),
        })).collect::<Vec<_>>(),
        "devices": testnet.devices().iter().map(|device| json!({
            "name": device.name,
            "id": device.id,
            "profile": device.files.profile,
        })).collect::<Vec<_>>(),
    })
}

/// What runs and what to do with it, for people.
fn table(testnet: &Testnet) -> String {
    let mut text = String::new();
    // Writing into a string can't fail.
    let _ = write_table(&mut text, testnet);
    text
}

fn write_table(f: &mut String, testnet: &Testnet) -> std::fmt::Result {
    writeln!(f, "chain     {}", testnet.rpc_url())?;
    writeln!(f, "files     {}", testnet.directory().display())?;
    for node in testnet.nodes().iter().flatten() {
        writeln!(f, "{:<9} {}  http://{}/health", node.part().name(), node.multiaddr, node.admin)?;
        for other in node.multiaddrs.iter().skip(1) {
            writeln!(f, "{:<9} {other}", "")?;
        }
    }
    for device in testnet.devices() {
        writeln!(f, "{:<9} {}  fleet {}", device.name, device.id, testnet.fleet())?;
    }
    writeln!(f, "\nIn another terminal:\n")?;
    if let Some(folder) = unlisted_folder() {
        writeln!(f, "  export PATH=\"{}:$PATH\"", folder.display())?;
    }
    writeln!(f, "  export WINDLASS_PROFILE={}", testnet.profile().display())?;
    for command in commands(testnet) {
        writeln!(f, "  windlass {command}")?;
    }
    writeln!(f, "\nCtrl-C ends it.")
}

/// Where `windlass` lies, if it lies beside this program and no shell would find it.
fn unlisted_folder() -> Option<PathBuf> {
    let folder = std::env::current_exe().ok()?.parent()?.to_owned();
    let listed =
        std::env::split_paths(&std::env::var_os("PATH")?).any(|path| path.join("windlass").is_file());
    (!listed && folder.join("windlass").is_file()).then_some(folder)
}

/// Commands to try, ready to be copied.
fn commands(testnet: &Testnet) -> Vec<String> {
    let Some(first) = testnet.devices().first() else { return vec!["chain spec".to_owned()] };
    let resolve = format!("resolve {}", first.name);
    let Some(second) = testnet.devices().get(1) else { return vec![resolve] };
    vec![
        resolve,
        format!(
            "grant add --fleet {} --target {} --grantee {} --service tcp/8080",
            testnet.fleet(),
            first.id,
            second.id
        ),
        format!("--profile {} publish --service tcp/8080 --to 127.0.0.1:8000", first.files.profile.display()),
        format!(
            "--profile {} forward --listen 127.0.0.1:9000 {}:tcp/8080",
            second.files.profile.display(),
            first.name
        ),
    ]
}
