//! Networks with many devices, enrolled in real blocks, made once per machine and release of the contracts.
//!
//! A fixture is a directory as `windlass-testnet up --state` keeps one. Whoever uses it copies it: a chain
//! that runs in it goes on.

use crate::client::Client;
use crate::load::{consent, read_spec};
use crate::server::PROGRAM;
use crate::transactions::{Sender, send_in_order};
use alloy::primitives::TxKind;
use alloy::sol_types::SolCall;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;
use windlass_contracts::abi::registry::{IDevices, Registry};
use windlass_protocol::alloy_primitives::aliases::{U40, U48};
use windlass_protocol::keccak256;
use windlass_protocol::record::NEVER;
use windlass_testnet::chain::DEV_ACCOUNTS;
use windlass_testnet::network::Testnet;

/// Devices of one transaction: under the gas that one may have (EIP-7825) and the bytes that the pool takes.
const DEVICES_PER_TRANSACTION: u64 = 400;

/// Gas for that.
const BATCH_GAS: u64 = 16_000_000;

/// Transactions signed and sent at a time, so that memory stays small.
const TRANSACTIONS_PER_ROUND: u64 = 48;

/// The directory of the fixture with this many devices, made if it isn't there.
pub(crate) async fn at_hand(devices: u64) -> Result<PathBuf> {
    let folder = cache()?.join(format!("fixtures-{}", hash()));
    let (done, making) = (folder.join(devices.to_string()), folder.join(format!("{devices}.making")));
    if done.exists() {
        return Ok(done);
    }
    let _ = std::fs::remove_dir_all(&making);
    std::fs::create_dir_all(&folder)?;
    let start = Instant::now();
    make(&making, devices).await.with_context(|| format!("making the fixture {}", done.display()))?;
    // Whole or not at all.
    std::fs::rename(&making, &done)?;
    println!("made {} in {:.0} s", done.display(), start.elapsed().as_secs_f64());
    Ok(done)
}

fn cache() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("windlass"))
}

/// Of everything that decides what is in a fixture: the contracts, the store, and how it is made.
fn hash() -> String {
    let parts: [&[u8]; 4] = [
        include_bytes!("../../../contracts/artifacts/Registry.json"),
        include_bytes!("../../../contracts/artifacts/NameRegistrar.json"),
        include_bytes!("../../src/chain/store.rs"),
        include_bytes!("fixture.rs"),
    ];
    let hashes: Vec<u8> = parts.iter().flat_map(|part| keccak256(part).0).collect();
    keccak256(hashes).to_string()[2..14].to_owned()
}

async fn make(directory: &Path, devices: u64) -> Result<()> {
    let builder = Testnet::builder(PROGRAM.into()).nodes(1).state(Some(directory.to_owned()));
    let mut testnet = builder.start().await?;
    let fleet = testnet.create_fleet().await?;
    ensure!(fleet == 1, "the consents are for fleet 1, not {fleet}");
    // It would follow each block, and the clock is not the chain's alone.
    testnet.kill_node(0).await?;
    let spec = read_spec(&testnet.spec_file())?;
    let registry = TxKind::Call(spec.contracts.registry.address);
    let mut client = Client::connect(testnet.rpc_url()).await?;
    let nonce = client.number("eth_getTransactionCount", json!([DEV_ACCOUNTS[0].address, "latest"])).await?;
    let mut operator = Sender::new(0, nonce)?;
    for round in (0..devices).step_by((DEVICES_PER_TRANSACTION * TRANSACTIONS_PER_ROUND) as usize) {
        let mut bodies = Vec::new();
        let last = devices.min(round + DEVICES_PER_TRANSACTION * TRANSACTIONS_PER_ROUND);
        for first in (round..last).step_by(DEVICES_PER_TRANSACTION as usize) {
            let enrolments = (first..last.min(first + DEVICES_PER_TRANSACTION)).map(|number| {
                let (device, consent) = consent(&spec, number)?;
                let (valid_until, deadline) = (U40::from(NEVER), U40::from(NEVER));
                Ok(IDevices::Enrolment { device, validUntil: valid_until, deadline, consent })
            });
            let enrolments = enrolments.collect::<Result<_>>()?;
            let call = Registry::enrolBatchCall { number: U48::from(fleet), enrolments };
            bodies.push(operator.sign(registry, call.abi_encode().into(), 0, BATCH_GAS)?);
        }
        send_in_order(testnet.rpc_url(), bodies, (operator.address(), operator.nonce)).await?;
    }
    testnet.shutdown().await;
    Ok(())
}
