//! The embedded chain and anvil, given the same transactions under the same conditions, and compared.
//!
//! Both run the Osaka rules with the same chain id, gas limit, fee recipient, base fee and timestamps; the
//! embedded chain leads and anvil is told its base fee and its timestamp.
//!
//! # Left out, and why
//!
//! | field | why |
//! | --- | --- |
//! | block `hash`, `parentHash`, `blockHash` of transactions, receipts and logs | EIP-2935 keeps block hashes in state and each genesis is its own, so no two chains share them |
//! | block `stateRoot` | it commits to those hashes and to each chain's genesis contracts; account proofs are verified against it instead |
//! | block `mixHash`, `parentBeaconBlockRoot` | stand-ins for a consensus layer: each chain has its own |
//! | block `extraData`, `size` | who made the block, and the length of saying so |
//! | block `totalDifficulty` | anvil still gives it; it went with the merge |
//! | receipt `blockTimestamp`, `blobGasPrice` | anvil's own additions: no standard has the first, and the second only for blobs |
//! | the accounts of EIP-2935 and EIP-4788 | they hold block hashes and beacon roots; anvil has no EIP-4788 contract |
//! | accounts of nothing | anvil keeps an account that was only touched in its state trie, where EIP-161 has none |
//! | leaves of zero | anvil keeps a slot that was cleared or only read in its trie with a value of zero, where Ethereum has no leaf; both roots are then computed from the values, anvil's with those zeros |
//! | the one node of an empty storage trie's proof | anvil shows the encoding of nothing, other nodes show no node |
//! | block 0 | anvil's has an empty state root, so nothing can be proven under it |
//! | fee suggestions, estimates' last percent, client version | policy, not protocol |

use crate::history::Step;
use crate::rpc::{Refusal, Rpc, embedded, same};
use alloy::primitives::{Address, B256, Bytes, U256, address, keccak256};
use alloy::rpc::types::EIP1186AccountProofResponse;
use alloy_trie::{HashBuilder, Nibbles, TrieAccount, proof::verify_proof};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use windlass_testnet::chain::{Chain, ChainConfig, DEFAULT_CHAIN_ID, DEFAULT_GAS_LIMIT, Finality, Mining};
use windlass_tests::peers::Anvil;

/// Who gets the priority fees, on both chains.
pub(crate) const COINBASE: Address = address!("00000000000000000000000000000000c0ffee00");
/// What two chains can't share in a block.
const OF_A_BLOCK: &[&str] = &[
    "hash",
    "parentHash",
    "stateRoot",
    "mixHash",
    "parentBeaconBlockRoot",
    "extraData",
    "size",
    "totalDifficulty",
];
/// What two chains can't share in a transaction, receipt or log.
const OF_ITS_PLACE: &[&str] = &["blockHash"];
/// The same of a receipt, and what only anvil adds to one.
const OF_A_RECEIPT: &[&str] = &["blockHash", "blockTimestamp", "blobGasPrice"];

/// Both chains.
pub(crate) struct Twins {
    /// The embedded chain.
    pub(crate) ours: Rpc,
    /// Anvil.
    pub(crate) anvil: Rpc,
    _chain: Chain,
    _anvil: Anvil,
}

impl Twins {
    /// Starts both; `None`, said aloud, where there is no anvil.
    pub(crate) async fn start() -> anyhow::Result<Option<Self>> {
        let arguments = [
            "--hardfork=osaka",
            &format!("--gas-limit={DEFAULT_GAS_LIMIT}"),
            &format!("--chain-id={DEFAULT_CHAIN_ID}"),
            "--no-mining",
            "--order=fifo",
            "--disable-default-create2-deployer",
            "--disable-min-priority-fee",
            "--enable-tx-gas-limit",
        ];
        let Some(anvil_process) = Anvil::start(&arguments).await? else { return Ok(None) };
        let config = ChainConfig {
            // Blocks are made when a test says so.
            mining: Mining::Interval(Duration::from_secs(86_400)),
            heartbeat: None,
            finality: Finality::Manual,
            coinbase: COINBASE,
            ..ChainConfig::default()
        };
        let (chain, ours) = embedded(config).await?;
        let anvil = Rpc::new("anvil", anvil_process.url())?;
        anvil.ask("anvil_setCoinbase", json!([COINBASE])).await?;
        Ok(Some(Self { ours, anvil, _chain: chain, _anvil: anvil_process }))
    }

