//! The same history on both chains leaves the same chain behind: blocks, receipts, logs, accounts, storage
//! and its proofs, step by step.

use crate::history::{History, Step};
use crate::twins::{Storage, Twins, written_slots};
use alloy::primitives::{Address, U256};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Blocks of one history, after the first.
const BLOCKS: usize = 14;
/// Transactions of one block.
const TRANSACTIONS: usize = 14;
/// Histories that `make test` compares; WINDLASS_HISTORIES asks for more.
const HISTORIES: u64 = 2;
/// A slot that nobody sets.
const NEVER_SET: U256 = U256::from_limbs([0xdead, 0, 0, 0]);

/// What the histories did and how it compared.
#[derive(Debug, Default)]
struct Tally {
    /// How many transactions of each action succeeded, of how many.
    actions: BTreeMap<&'static str, (u64, u64)>,
    /// How often an account's storage compared how.
    storage: BTreeMap<Storage, u64>,
}

async fn compare_block(
    twins: &Twins,
    history: &mut History,
    steps: &[Step],
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let registry = history.registry();
    for step in steps {
        twins.same_call(step).await.with_context(|| step.plan.action)?;
    }
    twins.send(steps).await?;
    let number = twins.mine().await?;
    let receipts =
        twins.same_block(number).await.with_context(|| format!("block {number}: {}", listed(steps)))?;
    let mined: Vec<_> = receipts.iter().map(|receipt| &receipt["transactionHash"]).collect();
    let sent: Vec<Value> = steps.iter().map(|step| json!(step.hash)).collect();
    ensure!(mined.iter().copied().eq(&sent), "block {number} holds {mined:?}, not {sent:?}");
    let mut touched: BTreeSet<Address> = steps.iter().flat_map(|step| step.touched.clone()).collect();
    for (step, receipt) in steps.iter().zip(&receipts) {
        let (succeeded, all) = tally.actions.entry(step.plan.action).or_default();
        *succeeded += u64::from(receipt["status"] == "0x1");
        *all += 1;
        let written = written_slots(receipt, registry);
        history.slots.entry(registry).or_default().extend(written);
        let logs = receipt["logs"].as_array().context("logs")?;
        let addresses = logs.iter().map(|log| serde_json::from_value::<Address>(log["address"].clone()));
        touched.extend(addresses.filter_map(Result::ok));
        for (account, slot) in twins.touched_slots(step.hash).await? {
            history.slots.entry(account).or_default().insert(slot);
            touched.insert(account);
        }
    }
    touched.insert(crate::twins::COINBASE);
    for account in touched {
        let slots = history.slots.entry(account).or_default();
        slots.insert(NEVER_SET);
        let storage = twins.same_account(account, slots).await;
        let storage = storage.with_context(|| format!("after block {number}"))?;
        *tally.storage.entry(storage).or_default() += 1;
    }
    Ok(())
}

/// What a block was made of, for whoever looks into a difference.
fn listed(steps: &[Step]) -> String {
    let lines = steps.iter().enumerate().map(|(index, step)| {
        let Step { plan, from, .. } = step;
        format!("\n{index}: {} from {from} to {:?}, {:?}", plan.action, plan.to, plan.delegations)
    });
    lines.collect()
}

async fn run(seed: u64, tally: &mut Tally) -> anyhow::Result<bool> {
    let Some(twins) = Twins::start().await? else { return Ok(false) };
    let mut history = History::new(seed);
    let foundations = history.foundations();
    compare_block(&twins, &mut history, &foundations, tally).await?;
    for _ in 0..BLOCKS {
        let steps = history.block(TRANSACTIONS);
        compare_block(&twins, &mut history, &steps, tally).await?;
    }
    // Once more, whole: every slot that was ever in use.
    for (account, slots) in std::mem::take(&mut history.slots) {
        twins.same_account(account, &slots).await.context("in the end")?;
    }
    let all = json!([{"fromBlock": "0x0", "toBlock": "latest"}]);
    twins.same("eth_getLogs", all, &["blockHash"]).await?;
    Ok(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_history_leaves_the_same_chain_as_on_anvil() -> anyhow::Result<()> {
    let asked = std::env::var("WINDLASS_HISTORIES").ok().and_then(|count| count.parse().ok());
    let (mut tally, first) = (Tally::default(), 1);
    for seed in first..first + asked.unwrap_or(HISTORIES) {
        if !run(seed, &mut tally).await.with_context(|| format!("the history of seed {seed}"))? {
            return Ok(());
        }
    }
    let (succeeded, all) =
        tally.actions.values().fold((0, 0), |sum, (succeeded, all)| (sum.0 + succeeded, sum.1 + all));
    for (action, (succeeded, all)) in &tally.actions {
        println!("{action}: {succeeded} of {all} succeeded");
    }
    println!("storage: {:?}", tally.storage);
    // Histories that did nothing, or only what can't be compared, would agree as well.
    ensure!(succeeded * 10 > all * 5, "only {succeeded} of {all} transactions succeeded");
    for always in ["run out of gas", "have too little gas"] {
        ensure!(tally.actions.get(always).is_some_and(|(succeeded, all)| succeeded < all), "none: {always}");
    }
    let compared = |storage| tally.storage.get(&storage).copied().unwrap_or_default();
    let unknown = compared(Storage::ButForUnknownZeros);
    ensure!(compared(Storage::Equal) > 100 && compared(Storage::ButForZeros) > 10, "{:?}", tally.storage);
    ensure!(unknown * 10 < compared(Storage::Equal), "{:?}", tally.storage);
    for needed in [
        "transfer",
        "set and clear slots",
        "log or revert",
        "create at a chosen address",
        "destroy a contract",
        "ask a precompiled contract",
        "run a random program",
        "delegate an account",
        "deploy one of the four",
        "create a fleet",
        "enrol a device",
        "enrol many",
        "grant many",
        "commit to a name",
        "register a name",
        "register a node",
    ] {
        ensure!(
            tally.actions.get(needed).is_some_and(|(succeeded, _)| *succeeded > 0),
            "none succeeded: {needed}"
        );
    }
    Ok(())
}
