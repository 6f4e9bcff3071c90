//! NameRegistrar's transactions, typed: commit-reveal registration, renewal, transfer, target.
//!
//! Never decides whether a name is free or whose it is: the contract does.

use crate::chain::Chain;
use crate::limits::{COMMIT_SLACK, FIRST_POLL};
use crate::refusal::Refusal;
use crate::transact::{Action, TransactError, longer};
use alloy::rpc::types::TransactionReceipt;
use alloy_sol_types::{SolCall, SolError};
use std::time::Duration;
use tokio::time::Instant;
use windlass_contracts::abi::name_registrar::{INameRegistrar, NameRegistrar as Abi};
use windlass_contracts::abi::registry::Registry;
use windlass_protocol::alloy_primitives::aliases::U40;
use windlass_protocol::record::{NameKind, NameRecord};
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::ChainSpec;
use windlass_protocol::{Address, B256, Name, SecretKey, U256, keccak256};

/// The name registrar of a chain spec, used in the name of one key.
#[derive(Debug)]
pub struct Names<'a> {
    chain: &'a Chain,
    spec: &'a ChainSpec,
    key: &'a SecretKey,
}

/// A registration to make.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The name.
    pub name: Name,
    /// Who will own it.
    pub owner: Address,
    /// What it will point at, if anything.
    pub target: Option<(NameKind, Address)>,
    /// Seconds to hold it.
    pub duration: u64,
    /// Hides what is committed to until it is revealed: 32 random bytes, for this registration only.
    pub secret: B256,
}

impl<'a> Names<'a> {
    /// The registrar that `spec` pins.
    pub fn new(chain: &'a Chain, spec: &'a ChainSpec, key: &'a SecretKey) -> Self {
        Self { chain, spec, key }
    }

    fn at(&self) -> Address {
        self.spec.contracts.name_registrar.address
    }

    /// Registers a name: commits, waits until the commitment is old enough, reveals and pays the fee. Interrupted in
    /// between, only the commitment's gas is lost; a new registration completes.
    ///
    /// # Errors
    /// [`TransactError`]; a name that is held is refused before anything is paid, that somebody was faster shows only after the commitment.
    pub async fn register(&self, registration: &Registration) -> Result<TransactionReceipt, TransactError> {
        let call = registration.call();
        let commitment = registration.commitment(self.spec);
        self.check_free(&registration.name).await?;
        let fee = self.fee(&registration.name, registration.duration).await?;
        self.transact(&Abi::commitCall { commitment }, U256::ZERO).await?;
        let wait = Duration::from_secs(self.ages().await?.min.to::<u64>()) + COMMIT_SLACK;
        let (end, mut pause) = (Instant::now() + wait, FIRST_POLL);
        loop {
            // Trying costs nothing; whether the commitment is old enough is the contract's to say.
            match self.transact(&call, fee).await {
                Err(TransactError::Refused(refusal))
                    if refusal.error == "CommitmentTooYoung" && Instant::now() < end =>
                {
                    tokio::time::sleep(pause).await;
                    pause = longer(pause);
                }
                done => return done,
            }
        }
    }

    /// Adds `duration` seconds to a name's expiry and pays the fee.
    pub async fn renew(&self, name: &Name, duration: u64) -> Result<TransactionReceipt, TransactError> {
        let fee = self.fee(name, duration).await?;
        let call =
            Abi::renewCall { label: name.as_str().to_owned(), duration: U40::saturating_from(duration) };
        self.transact(&call, fee).await
    }

    /// Gives a name away; its target and records are cleared.
    pub async fn transfer(&self, name: &Name, to: Address) -> Result<TransactionReceipt, TransactError> {
        self.transact(&Abi::transferCall { labelHash: name.label_hash(), to }, U256::ZERO).await
    }

    /// Points a name at something else, or at nothing.
    pub async fn set_target(
        &self,
        name: &Name,
        target: Option<(NameKind, Address)>,
    ) -> Result<TransactionReceipt, TransactError> {
        let (kind, target) = target_words(target);
        self.transact(&Abi::setTargetCall { labelHash: name.label_hash(), target, kind }, U256::ZERO).await
    }

    /// Wei for holding a name for `duration` seconds.
    pub async fn fee(&self, name: &Name, duration: u64) -> Result<U256, TransactError> {
        let call = Abi::feeCall { label: name.as_str().to_owned(), duration: U40::saturating_from(duration) };
        let answer = self.chain.view(&Action::call(self.at(), &call)).await?;
        Abi::feeCall::abi_decode_returns(&answer).map_err(|_| self.unreadable("price a name"))
    }

