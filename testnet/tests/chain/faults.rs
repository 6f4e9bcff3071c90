//! Faults by design: who connects through a path with faults gets them, and nobody else.

use crate::sockets::Socket;
use crate::{ask, deploy, keep, manual, mine, quiet, send, start};
use alloy::primitives::{B256, U256, keccak256};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::Filter;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use windlass_protocol::trie::{Account, verify_proof};
use windlass_testnet::chain::Chain;

/// A provider that connects through the path of `name`, which gets `faults`.
async fn faulty(chain: &Chain, provider: &DynProvider, name: &str, faults: Value) -> DynProvider {
    let answer = ask(provider, "dev_faults", json!([name, faults])).await.unwrap();
    let url = format!("{}{}", chain.rpc_url(), answer["path"].as_str().unwrap());
    ProviderBuilder::new().connect_http(url.parse().unwrap()).erased()
}

fn word(number: u64) -> Value {
    json!(B256::from(U256::from(number).to_be_bytes()))
}

#[tokio::test]
async fn a_lagging_provider_is_behind_in_all_it_says() {
    let (chain, provider) = start(manual()).await;
    let keeper = deploy(&provider).await;
    let late = faulty(&chain, &provider, "late", json!({"lag": 2})).await;
    for value in 1..=3 {
        send(&provider, keep(keeper, value)).await;
    }
    let newest = provider.get_block_by_number(4.into()).await.unwrap().unwrap();
    assert_eq!(late.get_block_number().await.unwrap(), 2);
    for tag in ["latest", "pending"] {
        let block = ask(&late, "eth_getBlockByNumber", json!([tag, false])).await.unwrap();
        assert_eq!(block["number"], "0x2");
    }
    assert_eq!(late.get_block_by_number(3.into()).await.unwrap(), None);
    assert_eq!(late.get_block_by_hash(newest.header.hash).await.unwrap(), None);
    let hidden = newest.transactions.hashes().next().unwrap();
    assert_eq!(late.get_transaction_receipt(hidden).await.unwrap(), None);
    assert_eq!(late.get_transaction_by_hash(hidden).await.unwrap(), None);
    assert_eq!(late.get_storage_at(keeper, U256::ZERO).await.unwrap(), U256::from(1));
    assert_eq!(late.get_logs(&Filter::new().from_block(0)).await.unwrap().len(), 1);
    assert_eq!(provider.get_block_number().await.unwrap(), 4, "nobody else notices");
    // Faults come and go at run time.
    ask(&provider, "dev_faults", json!(["late", {"lag": 1}])).await.unwrap();
    assert_eq!(late.get_block_number().await.unwrap(), 3);
    ask(&provider, "dev_faults", json!(["late", null])).await.unwrap();
    assert_eq!(late.get_block_number().await.unwrap(), 4);
}

