//! NameRegistrar: its artifact and what its constructor fixes.

use alloy_primitives::{
    Address, B256, U256,
    aliases::{U40, U96},
};
use alloy_sol_types::SolConstructor;

use crate::abi::name_registrar::INameRegistrar;
use crate::abi::name_registrar::NameRegistrar::constructorCall;
use crate::artifact::{Artifact, Deployable, address_word, number_word};

pub use crate::abi::name_registrar::{ISigned, NameRegistrar};

/// What NameRegistrar's constructor takes, all of it immutable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The registry whose names it sells.
    pub registry: Address,
    /// Who is paid the fees.
    pub treasury: Address,
    /// How long a commitment must wait, in seconds; not zero.
    pub min_age: u32,
    /// How long a commitment may wait, in seconds; more than `min_age`.
    pub max_age: u32,
    /// How long an expired name is kept for renewal, in seconds.
    pub grace: u32,
    /// Wei per year for a label of 3 bytes.
    pub fee_three: U96,
    /// Wei per year for a label of 4 bytes.
    pub fee_four: U96,
    /// Wei per year for a label of 5 or more bytes.
    pub fee_five: U96,
}

impl Deployable for Terms {
    fn artifact() -> Artifact {
        Artifact::parse(include_str!("../../artifacts/NameRegistrar.json"))
    }

    fn constructor_arguments(&self) -> Vec<u8> {
        constructorCall {
            registry_: self.registry,
            treasury_: self.treasury,
            ages_: INameRegistrar::Ages {
                min: U40::from(self.min_age),
                max: U40::from(self.max_age),
                grace: U40::from(self.grace),
            },
            fees_: INameRegistrar::Fees { three: self.fee_three, four: self.fee_four, five: self.fee_five },
        }
        .abi_encode()
    }

    fn immutables(&self) -> Vec<(&'static str, B256)> {
        vec![
            ("REGISTRY", address_word(self.registry)),
            ("treasury", address_word(self.treasury)),
            ("MIN_AGE", number_word(U256::from(self.min_age))),
            ("MAX_AGE", number_word(U256::from(self.max_age))),
            ("GRACE", number_word(U256::from(self.grace))),
            ("FEE_THREE", number_word(U256::from(self.fee_three))),
            ("FEE_FOUR", number_word(U256::from(self.fee_four))),
            ("FEE_FIVE", number_word(U256::from(self.fee_five))),
        ]
    }
}