    /// The same question to both, with equal answers.
    pub(crate) async fn same(
        &self,
        method: &'static str,
        params: Value,
        left_out: &[&str],
    ) -> anyhow::Result<Value> {
        let (ours, anvil) = self.both(method, params.clone()).await?;
        same(&format!("{method} {params}"), &ours, &anvil, left_out)?;
        Ok(ours)
    }

    async fn both(&self, method: &'static str, params: Value) -> anyhow::Result<(Value, Value)> {
        Ok((self.ours.ask(method, params.clone()).await?, self.anvil.ask(method, params).await?))
    }

    /// Sends transactions to both, which take them in.
    pub(crate) async fn send(&self, steps: &[Step]) -> anyhow::Result<()> {
        for step in steps {
            let answer = self.same("eth_sendRawTransaction", json!([step.raw]), &[]).await;
            let hash = answer.with_context(|| format!("{}: {:?}", step.plan.action, step.plan))?;
            ensure!(hash == json!(step.hash), "the transaction {} was answered with {hash}", step.hash);
        }
        Ok(())
    }

    /// Makes a block on both, with the same base fee and timestamp. Gives its number.
    pub(crate) async fn mine(&self) -> anyhow::Result<u64> {
        self.ours.ask("evm_mine", json!([])).await?;
        let header = self.ours.ask("eth_getBlockByNumber", json!(["latest", false])).await?;
        self.anvil.ask("anvil_setNextBlockBaseFeePerGas", json!([header["baseFeePerGas"]])).await?;
        self.anvil.ask("evm_setNextBlockTimestamp", json!([header["timestamp"]])).await?;
        self.anvil.ask("evm_mine", json!([])).await?;
        let number = header["number"].as_str().context("a number")?;
        Ok(u64::from_str_radix(number.trim_start_matches("0x"), 16)?)
    }

    /// Compares a block, its transactions, its receipts and its logs. Gives the receipts.
    pub(crate) async fn same_block(&self, number: u64) -> anyhow::Result<Vec<Value>> {
        let tag = format!("{number:#x}");
        let receipts = self.same("eth_getBlockReceipts", json!([tag]), OF_A_RECEIPT).await?;
        // A transaction has a hash as well, which is compared in its receipt and in the list of hashes.
        let left_out = [OF_A_BLOCK, OF_ITS_PLACE].concat();
        self.same("eth_getBlockByNumber", json!([tag, true]), &left_out).await?;
        self.same("eth_getBlockByNumber", json!([tag, false]), &left_out).await?;
        self.same("eth_getLogs", json!([{"fromBlock": tag, "toBlock": tag}]), OF_ITS_PLACE).await?;
        let receipts = receipts.as_array().context("receipts")?.clone();
        for receipt in &receipts {
            let hash = json!([receipt["transactionHash"]]);
            self.same("eth_getTransactionReceipt", hash.clone(), OF_A_RECEIPT).await?;
            self.same("eth_getTransactionByHash", hash, OF_ITS_PLACE).await?;
        }
        Ok(receipts)
    }

    /// Compares what becomes of a transaction if it is only called: returned data, or the kind of error with
    /// the data of a revert.
    pub(crate) async fn same_call(&self, step: &Step) -> anyhow::Result<()> {
        let mut call = json!({
            "from": step.from,
            "value": step.plan.value,
            "input": step.plan.input,
            "gas": format!("{:#x}", step.plan.gas),
        });
        if let Some(to) = step.plan.to.to() {
            call["to"] = json!(to);
        }
        let params = json!([call, "latest"]);
        let ours = self.ours.try_ask("eth_call", params.clone()).await?;
        let anvil = self.anvil.try_ask("eth_call", params.clone()).await?;
        match (&ours, &anvil) {
            (Ok(one), Ok(other)) => ensure!(one == other, "eth_call {params}: {one} and {other}"),
            (Err(one), Err(other)) => {
                ensure!(kind(one) == kind(other), "eth_call {params}: {one:?} and {other:?}");
            }
            _ => anyhow::bail!("eth_call {params}: {ours:?} and {anvil:?}"),
        }
        Ok(())
    }

