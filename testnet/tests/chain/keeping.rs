//! A chain kept in a directory: it goes on where it was left, whatever ended it, and belongs to one process.

use crate::blocks::recompute;
use crate::proofs::proven;
use crate::{ask, connect, deploy, keep, manual, mine, quiet, send, signer};
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::EthereumWallet;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::{Filter, TransactionReceipt};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use windlass_testnet::DirectoryError;
use windlass_testnet::chain::{Chain, ChainConfig, DEV_ACCOUNTS, OpenStateError, StartChainError};

const PROGRAM: &str = env!("CARGO_BIN_EXE_windlass-testnet");

fn kept(directory: &Path, config: ChainConfig) -> ChainConfig {
    ChainConfig { state: Some(directory.to_owned()), ..config }
}

async fn start(directory: &Path, config: ChainConfig) -> (Chain, DynProvider) {
    crate::start(kept(directory, config)).await
}

/// What clients see of the chain: blocks, receipts and logs.
async fn seen(provider: &DynProvider) -> Vec<Value> {
    let mut seen = vec![json!(provider.get_logs(&Filter::new().from_block(0)).await.unwrap())];
    for number in 0..=provider.get_block_number().await.unwrap() {
        seen.push(json!(provider.get_block_by_number(number.into()).full().await.unwrap()));
        seen.push(json!(provider.get_block_receipts(BlockId::number(number)).await.unwrap()));
    }
    seen
}

#[tokio::test]
async fn a_chain_goes_on_where_it_was_left() {
    let directory = tempfile::tempdir().unwrap();
    let (chain, provider) = start(directory.path(), quiet()).await;
    let keeper = deploy(&provider).await;
    for word in 1..=5 {
        send(&provider, keep(keeper, word)).await;
    }
    let before = seen(&provider).await;
    chain.shutdown().await;
    let (_chain, provider) = start(directory.path(), quiet()).await;
    assert_eq!(seen(&provider).await, before);
    for word in 0..=5 {
        assert_eq!(proven(&provider, keeper, 0, 1 + word).await.1, U256::from(word));
    }
    send(&provider, keep(keeper, 6)).await;
    assert_eq!(proven(&provider, keeper, 0, 7).await.1, U256::from(6));
    assert_eq!(proven(&provider, keeper, 0, 3).await.1, U256::from(2));
    assert_eq!(recompute(&provider).await, 7);
}

#[tokio::test]
async fn what_is_final_stays_final_and_the_rest_can_be_taken_off() {
    let directory = tempfile::tempdir().unwrap();
    let (chain, provider) = start(directory.path(), manual()).await;
    let keeper = deploy(&provider).await;
    for word in 1..=4 {
        send(&provider, keep(keeper, word)).await;
    }
    ask(&provider, "dev_finalize", json!(["0x2"])).await.unwrap();
    ask(&provider, "dev_reorg", json!([1])).await.unwrap();
    chain.shutdown().await;
    let (chain, provider) = start(directory.path(), manual()).await;
    let finalized = provider.get_block_by_number(BlockNumberOrTag::Finalized).await.unwrap().unwrap();
    assert_eq!(finalized.header.number, 2);
    assert_eq!(proven(&provider, keeper, 0, 5).await.1, U256::from(3), "the fourth was taken off");
    ask(&provider, "dev_reorg", json!([4])).await.unwrap_err();
    let lost = provider.get_block_by_number(5.into()).await.unwrap().unwrap().header.hash;
    ask(&provider, "dev_reorg", json!([3])).await.unwrap();
    assert_eq!(proven(&provider, keeper, 0, 5).await.1, U256::from(1));
    let again = provider.get_block_by_number(5.into()).await.unwrap().unwrap().header.hash;
    assert_ne!(again, lost, "a block made after a reorg differs, also after a restart");
    let before = seen(&provider).await;
    chain.shutdown().await;
    let (_chain, provider) = start(directory.path(), manual()).await;
    assert_eq!(seen(&provider).await, before);
    assert_eq!(recompute(&provider).await, 5);
}

