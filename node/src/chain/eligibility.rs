//! What a chain must show at a node's start before anything is built on it: that its newest state can be proven,
//! of what is there and of what isn't. That its headers hash as Ethereum's do is seen with every block.

use super::provider::Provider;
use super::{Answer, SourceError};
use windlass_protocol::bundle::verify_account;
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::trie::{EMPTY_ROOT, decode_slot_value, verify_proof};
use windlass_protocol::{B256, Bytes, keccak256};

/// A storage key that nothing is kept at.
const EMPTY: B256 = B256::repeat_byte(0xee);

/// Refuses a provider whose proofs don't verify. A chain without the registry yet has nothing to be tried on.
pub(super) async fn check(provider: &Provider, spec: &VerifiedSpec) -> Answer<()> {
    let block = provider.latest().await?;
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
        let leaf =
            verify_proof(account.storage_root, &keccak256(key), nodes_of(account.storage_root, nodes))?;
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

/// What a proof under this root consists of. Of an empty trie, which proves every key absent, some clients give no trie
/// node and others its root, the RLP of nothing: that is the same proof.
fn nodes_of(root: B256, given: &[Bytes]) -> &[Bytes] {
    let is_empty = root == EMPTY_ROOT && given.len() == 1 && given[0][..] == [alloy_rlp::EMPTY_STRING_CODE];
    if is_empty { &[] } else { given }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_trie_is_proven_by_no_node_or_by_its_root_alone() {
        let root = Bytes::from_static(&[0x80]);
        assert!(nodes_of(EMPTY_ROOT, &[]).is_empty());
        assert!(nodes_of(EMPTY_ROOT, std::slice::from_ref(&root)).is_empty());
        // Anything else is left to the verifier.
        for (other, nodes) in [(B256::ZERO, vec![root.clone()]), (EMPTY_ROOT, vec![root.clone(), root])] {
            assert_eq!(nodes_of(other, &nodes), nodes);
        }
    }
}
