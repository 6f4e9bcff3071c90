//! A transaction of an account that the operator gave the node: tried, signed, sent, and looked for.
//!
//! Never the node's own doing: what is sent, and whether, is decided elsewhere. Signs with the one [`SecretKey`] type of
//! the product; no other copy of the key is made.

use super::Answer;
use super::provider::{Divisible, Provider};
use alloy::consensus::TxEip1559;
use alloy::providers::Provider as _;
use alloy::rpc::types::TransactionRequest;
use alloy::transports::RpcError;
use std::future::Future;
use windlass_protocol::alloy_primitives::TxKind;
use windlass_protocol::{Address, B256, Bytes, SecretKey, U256};
use windlass_rpc::is_known_already;

/// A call of a contract that was tried and signed, and not sent yet.
pub use windlass_rpc::SignedTransaction as Signed;

/// What came of trying a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tried {
    /// It would be done.
    Ready(Signed),
    /// The contract refuses it, with these bytes.
    Refused(Bytes),
    /// The account can't pay for it, in words.
    Unpaid(String),
}

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Included {
    /// It is in this block, and did what it should.
    Done(u64),
    /// It is in this block, and failed there.
    Failed(u64),
}

/// A chain that takes transactions.
pub trait Ledger: Send + Sync + 'static {
    /// Tries a call that pays nothing in the name of `key`, prices and signs it.
    fn prepare(
        &self,
        key: &SecretKey,
        to: Address,
        call: &Bytes,
    ) -> impl Future<Output = Answer<Tried>> + Send;

    /// Hands a signed transaction over. Sent again it is the same one.
    fn send(&self, signed: &Signed) -> impl Future<Output = Answer<()>> + Send;

    /// Whether a transaction is in a block.
    fn included(&self, transaction: B256) -> impl Future<Output = Answer<Option<Included>>> + Send;
}

impl Provider {
    pub(super) async fn prepare(
        &self,
        key: &SecretKey,
        chain_id: u64,
        to: Address,
        call: &Bytes,
    ) -> Answer<Tried> {
        let from = key.address().0;
        let request = TransactionRequest {
            from: Some(from),
            to: Some(TxKind::Call(to)),
            input: call.clone().into(),
            ..TransactionRequest::default()
        };
        // By itself, since a refusal is an answer here.
        let tried = self
            .within(Divisible::No, async {
                match self.rpc.estimate_gas(request).await {
                    Ok(gas) => Ok(Ok(gas)),
                    Err(RpcError::ErrorResp(payload)) => match payload.as_revert_data() {
                        Some(data) => Ok(Err(data)),
                        None => Err(RpcError::ErrorResp(payload)),
                    },
                    Err(error) => Err(error),
                }
            })
            .await?;
        let gas = match tried {
            Ok(gas) => gas.saturating_add(gas / 8),
            Err(data) => return Ok(Tried::Refused(data)),
        };
        let fees = self.within(Divisible::No, async { self.rpc.estimate_eip1559_fees().await }).await?;
        let balance = self.within(Divisible::No, async { self.rpc.get_balance(from).await }).await?;
        let needs = U256::from(gas) * U256::from(fees.max_fee_per_gas);
        if balance < needs {
            let reason =
                format!("the account {from} has {balance} wei and needs up to {needs}: send it some");
            return Ok(Tried::Unpaid(reason));
        }
        let nonce = self
            .within(Divisible::No, async { self.rpc.get_transaction_count(from).pending().await })
            .await?;
        let transaction = TxEip1559 {
            chain_id,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to: TxKind::Call(to),
            input: call.clone(),
            ..TxEip1559::default()
        };
        Ok(Tried::Ready(Signed::new(transaction, |digest| *key.sign(digest).as_bytes())))
    }

    pub(super) async fn send(&self, signed: &Signed) -> Answer<()> {
        let sent = self.within(Divisible::No, async {
            match self.rpc.send_raw_transaction(&signed.raw).await {
                Err(RpcError::ErrorResp(payload)) if is_known_already(&payload.message) => Ok(()),
                other => other.map(drop),
            }
        });
        sent.await
    }

    pub(super) async fn included(&self, transaction: B256) -> Answer<Option<Included>> {
        let asked = async { self.rpc.get_transaction_receipt(transaction).await };
        let receipt = self.within(Divisible::No, asked).await?;
        Ok(receipt.and_then(|receipt| {
            let block = receipt.block_number?;
            Some(if receipt.status() { Included::Done(block) } else { Included::Failed(block) })
        }))
    }
}
