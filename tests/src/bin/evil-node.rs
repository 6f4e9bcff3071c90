//! `evil-node`: a node that lies in a chosen way. For tests and the demo only.

use clap::Parser;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::io::AsyncReadExt;
use windlass_p2p::Multiaddr;
use windlass_protocol::question::Target;
use windlass_protocol::spec::verify_spec;
use windlass_protocol::{KeyAddress, SecretKey};
use windlass_tests::evil::{Config, Lie, Signer, run};

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
    /// A genuine committee member's key file, where the lie needs one
    #[arg(long, requires = "spec", requires = "passphrase_file")]
    member_key: Option<PathBuf>,
    /// The passphrase of that key
    #[arg(long)]
    passphrase_file: Option<PathBuf>,
    /// The signed chain spec, where the lie signs something
    #[arg(long, requires = "publisher")]
    spec: Option<PathBuf>,
    /// Who signed the spec
    #[arg(long)]
    publisher: Option<KeyAddress>,
}

impl Arguments {
    fn signer(&self) -> anyhow::Result<Option<Signer>> {
        let (Some(spec), Some(publisher)) = (&self.spec, self.publisher) else { return Ok(None) };
        let spec = (*verify_spec(&fs::read(spec)?, publisher)?).clone();
        let key = match (&self.member_key, &self.passphrase_file) {
            (Some(key), Some(passphrase)) => {
                windlass_keyfile::read(key, fs::read_to_string(passphrase)?.trim_end())?
            }
            _ => SecretKey::from_bytes(&rand::random())?,
        };
        Ok(Some(Signer { key, spec: Some(spec) }))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let signer = match arguments.signer() {
        Ok(signer) => signer,
        Err(error) => {
            eprintln!("evil-node: {error:#}");
            return ExitCode::from(2);
        }
    };
    let config = Config { honest: arguments.honest, lie: arguments.lie, record: arguments.record, signer };
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
