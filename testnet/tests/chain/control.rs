//! Deciding when blocks are made, what time it is, and which height to come back to.

use crate::{ask, connect, deploy, keep, manual, mine, quiet, send, start};
use alloy::eips::BlockNumberOrTag;
use alloy::primitives::U256;
use alloy::providers::{DynProvider, Provider};
use serde_json::json;
use std::time::Duration;
use windlass_testnet::chain::{ChainConfig, DEV_ACCOUNTS};

async fn latest(provider: &DynProvider) -> alloy::rpc::types::Header {
    provider.get_block_by_number(BlockNumberOrTag::Latest).await.unwrap().unwrap().header
}

/// Sends a transfer through the chain's own signing, and gives its hash.
async fn send_transfer(provider: &DynProvider) -> serde_json::Value {
    let request = json!({"from": DEV_ACCOUNTS[3].address, "to": DEV_ACCOUNTS[4].address, "value": "0x1"});
    ask(provider, "eth_sendTransaction", json!([request])).await.unwrap()
}

#[tokio::test]
async fn without_automatic_mining_transactions_wait_for_a_block() {
    let heartbeat = Some(Duration::from_millis(1));
    let (_chain, provider) = start(ChainConfig { heartbeat, ..quiet() }).await;
    ask(&provider, "evm_setAutomine", json!([false])).await.unwrap();
    let before = latest(&provider).await.number;
    for _ in 0..2 {
        send_transfer(&provider).await;
    }
    assert_eq!(latest(&provider).await.number, before, "not even the heartbeat makes one");
    mine(&provider, 1).await;
    let block = provider.get_block_by_number(BlockNumberOrTag::Latest).await.unwrap().unwrap();
    assert_eq!((block.header.number, block.transactions.len()), (before + 1, 2));
    send_transfer(&provider).await;
    ask(&provider, "evm_setAutomine", json!([true])).await.unwrap();
    let nonce = provider.get_transaction_count(DEV_ACCOUNTS[3].address).await.unwrap();
    assert_eq!(nonce, 3, "what waited is mined when it is turned on again");
}

#[tokio::test]
async fn blocks_come_at_an_interval_until_it_is_ended() {
    let (_chain, provider) = start(quiet()).await;
    ask(&provider, "evm_setIntervalMining", json!([1])).await.unwrap();
    send_transfer(&provider).await;
    let sender = DEV_ACCOUNTS[3].address;
    let mined = async { while provider.get_transaction_count(sender).await.unwrap() == 0 {} };
    tokio::time::timeout(Duration::from_secs(30), mined).await.unwrap();
    ask(&provider, "evm_setIntervalMining", json!([0])).await.unwrap();
    let before = latest(&provider).await.number;
    send_transfer(&provider).await;
    assert_eq!(latest(&provider).await.number, before);
    for wrong in [json!([]), json!(["0x01"]), json!([86_401]), json!([-1]), json!([1.5])] {
        assert_eq!(ask(&provider, "evm_setIntervalMining", wrong).await.unwrap_err().0, -32602);
    }
}

#[tokio::test]
async fn the_next_timestamp_can_be_decided_and_time_goes_on_from_there() {
    let (_chain, provider) = start(quiet()).await;
    let start = latest(&provider).await.timestamp;
    ask(&provider, "evm_setNextBlockTimestamp", json!([start + 1_000])).await.unwrap();
    let pending = provider.get_block_by_number(BlockNumberOrTag::Pending).await.unwrap().unwrap();
    assert_eq!(pending.header.timestamp, start + 1_000);
    mine(&provider, 1).await;
    assert_eq!(latest(&provider).await.timestamp, start + 1_000);
    mine(&provider, 1).await;
    let next = latest(&provider).await.timestamp;
    assert!((start + 1_001..start + 1_060).contains(&next), "{next}");
    // As a quantity, and in evm_mine itself.
    ask(&provider, "evm_setNextBlockTimestamp", json!([format!("{:#x}", start + 5_000)])).await.unwrap();
    mine(&provider, 1).await;
    assert_eq!(latest(&provider).await.timestamp, start + 5_000);
    ask(&provider, "evm_mine", json!([start + 6_000])).await.unwrap();
    assert_eq!(latest(&provider).await.timestamp, start + 6_000);
    ask(&provider, "evm_mine", json!([{"timestamp": start + 7_000, "blocks": 2}])).await.unwrap();
    assert!(latest(&provider).await.timestamp > start + 7_000);
    for past in [start, start + 6_000] {
        let (code, message) = ask(&provider, "evm_setNextBlockTimestamp", json!([past])).await.unwrap_err();
        assert_eq!(code, -32000);
        assert!(message.contains("not after"), "{message}");
    }
    assert!(ask(&provider, "evm_setNextBlockTimestamp", json!(["0xffffffffffffffff"])).await.is_err());
}

#[tokio::test]
async fn time_can_be_put_forward() {
    let (_chain, provider) = start(quiet()).await;
    let start = latest(&provider).await.timestamp;
    assert_eq!(ask(&provider, "evm_increaseTime", json!([3_600])).await.unwrap(), 3_600);
    assert_eq!(ask(&provider, "evm_increaseTime", json!(["0xe10"])).await.unwrap(), 7_200);
    mine(&provider, 1).await;
    let now = latest(&provider).await.timestamp;
    assert!((start + 7_200..start + 7_260).contains(&now), "{now}");
    assert!(ask(&provider, "evm_increaseTime", json!([u64::MAX])).await.is_err());
    mine(&provider, 1).await;
}

