//! Settlement: its artifact and what its constructor fixes.

use alloy_primitives::{Address, B256};
use alloy_sol_types::SolConstructor;

use crate::abi::settlement::Settlement::constructorCall;
use crate::artifact::{Artifact, Deployable, address_word};

pub use crate::abi::settlement::{ISettlement, ISigned, Settlement};

/// What Settlement's constructor takes, all of it immutable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The registry whose devices, fleets and nodes it reads.
    pub registry: Address,
}

impl Deployable for Terms {
    fn artifact() -> Artifact {
        Artifact::parse(include_str!("../../artifacts/Settlement.json"))
    }

    fn constructor_arguments(&self) -> Vec<u8> {
        constructorCall { registry_: self.registry }.abi_encode()
    }

    fn immutables(&self) -> Vec<(&'static str, B256)> {
        vec![("REGISTRY", address_word(self.registry))]
    }
}
