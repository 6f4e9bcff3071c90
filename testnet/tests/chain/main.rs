//! The embedded chain as clients see it: through alloy's provider, by raw requests, and as a process.
#![allow(clippy::unwrap_used)]

mod accounts;
mod blocks;
mod calls;
mod control;
mod faults;
mod filters;
mod fuzz;
mod keeping;
mod life;
mod proofs;
mod reorgs;
mod requests;
mod sockets;
mod traces;
mod transactions;

use alloy::network::{EthereumWallet, TransactionBuilder};
use alloy::primitives::{Address, Bytes, U256, bytes};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use serde_json::Value;
use std::time::Duration;
use windlass_testnet::chain::{Chain, ChainConfig, DEV_ACCOUNTS, Finality};

/// A contract assembled by hand, as its creation code. Called with a word, it stores the word in slot 0 and
/// logs it under topic 7; called with a word of zero, it reverts with the bytes `dead`; called with nothing,
/// it returns slot 0.
///
/// ```text
/// 00 CALLDATASIZE ISZERO PUSH1 1c JUMPI          nothing: read
/// 05 PUSH1 0 CALLDATALOAD DUP1 ISZERO PUSH1 28 JUMPI   zero: revert
/// 0d DUP1 PUSH1 0 SSTORE  PUSH1 0 MSTORE  PUSH1 7 PUSH1 20 PUSH1 0 LOG1 STOP
/// 1c JUMPDEST PUSH1 0 SLOAD PUSH1 0 MSTORE PUSH1 20 PUSH1 0 RETURN
/// 28 JUMPDEST PUSH2 dead PUSH1 0 MSTORE PUSH1 2 PUSH1 1e REVERT
/// ```
const KEEPER: Bytes = bytes!(
    "6034600c60003960346000f3"
    "3615601c57"
    "6000358015602857"
    "80600055600052600760206000a100"
    "5b60005460005260206000f3"
    "5b61dead6000526002601efd"
);

/// No heartbeat: nothing happens but what the test does.
fn quiet() -> ChainConfig {
    ChainConfig { heartbeat: None, ..ChainConfig::default() }
}

/// As quiet, and final only when told.
fn manual() -> ChainConfig {
    ChainConfig { finality: Finality::Manual, ..quiet() }
}

async fn start(config: ChainConfig) -> (Chain, DynProvider) {
    let chain = Chain::start(config).await.unwrap();
    let provider = connect(&chain);
    (chain, provider)
}

fn signer(index: usize) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&DEV_ACCOUNTS[index].key).unwrap()
}

/// A provider that signs for the first two funded accounts, the first by default.
fn connect(chain: &Chain) -> DynProvider {
    let mut wallet = EthereumWallet::from(signer(0));
    wallet.register_signer(signer(1));
    let provider = ProviderBuilder::new().wallet(wallet).connect_http(chain.rpc_url().parse().unwrap());
    provider.client().set_poll_interval(Duration::from_millis(5));
    provider.erased()
}

async fn send(provider: &DynProvider, request: TransactionRequest) -> TransactionReceipt {
    provider.send_transaction(request).await.unwrap().get_receipt().await.unwrap()
}

async fn deploy(provider: &DynProvider) -> Address {
    let receipt = send(provider, TransactionRequest::default().with_deploy_code(KEEPER)).await;
    assert!(receipt.status());
    receipt.contract_address.unwrap()
}

/// A call that hands `word` to the keeper.
fn keep(keeper: Address, word: u64) -> TransactionRequest {
    TransactionRequest::default().with_to(keeper).with_input(U256::from(word).to_be_bytes::<32>().to_vec())
}

/// A transfer of one wei to a fresh address.
fn transfer() -> TransactionRequest {
    TransactionRequest::default().with_to(Address::repeat_byte(0xaa)).with_value(U256::from(1))
}

/// A raw call: the result, or the error's code and message.
async fn ask(provider: &DynProvider, method: &'static str, params: Value) -> Result<Value, (i64, String)> {
    provider.raw_request(method.into(), params).await.map_err(|error| {
        let error = error.as_error_resp().expect("an answer of the chain, not of the transport");
        (error.code, error.message.to_string())
    })
}

async fn mine(provider: &DynProvider, blocks: u64) {
    ask(provider, "evm_mine", serde_json::json!([{ "blocks": blocks }])).await.unwrap();
}
