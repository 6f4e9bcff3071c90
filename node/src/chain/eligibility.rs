//! What a chain must show at a node's start before anything is built on it: that its newest state can be proven,
//! of what is there and of what isn't. That its headers hash as Ethereum's do is seen with every block.

use super::provider::Provider;
use super::{Answer, SourceError};
use alloy::eips::{BlockId, BlockNumberOrTag};
use windlass_protocol::bundle::verify_account;
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::trie::{decode_slot_value, verify_proof};
use windlass_protocol::{B256, Bytes, keccak256};

/// A storage key that nothing is kept at.
const EMPTY: B256 = B256::repeat_byte(0xee);

/// Refuses a provider whose proofs don't verify. A chain without the registry yet has nothing to be tried on.
pub(super) async fn check(provider: &Provider, spec: &VerifiedSpec) -> Answer<()> {
    let block = provider.require(BlockId::Number(BlockNumberOrTag::Latest)).await?;
    if block.header.number < spec.deploy_block {
        return Ok(());
    }
    let unproven = |what, reason: String| SourceError::Unproven { url: provider.url.clone(), what, reason };
    let registry = &spec.contracts.registry;
    let fleets = Slot::FleetCount.storage_key();
    let proof = provider.proof(registry.address, vec![fleets, EMPTY], block.header.hash).await?;
    let account = verify_account(registry, block.header.state_root, &proof.account_proof)
        .map_err(|error| unproven("the registry's account", error.to_string()))?;
    let slot = |key: B256, nodes: &[Bytes]| {
        let leaf = verify_proof(account.storage_root, &keccak256(key), nodes)?;
        leaf.map_or(Ok(B256::ZERO), |leaf| decode_slot_value(&leaf))
    };
    for (key, what) in [(fleets, "a slot of the registry"), (EMPTY, "an empty slot")] {
        let Some(answer) = proof.storage_proof.iter().find(|answer| answer.key.as_b256() == key) else {
            return Err(unproven(what, "there is none".to_owned()));
        };
        match slot(key, &answer.proof) {
            Ok(value) if value == B256::from(answer.value) => {}
            Ok(value) => {
                return Err(unproven(what, format!("it proves {value}, the answer says {}", answer.value)));
            }
            Err(error) => return Err(unproven(what, error.to_string())),
        }
    }
    Ok(())
}
