//! Several chain providers: asked in order, the next one when one fails, compared with each other; each failure
//! and each contradiction counted.

use super::provider::{BadUrl, Provider};
use super::{Answer, Block, ChainSource, Change, CrossCheck, SourceError};
use crate::head::ListSource;
use crate::limits::{FIRST_RANGE_BLOCKS, MAX_RANGE_BLOCKS, PROVIDER_PATIENCE};
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use serde::Serialize;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use windlass_contracts::node_staking::NodeStaking;
use windlass_contracts::registry::Registry;
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::{Address, B256, Bytes, U256};

/// The chain through one or more providers.
pub struct Providers {
    providers: Vec<Provider>,
    /// The one asked first.
    preferred: AtomicUsize,
    registry: Address,
    /// The highest block the preferred provider had, and since when.
    moved: Mutex<(u64, Instant)>,
    /// For how long it may stand still while another goes on.
    patience: Duration,
}

/// How a provider has been doing.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderHealth {
    /// Scheme, host and port; what follows may hold an access key.
    pub url: String,
    /// Failed or false answers so far.
    pub failures: u64,
    /// Final blocks at which it had another block than the mirror.
    pub contradictions: u64,
    /// The last failure.
    pub last_failure: Option<String>,
    /// Whether it is asked first.
    pub preferred: bool,
}

impl Providers {
    /// Providers by URL, for one registry. Nothing is asked yet.
    pub fn new(urls: &[String], registry: Address) -> Result<Self, BadUrl> {
        let providers = urls.iter().map(|url| Provider::new(url)).collect::<Result<Vec<_>, _>>()?;
        if providers.is_empty() {
            return Err(BadUrl { url: String::new(), reason: "at least one is needed".to_owned() });
        }
        let (preferred, moved) = (AtomicUsize::new(0), Mutex::new((0, Instant::now())));
        Ok(Self { providers, preferred, registry, moved, patience: PROVIDER_PATIENCE })
    }

    /// The same with another patience for a provider that stands still.
    #[cfg(test)]
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Refuses to go on unless each provider that answers serves the spec's chain and proves its state as an
    /// eligible chain does, and at least one answers.
    pub async fn check(&self, spec: &VerifiedSpec) -> Answer<()> {
        let mut unavailable = Vec::new();
        for provider in &self.providers {
            let checked = match provider.check(spec).await {
                Ok(()) => super::eligibility::check(provider, spec).await,
                other => other,
            };
            match checked {
                Ok(()) => {}
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => {
                    provider.failed(error.to_string());
                    unavailable.push(error.to_string());
                }
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
            contradictions: provider.contradictions.load(Ordering::Relaxed),
            last_failure: provider.last_failure(),
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
                    provider.failed(error.to_string());
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| SourceError::Unavailable("no provider is configured".to_owned())))
    }
}

impl Providers {
    /// Whether the preferred provider has had no new block for longer than it may.
    fn stands_still(&self, number: u64) -> bool {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        if number > moved.0 {
            *moved = (number, Instant::now());
        }
        moved.1.elapsed() > self.patience
    }

    /// Another provider's newest block, where it is above this one; that provider is preferred from now on.
    async fn ahead_of(&self, block: &Block) -> Option<Block> {
        let former = self.preferred.load(Ordering::Relaxed) % self.providers.len();
        for (index, provider) in self.providers.iter().enumerate().filter(|(index, _)| *index != former) {
            let Ok(other) = provider.require(LATEST).await else { continue };
            if other.header.number > block.header.number {
                let (theirs, ours) = (other.header.number, block.header.number);
                self.providers[former]
                    .failed(format!("stands still at block {ours} while others have {theirs}"));
                self.preferred.store(index, Ordering::Relaxed);
                return Some(other);
            }
        }
        None
    }
}

const LATEST: BlockId = BlockId::Number(BlockNumberOrTag::Latest);

impl ChainSource for Providers {
    async fn latest(&self) -> Answer<Block> {
        let block = self.ask(|p| p.require(LATEST)).await?;
        if self.providers.len() > 1 && self.stands_still(block.header.number) {
            return Ok(self.ahead_of(&block).await.unwrap_or(block));
        }
        Ok(block)
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

    fn independent(&self) -> usize {
        self.providers.len()
    }

    async fn cross_check(&self, number: u64, hash: B256) -> CrossCheck {
        let asked = self.providers.iter().map(|provider| provider.block(BlockId::number(number)));
        let answers = futures::future::join_all(asked).await;
        let mut check = CrossCheck::default();
        for (provider, answer) in self.providers.iter().zip(answers) {
            match answer {
                Ok(Some(block)) if block.header.hash == hash => check.confirmations += 1,
                Ok(Some(block)) => {
                    check.contradictions += 1;
                    provider.contradictions.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(url = provider.url, number, mirrored = %hash, theirs = %block.header.hash,
                        "a provider has another block at a final height");
                }
                // It hasn't come that far.
                Ok(None) => {}
                Err(error) => provider.failed(error.to_string()),
            }
        }
        check
    }

    fn distrust(&self, reason: &str) {
        let former = self.preferred.fetch_add(1, Ordering::Relaxed) % self.providers.len();
        self.providers[former].failed(reason.to_owned());
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        *moved = (0, Instant::now());
    }
}

impl ListSource for Providers {
    /// Looks back from `until` in ranges that adapt, as far as the deployment, until one has proposals of that epoch:
    /// they are of the first half of the epoch before.
    async fn proposed(&self, spec: &VerifiedSpec, epoch: u32, until: u64) -> Vec<Vec<Address>> {
        let topic = B256::from(U256::from(epoch));
        let filter = Filter::new().address(spec.contracts.node_staking.address);
        let filter = filter.event_signature(NodeStaking::CommitteeProposed::SIGNATURE_HASH).topic1(topic);
        let (mut to, mut size) = (until, FIRST_RANGE_BLOCKS);
        while to >= spec.deploy_block {
            let from = to.saturating_sub(size - 1).max(spec.deploy_block);
            let range = filter.clone().from_block(from).to_block(to);
            match self.ask(|provider| provider.logs(&range)).await {
                Ok(logs) => {
                    let decode = |log: &Log| NodeStaking::CommitteeProposed::decode_log(&log.inner).ok();
                    let lists: Vec<_> = logs.iter().filter_map(decode).map(|log| log.data.members).collect();
                    if !lists.is_empty() || from == 0 {
                        return lists;
                    }
                    (to, size) = (from - 1, (size * 2).min(MAX_RANGE_BLOCKS));
                }
                Err(SourceError::TooMuch { .. }) if size > 1 => size /= 2,
                Err(error) => {
                    tracing::debug!(epoch, %error, "no provider tells who was proposed");
                    return Vec::new();
                }
            }
        }
        Vec::new()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_url_is_refused_with_its_name() {
        for bad in ["127.0.0.1:8545", "ws://127.0.0.1:8545", "", "http://"] {
            let error = Providers::new(&[bad.to_owned()], Address::ZERO).err().unwrap().to_string();
            assert!(error.contains("providers"), "{error}");
        }
        assert!(Providers::new(&[], Address::ZERO).is_err());
    }
}
