//! A chain as its JSON-RPC shows it: what deploying and registering need, each request with a deadline and
//! a plain error.
//!
//! Nothing read here is proven. Reading commands don't use it; transactions do, and the chain judges those.

use crate::limits::{MAX_RPC_ANSWER_BYTES, RPC_DEADLINE};
use alloy::network::Ethereum;
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{Block, EIP1186AccountProofResponse, TransactionReceipt, TransactionRequest};
use alloy::transports::{RpcError, TransportError};
use alloy_eips::BlockId;
use std::future::IntoFuture;
use windlass_protocol::record::NEVER;
use windlass_protocol::spec::ChainSpec;
use windlass_protocol::{Address, B256, Bytes, U256};
use windlass_rpc::{BoundedHttp, UrlError, one_line};

/// Why a chain doesn't answer as it must.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Not a URL this program can use.
    #[error(
        "the RPC URL can't be used: {0}; expected one like http://127.0.0.1:8545 or https://provider.example/key"
    )]
    Url(#[from] UrlError),
    /// No answer: nobody there, or nobody listening.
    #[error("no answer from the chain at {url}: {reason}; check that it runs and that the URL is right")]
    Unreachable {
        /// Where.
        url: String,
        /// What the transport said.
        reason: String,
    },
    /// An answer that says no.
    #[error("the chain at {url} refuses to {what}: {message}")]
    Refused {
        /// Where.
        url: String,
        /// What was asked.
        what: &'static str,
        /// In the chain's words.
        message: String,
        /// What a contract returned when it reverted.
        revert: Option<Bytes>,
    },
    /// An answer that makes no sense.
    #[error("the chain at {url} gives no usable answer to {what}: {reason}")]
    Malformed {
        /// Where.
        url: String,
        /// What was asked.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Another chain than the one that was asked for.
    #[error("the chain at {url} has id {actual}, not {expected} as asked for: check the URL")]
    NotMeant {
        /// Where.
        url: String,
        /// The id it has.
        actual: u64,
        /// The id it should have.
        expected: u64,
    },
    /// Another chain than the chain spec's.
    #[error(
        "the chain at {url} is not the chain spec's: its {what} is {actual}, the spec says {expected} \
             (a development chain that was started anew is another chain)"
    )]
    OtherChain {
        /// Where.
        url: String,
        /// Chain id or genesis hash.
        what: &'static str,
        /// What it has.
        actual: String,
        /// What it should have.
        expected: String,
    },
}

/// A chain at an RPC URL.
#[derive(Clone, Debug)]
pub struct Chain {
    pub(crate) provider: RootProvider<Ethereum>,
    url: String,
}

impl Chain {
    /// Prepares to talk to the chain at `url`; sends nothing yet.
    ///
    /// # Errors
    /// [`ChainError::Url`].
    pub fn at(url: &str) -> Result<Self, ChainError> {
        let http = BoundedHttp::new(url, MAX_RPC_ANSWER_BYTES)?;
        let url = http.origin().to_owned();
        Ok(Self { provider: RootProvider::new(RpcClient::new(http, false)), url })
    }