    /// The slots that a transaction read or wrote, by account, as far as anvil's tracers tell.
    pub(crate) async fn touched_slots(&self, hash: B256) -> anyhow::Result<Vec<(Address, U256)>> {
        let mut touched = Vec::new();
        for differences in [false, true] {
            let tracer = json!({"tracer": "prestateTracer", "tracerConfig": {"diffMode": differences}});
            let answer = self.anvil.ask("debug_traceTransaction", json!([hash, tracer])).await?;
            let sides = if differences { vec![&answer["pre"], &answer["post"]] } else { vec![&answer] };
            for (account, state) in sides.into_iter().filter_map(Value::as_object).flatten() {
                let slots = state["storage"].as_object().into_iter().flat_map(|slots| slots.keys());
                for slot in slots {
                    touched.push((account.parse()?, slot.parse()?));
                }
            }
        }
        Ok(touched)
    }

    /// Compares an account, its code and storage, and verifies each chain's proof of it.
    pub(crate) async fn same_account(
        &self,
        account: Address,
        slots: &BTreeSet<U256>,
    ) -> anyhow::Result<Storage> {
        for method in ["eth_getBalance", "eth_getTransactionCount", "eth_getCode"] {
            self.same(method, json!([account, "latest"]), &[]).await?;
        }
        for slot in slots.iter().take(SLOTS_READ) {
            self.same("eth_getStorageAt", json!([account, slot, "latest"]), &[]).await?;
        }
        let keys: Vec<_> = slots.iter().map(|slot| B256::from(slot.to_be_bytes())).collect();
        let params = json!([account, keys, "latest"]);
        for rpc in [&self.ours, &self.anvil] {
            proven(rpc, params.clone()).await.with_context(|| format!("{}: {account}", rpc.name()))?;
        }
        // The path to the account leads through the state root, which differs; it was verified above.
        let (ours, mut anvil) = self.both("eth_getProof", params.clone()).await?;
        without_empty_nodes(&mut anvil);
        if ours["storageHash"] == anvil["storageHash"] {
            same(&format!("eth_getProof {params}"), &ours, &anvil, &["accountProof"])?;
            return Ok(Storage::Equal);
        }
        same(&format!("eth_getProof {params}"), &ours, &anvil, &["accountProof", "storageHash", "proof"])?;
        explained(&ours, &anvil)
    }
}

/// How the storage of an account compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Storage {
    /// Root and proof nodes, byte for byte.
    Equal,
    /// All values; the roots differ by the zeros that anvil keeps, and by nothing else.
    ButForZeros,
    /// All values that are known of; anvil keeps zeros in slots that its tracers don't tell.
    ButForUnknownZeros,
}

/// Slots of one account that are read one by one; every one is read with its proof.
const SLOTS_READ: usize = 12;

/// Anvil leaves a slot that was cleared, or only read, in its trie with a value of zero, where Ethereum has no
/// leaf. So both roots are computed again, from the values: with those zeros it must be anvil's, without them
/// the embedded chain's.
fn explained(ours: &Value, anvil: &Value) -> anyhow::Result<Storage> {
    let read = |answer: &Value| -> anyhow::Result<EIP1186AccountProofResponse> {
        Ok(serde_json::from_value(answer.clone())?)
    };
    let (ours, anvil) = (read(ours)?, read(anvil)?);
    let mut leaves = BTreeMap::new();
    for slot in &ours.storage_proof {
        leaves.insert(keccak256(slot.key.as_b256()), slot.value);
    }
    let without_zeros = root(leaves.iter().filter(|(_, value)| !value.is_zero()));
    for slot in &anvil.storage_proof {
        let path = Nibbles::unpack(keccak256(slot.key.as_b256()));
        let zero = Some(alloy_rlp::encode(U256::ZERO));
        if slot.value.is_zero() && verify_proof(anvil.storage_hash, path, zero, &slot.proof).is_err() {
            leaves.remove(&keccak256(slot.key.as_b256()));
        }
    }
    let with_zeros = root(leaves.iter());
    if (without_zeros, with_zeros) == (ours.storage_hash, anvil.storage_hash) {
        return Ok(Storage::ButForZeros);
    }
    // Not all slots are known: then the embedded chain's root can't be expected from them either.
    Ok(Storage::ButForUnknownZeros)
}

