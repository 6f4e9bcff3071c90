//! A node's mirror of a Registry on anvil: random histories with reorgs and reverts, followed as a node follows any chain.
//!
//! What anvil itself says of each slot is the model. Anvil keeps a slot that was read as empty, or cleared, as a leaf of
//! zero in the storage trie, so that its roots are Ethereum's only while nothing is. So there are two histories: one in
//! which every slot that is touched is written and stays, mirrored with account proofs, so that the follower compares
//! each root; and one of everything the four contracts do, mirrored without, in which the values are compared and the
//! root is computed from them. Every height that is mirrored is final: reorgs stay above it, as on an honest chain.

use crate::history::Plan;
use crate::registry::Operations;
use crate::rpc::Rpc;
use alloy::primitives::aliases::{U40, U48};
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy::sol_types::SolCall;
use alloy_trie::{HashBuilder, Nibbles};
use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use windlass_contracts::abi::registry::{IGrants, Registry};
use windlass_node::chain::Providers;
use windlass_node::follower::Follower;
use windlass_node::store::{Store, View};
use windlass_protocol::SecretKey;
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::{
    ChainSpec, ContractPin, Contracts, FinalityRule, Fraction, SignedSpec, VerifiedSpec, verify_spec,
};
use windlass_testnet::chain::DEFAULT_CHAIN_ID;
use windlass_tests::peers::Anvil;

/// What happens in one history, each followed by a look at the mirror.
const STEPS: usize = 110;
/// Blocks that anvil calls final are this far behind its newest: twice the slots of an epoch.
const NOT_FINAL: u64 = 8;
/// Slots that are compared after each step; at the end all are.
const COMPARED: usize = 12;
/// Rounds of following after which the mirror must have what is final.
const ROUNDS: usize = 6;
/// An interval between attestable heights that none is a multiple of.
const NEVER: u64 = 1 << 60;

/// Whether a history leaves a storage trie that anvil has the root of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Fleets, grants and policy epochs: what is touched is written, and what is written stays.
    Growing,
    /// Whatever the four contracts do.
    Everything,
}

/// What may happen, and how often it did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    transactions: u64,
    reorgs: u64,
    reverts: u64,
    restarts: u64,
    /// Slots that the mirror and anvil were both asked for.
    compared: u64,
    /// Of these those that hold nothing.
    empty: u64,
}

/// Anvil, and a mirror of its Registry.
struct World {
    kind: Kind,
    rng: StdRng,
    /// Chooses what is compared: which slots there are may hang on anvil's clock, what happens may not.
    chooser: StdRng,
    rpc: Rpc,
    _anvil: Anvil,
    spec: Arc<VerifiedSpec>,
    source: Arc<Providers>,
    directory: tempfile::TempDir,
    follower: Option<(Follower<Providers>, Arc<Store>)>,
    operator: Address,
    operations: Operations,
    /// Slots that were ever written, in a block that stayed or in one that didn't.
    slots: BTreeSet<B256>,
    tally: Tally,
}

impl World {
    /// The four contracts on a new anvil; `None`, said aloud, where there is none.
    async fn start(kind: Kind, seed: u64) -> anyhow::Result<Option<Self>> {
        let arguments = [
            "--no-mining",
            "--order=fifo",
            "--hardfork=osaka",
            &format!("--slots-in-an-epoch={}", NOT_FINAL / 2),
            &format!("--chain-id={DEFAULT_CHAIN_ID}"),
            "--gas-limit=60000000",
        ];
        let Some(anvil) = Anvil::start(&arguments).await? else { return Ok(None) };
        let rpc = Rpc::new("anvil", anvil.url())?;
        let operator: Address = rpc.read::<Vec<Address>>("eth_accounts", json!([])).await?[0];
        let operations = Operations::new(0, operator);
        for plan in operations.deployments() {
            send(&rpc, operator, &plan).await?;
            rpc.ask("evm_mine", json!([])).await?;
        }
        let spec = Arc::new(spec(kind, &rpc, operations.contracts()[0]).await?);
        let source = Arc::new(Providers::new(&[anvil.url().to_owned()], &spec)?);
        let mut world = Self {
            kind,
            rng: StdRng::seed_from_u64(seed),
            chooser: StdRng::seed_from_u64(seed),
            rpc,
            _anvil: anvil,
            spec,
            source,
            directory: tempfile::tempdir()?,
            follower: None,
            operator,
            operations,
            slots: BTreeSet::new(),
            tally: Tally::default(),
        };
        world.restart()?;
        world.mine(NOT_FINAL).await?;
        Ok(Some(world))
    }

