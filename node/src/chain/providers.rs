//! Chain providers over JSON-RPC: asked in order, the next one when one fails, each failure counted.

use super::{Answer, Block, ChainSource, Change, SourceError};
use crate::limits::PROVIDER_DEADLINE;
use alloy::consensus::Header as ConsensusHeader;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::Ethereum;
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use alloy::transports::{RpcError, TransportError, TransportErrorKind};
use serde::Serialize;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use windlass_contracts::registry::Registry;
use windlass_protocol::spec::ChainSpec;
use windlass_protocol::{Address, B256, Bytes};

/// The chain through one or more providers.
pub struct Providers {
    providers: Vec<Provider>,
    /// The one asked first.
    preferred: AtomicUsize,
    registry: Address,
}

struct Provider {
    rpc: RootProvider<Ethereum>,
    url: String,
    failures: AtomicU64,
}

/// How a provider has been doing.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderHealth {
    /// Scheme, host and port; what follows may hold an access key.
    pub url: String,
    /// Failed answers so far.
    pub failures: u64,
    /// Whether it is asked first.
    pub preferred: bool,
}

/// Why a provider can't be used at all.
#[derive(Debug, thiserror::Error)]
#[error("`providers` has {url:?}, which is no http or https URL: {reason}")]
pub struct BadUrl {
    url: String,
    reason: String,
}

impl Providers {
    /// Providers by URL, for one registry. Nothing is asked yet.
    pub fn new(urls: &[String], registry: Address) -> Result<Self, BadUrl> {
        let providers = urls.iter().map(|url| Provider::new(url)).collect::<Result<Vec<_>, _>>()?;
        if providers.is_empty() {
            return Err(BadUrl { url: String::new(), reason: "at least one is needed".to_owned() });
        }
        Ok(Self { providers, preferred: AtomicUsize::new(0), registry })
    }

    /// Refuses to go on unless each provider that answers serves the spec's chain, and at least one does.
    pub async fn check(&self, spec: &ChainSpec) -> Answer<()> {
        let mut unavailable = Vec::new();
        for provider in &self.providers {
            match provider.check(spec).await {
                Ok(()) => {}
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => unavailable.push(error.to_string()),
            }
        }
        if unavailable.len() == self.providers.len() {
            return Err(SourceError::Unavailable(format!(
                "no chain provider answers ({}): start it, or correct `providers`",
                unavailable.join("; ")
            )));
        }
        Ok(())
    }

    /// How each provider has been doing, in configured order.
    pub fn health(&self) -> Vec<ProviderHealth> {
        let preferred = self.preferred.load(Ordering::Relaxed) % self.providers.len();
        let health = |(index, provider): (usize, &Provider)| ProviderHealth {
            url: provider.url.clone(),
            failures: provider.failures.load(Ordering::Relaxed),
            preferred: index == preferred,
        };
        self.providers.iter().enumerate().map(health).collect()
    }

    /// Asks the preferred provider, then the others, until one answers.
    async fn ask<'a, T, F: Future<Output = Answer<T>>>(
        &'a self,
        ask: impl Fn(&'a Provider) -> F,
    ) -> Answer<T> {
        let count = self.providers.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for turn in 0..count {
            let index = (first + turn) % count;
            let provider = &self.providers[index];
            match ask(provider).await {
                Ok(answer) => {
                    if turn > 0 {
                        self.preferred.store(index, Ordering::Relaxed);
                    }
                    return Ok(answer);
                }
                Err(error @ SourceError::TooMuch { .. }) => return Err(error),
                Err(error) => {
                    provider.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(url = provider.url, %error, "a provider failed");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| SourceError::Unavailable("no provider is configured".to_owned())))
    }
}

impl ChainSource for Providers {
    async fn latest(&self) -> Answer<Block> {
        self.ask(|p| p.require(BlockId::Number(BlockNumberOrTag::Latest))).await
    }

    async fn finalized(&self) -> Answer<Option<Block>> {
        self.ask(|p| p.block(BlockId::Number(BlockNumberOrTag::Finalized))).await
    }

    async fn by_number(&self, number: u64) -> Answer<Option<Block>> {
        self.ask(|p| p.block(BlockId::number(number))).await
    }

