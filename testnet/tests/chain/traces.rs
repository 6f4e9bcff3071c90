//! What a transaction did and touched: call trees and access lists.

use crate::{ask, deploy, keep, mine, quiet, send, start, transfer};
use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, B256, Bytes, bytes};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::TransactionRequest;
use serde_json::{Value, json};

/// Creation code of a contract that passes its call data on to the address in its first word, by CALL with
/// the value it got, and returns or reverts as that did.
///
/// ```text
/// 00 PUSH1 20 CALLDATASIZE SUB DUP1 PUSH1 20 PUSH1 0 CALLDATACOPY   the rest of the data, to memory
/// 0a PUSH1 0 PUSH1 0 DUP3 PUSH1 0 CALLVALUE PUSH1 0 CALLDATALOAD GAS CALL
/// 17 RETURNDATASIZE PUSH1 0 PUSH1 0 RETURNDATACOPY PUSH1 24 JUMPI
/// 20 RETURNDATASIZE PUSH1 0 REVERT
/// 24 JUMPDEST RETURNDATASIZE PUSH1 0 RETURN
/// ```
const FORWARDER: Bytes = bytes!(
    "6029600c60003960296000f3"
    "60203603806020600037"
    "60006000826000346000355af1"
    "3d600060003e602457"
    "3d6000fd"
    "5b3d6000f3"
);

async fn trace(provider: &DynProvider, hash: B256, config: Value) -> Value {
    let options = json!({"tracer": "callTracer", "tracerConfig": config});
    ask(provider, "debug_traceTransaction", json!([hash, options])).await.unwrap()
}

async fn forwarder(provider: &DynProvider) -> Address {
    let receipt = send(provider, TransactionRequest::default().with_deploy_code(FORWARDER)).await;
    receipt.contract_address.unwrap()
}

/// A call of `forwarder` that hands `word` to `keeper`.
fn forward(forwarder: Address, keeper: Address, word: u8) -> TransactionRequest {
    let data = [keeper.into_word(), B256::with_last_byte(word)].concat();
    TransactionRequest::default().with_to(forwarder).with_input(data)
}

#[tokio::test]
async fn a_trace_tells_calls_within_calls() {
    let (_chain, provider) = start(quiet()).await;
    let (keeper, forwarder) = (deploy(&provider).await, forwarder(&provider).await);
    let receipt = send(&provider, forward(forwarder, keeper, 5)).await;
    let tree = trace(&provider, receipt.transaction_hash, json!({"withLog": true})).await;
    assert_eq!(
        (&tree["type"], &tree["from"], &tree["to"]),
        (&json!("CALL"), &json!(receipt.from), &json!(forwarder))
    );
    assert_eq!(tree["gasUsed"], format!("{:#x}", receipt.gas_used));
    let inner = &tree["calls"][0];
    assert_eq!((&inner["from"], &inner["to"]), (&json!(forwarder), &json!(keeper)));
    assert_eq!(inner["input"], json!(B256::with_last_byte(5)));
    assert_eq!(inner["logs"][0]["topics"], json!([B256::with_last_byte(7)]));
    assert_eq!(inner["logs"][0]["data"], json!(B256::with_last_byte(5)));
    assert!(inner.get("error").is_none() && tree["calls"].as_array().unwrap().len() == 1);
    let top = trace(&provider, receipt.transaction_hash, json!({"onlyTopCall": true})).await;
    assert!(top.get("calls").is_none() && top.get("logs").is_none());
    assert_eq!(top["gasUsed"], tree["gasUsed"]);
}

