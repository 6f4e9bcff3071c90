//! Several chain providers as one source: asked in order, the next one when one fails, compared with each other; each
//! failure and each contradiction counted.
//!
//! Nothing that one of them says ends the node or keeps it from the others: a wrong answer, a refusal, and standing
//! still are reasons to go on to the next.

use super::provider::{BadUrl, Provider};
use super::{Answer, Block, ChainSource, Change, CrossCheck, Included, Ledger, Signed, SourceError, Tried};
use crate::head::ListSource;
use crate::limits::{DISTRUST_TIME, FIRST_RANGE_BLOCKS, MAX_PROVIDER_LAG, MAX_RANGE_BLOCKS, SURVEY_EVERY};
use futures::future::join_all;
use serde::Serialize;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use windlass_protocol::spec::{ChainSpec, FinalityRule, VerifiedSpec};
use windlass_protocol::{Address, B256, Bytes, SecretKey};

/// The chain through one or more providers.
pub struct Providers {
    providers: Vec<Provider>,
    /// The one asked first.
    preferred: AtomicUsize,
    /// The highest block any of them had in the last comparison.
    highest: AtomicU64,
    survey: Mutex<Survey>,
    survey_every: Duration,
    registry: Address,
    chain_id: u64,
    finality: FinalityRule,
}

/// The last comparison of how far the providers are.
#[derive(Default)]
struct Survey {
    at: Option<Instant>,
    /// The preferred provider, if it was behind.
    behind: Option<usize>,
}

/// How a provider has been doing.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderHealth {
    /// Scheme, host and port; what follows may hold an access key.
    pub url: String,
    /// The newest block it was seen to have; 0 before.
    pub newest: u64,
    /// Failed or false answers so far.
    pub failures: u64,
    /// Times it had another final block than the one it was compared with.
    pub contradictions: u64,
    /// The last failure.
    pub last_failure: Option<String>,
    /// Whether it is asked first.
    pub preferred: bool,
}

impl Providers {
    /// Providers by URL, for the registry and the chain of a spec. Nothing is asked yet.
    pub fn new(urls: &[String], spec: &ChainSpec) -> Result<Self, BadUrl> {
        let providers = urls.iter().map(|url| Provider::new(url)).collect::<Result<Vec<_>, _>>()?;
        if providers.is_empty() {
            return Err(BadUrl { url: String::new(), reason: "at least one is needed".to_owned() });
        }
        if let Some(index) = (1..urls.len()).find(|index| urls[..*index].contains(&urls[*index])) {
            let reason = "it is named twice; name another, or remove it".to_owned();
            return Err(BadUrl { url: providers[index].url.clone(), reason });
        }
        Ok(Self {
            providers,
            preferred: AtomicUsize::new(0),
            highest: AtomicU64::new(0),
            survey: Mutex::default(),
            survey_every: SURVEY_EVERY,
            registry: spec.contracts.registry.address,
            chain_id: spec.chain_id,
            finality: spec.finality,
        })
    }

    /// The same with another time between comparisons.
    #[cfg(test)]
    pub(crate) fn with_survey_every(self, survey_every: Duration) -> Self {
        Self { survey_every, ..self }
    }

