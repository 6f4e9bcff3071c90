//! `evil-node`: a node that lies in a chosen way. For tests and the demo only.

use clap::Parser;
use std::process::ExitCode;
use tokio::io::AsyncReadExt;
use windlass_p2p::Multiaddr;
use windlass_protocol::question::Target;
use windlass_tests::evil::{Config, Lie, run};

/// A node that lies, to see that nobody believes it.
#[derive(Parser)]
struct Arguments {
    /// The honest node it asks, with its peer id
    #[arg(long)]
    honest: Multiaddr,
    /// How it lies
    #[arg(long)]
    lie: Lie,
    /// Whose record it keeps from its start, to serve it when it is stale
    #[arg(long)]
    record: Option<Target>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = Config { honest: arguments.honest, lie: arguments.lie, record: arguments.record };
    let ready = |listen: &Multiaddr| println!("{}", serde_json::json!({ "listen": [listen.to_string()] }));
    tokio::select! {
        ended = run(config, ready) => {
            eprintln!("evil-node: {}", ended.err().map_or("ended".into(), |error| format!("{error:#}")));
            ExitCode::from(2)
        }
        () = stdin_closes() => ExitCode::SUCCESS,
    }
}

/// It must not outlive who started it.
async fn stdin_closes() {
    let (mut stdin, mut buffer) = (tokio::io::stdin(), [0; 64]);
    while stdin.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}
