//! A network kept in a directory: the same one comes up again, and only that one.

use crate::{PATIENCE, Up, errors, up};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

async fn genesis(rpc_url: &str) -> Value {
    use alloy::providers::Provider;
    let provider = alloy::providers::ProviderBuilder::new().connect_http(rpc_url.parse().unwrap());
    json!(provider.get_block_by_number(0.into()).await.unwrap().unwrap().header.hash)
}

/// What must be the same when a network comes up again.
async fn identity(network: &Up) -> Value {
    let named = |list: &str, fields: &[&str]| -> Vec<Value> {
        let entries = network.ready[list].as_array().unwrap();
        entries.iter().map(|entry| fields.iter().map(|field| entry[field].clone()).collect()).collect()
    };
    json!({
        "nodes": named("nodes", &["name", "multiaddr"]),
        "devices": named("devices", &["name", "id", "profile"]),
        "fleet": network.ready["fleet"],
        "profile": network.ready["profile"],
        "spec": std::fs::read(network.text("/spec")).unwrap(),
        "genesis": genesis(network.text("/rpc_url")).await,
    })
}

#[tokio::test]
async fn the_same_network_comes_up_again_after_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("network");
    let state = state.to_str().unwrap();
    let arguments = ["--nodes", "2", "--devices", "2", "--state", state];
    let network = Up::start(&arguments).await;
    let before = identity(&network).await;
    let (profile, device) = (network.text("/profile").to_owned(), network.text("/devices/1/id").to_owned());
    network.windlass(&profile, &["device", "revoke", &device]).await;
    network.kill().await;
    // At once: the parts of the former network may still be ending.
    let network = Up::start(&arguments).await;
    assert_eq!(identity(&network).await, before);
    let shown = network.windlass(&profile, &["device", "show", &device]).await;
    assert_eq!(shown["status"], "revoked");
    let resolved = network.windlass(&profile, &["resolve", "device-1"]).await;
    assert_eq!(resolved["device"], network.ready["devices"][0]["id"]);
    network.kill().await;
    let network = Up::start(&["--nodes", "2", "--devices", "3", "--state", state]).await;
    assert_eq!(network.ready["devices"].as_array().unwrap().len(), 3);
    let resolved = network.windlass(&profile, &["resolve", "device-3"]).await;
    assert_eq!(resolved["device"], network.ready["devices"][2]["id"]);
}

#[tokio::test]
async fn a_start_that_is_killed_is_finished_by_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().to_str().unwrap();
    let arguments = ["--nodes", "1", "--devices", "1", "--state", state];
    for milliseconds in [20, 150, 400, 800, 1_200, 1_600] {
        let mut child = up(&arguments).spawn().unwrap();
        // Not to wait for anything: to cut the start short at different places.
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        child.kill().await.unwrap();
    }
    let network = Up::start(&arguments).await;
    let resolved = network.windlass(network.text("/profile"), &["resolve", "device-1"]).await;
    assert_eq!(resolved["device"], network.ready["devices"][0]["id"]);
}

#[tokio::test]
async fn another_network_on_the_directory_is_refused_in_one_line() {
    let (directory, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(foreign.path().join("letters"), "dear").unwrap();
    let network = Up::start(&["--nodes", "1", "--devices", "0", "--state", path(directory.path())]).await;
    let refused = async |arguments: &[&str], directory: &Path, words: &str| {
        let mut child = up(arguments).arg("--state").arg(directory).spawn().unwrap();
        let said = timeout(PATIENCE, errors(&mut child)).await.unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(2), "{said}");
        assert!(said.contains(words) && said.trim_end().lines().count() == 1, "{said}");
    };
    refused(&["--nodes", "1"], directory.path(), "is in use by another network").await;
    refused(&["--nodes", "1"], foreign.path(), "holds something else than a network").await;
    network.kill().await;
    refused(&["--nodes", "2"], directory.path(), "holds a network of 1 nodes, not 2").await;
    let elsewhere = ["--nodes", "1", "--rpc-url", "http://127.0.0.1:1"];
    refused(&elsewhere, directory.path(), "holds a network on another chain").await;
    std::fs::write(directory.path().join("windlass-network"), "windlass-testnet network, format 9\n")
        .unwrap();
    refused(&["--nodes", "1"], directory.path(), "was written by another release").await;
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
