//! Whether a chain can carry Windlass: the assumptions of every verifier, tried on the chain itself.
//!
//! Each failed line refuses by name. What is read from the chain is checked with the same verifiers that devices run.

use super::{DeployError, Journal, Terms};
use crate::chain::{Chain, ChainError};
use crate::transact::{Action, TransactError};
use alloy::providers::Provider;
use alloy::rpc::types::{Block, EIP1186AccountProofResponse, TransactionReceipt, TransactionRequest};
use alloy_consensus::TrieAccount;
use alloy_eips::BlockId;
use alloy_rlp::Decodable;
use alloy_sol_types::SolEvent;
use windlass_contracts::abi::name_registrar::NameRegistrar as Abi;
use windlass_contracts::{Addresses, Deployable, name_registrar};
use windlass_protocol::alloy_primitives::{BloomInput, TxKind};
use windlass_protocol::header::Header;
use windlass_protocol::spec::FinalityRule;
use windlass_protocol::trie::{EMPTY_ROOT, verify_proof};
use windlass_protocol::{Address, B256, Bytes, SecretKey, U256, keccak256};

/// Answers the block number that contracts see, and the hash they are told of the block before:
/// `NUMBER PUSH0 MSTORE · PUSH1 1 NUMBER SUB BLOCKHASH PUSH1 32 MSTORE · PUSH1 64 PUSH0 RETURN`.
const RETURN_NUMBER_AND_HASH: [u8; 15] =
    [0x43, 0x5f, 0x52, 0x60, 0x01, 0x43, 0x03, 0x40, 0x60, 0x20, 0x52, 0x60, 0x40, 0x5f, 0xf3];

/// Which line of the test a chain failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the chain at {url} is not eligible: {line}")]
pub struct Ineligible {
    /// Which chain.
    pub url: String,
    /// Which line.
    pub line: Line,
}

/// One line of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Line {
    /// Devices take a header's hash from its RLP.
    #[error("keccak256 of a header's RLP is not the block's hash")]
    HeaderHash,
    /// The rule of finality that the terms state isn't served.
    #[error("it marks no block as finalized; state a number of blocks with --finality-depth instead")]
    Finality,
    /// `eth_getProof` gives no proof of an account that verifies.
    #[error("its proof of a contract's account (eth_getProof) doesn't verify")]
    AccountProof,
    /// `eth_getProof` gives no proof of a slot with a value that verifies.
    #[error("its proof of a slot with a value (eth_getProof) doesn't verify")]
    PresentSlot,
    /// `eth_getProof` gives no proof of an empty slot that verifies.
    #[error("its proof of an empty slot (eth_getProof) doesn't verify")]
    AbsentSlot,
    /// The header's bloom doesn't hold a log of its block, so nodes couldn't skip blocks by it.
    #[error("the bloom of a block doesn't show the logs in it")]
    Bloom,
}

/// What an eligible chain showed about itself beyond what is required.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Eligibility {
    /// Whether `block.number` and BLOCKHASH in contracts are the headers'. Only then may the chain itself convict a node of
    /// a false head: some chains number blocks otherwise, and some answer BLOCKHASH with what is no header's hash.
    pub number_is_headers: bool,
}

/// The lines that need no contract.
pub(super) async fn check_headers(chain: &Chain, terms: &Terms) -> Result<Eligibility, DeployError> {
    let block = chain.block(BlockId::latest()).await?;
    let decoded = Header::decode(&header_rlp(chain, &block).await);
    let same = decoded.is_ok_and(|header| {
        header.hash == block.header.hash
            && (header.number, header.state_root) == (block.header.number, block.header.state_root)
    });
    require(chain, same, Line::HeaderHash)?;
    if terms.finality == FinalityRule::Tag {
        match chain.finalized().await {
            Ok(()) => {}
            Err(error @ ChainError::Unreachable { .. }) => return Err(error.into()),
            Err(_) => require(chain, false, Line::Finality)?,
        }
    }
    let (number, parent) = (block.header.number, block.header.parent_hash);
    let seen = seen_by_contracts(chain, number).await?;
    Ok(Eligibility { number_is_headers: seen == Some((U256::from(number), parent)) })
}