#[tokio::test]
async fn the_window_of_provable_blocks_survives() {
    let directory = tempfile::tempdir().unwrap();
    let (chain, provider) = start(directory.path(), manual()).await;
    let keeper = deploy(&provider).await;
    send(&provider, keep(keeper, 5)).await;
    mine(&provider, 8_192).await;
    chain.shutdown().await;
    let (_chain, provider) = start(directory.path(), manual()).await;
    let head = provider.get_block_number().await.unwrap();
    let snapshot = ask(&provider, "evm_snapshot", json!([])).await.unwrap();
    send(&provider, keep(keeper, 6)).await;
    for number in [head - 8_190, head - 4_000, head] {
        assert_eq!(proven(&provider, keeper, 0, number).await.1, U256::from(5));
    }
    let forgotten = async || {
        let params = json!([keeper, [], format!("{:#x}", head - 8_191)]);
        let (_, message) = ask(&provider, "eth_getProof", params).await.unwrap_err();
        assert!(message.contains("not available"), "{message}");
    };
    forgotten().await;
    ask(&provider, "evm_revert", json!([snapshot])).await.unwrap();
    assert_eq!(provider.get_block_number().await.unwrap(), head);
    // A shorter chain doesn't bring back what was forgotten.
    forgotten().await;
    assert_eq!(proven(&provider, keeper, 0, head - 8_190).await.1, U256::from(5));
}

#[tokio::test]
async fn a_directory_belongs_to_one_chain() {
    let directory = tempfile::tempdir().unwrap();
    let refused = async |config| match Chain::start(kept(directory.path(), config)).await {
        Err(StartChainError::State(error)) => error,
        other => panic!("{other:?}"),
    };
    let (chain, _) = start(directory.path(), quiet()).await;
    let locked = refused(quiet()).await;
    assert!(matches!(locked, OpenStateError::Directory(DirectoryError::Locked { .. })), "{locked}");
    chain.shutdown().await;
    let other = refused(ChainConfig { chain_id: 5, ..quiet() }).await;
    assert!(matches!(other, OpenStateError::OtherChain { found: 31_337, asked: 5, .. }), "{other}");
    start(directory.path(), quiet()).await;
}

#[test]
fn a_directory_that_cannot_be_used_is_said_in_one_line() {
    let used = tempfile::tempdir().unwrap();
    let foreign = tempfile::tempdir().unwrap();
    std::fs::write(foreign.path().join("letters"), "dear").unwrap();
    let future = tempfile::tempdir().unwrap();
    std::fs::write(future.path().join("windlass-chain"), "windlass-testnet chain, format 2\n").unwrap();
    let _first = Process::start(used.path());
    for (directory, words) in [
        (used.path(), "is in use by another chain"),
        (foreign.path(), "holds something else than a chain"),
        (future.path(), "was written by another release"),
        (&foreign.path().join("letters"), "cannot use"),
    ] {
        let Output { status, stdout, stderr } =
            Process::command(directory).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), stdout.len()), (Some(2), 0), "{said}");
        assert!(said.contains(words) && said.trim_end().lines().count() == 1, "{said}");
    }
}

/// A chain as a process of its own. Killed when dropped.
struct Process {
    child: Child,
    provider: DynProvider,
}

impl Process {
    fn command(directory: &Path) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["chain", "--port", "0", "--json", "--heartbeat", "0", "--state"]);
        command.arg(directory).stdin(Stdio::null());
        command
    }

    fn start(directory: &Path) -> Self {
        let mut child = Self::command(directory).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let mut wallet = EthereumWallet::from(signer(0));
        (1..WRITERS).for_each(|index| wallet.register_signer(signer(index)));
        let url = ready["rpc_url"].as_str().unwrap().parse().unwrap();
        let provider = ProviderBuilder::new().wallet(wallet).connect_http(url);
        provider.client().set_poll_interval(Duration::from_millis(1));
        Self { child, provider: provider.erased() }
    }

    /// Kill -9.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Accounts that write at the same time, so that one of them is always in the middle of it.
