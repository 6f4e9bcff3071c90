//! What the contracts are, for Rust: call, event and error types from the committed ABIs, the code that
//! is deployed and the code that must then be found on chain, and the compiler's storage layout.
//!
//! Nothing here talks to a chain or interprets a record: that is `windlass-protocol`'s and the callers' work.
//!
//! ```
//! use windlass_contracts::{Addresses, Deployable, registry};
//! use alloy_primitives::Address;
//!
//! let deployer = Address::repeat_byte(0x11);
//! let addresses = Addresses::predict(deployer, 0);
//! let code = addresses.registry_terms(Address::ZERO);
//! assert_eq!(code.code_hash(), alloy_primitives::keccak256(code.deployed_code()));
//! ```

pub mod abi;
mod artifact;
pub mod name_registrar;
pub mod node_staking;
pub mod registry;
pub mod settlement;

pub use artifact::{Artifact, Deployable, Immutable, Member, Value, Variable};

use alloy_primitives::Address;

/// Where the contracts of one deployment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The registry: the only one a device's proofs are about.
    pub registry: Address,
    /// The only writer of names.
    pub name_registrar: Address,
    /// The only writer of nodes and committees.
    pub node_staking: Address,
    /// Where relayed bytes are paid for.
    pub settlement: Address,
}

impl Addresses {
    /// The addresses that `deployer` gives the four contracts when it creates them in the order of the fields,
    /// the first with `nonce` and with no other transaction in between. The contracts name each other in their
    /// constructors, so they have to be known before the first exists.
    #[must_use]
    pub fn predict(deployer: Address, nonce: u64) -> Self {
        Self {
            registry: deployer.create(nonce),
            name_registrar: deployer.create(nonce + 1),
            node_staking: deployer.create(nonce + 2),
            settlement: deployer.create(nonce + 3),
        }
    }

    /// What Registry's constructor takes in this deployment.
    #[must_use]
    pub const fn registry_terms(&self, predecessor: Address) -> registry::Terms {
        registry::Terms { name_registrar: self.name_registrar, node_staking: self.node_staking, predecessor }
    }
}

#[cfg(test)]
mod tests;
