//! One round of following: ask for the newest and the final block, extend or rewind the tail, move what is
//! final into the base.

use super::state::{FinalHead, MirrorState, Phase, Recent};
use super::tail::{Entry, Tail};
use crate::chain::{Block, ChainSource, Change, SourceError};
use crate::limits::{CATCH_UP_BLOCKS, FIRST_RANGE_BLOCKS, MAX_RANGE_BLOCKS, MAX_TAIL_BLOCKS};
use crate::store::{
    Accounts, ApplyError, Durability, FinalBlock, Headers, Position, Store, StoreError, TailBlock, View,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;
use windlass_protocol::bundle::verify_account;
use windlass_protocol::spec::{FinalityRule, VerifiedSpec};
use windlass_protocol::{B256, Bytes};

/// Why a round failed. Whatever the reason, the store is whole and another round may be tried.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The chain didn't answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the mirror holds, or was about to hold, is not what the chain proves.
    #[error("{0}; rebuilding the mirror from block {1}")]
    Contradiction(String, u64),
    /// Finality is further behind than any chain's should be.
    #[error("{0} blocks are not final, more than {MAX_TAIL_BLOCKS}: the chain's finality has stalled")]
    Stalled(u64),
}

/// What the mirror knows about a block.
enum Known {
    /// The last final block.
    Base,
    /// Below the base, and no other block is known there.
    Older,
    /// In the tail.
    Tail,
    /// A block at a final height that isn't the final one.
    Conflict,
    Unknown,
}

/// Follows a chain into a store.
pub struct Follower<S> {
    source: Arc<S>,
    store: Arc<Store>,
    spec: Arc<VerifiedSpec>,
    base: Option<Position>,
    tail: Tail,
    recent: Recent,
    /// Whether the base is known to be on the provider's chain.
    canonical: bool,
    state: watch::Sender<MirrorState>,
}

impl<S: ChainSource> Follower<S> {
    /// Takes up where the store left off. Reads the store: call it where blocking is allowed.
    pub fn new(source: Arc<S>, store: Arc<Store>, spec: Arc<VerifiedSpec>) -> Result<Self, StoreError> {
        let base = store.cursor()?;
        let tail = Tail::load(&store, base)?;
        let mut recent = Recent::default();
        recent.reset(base.map_or(0, |base| base.number));
        let state = MirrorState { base, recent: Arc::new(recent.clone()), ..MirrorState::default() };
        Ok(Self {
            source,
            store,
            spec,
            base,
            tail,
            recent,
            canonical: false,
            state: watch::Sender::new(state),
        })
    }

    /// What it says about itself, now and from now on.
    pub fn state(&self) -> watch::Receiver<MirrorState> {
        self.state.subscribe()
    }

    /// One round. Tells the state whatever comes of it.
    pub async fn step(&mut self) -> Result<(), FollowError> {
        let outcome = match self.round().await {
            Err(FollowError::Contradiction(what, _)) => self.reconsider(what).await,
            other => other,
        };
        let trouble = outcome.as_ref().err().map(ToString::to_string);
        self.state.send_modify(|state| state.trouble = trouble);
        outcome
    }

    async fn round(&mut self) -> Result<(), FollowError> {
        // Final before newest: asked the other way round, a block made in between would be final but unknown.
        let finalized = match self.spec.finality {
            FinalityRule::Tag => self.source.finalized().await?,
            FinalityRule::Depth(_) => None,
        };
        let latest = self.source.latest().await?;
        let finalized = match self.spec.finality {
            FinalityRule::Tag => finalized,
            FinalityRule::Depth(depth) => match latest.header.number.checked_sub(depth) {
                Some(number) => self.source.by_number(number).await?,
                None => None,
            },
        };
        self.state.send_modify(|state| state.latest = Some(position(&latest)));
        let Some(finalized) = finalized.filter(|block| block.header.number >= self.spec.deploy_block) else {
            return Ok(());
        };
        self.check_base().await?;
        self.catch_up(&finalized).await?;
        self.extend_tail(&latest).await?;
        self.finalise(&finalized).await?;
        self.prove_base().await?;
        self.state.send_modify(|state| state.phase = Phase::Following);
        Ok(())
    }

