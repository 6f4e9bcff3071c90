//! Signed transactions, made before any clock starts, and sending them.

use crate::client::{Client, request};
use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::Encodable2718;
use alloy::primitives::{Address, Bytes, TxKind, U256, hex};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use windlass_testnet::chain::{DEFAULT_CHAIN_ID, DEV_ACCOUNTS};

/// Connections that send at the same time.
const CONNECTIONS: usize = 16;

/// Who signs: a funded account and its next nonce.
pub(crate) struct Sender {
    signer: PrivateKeySigner,
    pub(crate) nonce: u64,
}

impl Sender {
    /// The funded account at `index`, whose next nonce is `nonce`.
    pub(crate) fn new(index: usize, nonce: u64) -> Result<Self> {
        Ok(Self { signer: PrivateKeySigner::from_bytes(&DEV_ACCOUNTS[index].key)?, nonce })
    }

    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    /// The next transaction, signed, as the body of the request that sends it.
    pub(crate) fn sign(&mut self, to: TxKind, input: Bytes, value: u64, gas_limit: u64) -> Result<String> {
        let transaction = TxEip1559 {
            chain_id: DEFAULT_CHAIN_ID,
            nonce: self.nonce,
            gas_limit,
            // Pays for any base fee that full blocks lead to during a measurement.
            max_fee_per_gas: 1_000_000_000_000,
            max_priority_fee_per_gas: 0,
            to,
            value: U256::from(value),
            input,
            ..TxEip1559::default()
        };
        self.nonce += 1;
        let signature = self.signer.sign_hash_sync(&transaction.signature_hash())?;
        let raw = TxEnvelope::from(transaction.into_signed(signature)).encoded_2718();
        Ok(request("eth_sendRawTransaction", json!([hex::encode_prefixed(raw)])))
    }
}

/// Sends requests over several connections and waits until `senders` have nonces like these in the newest
/// block. Gives the time from the first request on.
pub(crate) async fn send_all(url: &str, bodies: Vec<String>, senders: &[(Address, u64)]) -> Result<Duration> {
    let (bodies, next) = (Arc::new(bodies), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(url).await?);
    }
    let mut watch = Client::connect(url).await?;
    let start = Instant::now();
    let tasks: Vec<_> =
        clients.into_iter().map(|client| tokio::spawn(drain(client, bodies.clone(), next.clone()))).collect();
    for task in tasks {
        task.await??;
    }
    wait_mined(&mut watch, senders).await?;
    Ok(start.elapsed())
}

/// Sends requests one after the other to a chain that mines each transaction at once: blocks far from full, so
/// that the base fee falls, however many there are.
pub(crate) async fn send_in_order(url: &str, bodies: Vec<String>, sender: (Address, u64)) -> Result<()> {
    drain(Client::connect(url).await?, Arc::new(bodies), Arc::default()).await?;
    wait_mined(&mut Client::connect(url).await?, &[sender]).await
}

async fn drain(mut client: Client, bodies: Arc<Vec<String>>, next: Arc<AtomicUsize>) -> Result<()> {
    while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
        let answer = client.post(body.as_bytes()).await?;
        ensure!(!answer.windows(7).any(|word| word == b"\"error\""), "{}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

async fn wait_mined(client: &mut Client, senders: &[(Address, u64)]) -> Result<()> {
    for (sender, nonce) in senders {
        while client.number("eth_getTransactionCount", json!([sender, "latest"])).await? < *nonce {
            let pending = client.number("eth_getTransactionCount", json!([sender, "pending"])).await?;
            ensure!(pending >= *nonce, "transaction {pending} of {sender} was dropped, {nonce} were sent");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// Fails unless every transaction of the chain succeeded, and gives how many there are.
pub(crate) async fn succeeded(client: &mut Client) -> Result<usize> {
    let newest = client.number("eth_blockNumber", json!([])).await?;
    let mut count = 0;
    for number in 1..=newest {
        let receipts = client.call("eth_getBlockReceipts", json!([format!("{number:#x}")])).await?;
        let receipts = receipts.as_array().context("no receipts")?;
        let failed = receipts.iter().find(|receipt| receipt["status"] != "0x1");
        ensure!(failed.is_none(), "a transaction failed: {failed:?}");
        count += receipts.len();
    }
    Ok(count)
}