    /// A node that is started again on its directory.
    fn restart(&mut self) -> anyhow::Result<()> {
        self.follower = None;
        let store = Arc::new(Store::open(self.directory.path(), &self.spec)?);
        let follower = Follower::new(self.source.clone(), store.clone(), self.spec.clone())?;
        self.follower = Some((follower, store));
        Ok(())
    }

    async fn height(&self) -> anyhow::Result<u64> {
        Ok(self.rpc.read::<U256>("eth_blockNumber", json!([])).await?.to())
    }

    /// So many blocks, the first with what was sent.
    async fn mine(&mut self, blocks: u64) -> anyhow::Result<()> {
        let first = self.height().await? + 1;
        for _ in 0..blocks {
            self.rpc.ask("evm_mine", json!([])).await?;
        }
        self.note(first).await
    }

    /// Notes which slots were written from this block on.
    async fn note(&mut self, first: u64) -> anyhow::Result<()> {
        let filter = json!([{
            "fromBlock": format!("{first:#x}"),
            "toBlock": "latest",
            "address": self.spec.contracts.registry.address,
            "topics": [keccak256("Set(bytes32,bytes32)")],
        }]);
        let logs: Vec<Value> = self.rpc.read("eth_getLogs", filter).await?;
        for log in logs {
            self.slots.insert(serde_json::from_value(log["topics"][1].clone())?);
        }
        Ok(())
    }

    /// What anvil says that a slot holds after a block.
    async fn stored(&self, slot: B256, number: u64) -> anyhow::Result<B256> {
        let registry = self.spec.contracts.registry.address;
        self.rpc.read("eth_getStorageAt", json!([registry, slot, format!("{number:#x}")])).await
    }

    /// What the operator does next, on top of this block.
    async fn plan(&mut self, number: u64) -> anyhow::Result<Plan> {
        if self.kind == Kind::Everything {
            return Ok(self.operations.next(&mut self.rng));
        }
        let registry = self.spec.contracts.registry.address;
        let call = |action, input: Vec<u8>| Plan::call(action, 0, registry, input).with_gas(3_000_000);
        // One that fails would leave behind what it read.
        let fleets =
            U256::from_be_bytes(self.stored(Slot::FleetCount.storage_key(), number).await?.0).to::<u64>();
        if fleets == 0 || self.rng.random_ratio(1, 4) {
            return Ok(call("create a fleet", Registry::createFleetCall { flags: 0 }.abi_encode()));
        }
        let number = U48::from(self.rng.random_range(1..=fleets));
        Ok(match self.rng.random_range(0..6) {
            0 => call("void all grants", Registry::bumpPolicyEpochCall { number }.abi_encode()),
            1 => {
                let operator = Address::from(self.rng.random::<[u8; 20]>());
                call("propose an operator", Registry::proposeOperatorCall { number, operator }.abi_encode())
            }
            _ => {
                // Few enough for many to be written again.
                let mut terms = || {
                    let h = B256::repeat_byte(self.rng.random_range(0..40));
                    let expiry = U40::MAX - U40::from(self.rng.random_range(0..1_000_u64));
                    IGrants::GrantTerms { h, expiry, rights: 1 }
                };
                let batch = vec![terms(), terms(), terms()];
                call("grant many", Registry::grantBatchCall { number, batch }.abi_encode())
            }
        })
    }

    /// Sends a few transactions, and makes the blocks that hold them.
    async fn act(&mut self, blocks: u64) -> anyhow::Result<()> {
        let number = self.height().await?;
        for _ in 0..self.rng.random_range(1..5) {
            let plan = self.plan(number).await?;
            send(&self.rpc, self.operator, &plan).await?;
            self.tally.transactions += 1;
        }
        self.mine(blocks).await
    }

