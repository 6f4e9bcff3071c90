//! Transactions that wait for a block.
//!
//! Owns which signed transactions are taken in, and the order in which they become ready: first come, first
//! served, a sender's own by nonce. Refusals carry the words of other nodes, since clients match on them.

use super::block::{Transacted, is_impersonated};
use super::evm::{self, Overlay};
use super::limits::{
    MAX_INITCODE_BYTES, MAX_POOLED_BYTES, MAX_POOLED_TRANSACTIONS, MAX_TRANSACTION_BYTES, MAX_TRANSACTION_GAS,
};
use super::state::StateError;
use alloy_consensus::{Transaction, TxType};
use alloy_eips::eip2718::Encodable2718;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use windlass_protocol::trie::EMPTY_CODE_HASH;
use windlass_protocol::{Address, B256, U256};

/// Why a transaction isn't taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    #[error("invalid chain id for signer: have {have} want {want}")]
    ChainId { have: u64, want: u64 },
    #[error("transaction type not supported: this chain carries no blobs")]
    Blobs,
    #[error("oversized data: transaction size {size}, limit {MAX_TRANSACTION_BYTES}")]
    Oversized { size: usize },
    #[error("max initcode size exceeded: code size {size}, limit {MAX_INITCODE_BYTES}")]
    Initcode { size: usize },
    #[error("exceeds block gas limit")]
    BlockGasLimit,
    #[error("transaction gas limit too high (cap: {MAX_TRANSACTION_GAS}, tx: {gas_limit})")]
    GasCap { gas_limit: u64 },
    #[error("intrinsic gas too low: gas {gas_limit}, minimum needed {needed}")]
    IntrinsicGas { gas_limit: u64, needed: u64 },
    #[error(
        "max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: {tip}, maxFeePerGas: {fee}"
    )]
    TipAboveFee { tip: u128, fee: u128 },
    #[error(
        "max fee per gas less than block base fee: address {from}, maxFeePerGas: {fee}, baseFee: {base_fee}"
    )]
    Underpriced { from: Address, fee: u128, base_fee: u64 },
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow { next: u64, nonce: u64 },
    #[error("nonce has max value")]
    NonceMax,
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {}", cost - balance)]
    Funds { balance: U256, cost: U256 },
    #[error("sender not an eoa: address {0} has code")]
    SenderHasCode(Address),
    #[error("already known")]
    Known,
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    #[error("txpool is full: {transactions} transactions of {bytes} bytes wait; mine a block")]
    Full { transactions: usize, bytes: usize },
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a transaction is checked against.
pub(crate) struct Conditions<'a> {
    /// State after the newest block.
    pub(crate) state: Overlay<'a>,
    pub(crate) chain_id: u64,
    pub(crate) gas_limit: u64,
    pub(crate) next_base_fee: u64,
}

struct Pooled {
    arrival: u64,
    /// Bytes, encoded.
    size: usize,
    transaction: Transacted,
}

/// The waiting transactions.
#[derive(Default)]
pub(crate) struct Pool {
    senders: HashMap<Address, BTreeMap<u64, Pooled>>,
    by_hash: HashMap<B256, (Address, u64)>,
    arrivals: u64,
    /// Bytes of all that wait, encoded.
    bytes: usize,
}

impl Pool {
    /// Takes in a transaction, in place of one with the same nonce if it pays a tenth more.
    pub(crate) fn add(&mut self, transaction: Transacted, now: &Conditions<'_>) -> Result<(), SubmitError> {
        let (hash, sender, nonce) = (*transaction.tx_hash(), transaction.signer(), transaction.nonce());
        if self.by_hash.contains_key(&hash) {
            return Err(SubmitError::Known);
        }
        check_form(&transaction, now)?;
        check_sender(&transaction, now)?;
        let size = transaction.encode_2718_len();
        let former = self.senders.get(&sender).and_then(|waiting| waiting.get(&nonce));
        if former.is_some_and(|former| !outbids(&transaction, &former.transaction)) {
            return Err(SubmitError::ReplacementUnderpriced);
        }
        let others = self.by_hash.len() - usize::from(former.is_some());
        let bytes = self.bytes - former.map_or(0, |former| former.size) + size;
        if others >= MAX_POOLED_TRANSACTIONS || bytes > MAX_POOLED_BYTES {
            return Err(SubmitError::Full { transactions: self.by_hash.len(), bytes: self.bytes });
        }
        if let Some(former) = former.map(|former| *former.transaction.tx_hash()) {
            self.remove(&former);
        }
        self.arrivals += 1;
        self.bytes += size;
        self.by_hash.insert(hash, (sender, nonce));
        let pooled = Pooled { arrival: self.arrivals, size, transaction };
        self.senders.entry(sender).or_default().insert(nonce, pooled);
        Ok(())
    }

