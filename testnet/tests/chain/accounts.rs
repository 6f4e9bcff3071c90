//! Accounts whose keys the chain knows, accounts used without one, and state set up by hand.

use crate::proofs::proven;
use crate::{KEEPER, ask, deploy, keep, manual, quiet, send, signer, start};
use alloy::consensus::transaction::SignerRecoverable;
use alloy::eips::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, Signature, U256, eip191_hash_message, keccak256};
use alloy::providers::{DynProvider, Provider};
use alloy::sol;
use alloy::sol_types::{Eip712Domain, SolStruct, eip712_domain};
use serde_json::{Value, json};
use windlass_testnet::chain::DEV_ACCOUNTS;

const STRANGER: Address = Address::repeat_byte(0x77);

async fn sent(provider: &DynProvider, request: Value) -> alloy::rpc::types::TransactionReceipt {
    let hash = ask(provider, "eth_sendTransaction", json!([request])).await.unwrap();
    let hash: B256 = serde_json::from_value(hash).unwrap();
    provider.get_transaction_receipt(hash).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_transaction_of_a_funded_account_is_filled_in_and_signed() {
    let (_chain, provider) = start(quiet()).await;
    let accounts = ask(&provider, "eth_accounts", json!([])).await.unwrap();
    assert_eq!(accounts, json!(DEV_ACCOUNTS.map(|account| account.address)));
    let from = DEV_ACCOUNTS[5].address;
    let kinds = [
        (json!({"from": from, "to": STRANGER, "value": "0x5"}), 2),
        (json!({"from": from, "to": STRANGER, "gasPrice": "0x77359400"}), 0),
        (json!({"from": from, "to": STRANGER, "gasPrice": "0x77359400", "accessList": []}), 1),
        (json!({"from": from, "data": KEEPER}), 2),
        (json!({"from": from, "to": STRANGER, "maxFeePerGas": "0x77359400", "nonce": "0x4"}), 2),
    ];
    for (nonce, (request, kind)) in kinds.into_iter().enumerate() {
        let receipt = sent(&provider, request.clone()).await;
        assert!(receipt.status(), "{request}");
        let hash = receipt.transaction_hash;
        let transaction = provider.get_transaction_by_hash(hash).await.unwrap().unwrap();
        let envelope = transaction.inner.inner();
        assert_eq!(u8::from(envelope.tx_type()), kind, "{request}");
        assert_eq!(alloy::consensus::Transaction::nonce(envelope), nonce as u64);
        assert_eq!(envelope.recover_signer().unwrap(), from, "really signed");
        assert_eq!(keccak256(envelope.encoded_2718()), hash);
    }
    assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::from(5));
}

#[tokio::test]
async fn a_transaction_that_cannot_be_sent_is_refused() {
    let (_chain, provider) = start(quiet()).await;
    let from = DEV_ACCOUNTS[0].address;
    let keeper = deploy(&provider).await;
    let word = json!(B256::ZERO);
    for (request, code, words) in [
        (json!({"to": STRANGER}), -32602, "'from'"),
        (json!({"from": STRANGER, "to": from}), -32000, "unknown account"),
        (json!({"from": from, "to": keeper, "data": word}), 3, "execution reverted"),
        (json!({"from": from, "to": keeper, "chainId": "0x1"}), -32000, "invalid chain id"),
        (
            json!({"from": from, "to": keeper, "gasPrice": "0x1", "maxFeePerGas": "0x1"}),
            -32000,
            "both gasPrice",
        ),
        (json!({"from": from, "to": keeper, "nonce": "0x0", "gas": "0x5208"}), -32000, "nonce too low"),
        (json!({"from": from, "to": STRANGER, "value": U256::MAX}), -32000, "insufficient funds"),
        (json!({"from": from, "to": STRANGER, "maxFeePerGas": "0x1", "gas": "0x5208"}), -32000, "base fee"),
        (json!({"from": from, "to": STRANGER, "blobVersionedHashes": [B256::ZERO]}), -32000, "no blobs"),
    ] {
        let (said, message) = ask(&provider, "eth_sendTransaction", json!([request])).await.unwrap_err();
        assert_eq!(said, code, "{request}: {message}");
        assert!(message.contains(words), "{request}: {message}");
    }
    assert_eq!(provider.get_block_number().await.unwrap(), 1);
}

#[tokio::test]
async fn transactions_sent_at_a_time_get_nonces_of_their_own() {
    let (_chain, provider) = start(quiet()).await;
    let request = json!({"from": DEV_ACCOUNTS[5].address, "to": STRANGER, "value": "0x1"});
    let all = (0..16).map(|_| ask(&provider, "eth_sendTransaction", json!([request])));
    for sent in futures::future::join_all(all).await {
        sent.unwrap();
    }
    assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::from(16));
}

