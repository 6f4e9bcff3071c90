//! Transactions that must be refused are refused by both chains, for the same reason, and change nothing.
//!
//! Anvil lets some in that other nodes don't: those are asked of the embedded chain alone.

use crate::assembler;
use crate::history::{MAX_FEE, random_key, seal};
use crate::rpc::{Refusal, Rpc};
use crate::twins::Twins;
use alloy::consensus::{TxEip1559, TxEnvelope, TxLegacy};
use alloy::eips::Encodable2718;
use alloy::primitives::{Address, Bytes, Signature, TxKind, U256};
use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use windlass_testnet::chain::{DEFAULT_CHAIN_ID, DEV_ACCOUNTS};

/// A reason, with words of which each chain says one.
struct Reason {
    name: &'static str,
    words: &'static [&'static str],
}

const fn because(name: &'static str, words: &'static [&'static str]) -> Reason {
    Reason { name, words }
}

fn key() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&DEV_ACCOUNTS[0].key).expect("a valid key")
}

fn plain() -> TxEip1559 {
    TxEip1559 {
        chain_id: DEFAULT_CHAIN_ID,
        nonce: 1,
        gas_limit: 21_000,
        max_fee_per_gas: MAX_FEE,
        max_priority_fee_per_gas: MAX_FEE / 10,
        to: TxKind::Call(Address::repeat_byte(0xbb)),
        value: U256::from(1),
        ..TxEip1559::default()
    }
}

fn signed(transaction: TxEip1559) -> Bytes {
    seal(transaction, &key()).encoded_2718().into()
}

/// With the upper of the two signatures, which EIP-2 forbids.
fn high_s(transaction: TxEip1559) -> Bytes {
    let TxEnvelope::Eip1559(good) = seal(transaction, &key()) else { return Bytes::new() };
    let order = U256::from_be_bytes(alloy::primitives::hex!(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
    ));
    let (tx, signature, _) = good.into_parts();
    let malleated = Signature::new(signature.r(), order - signature.s(), !signature.v());
    TxEnvelope::from(alloy::consensus::Signed::new_unhashed(tx, malleated)).encoded_2718().into()
}

/// Each refused transaction. The sender's next nonce is 1.
fn cases() -> Vec<(Reason, Bytes)> {
    let poor = random_key(&mut StdRng::seed_from_u64(9));
    let initcode = Bytes::from(vec![0; 2 * 24_576 + 1]);
    let whole = signed(plain());
    vec![
        (because("an earlier nonce", &["nonce too low"]), signed(TxEip1559 { nonce: 0, ..plain() })),
        (
            because("another chain", &["chain id"]),
            signed(TxEip1559 { chain_id: DEFAULT_CHAIN_ID + 1, ..plain() }),
        ),
        (
            because("no money", &["insufficient funds"]),
            seal(TxEip1559 { nonce: 0, ..plain() }, &poor).encoded_2718().into(),
        ),
        (
            because("more value than there is", &["insufficient funds"]),
            signed(TxEip1559 { value: U256::MAX >> 8, ..plain() }),
        ),
        (
            because("too little gas to begin", &["intrinsic gas too low"]),
            signed(TxEip1559 { gas_limit: 20_999, ..plain() }),
        ),
        (
            because("a tip above the fee", &["priority fee"]),
            signed(TxEip1559 { max_priority_fee_per_gas: MAX_FEE + 1, ..plain() }),
        ),
        (
            because(
                "more gas than a transaction may have (EIP-7825)",
                &["gas limit too high", "gas limit", "cap"],
            ),
            signed(TxEip1559 { gas_limit: 16_777_217, ..plain() }),
        ),
        (
            because("too much creation code (EIP-3860)", &["initcode", "init code", "oversized"]),
            signed(TxEip1559 { to: TxKind::Create, input: initcode, gas_limit: 10_000_000, ..plain() }),
        ),
        (because("half of it", &["decode"]), whole.slice(..whole.len() / 2)),
        (because("nothing", &["decode", "empty"]), Bytes::new()),
        (because("noise", &["decode"]), Bytes::from_static(b"\x02\xc0\xff\xee")),
    ]
}

/// What anvil takes in and other nodes refuse.
fn strict_cases() -> Vec<(Reason, Bytes)> {
    let legacy = TxLegacy {
        chain_id: Some(DEFAULT_CHAIN_ID + 1),
        nonce: 1,
        gas_price: MAX_FEE,
        gas_limit: 21_000,
        to: TxKind::Call(Address::ZERO),
        ..TxLegacy::default()
    };
    vec![
        (because("a high s (EIP-2)", &["signature"]), high_s(plain())),
        (because("another chain, of old", &["chain id"]), seal(legacy, &key()).encoded_2718().into()),
        (
            because("too little gas for its bytes (EIP-7623)", &["intrinsic gas too low"]),
            signed(TxEip1559 { gas_limit: 25_000, input: vec![1; 200].into(), ..plain() }),
        ),
        (
            because("hardly better paid", &["underpriced"]),
            signed(TxEip1559 { value: U256::from(2), max_fee_per_gas: MAX_FEE + 1, ..plain() }),
        ),
    ]
}

/// That this chain refuses the transaction for this reason, with a code of the server's range.
async fn refused(rpc: &Rpc, reason: &Reason, raw: &Bytes) -> anyhow::Result<()> {
    let answer = rpc.try_ask("eth_sendRawTransaction", json!([raw])).await?;
    let refusal = answer.err().with_context(|| format!("{} takes in: {}", rpc.name(), reason.name))?;
    let class = (-32_099..=-32_000).contains(&refusal.code) || refusal.code == -32_602;
    ensure!(class && is_for(&refusal, reason), "{}: {}: {refusal:?}", rpc.name(), reason.name);
    Ok(())
}

fn is_for(refusal: &Refusal, reason: &Reason) -> bool {
    let message = refusal.message.to_lowercase();
    reason.words.iter().any(|word| message.contains(&word.to_lowercase()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_anvil_refuses_is_refused_for_the_same_reason() -> anyhow::Result<()> {
    let Some(twins) = Twins::start().await? else { return Ok(()) };
    let first = TxEip1559 {
        nonce: 0,
        to: TxKind::Create,
        input: assembler::writer().creation(),
        gas_limit: 500_000,
        ..plain()
    };
    twins.same("eth_sendRawTransaction", json!([signed(first)]), &[]).await?;
    twins.mine().await?;
    for (reason, raw) in cases() {
        refused(&twins.ours, &reason, &raw).await?;
        refused(&twins.anvil, &reason, &raw).await?;
    }
    // The next good one is taken in by both, once.
    let waiting = signed(plain());
    twins.same("eth_sendRawTransaction", json!([waiting]), &[]).await?;
    let again = because("the same again", &["already known", "already imported"]);
    refused(&twins.ours, &again, &waiting).await?;
    refused(&twins.anvil, &again, &waiting).await?;
    for (reason, raw) in strict_cases() {
        refused(&twins.ours, &reason, &raw).await?;
    }
    let number = twins.mine().await?;
    let receipts = twins.same_block(number).await?;
    ensure!(receipts.len() == 1, "{receipts:?}");
    Ok(())
}