/// As the chain gives it, or put together from its fields: then only headers of the known form have the right hash.
async fn header_rlp(chain: &Chain, block: &Block) -> Bytes {
    let number = (format!("{:#x}", block.header.number),);
    let raw = chain.provider.raw_request::<_, Bytes>("debug_getRawHeader".into(), number);
    match chain.ask("give a raw header", raw).await {
        Ok(bytes) => bytes,
        Err(_) => alloy_rlp::encode(&block.header.inner).into(),
    }
}

/// The lines that need a contract with storage and a log of its own: a commitment to no name at all.
pub(super) async fn check_proofs(
    chain: &Chain,
    deployer: &SecretKey,
    addresses: &Addresses,
    journal: &mut Journal,
) -> Result<(), DeployError> {
    let commitment = keccak256([b"Windlass eligibility probe", addresses.name_registrar.as_slice()].concat());
    let receipt = probe(chain, deployer, addresses.name_registrar, commitment, journal).await?;
    let number =
        receipt.block_number.ok_or_else(|| chain.malformed("give a receipt", "it names no block"))?;
    let block = chain.block(BlockId::number(number)).await?;
    let bloom = &block.header.logs_bloom;
    let shown = [addresses.name_registrar.as_slice(), Abi::Committed::SIGNATURE_HASH.as_slice()]
        .into_iter()
        .all(|input| bloom.contains_input(BloomInput::Raw(input)));
    require(chain, shown, Line::Bloom)?;
    let at = Spot { chain, root: block.header.state_root, block: BlockId::number(number) };
    let made = U256::from(block.header.timestamp);
    at.check_slot(addresses.name_registrar, committed_slot(commitment), Some(made), Line::PresentSlot)
        .await?;
    at.check_slot(addresses.name_registrar, committed_slot(B256::ZERO), None, Line::AbsentSlot).await?;
    at.check_slot(addresses.registry, B256::repeat_byte(0xee), None, Line::AbsentSlot).await
}

/// Sends the probe unless one is in a block already.
async fn probe(
    chain: &Chain,
    deployer: &SecretKey,
    registrar: Address,
    commitment: B256,
    journal: &mut Journal,
) -> Result<TransactionReceipt, DeployError> {
    for transaction in journal.probes() {
        if let Some(receipt) = chain.receipt(*transaction).await?.filter(TransactionReceipt::status) {
            return Ok(receipt);
        }
    }
    let failed = |source| DeployError::Transact { contract: super::contracts::NAME_REGISTRAR, source };
    let action = Action::call(registrar, &Abi::commitCall { commitment });
    let nonce = chain.nonce(deployer.address().0, true).await?;
    let signed = chain.prepare(deployer, &action, nonce).await.map_err(failed)?;
    journal.record_probe(signed.hash)?;
    chain.send(&signed).await.map_err(TransactError::from).map_err(failed)?;
    chain.wait(signed.hash).await.map_err(failed)
}

/// One state, and the chain that claims to prove it.
struct Spot<'a> {
    chain: &'a Chain,
    root: B256,
    block: BlockId,
}

impl Spot<'_> {
    /// The proof of `account` must verify, and its proof of `slot` must show this value.
    async fn check_slot(
        &self,
        account: Address,
        slot: B256,
        value: Option<U256>,
        line: Line,
    ) -> Result<(), DeployError> {
        let proof = self.chain.proof(account, slot, self.block).await?;
        let storage_root = account_storage_root(self.root, account, &proof);
        require(self.chain, storage_root.is_some(), Line::AccountProof)?;
        let proven = storage_root.and_then(|root| slot_value(root, slot, &proof));
        require(self.chain, proven == Some(value), line)
    }
}