#[tokio::test]
async fn messages_are_signed_by_the_funded_accounts() {
    let (_chain, provider) = start(quiet()).await;
    let (account, message) = (DEV_ACCOUNTS[1].address, Bytes::from_static(b"cast off"));
    let digest = eip191_hash_message(&message);
    for (method, params) in [
        ("eth_sign", json!([account, message])),
        ("personal_sign", json!([message, account])),
        ("personal_sign", json!([message, account, "password"])),
    ] {
        let signature: Bytes = serde_json::from_value(ask(&provider, method, params).await.unwrap()).unwrap();
        let signature = Signature::from_raw(&signature).unwrap();
        assert_eq!(signature.recover_address_from_prehash(&digest).unwrap(), account);
        assert!(signature.normalize_s().is_none(), "canonical");
    }
    let (code, message) = ask(&provider, "eth_sign", json!([STRANGER, "0x00"])).await.unwrap_err();
    assert_eq!(code, -32000);
    assert!(message.contains("unknown account"), "{message}");
    assert_eq!(ask(&provider, "eth_sign", json!([account, "cast off"])).await.unwrap_err().0, -32602);
}

sol! {
    struct Berth {
        address ship;
        uint256 tons;
        string[] crew;
    }
}

#[tokio::test]
async fn typed_messages_are_signed() {
    let (_chain, provider) = start(quiet()).await;
    let account = DEV_ACCOUNTS[2].address;
    let data = json!({
        "domain": {"name": "Harbour", "version": "1", "chainId": 31337},
        "primaryType": "Berth",
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
            ],
            "Berth": [
                {"name": "ship", "type": "address"},
                {"name": "tons", "type": "uint256"},
                {"name": "crew", "type": "string[]"},
            ],
        },
        "message": {"ship": STRANGER, "tons": "1000", "crew": ["Ada", "Grace"]},
    });
    let domain: Eip712Domain = eip712_domain! { name: "Harbour", version: "1", chain_id: 31_337, };
    let berth = Berth { ship: STRANGER, tons: U256::from(1_000), crew: vec!["Ada".into(), "Grace".into()] };
    let digest = berth.eip712_signing_hash(&domain);
    for form in [data.clone(), json!(data.to_string())] {
        let signature = ask(&provider, "eth_signTypedData_v4", json!([account, form])).await.unwrap();
        let signature = Signature::from_raw(&serde_json::from_value::<Bytes>(signature).unwrap()).unwrap();
        assert_eq!(signature.recover_address_from_prehash(&digest).unwrap(), account);
    }
    let mut unknown = data.clone();
    unknown["primaryType"] = json!("Quay");
    let mut wrong = data.clone();
    wrong["message"]["tons"] = json!("many");
    let mut circular = data;
    circular["types"]["Berth"][0]["type"] = json!("Berth");
    for refused in [unknown, wrong, circular, json!({}), json!("{"), json!(7), json!(" ".repeat(200_000))] {
        let (code, _) = ask(&provider, "eth_signTypedData_v4", json!([account, refused])).await.unwrap_err();
        assert_eq!(code, -32602);
    }
}

#[tokio::test]
async fn impersonated_accounts_send_without_a_key_until_told_otherwise() {
    let (_chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    let ether = format!("{:#x}", U256::from(10).pow(U256::from(18)));
    // A contract, which could never send itself.
    ask(&provider, "anvil_setBalance", json!([keeper, ether])).await.unwrap();
    let request = json!({"from": keeper, "to": STRANGER, "value": "0x7"});
    assert!(ask(&provider, "eth_sendTransaction", json!([request])).await.is_err());
    ask(&provider, "anvil_impersonateAccount", json!([keeper])).await.unwrap();
    let receipt = sent(&provider, request.clone()).await;
    assert_eq!((receipt.status(), receipt.from), (true, keeper));
    assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::from(7));
    let transaction = provider.get_transaction_by_hash(receipt.transaction_hash).await.unwrap().unwrap();
    assert_eq!(transaction.inner.signer(), keeper);
    // Two accounts that send the same have hashes of their own.
    ask(&provider, "anvil_setBalance", json!([STRANGER, ether])).await.unwrap();
    ask(&provider, "anvil_setNonce", json!([STRANGER, "0x2"])).await.unwrap();
    ask(&provider, "anvil_impersonateAccount", json!([STRANGER])).await.unwrap();
    let same = json!({"to": Address::ZERO, "nonce": "0x2", "gas": "0x5208", "gasPrice": "0x77359400"});
    let from = |from: Address| {
        let mut request = same.clone();
        request["from"] = json!(from);
        request
    };
    let (one, two) = (sent(&provider, from(keeper)).await, sent(&provider, from(STRANGER)).await);
    assert_ne!(one.transaction_hash, two.transaction_hash);
    // What nobody signed can't come in from outside.
    let unsigned = provider.get_transaction_by_hash(two.transaction_hash).await.unwrap().unwrap();
    let raw: Bytes = unsigned.inner.inner().encoded_2718().into();
    ask(&provider, "anvil_setNonce", json!([STRANGER, "0x2"])).await.unwrap();
    let (_, message) = ask(&provider, "eth_sendRawTransaction", json!([raw])).await.unwrap_err();
    assert!(message.contains("invalid sender"), "{message}");
    ask(&provider, "anvil_stopImpersonatingAccount", json!([keeper])).await.unwrap();
    let (_, message) = ask(&provider, "eth_sendTransaction", json!([request])).await.unwrap_err();
    assert!(message.contains("unknown account"), "{message}");
}

