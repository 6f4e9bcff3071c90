//! A node of ours, as a process, and our relay and devices with py-libp2p: it connects over TCP with Noise and over QUIC,
//! identifies and pings the node and has a question answered; and it reserves at our relay and dials our device through it.
//!
//! The other side is `pylibp2p.py` in `tests/interop/clients`.

use crate::libp2p::{ECHO, WITHIN, device, relay};
use alloy::primitives::hex;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;
use windlass_protocol::message::MAX_FRAME;
use windlass_protocol::message::names::RESOLVE;
use windlass_protocol::message::resolve::{Request, Response};
use windlass_protocol::wire;
use windlass_testnet::network::Testnet;
use windlass_tests::peers;
use windlass_tests::windlass::program;

/// What it prints, once it ended well.
async fn run(python: &Path, arguments: &[String]) -> anyhow::Result<Vec<String>> {
    let ran = Command::new(python)
        .arg("tests/interop/clients/pylibp2p.py")
        .args(arguments)
        .current_dir(peers::repository())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(WITHIN, ran).await.context("py-libp2p doesn't end")??;
    let said = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.ends_with("done\n"), "{said}\n{errors}");
    Ok(said.lines().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn py_libp2p_asks_a_node_over_tcp_with_noise_and_over_quic() -> anyhow::Result<()> {
    let Some(python) = peers::python("requirements-libp2p.txt").await? else { return Ok(()) };
    let testnet = Testnet::builder(program("windlass-testnet")?).nodes(1).start().await?;
    let node = testnet.nodes()[0].as_ref().context("no node")?;
    // No questions: the newest head, proven.
    let question = wire::encode(&Request::default());
    let frame = [&[u8::try_from(question.len())?], &question[..]].concat();
    let mut arguments = vec!["ask".to_owned(), RESOLVE.to_owned(), hex::encode(frame)];
    arguments.extend(node.multiaddrs.iter().cloned());
    let said = run(&python, &arguments).await?;
    ensure!(said.len() == 3 && node.multiaddrs.len() == 2, "not one line for each transport: {said:?}");
    for (line, address) in said.iter().zip(&node.multiaddrs) {
        let line: Value = serde_json::from_str(line)?;
        ensure!(line["address"] == *address, "{line}");
        ensure!(line["peer"].as_str().is_some_and(|peer| address.ends_with(peer)), "{line}");
        ensure!(line["agent"].as_str().is_some_and(|agent| agent.starts_with("windlass-node/")), "{line}");
        let protocols = line["protocols"].as_array().context("no protocols")?;
        ensure!(protocols.iter().any(|protocol| protocol == RESOLVE), "{line}");
        let answer = hex::decode(line["answer"].as_str().context("no answer")?)?;
        let answer: Response = wire::decode(&answer, MAX_FRAME)?;
        ensure!(matches!(answer, Response::Proven { .. }), "{answer:?}");
    }
    testnet.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn py_libp2p_reserves_on_our_relay_and_dials_our_device_through_it() -> anyhow::Result<()> {
    let Some(python) = peers::python("requirements-libp2p.txt").await? else { return Ok(()) };
    let mut tasks = JoinSet::new();
    let relay = relay(&mut tasks).await?;
    let (_device, circuit) =
        timeout(WITHIN, device(&mut tasks, &relay)).await.context("no reservation")??;
    run(&python, &["circuit".to_owned(), ECHO.to_string(), circuit.to_string()]).await?;
    tasks.shutdown().await;
    Ok(())
}
