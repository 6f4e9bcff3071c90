//! Registry: its artifact and what its constructor fixes.

use alloy_primitives::{Address, B256};
use alloy_sol_types::SolConstructor;

use crate::abi::registry::Registry::constructorCall;
use crate::artifact::{Artifact, Deployable, address_word};

pub use crate::abi::registry::{IDevices, IGrants, ISigned, Registry};

/// What Registry's constructor takes, all of it immutable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The only contract that may write kinds 5 to 8.
    pub name_registrar: Address,
    /// The only contract that may write kinds 9 to 11.
    pub node_staking: Address,
    /// The registry this one succeeds; zero for none.
    pub predecessor: Address,
}

impl Deployable for Terms {
    fn artifact() -> Artifact {
        Artifact::parse(include_str!("../../artifacts/Registry.json"))
    }

    fn constructor_arguments(&self) -> Vec<u8> {
        constructorCall {
            nameRegistrar_: self.name_registrar,
            nodeStaking_: self.node_staking,
            predecessor_: self.predecessor,
        }
        .abi_encode()
    }

    fn immutables(&self) -> Vec<(&'static str, B256)> {
        vec![
            ("nameRegistrar", address_word(self.name_registrar)),
            ("nodeStaking", address_word(self.node_staking)),
            ("predecessor", address_word(self.predecessor)),
        ]
    }
}
