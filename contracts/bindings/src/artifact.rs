//! A committed artifact, read: bytecode, the places of immutables in it, the storage layout. Knows no contract
//! by name.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use serde::Deserialize;

/// One compiled contract, as committed in `contracts/artifacts`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// The contract's name.
    pub contract: String,
    /// The compiler's full version.
    pub compiler: String,
    /// What creates the contract, constructor arguments not yet appended.
    pub bytecode: Bytes,
    /// The code found on chain, with zeros where immutables stand.
    pub deployed_bytecode: Bytes,
    /// keccak256 of [`Self::bytecode`].
    pub bytecode_keccak256: B256,
    /// keccak256 of [`Self::deployed_bytecode`], so with zeros for immutables: the same in every deployment. The
    /// hash of the code of one deployment is [`Deployable::code_hash`].
    pub deployed_bytecode_keccak256: B256,
    /// Where immutables stand in the deployed code.
    pub immutables: Vec<Immutable>,
    /// The state variables, in the order of their slots.
    pub storage_layout: Vec<Variable>,
}

/// An immutable and the places where its 32-byte word stands in the deployed code.
#[derive(Clone, Debug, Deserialize)]
pub struct Immutable {
    /// Its name in the source.
    pub name: String,
    /// Its Solidity type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Byte offsets into the deployed code.
    pub offsets: Vec<usize>,
}

/// A state variable.
#[derive(Clone, Debug, Deserialize)]
pub struct Variable {
    /// Its name in the source.
    pub label: String,
    /// Its slot, of a mapping the base slot.
    pub slot: u64,
    /// Its Solidity type.
    #[serde(rename = "type")]
    pub ty: String,
    /// What a mapping holds; `None` for a plain variable of an elementary type.
    pub value: Option<Value>,
}

/// The type of a value and, if it is a struct, how its fields are packed.
#[derive(Clone, Debug, Deserialize)]
pub struct Value {
    /// The Solidity type.
    pub label: String,
    /// The fields of a struct, lowest bits first.
    #[serde(default)]
    pub members: Vec<Member>,
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// Its name.
    pub label: String,
    /// Bytes from the low end of its word.
    pub offset: u64,
    /// Which word of the struct, from 0.
    pub slot: u64,
    /// Its width in bytes.
    pub bytes: u64,
}

/// A contract together with its constructor's arguments: what to send, and what must then be found on chain.
pub trait Deployable {
    /// The committed artifact.
    fn artifact() -> Artifact;

    /// The ABI encoding of the constructor's arguments.
    fn constructor_arguments(&self) -> Vec<u8>;

    /// The value of every immutable, by its name in the source.
    fn immutables(&self) -> Vec<(&'static str, B256)>;

    /// The input of the transaction that creates the contract.
    fn creation_code(&self) -> Bytes {
        [Self::artifact().bytecode.as_ref(), &self.constructor_arguments()].concat().into()
    }

    /// The code the contract has once created with these arguments.
    fn deployed_code(&self) -> Bytes {
        Self::artifact().splice(&self.immutables())
    }

    /// keccak256 of [`Self::deployed_code`]: what the account's proof shows and a chain spec pins.
    fn code_hash(&self) -> B256 {
        keccak256(self.deployed_code())
    }
}

impl Artifact {
    /// Reads a committed artifact.
    ///
    /// # Panics
    /// On text that isn't an artifact. The texts are compiled in and each is read by a test.
    pub(crate) fn parse(json: &str) -> Self {
        serde_json::from_str(json).expect("the committed artifact has the form that compile.mjs writes")
    }

    /// The deployed code with every immutable's word in its places.
    ///
    /// # Panics
    /// When the names aren't exactly the artifact's. Both are compiled in and compared by a test.
    fn splice(&self, values: &[(&'static str, B256)]) -> Bytes {
        assert_eq!(values.len(), self.immutables.len(), "immutables of {}", self.contract);
        let mut code = self.deployed_bytecode.to_vec();
        for immutable in &self.immutables {
            let (_, word) =
                values.iter().find(|(name, _)| *name == immutable.name).expect("every immutable has a value");
            for &offset in &immutable.offsets {
                code[offset..offset + 32].copy_from_slice(word.as_slice());
            }
        }
        code.into()
    }
}

/// An address as the word of an immutable.
pub(crate) fn address_word(address: Address) -> B256 {
    address.into_word()
}

/// A number as the word of an immutable.
pub(crate) fn number_word(number: U256) -> B256 {
    B256::from(number)
}
