//! Proofs: what `eth_getProof` answers holds against the header, for every block of the window.

use crate::{ask, deploy, keep, mine, quiet, send, start};
use alloy::consensus::Header;
use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::providers::{DynProvider, Provider};
use alloy_rlp::Decodable;
use serde_json::json;
use windlass_protocol::trie::{Account, decode_slot_value, verify_proof};
use windlass_testnet::chain::DEV_ACCOUNTS;

/// The account at `address` and its `slot` after block `number`, believed only by their proofs and the
/// header's own bytes.
pub(crate) async fn proven(
    provider: &DynProvider,
    address: Address,
    slot: u64,
    number: u64,
) -> (Option<Account>, U256) {
    let block = BlockNumberOrTag::Number(number);
    let raw: Bytes = provider.raw_request("debug_getRawHeader".into(), [block]).await.unwrap();
    let announced = provider.get_block_by_number(block).await.unwrap().unwrap();
    assert_eq!(keccak256(&raw), announced.header.hash);
    let header = Header::decode(&mut &raw[..]).unwrap();
    let slot = B256::from(U256::from(slot).to_be_bytes());
    let answer = provider.get_proof(address, vec![slot]).number(number).await.unwrap();
    let leaf = verify_proof(header.state_root, &keccak256(address), &answer.account_proof).unwrap();
    let account = leaf.map(|leaf| Account::decode(&leaf).unwrap());
    let storage_root = account.unwrap_or_default().storage_root;
    assert_eq!(answer.storage_hash, storage_root);
    let proof = &answer.storage_proof[0];
    let leaf = verify_proof(storage_root, &keccak256(slot), &proof.proof).unwrap();
    let value = leaf.map_or(B256::ZERO, |leaf| decode_slot_value(&leaf).unwrap());
    assert_eq!(proof.value, U256::from_be_bytes(value.0));
    (account, proof.value)
}

#[tokio::test]
async fn the_genesis_state_is_proven() {
    let (_chain, provider) = start(quiet()).await;
    for dev in DEV_ACCOUNTS {
        let account = proven(&provider, dev.address, 0, 0).await.0.unwrap();
        assert_eq!((account.nonce, account.balance), (0, U256::from(10).pow(U256::from(22))));
    }
    assert_eq!(proven(&provider, Address::repeat_byte(7), 0, 0).await, (None, U256::ZERO));
}

#[tokio::test]
async fn every_block_proves_its_own_values() {
    let (_chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    let created = provider.get_block_number().await.unwrap();
    for word in 1..=20 {
        send(&provider, keep(keeper, word * 1_000)).await;
    }
    assert_eq!(proven(&provider, keeper, 0, created - 1).await, (None, U256::ZERO));
    for word in 0..=20 {
        let (account, value) = proven(&provider, keeper, 0, created + word).await;
        assert_eq!(value, U256::from(word * 1_000));
        assert_eq!(account.unwrap().code_hash, keccak256(provider.get_code_at(keeper).await.unwrap()));
        let (sender, _) = proven(&provider, DEV_ACCOUNTS[0].address, 0, created + word).await;
        assert_eq!(sender.unwrap().nonce, 1 + word);
    }
    let (_, absent) = proven(&provider, keeper, 1, created + 20).await;
    assert_eq!(absent, U256::ZERO);
}

#[tokio::test]
async fn the_window_ends_after_8192_blocks() {
    let (_chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    send(&provider, keep(keeper, 5)).await;
    mine(&provider, 8_192).await;
    let head = provider.get_block_number().await.unwrap();
    assert_eq!(proven(&provider, keeper, 0, head - 8_191).await.1, U256::from(5));
    let (code, message) = ask(&provider, "eth_getProof", json!([keeper, [], format!("{:#x}", head - 8_192)]))
        .await
        .unwrap_err();
    assert_eq!(code, -32000);
    assert!(message.contains("not available"), "{message}");
}