fn account_storage_root(root: B256, account: Address, proof: &EIP1186AccountProofResponse) -> Option<B256> {
    let rlp = verify_proof(root, &keccak256(account), &proof.account_proof).ok()??;
    let account = TrieAccount::decode(&mut rlp.as_slice()).ok()?;
    (account.code_hash == proof.code_hash).then_some(account.storage_root)
}

/// The outer `None`: not proven. The inner one: proven absent.
fn slot_value(storage_root: B256, slot: B256, proof: &EIP1186AccountProofResponse) -> Option<Option<U256>> {
    let nodes = nodes_of(storage_root, &proof.storage_proof.first()?.proof);
    match verify_proof(storage_root, &keccak256(slot), nodes).ok()? {
        None => Some(None),
        Some(rlp) => U256::decode(&mut rlp.as_slice()).ok().map(Some),
    }
}

/// What a proof under this root consists of. Of an empty trie, which proves every key absent, some clients give no trie
/// node and others its root, the RLP of nothing: that is the same proof.
fn nodes_of(root: B256, given: &[Bytes]) -> &[Bytes] {
    let is_empty = root == EMPTY_ROOT && given.len() == 1 && given[0][..] == [alloy_rlp::EMPTY_STRING_CODE];
    if is_empty { &[] } else { given }
}

/// Where NameRegistrar keeps the time of a commitment.
fn committed_slot(commitment: B256) -> B256 {
    let layout = name_registrar::Terms::artifact().storage_layout;
    let variable = layout.iter().find(|variable| variable.label == "_committedAt");
    let base = variable.expect("NameRegistrar keeps commitments in a mapping of this name").slot;
    keccak256([commitment, B256::from(U256::from(base))].concat())
}

/// The block number that contracts see at block `number`, and the hash of the one before; `None` when the chain doesn't
/// run such a call.
async fn seen_by_contracts(chain: &Chain, number: u64) -> Result<Option<(U256, B256)>, ChainError> {
    let request = TransactionRequest {
        to: Some(TxKind::Create),
        input: Bytes::from_static(&RETURN_NUMBER_AND_HASH).into(),
        ..TransactionRequest::default()
    };
    match chain.call(request, BlockId::number(number)).await {
        Ok(words) if words.len() == 64 => {
            Ok(Some((U256::from_be_slice(&words[..32]), B256::from_slice(&words[32..]))))
        }
        Ok(_) => Ok(None),
        Err(ChainError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn require(chain: &Chain, holds: bool, line: Line) -> Result<(), DeployError> {
    if holds { Ok(()) } else { Err(Ineligible { url: chain.url().to_owned(), line }.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_protocol::alloy_primitives::b256;

    #[test]
    fn the_commitments_slot_is_soliditys() {
        // keccak256(abi.encode(bytes32(0), uint256(0))), the first entry of a mapping at slot 0.
        let expected = b256!("ad3228b676f7d3cd4284a5443f17f1962b36e491b30a40b2405849e597ba5fb5");
        assert_eq!(committed_slot(B256::ZERO), expected);
    }

    #[test]
    fn an_empty_trie_is_proven_by_no_node_or_by_its_root_alone() {
        let root = Bytes::from_static(&[0x80]);
        assert_eq!(keccak256(&root), EMPTY_ROOT);
        assert!(nodes_of(EMPTY_ROOT, &[]).is_empty());
        assert!(nodes_of(EMPTY_ROOT, std::slice::from_ref(&root)).is_empty());
        for (other, nodes) in [(B256::ZERO, vec![root.clone()]), (EMPTY_ROOT, vec![root.clone(), root])] {
            assert_eq!(nodes_of(other, &nodes), nodes);
            assert!(verify_proof(other, &B256::ZERO, &nodes).is_err());
        }
    }

    #[test]
    fn a_refusal_names_the_line() {
        let error = Ineligible { url: "http://x".to_owned(), line: Line::Finality };
        let text = error.to_string();
        assert!(text.contains("http://x") && text.contains("--finality-depth"), "{text}");
    }
}
