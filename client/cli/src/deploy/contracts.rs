//! The contracts of a deployment, in the order of their creation, which is the order of their predicted addresses.

use super::Terms;
use windlass_contracts::{Addresses, Deployable, name_registrar, node_staking, settlement};
use windlass_protocol::alloy_primitives::aliases::U96;
use windlass_protocol::{Address, B256, Bytes};

pub(super) const REGISTRY: &str = "Registry";
pub(super) const NAME_REGISTRAR: &str = "NameRegistrar";
pub(super) const NODE_STAKING: &str = "NodeStaking";
pub(super) const SETTLEMENT: &str = "Settlement";

/// A contract to create.
pub(super) struct Creation {
    pub(super) contract: &'static str,
    /// Where it will be.
    pub(super) address: Address,
    /// What creates it.
    pub(super) code: Bytes,
    /// What must then be found there.
    pub(super) code_hash: B256,
}

impl Creation {
    fn new<T: Deployable>(contract: &'static str, address: Address, terms: &T) -> Self {
        Self { contract, address, code: terms.creation_code(), code_hash: terms.code_hash() }
    }

    /// More gas than creating it takes: a transaction's base, 16 a byte of calldata (EIP-2028), 2 a word of initcode
    /// (EIP-3860), 200 a byte of code (at most what is sent), and something for the constructor.
    pub(super) fn gas_bound(&self) -> u64 {
        53_000 + 217 * self.code.len() as u64 + 100_000
    }
}

/// What the contracts' code takes from the chain itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ground {
    /// The hash of block 0.
    pub(super) genesis_hash: B256,
    /// Whether `block.number` in contracts is the header's number.
    pub(super) number_is_headers: bool,
}

/// The deployment's contracts.
pub(super) fn creations(addresses: &Addresses, terms: &Terms, ground: &Ground) -> Vec<Creation> {
    let names = name_registrar::Terms {
        registry: addresses.registry,
        treasury: terms.treasury,
        min_age: terms.commitment_ages.0,
        max_age: terms.commitment_ages.1,
        grace: terms.grace,
        fee_three: U96::saturating_from(terms.fees[0]),
        fee_four: U96::saturating_from(terms.fees[1]),
        fee_five: U96::saturating_from(terms.fees[2]),
    };
    let staking = node_staking::Terms {
        registry: addresses.registry,
        genesis_hash: ground.genesis_hash,
        header_numbers: ground.number_is_headers,
        min_stake: U96::saturating_from(terms.min_stake),
        epoch_length: terms.epoch_length,
        staked_age: terms.stake_age,
        unbonding_age: terms.unbonding_period,
    };
    let settlement = settlement::Terms { registry: addresses.registry };
    vec![
        Creation::new(REGISTRY, addresses.registry, &addresses.registry_terms(terms.predecessor)),
        Creation::new(NAME_REGISTRAR, addresses.name_registrar, &names),
        Creation::new(NODE_STAKING, addresses.node_staking, &staking),
        Creation::new(SETTLEMENT, addresses.settlement, &settlement),
    ]
}
