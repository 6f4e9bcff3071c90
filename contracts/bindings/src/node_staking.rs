//! NodeStaking: its artifact and what its constructor fixes.

use alloy_primitives::{Address, B256, U256, aliases::U40, aliases::U96};
use alloy_sol_types::SolConstructor;

use crate::abi::node_staking::NodeStaking::constructorCall;
use crate::artifact::{Artifact, Deployable, address_word, number_word};

pub use crate::abi::node_staking::{INodeStaking, ISigned, NodeStaking};

/// What NodeStaking's constructor takes, all of it immutable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The registry whose nodes and committees it writes.
    pub registry: Address,
    /// The hash of the chain's first block: the salt of the domain in which heads are signed.
    pub genesis_hash: B256,
    /// Whether `block.number` is the header's number on this chain; without it no head can be proved false
    /// against the chain's own hashes.
    pub header_numbers: bool,
    /// The least stake of a node, in wei; not zero.
    pub min_stake: U96,
    /// The length of a committee's epoch, in seconds; at least 2.
    pub epoch_length: u32,
    /// How long a node must have been bonded to be on a committee, in seconds.
    pub staked_age: u32,
    /// How long unbonding takes, in seconds.
    pub unbonding_age: u32,
}

impl Deployable for Terms {
    fn artifact() -> Artifact {
        Artifact::parse(include_str!("../../artifacts/NodeStaking.json"))
    }

    fn constructor_arguments(&self) -> Vec<u8> {
        constructorCall {
            registry_: self.registry,
            genesisHash_: self.genesis_hash,
            headerNumbers_: self.header_numbers,
            minStake_: self.min_stake,
            ages_: INodeStaking::Ages {
                epochLength: U40::from(self.epoch_length),
                staked: U40::from(self.staked_age),
                unbonding: U40::from(self.unbonding_age),
            },
        }
        .abi_encode()
    }

    fn immutables(&self) -> Vec<(&'static str, B256)> {
        vec![
            ("REGISTRY", address_word(self.registry)),
            ("genesisHash", self.genesis_hash),
            ("headerNumbers", number_word(U256::from(self.header_numbers))),
            ("minStake", number_word(U256::from(self.min_stake))),
            ("EPOCH_LENGTH", number_word(U256::from(self.epoch_length))),
            ("STAKED_AGE", number_word(U256::from(self.staked_age))),
            ("UNBONDING_AGE", number_word(U256::from(self.unbonding_age))),
        ]
    }
}
