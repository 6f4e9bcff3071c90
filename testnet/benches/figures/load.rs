//! How much the chain takes in: transfers and enrolments per second through JSON-RPC, mined at intervals.

use crate::client::Client;
use crate::server::PROGRAM;
use crate::transactions::{Sender, send_all, succeeded};
use alloy::primitives::{Address, Bytes, TxKind, keccak256};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;
use windlass_contracts::abi::registry::{ISigned, Registry};
use windlass_protocol::alloy_primitives::aliases::{U40, U48};
use windlass_protocol::consent::Enrol;
use windlass_protocol::record::NEVER;
use windlass_protocol::spec::{ChainSpec, verify_spec};
use windlass_protocol::{B256, SecretKey, Signature};
use windlass_testnet::chain::DEV_ACCOUNTS;

use alloy::sol_types::SolCall;

/// Gas of a plain transfer.
const TRANSFER_GAS: u64 = 21_000;

/// More gas than one enrolment uses.
const ENROL_GAS: u64 = 90_000;

/// Plain transfers per second, from all funded accounts to as many new addresses as there are transfers.
pub(crate) async fn transfers(url: &str, count: usize) -> Result<f64> {
    let mut senders = Vec::new();
    for index in 0..DEV_ACCOUNTS.len() {
        senders.push(Sender::new(index, 0)?);
    }
    let mut bodies = Vec::with_capacity(count);
    for number in 0..count {
        let to = Address::from_word(keccak256(number.to_be_bytes()));
        let sender = number % senders.len();
        bodies.push(senders[sender].sign(TxKind::Call(to), Bytes::new(), 1, TRANSFER_GAS)?);
    }
    let nonces: Vec<_> = senders.iter().map(|sender| (sender.address(), sender.nonce)).collect();
    let took = send_all(url, bodies, &nonces).await?;
    let mined = succeeded(&mut Client::connect(url).await?).await?;
    ensure!(mined == count, "{mined} of {count} transfers are in blocks");
    Ok(count as f64 / took.as_secs_f64())
}

/// Single enrolments per second, each with its device's consent, by one fleet's operator.
pub(crate) async fn enrolments(url: &str, count: usize) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let spec = deploy(url, folder.path()).await?;
    let registry = TxKind::Call(spec.contracts.registry.address);
    let mut client = Client::connect(url).await?;
    let nonce =
        client.number("eth_getTransactionCount", serde_json::json!([DEV_ACCOUNTS[0].address, "latest"]));
    let mut operator = Sender::new(0, nonce.await?)?;
    let fleet =
        operator.sign(registry, Registry::createFleetCall { flags: 0 }.abi_encode().into(), 0, 1_000_000)?;
    send_all(url, vec![fleet], &[(operator.address(), operator.nonce)]).await?;
    let before = succeeded(&mut client).await?;
    let mut bodies = Vec::with_capacity(count);
    for number in 0..count as u64 {
        let (id, consent) = consent(&spec, number)?;
        let call = Registry::enrolCall {
            number: U48::from(1),
            id,
            validUntil: U40::from(NEVER),
            deadline: U40::from(NEVER),
            consent,
        };
        bodies.push(operator.sign(registry, call.abi_encode().into(), 0, ENROL_GAS)?);
    }
    let took = send_all(url, bodies, &[(operator.address(), operator.nonce)]).await?;
    let mined = succeeded(&mut client).await? - before;
    ensure!(mined == count, "{mined} of {count} enrolments are in blocks");
    Ok(count as f64 / took.as_secs_f64())
}

/// Puts the contracts on a chain and gives their spec.
pub(crate) async fn deploy(url: &str, folder: &Path) -> Result<ChainSpec> {
    let (key, out) = (folder.join("operator.json"), folder.join("chain.spec"));
    let secret = SecretKey::from_bytes(&DEV_ACCOUNTS[0].key.0)?;
    windlass_keyfile::create(&key, &secret, "bench", windlass_keyfile::Strength::Light)?;
    std::fs::write(folder.join("passphrase"), "bench")?;
    let committee = DEV_ACCOUNTS[1].address.to_string();
    let output = Command::new(PROGRAM)
        .args(["cli", "chain", "deploy", "--dev", "--rpc", url, "--committee", &committee, "--key"])
        .arg(&key)
        .arg("--out")
        .arg(&out)
        .env("WINDLASS_PASSPHRASE_FILE", folder.join("passphrase"))
        .stdin(Stdio::null())
        .output()
        .await?;
    ensure!(output.status.success(), "deploying: {}", String::from_utf8_lossy(&output.stderr));
    read_spec(&out)
}

/// The spec that the first funded account published in `file`.
pub(crate) fn read_spec(file: &Path) -> Result<ChainSpec> {
    let publisher = SecretKey::from_bytes(&DEV_ACCOUNTS[0].key.0)?.address();
    let text = std::fs::read(file).with_context(|| format!("no spec at {}", file.display()))?;
    Ok((*verify_spec(&text, publisher)?).clone())
}

/// The id of a device of the benchmark's and its consent to fleet 1 of the first funded account.
pub(crate) fn consent(spec: &ChainSpec, number: u64) -> Result<(Address, ISigned::Signature)> {
    let key = SecretKey::from_bytes(&keccak256([&b"device"[..], &number.to_be_bytes()].concat()).0)?;
    let device = key.address().as_first_key();
    let operator = DEV_ACCOUNTS[0].address;
    let statement = Enrol { device, fleet: 1, operator, valid_until: NEVER, deadline: NEVER };
    Ok((device.0, contract_signature(&key.sign(&statement.digest(spec)))))
}

fn contract_signature(signature: &Signature) -> ISigned::Signature {
    let bytes = signature.to_ethereum_bytes();
    let word = |from: usize| B256::from_slice(&bytes[from..from + 32]);
    ISigned::Signature { r: word(0), s: word(32), v: bytes[64] }
}
