//! What a proof of one slot costs when a contract has many, and what the chain takes in memory and on disk.

use crate::client::Client;
use crate::transactions::{Sender, send_in_order, succeeded};
use alloy::primitives::{Address, Bytes, TxKind, U256, bytes, keccak256};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use windlass_protocol::B256;
use windlass_protocol::trie::{decode_slot_value, verify_proof};

/// A contract assembled by hand, as its creation code: called with two words, it stores in each slot from the
/// first word up to, and without, the second one the slot's own number plus one.
///
/// ```text
/// 00 PUSH1 20 CALLDATALOAD PUSH1 0 CALLDATALOAD        end, slot
/// 06 JUMPDEST DUP2 DUP2 LT ISZERO PUSH1 1a JUMPI       while slot < end
/// 0e PUSH1 1 DUP2 ADD DUP1 DUP3 SSTORE                 slot + 1 into slot
/// 15 SWAP1 POP PUSH1 06 JUMP                           slot + 1 is next
/// 1a JUMPDEST STOP
/// ```
const FILLER: Bytes =
    bytes!("601c600c600039601c6000f36020356000355b81811015601a576001810180825590506006565b00");

/// Slots that one transaction fills: under the gas that one may have (EIP-7825).
const SLOTS_PER_TRANSACTION: u64 = 700;

/// Gas for that.
const FILL_GAS: u64 = 16_700_000;

/// Fills `slots` slots of a new contract and gives its address.
pub(crate) async fn fill(url: &str, slots: u64) -> Result<Address> {
    let mut sender = Sender::new(0, 0)?;
    let contract = sender.address().create(0);
    let mut bodies = vec![sender.sign(TxKind::Create, FILLER, 0, 1_000_000)?];
    for first in (0..slots).step_by(SLOTS_PER_TRANSACTION as usize) {
        let end = slots.min(first + SLOTS_PER_TRANSACTION);
        let input = [first, end].map(|word| U256::from(word).to_be_bytes::<32>()).concat();
        bodies.push(sender.sign(TxKind::Call(contract), input.into(), 0, FILL_GAS)?);
    }
    send_in_order(url, bodies, (sender.address(), sender.nonce)).await?;
    succeeded(&mut Client::connect(url).await?).await?;
    Ok(contract)
}

/// How long proofs of `count` of the contract's slots take, each with one request, the shortest first. Each
/// proof is verified, outside the measured time.
pub(crate) async fn measure(
    client: &mut Client,
    contract: Address,
    slots: u64,
    count: u64,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for number in 0..count {
        let slot = U256::from(u64::from_be_bytes(keccak256(number.to_be_bytes())[..8].try_into()?) % slots);
        let slot = B256::from(slot);
        let start = Instant::now();
        let proof = client.call("eth_getProof", json!([contract, [slot], "latest"])).await?;
        times.push(start.elapsed());
        check(&proof, slot)?;
    }
    times.sort_unstable();
    Ok(times)
}

fn check(answer: &Value, slot: B256) -> Result<()> {
    let root: B256 = serde_json::from_value(answer["storageHash"].clone())?;
    let proof: Vec<Bytes> = serde_json::from_value(answer["storageProof"][0]["proof"].clone())?;
    let leaf = verify_proof(root, &keccak256(slot), &proof)?.context("the slot is proven empty")?;
    let expected = B256::from(U256::from_be_bytes(slot.0) + U256::from(1));
    ensure!(decode_slot_value(&leaf)? == expected, "slot {slot} holds something else");
    Ok(())
}
