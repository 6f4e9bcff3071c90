//! One chain provider over JSON-RPC: what it is asked, how long it may take, and what its failures are called.
//!
//! Headers count only if they hash to what the provider says; everything else is checked by whoever asked.

use super::{Answer, Block, SourceError};
use crate::limits::PROVIDER_DEADLINE;
use alloy::consensus::Header as ConsensusHeader;
use alloy::eips::BlockId;
use alloy::network::Ethereum;
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::types::{EIP1186AccountProofResponse, Filter, Log};
use alloy::transports::{RpcError, TransportError, TransportErrorKind};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use windlass_protocol::spec::ChainSpec;
use windlass_protocol::{Address, B256, Bytes};

/// Why a provider can't be used at all.
#[derive(Debug, thiserror::Error)]
#[error("`providers` has {url:?}, which is no http or https URL: {reason}")]
pub struct BadUrl {
    pub(super) url: String,
    pub(super) reason: String,
}

/// One provider, and how it has been doing.
pub(super) struct Provider {
    rpc: RootProvider<Ethereum>,
    pub(super) url: String,
    pub(super) failures: AtomicU64,
    pub(super) contradictions: AtomicU64,
    last_failure: Mutex<Option<String>>,
}

impl Provider {
    pub(super) fn new(url: &str) -> Result<Self, BadUrl> {
        let bad = |reason: String| BadUrl { url: shown(url), reason };
        let parsed: alloy::transports::http::reqwest::Url =
            url.parse().map_err(|error| bad(format!("{error}")))?;
        if !["http", "https"].contains(&parsed.scheme()) {
            return Err(bad(format!("the scheme is {:?}", parsed.scheme())));
        }
        Ok(Self {
            rpc: RootProvider::new_http(parsed),
            url: shown(url),
            failures: AtomicU64::new(0),
            contradictions: AtomicU64::new(0),
            last_failure: Mutex::new(None),
        })
    }

    /// Counts a failure, and remembers it for whoever runs the node.
    pub(super) fn failed(&self, reason: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(url = self.url, reason, "a provider failed");
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// The last failure, in words.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it serves the spec's chain.
    pub(super) async fn check(&self, spec: &ChainSpec) -> Answer<()> {
        let other = |what, found: String, pinned: String| {
            Err(SourceError::OtherChain { url: self.url.clone(), what, found, pinned })
        };
        let chain_id = self.within(async { self.rpc.get_chain_id().await }).await?;
        if chain_id != spec.chain_id {
            return other("chain id", chain_id.to_string(), spec.chain_id.to_string());
        }
        let genesis = self.require(BlockId::number(0)).await?.header.hash;
        if genesis != spec.genesis_hash {
            return other("genesis hash", genesis.to_string(), spec.genesis_hash.to_string());
        }
        Ok(())
    }

    pub(super) async fn require(&self, id: BlockId) -> Answer<Block> {
        let block = self.block(id).await?;
        block.ok_or_else(|| SourceError::Unavailable(format!("provider {} knows no block {id}", self.url)))
    }

    pub(super) async fn block(&self, id: BlockId) -> Answer<Option<Block>> {
        let Some(block) = self.within(async { self.rpc.get_block(id).await }).await? else { return Ok(None) };
        let claimed = block.header.hash;
        let header: &ConsensusHeader = &block.header.inner;
        let unusable = |reason: String| SourceError::Unavailable(format!("provider {}: {reason}", self.url));
        let decoded = Block::decode(alloy_rlp::encode(header).into()).map_err(|e| unusable(e.to_string()))?;
        if decoded.header.hash != claimed {
            return Err(SourceError::Ineligible {
                url: self.url.clone(),
                number: decoded.header.number,
                claimed,
                actual: decoded.header.hash,
            });
        }
        Ok(Some(decoded))
    }

    pub(super) async fn logs(&self, filter: &Filter) -> Answer<Vec<Log>> {
        self.within(async { self.rpc.get_logs(filter).await }).await
    }

    pub(super) async fn account(&self, registry: Address, hash: B256) -> Answer<Vec<Bytes>> {
        Ok(self.proof(registry, Vec::new(), hash).await?.account_proof)
    }

    /// The proof of an account and of slots of it, after the block with this hash.
    pub(super) async fn proof(
        &self,
        registry: Address,
        slots: Vec<B256>,
        hash: B256,
    ) -> Answer<EIP1186AccountProofResponse> {
        self.within(async { self.rpc.get_proof(registry, slots).hash(hash).await }).await
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, TransportError>>) -> Answer<T> {
        match tokio::time::timeout(PROVIDER_DEADLINE, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.explain(&error)),
            Err(_) => Err(SourceError::Unavailable(format!(
                "provider {} gave no answer within {} s",
                self.url,
                PROVIDER_DEADLINE.as_secs()
            ))),
        }
    }

    fn explain(&self, error: &TransportError) -> SourceError {
        if let RpcError::ErrorResp(payload) = error {
            let reason = payload.message.to_string();
            if is_limit(payload.code, &reason) {
                return SourceError::TooMuch { url: self.url.clone(), reason };
            }
            return SourceError::Unavailable(format!("provider {}: {reason}", self.url));
        }
        let reason = match error {
            // Its text repeats the URL, which may hold an access key.
            RpcError::Transport(TransportErrorKind::Custom(source)) => innermost(source.as_ref()),
            RpcError::DeserError { err, .. } => format!("it sent no answer we understand: {err}"),
            other => one_line(&other.to_string()),
        };
        SourceError::Unavailable(format!("provider {}: {reason}", self.url))
    }
}

/// EIP-1474's "limit exceeded", and the words of providers that don't use it.
fn is_limit(code: i64, message: &str) -> bool {
    let message = message.to_lowercase();
    code == -32005
        || ["limit exceeded", "exceeds max results", "too many", "block range", "query returned more than"]
            .iter()
            .any(|words| message.contains(words))
}

/// A URL without path and credentials, which may be secret.
fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}")
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    one_line(&innermost.to_string())
}

fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > 200 {
        line = line.chars().take(200).collect();
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        assert_eq!(shown("https://user:word@example.org:8545/v3/key?x=1"), "https://example.org:8545");
        assert_eq!(shown("http://127.0.0.1:8545"), "http://127.0.0.1:8545");
    }

    #[test]
    fn limits_are_told_from_other_errors() {
        assert!(is_limit(-32005, "whatever"));
        assert!(is_limit(-32000, "query exceeds max results 20000, retry with the range 1-5"));
        assert!(is_limit(-32602, "eth_getLogs is limited to a 10,000 block range"));
        assert!(!is_limit(-32000, "header not found"));
        assert!(!is_limit(-32601, "the method does not exist"));
    }
}
