//! A walk over a chain as a block explorer makes it, with the formats of alloy-consensus and the tries of
//! alloy-trie, which share no code with the chain: everything it serves, by hash and by number, is one
//! consistent chain, and every hash, root, bloom and proof recomputes.

use crate::history::{History, SENDERS};
use crate::rpc::{Rpc, embedded, same};
use crate::twins::{proven, written_slots};
use alloy::consensus::transaction::SignerRecoverable;
use alloy::consensus::{Header, Transaction, TxEnvelope, proofs};
use alloy::eips::eip1559::BaseFeeParams;
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bloom, Bytes, keccak256, logs_bloom};
use alloy::rpc::types::{Block, TransactionReceipt};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use windlass_testnet::chain::{ChainConfig, DEV_ACCOUNTS, Finality, Mining};

/// How a member of an answer is written.
#[derive(Clone, Copy)]
enum Form {
    /// A number without leading zeros.
    Quantity,
    /// So many bytes.
    Bytes(usize),
    /// Any number of bytes.
    Data,
}

use Form::{Bytes as Exactly, Data, Quantity};

/// Members that the execution APIs ask of a block.
const OF_A_BLOCK: &[(&str, Form)] = &[
    ("number", Quantity),
    ("hash", Exactly(32)),
    ("parentHash", Exactly(32)),
    ("sha3Uncles", Exactly(32)),
    ("logsBloom", Exactly(256)),
    ("transactionsRoot", Exactly(32)),
    ("stateRoot", Exactly(32)),
    ("receiptsRoot", Exactly(32)),
    ("withdrawalsRoot", Exactly(32)),
    ("parentBeaconBlockRoot", Exactly(32)),
    ("mixHash", Exactly(32)),
    ("miner", Exactly(20)),
    ("nonce", Exactly(8)),
    ("difficulty", Quantity),
    ("gasLimit", Quantity),
    ("gasUsed", Quantity),
    ("timestamp", Quantity),
    ("baseFeePerGas", Quantity),
    ("blobGasUsed", Quantity),
    ("excessBlobGas", Quantity),
    ("size", Quantity),
    ("extraData", Data),
];
/// Members of every transaction of a block.
const OF_A_TRANSACTION: &[(&str, Form)] = &[
    ("hash", Exactly(32)),
    ("blockHash", Exactly(32)),
    ("blockNumber", Quantity),
    ("transactionIndex", Quantity),
    ("from", Exactly(20)),
    ("nonce", Quantity),
    ("gas", Quantity),
    ("gasPrice", Quantity),
    ("value", Quantity),
    ("input", Data),
    ("type", Quantity),
    ("r", Quantity),
    ("s", Quantity),
    ("v", Quantity),
];
/// Members of every receipt.
const OF_A_RECEIPT: &[(&str, Form)] = &[
    ("transactionHash", Exactly(32)),
    ("transactionIndex", Quantity),
    ("blockHash", Exactly(32)),
    ("blockNumber", Quantity),
    ("from", Exactly(20)),
    ("cumulativeGasUsed", Quantity),
    ("gasUsed", Quantity),
    ("effectiveGasPrice", Quantity),
    ("logsBloom", Exactly(256)),
    ("status", Quantity),
    ("type", Quantity),
];
/// Members of every log.
const OF_A_LOG: &[(&str, Form)] = &[
    ("address", Exactly(20)),
    ("data", Data),
    ("blockNumber", Quantity),
    ("blockHash", Exactly(32)),
    ("transactionHash", Exactly(32)),
    ("transactionIndex", Quantity),
    ("logIndex", Quantity),
];

fn shaped(what: &Value, members: &[(&str, Form)]) -> anyhow::Result<()> {
    for (name, form) in members {
        let text = what[name].as_str().with_context(|| format!("{name} is missing in {what}"))?;
        let digits = text.strip_prefix("0x").with_context(|| format!("{name}: {text}"))?;
        let fits = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            && match form {
                Quantity => digits == "0" || !(digits.is_empty() || digits.starts_with('0')),
                Exactly(bytes) => digits.len() == 2 * bytes,
                Data => digits.len() % 2 == 0,
            };
        ensure!(fits, "{name} is written as {text}");
    }
    Ok(())
}

