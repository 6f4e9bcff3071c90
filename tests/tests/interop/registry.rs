//! Real operations on the four contracts, most of which succeed.
//!
//! Owns a rough idea of who is enrolled where, only to make sensible calls; whether one reverts is for the
//! contracts to say. `anchor` is never called: it stores a block hash, which two chains can't share.

use crate::history::{Plan, random_key};
use alloy::primitives::aliases::{U40, U48, U96};
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{Eip712Domain, SolCall, SolStruct, SolValue};
use rand::Rng;
use rand::rngs::StdRng;
use windlass_contracts::abi::name_registrar::NameRegistrar;
use windlass_contracts::abi::node_staking::{self as staking_abi, NodeStaking};
use windlass_contracts::abi::registry::{self as registry_abi, IDevices, IGrants, Registry};
use windlass_contracts::abi::settlement::Settlement;
use windlass_contracts::{Addresses, Deployable, name_registrar, node_staking, settlement};
use windlass_testnet::chain::DEFAULT_CHAIN_ID;

mod eip712 {
    alloy::sol! {
        struct Enrol { address device; uint48 fleet; address operator; uint40 validUntil; uint40 deadline; }
        struct Rotate { address device; address oldKey; address newKey; uint40 deadline; }
        struct RegisterNode { address node; address owner; uint40 deadline; }
    }
}

/// The latest time there is: no expiry.
const FOREVER: U40 = U40::MAX;
/// Wei per year for a name: one per second, so that the fee of a duration is its seconds.
const YEARLY_FEE: u64 = 365 * 24 * 3_600;
/// Seconds for which a name is registered.
const NAME_SECONDS: u64 = 90_000;
/// The least stake, in wei.
const STAKE: u64 = 1_000;

/// What has been done so far, and the next thing to do.
#[derive(Debug)]
pub(crate) struct Operations {
    sender: usize,
    operator: Address,
    at: Addresses,
    fleets: u64,
    /// Enrolled devices: id and current key.
    devices: Vec<(Address, PrivateKeySigner)>,
    grants: Vec<(u64, B256)>,
    /// Labels that were committed to and wait for their registration.
    committed: Vec<String>,
    names: Vec<String>,
    nodes: Vec<Address>,
    channels: Vec<(u64, Address)>,
}

impl Operations {
    /// Nothing done yet; `operator` is the account that does everything.
    pub(crate) fn new(sender: usize, operator: Address) -> Self {
        let at = Addresses::predict(operator, 0);
        Self {
            sender,
            operator,
            at,
            fleets: 0,
            devices: Vec::new(),
            grants: Vec::new(),
            committed: Vec::new(),
            names: Vec::new(),
            nodes: Vec::new(),
            channels: Vec::new(),
        }
    }

    /// Where the four contracts are.
    pub(crate) fn contracts(&self) -> [Address; 4] {
        [self.at.registry, self.at.name_registrar, self.at.node_staking, self.at.settlement]
    }

    /// Creating the four contracts, from the committed artifacts.
    pub(crate) fn deployments(&self) -> Vec<Plan> {
        let registry = self.at.registry;
        let fee = U96::from(YEARLY_FEE);
        let names = name_registrar::Terms {
            registry,
            treasury: Address::repeat_byte(0x77),
            min_age: 1,
            max_age: 86_400,
            grace: 1_000,
            fee_three: fee,
            fee_four: fee,
            fee_five: fee,
        };
        let staking = node_staking::Terms {
            registry,
            // Any will do: the chains have two, and no head is reported here.
            genesis_hash: B256::repeat_byte(0x11),
            header_numbers: true,
            min_stake: U96::from(STAKE),
            epoch_length: 60,
            staked_age: 10,
            unbonding_age: 100,
        };
        let codes = [
            self.at.registry_terms(Address::ZERO).creation_code(),
            names.creation_code(),
            staking.creation_code(),
            settlement::Terms { registry }.creation_code(),
        ];
        codes.into_iter().map(|code| Plan::create("deploy one of the four", self.sender, code)).collect()
    }

    /// The next operation.
    pub(crate) fn next(&mut self, rng: &mut StdRng) -> Plan {
        if self.fleets == 0 {
            return self.create_fleet(rng);
        }
        match rng.random_range(0..20) {
            0 => self.create_fleet(rng),
            1..=3 => self.enrol(rng),
            4 | 5 => self.enrol_batch(rng),
            6..=8 => self.change_device(rng),
            9 => self.rotate(rng),
            10..=12 => self.grant(rng),
            13..=15 => self.name(rng),
            16 | 17 => self.node(rng),
            _ => self.settle(rng),
        }
    }

    fn registry(&self, action: &'static str, call: impl SolCall) -> Plan {
        Plan::call(action, self.sender, self.at.registry, call.abi_encode()).with_gas(3_000_000)
    }

