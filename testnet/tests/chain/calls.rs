//! `eth_call` and `eth_estimateGas`.

use crate::{KEEPER, ask, deploy, keep, mine, quiet, send, signer, start, transfer};
use alloy::network::TransactionBuilder;
use alloy::primitives::{Bytes, U256};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use serde_json::json;
use windlass_testnet::chain::DEV_ACCOUNTS;

#[tokio::test]
async fn a_call_reads_any_block_and_changes_nothing() {
    let (_chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    let first = send(&provider, keep(keeper, 1)).await.block_number.unwrap();
    send(&provider, keep(keeper, 2)).await;
    let read = TransactionRequest::default().with_to(keeper);
    let word = |word: u64| Bytes::from(U256::from(word).to_be_bytes::<32>());
    assert_eq!(provider.call(read.clone()).await.unwrap(), word(2));
    assert_eq!(provider.call(read.clone()).number(first).await.unwrap(), word(1));
    assert_eq!(provider.call(keep(keeper, 3)).await.unwrap(), Bytes::new());
    assert_eq!(provider.call(read).pending().await.unwrap(), word(2));
}

#[tokio::test]
async fn a_revert_comes_with_its_data() {
    let (_chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    for error in [
        provider.call(keep(keeper, 0)).await.unwrap_err(),
        provider.estimate_gas(keep(keeper, 0)).await.unwrap_err(),
    ] {
        let payload = error.as_error_resp().unwrap();
        assert_eq!(payload.code, 3);
        assert_eq!(payload.as_revert_data(), Some(Bytes::from_static(&[0xde, 0xad])));
        assert!(payload.message.starts_with("execution reverted"));
    }
    let receipt = send(&provider, keep(keeper, 0).with_gas_limit(100_000)).await;
    assert!(!receipt.status(), "mined all the same when the sender insists");
    assert!(receipt.inner.logs().is_empty());
}

#[tokio::test]
async fn an_estimate_suffices_and_is_close() {
    let (_chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    assert_eq!(provider.estimate_gas(transfer()).await.unwrap(), 21_000);
    let creation = TransactionRequest::default().with_deploy_code(KEEPER).with_from(signer(0).address());
    for request in [creation, keep(keeper, 9), keep(keeper, u64::MAX)] {
        let estimate = provider.estimate_gas(request.clone()).await.unwrap();
        let receipt = send(&provider, request.clone().with_gas_limit(estimate)).await;
        assert!(receipt.status());
        let used = receipt.gas_used;
        assert!(estimate >= used && estimate <= used + used / 10, "estimated {estimate}, used {used}");
    }
}

#[tokio::test]
async fn what_cannot_be_paid_or_done_is_said() {
    let (_chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    let from = DEV_ACCOUNTS[0].address;
    let call = |extra: serde_json::Value| {
        let mut call = json!({"from": from, "to": keeper});
        call.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!([call])
    };
    let rich = format!("{:#x}", U256::from(10).pow(U256::from(30)));
    let (code, message) = ask(&provider, "eth_call", call(json!({"value": rich}))).await.unwrap_err();
    assert_eq!(code, -32000);
    assert!(message.contains("insufficient funds"), "{message}");
    let (_, message) =
        ask(&provider, "eth_estimateGas", call(json!({"gas": "0x5300", "input": KEEPER}))).await.unwrap_err();
    assert!(message.contains("gas required exceeds allowance (21248)"), "{message}");
    let (_, message) = ask(&provider, "eth_call", call(json!({"gas": "0x100"}))).await.unwrap_err();
    assert!(message.contains("intrinsic gas too low"), "{message}");
    let both = json!({"gasPrice": "0x1", "maxFeePerGas": "0x1"});
    assert!(ask(&provider, "eth_call", call(both)).await.is_err());
    assert!(ask(&provider, "eth_call", json!([{"to": keeper}, "0x999"])).await.is_err());
}

#[tokio::test]
async fn the_fee_methods_agree_with_the_blocks() {
    let (_chain, provider) = start(quiet()).await;
    send(&provider, transfer()).await;
    mine(&provider, 2).await;
    let history = provider.get_fee_history(3, 3.into(), &[10.0, 90.0]).await.unwrap();
    assert_eq!(history.oldest_block, 1);
    for (offset, fee) in history.base_fee_per_gas.iter().enumerate().take(3) {
        let block = provider.get_block_by_number((1 + offset as u64).into()).await.unwrap().unwrap();
        assert_eq!(Some(*fee as u64), block.header.base_fee_per_gas);
    }
    let next = history.base_fee_per_gas[3];
    assert_eq!(
        provider.get_gas_price().await.unwrap(),
        next + provider.get_max_priority_fee_per_gas().await.unwrap()
    );
    assert_eq!(history.gas_used_ratio, [21_000.0 / 60_000_000.0, 0.0, 0.0]);
    let rewards = history.reward.unwrap();
    assert!(rewards[0].iter().all(|tip| *tip > 0));
    assert_eq!(rewards[1], [0, 0]);
    assert!(provider.get_fee_history(3, 3.into(), &[90.0, 10.0]).await.is_err());
    assert!(provider.get_fee_history(3, 3.into(), &[101.0]).await.is_err());
}