#[tokio::test]
async fn a_trace_tells_what_failed() {
    let (_chain, provider) = start(quiet()).await;
    let (keeper, forwarder) = (deploy(&provider).await, forwarder(&provider).await);
    let failed = send(&provider, forward(forwarder, keeper, 0).with_gas_limit(100_000)).await;
    assert!(!failed.status());
    let tree = trace(&provider, failed.transaction_hash, json!({})).await;
    for frame in [&tree, &tree["calls"][0]] {
        assert_eq!((&frame["error"], &frame["output"]), (&json!("execution reverted"), &json!("0xdead")));
    }
    let starved = send(&provider, keep(keeper, 5).with_gas_limit(22_000)).await;
    let tree = trace(&provider, starved.transaction_hash, json!({})).await;
    assert_eq!((&tree["error"], &tree["gasUsed"]), (&json!("out of gas"), &json!("0x55f0")));
}

#[tokio::test]
async fn a_trace_starts_from_what_came_before_it_in_the_block() {
    let (_chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    send(&provider, keep(keeper, 1)).await;
    ask(&provider, "evm_setAutomine", json!([false])).await.unwrap();
    let pending = [provider.send_transaction(keep(keeper, 9)).await.unwrap(), {
        let read = TransactionRequest::default().with_to(keeper).with_gas_limit(50_000);
        provider.send_transaction(read).await.unwrap()
    }];
    mine(&provider, 1).await;
    mine(&provider, 1).await;
    let tree = trace(&provider, *pending[1].tx_hash(), json!({})).await;
    assert_eq!(tree["output"], json!(B256::with_last_byte(9)));
    let created = provider.get_block_by_number(1.into()).await.unwrap().unwrap();
    let creation = trace(&provider, created.transactions.hashes().next().unwrap(), json!({})).await;
    assert_eq!((&creation["type"], &creation["to"]), (&json!("CREATE"), &json!(keeper)));
    assert_eq!(creation["output"], json!(provider.get_code_at(keeper).await.unwrap()));
}

#[tokio::test]
async fn what_cannot_be_traced_is_refused() {
    let (_chain, provider) = start(quiet()).await;
    let hash = send(&provider, transfer()).await.transaction_hash;
    let calls = json!({"tracer": "callTracer"});
    for (params, code, words) in [
        (json!([hash]), -32602, "callTracer"),
        (json!([hash, {}]), -32602, "callTracer"),
        (json!([hash, {"tracer": "prestateTracer"}]), -32602, "prestateTracer"),
        (json!([hash, {"tracer": 7}]), -32602, "string"),
        (json!([B256::ZERO, calls]), -32000, "transaction not found"),
        (json!([]), -32602, "missing"),
    ] {
        let (said, message) = ask(&provider, "debug_traceTransaction", params).await.unwrap_err();
        assert_eq!(said, code, "{message}");
        assert!(message.contains(words), "{message}");
    }
    let tree = trace(&provider, hash, json!({})).await;
    assert_eq!((&tree["type"], &tree["gasUsed"]), (&json!("CALL"), &json!("0x5208")));
}

#[tokio::test]
async fn an_access_list_names_what_a_call_touches() {
    let (_chain, provider) = start(quiet()).await;
    let (keeper, forwarder) = (deploy(&provider).await, forwarder(&provider).await);
    let listed = async |request: &TransactionRequest| {
        ask(&provider, "eth_createAccessList", json!([request])).await.unwrap()
    };
    let request = forward(forwarder, keeper, 5).with_from(crate::signer(0).address());
    let list = listed(&request).await;
    assert_eq!(list["accessList"], json!([{"address": keeper, "storageKeys": [B256::ZERO]}]));
    let used = u64::from_str_radix(&list["gasUsed"].as_str().unwrap()[2..], 16).unwrap();
    let access = serde_json::from_value(list["accessList"].clone()).unwrap();
    let receipt = send(&provider, request.access_list(access)).await;
    assert_eq!(receipt.gas_used, used, "with the list, it uses as much as was said");
    assert_eq!(listed(&transfer()).await["accessList"], json!([]));
    let failing = listed(&forward(forwarder, keeper, 0)).await;
    assert!(failing["error"].as_str().unwrap().starts_with("execution reverted"));
}