    fn create_fleet(&mut self, rng: &mut StdRng) -> Plan {
        self.fleets += 1;
        self.registry("create a fleet", Registry::createFleetCall { flags: rng.random_range(0..2) })
    }

    fn some_fleet(&self, rng: &mut StdRng) -> u64 {
        rng.random_range(1..=self.fleets)
    }

    /// A new device's consent to a fleet.
    fn consent(&mut self, rng: &mut StdRng, fleet: u64) -> (Address, registry_abi::ISigned::Signature) {
        let key = random_key(rng);
        let device = key.address();
        let statement = eip712::Enrol {
            device,
            fleet: U48::from(fleet),
            operator: self.operator,
            validUntil: FOREVER,
            deadline: FOREVER,
        };
        let (r, s, v) = sign(&key, &statement, "Registry", self.at.registry);
        self.devices.push((device, key));
        (device, registry_abi::ISigned::Signature { r, s, v })
    }

    fn enrol(&mut self, rng: &mut StdRng) -> Plan {
        let fleet = self.some_fleet(rng);
        let (id, consent) = self.consent(rng, fleet);
        let number = U48::from(fleet);
        self.registry(
            "enrol a device",
            Registry::enrolCall { number, id, validUntil: FOREVER, deadline: FOREVER, consent },
        )
    }

    fn enrol_batch(&mut self, rng: &mut StdRng) -> Plan {
        let fleet = self.some_fleet(rng);
        let enrolments = (0..rng.random_range(2..9))
            .map(|_| {
                let (device, consent) = self.consent(rng, fleet);
                IDevices::Enrolment { device, validUntil: FOREVER, deadline: FOREVER, consent }
            })
            .collect();
        self.registry("enrol many", Registry::enrolBatchCall { number: U48::from(fleet), enrolments })
    }

    fn some_device(&self, rng: &mut StdRng) -> (Address, PrivateKeySigner) {
        match self.devices.len() {
            0 => (Address::repeat_byte(1), random_key(rng)),
            count => self.devices[rng.random_range(0..count)].clone(),
        }
    }

    fn change_device(&mut self, rng: &mut StdRng) -> Plan {
        let (id, _) = self.some_device(rng);
        match rng.random_range(0..4) {
            0 => self.registry("suspend a device", Registry::suspendCall { id }),
            1 => self.registry("resume a device", Registry::resumeCall { id }),
            2 => self.registry("revoke a device", Registry::revokeCall { id }),
            _ => self.registry("extend a device", Registry::extendCall { id, validUntil: FOREVER }),
        }
    }

    fn rotate(&mut self, rng: &mut StdRng) -> Plan {
        let (device, old) = self.some_device(rng);
        let new = random_key(rng);
        let statement =
            eip712::Rotate { device, oldKey: old.address(), newKey: new.address(), deadline: FOREVER };
        let [consent, signature] = [&new, &old].map(|key| {
            let (r, s, v) = sign(key, &statement, "Registry", self.at.registry);
            registry_abi::ISigned::Signature { r, s, v }
        });
        let call = Registry::rotateBySigCall {
            id: device,
            newKey: new.address(),
            deadline: FOREVER,
            consent,
            signature,
        };
        if let Some(enrolled) = self.devices.iter_mut().find(|(id, _)| *id == device) {
            enrolled.1 = new;
        }
        self.registry("rotate a key", call)
    }

    fn grant(&mut self, rng: &mut StdRng) -> Plan {
        let number = U48::from(self.some_fleet(rng));
        let mut terms = || {
            let h = B256::from(rng.random::<[u8; 32]>());
            self.grants.push((number.to(), h));
            IGrants::GrantTerms { h, expiry: FOREVER, rights: 1 }
        };
        let (one, batch) = (terms(), vec![terms(), terms(), terms()]);
        match rng.random_range(0..4) {
            0 => {
                let IGrants::GrantTerms { h, expiry, rights } = one;
                self.registry("grant", Registry::grantCall { number, h, expiry, rights })
            }
            1 => self.registry("grant many", Registry::grantBatchCall { number, batch }),
            2 => {
                let (fleet, h) = self.grants[rng.random_range(0..self.grants.len())];
                let number = U48::from(fleet);
                self.registry("revoke a grant", Registry::revokeGrantCall { number, h })
            }
            _ => self.registry("void all grants", Registry::bumpPolicyEpochCall { number }),
        }
    }

    fn names(&self, action: &'static str, call: impl SolCall) -> Plan {
        Plan::call(action, self.sender, self.at.name_registrar, call.abi_encode())
    }