const WRITERS: usize = 3;

/// Receipts that the writers have in hand, and the word each of them stored.
type Acknowledged = HashMap<B256, (TransactionReceipt, u64)>;

/// Writes until `enough` receipts are in hand, then kills the chain under the other writers' feet.
async fn write_and_kill(process: &mut Process, keeper: Address, enough: usize, all: &mut Acknowledged) {
    let (sender, mut receipts) = tokio::sync::mpsc::unbounded_channel();
    let writers: Vec<_> = (0..WRITERS)
        .map(|index| {
            let (provider, sender) = (process.provider.clone(), sender.clone());
            let first = all.len() as u64 + 1;
            tokio::spawn(async move {
                for word in first.. {
                    // An estimate would not hold: the other writers change what storing costs.
                    let request = keep(keeper, word).from(DEV_ACCOUNTS[index].address).gas_limit(100_000);
                    let Ok(pending) = provider.send_transaction(request).await else { return };
                    let Ok(receipt) = pending.get_receipt().await else { return };
                    if sender.send((receipt, word)).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    drop(sender);
    for _ in 0..enough {
        let (receipt, word) = receipts.recv().await.unwrap();
        all.insert(receipt.transaction_hash, (receipt, word));
    }
    process.kill();
    for writer in writers {
        writer.abort();
        let _ = writer.await;
    }
    // Those count as well that came in before the end was noticed.
    while let Ok((receipt, word)) = receipts.try_recv() {
        all.insert(receipt.transaction_hash, (receipt, word));
    }
}

/// Everything that was acknowledged is there, and the chain agrees with itself.
async fn check(provider: &DynProvider, keeper: Address, all: &Acknowledged) {
    let newest = recompute(provider).await;
    let mut last = (0, 0);
    for (hash, (receipt, word)) in all {
        assert_eq!(provider.get_transaction_receipt(*hash).await.unwrap().as_ref(), Some(receipt));
        last = last.max((receipt.block_number.unwrap(), *word));
    }
    if last.0 == newest {
        assert_eq!(proven(provider, keeper, 0, newest).await.1, U256::from(last.1));
    }
    let mut sent = 0;
    for dev in &DEV_ACCOUNTS[..WRITERS] {
        sent += proven(provider, dev.address, 0, newest).await.0.unwrap().nonce;
    }
    assert_eq!(sent, newest, "one transaction per block");
    let logs = provider.get_logs(&Filter::new().from_block(0)).await.unwrap();
    assert_eq!(logs.len() as u64, newest - 1, "one log per block after the contract's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_at_any_moment() {
    // `make soak` asks for more.
    let kills: usize = std::env::var("WINDLASS_KILLS").map_or(10, |kills| kills.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(directory.path());
    let keeper = deploy(&process.provider).await;
    let mut all = Acknowledged::new();
    for round in 0..kills {
        write_and_kill(&mut process, keeper, 1 + round % 7, &mut all).await;
        process = Process::start(directory.path());
        check(&process.provider, keeper, &all).await;
    }
    assert!(all.len() >= kills);
}

#[tokio::test]
async fn a_start_that_is_killed_at_once_leaves_nothing_in_the_way() {
    for microseconds in [0, 500, 2_000, 5_000, 10_000, 20_000] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chain");
        let mut child = Process::command(&path).stdout(Stdio::null()).spawn().unwrap();
        // Not to wait for anything: to cut the start short at different places.
        std::thread::sleep(Duration::from_micros(microseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        let process = Process::start(&path);
        recompute(&process.provider).await;
        deploy(&process.provider).await;
    }
    // Nor does a finished one.
    let (_chain, provider) = crate::start(quiet()).await;
    assert_eq!(
        connect(&_chain).get_block_number().await.unwrap(),
        provider.get_block_number().await.unwrap()
    );
}