#[tokio::test]
async fn anvil_mine_makes_blocks_apart() {
    let (_chain, provider) = start(quiet()).await;
    ask(&provider, "anvil_mine", json!([3, 100])).await.unwrap();
    let stamp = async |number: u64| {
        provider.get_block_by_number(number.into()).await.unwrap().unwrap().header.timestamp
    };
    assert_eq!(stamp(2).await, stamp(1).await + 100);
    assert_eq!(stamp(3).await, stamp(2).await + 100);
    ask(&provider, "anvil_mine", json!(["0x2"])).await.unwrap();
    ask(&provider, "anvil_mine", json!([])).await.unwrap();
    assert_eq!(latest(&provider).await.number, 6);
    assert_eq!(ask(&provider, "anvil_mine", json!([10_001])).await.unwrap_err().0, -32602);
}

#[tokio::test]
async fn a_snapshot_brings_back_height_state_and_time_once() {
    let (chain, provider) = start(manual()).await;
    let keeper = deploy(&provider).await;
    send(&provider, keep(keeper, 1)).await;
    let before = latest(&provider).await;
    let snapshot = ask(&provider, "evm_snapshot", json!([])).await.unwrap();
    let lost = send(&provider, keep(keeper, 2)).await;
    ask(&provider, "evm_increaseTime", json!([100_000])).await.unwrap();
    let later = ask(&provider, "evm_snapshot", json!([])).await.unwrap();
    mine(&provider, 2).await;
    assert_eq!(ask(&provider, "evm_revert", json!([snapshot])).await.unwrap(), true);
    assert_eq!(latest(&provider).await, before);
    assert_eq!(provider.get_storage_at(keeper, U256::ZERO).await.unwrap(), U256::from(1));
    assert_eq!(provider.get_transaction_receipt(lost.transaction_hash).await.unwrap(), None);
    mine(&provider, 1).await;
    assert!(latest(&provider).await.timestamp < before.timestamp + 1_000, "time went back, too");
    for used in [&snapshot, &later, &json!("0x7")] {
        assert_eq!(ask(&provider, "evm_revert", json!([used])).await.unwrap(), false);
    }
    // A provider of its own: alloy's remembers nonces, and going back takes them back.
    send(&connect(&chain), keep(keeper, 3)).await;
    assert_eq!(provider.get_storage_at(keeper, U256::ZERO).await.unwrap(), U256::from(3));
}

#[tokio::test]
async fn a_snapshot_stops_at_what_is_final() {
    let (_chain, provider) = start(quiet()).await;
    let snapshot = ask(&provider, "evm_snapshot", json!([])).await.unwrap();
    mine(&provider, 1).await;
    let (code, message) = ask(&provider, "evm_revert", json!([snapshot])).await.unwrap_err();
    assert_eq!(code, -32000);
    assert!(message.contains("--finality manual"), "{message}");
    assert_eq!(latest(&provider).await.number, 1);
    let here = ask(&provider, "evm_snapshot", json!([])).await.unwrap();
    assert_eq!(ask(&provider, "evm_revert", json!([here])).await.unwrap(), true, "nothing to take off");

    let (_chain, provider) = start(manual()).await;
    mine(&provider, 1).await;
    let low = ask(&provider, "evm_snapshot", json!([])).await.unwrap();
    mine(&provider, 2).await;
    let high = ask(&provider, "evm_snapshot", json!([])).await.unwrap();
    mine(&provider, 2).await;
    ask(&provider, "dev_finalize", json!(["0x3"])).await.unwrap();
    assert_eq!(ask(&provider, "evm_revert", json!([high])).await.unwrap(), true);
    assert_eq!(latest(&provider).await.number, 3);
    assert!(ask(&provider, "evm_revert", json!([low])).await.unwrap_err().1.contains("final"));
}

#[tokio::test]
async fn a_snapshot_of_a_block_that_a_reorg_took_off_is_gone() {
    let (_chain, provider) = start(manual()).await;
    mine(&provider, 2).await;
    let snapshot = ask(&provider, "evm_snapshot", json!([])).await.unwrap();
    ask(&provider, "dev_reorg", json!([1])).await.unwrap();
    assert_eq!(ask(&provider, "evm_revert", json!([snapshot])).await.unwrap(), false);
}

#[tokio::test]
async fn what_waits_survives_a_revert() {
    let (_chain, provider) = start(manual()).await;
    ask(&provider, "evm_setAutomine", json!([false])).await.unwrap();
    let snapshot = ask(&provider, "evm_snapshot", json!([])).await.unwrap();
    mine(&provider, 1).await;
    let waiting = send_transfer(&provider).await;
    ask(&provider, "evm_revert", json!([snapshot])).await.unwrap();
    mine(&provider, 1).await;
    let receipt = ask(&provider, "eth_getTransactionReceipt", json!([waiting])).await.unwrap();
    assert_eq!(receipt["blockNumber"], "0x1");
}