    /// Prepares to talk to the chain at `url` and checks that it is the one `spec` pins.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn of_spec(url: &str, spec: &ChainSpec) -> Result<Self, ChainError> {
        let chain = Self::at(url)?;
        let id = chain.id().await?;
        if id != spec.chain_id {
            return Err(chain.other("chain id", id.to_string(), spec.chain_id.to_string()));
        }
        let genesis = chain.genesis_hash().await?;
        if genesis != spec.genesis_hash {
            return Err(chain.other("genesis hash", genesis.to_string(), spec.genesis_hash.to_string()));
        }
        Ok(chain)
    }

    /// Checks that this is the chain that was meant.
    ///
    /// # Errors
    /// [`ChainError::NotMeant`], or it doesn't answer.
    pub async fn require_id(&self, expected: u64) -> Result<(), ChainError> {
        let actual = self.id().await?;
        if actual == expected {
            return Ok(());
        }
        Err(ChainError::NotMeant { url: self.url.clone(), actual, expected })
    }

    fn other(&self, what: &'static str, actual: String, expected: String) -> ChainError {
        ChainError::OtherChain { url: self.url.clone(), what, actual, expected }
    }

    /// Its URL, without path and credentials: providers put access keys there.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its EIP-155 chain id.
    pub async fn id(&self) -> Result<u64, ChainError> {
        self.ask("give its chain id", self.provider.get_chain_id()).await
    }

    /// The hash of block 0.
    pub async fn genesis_hash(&self) -> Result<B256, ChainError> {
        self.block(BlockId::number(0)).await.map(|block| block.header.hash)
    }

    /// One block without its transactions.
    pub async fn block(&self, id: BlockId) -> Result<Block, ChainError> {
        let what = "give a block";
        self.ask(what, self.provider.get_block(id))
            .await?
            .ok_or_else(|| self.malformed(what, "no such block"))
    }

    /// The latest block's timestamp: the chain's idea of now, in Unix seconds.
    pub async fn now(&self) -> Result<u64, ChainError> {
        let time = self.block(BlockId::latest()).await?.header.timestamp;
        // Contracts keep times in 40 bits, and consents add to this one.
        if time > NEVER / 2 {
            return Err(self.malformed("give its time", &format!("{time} is no time of this age")));
        }
        Ok(time)
    }

    /// An account's balance in wei.
    pub async fn balance(&self, account: Address) -> Result<U256, ChainError> {
        self.ask("give a balance", self.provider.get_balance(account)).await
    }

    /// How many transactions an account has sent in blocks; with `pending`, those waiting too.
    pub async fn nonce(&self, account: Address, pending: bool) -> Result<u64, ChainError> {
        let count = self.provider.get_transaction_count(account);
        self.ask("count transactions", if pending { count.pending() } else { count.latest() }).await
    }

    /// A contract's code; empty when there is none.
    pub async fn code(&self, account: Address) -> Result<Bytes, ChainError> {
        self.ask("give a contract's code", self.provider.get_code_at(account)).await
    }

    /// A transaction's receipt, once it is in a block.
    pub async fn receipt(&self, transaction: B256) -> Result<Option<TransactionReceipt>, ChainError> {
        self.ask("give a receipt", self.provider.get_transaction_receipt(transaction)).await
    }

    /// Runs a call without a transaction.
    pub async fn call(&self, request: TransactionRequest, at: BlockId) -> Result<Bytes, ChainError> {
        self.ask("run a call", self.provider.call(request).block(at)).await
    }

    /// The proof of an account and one slot of its storage.
    pub async fn proof(
        &self,
        account: Address,
        slot: B256,
        at: BlockId,
    ) -> Result<EIP1186AccountProofResponse, ChainError> {
        let what = "prove a slot (eth_getProof)";
        self.ask(what, self.provider.get_proof(account, vec![slot]).block_id(at)).await
    }

    /// Waits for one request, with a deadline, and says plainly what went wrong.
    pub(crate) async fn ask<T>(
        &self,
        what: &'static str,
        request: impl IntoFuture<Output = Result<T, TransportError>>,
    ) -> Result<T, ChainError> {
        match tokio::time::timeout(RPC_DEADLINE, request.into_future()).await {
            Ok(answer) => answer.map_err(|error| self.explain(what, error)),
            Err(_) => Err(self.unreachable(format!("nothing within {} s", RPC_DEADLINE.as_secs()))),
        }
    }

    fn explain(&self, what: &'static str, error: TransportError) -> ChainError {
        match error {
            RpcError::ErrorResp(payload) => ChainError::Refused {
                url: self.url.clone(),
                what,
                message: one_line(&payload.message),
                revert: payload.as_revert_data(),
            },
            RpcError::Transport(kind) => self.unreachable(root_cause(&kind)),
            RpcError::NullResp => self.malformed(what, "an empty answer"),
            other => self.malformed(what, &one_line(&other.to_string())),
        }
    }

    fn unreachable(&self, reason: String) -> ChainError {
        ChainError::Unreachable { url: self.url.clone(), reason }
    }

    pub(crate) fn malformed(&self, what: &'static str, reason: &str) -> ChainError {
        ChainError::Malformed { url: self.url.clone(), what, reason: reason.to_owned() }
    }
}

/// The innermost error says what happened; those around it only that something did.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    one_line(&innermost.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_url_is_said() {
        for text in ["", "localhost", "localhost:8545", "127.0.0.1:8545", "ftp://example.org", "file:///x"] {
            assert!(matches!(Chain::at(text), Err(ChainError::Url(_))), "{text}");
        }
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        let chain = Chain::at("http://user:word@example.org:8545/v3/key?x=1").unwrap();
        assert_eq!(chain.url(), "http://example.org:8545");
        let refused = Chain::at("ftp://user:word@example.org/v3/key").unwrap_err().to_string();
        assert!(!refused.contains("word") && !refused.contains("key?"), "{refused}");
    }

    #[tokio::test]
    async fn a_chain_that_is_down_is_said_with_its_url() {
        // Bound and dropped: nobody listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let error = Chain::at(&url).unwrap().id().await.unwrap_err();
        assert!(matches!(error, ChainError::Unreachable { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&url) && text.contains("refused") && !text.contains('\n'), "{text}");
    }
}
