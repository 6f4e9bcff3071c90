//! Filters: what they tell, to whom, and for how long.

use crate::sockets::Socket;
use crate::{ask, connect, deploy, keep, manual, mine, quiet, send, start, transfer};
use alloy::primitives::{Address, B256};
use alloy::providers::{DynProvider, Provider};
use serde_json::{Value, json};

async fn changes(provider: &DynProvider, filter: &Value) -> Vec<Value> {
    let changes = ask(provider, "eth_getFilterChanges", json!([filter])).await.unwrap();
    changes.as_array().unwrap().clone()
}

async fn install(provider: &DynProvider, method: &'static str, params: Value) -> Value {
    ask(provider, method, params).await.unwrap()
}

#[tokio::test]
async fn a_block_filter_tells_each_block_once() {
    let (chain, provider) = start(quiet()).await;
    mine(&provider, 1).await;
    let filter = install(&provider, "eth_newBlockFilter", json!([])).await;
    assert_eq!(changes(&provider, &filter).await, [] as [Value; 0]);
    mine(&provider, 2).await;
    let hash = async |number: u64| {
        let block = provider.get_block_by_number(number.into()).await.unwrap().unwrap();
        json!(block.header.hash)
    };
    // Over another HTTP connection, as clients with a pool of them do.
    let other = connect(&chain);
    assert_eq!(changes(&other, &filter).await, [hash(2).await, hash(3).await]);
    assert_eq!(changes(&provider, &filter).await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_log_filter_tells_logs_and_takes_them_back() {
    let (_chain, provider) = start(manual()).await;
    let (one, two) = (deploy(&provider).await, deploy(&provider).await);
    send(&provider, keep(one, 1)).await;
    let filter = install(&provider, "eth_newFilter", json!([{"address": [one], "fromBlock": "0x0"}])).await;
    send(&provider, keep(one, 2)).await;
    send(&provider, keep(two, 3)).await;
    let told = changes(&provider, &filter).await;
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0]["data"], &told[0]["removed"]), (&json!(B256::with_last_byte(2)), &json!(false)));
    let all = ask(&provider, "eth_getFilterLogs", json!([filter])).await.unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2, "also from before it was installed");
    ask(&provider, "dev_reorg", json!([2])).await.unwrap();
    let back = changes(&provider, &filter).await;
    assert_eq!(back.len(), 1);
    assert_eq!(back[0]["removed"], true);
    assert_eq!(back[0]["blockHash"], told[0]["blockHash"]);
    let all = ask(&provider, "eth_getFilterLogs", json!([filter])).await.unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_log_filter_keeps_to_its_blocks_and_topics() {
    let (_chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    let next = provider.get_block_number().await.unwrap() + 1;
    let topic = B256::with_last_byte(7);
    let of = async |query: Value| install(&provider, "eth_newFilter", json!([query])).await;
    let filters = [
        (of(json!({})).await, vec![1u8, 2, 3]),
        (of(json!({"topics": [topic]})).await, vec![1, 2, 3]),
        (of(json!({"topics": [[B256::ZERO, topic]]})).await, vec![1, 2, 3]),
        (of(json!({"topics": [null, topic]})).await, vec![]),
        (of(json!({"fromBlock": format!("{:#x}", next + 1)})).await, vec![2, 3]),
        (of(json!({"toBlock": format!("{:#x}", next)})).await, vec![1]),
        (of(json!({"address": Address::ZERO})).await, vec![]),
    ];
    for word in 1..=3 {
        send(&provider, keep(keeper, word)).await;
    }
    for (filter, words) in filters {
        let told: Vec<_> = changes(&provider, &filter).await.iter().map(|log| log["data"].clone()).collect();
        let expected: Vec<_> = words.iter().map(|word| json!(B256::with_last_byte(*word))).collect();
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn a_pending_transaction_filter_tells_what_is_taken_in() {
    let (_chain, provider) = start(quiet()).await;
    let filter = install(&provider, "eth_newPendingTransactionFilter", json!([])).await;
    let (one, two) = (send(&provider, transfer()).await, send(&provider, transfer()).await);
    let told = changes(&provider, &filter).await;
    assert_eq!(told, [json!(one.transaction_hash), json!(two.transaction_hash)]);
}

#[tokio::test]
async fn a_filter_that_is_gone_or_anothers_gets_the_usual_error() {
    let (chain, provider) = start(quiet()).await;
    let gone = install(&provider, "eth_newBlockFilter", json!([])).await;
    assert_eq!(ask(&provider, "eth_uninstallFilter", json!([gone])).await.unwrap(), true);
    assert_eq!(ask(&provider, "eth_uninstallFilter", json!([gone])).await.unwrap(), false);
    let (mut first, mut second) =
        (Socket::open(chain.address(), "/").await, Socket::open(chain.address(), "/").await);
    let own = first.call("eth_newBlockFilter", json!([])).await.unwrap();
    for filter in [&gone, &own, &json!("0x1"), &json!("")] {
        for method in ["eth_getFilterChanges", "eth_getFilterLogs"] {
            let (code, message) = ask(&provider, method, json!([filter])).await.unwrap_err();
            assert_eq!((code, message.as_str()), (-32000, "filter not found"));
            let (code, message) = second.call(method, json!([filter])).await.unwrap_err();
            assert_eq!((code, message.as_str()), (-32000, "filter not found"));
        }
        assert_eq!(second.call("eth_uninstallFilter", json!([filter])).await.unwrap(), false);
    }
    assert_eq!(first.call("eth_getFilterChanges", json!([own])).await.unwrap(), json!([]));
    let (code, _) = ask(&provider, "eth_getFilterChanges", json!([7])).await.unwrap_err();
    assert_eq!(code, -32602);
}

#[tokio::test]
async fn what_cannot_be_filtered_is_refused() {
    let (_chain, provider) = start(quiet()).await;
    for params in [json!([]), json!([7]), json!([{"blockHash": B256::ZERO}]), json!([{"fromBlock": "0x01"}])]
    {
        assert_eq!(ask(&provider, "eth_newFilter", params.clone()).await.unwrap_err().0, -32602, "{params}");
    }
    assert_eq!(ask(&provider, "eth_newBlockFilter", json!([1])).await.unwrap_err().0, -32602);
    let blocks = install(&provider, "eth_newBlockFilter", json!([])).await;
    assert!(ask(&provider, "eth_getFilterLogs", json!([blocks])).await.is_err(), "it has no logs");
    // They have a bound; the one above and what the refused calls left count, too.
    let mut code = 0;
    for _ in 0..=1_024 {
        if let Err((refused, _)) = ask(&provider, "eth_newBlockFilter", json!([])).await {
            code = refused;
            break;
        }
    }
    assert_eq!(code, -32005);
    assert_eq!(changes(&provider, &blocks).await.len(), 0, "and the next request is served");
}