/// What a walk saw.
#[derive(Debug, Default)]
struct Seen {
    transactions: u64,
    logs: u64,
    proofs: u64,
    parent: Option<Header>,
    sent: BTreeMap<Address, u64>,
}

/// Walks the whole chain.
async fn walk(rpc: &Rpc, registry: Address) -> anyhow::Result<Seen> {
    let latest = rpc.ask("eth_blockNumber", json!([])).await?;
    let latest = u64::from_str_radix(latest.as_str().context("a number")?.trim_start_matches("0x"), 16)?;
    let (mut seen, mut logs) = (Seen::default(), Vec::new());
    for number in 0..=latest {
        let of_block = visit(rpc, number, registry, &mut seen).await;
        logs.extend(of_block.with_context(|| format!("block {number}"))?);
    }
    let all = rpc.ask("eth_getLogs", json!([{"fromBlock": "0x0", "toBlock": "latest"}])).await?;
    same("all logs", &all, &Value::Array(logs), &[])?;
    let beyond = format!("{:#x}", latest + 1);
    ensure!(rpc.ask("eth_getBlockByNumber", json!([beyond, true])).await?.is_null(), "a block too many");
    Ok(seen)
}

/// Checks one block and everything in it; gives its logs.
async fn visit(rpc: &Rpc, number: u64, registry: Address, seen: &mut Seen) -> anyhow::Result<Vec<Value>> {
    let tag = format!("{number:#x}");
    let block = rpc.ask("eth_getBlockByNumber", json!([tag, true])).await?;
    let header = check_header(rpc, &block, seen.parent.as_ref()).await?;
    let hash = json!(header.hash_slow());
    same("the block by hash", &rpc.ask("eth_getBlockByHash", json!([hash, true])).await?, &block, &[])?;
    let transactions = check_transactions(rpc, &block, &header).await?;
    let receipts = rpc.ask("eth_getBlockReceipts", json!([tag])).await?;
    same("receipts by hash", &rpc.ask("eth_getBlockReceipts", json!([hash])).await?, &receipts, &[])?;
    let receipts = receipts.as_array().context("receipts")?.clone();
    check_receipts(rpc, &receipts, &transactions, &header).await?;
    let logs: Vec<_> =
        receipts.iter().flat_map(|receipt| receipt["logs"].as_array().cloned().unwrap_or_default()).collect();
    check_logs(rpc, &logs, &hash).await?;
    for transaction in &transactions {
        *seen.sent.entry(transaction.recover_signer()?).or_default() += 1;
    }
    for account in &DEV_ACCOUNTS[..SENDERS] {
        let nonce = rpc.ask("eth_getTransactionCount", json!([account.address, tag])).await?;
        let sent = seen.sent.get(&account.address).copied().unwrap_or_default();
        ensure!(nonce == format!("{sent:#x}"), "{} has sent {sent}, its nonce is {nonce}", account.address);
    }
    seen.proofs += check_proofs(rpc, &tag, &receipts, registry).await?;
    seen.transactions += transactions.len() as u64;
    seen.logs += logs.len() as u64;
    seen.parent = Some(header);
    Ok(logs)
}

/// The header: as its members say, as its bytes say, and as its parent demands.
async fn check_header(rpc: &Rpc, block: &Value, parent: Option<&Header>) -> anyhow::Result<Header> {
    shaped(block, OF_A_BLOCK)?;
    let typed: Block = serde_json::from_value(block.clone())?;
    let header = typed.header.inner;
    ensure!(json!(header.hash_slow()) == block["hash"], "the hash isn't that of the header");
    let raw: Bytes = rpc.read("debug_getRawHeader", json!([block["number"]])).await?;
    ensure!(raw == alloy_rlp::encode(&header), "the raw header is another");
    ensure!(block["uncles"] == json!([]) && block["withdrawals"] == json!([]), "uncles or withdrawals");
    let Some(parent) = parent else {
        ensure!((header.number, header.parent_hash) == (0, B256::ZERO), "genesis has a parent");
        return Ok(header);
    };
    ensure!(header.parent_hash == parent.hash_slow(), "not its parent's child");
    ensure!(
        header.number == parent.number + 1 && header.timestamp > parent.timestamp,
        "not after its parent"
    );
    let base_fee = parent.next_block_base_fee(BaseFeeParams::ethereum());
    ensure!(header.base_fee_per_gas == base_fee, "EIP-1559 asks for a base fee of {base_fee:?}");
    ensure!(header.gas_used <= header.gas_limit, "more gas than fits");
    Ok(header)
}