#[tokio::test]
async fn what_is_set_by_hand_is_in_the_next_headers_root() {
    let (_chain, provider) = start(quiet()).await;
    let word = json!(B256::with_last_byte(9));
    for (method, params) in [
        ("anvil_setBalance", json!([STRANGER, "0x64"])),
        ("anvil_setNonce", json!([STRANGER, "0x3"])),
        ("anvil_setCode", json!([STRANGER, KEEPER.slice(12..)])),
        ("anvil_setStorageAt", json!([STRANGER, "0x0", word])),
    ] {
        let before = provider.get_block_number().await.unwrap();
        ask(&provider, method, params).await.unwrap();
        assert_eq!(provider.get_block_number().await.unwrap(), before + 1, "each in a block of its own");
    }
    let (account, value) = proven(&provider, STRANGER, 0, 4).await;
    let account = account.unwrap();
    assert_eq!((account.balance, account.nonce, value), (U256::from(100), 3, U256::from(9)));
    assert_eq!(account.code_hash, keccak256(KEEPER.slice(12..)));
    let (earlier, _) = proven(&provider, STRANGER, 0, 1).await;
    assert_eq!(earlier.unwrap().nonce, 0, "and earlier blocks stay as they were");
    let call = alloy::rpc::types::TransactionRequest::default().to(STRANGER);
    assert_eq!(provider.call(call).await.unwrap(), Bytes::from(U256::from(9).to_be_bytes::<32>()));
    // Taken away again: nothing of it is left.
    ask(&provider, "anvil_setStorageAt", json!([STRANGER, "0x0", "0x0"])).await.unwrap();
    ask(&provider, "anvil_setCode", json!([STRANGER, "0x"])).await.unwrap();
    ask(&provider, "anvil_setNonce", json!([STRANGER, "0x0"])).await.unwrap();
    ask(&provider, "anvil_setBalance", json!([STRANGER, "0x0"])).await.unwrap();
    assert_eq!(proven(&provider, STRANGER, 0, 8).await, (None, U256::ZERO));
    let (code, message) =
        ask(&provider, "anvil_setStorageAt", json!([STRANGER, "0x0", word])).await.unwrap_err();
    assert_eq!(code, -32000);
    assert!(message.contains("EIP-161"), "{message}");
}

#[tokio::test]
async fn what_is_set_by_hand_keeps_the_promised_timestamp_and_goes_with_a_revert() {
    let (_chain, provider) = start(manual()).await;
    let snapshot = ask(&provider, "evm_snapshot", json!([])).await.unwrap();
    let header =
        async |number: u64| provider.get_block_by_number(number.into()).await.unwrap().unwrap().header;
    let next = header(0).await.timestamp + 2;
    ask(&provider, "evm_setNextBlockTimestamp", json!([next])).await.unwrap();
    ask(&provider, "anvil_setBalance", json!([STRANGER, "0x64"])).await.unwrap();
    assert!(header(1).await.timestamp < next);
    let (_, message) = ask(&provider, "anvil_setBalance", json!([STRANGER, "0x65"])).await.unwrap_err();
    assert!(message.contains("no room"), "{message}");
    crate::mine(&provider, 1).await;
    assert_eq!(header(2).await.timestamp, next);
    ask(&provider, "evm_revert", json!([snapshot])).await.unwrap();
    assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::ZERO);
}

#[tokio::test]
async fn what_cannot_be_set_is_refused() {
    let (_chain, provider) = start(quiet()).await;
    for (method, params) in [
        ("anvil_setBalance", json!([STRANGER])),
        ("anvil_setBalance", json!([STRANGER, "0x01"])),
        ("anvil_setBalance", json!(["0x77", "0x1"])),
        ("anvil_setNonce", json!([STRANGER, "0xffffffffffffffff"])),
        ("anvil_setNonce", json!([STRANGER, "0x10000000000000000"])),
        ("anvil_setCode", json!([STRANGER, "0x0"])),
        ("anvil_setStorageAt", json!([STRANGER, "0x0"])),
        ("anvil_setStorageAt", json!([STRANGER, "0x0", format!("0x{}", "1".repeat(65))])),
        ("anvil_impersonateAccount", json!([])),
        ("anvil_stopImpersonatingAccount", json!(["0x"])),
    ] {
        assert_eq!(ask(&provider, method, params.clone()).await.unwrap_err().0, -32602, "{method} {params}");
    }
    assert_eq!(provider.get_block_number().await.unwrap(), 0);
}

#[tokio::test]
async fn a_contract_keeps_its_storage_when_other_things_are_set() {
    let (_chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    send(&provider, keep(keeper, 5)).await;
    ask(&provider, "anvil_setBalance", json!([keeper, "0x1"])).await.unwrap();
    assert_eq!(proven(&provider, keeper, 0, 3).await.1, U256::from(5));
    assert_eq!(signer(0).address(), DEV_ACCOUNTS[0].address);
}
