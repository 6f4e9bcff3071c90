//! What a chain or an account can't do for a deployment, each said by name; with it mended, a second run completes.

use crate::desk::{Desk, quiet_chain};
use crate::gate::{Fate, Gate};
use alloy::network::{EthereumWallet, TransactionBuilder};
use alloy::primitives::U256;
use alloy::providers::{Provider, ProviderBuilder};
use alloy::rpc::types::TransactionRequest;
use alloy::signers::local::PrivateKeySigner;
use serde_json::{Value, json};
use windlass_protocol::{Address, B256, keccak256};
use windlass_testnet::chain::DEV_ACCOUNTS;

/// Which requests a line of the eligibility test makes.
type Wanted = fn(&Value) -> bool;
/// What makes their answers fail it.
type Spoil = fn(&mut Value);

/// Sends coin from the second funded account.
async fn fund(url: &str, to: Address) -> anyhow::Result<()> {
    let wallet = EthereumWallet::from(PrivateKeySigner::from_bytes(&DEV_ACCOUNTS[1].key)?);
    let provider = ProviderBuilder::new().wallet(wallet).connect_http(url.parse()?);
    let ten = U256::from(10u64.pow(18)) * U256::from(10);
    let request = TransactionRequest::default().with_to(to).with_value(ten);
    provider.send_transaction(request).await?.get_receipt().await?;
    Ok(())
}

