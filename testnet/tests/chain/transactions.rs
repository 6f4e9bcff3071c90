//! Taking in transactions: what is mined, what waits, what is refused.

use crate::{KEEPER, ask, connect, deploy, keep, mine, quiet, send, signer, start, transfer};
use alloy::consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEip7702, TxEnvelope, TxLegacy};
use alloy::eips::Encodable2718;
use alloy::eips::eip7702::Authorization;
use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, B256, Bytes, Signature, TxKind, U256, hex};
use alloy::providers::{DynProvider, Provider};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use serde_json::json;
use std::time::Duration;
use windlass_testnet::chain::{ChainConfig, DEFAULT_CHAIN_ID, DEV_ACCOUNTS, Mining};

const GWEI: u128 = 1_000_000_000;

fn plain(nonce: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id: DEFAULT_CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10 * GWEI,
        max_priority_fee_per_gas: GWEI,
        to: TxKind::Call(Address::repeat_byte(0xbb)),
        value: U256::from(1),
        ..TxEip1559::default()
    }
}

fn sign(
    transaction: impl SignableTransaction<Signature> + Into<TxEnvelopeParts>,
    key: &PrivateKeySigner,
) -> Bytes {
    let signature = key.sign_hash_sync(&transaction.signature_hash()).unwrap();
    transaction.into().seal(signature).encoded_2718().into()
}

/// The kinds of transaction the tests sign.
enum TxEnvelopeParts {
    Legacy(TxLegacy),
    Eip2930(TxEip2930),
    Eip1559(TxEip1559),
    Eip7702(TxEip7702),
}

impl TxEnvelopeParts {
    fn seal(self, signature: Signature) -> TxEnvelope {
        match self {
            Self::Legacy(tx) => tx.into_signed(signature).into(),
            Self::Eip2930(tx) => tx.into_signed(signature).into(),
            Self::Eip1559(tx) => tx.into_signed(signature).into(),
            Self::Eip7702(tx) => tx.into_signed(signature).into(),
        }
    }
}

macro_rules! parts {
    ($($kind:ident $tx:ty),*) => { $(impl From<$tx> for TxEnvelopeParts { fn from(tx: $tx) -> Self { Self::$kind(tx) } })* };
}
parts!(Legacy TxLegacy, Eip2930 TxEip2930, Eip1559 TxEip1559, Eip7702 TxEip7702);

async fn submit(provider: &DynProvider, raw: &Bytes) -> Result<B256, String> {
    let answer = ask(provider, "eth_sendRawTransaction", json!([raw])).await;
    answer.map(|hash| serde_json::from_value(hash).unwrap()).map_err(|(code, message)| {
        assert_eq!(code, -32000, "{message}");
        message
    })
}

async fn is_mined(provider: &DynProvider, hash: B256) -> bool {
    provider.get_transaction_receipt(hash).await.unwrap().is_some()
}

#[tokio::test]
async fn every_kind_of_transaction_is_mined_at_once() {
    let (_chain, provider) = start(quiet()).await;
    let (key, to) = (signer(2), TxKind::Call(Address::repeat_byte(0xbb)));
    let (gas_limit, gas_price) = (21_000, 10 * GWEI);
    let unprotected = TxLegacy { chain_id: None, nonce: 0, gas_price, gas_limit, to, ..TxLegacy::default() };
    let legacy = TxLegacy { chain_id: Some(DEFAULT_CHAIN_ID), nonce: 1, ..unprotected.clone() };
    let listed =
        TxEip2930 { chain_id: DEFAULT_CHAIN_ID, nonce: 2, gas_price, gas_limit, to, ..TxEip2930::default() };
    let raws = [sign(unprotected, &key), sign(legacy, &key), sign(listed, &key), sign(plain(3), &key)];
    for (index, raw) in raws.iter().enumerate() {
        let hash = submit(&provider, raw).await.unwrap();
        let receipt = provider.get_transaction_receipt(hash).await.unwrap().unwrap();
        assert!(receipt.status());
        assert_eq!((receipt.block_number, receipt.from), (Some(1 + index as u64), key.address()));
        let block = provider.get_block_by_number((1 + index as u64).into()).await.unwrap().unwrap();
        let base_fee = u128::from(block.header.base_fee_per_gas.unwrap());
        let price = if index < 3 { gas_price } else { base_fee + GWEI };
        assert_eq!(receipt.effective_gas_price, price);
    }
}