    /// A name that is held or in grace is refused before anything is paid; the contract judges again in the end.
    async fn check_free(&self, name: &Name) -> Result<(), TransactError> {
        let slot = Slot::Name(name.label_hash());
        let call = Registry::getCall { kind: slot.kind(), key: slot.mapping_key() };
        let answer = self.chain.view(&Action::call(self.spec.contracts.registry.address, &call)).await?;
        let word = B256::try_from(answer.as_ref()).map_err(|_| self.unreadable("read a name"))?;
        let Some(record) = NameRecord::decode(&word).map_err(|_| self.unreadable("read a name"))? else {
            return Ok(());
        };
        let free_from = record.expiry.saturating_add(self.ages().await?.grace.to::<u64>());
        if self.chain.now().await? < free_from {
            return Err(Refusal::decode(&Abi::NameTaken {}.abi_encode()).into());
        }
        Ok(())
    }

    async fn ages(&self) -> Result<INameRegistrar::Ages, TransactError> {
        let answer = self.chain.view(&Action::call(self.at(), &Abi::agesCall {})).await?;
        Abi::agesCall::abi_decode_returns(&answer).map_err(|_| self.unreadable("give its ages"))
    }

    fn unreadable(&self, what: &'static str) -> TransactError {
        self.chain.malformed(what, "the name registrar's answer can't be read").into()
    }

    async fn transact(&self, call: &impl SolCall, value: U256) -> Result<TransactionReceipt, TransactError> {
        self.chain.transact(self.key, &Action::call(self.at(), call).paying(value)).await
    }
}

impl Registration {
    fn call(&self) -> Abi::registerCall {
        let (kind, target) = target_words(self.target);
        Abi::registerCall {
            label: self.name.as_str().to_owned(),
            owner: self.owner,
            target,
            kind,
            duration: U40::saturating_from(self.duration),
            secret: self.secret,
        }
    }

    /// keccak256 of the ABI encoding of {labelHash, owner, target, kind, duration, secret, chainId, registrar}.
    pub fn commitment(&self, spec: &ChainSpec) -> B256 {
        let (kind, target) = target_words(self.target);
        let words = [
            self.name.label_hash(),
            self.owner.into_word(),
            target.into_word(),
            B256::from(U256::from(kind)),
            B256::from(U256::from(self.duration)),
            self.secret,
            B256::from(U256::from(spec.chain_id)),
            spec.contracts.name_registrar.address.into_word(),
        ];
        keccak256(words.concat())
    }
}

/// Kind and target as the contract numbers them; 0 and the zero address for none.
fn target_words(target: Option<(NameKind, Address)>) -> (u8, Address) {
    match target {
        None => (0, Address::ZERO),
        Some((NameKind::Device, address)) => (1, address),
        Some((NameKind::Node, address)) => (2, address),
        Some((NameKind::Account, address)) => (3, address),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::deploy::tests::example_spec;

    /// As the contract and a third implementation compute it.
    #[test]
    fn a_commitment_is_the_vectors() {
        let vectors = include_str!("../../../contracts/vectors/vectors.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
        let vector = &vectors["commitment"];
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let address = |value: &serde_json::Value| text(value).parse::<Address>().unwrap();
        let registration = Registration {
            name: "sensor-7".parse().unwrap(),
            owner: address(&vector["owner"]),
            target: Some((NameKind::Device, address(&vector["target"]))),
            duration: vector["duration"].as_u64().unwrap(),
            secret: text(&vector["secret"]).parse().unwrap(),
        };
        let mut spec = ChainSpec { chain_id: vectors["chainId"].as_u64().unwrap(), ..example_spec() };
        spec.contracts.name_registrar.address = address(&vectors["contracts"]["names"]);
        assert_eq!(registration.name.label_hash(), text(&vector["labelHash"]).parse::<B256>().unwrap());
        assert_eq!(registration.commitment(&spec), text(&vector["digest"]).parse::<B256>().unwrap());
    }

    #[test]
    fn a_commitment_hides_and_binds_everything() {
        let spec = example_spec();
        let one = Registration {
            name: "pump-7".parse().unwrap(),
            owner: Address::repeat_byte(1),
            target: Some((NameKind::Device, Address::repeat_byte(2))),
            duration: 31_536_000,
            secret: B256::repeat_byte(3),
        };
        let others = [
            Registration { name: "pump-8".parse().unwrap(), ..one.clone() },
            Registration { owner: Address::repeat_byte(9), ..one.clone() },
            Registration { target: None, ..one.clone() },
            Registration { target: Some((NameKind::Node, Address::repeat_byte(2))), ..one.clone() },
            Registration { duration: 1, ..one.clone() },
            Registration { secret: B256::ZERO, ..one.clone() },
        ];
        for other in others {
            assert_ne!(other.commitment(&spec), one.commitment(&spec), "{other:?}");
        }
        let elsewhere = ChainSpec { chain_id: 1, ..spec.clone() };
        assert_ne!(one.commitment(&elsewhere), one.commitment(&spec));
    }
}