    async fn by_hash(&self, hash: B256) -> Answer<Block> {
        let block = self.ask(|p| p.require(BlockId::hash(hash))).await?;
        if block.header.hash == hash {
            return Ok(block);
        }
        Err(SourceError::Unavailable(format!("a provider answered block {} for {hash}", block.header.hash)))
    }

    async fn changes(&self, hash: B256) -> Answer<Vec<Change>> {
        let filter = self.filter().at_block_hash(hash);
        let logs = self.ask(|p| p.logs(&filter)).await?;
        if logs.iter().any(|log| log.block_hash != Some(hash)) {
            return Err(SourceError::Unavailable(format!(
                "a provider answered logs of another block than {hash}"
            )));
        }
        self.decode(logs)
    }

    async fn changes_between(&self, from: u64, to: u64) -> Answer<Vec<Change>> {
        let filter = self.filter().from_block(from).to_block(to);
        let logs = self.ask(|p| p.logs(&filter)).await?;
        self.decode(logs)
    }

    async fn account(&self, hash: B256) -> Answer<Vec<Bytes>> {
        let registry = self.registry;
        self.ask(|p| p.account(registry, hash)).await
    }

    async fn confirmations(&self, number: u64, hash: B256) -> usize {
        let mut confirmations = 0;
        for provider in &self.providers {
            if let Ok(Some(block)) = provider.block(BlockId::number(number)).await {
                confirmations += usize::from(block.header.hash == hash);
            }
        }
        confirmations
    }

    fn distrust(&self) {
        let former = self.preferred.fetch_add(1, Ordering::Relaxed) % self.providers.len();
        self.providers[former].failures.fetch_add(1, Ordering::Relaxed);
    }
}

impl Providers {
    fn filter(&self) -> Filter {
        Filter::new().address(self.registry).event_signature(Registry::Set::SIGNATURE_HASH)
    }

    /// The writes that logs report, in the order of the chain.
    fn decode(&self, mut logs: Vec<Log>) -> Answer<Vec<Change>> {
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        let change = |log: &Log| {
            let foreign = log.removed || log.inner.address != self.registry;
            match Registry::Set::decode_log(&log.inner) {
                Ok(set) if !foreign => Ok((set.slot, set.value)),
                _ => Err(SourceError::Unavailable(
                    "a provider answered a log that was not asked for".to_owned(),
                )),
            }
        };
        logs.iter().map(change).collect()
    }
}

impl Provider {
    fn new(url: &str) -> Result<Self, BadUrl> {
        let bad = |reason: String| BadUrl { url: shown(url), reason };
        let parsed: alloy::transports::http::reqwest::Url =
            url.parse().map_err(|error| bad(format!("{error}")))?;
        if !["http", "https"].contains(&parsed.scheme()) {
            return Err(bad(format!("the scheme is {:?}", parsed.scheme())));
        }
        Ok(Self { rpc: RootProvider::new_http(parsed), url: shown(url), failures: AtomicU64::new(0) })
    }

    async fn check(&self, spec: &ChainSpec) -> Answer<()> {
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

    async fn require(&self, id: BlockId) -> Answer<Block> {
        let block = self.block(id).await?;
        block.ok_or_else(|| SourceError::Unavailable(format!("provider {} knows no block {id}", self.url)))
    }

    async fn block(&self, id: BlockId) -> Answer<Option<Block>> {
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

    async fn logs(&self, filter: &Filter) -> Answer<Vec<Log>> {
        self.within(async { self.rpc.get_logs(filter).await }).await
    }

    async fn account(&self, registry: Address, hash: B256) -> Answer<Vec<Bytes>> {
        let proof = self.within(async { self.rpc.get_proof(registry, Vec::new()).hash(hash).await }).await?;
        Ok(proof.account_proof)
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
    fn what_is_no_url_is_refused_with_its_name() {
        for bad in ["127.0.0.1:8545", "ws://127.0.0.1:8545", "", "http://"] {
            let error = Providers::new(&[bad.to_owned()], Address::ZERO).err().unwrap().to_string();
            assert!(error.contains("providers"), "{error}");
        }
        assert!(Providers::new(&[], Address::ZERO).is_err());
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
