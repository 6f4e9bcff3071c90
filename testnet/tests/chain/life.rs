//! Starting and ending, as a value and as a process.

use crate::{connect, quiet, start};
use alloy::providers::Provider;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;
use windlass_testnet::chain::{Chain, ChainConfig, StartChainError};

const PROGRAM: &str = env!("CARGO_BIN_EXE_windlass-testnet");

#[tokio::test]
async fn many_chains_run_side_by_side() {
    let mut chains = Vec::new();
    for chain_id in 1..=5 {
        chains.push(start(ChainConfig { chain_id, ..quiet() }).await);
    }
    for ((_, provider), chain_id) in chains.iter().zip(1..) {
        assert_eq!(provider.get_chain_id().await.unwrap(), chain_id);
        assert_eq!(provider.get_net_version().await.unwrap(), chain_id);
    }
    let version = chains[0].1.get_client_version().await.unwrap();
    assert!(version.starts_with("windlass-testnet/v"), "{version}");
}

#[tokio::test]
async fn chains_started_within_one_second_have_each_a_genesis_of_its_own() {
    let (_first, first) = start(quiet()).await;
    let (_second, second) = start(quiet()).await;
    let genesis = async |provider: &dyn Provider| {
        provider.get_block_by_number(0.into()).await.unwrap().unwrap().header.hash
    };
    assert_ne!(genesis(&first).await, genesis(&second).await);
}

#[tokio::test]
async fn after_shutdown_the_port_is_free() {
    let (chain, provider) = start(quiet()).await;
    provider.get_chain_id().await.unwrap();
    let address = chain.address();
    chain.shutdown().await;
    TcpListener::bind(address).unwrap();
    assert!(provider.get_chain_id().await.is_err());
}

#[tokio::test]
async fn a_dropped_chain_is_gone() {
    let (chain, provider) = start(quiet()).await;
    provider.get_chain_id().await.unwrap();
    drop(chain);
    let gone = async { while provider.get_chain_id().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Chain::start(ChainConfig { port, ..quiet() }).await.unwrap_err();
    assert!(matches!(error, StartChainError::Listen { port: said, .. } if said == port));
    assert!(error.to_string().contains(&port.to_string()));
}

#[tokio::test]
async fn an_idle_chain_makes_empty_blocks() {
    let heartbeat = Some(Duration::from_millis(10));
    let (_chain, provider) = start(ChainConfig { heartbeat, ..quiet() }).await;
    let beats = async { while provider.get_block_number().await.unwrap() < 3 {} };
    tokio::time::timeout(Duration::from_secs(10), beats).await.unwrap();
    let block = provider.get_block_by_number(2.into()).await.unwrap().unwrap();
    assert!(block.transactions.is_empty());
}

#[test]
fn the_process_says_where_it_is_and_ends_with_its_standard_input() {
    let mut child = Command::new(PROGRAM)
        .args(["chain", "--port", "0", "--chain-id", "99", "--finality", "depth:3", "--stdin-guard"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("chain 99 is up at ").unwrap().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answered = runtime.block_on(async {
        let provider = alloy::providers::ProviderBuilder::new().connect_http(url.parse().unwrap());
        provider.get_chain_id().await
    });
    assert_eq!(answered.unwrap(), 99);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_cannot_start_says_why_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (arguments, words) in [
        (["--port", &port], "cannot listen on"),
        (["--finality", "never"], "no finality mode"),
        (["--heartbeat", "-1"], "seconds"),
        (["--block-time", "1e99"], "seconds"),
    ] {
        // `=` because a value may begin with a dash.
        let argument = arguments.join("=");
        let mut child = Command::new(PROGRAM)
            .args(["chain", &argument])
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(2), "{arguments:?}");
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn a_new_provider_finds_the_chain_as_it_was_left() {
    let (chain, provider) = start(quiet()).await;
    crate::send(&provider, crate::transfer()).await;
    assert_eq!(connect(&chain).get_block_number().await.unwrap(), 1);
}
