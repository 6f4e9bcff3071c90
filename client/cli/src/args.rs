//! The tree of commands and the options that all of them take.

use crate::commands::{chain, device, fleet, forward, grant, key, name, publish, resolve};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use windlass_protocol::authorise::OFFLINE_MAX_AGE;

/// Devices with keys, fleets, names and grants on a chain, and services between devices that prove themselves
///
/// Reading commands verify proofs from nodes; commands that change something send a transaction to the chain's RPC URL.
#[derive(Parser, Debug)]
#[command(name = "windlass", version, about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command; each wins over the profile.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct Global {
    /// Profile to use [default: WINDLASS_PROFILE, ./windlass.toml, the user's configuration folder]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Common options")]
    pub(crate) profile: Option<PathBuf>,
    /// Print one JSON object per result or event, errors too
    #[arg(long, global = true, help_heading = "Common options")]
    pub(crate) json: bool,
    /// Encrypted key file to act with
    #[arg(long, global = true, value_name = "FILE", help_heading = "Common options")]
    pub(crate) key: Option<PathBuf>,
    /// File whose first line is the passphrase [default: WINDLASS_PASSPHRASE_FILE; the profile's, for the
    /// profile's key and new keys; or ask]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Common options")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The chain's JSON-RPC URL, for commands that change something
    #[arg(long, global = true, value_name = "URL", help_heading = "Common options")]
    pub(crate) rpc: Option<String>,
    /// Chain spec to believe
    #[arg(long, global = true, value_name = "FILE", help_heading = "Common options")]
    pub(crate) spec: Option<PathBuf>,
    /// Address that must have signed the chain spec
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = "Common options")]
    pub(crate) publisher: Option<String>,
    /// Node to ask, ending in /p2p/<peer id>; may be repeated, and replaces the profile's nodes
    #[arg(long = "node", global = true, value_name = "MULTIADDR", help_heading = "Common options")]
    pub(crate) nodes: Vec<String>,
    /// Seconds for which proofs count, at most 86400 [default: 600]
    #[arg(long, global = true, value_name = "SECONDS", help_heading = "Common options",
          value_parser = clap::value_parser!(u64).range(1..=OFFLINE_MAX_AGE))]
    pub(crate) max_age: Option<u64>,
    /// End when standard input closes, so that nothing outlives who started it
    #[arg(long, global = true, hide = true)]
    pub(crate) stdin_guard: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Make and import key files
    #[command(subcommand)]
    Key(key::Command),
    /// Print the address of a key file without opening it
    Address(key::AddressArgs),
    /// Deploy the contracts; show and renew a chain spec
    #[command(subcommand)]
    Chain(chain::Command),
    /// Create and show fleets
    #[command(subcommand)]
    Fleet(fleet::Command),
    /// Enrol devices and say what becomes of them
    #[command(subcommand)]
    Device(device::Command),
    /// Register names and point them at devices
    #[command(subcommand)]
    Name(name::Command),
    /// Let devices open services
    #[command(subcommand)]
    Grant(grant::Command),
    /// Find a device by name or id, with proofs
    Resolve(resolve::Args),
    /// Publish a local TCP, UDP or Unix service under this device's key
    Publish(publish::Args),
    /// Listen on a local port or Unix socket and open a stream to a device's service for each connection
    Forward(forward::Args),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn common_options_work_before_and_after_the_command() {
        for line in
            ["windlass --json --rpc http://x fleet create", "windlass fleet create --json --rpc http://x"]
        {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(cli.global.json && cli.global.rpc.as_deref() == Some("http://x"), "{line}");
        }
    }

    /// The commands as documented, each with the arguments it needs.
    #[test]
    fn the_documented_commands_parse() {
        let id = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        let lines = [
            "key new --out a.json --light".to_owned(),
            "key address a.json".to_owned(),
            "key import --out a.json --secret-file b".to_owned(),
            "address".to_owned(),
            format!("chain deploy --rpc http://x --committee {id},{id} --key a.json --out a.spec --dev"),
            "chain spec".to_owned(),
            "chain renew --out b.spec".to_owned(),
            format!("chain renew --out b.spec --committee {id} --spec-version 3 --date 1800000000"),
            "fleet create --slow-revoke".to_owned(),
            "fleet show 1".to_owned(),
            format!("device consent --fleet 1 --operator {id} --valid-until 1y"),
            "device enrol --fleet 1 --device-key d.json".to_owned(),
            format!("device enrol --fleet 1 --consent {}", "01".repeat(96)),
            format!("device show {id}"),
            "device show pump-7".to_owned(),
            format!("device suspend {id}"),
            format!("device resume {id}"),
            format!("device extend {id} --valid-until never"),
            format!("device revoke {id}"),
            "device rotate --new-key n.json".to_owned(),
            format!("name register pump-7 --target {id}"),
            "name show pump-7".to_owned(),
            "name renew pump-7 --duration 1y".to_owned(),
            format!("name transfer pump-7 --to {id}"),
            format!("name set-target pump-7 --target {id}"),
            "name set-target pump-7 --clear".to_owned(),
            format!("grant add --fleet 1 --target {id} --grantee fleet:2 --service tcp/8080 --expiry 30d"),
            "grant revoke --fleet 1 --target fleet:1 --grantee anyone --service all".to_owned(),
            "grant show --fleet 1 --target fleet:1 --grantee anyone --service all".to_owned(),
            "resolve pump-7".to_owned(),
            "publish --service tcp/8080 --to 127.0.0.1:3000 --mode private --allow fleet:1".to_owned(),
            "forward --listen 127.0.0.1:0 pump-7:tcp/8080".to_owned(),
            "forward --listen unix:/tmp/pump.sock pump-7:tcp/8080".to_owned(),
            "forward --listen 127.0.0.1:5353 pump-7:udp/53".to_owned(),
            "publish --service udp/53 --to 127.0.0.1:53".to_owned(),
            "publish --service tcp/8080 --to unix:/run/app.sock".to_owned(),
        ];
        for line in lines {
            let parsed = Cli::try_parse_from(format!("windlass {line}").split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn half_said_commands_are_refused() {
        let lines = [
            "device enrol --fleet 1",
            "device enrol --fleet 1 --device-key a --consent 01",
            "name set-target pump-7",
            "name register Pump",
            "grant add --fleet 1 --target x --grantee anyone --service all",
            "publish --service all --to 127.0.0.1:53",
            "publish --service tcp/80 --to unix:",
            "publish --service tcp/80 --to 127.0.0.1:80 --mode open",
            "forward pump-7",
            "fleet show 0",
            "chain deploy --committee 0x12 --out a.spec",
        ];
        for line in lines {
            assert!(Cli::try_parse_from(format!("windlass {line}").split(' ')).is_err(), "{line}");
        }
    }
}