    fn name(&mut self, rng: &mut StdRng) -> Plan {
        let duration = U40::from(NAME_SECONDS);
        let (target, secret) = (self.some_device(rng).0, B256::ZERO);
        match (rng.random_range(0..5), self.committed.pop()) {
            (0..4, Some(label)) => {
                self.names.push(label.clone());
                let register = NameRegistrar::registerCall {
                    label,
                    owner: self.operator,
                    target: Address::ZERO,
                    kind: 0,
                    duration,
                    secret,
                };
                self.names("register a name", register).paying(NAME_SECONDS)
            }
            (4, rest) if !self.names.is_empty() => {
                self.committed.extend(rest);
                let label = self.names[rng.random_range(0..self.names.len())].clone();
                let label_hash = keccak256(label.as_bytes());
                match rng.random_range(0..3) {
                    0 => self.names(
                        "point a name",
                        NameRegistrar::setTargetCall { labelHash: label_hash, target, kind: 1 },
                    ),
                    1 => self.names(
                        "set a name's records",
                        NameRegistrar::setRecordsCall { labelHash: label_hash, records: keccak256(label) },
                    ),
                    _ => self
                        .names("renew a name", NameRegistrar::renewCall { label, duration })
                        .paying(NAME_SECONDS),
                }
            }
            (_, rest) => {
                self.committed.extend(rest);
                let label = format!("name-{:08x}", rng.random::<u32>());
                let commitment = commitment(&label, self.operator, self.at.name_registrar);
                self.committed.insert(0, label);
                self.names("commit to a name", NameRegistrar::commitCall { commitment })
            }
        }
    }

    fn node(&mut self, rng: &mut StdRng) -> Plan {
        let staking = |action, call: Vec<u8>| Plan::call(action, self.sender, self.at.node_staking, call);
        match (rng.random_range(0..4), self.nodes.last().copied()) {
            (0, Some(node)) => staking("unbond a node", NodeStaking::unbondCall { node }.abi_encode()),
            (1, Some(node)) => staking("release a node", NodeStaking::releaseCall { node }.abi_encode()),
            _ => {
                let key = random_key(rng);
                let node = key.address();
                let statement = eip712::RegisterNode { node, owner: self.operator, deadline: FOREVER };
                let (r, s, v) = sign(&key, &statement, "NodeStaking", self.at.node_staking);
                let consent = staking_abi::ISigned::Signature { r, s, v };
                let call = NodeStaking::registerCall { node, deadline: FOREVER, consent };
                let plan = staking("register a node", call.abi_encode()).paying(STAKE);
                self.nodes.push(node);
                plan
            }
        }
    }

    fn settle(&mut self, rng: &mut StdRng) -> Plan {
        let Some(node) = self.nodes.last().copied() else { return self.node(rng) };
        let number = self.some_fleet(rng);
        let settlement = |action, call: Vec<u8>| Plan::call(action, self.sender, self.at.settlement, call);
        match (rng.random_range(0..4), self.channels.last().copied()) {
            (0, Some((fleet, node))) => {
                let fleet = U48::from(fleet);
                let call = Settlement::topUpCall { fleet, node };
                settlement("top up a channel", call.abi_encode()).paying(rng.random_range(0..1_000))
            }
            (1, Some((fleet, node))) => {
                let (fleet, total) = (U48::from(fleet), U256::from(rng.random_range(0..500)));
                settlement("vouch", Settlement::vouchCall { fleet, node, total }.abi_encode())
            }
            (2, Some((fleet, node))) => {
                let (fleet, to) = (U48::from(fleet), Address::repeat_byte(0x55));
                settlement("collect", Settlement::collectCall { fleet, node, to }.abi_encode())
            }
            _ => {
                self.channels.push((number, node));
                let call = Settlement::openChannelCall {
                    fleet: U48::from(number),
                    node,
                    pricePerGiB: U96::from(1_000),
                    maxBytesPerDevicePerDay: 1 << 30,
                };
                settlement("open a channel", call.abi_encode()).paying(5_000)
            }
        }
    }
}

fn sign(
    key: &PrivateKeySigner,
    statement: &impl SolStruct,
    name: &'static str,
    at: Address,
) -> (B256, B256, u8) {
    let domain = Eip712Domain::new(
        Some(name.into()),
        Some("1".into()),
        Some(U256::from(DEFAULT_CHAIN_ID)),
        Some(at),
        None,
    );
    let digest = statement.eip712_signing_hash(&domain);
    let signature = key.sign_hash_sync(&digest).expect("signing works");
    (signature.r().into(), signature.s().into(), 27 + u8::from(signature.v()))
}

/// What `register` will ask for, as `INameRegistrar.commitmentOf` says.
fn commitment(label: &str, owner: Address, registrar: Address) -> B256 {
    let arguments = (
        keccak256(label.as_bytes()),
        owner,
        Address::ZERO,
        U256::ZERO,
        U256::from(NAME_SECONDS),
        B256::ZERO,
        U256::from(DEFAULT_CHAIN_ID),
        registrar,
    );
    keccak256(Bytes::from(arguments.abi_encode()))
}
