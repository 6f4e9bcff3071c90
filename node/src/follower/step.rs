//! One round of following: ask for the newest and the final block, extend or rewind the tail, move what is
//! final into the base.

use super::error::{Broken, FollowError, damage, fork, mismatch};
use super::rebuild::Rebuild;
use super::state::{MirrorState, Phase, Recent};
use super::tail::{Entry, Tail};
use crate::chain::{Block, ChainSource, Change, CrossCheck, SourceError};
use crate::head::KnownVouched;
use crate::limits::MAX_TAIL_BLOCKS;
use crate::on_disk::on_disk;
use crate::store::{
    Accounts, ApplyError, Durability, FinalBlock, Headers, Position, Store, StoreError, TailBlock, View,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;
use windlass_protocol::bundle::verify_account;
use windlass_protocol::spec::{FinalityRule, VerifiedSpec};
use windlass_protocol::{B256, Bytes};

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
    pub(super) source: Arc<S>,
    pub(super) store: Arc<Store>,
    pub(super) spec: Arc<VerifiedSpec>,
    pub(super) base: Option<Position>,
    pub(super) tail: Tail,
    pub(super) recent: Recent,
    /// Whether the base is known to be on the provider's chain.
    pub(super) canonical: bool,
    /// What the providers said of a final block, and in which round.
    pub(super) compared: Option<(Position, CrossCheck, u64)>,
    pub(super) round: u64,
    /// Times in a row that a block's logs led to another root than was proven.
    pub(super) mismatches: u32,
    /// Unfinalised blocks followed at most.
    pub(super) most_tail: u64,
    /// A mirror that is being built beside this one.
    pub(super) rebuild: Option<Rebuild<S>>,
    /// What the committee vouches for, where that is known.
    pub(super) vouched: Option<KnownVouched>,
    /// The state of the follower whose mirror this one is built to replace.
    pub(super) besides: Option<watch::Receiver<MirrorState>>,
    pub(super) state: watch::Sender<MirrorState>,
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
            compared: None,
            round: 0,
            mismatches: 0,
            most_tail: MAX_TAIL_BLOCKS,
            rebuild: None,
            vouched: None,
            besides: None,
            state: watch::Sender::new(state),
        })
    }

    /// Lets the committee decide where as many providers contradict a final block as confirm it.
    pub fn with_vouched(self, vouched: KnownVouched) -> Self {
        Self { vouched: Some(vouched), ..self }
    }

    /// What it says about itself, now and from now on.
    pub fn state(&self) -> watch::Receiver<MirrorState> {
        self.state.subscribe()
    }

    /// One round. Tells the state whatever comes of it.
    pub async fn step(&mut self) -> Result<(), FollowError> {
        self.round += 1;
        self.tend_rebuild().await?;
        let outcome = match self.round().await {
            Ok(()) => Ok(()),
            Err(Broken::Doubted(doubt)) => self.resolve(doubt).await,
            Err(Broken::Failed(error)) => {
                if let FollowError::Stalled(_) = error {
                    // Another provider may know better.
                    self.source.distrust(&error.to_string());
                }
                Err(error)
            }
        };
        let trouble = outcome.as_ref().err().map(ToString::to_string);
        self.state.send_modify(|state| state.trouble = trouble);
        outcome
    }

    async fn round(&mut self) -> Result<(), Broken> {
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
        let finalized = self.agree_on(finalized).await?;
        self.catch_up(&finalized).await?;
        let extended = self.extend_tail(&latest).await;
        if matches!(extended, Ok(()) | Err(Broken::Failed(FollowError::Stalled(_)))) {
            // What is in the tail may be final by now, which makes room.
            self.finalise(&finalized).await?;
        }
        extended?;
        self.prove_base().await?;
        self.confirm_again().await?;
        self.state.send_modify(|state| state.phase = Phase::Following);
        Ok(())
    }

    /// Once after each start: is the base still on the chain?
    async fn check_base(&mut self) -> Result<(), Broken> {
        let Some(base) = self.base.filter(|_| !self.canonical) else { return Ok(()) };
        match self.source.by_number(base.number).await? {
            Some(block) if block.header.hash == base.hash => {
                self.canonical = true;
                self.announce().await
            }
            Some(block) => Err(fork(format!(
                "final block {} is {} in the mirror, {} on the chain",
                base.number, base.hash, block.header.hash
            ))),
            // The provider is behind us: a later round asks another, if there is one.
            None => {
                let reason = format!("the provider has no block {} yet", base.number);
                self.source.distrust(&reason);
                Err(SourceError::Unavailable(reason).into())
            }
        }
    }

    /// Makes the tail end in `latest`: walks back by parent hash to a block that is known.
    async fn extend_tail(&mut self, latest: &Block) -> Result<(), Broken> {
        // Before anything of it is fetched or kept.
        let base = self.base.map_or(0, |base| base.number);
        let blocks = latest.header.number.saturating_sub(base);
        if blocks > self.most_tail {
            return Err(FollowError::Stalled(blocks).into());
        }
        let mut missing = Vec::new();
        let mut at = latest.clone();
        let ancestor = loop {
            match self.known(&at)? {
                // The newest block is one we have: a provider that lags, or nothing new.
                Known::Base | Known::Older | Known::Tail if missing.is_empty() => return Ok(()),
                Known::Base | Known::Tail => break at.header.number,
                Known::Older | Known::Conflict => {
                    return Err(fork(format!(
                        "block {} {} is on the chain, another one was final",
                        at.header.number, at.header.hash
                    )));
                }
                Known::Unknown => {}
            }
            let parent = self.source.by_hash(at.header.parent_hash).await?;
            // Each step goes down by one, so the walk ends.
            if parent.header.number.checked_add(1) != Some(at.header.number) {
                let (number, below) = (at.header.number, parent.header.number);
                let reason = format!("the parent of block {number} has number {below}");
                self.source.distrust(&reason);
                return Err(SourceError::Unavailable(reason).into());
            }
            missing.push(std::mem::replace(&mut at, parent));
        };
        // Fetched before the old tail goes, so that a failure in between costs nothing.
        let mut entries = Vec::with_capacity(missing.len());
        for block in missing.into_iter().rev() {
            entries.push(self.fetch(block).await?);
        }
        on_disk(|| {
            self.tail.rewind(&self.store, ancestor)?;
            entries.into_iter().try_for_each(|entry| self.tail.push(&self.store, entry))
        })?;
        // Whoever watches learns of revocations now, not when they are final.
        self.state.send_modify(|state| state.tail = self.tail.writing());
        Ok(())
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
        let ours = on_disk(|| self.store.get::<Headers>(&number))?;
        let same = ours.is_none_or(|rlp| windlass_protocol::keccak256(&rlp) == hash);
        Ok(if same { Known::Older } else { Known::Conflict })
    }

    async fn fetch(&self, block: Block) -> Result<Entry, Broken> {
        let changes = self.source.changes(block.header.hash).await?;
        let account = self.account_of(&block).await?.map(|(proof, _)| proof);
        let content = TailBlock { header: block.rlp.clone(), changes, account };
        Ok(Entry { block, content })
    }

    /// The verified account proof at an attestable height; `None` elsewhere, and where the provider doesn't
    /// keep that block's state any more.
    pub(super) async fn account_of(&self, block: &Block) -> Result<Option<(Vec<Bytes>, B256)>, Broken> {
        if !self.spec.attestable(block.header.number) {
            return Ok(None);
        }
        match self.source.account(block.header.hash).await {
            Ok(proof) => {
                let verified = self.verified(block, proof);
                if let Err(error) = &verified {
                    self.source.distrust(&error.to_string());
                }
                self.state.send_if_modified(|state| state.unproven.take().is_some());
                Ok(Some(verified?))
            }
            Err(error) => {
                let number = block.header.number;
                tracing::debug!(number, %error, "no account proof");
                let reason = format!("no account proof at block {number}: {error}");
                self.state.send_modify(|state| state.unproven = Some(reason));
                Ok(None)
            }
        }
    }

    fn verified(&self, block: &Block, proof: Vec<Bytes>) -> Result<(Vec<Bytes>, B256), SourceError> {
        match verify_account(&self.spec.contracts.registry, block.header.state_root, &proof) {
            Ok(account) => Ok((proof, account.storage_root)),
            Err(error) => {
                let number = block.header.number;
                Err(SourceError::Unavailable(format!("at block {number} {error}")))
            }
        }
    }

    /// Moves the tail up to the final block into the base, one batch per block.
    async fn finalise(&mut self, finalized: &Block) -> Result<(), Broken> {
        let target = finalized.header.number;
        match self.known(finalized)? {
            Known::Tail => {}
            // A provider that lags, or a final block of a fork we haven't walked to yet.
            Known::Base | Known::Older | Known::Unknown => return Ok(()),
            Known::Conflict => {
                return Err(fork(format!(
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
    async fn prove_base(&mut self) -> Result<(), Broken> {
        let Some(base) = self.base.filter(|base| self.spec.attestable(base.number)) else { return Ok(()) };
        let unproven = on_disk(|| match self.store.get::<Accounts>(&base.number)? {
            Some(_) => Ok::<_, StoreError>(None),
            None => self.store.get::<Headers>(&base.number),
        })?;
        let Some(block) = unproven.and_then(|rlp| Block::decode(rlp).ok()) else { return Ok(()) };
        let Some((proof, proven)) = self.account_of(&block).await? else { return Ok(()) };
        let view = View::new(&self.store, base.number, self.store.generation());
        let mirrored = on_disk(|| view.root()).map_err(|error| damage(error.to_string()))?;
        if mirrored != proven {
            let error = ApplyError::RootMismatch { number: base.number, mirrored, proven };
            return Err(mismatch(error.to_string()));
        }
        on_disk(|| {
            let mut batch = self.store.batch();
            batch.put::<Accounts>(&base.number, &proof);
            batch.commit(Durability::Disk)
        })?;
        self.announce().await
    }

    pub(super) fn apply(
        &mut self,
        block: &Block,
        changes: Vec<Change>,
        account: Option<(Vec<Bytes>, B256)>,
        floor: u64,
        durability: Durability,
    ) -> Result<(), Broken> {
        let number = block.header.number;
        let written: BTreeSet<B256> = changes.iter().map(|(slot, _)| *slot).collect();
        let position = position(block);
        let block = FinalBlock { position, header: block.rlp.clone(), changes, account };
        on_disk(|| self.store.apply(&block, floor, durability)).map_err(|error| match error {
            ApplyError::Store(error) => error.into(),
            ApplyError::RootMismatch { .. } => mismatch(error.to_string()),
            ApplyError::Trie(_) => damage(error.to_string()),
        })?;
        self.base = Some(position);
        self.mismatches = 0;
        self.recent.push(number, written.into_iter().collect());
        Ok(())
    }

    /// Tells how far the base is, and the highest head in it that can be attested.
    pub(super) async fn announce(&mut self) -> Result<(), Broken> {
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
}

pub(super) fn position(block: &Block) -> Position {
    Position { number: block.header.number, hash: block.header.hash }
}