    /// The transaction with this hash, if it waits.
    pub(crate) fn find(&self, hash: &B256) -> Option<&Transacted> {
        let (sender, nonce) = self.by_hash.get(hash)?;
        Some(&self.senders.get(sender)?.get(nonce)?.transaction)
    }

    /// The nonce after the last of `sender`'s transactions that can follow one another from `next` on.
    pub(crate) fn next_nonce(&self, sender: Address, next: u64) -> u64 {
        let Some(waiting) = self.senders.get(&sender) else { return next };
        waiting.range(next..).zip(next..).take_while(|((nonce, _), expected)| *nonce == expected).count()
            as u64
            + next
    }

    /// Transactions in the order in which a block takes them; `next_nonce` is each sender's in the state.
    pub(crate) fn ready(
        &self,
        next_nonce: impl Fn(Address) -> Result<u64, StateError>,
    ) -> Result<Ready<'_>, StateError> {
        let mut heads = BinaryHeap::new();
        for (sender, waiting) in &self.senders {
            let next = next_nonce(*sender)?;
            if let Some(pooled) = waiting.get(&next) {
                heads.push(Reverse((pooled.arrival, *sender, next)));
            }
        }
        Ok(Ready { pool: self, heads })
    }

    /// Forgets the transaction with this hash.
    pub(crate) fn remove(&mut self, hash: &B256) {
        let Some((sender, nonce)) = self.by_hash.remove(hash) else { return };
        let Some(waiting) = self.senders.get_mut(&sender) else { return };
        self.bytes -= waiting.remove(&nonce).map_or(0, |pooled| pooled.size);
        if waiting.is_empty() {
            self.senders.remove(&sender);
        }
    }

    /// Forgets `sender`'s transactions below `next`, which can't be mined any more.
    pub(crate) fn settle(&mut self, sender: Address, next: u64) {
        let Some(waiting) = self.senders.get(&sender) else { return };
        let stale: Vec<_> = waiting.range(..next).map(|(_, pooled)| *pooled.transaction.tx_hash()).collect();
        stale.iter().for_each(|hash| self.remove(hash));
    }
}

/// The transactions a block may take, one after the other: it takes as many as fit, of perhaps far more.
pub(crate) struct Ready<'a> {
    pool: &'a Pool,
    /// Of each sender, when its next transaction arrived, and that one's nonce.
    heads: BinaryHeap<Reverse<(u64, Address, u64)>>,
}

impl Iterator for Ready<'_> {
    type Item = Transacted;

    fn next(&mut self) -> Option<Transacted> {
        let Reverse((_, sender, nonce)) = self.heads.pop()?;
        let waiting = self.pool.senders.get(&sender)?;
        if let Some(pooled) = waiting.get(&(nonce + 1)) {
            self.heads.push(Reverse((pooled.arrival, sender, nonce + 1)));
        }
        waiting.get(&nonce).map(|pooled| pooled.transaction.clone())
    }
}

fn check_form(transaction: &Transacted, now: &Conditions<'_>) -> Result<(), SubmitError> {
    let (gas_limit, size) = (transaction.gas_limit(), transaction.encode_2718_len());
    let needed = evm::minimum_gas(transaction);
    let (fee, tip) =
        (transaction.max_fee_per_gas(), transaction.max_priority_fee_per_gas().unwrap_or_default());
    match transaction.chain_id() {
        // Without a chain id (before EIP-155) it is valid on every chain, also on this one.
        Some(have) if have != now.chain_id => Err(SubmitError::ChainId { have, want: now.chain_id }),
        _ if transaction.tx_type() == TxType::Eip4844 => Err(SubmitError::Blobs),
        _ if size > MAX_TRANSACTION_BYTES => Err(SubmitError::Oversized { size }),
        _ if transaction.to().is_none() && transaction.input().len() > MAX_INITCODE_BYTES => {
            Err(SubmitError::Initcode { size: transaction.input().len() })
        }
        _ if gas_limit > now.gas_limit => Err(SubmitError::BlockGasLimit),
        _ if gas_limit > MAX_TRANSACTION_GAS => Err(SubmitError::GasCap { gas_limit }),
        _ if gas_limit < needed => Err(SubmitError::IntrinsicGas { gas_limit, needed }),
        _ if tip > fee => Err(SubmitError::TipAboveFee { tip, fee }),
        _ if fee < u128::from(now.next_base_fee) => {
            let from = transaction.signer();
            Err(SubmitError::Underpriced { from, fee, base_fee: now.next_base_fee })
        }
        _ => Ok(()),
    }
}

