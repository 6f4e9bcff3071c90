//! Registry's transactions, typed: what an operator or a device's key changes on chain.
//!
//! Never decides whether something is allowed: the contract does, and [`crate::refusal`] says it in words.

use crate::chain::{Chain, ChainError};
use crate::transact::{Action, TransactError};
use alloy::rpc::types::TransactionReceipt;
use alloy_sol_types::{SolCall, SolEvent};
use windlass_contracts::abi::registry::{ISigned, Registry as Abi};
use windlass_protocol::alloy_primitives::aliases::{U40, U48};
use windlass_protocol::record::RIGHT_OPEN;
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::ChainSpec;
use windlass_protocol::{Address, B256, DeviceId, SecretKey, Signature};

use crate::consent::Consent;

/// The registry of a chain spec, changed in the name of one key.
#[derive(Debug)]
pub struct Registry<'a> {
    chain: &'a Chain,
    at: Address,
    key: &'a SecretKey,
}

impl<'a> Registry<'a> {
    /// The registry that `spec` pins.
    pub fn new(chain: &'a Chain, spec: &ChainSpec, key: &'a SecretKey) -> Self {
        Self { chain, at: spec.contracts.registry.address, key }
    }

    /// Creates a fleet operated by the key; with `slow_revoke`, revocations and transfers take 48 hours and can be
    /// cancelled. Gives the fleet's number.
    pub async fn create_fleet(&self, slow_revoke: bool) -> Result<(u64, TransactionReceipt), TransactError> {
        let receipt = self.transact(&Abi::createFleetCall { flags: u16::from(slow_revoke) }).await?;
        let logs = receipt.inner.logs().iter().filter(|log| log.address() == self.at);
        let created = logs.filter_map(|log| Abi::FleetCreated::decode_log_data(log.data()).ok()).next();
        let event = created
            .ok_or_else(|| self.chain.malformed("create a fleet", "a receipt without the fleet's event"))?;
        Ok((event.fleet.to::<u64>(), receipt))
    }

    /// Enrols a device with its consent, valid until the time it consented to.
    pub async fn enrol(&self, fleet: u64, consent: &Consent) -> Result<TransactionReceipt, TransactError> {
        let call = Abi::enrolCall {
            number: U48::from(fleet),
            id: consent.device.0,
            validUntil: U40::from(consent.valid_until),
            deadline: U40::from(consent.deadline),
            consent: contract_signature(&consent.signature),
        };
        self.transact(&call).await
    }

    /// Pauses an active device.
    pub async fn suspend(&self, device: DeviceId) -> Result<TransactionReceipt, TransactError> {
        self.transact(&Abi::suspendCall { id: device.0 }).await
    }

    /// Ends a suspension.
    pub async fn resume(&self, device: DeviceId) -> Result<TransactionReceipt, TransactError> {
        self.transact(&Abi::resumeCall { id: device.0 }).await
    }

    /// Raises the time until which a device is valid.
    pub async fn extend(
        &self,
        device: DeviceId,
        valid_until: u64,
    ) -> Result<TransactionReceipt, TransactError> {
        self.transact(&Abi::extendCall { id: device.0, validUntil: U40::from(valid_until) }).await
    }

    /// Makes the device a tombstone; by the operator of a fleet with slow revocation, 48 hours later.
    pub async fn revoke(&self, device: DeviceId) -> Result<TransactionReceipt, TransactError> {
        self.transact(&Abi::revokeCall { id: device.0 }).await
    }

    /// Replaces the device's key, which signs the transaction, by one whose consent this is.
    pub async fn rotate(
        &self,
        device: DeviceId,
        new_key: Address,
        deadline: u64,
        consent: &Signature,
    ) -> Result<TransactionReceipt, TransactError> {
        let call = Abi::rotateCall {
            id: device.0,
            newKey: new_key,
            deadline: U40::from(deadline),
            consent: contract_signature(consent),
        };
        self.transact(&call).await
    }

    /// Lets the parties behind `parties` (`grant::parties_hash`) open services of the fleet.
    pub async fn grant(
        &self,
        fleet: u64,
        parties: B256,
        expiry: u64,
    ) -> Result<TransactionReceipt, TransactError> {
        let call = Abi::grantCall {
            number: U48::from(fleet),
            h: parties,
            expiry: U40::from(expiry),
            rights: RIGHT_OPEN,
        };
        self.transact(&call).await
    }

    /// Takes a grant back.
    pub async fn revoke_grant(&self, fleet: u64, parties: B256) -> Result<TransactionReceipt, TransactError> {
        self.transact(&Abi::revokeGrantCall { number: U48::from(fleet), h: parties }).await
    }

    /// Kills every grant of the fleet at once.
    pub async fn bump_policy_epoch(&self, fleet: u64) -> Result<TransactionReceipt, TransactError> {
        self.transact(&Abi::bumpPolicyEpochCall { number: U48::from(fleet) }).await
    }

    async fn transact(&self, call: &impl SolCall) -> Result<TransactionReceipt, TransactError> {
        self.chain.transact(self.key, &Action::call(self.at, call)).await
    }
}

/// Who operates a fleet, by the chain's word: for composing transactions, never for deciding. Zero when there is no
/// such fleet.
pub async fn operator(chain: &Chain, spec: &ChainSpec, fleet: u64) -> Result<Address, ChainError> {
    // The operator is the low 20 bytes of the packed record.
    Ok(Address::from_slice(&read(chain, spec, Slot::Fleet(fleet)).await?[12..]))
}

/// A slot of the registry, by the word of the chain's RPC alone: good for telling mistakes early.
///
/// # Errors
/// [`ChainError`].
pub async fn read(chain: &Chain, spec: &ChainSpec, slot: Slot) -> Result<B256, ChainError> {
    let call = Abi::getCall { kind: slot.kind(), key: slot.mapping_key() };
    let word = chain.view(&Action::call(spec.contracts.registry.address, &call)).await?;
    B256::try_from(word.as_ref())
        .map_err(|_| chain.malformed("read the registry", "the registry's answer isn't one word"))
}

/// When a revocation takes effect that isn't immediate; `None` when this transaction began none.
pub fn revoking_at(receipt: &TransactionReceipt) -> Option<u64> {
    let mut events =
        receipt.inner.logs().iter().filter_map(|log| Abi::Revoking::decode_log_data(log.data()).ok());
    events.next().map(|event| event.effectiveAt.to::<u64>())
}

/// A signature in the form that contracts take: v is 27 or 28.
fn contract_signature(signature: &Signature) -> ISigned::Signature {
    let bytes = signature.to_ethereum_bytes();
    ISigned::Signature {
        r: B256::from_slice(&bytes[..32]),
        s: B256::from_slice(&bytes[32..64]),
        v: bytes[64],
    }
}
