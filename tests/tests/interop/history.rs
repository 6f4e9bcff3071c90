//! Seeded histories of signed transactions: every type, the four contracts and what the EVM can do wrong.
//!
//! Owns what is sent and in which order, not what should come of it: two chains tell that to each other. The
//! same seed gives the same transactions, byte for byte.

use crate::assembler;
use crate::registry::Operations;
use crate::script;
use alloy::consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEip7702, TxEnvelope, TxLegacy};
use alloy::eips::Encodable2718;
use alloy::eips::eip2930::{AccessList, AccessListItem};
use alloy::eips::eip7702::{Authorization, SignedAuthorization};
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use windlass_testnet::chain::{DEFAULT_CHAIN_ID, DEV_ACCOUNTS};

/// Accounts that send; the last one deploys the four contracts and owns everything in them.
pub(crate) const SENDERS: usize = 6;
/// Wei per gas that every transaction can pay: above any base fee of these histories.
pub(crate) const MAX_FEE: u128 = 10_000_000_000;

/// A transaction before it is signed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What it is there for.
    pub(crate) action: &'static str,
    /// Place of its sender.
    pub(crate) sender: usize,
    /// Whom it calls, or nobody to create a contract.
    pub(crate) to: TxKind,
    /// Wei it hands over.
    pub(crate) value: U256,
    /// Its calldata or creation code.
    pub(crate) input: Bytes,
    /// Its gas limit.
    pub(crate) gas: u64,
    /// Whose code it delegates to what (EIP-7702), with the nonce that is signed.
    pub(crate) delegations: Vec<(usize, Address, u64)>,
}

impl Plan {
    /// A call with plenty of gas.
    pub(crate) fn call(action: &'static str, sender: usize, to: Address, input: impl Into<Bytes>) -> Self {
        let (to, input) = (TxKind::Call(to), input.into());
        Self { action, sender, to, value: U256::ZERO, input, gas: 600_000, delegations: Vec::new() }
    }

    /// A creation with plenty of gas.
    pub(crate) fn create(action: &'static str, sender: usize, code: Bytes) -> Self {
        let plan = Self::call(action, sender, Address::ZERO, code);
        Self { to: TxKind::Create, gas: 8_000_000, ..plan }
    }

    /// The same with this value.
    pub(crate) fn paying(self, value: u64) -> Self {
        Self { value: U256::from(value), ..self }
    }

    /// The same with this gas limit.
    pub(crate) fn with_gas(self, gas: u64) -> Self {
        Self { gas, ..self }
    }
}

/// A signed transaction, and what is known about it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// What it was planned as.
    pub(crate) plan: Plan,
    /// Its encoding (EIP-2718).
    pub(crate) raw: Bytes,
    /// Its hash.
    pub(crate) hash: B256,
    /// Its sender.
    pub(crate) from: Address,
    /// Accounts that it may change.
    pub(crate) touched: BTreeSet<Address>,
}

/// A history being made.
#[derive(Debug)]
pub(crate) struct History {
    rng: StdRng,
    keys: Vec<PrivateKeySigner>,
    nonces: Vec<u64>,
    delegators: Vec<PrivateKeySigner>,
    delegator_nonces: Vec<u64>,
    known: Vec<Address>,
    writers: Vec<Address>,
    echo: Address,
    factory: Address,
    destroyer: Address,
    operations: Operations,
    /// Slots known to be or to have been in use, of each account.
    pub(crate) slots: BTreeMap<Address, BTreeSet<U256>>,
    /// How many transactions of each action were made.
    pub(crate) tally: BTreeMap<&'static str, u64>,
}

