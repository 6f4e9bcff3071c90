//! One chain provider over JSON-RPC: what it is asked, and what its failures mean.
//!
//! Its answers are checked as far as they can be by themselves: headers hash to what they claim, blocks and logs
//! are those asked for. Whether they are the chain's is for others to find out.

use super::{Answer, Block, Change, SourceError};
use crate::limits::{
    CONFIRM_DEADLINE, MAX_BLOCK_CHANGES, MAX_PROVIDER_ANSWER_BYTES, PROVIDER_DEADLINE, SILENT_REST,
    SLOW_ANSWERS,
};
use alloy::consensus::Header as ConsensusHeader;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::Ethereum;
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{EIP1186AccountProofResponse, Filter, Log};
use alloy::sol_types::SolEvent;
use alloy::transports::{RpcError, TransportError, TransportErrorKind};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use windlass_contracts::node_staking::NodeStaking;
use windlass_contracts::registry::Registry;
use windlass_protocol::spec::{ChainSpec, FinalityRule};
use windlass_protocol::{Address, B256, Bytes, U256};
use windlass_rpc::{BoundedHttp, HttpError, one_line};

/// Why a provider can't be used at all.
#[derive(Debug, thiserror::Error)]
#[error("`providers` has {url:?}, which can't be used: {reason}")]
pub struct BadUrl {
    pub(super) url: String,
    pub(super) reason: String,
}

/// One provider, and how it has been doing.
pub(super) struct Provider {
    pub(super) rpc: RootProvider<Ethereum>,
    /// Scheme, host and port: what may be shown.
    pub(super) url: String,
    /// What tells independent providers apart: whatever the path or the key in it, one host is one provider.
    pub(super) host: (String, u16),
    pub(super) failures: AtomicU64,
    pub(super) contradictions: AtomicU64,
    /// The newest block it was seen to have; 0 before.
    pub(super) newest: AtomicU64,
    memory: Mutex<Memory>,
}

/// What is remembered of a provider.
#[derive(Default)]
struct Memory {
    last_failure: Option<String>,
    /// When it last said something wrong.
    distrusted: Option<Instant>,
    /// When it last kept a comparison waiting.
    silent: Option<Instant>,
    /// Its answers in a row that were slow.
    slow: u32,
}

/// Whether asking for less may help.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Divisible {
    Yes,
    No,
}