fn check_sender(transaction: &Transacted, now: &Conditions<'_>) -> Result<(), SubmitError> {
    let (sender, nonce) = (transaction.signer(), transaction.nonce());
    let basic = now.state.basic(sender)?.unwrap_or_default();
    let fee = U256::from(transaction.gas_limit()).saturating_mul(U256::from(transaction.max_fee_per_gas()));
    let cost = fee.saturating_add(transaction.value());
    if nonce == u64::MAX {
        return Err(SubmitError::NonceMax);
    }
    if nonce < basic.nonce {
        return Err(SubmitError::NonceTooLow { next: basic.nonce, nonce });
    }
    if cost > basic.balance {
        return Err(SubmitError::Funds { balance: basic.balance, cost });
    }
    if basic.code_hash != EMPTY_CODE_HASH
        && !is_impersonated(transaction)
        && !now.state.code(basic.code_hash)?.is_delegation()
    {
        return Err(SubmitError::SenderHasCode(sender));
    }
    Ok(())
}

/// Whether `new` pays at least a tenth more than `former`, in both fees.
fn outbids(new: &Transacted, former: &Transacted) -> bool {
    let enough = |new: u128, former: u128| new >= former.saturating_add(former.div_ceil(10));
    let tip = |tx: &Transacted| tx.max_priority_fee_per_gas().unwrap_or_else(|| tx.max_fee_per_gas());
    enough(new.max_fee_per_gas(), former.max_fee_per_gas()) && enough(tip(new), tip(former))
}

/// A transaction of the first funded account with this nonce and input, signed by nobody.
#[cfg(test)]
pub(crate) fn sample(nonce: u64, input: Vec<u8>) -> Transacted {
    use alloy_consensus::transaction::Recovered;
    use alloy_consensus::{SignableTransaction, TxLegacy};
    let sender = crate::chain::DEV_ACCOUNTS[0].address;
    let (gas_price, gas_limit) = (10_000_000_000, 2_000_000);
    let (to, input) = (sender.into(), input.into());
    let transaction = TxLegacy { nonce, gas_price, gas_limit, to, input, ..TxLegacy::default() };
    let signed = transaction.into_signed(super::block::impersonation(sender));
    std::sync::Arc::new(Recovered::new_unchecked(signed.into(), sender))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::chain::ChainConfig;
    use crate::chain::ledger::Ledger;

    fn ledger() -> Ledger {
        Ledger::open(ChainConfig::default(), 1_800_000_000).unwrap()
    }

    #[test]
    fn bytes_are_counted_and_given_back() {
        let mut ledger = ledger();
        ledger.submit(sample(0, vec![0; 1_000])).unwrap();
        ledger.submit(sample(1, vec![0; 2_000])).unwrap();
        assert!((3_000..3_400).contains(&ledger.pool.bytes));
        ledger.mine(1_800_000_001).unwrap();
        assert_eq!((ledger.pool.bytes, ledger.pool.by_hash.len()), (0, 0));
    }

    #[test]
    fn the_pool_is_full_by_bytes_too_and_has_room_again_afterwards() {
        let mut ledger = ledger();
        ledger.submit(sample(0, Vec::new())).unwrap();
        let waiting = ledger.pool.bytes;
        ledger.pool.bytes = MAX_POOLED_BYTES - 500;
        let refused = ledger.submit(sample(1, vec![0; 1_000]));
        assert!(matches!(refused, Err(SubmitError::Full { transactions: 1, .. })), "{refused:?}");
        ledger.submit(sample(1, Vec::new())).unwrap();
        ledger.pool.bytes = waiting;
        ledger.submit(sample(2, vec![0; 1_000])).unwrap();
    }
}
