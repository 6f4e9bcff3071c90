//! Sending a transaction and waiting until it is in a block.
//!
//! Every call is tried first (`eth_estimateGas`), so what a contract would refuse costs nothing and comes back
//! in plain words. Signs with the one [`SecretKey`] type of the product; no other copy of the key is made.

use crate::chain::{Chain, ChainError};
use crate::limits::{FIRST_POLL, LAST_POLL, RECEIPT_DEADLINE};
use crate::refusal::Refusal;
use alloy::providers::Provider;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy_consensus::TxEip1559;
use alloy_eips::BlockId;
use alloy_sol_types::SolCall;
use std::time::Duration;
use tokio::time::Instant;
use windlass_protocol::alloy_primitives::TxKind;
use windlass_protocol::{Address, B256, Bytes, SecretKey, U256};
use windlass_rpc::is_known_already;

pub use windlass_rpc::SignedTransaction as Signed;

/// Why a transaction isn't done.
#[derive(Debug, thiserror::Error)]
pub enum TransactError {
    /// The chain doesn't answer as it must.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The contract refuses; nothing was sent.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The account can't pay.
    #[error("the account {account} has {has} wei and needs up to {needs}: send it some of the chain's coin")]
    Balance {
        /// Who pays.
        account: Address,
        /// In wei.
        has: U256,
        /// In wei.
        needs: U256,
    },
    /// It is in a block and failed there: the state changed between trying and doing.
    #[error("the transaction {0} failed in its block: the state changed meanwhile; try again")]
    Failed(B256),
    /// Sent, and in no block yet.
    #[error(
        "the transaction {transaction} is in no block after {seconds} s; it may still get there, so look before repeating"
    )]
    Pending {
        /// Its hash.
        transaction: B256,
        /// How long was waited.
        seconds: u64,
    },
}

/// What to do on the chain.
#[derive(Clone, Debug)]
pub struct Action {
    /// The contract to call; none creates one.
    pub to: Option<Address>,
    /// Creation code, or a call's selector and arguments.
    pub input: Bytes,
    /// Wei to pay.
    pub value: U256,
}

impl Action {
    /// A call that pays nothing.
    pub fn call(to: Address, call: &impl SolCall) -> Self {
        Self { to: Some(to), input: call.abi_encode().into(), value: U256::ZERO }
    }

    /// The same action, paying `value` wei.
    pub fn paying(self, value: U256) -> Self {
        Self { value, ..self }
    }

    fn request(&self, from: Address) -> TransactionRequest {
        TransactionRequest {
            from: Some(from),
            to: Some(self.to.map_or(TxKind::Create, TxKind::Call)),
            input: self.input.clone().into(),
            value: Some(self.value),
            ..TransactionRequest::default()
        }
    }
}

impl Chain {
    /// Does `action` in the name of `key` and waits for its block.
    ///
    /// # Errors
    /// [`TransactError`]. Not cancel-safe: a transaction that was sent stays sent.
    pub async fn transact(
        &self,
        key: &SecretKey,
        action: &Action,
    ) -> Result<TransactionReceipt, TransactError> {
        let nonce = self.nonce(key.address().0, true).await?;
        let signed = self.prepare(key, action, nonce).await?;
        match self.send(&signed).await {
            Ok(()) => {}
            Err(refused @ ChainError::Refused { .. }) => return Err(refused.into()),
            // The answer is lost, the transaction perhaps not: only its block tells.
            Err(error) => tracing::debug!(%error, hash = %signed.hash, "no answer to a transaction"),
        }
        self.wait(signed.hash).await
    }

    /// Tries `action`, prices it and signs it with this nonce.
    ///
    /// # Errors
    /// [`TransactError`]; nothing has been sent.
    pub async fn prepare(
        &self,
        key: &SecretKey,
        action: &Action,
        nonce: u64,
    ) -> Result<Signed, TransactError> {
        let account = key.address().0;
        let has = self.balance(account).await?;
        if has < action.value {
            return Err(TransactError::Balance { account, has, needs: action.value });
        }
        let gas = self.estimate(account, action).await?;
        let fees = self.ask("estimate fees", self.provider.estimate_eip1559_fees()).await?;
        let needs = action.value + U256::from(gas) * U256::from(fees.max_fee_per_gas);
        if has < needs {
            return Err(TransactError::Balance { account, has, needs });
        }
        let transaction = TxEip1559 {
            chain_id: self.id().await?,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to: action.to.map_or(TxKind::Create, TxKind::Call),
            value: action.value,
            input: action.input.clone(),
            ..TxEip1559::default()
        };
        Ok(Signed::new(transaction, |digest| *key.sign(digest).as_bytes()))
    }

    /// The gas `action` takes, and an eighth more: what it costs may grow until its block.
    async fn estimate(&self, from: Address, action: &Action) -> Result<u64, TransactError> {
        let tried = self.ask("estimate gas", self.provider.estimate_gas(action.request(from))).await;
        match tried {
            Ok(gas) => Ok(gas.saturating_add(gas / 8)),
            Err(ChainError::Refused { revert: Some(data), .. }) => Err(Refusal::decode(&data).into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Runs a call without a transaction, over the latest block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn view(&self, action: &Action) -> Result<Bytes, ChainError> {
        self.call(action.request(Address::ZERO), BlockId::latest()).await
    }

    /// Hands a signed transaction to the chain. One that it has already is no error.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn send(&self, signed: &Signed) -> Result<(), ChainError> {
        let sent = self.ask("take a transaction", self.provider.send_raw_transaction(&signed.raw)).await;
        match sent {
            Err(ChainError::Refused { message, .. }) if is_known_already(&message) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Waits until the transaction is in a block.
    ///
    /// # Errors
    /// [`TransactError::Failed`] and [`TransactError::Pending`]. A chain that stops answering meanwhile is asked
    /// again until the deadline: the transaction was sent, and must not be taken for undone.
    pub async fn wait(&self, transaction: B256) -> Result<TransactionReceipt, TransactError> {
        let (end, mut pause) = (Instant::now() + RECEIPT_DEADLINE, FIRST_POLL);
        loop {
            match self.receipt(transaction).await {
                Ok(Some(receipt)) if receipt.status() => return Ok(receipt),
                Ok(Some(_)) => return Err(TransactError::Failed(transaction)),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, %transaction, "no answer about a receipt"),
            }
            if Instant::now() >= end {
                return Err(TransactError::Pending { transaction, seconds: RECEIPT_DEADLINE.as_secs() });
            }
            tokio::time::sleep(pause).await;
            pause = longer(pause);
        }
    }
}

/// The next pause between two looks.
pub(crate) fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LAST_POLL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut pause = FIRST_POLL;
        for _ in 0..20 {
            assert!(longer(pause) >= pause);
            pause = longer(pause);
        }
        assert_eq!(pause, LAST_POLL);
    }
}