/// The transactions: their root, each hash and sender, and each by every way to ask for it.
async fn check_transactions(rpc: &Rpc, block: &Value, header: &Header) -> anyhow::Result<Vec<TxEnvelope>> {
    let list = block["transactions"].as_array().context("transactions")?;
    let (number, hash) = (&block["number"], &block["hash"]);
    let mut transactions = Vec::new();
    for (index, one) in list.iter().enumerate() {
        shaped(one, OF_A_TRANSACTION)?;
        let typed: alloy::rpc::types::Transaction = serde_json::from_value(one.clone())?;
        let envelope = typed.inner.inner().clone();
        ensure!(json!(keccak256(envelope.encoded_2718())) == one["hash"], "a transaction's hash");
        ensure!(json!(envelope.recover_signer()?) == one["from"], "a transaction's sender");
        let index = format!("{index:#x}");
        let ways = [
            ("eth_getTransactionByHash", json!([one["hash"]])),
            ("eth_getTransactionByBlockNumberAndIndex", json!([number, index])),
            ("eth_getTransactionByBlockHashAndIndex", json!([hash, index])),
        ];
        for (method, params) in ways {
            same(method, &rpc.ask(method, params).await?, one, &[])?;
        }
        transactions.push(envelope);
    }
    let root = proofs::calculate_transaction_root(&transactions);
    ensure!(root == header.transactions_root, "the transactions' root is {root}");
    let hashes: Vec<_> = list.iter().map(|one| one["hash"].clone()).collect();
    let short = rpc.ask("eth_getBlockByNumber", json!([number, false])).await?;
    ensure!(short["transactions"] == json!(hashes), "the short form lists other transactions");
    let count = json!(format!("{:#x}", list.len()));
    for (method, of) in
        [("eth_getBlockTransactionCountByNumber", number), ("eth_getBlockTransactionCountByHash", hash)]
    {
        ensure!(rpc.ask(method, json!([of])).await? == count, "{method}");
    }
    let beyond = json!([hash, count]);
    ensure!(rpc.ask("eth_getTransactionByBlockHashAndIndex", beyond).await?.is_null(), "one too many");
    Ok(transactions)
}

/// The receipts: root, bloom, gas, price, and the address of what was created.
async fn check_receipts(
    rpc: &Rpc,
    receipts: &[Value],
    transactions: &[TxEnvelope],
    header: &Header,
) -> anyhow::Result<()> {
    ensure!(receipts.len() == transactions.len(), "{} receipts", receipts.len());
    let (mut envelopes, mut gas_used, mut bloom) = (Vec::new(), 0, Bloom::ZERO);
    for (receipt, transaction) in receipts.iter().zip(transactions) {
        shaped(receipt, OF_A_RECEIPT)?;
        let one = rpc.ask("eth_getTransactionReceipt", json!([receipt["transactionHash"]])).await?;
        same("the receipt by hash", &one, receipt, &[])?;
        let typed: TransactionReceipt = serde_json::from_value(receipt.clone())?;
        ensure!(typed.transaction_hash == *transaction.tx_hash(), "a receipt of another transaction");
        gas_used += typed.gas_used;
        let price = transaction.effective_gas_price(header.base_fee_per_gas);
        ensure!(typed.effective_gas_price == price, "EIP-1559 asks for a price of {price}");
        let from = transaction.recover_signer()?;
        let created = transaction.to().is_none().then(|| from.create(transaction.nonce()));
        let place = (typed.from, typed.to, typed.contract_address);
        ensure!(place == (from, transaction.to(), created), "{place:?}");
        let envelope = typed.inner.map_logs(|log| log.inner);
        ensure!(envelope.cumulative_gas_used() == gas_used, "the gas doesn't add up");
        ensure!(*envelope.logs_bloom() == logs_bloom(envelope.logs()), "a receipt's bloom");
        bloom |= logs_bloom(envelope.logs());
        envelopes.push(envelope);
    }
    let root = proofs::calculate_receipt_root(&envelopes);
    ensure!((root, bloom, gas_used) == (header.receipts_root, header.logs_bloom, header.gas_used), "{root}");
    Ok(())
}