impl History {
    /// The history of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let keys: Vec<_> = DEV_ACCOUNTS[..SENDERS]
            .iter()
            .map(|account| PrivateKeySigner::from_bytes(&account.key).expect("a valid key"))
            .collect();
        let delegators: Vec<_> = (0..3).map(|_| random_key(&mut rng)).collect();
        let deployer = keys[SENDERS - 1].address();
        let first = keys[0].address();
        let made = |nonce| first.create(nonce);
        Self {
            operations: Operations::new(SENDERS - 1, deployer),
            nonces: vec![0; SENDERS],
            delegator_nonces: vec![0; delegators.len()],
            known: keys.iter().chain(&delegators).map(PrivateKeySigner::address).collect(),
            writers: vec![made(0)],
            echo: made(1),
            factory: made(2),
            destroyer: made(3),
            keys,
            delegators,
            rng,
            slots: BTreeMap::new(),
            tally: BTreeMap::new(),
        }
    }

    /// Where Registry is.
    pub(crate) fn registry(&self) -> Address {
        self.operations.contracts()[0]
    }

    /// The first block: the contracts that the rest uses.
    pub(crate) fn foundations(&mut self) -> Vec<Step> {
        let contracts =
            [assembler::writer(), assembler::echo(), assembler::factory(), assembler::destroyer()];
        let mut plans: Vec<_> = contracts
            .iter()
            .map(|code| Plan::create("deploy a small contract", 0, code.clone().creation()))
            .collect();
        // Anvil counts an account that was never used as one that exists, and refunds a delegation's price where
        // EIP-7702 doesn't: these exist.
        let delegators = self.delegators.iter().map(PrivateKeySigner::address);
        plans.extend(delegators.map(|account| Plan::call("transfer", 0, account, Bytes::new()).paying(1)));
        plans.extend(self.operations.deployments());
        self.known.extend([self.writers[0], self.echo, self.factory, self.destroyer]);
        self.known.extend(self.operations.contracts());
        plans.into_iter().map(|plan| self.sign(plan)).collect()
    }

    /// The next block's transactions, for a block with about this time.
    pub(crate) fn block(&mut self, transactions: usize) -> Vec<Step> {
        (0..transactions)
            .map(|_| {
                let plan = self.plan();
                self.sign(plan)
            })
            .collect()
    }

    fn plan(&mut self) -> Plan {
        let sender = self.rng.random_range(0..SENDERS - 1);
        match self.rng.random_range(0..34) {
            0..=2 => self.transfer(sender),
            3..=6 => self.write(sender),
            7 | 8 => self.echo(sender),
            9..=11 => self.create2(sender),
            12 => self.destroy(sender),
            13..=15 => self.precompile(sender),
            16 => Plan::create("run out of gas", sender, assembler::endless())
                .with_gas(self.rng.random_range(60_000..400_000)),
            17 => self.short_of_gas(sender),
            18..=20 => self.delegate(sender),
            21..=26 => {
                let code = script::random(&mut self.rng, &self.known);
                let value = self.rng.random_range(0..4);
                Plan::create("run a random program", sender, code).paying(value).with_gas(900_000)
            }
            _ => self.operations.next(&mut self.rng),
        }
    }

    fn transfer(&mut self, sender: usize) -> Plan {
        let to = match self.rng.random_range(0..4) {
            0 => Address::from(self.rng.random::<[u8; 20]>()),
            1 => Address::with_last_byte(self.rng.random_range(0..=0x12)),
            _ => *self.known.choose(&mut self.rng).expect("somebody is known"),
        };
        let value = if self.rng.random_range(0..5) == 0 { 0 } else { self.rng.random_range(0..1 << 40) };
        Plan::call("transfer", sender, to, Bytes::new()).paying(value).with_gas(120_000)
    }

    fn write(&mut self, sender: usize) -> Plan {
        let writer = *self.writers.choose(&mut self.rng).expect("one is deployed first");
        let pairs: Vec<_> = (0..self.rng.random_range(1..12)).map(|_| self.pair(writer)).collect();
        Plan::call("set and clear slots", sender, writer, pairs.concat())
    }

    /// A slot of few, so that many are set again or cleared, and its value.
    fn pair(&mut self, account: Address) -> Vec<u8> {
        let slot = match self.rng.random_range(0..3) {
            0 => U256::from(self.rng.random_range(0..8u8)),
            1 => U256::from_be_bytes(keccak256([self.rng.random_range(0..40u8)]).0),
            _ => U256::MAX - U256::from(self.rng.random_range(0..4u8)),
        };
        let value = match self.rng.random_range(0..5) {
            0 | 1 => U256::ZERO,
            2 => U256::from(self.rng.random::<u8>()),
            _ => U256::from_be_bytes(self.rng.random::<[u8; 32]>()),
        };
        self.slots.entry(account).or_default().insert(slot);
        [slot.to_be_bytes::<32>(), value.to_be_bytes::<32>()].concat()
    }

    fn echo(&mut self, sender: usize) -> Plan {
        let mut input = vec![0; self.rng.random_range(0..300)];
        self.rng.fill(&mut input[..]);
        Plan::call("log or revert", sender, self.echo, input).paying(self.rng.random_range(0..2))
    }

    fn create2(&mut self, sender: usize) -> Plan {
        let salt = B256::with_last_byte(self.rng.random_range(0..3));
        let code = match self.rng.random_range(0..3) {
            0 => assembler::writer().creation(),
            1 => assembler::Code::default().push_address(self.known[0]).ops(&[0xff]).into_bytes(),
            _ => script::random(&mut self.rng, &self.known),
        };
        let made = self.factory.create2_from_code(salt, &code);
        if code == assembler::writer().creation() && !self.writers.contains(&made) {
            self.writers.push(made);
        }
        let input = [salt.as_slice(), &code].concat();
        Plan::call("create at a chosen address", sender, self.factory, input)
            .paying(self.rng.random_range(0..2))
            .with_gas(1_500_000)
    }

    fn destroy(&mut self, sender: usize) -> Plan {
        let heir = *self.known.choose(&mut self.rng).expect("somebody is known");
        let heir = if self.rng.random() { heir } else { self.destroyer };
        Plan::call("destroy a contract", sender, self.destroyer, heir.into_word().to_vec())
            .paying(self.rng.random_range(0..1_000))
    }

    fn precompile(&mut self, sender: usize) -> Plan {
        let address = *[1, 2, 3, 4, 5, 6, 7, 8, 9, 0x0a, 0x0b, 0x0c, 0x0f, 0x10, 0x11, 0x100]
            .choose(&mut self.rng)
            .expect("not empty");
        let input = self.precompile_input(address);
        Plan::create("ask a precompiled contract", sender, assembler::ask_precompile(address, &input))
            .with_gas(3_000_000)
    }

    /// Input that the contract can make something of, or else noise.
    fn precompile_input(&mut self, address: u64) -> Vec<u8> {
        let mut input = vec![0; self.rng.random_range(0..260)];
        self.rng.fill(&mut input[..]);
        match address {
            1 => {
                let digest = B256::from(self.rng.random::<[u8; 32]>());
                let signature = self.keys[0].sign_hash_sync(&digest).expect("signing works");
                let v = U256::from(27 + u8::from(signature.v()));
                let words = [v, signature.r(), signature.s()].map(|word| word.to_be_bytes::<32>());
                [digest.as_slice(), &words.concat()].concat()
            }
            5 => {
                // Three lengths, then base, exponent and modulus.
                let lengths = [7u64, 3, 9].map(|length| U256::from(length).to_be_bytes::<32>()).concat();
                input.resize(19, 7);
                [lengths, input].concat()
            }
            // The point (1, 2) lies on the curve.
            6 | 7 => [U256::from(1), U256::from(2), U256::from(self.rng.random_range(1..3)), U256::from(2)]
                .map(|word| word.to_be_bytes::<32>())
                .concat(),
            9 => {
                input.resize(213, 1);
                input[..4].copy_from_slice(&12u32.to_be_bytes());
                input[212] = self.rng.random_range(0..3);
                input
            }
            _ => input,
        }
    }

    /// A call that has enough gas to be taken in and too little to end well.
    fn short_of_gas(&mut self, sender: usize) -> Plan {
        // More than calldata and access list cost at most, less than most writes do.
        let gas = self.rng.random_range(56_000..75_000);
        Plan { action: "have too little gas", gas, ..self.write(sender) }
    }

    /// Hands an account's code to a writer, or takes it back, and calls the account.
    fn delegate(&mut self, sender: usize) -> Plan {
        let delegator = self.rng.random_range(0..self.delegators.len());
        let account = self.delegators[delegator].address();
        let target = match self.rng.random_range(0..5) {
            0 => Address::ZERO,
            1 => self.echo,
            _ => self.writers[0],
        };
        let nonce = self.delegator_nonces[delegator];
        // A wrong nonce makes the authorization void, not the transaction.
        let valid = self.rng.random_range(0..5) != 0;
        let delegations = vec![(delegator, target, if valid { nonce } else { nonce + 1 })];
        self.delegator_nonces[delegator] += u64::from(valid);
        let pair = self.pair(account);
        Plan { delegations, ..Plan::call("delegate an account", sender, account, pair) }
    }

    /// Signs a plan as the sender's next transaction.
    pub(crate) fn sign(&mut self, plan: Plan) -> Step {
        let nonce = self.nonces[plan.sender];
        self.nonces[plan.sender] += 1;
        *self.tally.entry(plan.action).or_default() += 1;
        let raw = self.envelope(&plan, nonce).encoded_2718();
        let from = self.keys[plan.sender].address();
        let mut touched = BTreeSet::from([from]);
        touched.extend(plan.to.to());
        touched.extend(plan.delegations.iter().map(|(delegator, ..)| self.delegators[*delegator].address()));
        if plan.to.is_create() {
            let made = from.create(nonce);
            // What a program creates in turn.
            touched.extend([made, made.create(1), made.create(2)]);
        }
        if plan.to == TxKind::Call(self.factory) && plan.input.len() >= 32 {
            let made = self.factory.create2_from_code(B256::from_slice(&plan.input[..32]), &plan.input[32..]);
            touched.extend([made, made.create(1), made.create(2)]);
        }
        Step { hash: keccak256(&raw), raw: raw.into(), from, touched, plan }
    }

    fn envelope(&mut self, plan: &Plan, nonce: u64) -> TxEnvelope {
        let (gas_limit, to, value) = (plan.gas, plan.to, plan.value);
        let (input, key) = (plan.input.clone(), self.keys[plan.sender].clone());
        let (chain_id, max_fee_per_gas) = (DEFAULT_CHAIN_ID, MAX_FEE);
        let max_priority_fee_per_gas = self.rng.random_range(0..=MAX_FEE / 5);
        let gas_price = MAX_FEE - max_priority_fee_per_gas;
        if let (Some(to), false) = (to.to().copied(), plan.delegations.is_empty()) {
            let authorization_list = plan.delegations.iter().map(|terms| self.authorize(*terms)).collect();
            let access_list = AccessList::default();
            return seal(
                TxEip7702 {
                    chain_id,
                    nonce,
                    gas_limit,
                    max_fee_per_gas,
                    max_priority_fee_per_gas,
                    to,
                    value,
                    access_list,
                    authorization_list,
                    input,
                },
                &key,
            );
        }
        match self.rng.random_range(0..6) {
            // Without a chain id, as before EIP-155.
            0 => seal(TxLegacy { chain_id: None, nonce, gas_price, gas_limit, to, value, input }, &key),
            1 => seal(
                TxLegacy { chain_id: Some(chain_id), nonce, gas_price, gas_limit, to, value, input },
                &key,
            ),
            2 => {
                let access_list = self.access_list();
                seal(TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, access_list, input }, &key)
            }
            _ => {
                let access_list =
                    if self.rng.random_range(0..3) == 0 { self.access_list() } else { AccessList::default() };
                seal(
                    TxEip1559 {
                        chain_id,
                        nonce,
                        gas_limit,
                        max_fee_per_gas,
                        max_priority_fee_per_gas,
                        to,
                        value,
                        access_list,
                        input,
                    },
                    &key,
                )
            }
        }
    }

    fn access_list(&mut self) -> AccessList {
        let mut item = || {
            let address = *self.known.choose(&mut self.rng).expect("somebody is known");
            let slots = self.rng.random_range(0..4);
            let storage_keys =
                (0..slots).map(|_| B256::with_last_byte(self.rng.random_range(0..8))).collect();
            AccessListItem { address, storage_keys }
        };
        AccessList(vec![item(), item()])
    }

    fn authorize(&self, (delegator, address, nonce): (usize, Address, u64)) -> SignedAuthorization {
        let authorization = Authorization { chain_id: U256::from(DEFAULT_CHAIN_ID), address, nonce };
        let digest = authorization.signature_hash();
        let signature = self.delegators[delegator].sign_hash_sync(&digest).expect("signing works");
        authorization.into_signed(signature)
    }
}

/// Signs a transaction of any type.
pub(crate) fn seal<T>(transaction: T, key: &PrivateKeySigner) -> TxEnvelope
where
    T: SignableTransaction<alloy::primitives::Signature>,
    TxEnvelope: From<alloy::consensus::Signed<T>>,
{
    let signature = key.sign_hash_sync(&transaction.signature_hash()).expect("signing works");
    transaction.into_signed(signature).into()
}

/// A key that nobody else has.
pub(crate) fn random_key(rng: &mut StdRng) -> PrivateKeySigner {
    loop {
        // All but a handful of 2^256 values are keys.
        if let Ok(key) = PrivateKeySigner::from_bytes(&B256::from(rng.random::<[u8; 32]>())) {
            return key;
        }
    }
}
