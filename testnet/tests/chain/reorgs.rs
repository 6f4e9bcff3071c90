//! Taking blocks off again.

use crate::{ask, connect, deploy, keep, manual, mine, quiet, send, start, transfer};
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::U256;
use alloy::providers::Provider;
use alloy::rpc::types::Filter;
use serde_json::json;
use windlass_testnet::chain::{ChainConfig, Finality};

#[tokio::test]
async fn a_reorg_replaces_blocks_and_undoes_what_they_did() {
    let (_chain, provider) = start(manual()).await;
    let keeper = deploy(&provider).await;
    send(&provider, keep(keeper, 1)).await;
    let lost = send(&provider, keep(keeper, 2)).await;
    mine(&provider, 1).await;
    let head = provider.get_block_by_number(BlockNumberOrTag::Latest).await.unwrap().unwrap();
    let fork = ask(&provider, "dev_reorg", json!([2])).await.unwrap();
    assert_eq!(fork["number"], "0x2");
    let new_head = provider.get_block_by_number(BlockNumberOrTag::Latest).await.unwrap().unwrap();
    assert_eq!(new_head.header.number, head.header.number);
    assert_ne!(new_head.header.hash, head.header.hash);
    let first_new = provider.get_block_by_number(3.into()).await.unwrap().unwrap();
    assert_eq!(json!(first_new.header.parent_hash), fork["hash"]);
    assert_eq!(new_head.header.parent_hash, first_new.header.hash);
    assert_eq!(provider.get_storage_at(keeper, U256::ZERO).await.unwrap(), U256::from(1));
    assert_eq!(provider.get_transaction_receipt(lost.transaction_hash).await.unwrap(), None);
    assert_eq!(provider.get_transaction_by_hash(lost.transaction_hash).await.unwrap(), None);
    let logs = provider.get_logs(&Filter::new().from_block(0)).await.unwrap();
    assert_eq!(logs.len(), 1);
}

#[tokio::test]
async fn blocks_taken_off_are_still_known_by_their_hash() {
    let (_chain, provider) = start(manual()).await;
    let keeper = deploy(&provider).await;
    let lost = send(&provider, keep(keeper, 2)).await.block_hash.unwrap();
    ask(&provider, "dev_reorg", json!(["0x1"])).await.unwrap();
    assert_eq!(provider.get_block_by_hash(lost).await.unwrap().unwrap().header.number, 2);
    assert_eq!(provider.get_logs(&Filter::new().at_block_hash(lost)).await.unwrap().len(), 1);
    for canonical in [true, false] {
        let block = json!({"blockHash": lost, "requireCanonical": canonical});
        let (code, message) = ask(&provider, "eth_getBalance", json!([keeper, block])).await.unwrap_err();
        assert_eq!(code, -32000);
        assert!(message.contains("not currently canonical"), "{message}");
    }
    let head = provider.get_block_by_number(2.into()).await.unwrap().unwrap().header.hash;
    assert!(provider.get_balance(keeper).block_id(BlockId::hash_canonical(head)).await.is_ok());
}

#[tokio::test]
async fn a_reorg_may_keep_the_transactions() {
    let (_chain, provider) = start(manual()).await;
    let (one, two) = (send(&provider, transfer()).await, send(&provider, transfer()).await);
    mine(&provider, 1).await;
    ask(&provider, "dev_reorg", json!([3, {"transactions": "keep"}])).await.unwrap();
    for former in [one, two] {
        let receipt = provider.get_transaction_receipt(former.transaction_hash).await.unwrap().unwrap();
        assert_eq!(receipt.block_number, Some(1));
        assert_ne!(receipt.block_hash, former.block_hash);
    }
    assert_eq!(provider.get_block_number().await.unwrap(), 3);
}

#[tokio::test]
async fn a_reorg_stops_at_what_is_final() {
    let (_chain, provider) = start(quiet()).await;
    mine(&provider, 3).await;
    let (code, message) = ask(&provider, "dev_reorg", json!([1])).await.unwrap_err();
    assert_eq!(code, -32000);
    assert!(message.contains("--finality manual"), "{message}");
    assert!(ask(&provider, "dev_finalize", json!([])).await.is_err());

    let (_chain, provider) = start(manual()).await;
    mine(&provider, 3).await;
    ask(&provider, "dev_finalize", json!(["0x2"])).await.unwrap();
    assert!(ask(&provider, "dev_reorg", json!([2])).await.unwrap_err().1.contains("final"));
    assert!(ask(&provider, "dev_reorg", json!([4])).await.is_err());
    assert!(ask(&provider, "dev_reorg", json!([1])).await.is_ok());

    let (_chain, provider) = start(ChainConfig { finality: Finality::Depth(2), ..quiet() }).await;
    mine(&provider, 5).await;
    let finalized = provider.get_block_by_number(BlockNumberOrTag::Finalized).await.unwrap().unwrap();
    assert_eq!(finalized.header.number, 3);
    assert!(ask(&provider, "dev_reorg", json!([3])).await.is_err());
    assert!(ask(&provider, "dev_reorg", json!([2])).await.is_ok());
}

#[tokio::test]
async fn long_reorg_sequences_end_where_a_straight_history_would() {
    let (chain, provider) = start(manual()).await;
    let keeper = deploy(&provider).await;
    for round in 1..=20 {
        // A provider of its own: alloy's remembers nonces, and a reorg takes them back.
        let provider = connect(&chain);
        send(&provider, keep(keeper, round)).await;
        mine(&provider, round % 3).await;
        ask(&provider, "dev_reorg", json!([round % 3 + round % 2])).await.unwrap();
        let expected = if round % 2 == 0 { round } else { (round / 2) * 2 };
        assert_eq!(provider.get_storage_at(keeper, U256::ZERO).await.unwrap(), U256::from(expected));
    }
}