    /// One thing that happens to the chain, or to the node.
    async fn step(&mut self) -> anyhow::Result<()> {
        match self.rng.random_range(0..10) {
            0..5 => {
                let blocks = self.rng.random_range(1..4);
                self.act(blocks).await
            }
            // The same height again, with other blocks.
            5 | 6 => {
                self.tally.reorgs += 1;
                let (depth, height) = (self.rng.random_range(1..NOT_FINAL), self.height().await?);
                let plan = self.plan(height - depth).await?;
                let transaction = request(self.operator, &plan);
                self.tally.transactions += 1;
                self.rpc.ask("anvil_reorg", json!([depth, [[transaction, 0]]])).await?;
                ensure!(self.height().await? == height, "anvil_reorg keeps the height");
                self.note(height + 1 - depth).await?;
                self.mine(1).await
            }
            // Back to a former state, and on from there another way.
            7 | 8 => {
                self.tally.reverts += 1;
                let before = self.rpc.ask("evm_snapshot", json!([])).await?;
                let blocks = self.rng.random_range(1..NOT_FINAL);
                self.act(blocks).await?;
                self.follow_some().await?;
                let undone = self.rpc.ask("evm_revert", json!([before])).await?;
                ensure!(undone == json!(true), "evm_revert {before}");
                // Longer than what was taken back: it is the canonical chain now.
                self.act(blocks + 1).await
            }
            _ => {
                self.tally.restarts += 1;
                self.restart()
            }
        }
    }

    /// One round, at whose end the mirror may be anywhere up to what is final.
    async fn follow_some(&mut self) -> anyhow::Result<()> {
        let (follower, _) = self.follower.as_mut().context("it runs")?;
        Ok(follower.step().await?)
    }

    /// Follows until the mirror has all that is final, and compares it with what anvil says of `compared` slots there.
    async fn check(&mut self, compared: usize) -> anyhow::Result<()> {
        let target = self.height().await? - NOT_FINAL;
        for _ in 0..ROUNDS {
            self.follow_some().await?;
            if self.base()? >= target {
                break;
            }
        }
        // A state that was gone back to may be further behind than what is mirrored already.
        let base = self.base()?;
        ensure!(base >= target, "block {target} is final, the mirror is at {base} after {ROUNDS} rounds");
        let slots: Vec<B256> = self.slots.iter().copied().collect();
        let chosen = rand::seq::index::sample(&mut self.chooser, slots.len(), compared.min(slots.len()));
        for slot in chosen.iter().map(|index| slots[index]) {
            let theirs = self.stored(slot, base).await?;
            let ours = self.view(|view| Ok(view.value(&slot)?))?;
            ensure!(ours == theirs, "slot {slot} at block {base}: {ours} in the mirror, {theirs} on anvil");
            self.tally.compared += 1;
            self.tally.empty += u64::from(ours.is_zero());
        }
        Ok(())
    }

    fn base(&self) -> anyhow::Result<u64> {
        let (_, store) = self.follower.as_ref().context("it runs")?;
        Ok(store.cursor()?.map_or(0, |cursor| cursor.number))
    }