#[tokio::test]
async fn subscriptions_and_filters_lag_in_step() {
    let (chain, provider) = start(manual()).await;
    let late = faulty(&chain, &provider, "late", json!({"lag": 2})).await;
    let mut socket = Socket::open(chain.address(), "/faults/late").await;
    let heads = socket.subscribe(json!(["newHeads"])).await;
    let filter = ask(&late, "eth_newBlockFilter", json!([])).await.unwrap();
    mine(&provider, 5).await;
    for number in 1..=3u64 {
        assert_eq!(socket.notified(&heads).await["number"], format!("{number:#x}"));
    }
    socket.nothing_more().await;
    let changes = ask(&late, "eth_getFilterChanges", json!([filter])).await.unwrap();
    assert_eq!(changes.as_array().unwrap().len(), 3);
    // A reorg of what it hasn't seen: all that happened up to the block it sees is told, in its order.
    ask(&provider, "dev_reorg", json!([2])).await.unwrap();
    mine(&provider, 2).await;
    let changes = ask(&late, "eth_getFilterChanges", json!([filter])).await.unwrap();
    let expected = provider.get_block_by_number(5.into()).await.unwrap().unwrap().header.hash;
    assert_eq!(changes.as_array().unwrap().last().unwrap(), &json!(expected));
    // Without faults the rest comes at once.
    ask(&provider, "dev_faults", json!(["late", null])).await.unwrap();
    let rest = ask(&late, "eth_getFilterChanges", json!([filter])).await.unwrap();
    assert_eq!(rest.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn delayed_heads_come_later_and_in_their_order() {
    let (chain, provider) = start(quiet()).await;
    ask(&provider, "dev_faults", json!(["slow", {"headDelay": 300}])).await.unwrap();
    let mut socket = Socket::open(chain.address(), "/faults/slow").await;
    let heads = socket.subscribe(json!(["newHeads"])).await;
    let made = Instant::now();
    mine(&provider, 2).await;
    for number in ["0x1", "0x2"] {
        assert_eq!(socket.notified(&heads).await["number"], number);
        assert!(made.elapsed() >= Duration::from_millis(300));
    }
    assert_eq!(socket.call("eth_blockNumber", json!([])).await.unwrap(), "0x2");
    ask(&provider, "dev_faults", json!(["slow", {"headDelay": 60_000}])).await.unwrap();
    mine(&provider, 1).await;
    let number = socket.call("eth_blockNumber", json!([])).await.unwrap();
    assert!(number != "0x3", "{number} isn't known yet");
}

#[tokio::test]
async fn logs_are_dropped_and_come_twice() {
    let (chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    let forgetful = faulty(&chain, &provider, "forgetful", json!({"dropLogs": 2})).await;
    let stuttering = faulty(&chain, &provider, "stuttering", json!({"duplicateLogs": 2})).await;
    let mut socket = Socket::open(chain.address(), "/faults/forgetful").await;
    let logs = socket.subscribe(json!(["logs"])).await;
    let filter = ask(&stuttering, "eth_newFilter", json!([{}])).await.unwrap();
    for value in 1..=4 {
        send(&provider, keep(keeper, value)).await;
    }
    for value in [1, 3] {
        assert_eq!(socket.notified(&logs).await["data"], word(value));
    }
    socket.nothing_more().await;
    let told = ask(&stuttering, "eth_getFilterChanges", json!([filter])).await.unwrap();
    let told: Vec<_> = told.as_array().unwrap().iter().map(|log| log["data"].clone()).collect();
    assert_eq!(told, [word(1), word(2), word(2), word(3), word(4), word(4)]);
    let found =
        async |provider: &DynProvider| provider.get_logs(&Filter::new().from_block(0)).await.unwrap().len();
    assert_eq!((found(&forgetful).await, found(&stuttering).await, found(&provider).await), (2, 6, 4));
    ask(&provider, "dev_faults", json!(["forgetful", {"dropLogs": 1}])).await.unwrap();
    assert_eq!(found(&forgetful).await, 0);
}

#[tokio::test]
async fn lies_about_the_state_do_not_survive_their_proof() {
    let (chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    send(&provider, keep(keeper, 1)).await;
    send(&provider, keep(keeper, 2)).await;
    let block = provider.get_block_by_number(3.into()).await.unwrap().unwrap().header;
    let id = keccak256(keeper);
    let honest = provider.get_proof(keeper, vec![B256::ZERO]).number(3).await.unwrap();
    assert!(verify_proof(block.state_root, &id, &honest.account_proof).unwrap().is_some());

    let stale = faulty(&chain, &provider, "stale", json!({"staleProofs": 1})).await;
    let proof = stale.get_proof(keeper, vec![B256::ZERO]).number(3).await.unwrap();
    assert_eq!(proof.storage_proof[0].value, U256::from(1));
    assert!(verify_proof(block.state_root, &id, &proof.account_proof).is_err());
    let before = provider.get_block_by_number(2.into()).await.unwrap().unwrap().header;
    assert!(verify_proof(before.state_root, &id, &proof.account_proof).unwrap().is_some());

    let cut = faulty(&chain, &provider, "cut", json!({"truncatedProofs": true})).await;
    let proof = cut.get_proof(keeper, vec![B256::ZERO]).number(3).await.unwrap();
    assert_eq!(proof.account_proof.len() + 1, honest.account_proof.len());
    assert!(verify_proof(block.state_root, &id, &proof.account_proof).is_err());

    let wrong = faulty(&chain, &provider, "wrong", json!({"wrongValues": true})).await;
    assert_eq!(wrong.get_storage_at(keeper, U256::ZERO).await.unwrap(), U256::from(3));
    let proof = wrong.get_proof(keeper, vec![B256::ZERO]).number(3).await.unwrap();
    let leaf = verify_proof(block.state_root, &id, &proof.account_proof).unwrap().unwrap();
    let root = Account::decode(&leaf).unwrap().storage_root;
    let leaf = verify_proof(root, &keccak256(B256::ZERO), &proof.storage_proof[0].proof).unwrap().unwrap();
    assert_eq!((leaf, proof.storage_proof[0].value), (vec![2], U256::from(3)));
}

#[tokio::test]
async fn a_pruned_provider_lacks_old_state_and_logs() {
    let (chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    mine(&provider, 4).await;
    let pruned = faulty(&chain, &provider, "pruned", json!({"keep": 2})).await;
    for method in ["eth_getBalance", "eth_getCode", "eth_getTransactionCount"] {
        assert!(ask(&pruned, method, json!([keeper, "0x4"])).await.is_ok());
        let (code, message) = ask(&pruned, method, json!([keeper, "0x3"])).await.unwrap_err();
        assert_eq!(code, -32000);
        assert!(message.contains("not available"), "{message}");
    }
    assert!(ask(&pruned, "eth_getProof", json!([keeper, [], "0x3"])).await.is_err());
    assert!(ask(&pruned, "eth_call", json!([{"to": keeper}, "0x3"])).await.is_err());
    let (code, _) = ask(&pruned, "eth_getLogs", json!([{"fromBlock": "0x3"}])).await.unwrap_err();
    assert_eq!(code, 4444);
    assert!(ask(&pruned, "eth_getLogs", json!([{"fromBlock": "0x4"}])).await.is_ok());
    assert!(ask(&provider, "eth_getLogs", json!([{"fromBlock": "0x3"}])).await.is_ok());
}

#[tokio::test]
async fn a_provider_dies_and_comes_back() {
    let (chain, provider) = start(quiet()).await;
    let mortal = faulty(&chain, &provider, "mortal", json!({"answers": 2})).await;
    assert!(mortal.get_chain_id().await.is_ok());
    let mut socket = Socket::open(chain.address(), "/faults/mortal").await;
    assert!(socket.call("eth_chainId", json!([])).await.is_ok());
    assert!(mortal.get_chain_id().await.is_err_and(|error| error.as_error_resp().is_none()));
    assert!(socket.is_hung_up_on().await);
    assert!(provider.get_chain_id().await.is_ok());
    ask(&provider, "dev_faults", json!(["mortal", null])).await.unwrap();
    assert!(mortal.get_chain_id().await.is_ok());
}

#[tokio::test]
async fn a_slow_provider_keeps_nobody_else_waiting() {
    let (chain, provider) = start(quiet()).await;
    let slow = faulty(&chain, &provider, "slow", json!({"answerDelay": 100})).await;
    let begun = Instant::now();
    slow.get_chain_id().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(100));
    ask(&provider, "dev_faults", json!(["slow", {"answerDelay": 60_000}])).await.unwrap();
    let quick = tokio::time::timeout(Duration::from_secs(30), provider.get_chain_id());
    tokio::select! {
        biased;
        _ = slow.get_chain_id() => panic!("it answers after a minute"),
        quick = quick => assert!(quick.unwrap().is_ok()),
    }
}

#[tokio::test]
async fn faults_are_listed_and_what_is_none_is_refused() {
    let (chain, provider) = start(quiet()).await;
    ask(&provider, "dev_faults", json!(["a", {"lag": 3}])).await.unwrap();
    let all = ask(&provider, "dev_faults", json!([])).await.unwrap();
    assert_eq!(all["a"]["lag"], 3);
    assert_eq!(all.as_object().unwrap().len(), 1);
    for params in [
        json!(["a b", {}]),
        json!(["", {}]),
        json!([7]),
        json!(["a", {"lags": 3}]),
        json!(["a", {"lag": "0x1"}]),
        json!(["a", {"headDelay": 60_001}]),
        json!(["a", []]),
        json!(["a", {}, {}]),
    ] {
        assert_eq!(ask(&provider, "dev_faults", params.clone()).await.unwrap_err().0, -32602, "{params}");
    }
    // A path nobody gave faults to is a faithful provider, whose faults may come later.
    let url = format!("{}/faults/none", chain.rpc_url());
    let faithful = ProviderBuilder::new().connect_http(url.parse().unwrap());
    assert_eq!(faithful.get_chain_id().await.unwrap(), 31_337);
    for path in ["/other", "/faults/", "/faults/a/b", "/faults/a.b"] {
        let url = format!("{}{path}", chain.rpc_url());
        let nowhere = ProviderBuilder::new().connect_http(url.parse().unwrap());
        assert!(nowhere.get_chain_id().await.is_err(), "{path}");
    }
}