    /// Refuses to go on unless each provider that answers serves the spec's chain and proves its state as an
    /// eligible chain does, and at least one answers.
    pub async fn check(&self, spec: &VerifiedSpec) -> Answer<()> {
        let check = async |provider: &Provider| match provider.check(spec).await {
            Ok(()) => super::eligibility::check(provider, spec).await,
            other => other,
        };
        let mut unavailable = Vec::new();
        for (provider, checked) in self.providers.iter().zip(join_all(self.providers.iter().map(check)).await)
        {
            match checked {
                Ok(()) => {}
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => {
                    provider.failed(&error.to_string());
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
        let preferred = self.preferred();
        let health = |(index, provider): (usize, &Provider)| ProviderHealth {
            url: provider.url.clone(),
            newest: provider.newest.load(Ordering::Relaxed),
            failures: provider.failures.load(Ordering::Relaxed),
            contradictions: provider.contradictions.load(Ordering::Relaxed),
            last_failure: provider.last_failure(),
            preferred: index == preferred,
        };
        self.providers.iter().enumerate().map(health).collect()
    }

    /// The highest block that any provider had in the last comparison; 0 before the first.
    pub fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed) % self.providers.len()
    }

    /// Compares now and then how far the providers are, and leaves one that stands still.
    async fn survey(&self) {
        let due = |survey: &Survey| survey.at.is_none_or(|at| at.elapsed() >= self.survey_every);
        if self.providers.len() == 1 || !due(&self.survey.lock().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let number = async |provider: &Provider| {
            provider.compared(provider.latest()).await.ok().map(|block| block.header.number)
        };
        let newest = join_all(self.providers.iter().map(number)).await;
        let mut survey = self.survey.lock().unwrap_or_else(PoisonError::into_inner);
        survey.behind = self.judge(&newest, survey.behind);
        survey.at = Some(Instant::now());
    }

    /// Prefers the highest provider if the preferred one was behind, or too slow, in the comparison before, too;
    /// returns which one is. One that was wrong lately isn't chosen, however high it says it is.
    fn judge(&self, newest: &[Option<u64>], before: Option<usize>) -> Option<usize> {
        let now = Instant::now();
        let trusted =
            newest.iter().enumerate().filter(|(i, _)| self.providers[*i].trusted(now, DISTRUST_TIME));
        let (number, highest) = trusted.filter_map(|(i, newest)| newest.map(|number| (number, i))).max()?;
        self.highest.store(number, Ordering::Relaxed);
        let preferred = self.preferred();
        let theirs = newest[preferred];
        if theirs.is_some_and(|theirs| theirs.saturating_add(MAX_PROVIDER_LAG) > number) {
            return None;
        }
        if before == Some(preferred) {
            let (from, to) = (&self.providers[preferred].url, &self.providers[highest].url);
            tracing::warn!(from, to, number, "a chain provider is behind: preferring another");
            let reason = match theirs {
                Some(theirs) => format!("stays behind at block {theirs} while others have {number}"),
                None => format!("keeps others waiting, which have block {number}"),
            };
            self.providers[preferred].failed(&reason);
            self.preferred.store(highest, Ordering::Relaxed);
        }
        Some(preferred)
    }

    /// Asks the preferred provider, then the others, until one answers. What comes of it is never fatal: one
    /// provider's wrong answer is its failure.
    async fn ask<'a, T, F: Future<Output = Answer<T>>>(
        &'a self,
        ask: impl Fn(&'a Provider) -> F,
    ) -> Answer<T> {
        let (count, first) = (self.providers.len(), self.preferred());
        let (mut too_much, mut failures) = (None, Vec::new());
        for index in (first..first + count).map(|index| index % count) {
            let provider = &self.providers[index];
            let asked = Instant::now();
            match ask(provider).await {
                Ok(answer) => {
                    if count > 1 && provider.answered(asked.elapsed()) {
                        let reason =
                            format!("keeps us waiting: {} ms for an answer", asked.elapsed().as_millis());
                        provider.failed(&reason);
                        self.preferred.store(index + 1, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    // Asking for too much is no fault of the one asked.
                    if index != first && too_much.is_none() {
                        self.preferred.store(index, Ordering::Relaxed);
                    }
                    return Ok(answer);
                }
                Err(error @ SourceError::TooMuch { .. }) => too_much = Some(error),
                Err(error) => {
                    provider.failed(&error.to_string());
                    failures.push(error.to_string());
                }
            }
        }
        Err(too_much.unwrap_or_else(|| SourceError::Unavailable(failures.join("; "))))
    }
}

impl ChainSource for Providers {
    async fn latest(&self) -> Answer<Block> {
        self.survey().await;
        self.ask(Provider::latest).await
    }

    async fn finalized(&self) -> Answer<Option<Block>> {
        self.ask(Provider::finalized).await
    }

    async fn by_number(&self, number: u64) -> Answer<Option<Block>> {
        self.ask(|p| p.by_number(number)).await
    }

    async fn by_hash(&self, hash: B256) -> Answer<Block> {
        self.ask(|p| p.by_hash(hash)).await
    }

    async fn changes(&self, hash: B256) -> Answer<Vec<Change>> {
        self.ask(|p| p.changes(self.registry, hash)).await
    }

    async fn changes_between(&self, from: u64, to: u64) -> Answer<Vec<Change>> {
        self.ask(|p| p.changes_between(self.registry, from, to)).await
    }

    async fn account(&self, hash: B256) -> Answer<Vec<Bytes>> {
        self.ask(|p| p.account(self.registry, hash)).await
    }

    fn independent(&self) -> usize {
        self.providers.iter().map(|provider| &provider.host).collect::<BTreeSet<_>>().len()
    }

    async fn cross_check(&self, number: u64, hash: B256) -> CrossCheck {
        let asked = self.providers.iter().map(|p| p.compared(p.final_at(self.finality, number)));
        let answers = join_all(asked).await;
        let (mut same, mut other) = (BTreeSet::new(), BTreeSet::new());
        for (provider, answer) in self.providers.iter().zip(answers) {
            // One that hasn't come that far, or can't tell, counts as nothing.
            let Ok(Some(block)) = answer else { continue };
            if block.header.hash == hash {
                same.insert(&provider.host);
                continue;
            }
            other.insert(&provider.host);
            provider.contradictions.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(url = provider.url, number, mirrored = %hash, theirs = %block.header.hash,
                "a provider has another final block");
        }
        CrossCheck { confirmations: same.len(), contradictions: other.difference(&same).count() }
    }

    fn distrust(&self, reason: &str) {
        let former = self.preferred.fetch_add(1, Ordering::Relaxed) % self.providers.len();
        self.providers[former].distrust(reason, Instant::now());
    }
}

impl Ledger for Providers {
    async fn prepare(&self, key: &SecretKey, to: Address, call: &Bytes) -> Answer<Tried> {
        self.ask(|p| p.prepare(key, self.chain_id, to, call)).await
    }

    async fn send(&self, signed: &Signed) -> Answer<()> {
        self.ask(|p| p.send(signed)).await
    }

    async fn included(&self, transaction: B256) -> Answer<Option<Included>> {
        self.ask(|p| p.included(transaction)).await
    }
}

impl ListSource for Providers {
    /// Looks back from `until` in ranges that adapt, as far as the deployment, until one has proposals of that epoch:
    /// they are of the first half of the epoch before.
    async fn proposed(&self, spec: &VerifiedSpec, epoch: u32, until: u64) -> Vec<Vec<Address>> {
        let staking = spec.contracts.node_staking.address;
        let (mut to, mut size) = (until, FIRST_RANGE_BLOCKS);
        while to >= spec.deploy_block {
            let from = to.saturating_sub(size - 1).max(spec.deploy_block);
            match self.ask(|provider| provider.proposals(staking, epoch, from, to)).await {
                Ok(lists) if !lists.is_empty() || from == 0 => return lists,
                Ok(_) => (to, size) = (from - 1, (size * 2).min(MAX_RANGE_BLOCKS)),
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

#[cfg(test)]
mod tests;
