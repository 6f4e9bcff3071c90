//! A full round with each client that people use: deploy, write, read, logs, filter, subscription.
//!
//! The rounds of the JavaScript and Python clients are programs of their own in `tests/interop/clients`, each
//! of which says on its last line that it is done. The chain signs for its development accounts, mines at once
//! and makes no block by itself, so a round sees only what it did.

use crate::history::History;
use crate::rpc::{Rpc, embedded};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;
use windlass_contracts::{Deployable, registry};
use windlass_testnet::chain::{Chain, ChainConfig, DEV_ACCOUNTS};
use windlass_tests::peers;

/// How long one program may take, on a machine that is busy with everything else.
const WITHIN: Duration = Duration::from_secs(120);

async fn quiet() -> anyhow::Result<(Chain, Rpc)> {
    embedded(ChainConfig { heartbeat: None, ..ChainConfig::default() }).await
}

fn socket_url(chain: &Chain) -> String {
    chain.rpc_url().replacen("http", "ws", 1)
}

/// What a program printed, once it ended well.
async fn run<S: AsRef<OsStr>>(program: &Path, arguments: &[S], folder: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let shown = format!("{:?}", command.as_std());
    let output =
        timeout(WITHIN, command.output()).await.with_context(|| format!("{shown}: not in time"))??;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(output.status.success(), "{shown}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

async fn javascript(script: &str) -> anyhow::Result<()> {
    let Some(folder) = peers::javascript()? else { return Ok(()) };
    let (chain, _) = quiet().await?;
    let script = format!("clients/{script}.mjs");
    let said = run(Path::new("node"), &[script, chain.rpc_url(), socket_url(&chain)], &folder).await?;
    ensure!(said.ends_with("done"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn viem_does_a_full_round() -> anyhow::Result<()> {
    javascript("viem").await
}

#[tokio::test(flavor = "multi_thread")]
async fn ethers_does_a_full_round() -> anyhow::Result<()> {
    javascript("ethers").await
}

#[tokio::test(flavor = "multi_thread")]
async fn web3py_does_a_full_round() -> anyhow::Result<()> {
    let Some(python) = peers::python("requirements.txt").await? else { return Ok(()) };
    let (chain, _) = quiet().await?;
    let arguments = ["tests/interop/clients/web3py.py".to_owned(), chain.rpc_url(), socket_url(&chain)];
    let said = run(&python, &arguments, peers::repository()).await?;
    ensure!(said.ends_with("done"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_hold_for_a_verifier_in_another_language() -> anyhow::Result<()> {
    let Some(python) = peers::python("requirements.txt").await? else { return Ok(()) };
    let (chain, rpc) = quiet().await?;
    let mut history = History::new(3);
    let mut steps = history.foundations();
    steps.extend(history.block(40));
    for step in steps {
        rpc.ask("eth_sendRawTransaction", json!([step.raw])).await?;
    }
    let arguments =
        ["tests/interop/clients/proofs.py".to_owned(), chain.rpc_url(), history.registry().to_string()];
    let said: Value = serde_json::from_str(&run(&python, &arguments, peers::repository()).await?)?;
    println!("{said}");
    ensure!(said["proofs"].as_u64() > Some(100) && said["refused"].as_u64() > Some(1_000), "{said}");
    Ok(())
}

/// `cast` against one chain, with everybody's first key.
struct Cast {
    program: PathBuf,
    url: String,
}

impl Cast {
    async fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        // Before the rest: what follows `--create` belongs to the creation.
        let (command, rest) = arguments.split_first().context("a command")?;
        let arguments = [&[*command, "--rpc-url", &self.url], rest].concat();
        run(&self.program, &arguments, peers::repository()).await
    }

    /// Sends a transaction and gives its receipt.
    async fn send(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let key = DEV_ACCOUNTS[0].key.to_string();
        let receipt = self.ask(&[&["send", "--json", "--private-key", &key], arguments].concat()).await?;
        Ok(serde_json::from_str(&receipt)?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cast_does_a_full_round() -> anyhow::Result<()> {
    let Some(program) = peers::foundry("cast")? else { return Ok(()) };
    let (chain, _) = quiet().await?;
    let cast = Cast { program, url: chain.rpc_url() };
    ensure!(cast.ask(&["chain-id"]).await? == "31337");
    // Deploy.
    let owner = DEV_ACCOUNTS[0].address;
    let terms =
        registry::Terms { name_registrar: owner, node_staking: owner, predecessor: Default::default() };
    let deployed = cast.send(&["--create", &terms.creation_code().to_string()]).await?;
    ensure!(deployed["status"] == "0x1", "{deployed}");
    let at = deployed["contractAddress"].as_str().context("a contract's address")?.to_owned();
    ensure!(cast.ask(&["code", &at]).await? == terms.deployed_code().to_string(), "other code");
    // A filter and a subscription from before the write.
    let event = "FleetCreated(uint48,address,uint16)";
    let wanted = json!({ "address": at }).to_string();
    let filter = cast.ask(&["rpc", "eth_newFilter", &wanted]).await?;
    let mut watching = Command::new(&cast.program)
        .args(["logs", "--subscribe", "--address", &at, "--rpc-url", &socket_url(&chain)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut watched = BufReader::new(watching.stdout.take().context("stdout is piped")?).lines();
    // Write, and write again until the subscription tells: nothing says when it has begun.
    let mut written = Vec::new();
    let told = loop {
        let receipt = cast.send(&[&at, "createFleet(uint16)", "0"]).await?;
        ensure!(receipt["status"] == "0x1", "{receipt}");
        written.push(receipt["transactionHash"].as_str().context("a hash")?.to_owned());
        let found = timeout(Duration::from_secs(2), async {
            while let Some(line) = watched.next_line().await? {
                if let Some(hash) = line.trim().strip_prefix("transactionHash: ") {
                    return Ok(hash.to_owned());
                }
            }
            bail!("the subscription ended")
        });
        match found.await {
            Ok(found) => break found?,
            Err(_) if written.len() < 20 => {}
            Err(_) => bail!("the subscription tells nothing"),
        }
    };
    ensure!(written.contains(&told), "the subscription tells of {told}, not of {written:?}");
    // Read.
    let key = format!("{:#066x}", 1);
    let record = cast.ask(&["call", &at, "get(uint8,bytes32)(bytes32)", "2", &key]).await?;
    ensure!(record.trim_start_matches("0x").bytes().any(|digit| digit != b'0'), "the fleet has no record");
    let nonce: usize = cast.ask(&["nonce", &owner.to_string()]).await?.parse()?;
    ensure!(nonce == 1 + written.len(), "a nonce of {nonce}");
    // Logs, by query and by filter.
    let logs = cast.ask(&["logs", "--json", "--from-block", "0", "--address", &at, event]).await?;
    let logs: Vec<Value> = serde_json::from_str(&logs)?;
    let found: Vec<_> = logs.iter().filter_map(|log| log["transactionHash"].as_str()).collect();
    ensure!(found == written, "{found:?}");
    let changes = cast.ask(&["rpc", "eth_getFilterChanges", filter.trim_matches('"')]).await?;
    ensure!(written.iter().all(|hash| changes.contains(hash.as_str())), "{changes}");
    // A refusal, by the contract's own error; and a plain transfer.
    let refusal =
        cast.ask(&["call", &at, "bumpPolicyEpoch(uint48)", "77", "--from", &owner.to_string()]).await;
    let refusal = format!("{:#}", refusal.err().context("a fleet that doesn't exist was not refused")?);
    ensure!(refusal.contains("revert"), "{refusal}");
    let transfer = cast.send(&["0x00000000000000000000000000000000000000aa", "--value", "1ether"]).await?;
    ensure!(transfer["gasUsed"] == "0x5208", "{transfer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_script_is_broadcast() -> anyhow::Result<()> {
    let Some(forge) = peers::forge()? else { return Ok(()) };
    let (chain, rpc) = quiet().await?;
    let scratch = tempfile::tempdir()?;
    let inside = |name: &str| scratch.path().join(name).to_string_lossy().into_owned();
    let mut command = Command::new(forge);
    command
        .args(["script", "Round.s.sol:Round", "--broadcast", "--slow", "--rpc-url", &chain.rpc_url()])
        .args(["--private-key", &DEV_ACCOUNTS[0].key.to_string()])
        .env("FOUNDRY_OUT", inside("out"))
        .env("FOUNDRY_CACHE_PATH", inside("cache"))
        .env("FOUNDRY_BROADCAST", inside("broadcast"))
        .current_dir(peers::repository().join("tests/interop/forge"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(WITHIN, command.output()).await.context("forge script: not in time")??;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    let registry = DEV_ACCOUNTS[0].address.create(0);
    let logs = rpc.ask("eth_getLogs", json!([{ "fromBlock": "0x0", "address": registry }])).await?;
    let created = alloy::primitives::keccak256("FleetCreated(uint48,address,uint16)");
    let logs = logs.as_array().context("logs")?;
    ensure!(logs.iter().any(|log| log["topics"][0] == json!(created)), "{logs:?}");
    ensure!(rpc.ask("eth_getTransactionCount", json!([DEV_ACCOUNTS[0].address, "latest"])).await? == "0x2");
    Ok(())
}
