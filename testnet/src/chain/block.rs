//! Blocks: making one from transactions, with a real header.
//!
//! Owns everything a header commits to: the state root, the roots of transactions and receipts, the bloom,
//! the base fee (EIP-1559) and the system calls (EIP-2935, EIP-4788). It changes nothing: what it makes is a
//! candidate that the ledger may keep or drop.

use super::amend::{AmendError, Amendment};
use super::archive::Ancestors;
use super::evm::{self, CallTracer, ExecuteError, Execution, Outcome, Overlay};
use super::nodes::Writes;
use super::state::{Changes, State, StateError};
use alloy_consensus::transaction::Recovered;
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header, Receipt, ReceiptEnvelope, Transaction, TxEnvelope};
use alloy_eips::eip1559::BaseFeeParams;
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_eips::eip4788::BEACON_ROOTS_ADDRESS;
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use std::collections::HashSet;
use std::sync::Arc;
use windlass_protocol::alloy_primitives::{Bloom, Log, Signature};
use windlass_protocol::trie::{EMPTY_ROOT, ordered_root};
use windlass_protocol::{Address, B256, Bytes, U256, keccak256};

/// Gas that any transaction uses at least.
const LEAST_GAS: u64 = 21_000;

/// A signed transaction and who signed it.
pub(crate) type Transacted = Arc<Recovered<TxEnvelope>>;

/// The signature of a transaction that nobody signed, sent in `sender`'s name. No key makes it, since its s
/// is zero; naming the sender, it keeps the hashes of different senders' transactions apart.
pub(crate) fn impersonation(sender: Address) -> Signature {
    Signature::new(U256::from_be_slice(sender.as_slice()), U256::ZERO, false)
}

/// Whether nobody signed `transaction`.
pub(crate) fn is_impersonated(transaction: &TxEnvelope) -> bool {
    transaction.signature().s().is_zero()
}

/// One transaction of a block with what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Included {
    pub(crate) transaction: Transacted,
    pub(crate) receipt: ReceiptEnvelope,
    pub(crate) gas_used: u64,
    /// Address of the contract it created, if it was meant to.
    pub(crate) created: Option<Address>,
    /// Logs of the block before its own.
    pub(crate) first_log: u64,
}

impl Included {
    /// What follows from its place: it comes after `former`, or first in its block.
    pub(crate) fn after(former: Option<&Self>, transaction: Transacted, receipt: ReceiptEnvelope) -> Self {
        let gas_before = former.map_or(0, |former| former.receipt.cumulative_gas_used());
        let gas_used = receipt.cumulative_gas_used().saturating_sub(gas_before);
        let first_log = former.map_or(0, |former| former.first_log + former.receipt.logs().len() as u64);
        let created = transaction.to().is_none().then(|| transaction.signer().create(transaction.nonce()));
        Self { transaction, receipt, gas_used, created, first_log }
    }
}

/// One block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) hash: B256,
    pub(crate) header: Header,
    pub(crate) included: Vec<Included>,
}

impl Block {
    /// The block made of `header` and what it commits to.
    pub(crate) fn seal(header: Header, included: Vec<Included>) -> Self {
        Self { hash: header.hash_slow(), header, included }
    }

    /// Wei per gas that a block on top of this one burns.
    pub(crate) fn next_base_fee(&self) -> u64 {
        self.header.next_block_base_fee(BaseFeeParams::ethereum()).unwrap_or_default()
    }
}

/// What the maker of a block decides.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    pub(crate) timestamp: u64,
    pub(crate) beneficiary: Address,
    pub(crate) gas_limit: u64,
    pub(crate) extra_data: Bytes,
}

/// A block that isn't on the chain yet, and what keeping it takes.
pub(crate) struct Candidate {
    pub(crate) block: Block,
    pub(crate) writes: Writes,
    pub(crate) changes: Changes,
    /// Transactions that may not be included, now or ever, with the reason.
    pub(crate) refused: Vec<(B256, String)>,
}

/// Where a block is made: on top of the newest of `ancestors`.
pub(crate) struct Site<'a> {
    pub(crate) state: &'a State,
    pub(crate) ancestors: Ancestors<'a>,
    pub(crate) chain_id: u64,
}