fn root<'a>(leaves: impl Iterator<Item = (&'a B256, &'a U256)>) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in leaves {
        builder.add_leaf(Nibbles::unpack(key), &alloy_rlp::encode(value));
    }
    builder.root()
}

/// An empty trie has no nodes to show; anvil shows the encoding of nothing (0x80), geth shows none.
fn without_empty_nodes(proof: &mut Value) {
    for slot in proof["storageProof"].as_array_mut().into_iter().flatten() {
        if slot["proof"] == json!(["0x80"]) {
            slot["proof"] = json!([]);
        }
    }
}

/// Whether a call was undone by the contract, with its data, or by the EVM.
fn kind(refusal: &Refusal) -> Option<&Value> {
    let reverted = refusal.code == 3 || refusal.message.contains("revert");
    reverted.then_some(refusal.data.as_ref()).flatten()
}

/// Verifies that `proof` shows this value at `key`, or none if it is an empty one. Anvil may show the empty value
/// itself: it keeps slots of zero, and accounts of nothing, that were once touched.
fn shown(
    rpc: &Rpc,
    root: B256,
    key: &B256,
    value: Vec<u8>,
    is_empty: bool,
    proof: &[Bytes],
) -> anyhow::Result<()> {
    let path = Nibbles::unpack(key);
    if is_empty && verify_proof(root, path, None, proof).is_ok() {
        return Ok(());
    }
    ensure!(!is_empty || rpc.name() == "anvil", "an empty value is not absent");
    Ok(verify_proof(root, path, Some(value), proof)?)
}

/// Verifies a chain's proofs against its own state root, with a verifier that is not ours.
pub(crate) async fn proven(rpc: &Rpc, params: Value) -> anyhow::Result<()> {
    let block = rpc.ask("eth_getBlockByNumber", json!([params[2], false])).await?;
    let root: B256 = serde_json::from_value(block["stateRoot"].clone())?;
    let answer: EIP1186AccountProofResponse = rpc.read("eth_getProof", params).await?;
    let account = TrieAccount::new(answer.nonce, answer.balance, answer.storage_hash, answer.code_hash);
    let encoded = alloy_rlp::encode(account);
    let is_absent = account == TrieAccount::default();
    shown(rpc, root, &keccak256(answer.address), encoded, is_absent, &answer.account_proof)
        .context("the account's proof")?;
    for slot in &answer.storage_proof {
        let (encoded, key) = (alloy_rlp::encode(slot.value), keccak256(slot.key.as_b256()));
        shown(rpc, answer.storage_hash, &key, encoded, slot.value.is_zero(), &slot.proof)
            .with_context(|| format!("the proof of slot {:?}", slot.key))?;
    }
    Ok(())
}

/// The slots that a receipt's logs say Registry wrote.
pub(crate) fn written_slots(receipt: &Value, registry: Address) -> impl Iterator<Item = U256> {
    let set = keccak256("Set(bytes32,bytes32)");
    let logs = receipt["logs"].as_array().cloned().unwrap_or_default();
    logs.into_iter()
        .filter(move |log| log["address"] == json!(registry) && log["topics"][0] == json!(set))
        .filter_map(|log| serde_json::from_value(log["topics"][1].clone()).ok())
        .map(|slot: B256| U256::from_be_bytes(slot.0))
}