#[tokio::test]
async fn another_chain_than_asked_for_is_refused_before_anything_is_sent() -> anyhow::Result<()> {
    let chain = quiet_chain().await?;
    let gate = Gate::open(&chain.rpc_url()).await?;
    let desk = Desk::rich().await?;
    desk.refused(&gate.url(), &["--chain-id", "1"], "other_chain", &[&gate.url(), "31337", "not 1"]).await?;
    assert_eq!(desk.sent(&gate).await?, 0);
    assert!(!desk.journal().exists());
    desk.completes(&gate, &["--chain-id", "31337"]).await?;
    chain.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn too_little_balance_is_said_before_anything_is_sent() -> anyhow::Result<()> {
    let chain = quiet_chain().await?;
    let gate = Gate::open(&chain.rpc_url()).await?;
    let desk = Desk::with(&B256::repeat_byte(9)).await?;
    let account = desk.account().to_string();
    desk.refused(&gate.url(), &[], "balance", &[&account, "has 0 wei", "send it"]).await?;
    assert_eq!(desk.sent(&gate).await?, 0);
    fund(&chain.rpc_url(), desk.account()).await?;
    desk.completes(&gate, &[]).await?;
    chain.shutdown().await;
    Ok(())
}

fn asks(request: &Value, method: &str, first: &str) -> bool {
    request["method"] == method && (first.is_empty() || request["params"][0] == first)
}

/// Whether it asks for a block that isn't named by a tag, and not for the first: the probe's.
fn asks_for_a_number(request: &Value) -> bool {
    let number = request["params"][0].as_str().unwrap_or_default();
    request["method"] == "eth_getBlockByNumber" && number.starts_with("0x") && number != "0x0"
}

fn other_hash(block: &mut Value) {
    block["hash"] = json!(B256::repeat_byte(0xbb));
}

fn no_block(block: &mut Value) {
    *block = Value::Null;
}

fn no_bloom(block: &mut Value) {
    block["logsBloom"] = json!(format!("0x{}", "00".repeat(256)));
}

fn other_account(proof: &mut Value) {
    flip(&mut proof["accountProof"]);
}

fn other_value(proof: &mut Value) {
    if proof["storageProof"][0]["value"] != "0x0" {
        flip(&mut proof["storageProof"][0]["proof"]);
    }
}

fn other_absence(proof: &mut Value) {
    if proof["storageProof"][0]["value"] == "0x0" {
        flip(&mut proof["storageProof"][0]["proof"]);
    }
}

/// Changes the last byte of the last trie node, if there is one.
fn flip(nodes: &mut Value) {
    if let Some(Value::String(node)) = nodes.as_array_mut().and_then(|nodes| nodes.last_mut()) {
        let last = if node.ends_with("00") { "01" } else { "00" };
        node.replace_range(node.len() - 2.., last);
    }
}

/// Every line of the eligibility test is failed once, in the order in which they are tried; the chain is refused by the name
/// of the line each time, and once nothing is wrong any more the deployment completes.
#[tokio::test]
async fn each_line_of_the_eligibility_test_refuses_by_name() -> anyhow::Result<()> {
    let chain = quiet_chain().await?;
    let gate = Gate::open(&chain.rpc_url()).await?;
    let desk = Desk::rich().await?;
    let lines: [(&str, Wanted, Spoil); 6] = [
        ("header's RLP", |request| asks(request, "eth_getBlockByNumber", "latest"), other_hash),
        ("--finality-depth", |request| asks(request, "eth_getBlockByNumber", "finalized"), no_block),
        ("bloom", asks_for_a_number, no_bloom),
        ("contract's account", |request| asks(request, "eth_getProof", ""), other_account),
        ("slot with a value", |request| asks(request, "eth_getProof", ""), other_value),
        ("empty slot", |request| asks(request, "eth_getProof", ""), other_absence),
    ];
    for (line, wanted, change) in lines {
        gate.rule(move |request| if wanted(request) { Fate::Change(change) } else { Fate::Pass });
        desk.refused(&gate.url(), &[], "chain_ineligible", &["not eligible", &gate.url(), line]).await?;
    }
    gate.rule(|_| Fate::Pass);
    desk.completes(&gate, &[]).await?;
    chain.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_chain_without_the_finalized_tag_is_deployed_on_with_a_stated_depth() -> anyhow::Result<()> {
    let chain = quiet_chain().await?;
    let gate = Gate::open(&chain.rpc_url()).await?;
    let desk = Desk::rich().await?;
    gate.rule(|request| {
        let is_tag = asks(request, "eth_getBlockByNumber", "finalized");
        if is_tag { Fate::Change(no_block) } else { Fate::Pass }
    });
    let spec = desk.completes(&gate, &["--finality-depth", "3"]).await?;
    assert_eq!(spec["finality"], "3 blocks deep");
    chain.shutdown().await;
    Ok(())
}

/// Some chains tell contracts numbers or hashes that are no header's: there the chain itself may convict no node.
#[tokio::test]
async fn where_contracts_see_other_hashes_than_the_headers_the_chain_convicts_nobody() -> anyhow::Result<()> {
    fn other_parent(words: &mut Value) {
        if let Value::String(words) = words {
            words.replace_range(words.len() - 2.., if words.ends_with("00") { "01" } else { "00" });
        }
    }
    for is_honest in [true, false] {
        let chain = quiet_chain().await?;
        let gate = Gate::open(&chain.rpc_url()).await?;
        let desk = Desk::rich().await?;
        // A block, so that there is a parent.
        fund(&chain.rpc_url(), desk.account()).await?;
        gate.rule(move |request| {
            let is_call = asks(request, "eth_call", "");
            if is_call && !is_honest { Fate::Change(other_parent) } else { Fate::Pass }
        });
        let spec = desk.completes(&gate, &[]).await?;
        let data = format!("0x{}", alloy::primitives::hex::encode(&keccak256("headerNumbers()")[..4]));
        let call = json!([{ "to": spec["node_staking"]["address"], "data": data }, "latest"]);
        let answer = gate.ask("eth_call", call).await?;
        assert_eq!(answer, json!(B256::with_last_byte(u8::from(is_honest))));
        chain.shutdown().await;
    }
    Ok(())
}

/// The addresses rest on the account's next transactions: another one in between loses them.
#[tokio::test]
async fn another_transaction_of_the_account_in_between_is_said() -> anyhow::Result<()> {
    let chain = quiet_chain().await?;
    let gate = Gate::open(&chain.rpc_url()).await?;
    let desk = Desk::with(&DEV_ACCOUNTS[1].key).await?;
    gate.rule(|request| if crate::gate::is_send(request) { Fate::Refuse } else { Fate::Pass });
    desk.refused(&gate.url(), &[], "chain_unreachable", &[]).await?;
    gate.rule(|_| Fate::Pass);
    fund(&chain.rpc_url(), DEV_ACCOUNTS[0].address).await?;
    let journal = desk.journal().to_string_lossy().into_owned();
    desk.refused(&gate.url(), &[], "nonce_taken", &[&journal, "another transaction"]).await?;
    chain.shutdown().await;
    Ok(())
}
