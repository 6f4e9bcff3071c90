//! Networks as values: many at once, and on a chain that is already there. What `up` prints works.

use crate::{PROGRAM, Up, up, windlass};
use alloy::providers::{Provider, ProviderBuilder};
use std::collections::HashSet;
use std::process::Output;
use tokio::io::{AsyncBufReadExt, BufReader};
use windlass_testnet::chain::{Chain, ChainConfig};
use windlass_testnet::network::{Testnet, health};

#[tokio::test]
async fn several_networks_run_side_by_side_and_are_gone_when_dropped() {
    let start = || Testnet::builder(PROGRAM.into()).nodes(1).devices(1).start();
    let (one, two, three) = tokio::try_join!(start(), start(), start()).unwrap();
    let networks = [one, two, three];
    let all = |value: fn(&Testnet) -> String| networks.iter().map(value).collect::<HashSet<_>>().len();
    assert_eq!(all(|network| network.rpc_url().to_owned()), 3);
    assert_eq!(all(|network| network.devices()[0].id.clone()), 3);
    for network in &networks {
        let resolved = network.windlass(&["resolve", "device-1"]).await.unwrap();
        assert_eq!(resolved["device"], network.devices()[0].id.as_str());
    }
    let directories: Vec<_> = networks.iter().map(|network| network.directory().to_owned()).collect();
    let admins: Vec<_> =
        networks.iter().flat_map(Testnet::nodes).flatten().map(|n| n.admin.clone()).collect();
    drop(networks);
    assert!(directories.iter().all(|directory| !directory.exists()));
    for admin in admins {
        while health(&admin).await.is_some() {}
    }
}

#[tokio::test]
async fn a_network_runs_on_a_chain_that_is_already_there() {
    let chain = Chain::start(ChainConfig::default()).await.unwrap();
    let url = chain.rpc_url();
    let network = Up::start(&["--nodes", "1", "--devices", "1", "--rpc-url", &url]).await;
    assert_eq!(network.text("/rpc_url"), url);
    assert_eq!(network.parts().len(), 1, "no chain of its own");
    let resolved = network.windlass(network.text("/profile"), &["resolve", "device-1"]).await;
    assert_eq!(resolved["device"], network.ready["devices"][0]["id"]);
    network.kill().await;
    let provider = ProviderBuilder::new().connect_http(url.parse().unwrap());
    assert!(provider.get_block_number().await.unwrap() > 0, "the chain goes on");
    chain.shutdown().await;
}

#[tokio::test]
async fn the_table_shows_what_runs_and_its_commands_work() {
    let mut child = up(&["--nodes", "1"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut table = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        let last = line == "Ctrl-C ends it.";
        table.push(line);
        if last {
            break;
        }
    }
    for part in [
        "chain     http://127.0.0.1:",
        "files     /",
        "node-1    /ip4/127.0.0.1/tcp/",
        "device-1  0x",
        "device-2  0x",
    ] {
        assert!(table.iter().any(|line| line.starts_with(part)), "{part}: {table:#?}");
    }
    let after = |start: &'static str| {
        table.iter().filter_map(move |line| line.trim_start().strip_prefix(start)).collect::<Vec<_>>()
    };
    let profile = after("export WINDLASS_PROFILE=")[0];
    let commands = after("windlass ");
    assert_eq!(commands.len(), 4, "{table:#?}");
    for command in &commands[..2] {
        let arguments: Vec<_> = command.split(' ').collect();
        windlass(profile.as_ref(), &arguments).await;
    }
    // The others run until they are interrupted: that they are understood is enough.
    for command in &commands[2..] {
        let mut program = tokio::process::Command::new(PROGRAM);
        let Output { status, stderr, .. } =
            program.arg("cli").args(command.split(' ')).arg("--help").output().await.unwrap();
        assert!(status.success(), "{command}: {}", String::from_utf8_lossy(&stderr));
    }
    child.kill().await.unwrap();
}