#[tokio::test]
async fn an_account_may_delegate_to_a_contract_and_still_send() {
    let (_chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    let owner = signer(2);
    let authorization = Authorization { chain_id: U256::from(DEFAULT_CHAIN_ID), address: keeper, nonce: 1 };
    let signature = owner.sign_hash_sync(&authorization.signature_hash()).unwrap();
    let delegation = TxEip7702 {
        chain_id: DEFAULT_CHAIN_ID,
        gas_limit: 200_000,
        max_fee_per_gas: 10 * GWEI,
        max_priority_fee_per_gas: GWEI,
        to: owner.address(),
        input: U256::from(9).to_be_bytes::<32>().into(),
        authorization_list: vec![authorization.into_signed(signature)],
        ..TxEip7702::default()
    };
    let hash = submit(&provider, &sign(delegation, &owner)).await.unwrap();
    assert!(provider.get_transaction_receipt(hash).await.unwrap().unwrap().status());
    let code = provider.get_code_at(owner.address()).await.unwrap();
    assert_eq!(code, Bytes::from([&hex!("ef0100"), keeper.as_slice()].concat()));
    assert_eq!(provider.get_storage_at(owner.address(), U256::ZERO).await.unwrap(), U256::from(9));
    assert!(submit(&provider, &sign(plain(2), &owner)).await.is_ok());
}

#[tokio::test]
async fn a_gap_in_the_nonces_waits_until_it_is_filled() {
    let (_chain, provider) = start(quiet()).await;
    let key = signer(2);
    let third = submit(&provider, &sign(plain(2), &key)).await.unwrap();
    let second = submit(&provider, &sign(plain(1), &key)).await.unwrap();
    assert!(!is_mined(&provider, second).await && !is_mined(&provider, third).await);
    assert_eq!(provider.get_block_number().await.unwrap(), 0, "no block for what only waits");
    let waiting = provider.get_transaction_by_hash(third).await.unwrap().unwrap();
    assert_eq!(waiting.block_hash, None);
    assert_eq!(provider.get_transaction_count(key.address()).pending().await.unwrap(), 0);
    let first = submit(&provider, &sign(plain(0), &key)).await.unwrap();
    for hash in [first, second, third] {
        let receipt = provider.get_transaction_receipt(hash).await.unwrap().unwrap();
        assert_eq!(receipt.block_number, Some(1));
    }
    assert_eq!(provider.get_transaction_count(key.address()).await.unwrap(), 3);
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_in_the_usual_words() {
    let (_chain, provider) = start(quiet()).await;
    let key = signer(2);
    let mined = sign(plain(0), &key);
    submit(&provider, &mined).await.unwrap();
    let stranger = PrivateKeySigner::from_bytes(&B256::repeat_byte(9)).unwrap();
    let cases = [
        (mined, "already known"),
        (
            sign(TxEip1559 { value: U256::from(2), ..plain(0) }, &key),
            "nonce too low: next nonce 1, tx nonce 0",
        ),
        (sign(plain(0), &stranger), "insufficient funds for gas * price + value"),
        (sign(TxEip1559 { chain_id: 1, ..plain(1) }, &key), "invalid chain id for signer: have 1 want 31337"),
        (
            sign(TxEip1559 { gas_limit: 20_999, ..plain(1) }, &key),
            "intrinsic gas too low: gas 20999, minimum needed 21000",
        ),
        (sign(TxEip1559 { gas_limit: 60_000_001, ..plain(1) }, &key), "exceeds block gas limit"),
        (sign(TxEip1559 { gas_limit: 16_777_217, ..plain(1) }, &key), "transaction gas limit too high"),
        (
            sign(TxEip1559 { max_fee_per_gas: 1, max_priority_fee_per_gas: 1, ..plain(1) }, &key),
            "max fee per gas less than block base fee",
        ),
        (
            sign(TxEip1559 { max_priority_fee_per_gas: 11 * GWEI, ..plain(1) }, &key),
            "max priority fee per gas higher than max fee per gas",
        ),
        (sign(TxEip1559 { nonce: u64::MAX, ..plain(1) }, &key), "nonce has max value"),
        (
            sign(
                TxEip1559 {
                    to: TxKind::Create,
                    gas_limit: 5_000_000,
                    input: vec![0; 49_153].into(),
                    ..plain(1)
                },
                &key,
            ),
            "max initcode size exceeded",
        ),
        (Bytes::from_static(&[2, 0xc0]), "could not be decoded"),
        (Bytes::new(), "could not be decoded"),
    ];
    for (raw, words) in cases {
        let message = submit(&provider, &raw).await.unwrap_err();
        assert!(message.contains(words), "'{message}' should say '{words}'");
    }
    assert!(submit(&provider, &sign(plain(1), &key)).await.is_ok(), "and the next one is served");
}

#[tokio::test]
async fn a_signature_that_recovers_nobody_or_is_malleable_is_refused() {
    let (_chain, provider) = start(quiet()).await;
    let key = signer(2);
    let signature = key.sign_hash_sync(&plain(0).signature_hash()).unwrap();
    let order =
        U256::from_be_slice(&hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"));
    let high_s = Signature::new(signature.r(), order - signature.s(), !signature.v());
    let no_point = Signature::new(U256::MAX, signature.s(), signature.v());
    for wrong in [high_s, no_point] {
        let raw: Bytes = TxEnvelope::from(plain(0).into_signed(wrong)).encoded_2718().into();
        let message = submit(&provider, &raw).await.unwrap_err();
        assert!(message.contains("invalid sender"), "{message}");
    }
}

#[tokio::test]
async fn with_interval_mining_transactions_wait_and_can_be_replaced() {
    let mining = Mining::Interval(Duration::from_secs(86_400));
    let (_chain, provider) = start(ChainConfig { mining, ..quiet() }).await;
    let key = signer(2);
    let first = submit(&provider, &sign(plain(0), &key)).await.unwrap();
    assert!(!is_mined(&provider, first).await);
    assert_eq!(provider.get_transaction_count(key.address()).pending().await.unwrap(), 1);
    assert_eq!(provider.get_transaction_count(key.address()).await.unwrap(), 0);
    let cheap = TxEip1559 { max_fee_per_gas: 10 * GWEI + 1, ..plain(0) };
    assert_eq!(
        submit(&provider, &sign(cheap, &key)).await.unwrap_err(),
        "replacement transaction underpriced"
    );
    let better = TxEip1559 { max_fee_per_gas: 11 * GWEI, max_priority_fee_per_gas: 2 * GWEI, ..plain(0) };
    let better = submit(&provider, &sign(better, &key)).await.unwrap();
    let second = submit(&provider, &sign(plain(1), &key)).await.unwrap();
    let pending =
        provider.get_block_by_number(alloy::eips::BlockNumberOrTag::Pending).await.unwrap().unwrap();
    assert_eq!(pending.transactions.hashes().collect::<Vec<_>>(), [better, second]);
    let to = Address::repeat_byte(0xbb);
    assert_eq!(provider.get_balance(to).pending().await.unwrap(), U256::from(2));
    assert_eq!(provider.get_balance(to).await.unwrap(), U256::ZERO);
    mine(&provider, 1).await;
    assert!(is_mined(&provider, better).await && is_mined(&provider, second).await);
    assert_eq!(provider.get_transaction_by_hash(first).await.unwrap(), None);
}

#[tokio::test]
async fn a_full_block_leaves_the_rest_for_the_next() {
    let mining = Mining::Interval(Duration::from_secs(86_400));
    let (_chain, provider) = start(ChainConfig { mining, gas_limit: 50_000, ..quiet() }).await;
    for nonce in 0..5 {
        submit(&provider, &sign(plain(nonce), &signer(2))).await.unwrap();
    }
    mine(&provider, 3).await;
    for (number, expected) in [(1, 2), (2, 2), (3, 1)] {
        let block = provider.get_block_by_number(number.into()).await.unwrap().unwrap();
        assert_eq!(block.transactions.len(), expected);
    }
}

#[tokio::test]
async fn creation_and_calls_leave_the_expected_state() {
    let (chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    assert_eq!(keeper, DEV_ACCOUNTS[0].address.create(0));
    assert_eq!(provider.get_code_at(keeper).await.unwrap(), KEEPER.slice(12..));
    assert_eq!(provider.get_transaction_count(keeper).await.unwrap(), 1, "EIP-161");
    send(&provider, keep(keeper, 77)).await;
    assert_eq!(provider.get_storage_at(keeper, U256::ZERO).await.unwrap(), U256::from(77));
    let other = connect(&chain);
    let before = other.get_balance(DEV_ACCOUNTS[1].address).await.unwrap();
    let receipt = send(&other, transfer().with_from(DEV_ACCOUNTS[1].address)).await;
    let paid = U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price) + U256::from(1);
    assert_eq!(other.get_balance(DEV_ACCOUNTS[1].address).await.unwrap(), before - paid);
}