    fn view<T>(&self, read: impl FnOnce(&View<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let (_, store) = self.follower.as_ref().context("it runs")?;
        let view = View::new(store, self.base()?, store.generation());
        let found = read(&view)?;
        view.check()?;
        Ok(found)
    }

    /// Every slot that was ever written, and the root over them all.
    async fn check_all(&mut self) -> anyhow::Result<()> {
        self.check(usize::MAX).await?;
        let base = self.base()?;
        let mut leaves = BTreeMap::new();
        for slot in &self.slots {
            let value = U256::from_be_bytes(self.stored(*slot, base).await?.0);
            if !value.is_zero() {
                leaves.insert(keccak256(slot), alloy_rlp::encode(value));
            }
        }
        let mut builder = HashBuilder::default();
        leaves.iter().for_each(|(key, value)| builder.add_leaf(Nibbles::unpack(key), value));
        let (ours, theirs) = (self.view(|view| Ok(view.root()?))?, builder.root());
        ensure!(
            ours == theirs,
            "the mirror's root at block {base} is {ours}, that of anvil's values {theirs}"
        );
        ensure!(
            self.proven()? == (self.kind == Kind::Growing),
            "account proofs are kept where roots are compared"
        );
        Ok(())
    }

    /// Whether the mirror's newest height has an account proof: then its root was compared with anvil's.
    fn proven(&self) -> anyhow::Result<bool> {
        let (_, store) = self.follower.as_ref().context("it runs")?;
        Ok(store.last_proven_height()? == Some(self.base()?))
    }
}

fn request(from: Address, plan: &Plan) -> Value {
    let mut request = json!({
        "from": from,
        "value": plan.value,
        "input": plan.input,
        "gas": format!("{:#x}", plan.gas),
    });
    if let TxKind::Call(to) = plan.to {
        request["to"] = json!(to);
    }
    request
}

async fn send(rpc: &Rpc, from: Address, plan: &Plan) -> anyhow::Result<()> {
    rpc.ask("eth_sendTransaction", json!([request(from, plan)])).await?;
    Ok(())
}

/// A chain spec of what is deployed on this anvil, for a mirror with account proofs or without.
async fn spec(kind: Kind, rpc: &Rpc, registry: Address) -> anyhow::Result<VerifiedSpec> {
    let genesis: Value = rpc.ask("eth_getBlockByNumber", json!(["0x0", false])).await?;
    let code: Bytes = rpc.read("eth_getCode", json!([registry, "latest"])).await?;
    ensure!(!code.is_empty(), "there is no Registry at {registry}");
    let key = SecretKey::from_bytes(&[7; 32])?;
    let spec = ChainSpec {
        version: 1,
        chain_id: DEFAULT_CHAIN_ID,
        genesis_hash: serde_json::from_value(genesis["hash"].clone())?,
        contracts: Contracts {
            registry: ContractPin { address: registry, code_hash: keccak256(code) },
            ..Contracts::default()
        },
        deploy_block: 1,
        committee: vec![key.address().0],
        head_interval: if kind == Kind::Growing { 1 } else { NEVER },
        finality: FinalityRule::Tag,
        max_finality_lag: 1 << 32,
        trusting_period: 1 << 32,
        epoch_length: 86_400,
        stake_age: 0,
        unbonding_period: 0,
        fault_fraction: Fraction { numerator: 1, denominator: 2 },
        dev: true,
        date: 0,
    };
    Ok(verify_spec(&SignedSpec::sign(&spec, &key).to_bytes(), key.address())?)
}

async fn history(kind: Kind, seed: u64) -> anyhow::Result<()> {
    let Some(mut world) = World::start(kind, seed).await? else { return Ok(()) };
    for number in 0..STEPS {
        let step = async {
            world.step().await?;
            world.check(COMPARED).await
        };
        step.await.with_context(|| format!("step {number} of the history of seed {seed}"))?;
    }
    world.mine(NOT_FINAL).await?;
    world.check_all().await.with_context(|| format!("after the history of seed {seed}"))?;
    println!("seed {seed}: {:?}, {} slots", world.tally, world.slots.len());
    let Tally { transactions, reorgs, reverts, restarts, compared, empty } = world.tally;
    ensure!(transactions > 150 && compared > 700, "the history did something");
    ensure!(reorgs > 8 && reverts > 8 && restarts > 2, "of everything something happened");
    ensure!(kind == Kind::Growing || empty > 20, "slots were cleared, or never came to be");
    Ok(())
}

/// The follower compares the root at each height with the account proof that anvil gives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_of_anvil_through_reorgs_has_its_roots_while_every_slot_stays() -> anyhow::Result<()> {
    history(Kind::Growing, 5).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_of_anvil_through_reorgs_has_its_values_whatever_the_contracts_do() -> anyhow::Result<()> {
    history(Kind::Everything, 6).await
}