    /// Once after each start: is the base still on the chain?
    async fn check_base(&mut self) -> Result<(), FollowError> {
        let Some(base) = self.base.filter(|_| !self.canonical) else { return Ok(()) };
        match self.source.by_number(base.number).await? {
            Some(block) if block.header.hash == base.hash => {
                self.canonical = true;
                self.announce().await
            }
            Some(block) => Err(self.contradiction(format!(
                "final block {} is {} in the mirror, {} on the chain",
                base.number, base.hash, block.header.hash
            ))),
            // The provider is behind us: a later round decides.
            None => {
                Err(SourceError::Unavailable(format!("the provider has no block {} yet", base.number)).into())
            }
        }
    }

    /// Fetches everything up to the final block in ranges, when much is missing.
    async fn catch_up(&mut self, finalized: &Block) -> Result<(), FollowError> {
        let target = finalized.header.number;
        let from = self.base.map_or(self.spec.deploy_block, |base| base.number + 1);
        if self.base.is_some() && target < from + CATCH_UP_BLOCKS {
            return Ok(());
        }
        self.tail.rewind(&self.store, 0)?;
        self.state.send_modify(|state| {
            state.phase = Phase::Syncing;
            state.attestable = None;
        });
        let (mut from, mut size) = (from, FIRST_RANGE_BLOCKS);
        while from <= target {
            let to = target.min(from + size - 1);
            match self.source.changes_between(from, to).await {
                Ok(changes) => {
                    self.apply_range(to, finalized, changes).await?;
                    from = to + 1;
                    size = (size * 2).min(MAX_RANGE_BLOCKS);
                }
                Err(SourceError::TooMuch { .. }) if size > 1 => size /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        self.canonical = true;
        self.recent.reset(target);
        self.announce().await
    }

    async fn apply_range(
        &mut self,
        to: u64,
        finalized: &Block,
        changes: Vec<Change>,
    ) -> Result<(), FollowError> {
        let last = to == finalized.header.number;
        let block = if last {
            finalized.clone()
        } else {
            let block = self.source.by_number(to).await?;
            block.ok_or_else(|| SourceError::Unavailable(format!("the provider has lost block {to}")))?
        };
        let account = if last { self.account_of(&block).await? } else { None };
        // Nothing is served while catching up, so only the newest version of everything is kept.
        self.apply(&block, changes, account, to, Durability::Process)
    }

    /// Makes the tail end in `latest`: walks back by parent hash to a block that is known.
    async fn extend_tail(&mut self, latest: &Block) -> Result<(), FollowError> {
        let mut missing = Vec::new();
        let mut at = latest.clone();
        let ancestor = loop {
            match self.known(&at)? {
                // The newest block is one we have: a provider that lags, or nothing new.
                Known::Base | Known::Older | Known::Tail if missing.is_empty() => return Ok(()),
                Known::Base | Known::Tail => break at.header.number,
                Known::Older | Known::Conflict => {
                    return Err(self.contradiction(format!(
                        "block {} {} is on the chain, another one was final",
                        at.header.number, at.header.hash
                    )));
                }
                Known::Unknown => {}
            }
            if missing.len() as u64 == MAX_TAIL_BLOCKS {
                return Err(FollowError::Stalled(missing.len() as u64));
            }
            let parent = at.header.parent_hash;
            missing.push(at);
            at = self.source.by_hash(parent).await?;
        };
        // Fetched before the old tail goes, so that a failure in between costs nothing.
        let mut entries = Vec::with_capacity(missing.len());
        for block in missing.into_iter().rev() {
            entries.push(self.fetch(block).await?);
        }
        self.tail.rewind(&self.store, ancestor)?;
        for entry in entries {
            self.tail.push(&self.store, entry)?;
        }
        // Whoever watches learns of revocations now, not when they are final.
        self.state.send_modify(|state| state.tail = self.tail.writing());
        match self.tail.len() as u64 {
            blocks if blocks > MAX_TAIL_BLOCKS => Err(FollowError::Stalled(blocks)),
            _ => Ok(()),
        }
    }

    fn known(&self, block: &Block) -> Result<Known, StoreError> {
        let (number, hash) = (block.header.number, block.header.hash);
        let Some(base) = self.base else { return Ok(Known::Unknown) };
        if number == base.number {
            return Ok(if hash == base.hash { Known::Base } else { Known::Conflict });
        }
        if number > base.number {
            return Ok(if self.tail.find(number, hash).is_some() { Known::Tail } else { Known::Unknown });
        }
        let ours = self.store.get::<Headers>(&number)?;
        let same = ours.is_none_or(|rlp| windlass_protocol::keccak256(&rlp) == hash);
        Ok(if same { Known::Older } else { Known::Conflict })
    }

    async fn fetch(&self, block: Block) -> Result<Entry, FollowError> {
        let changes = self.source.changes(block.header.hash).await?;
        let account = self.account_of(&block).await?.map(|(proof, _)| proof);
        let content = TailBlock { header: block.rlp.clone(), changes, account };
        Ok(Entry { block, content })
    }

    /// The verified account proof at an attestable height; `None` elsewhere, and where the provider doesn't
    /// keep that block's state any more.
    async fn account_of(&self, block: &Block) -> Result<Option<(Vec<Bytes>, B256)>, FollowError> {
        if !self.spec.attestable(block.header.number) {
            return Ok(None);
        }
        match self.source.account(block.header.hash).await {
            Ok(proof) => {
                let verified = self.verified(block, proof);
                if let Err(error) = &verified {
                    self.source.distrust(&error.to_string());
                }
                verified.map(Some)
            }
            Err(error) if error.is_fatal() => Err(error.into()),
            Err(error) => {
                tracing::debug!(number = block.header.number, %error, "no account proof");
                Ok(None)
            }
        }
    }

    fn verified(&self, block: &Block, proof: Vec<Bytes>) -> Result<(Vec<Bytes>, B256), FollowError> {
        match verify_account(&self.spec.contracts.registry, block.header.state_root, &proof) {
            Ok(account) => Ok((proof, account.storage_root)),
            Err(error) => {
                let number = block.header.number;
                Err(SourceError::Unavailable(format!("at block {number} {error}")).into())
            }
        }
    }

    /// Moves the tail up to the final block into the base, one batch per block.
    async fn finalise(&mut self, finalized: &Block) -> Result<(), FollowError> {
        let target = finalized.header.number;
        match self.known(finalized)? {
            Known::Tail => {}
            // A provider that lags, or a final block of a fork we haven't walked to yet.
            Known::Base | Known::Older | Known::Unknown => return Ok(()),
            Known::Conflict => {
                return Err(self.contradiction(format!(
                    "block {target} {} is final on the chain, another one was",
                    finalized.header.hash
                )));
            }
        }
        while let Some(entry) = self.tail.first().filter(|entry| entry.block.header.number <= target).cloned()
        {
            let Entry { block, content } = entry;
            let account = match content.account {
                Some(proof) => Some(self.verified(&block, proof)?),
                None => self.account_of(&block).await?,
            };
            let floor = self.store.wanted();
            self.apply(&block, content.changes, account, floor, Durability::Disk)?;
            self.tail.pop();
        }
        self.announce().await
    }

    /// Gets the account proof of the last final block once more, if it couldn't be had when it was new: on an
    /// idle chain no other block may follow for long.
    async fn prove_base(&self) -> Result<(), FollowError> {
        let Some(base) = self.base.filter(|base| self.spec.attestable(base.number)) else { return Ok(()) };
        if self.store.get::<Accounts>(&base.number)?.is_some() {
            return Ok(());
        }
        let Some(rlp) = self.store.get::<Headers>(&base.number)? else { return Ok(()) };
        let Ok(block) = Block::decode(rlp) else { return Ok(()) };
        let Some((proof, proven)) = self.account_of(&block).await? else { return Ok(()) };
        let mirrored = View::new(&self.store, base.number, self.store.generation())
            .root()
            .map_err(|error| self.contradiction(error.to_string()))?;
        if mirrored != proven {
            let error = ApplyError::RootMismatch { number: base.number, mirrored, proven };
            return Err(self.contradiction(error.to_string()));
        }
        let mut batch = self.store.batch();
        batch.put::<Accounts>(&base.number, &proof);
        batch.commit(Durability::Disk)?;
        self.announce().await
    }

    fn apply(
        &mut self,
        block: &Block,
        changes: Vec<Change>,
        account: Option<(Vec<Bytes>, B256)>,
        floor: u64,
        durability: Durability,
    ) -> Result<(), FollowError> {
        let number = block.header.number;
        let written: BTreeSet<B256> = changes.iter().map(|(slot, _)| *slot).collect();
        let position = position(block);
        let block = FinalBlock { position, header: block.rlp.clone(), changes, account };
        match self.store.apply(&block, floor, durability) {
            Ok(()) => {}
            Err(ApplyError::Store(error)) => return Err(error.into()),
            Err(error @ (ApplyError::RootMismatch { .. } | ApplyError::Trie(_))) => {
                return Err(self.contradiction(error.to_string()));
            }
        }
        self.base = Some(position);
        self.recent.push(number, written.into_iter().collect());
        Ok(())
    }

    /// Tells how far the base is, and the highest head in it that can be attested.
    async fn announce(&self) -> Result<(), FollowError> {
        let attestable = self.attestable().await?;
        self.state.send_modify(|state| {
            state.base = self.base;
            state.attestable = attestable;
            state.generation = self.store.generation();
            state.recent = Arc::new(self.recent.clone());
            state.tail = self.tail.writing();
        });
        Ok(())
    }

    async fn attestable(&self) -> Result<Option<FinalHead>, FollowError> {
        let Some(number) = self.store.last_proven_height()? else { return Ok(None) };
        let Some(rlp) = self.store.get::<Headers>(&number)? else { return Ok(None) };
        let position = Position { number, hash: windlass_protocol::keccak256(&rlp) };
        // One provider is enough on a development chain; elsewhere the attester wants to know.
        if self.spec.dev && self.source.independent() == 1 {
            return Ok(Some(FinalHead { position, confirmations: 1 }));
        }
        let check = self.source.cross_check(number, position.hash).await;
        // One against one, or against a provider that is down just now, decides nothing.
        if check.contradictions > check.confirmations.max(1) {
            return Err(self.contradiction(format!(
                "{} providers have another block at final height {number} than {}, {} have it",
                check.contradictions, position.hash, check.confirmations
            )));
        }
        Ok(Some(FinalHead { position, confirmations: check.confirmations }))
    }

    fn contradiction(&self, what: String) -> FollowError {
        FollowError::Contradiction(what, self.spec.deploy_block)
    }

    /// Rebuilds the mirror, unless it is the provider that serves another chain now: then the mirror is right,
    /// and stays as it is until the spec's chain is back.
    async fn reconsider(&mut self, what: String) -> Result<(), FollowError> {
        match self.source.by_number(0).await? {
            Some(genesis) if genesis.header.hash == self.spec.genesis_hash => self.rebuild(what),
            _ => {
                let reason = format!("the provider serves another chain than the spec pins: {what}");
                self.source.distrust(&reason);
                Err(SourceError::Unavailable(reason).into())
            }
        }
    }

    /// Stops serving, empties the mirror and prefers another provider; the next round starts from the
    /// deployment.
    fn rebuild(&mut self, what: String) -> Result<(), FollowError> {
        tracing::error!(what, "the mirror contradicts the chain: rebuilding it");
        self.base = None;
        self.canonical = false;
        self.recent.reset(0);
        // First tell, so that nobody begins to read, then empty; who reads already notices the generation.
        self.state.send_modify(|state| {
            state.phase = Phase::Rebuilding;
            state.base = None;
            state.attestable = None;
            state.generation = self.store.generation() + 1;
            state.tail = Arc::default();
        });
        self.source.distrust(&what);
        self.store.clear_mirror()?;
        self.tail = Tail::default();
        Err(self.contradiction(what))
    }
}

fn position(block: &Block) -> Position {
    Position { number: block.header.number, hash: block.header.hash }
}