impl Site<'_> {
    /// Makes the next block from as many of `transactions`, in their order, as fit and may be included.
    pub(crate) fn assemble(
        &self,
        parent: &Block,
        attributes: Attributes,
        transactions: impl IntoIterator<Item = Transacted>,
    ) -> Result<Candidate, StateError> {
        let (mut header, mut overlay) = self.open(parent, attributes)?;
        let mut filling = Filling::default();
        for transaction in transactions {
            if header.gas_limit - header.gas_used < LEAST_GAS {
                break;
            }
            self.include(&mut overlay, &mut header, &mut filling, transaction)?;
        }
        close(header, overlay, filling)
    }

    /// Makes a block that holds nothing but `amendment`.
    pub(crate) fn amend(
        &self,
        parent: &Block,
        attributes: Attributes,
        amendment: &Amendment,
    ) -> Result<Candidate, AmendError> {
        let (header, mut overlay) = self.open(parent, attributes)?;
        amendment.apply(&mut overlay)?;
        Ok(close(header, overlay, Filling::default())?)
    }

    /// Executes `block` again over its parent's state, up to the transaction at `index`, and lets `tracer`
    /// watch that one.
    pub(crate) fn trace(
        &self,
        mut overlay: Overlay<'_>,
        block: &Block,
        index: usize,
        tracer: CallTracer,
    ) -> Result<CallTracer, ExecuteError> {
        self.system_calls(&mut overlay, &block.header)?;
        for included in block.included.iter().take(index) {
            evm::execute(&mut overlay, self.chain_id, &block.header, &included.transaction)?;
        }
        match block.included.get(index) {
            Some(included) => {
                evm::trace(&overlay, self.chain_id, &block.header, &included.transaction, tracer)
            }
            None => Ok(tracer),
        }
    }

    /// The header of the next block, as far as it is known, and the state after its system calls.
    fn open(&self, parent: &Block, attributes: Attributes) -> Result<(Header, Overlay<'_>), StateError> {
        let header = open_header(parent, attributes);
        let mut overlay = Overlay::new(self.state.at(parent.header.number), self.ancestors);
        self.system_calls(&mut overlay, &header)?;
        Ok((header, overlay))
    }

    fn system_calls(&self, overlay: &mut Overlay<'_>, header: &Header) -> Result<(), StateError> {
        let calls = [
            (HISTORY_STORAGE_ADDRESS, header.parent_hash),
            (BEACON_ROOTS_ADDRESS, header.parent_beacon_block_root.unwrap_or_default()),
        ];
        for (contract, input) in calls {
            let data = Bytes::copy_from_slice(input.as_slice());
            let called = evm::system_call(overlay, self.chain_id, header, contract, data);
            // Nothing else can go wrong: no fee, no nonce and no balance is checked.
            if let Err(ExecuteError::State(error)) = called {
                return Err(error);
            }
        }
        Ok(())
    }

    fn include(
        &self,
        overlay: &mut Overlay<'_>,
        header: &mut Header,
        filling: &mut Filling,
        transaction: Transacted,
    ) -> Result<(), StateError> {
        let sender = transaction.signer();
        let base_fee = header.base_fee_per_gas.unwrap_or_default();
        let fits = transaction.gas_limit() <= header.gas_limit - header.gas_used;
        let affordable = transaction.max_fee_per_gas() >= u128::from(base_fee);
        if filling.waiting.contains(&sender) || !fits || !affordable {
            // A sender's later transactions can't go before this one.
            filling.waiting.insert(sender);
            return Ok(());
        }
        match evm::execute(overlay, self.chain_id, header, &transaction) {
            Ok(execution) => filling.push(header, transaction, execution),
            Err(ExecuteError::State(error)) => return Err(error),
            Err(error) => {
                filling.waiting.insert(sender);
                filling.refused.push((*transaction.tx_hash(), error.to_string()));
            }
        }
        Ok(())
    }
}

/// Commits `header` to what became of the state and of the transactions.
fn close(mut header: Header, overlay: Overlay<'_>, filling: Filling) -> Result<Candidate, StateError> {
    let (state_root, writes) = overlay.base.apply(&overlay.changes)?;
    header.state_root = state_root;
    commit_to(&mut header, &filling.included);
    let Filling { included, refused, .. } = filling;
    Ok(Candidate { block: Block::seal(header, included), writes, changes: overlay.changes, refused })
}

/// A block being filled.
#[derive(Default)]
struct Filling {
    included: Vec<Included>,
    refused: Vec<(B256, String)>,
    waiting: HashSet<Address>,
}

impl Filling {
    fn push(&mut self, header: &mut Header, transaction: Transacted, execution: Execution) {
        let Execution { outcome, gas_used, logs } = execution;
        header.gas_used += gas_used;
        let receipt = Receipt {
            status: matches!(outcome, Outcome::Success(_)).into(),
            cumulative_gas_used: header.gas_used,
            logs,
        };
        let receipt = ReceiptEnvelope::from_typed(transaction.tx_type(), receipt.with_bloom());
        self.included.push(Included::after(self.included.last(), transaction, receipt));
    }
}

fn open_header(parent: &Block, attributes: Attributes) -> Header {
    Header {
        parent_hash: parent.hash,
        number: parent.header.number + 1,
        timestamp: attributes.timestamp,
        beneficiary: attributes.beneficiary,
        gas_limit: attributes.gas_limit,
        extra_data: attributes.extra_data,
        base_fee_per_gas: Some(parent.next_base_fee()),
        // Stand-ins for what a consensus layer would give: fixed by the parent, so that the same history
        // gives the same blocks.
        mix_hash: keccak256([parent.hash.as_slice(), b"randao"].concat()),
        parent_beacon_block_root: Some(keccak256([parent.hash.as_slice(), b"beacon"].concat())),
        ..bare_header()
    }
}

/// A header with what is the same in every block of this chain.
pub(crate) fn bare_header() -> Header {
    Header {
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        difficulty: U256::ZERO,
        transactions_root: EMPTY_ROOT,
        receipts_root: EMPTY_ROOT,
        withdrawals_root: Some(EMPTY_ROOT),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

fn commit_to(header: &mut Header, included: &[Included]) {
    let transactions: Vec<_> = included.iter().map(|one| one.transaction.encoded_2718()).collect();
    let receipts: Vec<_> = included.iter().map(|one| one.receipt.encoded_2718()).collect();
    header.transactions_root = ordered_root(&transactions);
    header.receipts_root = ordered_root(&receipts);
    header.logs_bloom = included.iter().fold(Bloom::ZERO, |bloom, one| bloom | *one.receipt.logs_bloom());
}

/// Logs of a block with the transaction each belongs to and its place in the block.
pub(crate) fn logs(block: &Block) -> impl Iterator<Item = (&Included, usize, u64, &Log)> {
    block.included.iter().enumerate().flat_map(|(index, included)| {
        let logs = included.receipt.logs().iter().enumerate();
        logs.map(move |(offset, log)| (included, index, included.first_log + offset as u64, log))
    })
}