/// The logs: in their order, and by the block's hash.
async fn check_logs(rpc: &Rpc, logs: &[Value], block: &Value) -> anyhow::Result<()> {
    for (index, log) in logs.iter().enumerate() {
        shaped(log, OF_A_LOG)?;
        ensure!(log["logIndex"] == format!("{index:#x}") && log["removed"] == false, "a log's place");
        ensure!(log["blockHash"] == *block, "a log of another block");
    }
    let asked = rpc.ask("eth_getLogs", json!([{ "blockHash": block }])).await?;
    same("logs by hash", &asked, &json!(logs), &[])
}

/// Proofs of everybody that the block names, and of what Registry wrote in it, under the block's own root.
async fn check_proofs(rpc: &Rpc, tag: &str, receipts: &[Value], registry: Address) -> anyhow::Result<u64> {
    let mut accounts = BTreeSet::from([DEV_ACCOUNTS[9].address, Address::repeat_byte(0x5a)]);
    for name in ["from", "to", "contractAddress"] {
        let named = receipts.iter().map(|receipt| serde_json::from_value::<Address>(receipt[name].clone()));
        accounts.extend(named.filter_map(Result::ok));
    }
    let count = accounts.len() as u64;
    for account in accounts {
        proven(rpc, json!([account, [B256::ZERO], tag])).await.with_context(|| account.to_string())?;
    }
    let slots: Vec<B256> =
        receipts.iter().flat_map(|receipt| written_slots(receipt, registry)).map(B256::from).collect();
    proven(rpc, json!([registry, slots, tag])).await.context("Registry")?;
    Ok(count + slots.len() as u64)
}

/// What a reorg took off is no longer the chain, wherever it is asked for.
async fn check_removed(rpc: &Rpc, removed: &[Value]) -> anyhow::Result<()> {
    for block in removed {
        let by_number = rpc.ask("eth_getBlockByNumber", json!([block["number"], false])).await?;
        ensure!(by_number["hash"] != block["hash"], "a block that was taken off");
        for transaction in block["transactions"].as_array().context("transactions")? {
            let hash = json!([transaction["hash"]]);
            let found = rpc.ask("eth_getTransactionByHash", hash.clone()).await?;
            let receipt = rpc.ask("eth_getTransactionReceipt", hash).await?;
            ensure!(found["blockHash"] != block["hash"] && receipt["blockHash"] != block["hash"], "{found}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explorer_finds_one_consistent_chain_also_after_reorgs() -> anyhow::Result<()> {
    let config = ChainConfig {
        mining: Mining::Interval(Duration::from_secs(86_400)),
        heartbeat: None,
        finality: Finality::Manual,
        ..ChainConfig::default()
    };
    let (_chain, rpc) = embedded(config).await?;
    let mut history = History::new(7);
    let registry = history.registry();
    let foundations = history.foundations();
    mine(&rpc, foundations.iter().map(|step| &step.raw)).await?;
    for _ in 0..10 {
        let steps = history.block(8);
        mine(&rpc, steps.iter().map(|step| &step.raw)).await?;
    }
    let seen = walk(&rpc, registry).await?;
    ensure!(seen.transactions >= 88 && seen.logs > 50 && seen.proofs > 150, "{seen:?}");
    for (depth, transactions) in [(1, "drop"), (4, "keep"), (2, "drop"), (6, "keep")] {
        let mut removed = Vec::new();
        let latest: String = rpc.read("eth_blockNumber", json!([])).await?;
        let latest = u64::from_str_radix(latest.trim_start_matches("0x"), 16)?;
        for number in latest + 1 - depth..=latest {
            removed.push(rpc.ask("eth_getBlockByNumber", json!([format!("{number:#x}"), true])).await?);
        }
        rpc.ask("dev_reorg", json!([depth, { "transactions": transactions }])).await?;
        check_removed(&rpc, &removed).await?;
        walk(&rpc, registry).await.with_context(|| format!("after a reorg of {depth}, {transactions}"))?;
    }
    Ok(())
}

async fn mine(rpc: &Rpc, raw: impl Iterator<Item = &Bytes>) -> anyhow::Result<()> {
    for raw in raw {
        rpc.ask("eth_sendRawTransaction", json!([raw])).await?;
    }
    rpc.ask("evm_mine", json!([])).await.map(drop)
}