impl Provider {
    pub(super) fn new(url: &str) -> Result<Self, BadUrl> {
        let http = BoundedHttp::new(url, MAX_PROVIDER_ANSWER_BYTES)
            .map_err(|error| BadUrl { url: shown(url), reason: error.to_string() })?;
        Ok(Self {
            url: http.origin().to_owned(),
            host: http.host().clone(),
            rpc: RootProvider::new(RpcClient::new(http, false)),
            failures: AtomicU64::new(0),
            contradictions: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            memory: Mutex::default(),
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure, and remembers it for whoever runs the node.
    pub(super) fn failed(&self, reason: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(url = self.url, reason, "a provider failed");
        self.memory().last_failure = Some(one_line(reason));
    }

    /// The last failure, in words.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.memory().last_failure.clone()
    }

    /// It said something wrong, at this time.
    pub(super) fn distrust(&self, reason: &str, now: Instant) {
        self.failed(reason);
        self.memory().distrusted = Some(now);
    }

    /// Notes how long an answer took; whether it was the last one to wait so long for.
    pub(super) fn answered(&self, took: Duration) -> bool {
        let mut memory = self.memory();
        memory.slow = if took > CONFIRM_DEADLINE { memory.slow + 1 } else { 0 };
        let enough = memory.slow >= SLOW_ANSWERS;
        if enough {
            memory.slow = 0;
        }
        enough
    }

    /// Whether it said nothing wrong for this long.
    pub(super) fn trusted(&self, now: Instant, after: Duration) -> bool {
        let distrusted = self.memory().distrusted;
        distrusted.is_none_or(|at| now.saturating_duration_since(at) >= after)
    }

    /// Its word for a comparison with others, which waits no longer than for the slowest that still answers: one that
    /// kept the last comparison waiting isn't asked for a while.
    pub(super) async fn compared<T>(&self, asked: impl Future<Output = Answer<T>>) -> Answer<T> {
        let rests = |at: Instant| at.elapsed() < SILENT_REST;
        if self.memory().silent.is_some_and(rests) {
            return Err(self.unavailable("it kept a comparison waiting just now"));
        }
        match tokio::time::timeout(CONFIRM_DEADLINE, asked).await {
            Ok(answer) => {
                if let Err(error) = &answer {
                    self.failed(&error.to_string());
                }
                answer
            }
            Err(_) => {
                let seconds = CONFIRM_DEADLINE.as_secs();
                let error = self.unavailable(&format!("it gave no answer within {seconds} s"));
                self.failed(&error.to_string());
                self.memory().silent = Some(Instant::now());
                Err(error)
            }
        }
    }

    /// Whether it serves the chain that the spec pins.
    pub(super) async fn check(&self, spec: &ChainSpec) -> Answer<()> {
        let other = |what, found: String, pinned: String| {
            Err(SourceError::OtherChain { url: self.url.clone(), what, found, pinned })
        };
        let chain_id = self.within(Divisible::No, async { self.rpc.get_chain_id().await }).await?;
        if chain_id != spec.chain_id {
            return other("chain id", chain_id.to_string(), spec.chain_id.to_string());
        }
        let genesis = self.require(BlockId::number(0)).await?.header.hash;
        if genesis != spec.genesis_hash {
            return other("genesis hash", genesis.to_string(), spec.genesis_hash.to_string());
        }
        Ok(())
    }

    pub(super) async fn latest(&self) -> Answer<Block> {
        let block = self.require(BlockId::Number(BlockNumberOrTag::Latest)).await?;
        self.newest.store(block.header.number, Ordering::Relaxed);
        Ok(block)
    }

    pub(super) async fn finalized(&self) -> Answer<Option<Block>> {
        self.block(BlockId::Number(BlockNumberOrTag::Finalized)).await
    }

    pub(super) async fn by_number(&self, number: u64) -> Answer<Option<Block>> {
        match self.block(BlockId::number(number)).await? {
            Some(block) if block.header.number != number => {
                Err(self.unavailable(&format!("it answered block {} for {number}", block.header.number)))
            }
            found => Ok(found),
        }
    }

    pub(super) async fn by_hash(&self, hash: B256) -> Answer<Block> {
        let block = self.require(BlockId::hash(hash)).await?;
        match block.header.hash == hash {
            true => Ok(block),
            false => Err(self.unavailable(&format!("it answered block {} for {hash}", block.header.hash))),
        }
    }

    /// The block of this number if this provider itself holds it to be final, by the chain's rule.
    pub(super) async fn final_at(&self, rule: FinalityRule, number: u64) -> Answer<Option<Block>> {
        let newest = match rule {
            FinalityRule::Tag => self.finalized().await?.map(|block| block.header.number),
            FinalityRule::Depth(depth) => self.latest().await?.header.number.checked_sub(depth),
        };
        match newest {
            Some(newest) if newest >= number => self.by_number(number).await,
            _ => Ok(None),
        }
    }

    /// What the registry's slots were set to in one block.
    pub(super) async fn changes(&self, registry: Address, hash: B256) -> Answer<Vec<Change>> {
        let filter = filter(registry).at_block_hash(hash);
        let logs = self.within(Divisible::No, async { self.rpc.get_logs(&filter).await }).await?;
        if logs.iter().any(|log| log.block_hash != Some(hash)) {
            return Err(self.unavailable(&format!("it answered logs of another block than {hash}")));
        }
        if logs.len() > MAX_BLOCK_CHANGES {
            return Err(self.unavailable(&format!("it answered {} logs for one block", logs.len())));
        }
        self.decode(registry, logs)
    }

    /// What they were set to in a range of blocks.
    pub(super) async fn changes_between(&self, registry: Address, from: u64, to: u64) -> Answer<Vec<Change>> {
        let filter = filter(registry).from_block(from).to_block(to);
        let divisible = if from < to { Divisible::Yes } else { Divisible::No };
        let logs = self.within(divisible, async { self.rpc.get_logs(&filter).await }).await?;
        if logs.iter().any(|log| log.block_number.is_none_or(|number| !(from..=to).contains(&number))) {
            return Err(self.unavailable(&format!("it answered logs of other blocks than {from} to {to}")));
        }
        self.decode(registry, logs)
    }

    /// The lists that a range of blocks proposed as the committee of an epoch; whoever uses one checks its hash.
    pub(super) async fn proposals(
        &self,
        staking: Address,
        epoch: u32,
        from: u64,
        to: u64,
    ) -> Answer<Vec<Vec<Address>>> {
        let filter =
            Filter::new().address(staking).event_signature(NodeStaking::CommitteeProposed::SIGNATURE_HASH);
        let filter = filter.topic1(B256::from(U256::from(epoch))).from_block(from).to_block(to);
        let divisible = if from < to { Divisible::Yes } else { Divisible::No };
        let logs = self.within(divisible, async { self.rpc.get_logs(&filter).await }).await?;
        let decode = |log: &Log| NodeStaking::CommitteeProposed::decode_log(&log.inner).ok();
        Ok(logs.iter().filter_map(decode).map(|log| log.data.members).collect())
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
        let asked = async { self.rpc.get_proof(registry, slots).hash(hash).await };
        self.within(Divisible::No, asked).await
    }

    /// The writes that logs report, in the order of the chain.
    fn decode(&self, registry: Address, mut logs: Vec<Log>) -> Answer<Vec<Change>> {
        // Some count a log's index anew in each transaction.
        logs.sort_by_key(|log| (log.block_number, log.transaction_index, log.log_index));
        let change = |log: &Log| {
            let foreign = log.removed || log.inner.address != registry;
            match Registry::Set::decode_log(&log.inner) {
                Ok(set) if !foreign => Ok((set.slot, set.value)),
                _ => Err(self.unavailable("it answered a log that was not asked for")),
            }
        };
        logs.iter().map(change).collect()
    }

    async fn require(&self, id: BlockId) -> Answer<Block> {
        let block = self.block(id).await?;
        block.ok_or_else(|| self.unavailable(&format!("it knows no block {id}")))
    }

    async fn block(&self, id: BlockId) -> Answer<Option<Block>> {
        let asked = async { self.rpc.get_block(id).await };
        let Some(block) = self.within(Divisible::No, asked).await? else { return Ok(None) };
        let claimed = block.header.hash;
        let header: &ConsensusHeader = &block.header.inner;
        let decoded = Block::decode(alloy_rlp::encode(header).into())
            .map_err(|error| self.unavailable(&error.to_string()))?;
        if decoded.header.hash != claimed {
            let (number, actual) = (decoded.header.number, decoded.header.hash);
            return Err(SourceError::Ineligible { url: self.url.clone(), number, claimed, actual });
        }
        Ok(Some(decoded))
    }

    pub(super) async fn within<T>(
        &self,
        divisible: Divisible,
        call: impl Future<Output = Result<T, TransportError>>,
    ) -> Answer<T> {
        match tokio::time::timeout(PROVIDER_DEADLINE, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.explain(divisible, &error)),
            Err(_) => {
                Err(self.unavailable(&format!("it gave no answer within {} s", PROVIDER_DEADLINE.as_secs())))
            }
        }
    }

    fn explain(&self, divisible: Divisible, error: &TransportError) -> SourceError {
        let (reason, limit) = match error {
            RpcError::ErrorResp(payload) => {
                (payload.message.to_string(), is_limit(payload.code, &payload.message))
            }
            // Its text repeats the URL, which may hold an access key.
            RpcError::Transport(TransportErrorKind::Custom(source)) => {
                let too_large = matches!(source.downcast_ref(), Some(HttpError::TooLarge(_)));
                (innermost(source.as_ref()), too_large)
            }
            RpcError::DeserError { err, .. } => (format!("it sent no answer we understand: {err}"), false),
            other => (other.to_string(), false),
        };
        match divisible == Divisible::Yes && limit {
            true => SourceError::TooMuch { url: self.url.clone(), reason: one_line(&reason) },
            false => self.unavailable(&reason),
        }
    }

    pub(super) fn unavailable(&self, reason: &str) -> SourceError {
        SourceError::Unavailable(format!("provider {}: {}", self.url, one_line(reason)))
    }
}

fn filter(registry: Address) -> Filter {
    Filter::new().address(registry).event_signature(Registry::Set::SIGNATURE_HASH)
}

/// EIP-1474's "limit exceeded", and the words of providers that don't use it. The same code also says that we
/// ask too often, which asking for less doesn't help.
fn is_limit(code: i64, message: &str) -> bool {
    let message = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    let rate =
        says(&["too many requests", "rate limit", "rate-limit", "ratelimit", "per second", "capacity"]);
    let size =
        ["limit exceeded", "exceeds max results", "too many", "block range", "query returned more than"];
    !rate && (code == -32_005 || says(&size))
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
    innermost.to_string()
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
        assert!(is_limit(-32_005, "whatever"));
        assert!(is_limit(-32_000, "query exceeds max results 20000, retry with the range 1-5"));
        assert!(is_limit(-32_602, "eth_getLogs is limited to a 10,000 block range"));
        assert!(!is_limit(-32_000, "header not found"));
        assert!(!is_limit(-32_601, "the method does not exist"));
        assert!(!is_limit(-32_005, "Too Many Requests"));
        assert!(!is_limit(-32_005, "daily request capacity exceeded: rate limit"));
    }
}
