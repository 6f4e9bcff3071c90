//! The task that signs heads, collects attestations and chooses the head to serve under.
//!
//! Inbox: heads from the follower (a watched value) and what peers say (a bounded queue). Emits the served
//! head and what to tell peers, both as watched values. It waits for nobody but the disk.

use super::challenge::{Challenger, UnderWay};
use super::{Book, KnownLineage, KnownVouched, Observed, ServedHead, SignError, Signing, Vouched, steps};
use crate::clock::unix_seconds;
use crate::follower::{FinalHead, MirrorState};
use crate::limits::{RESIGN_EVERY, SAID_ONCE, WINDOW_HEADS};
use crate::on_disk::on_disk;
use crate::store::{Accounts, Durability, Fault, Faults, Headers, Position, Store, StoreError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use windlass_protocol::head::Attestation;
use windlass_protocol::header::Header;
use windlass_protocol::message::head::HeadMessage;
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::{Address, B256};

/// Why the attester ended.
#[derive(Debug, thiserror::Error)]
#[error("the attester can't go on: {0}")]
pub struct AttestError(#[from] StoreError);

/// A message about heads, and the key address that the handshake proved its bringer to have.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// Who brought it; of an attestation not necessarily who signed it.
    pub from: Address,
    /// What it says.
    pub message: HeadMessage,
}

/// Whether this node signs, for whoever runs it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SigningState {
    /// Whether it is in the committee.
    pub member: bool,
    /// The highest block it ever signed.
    pub last: Option<u64>,
    /// Unix seconds of its last signature since it was started.
    pub signed_at: Option<u64>,
    /// Why it doesn't sign now.
    pub held_back: Option<String>,
    /// The last epoch of which it keeps a head for devices that sleep.
    pub kept: Option<u32>,
}

/// Signs, collects, chooses.
pub struct Attester {
    store: Arc<Store>,
    spec: Arc<VerifiedSpec>,
    book: Book,
    lineage: KnownLineage,
    /// `None` on a node that never signs.
    signing: Option<Signing>,
    /// Our own newest final head, to be signed again and again while its epoch's committee has us.
    final_head: Option<FinalHead>,
    /// The epoch of that head.
    epoch: u32,
    generation: u64,
    /// Heights that were served, for pruning behind them.
    window: VecDeque<u64>,
    mirror: watch::Receiver<MirrorState>,
    served: watch::Sender<Option<Arc<ServedHead>>>,
    told: watch::Sender<Arc<Vec<HeadMessage>>>,
    vouched: watch::Sender<Arc<Vouched>>,
    /// What is said once: challenges, and signatures over them.
    once: broadcast::Sender<HeadMessage>,
    under_way: UnderWay,
    state: watch::Sender<SigningState>,
}

impl Attester {
    /// An attester over a mirror. `signing` is `None` on a node that never signs; one that has it signs the heads of
    /// the epochs whose committee it is in.
    pub fn new(
        store: Arc<Store>,
        spec: Arc<VerifiedSpec>,
        lineage: KnownLineage,
        signing: Option<Signing>,
        mirror: watch::Receiver<MirrorState>,
    ) -> Self {
        let last = signing.as_ref().and_then(Signing::last);
        let book = Book::new(spec.clone(), lineage.borrow().clone());
        let state = SigningState { last, ..SigningState::default() };
        Self {
            store,
            spec,
            book,
            lineage,
            signing,
            final_head: None,
            epoch: 0,
            generation: 0,
            window: VecDeque::new(),
            mirror,
            served: watch::Sender::new(None),
            told: watch::Sender::new(Arc::default()),
            vouched: watch::Sender::new(Arc::default()),
            once: broadcast::Sender::new(SAID_ONCE),
            under_way: UnderWay::default(),
            state: watch::Sender::new(state),
        }
    }

    /// The served head, now and from now on; `None` while nothing can be proven.
    pub fn served(&self) -> watch::Receiver<Option<Arc<ServedHead>>> {
        self.served.subscribe()
    }

    /// Whether it signs, now and from now on.
    pub fn signing(&self) -> watch::Receiver<SigningState> {
        self.state.subscribe()
    }

    /// What to tell peers, now and from now on.
    pub fn told(&self) -> watch::Receiver<Arc<Vec<HeadMessage>>> {
        self.told.subscribe()
    }

    /// What members vouch for above our own final heads, now and from now on.
    pub fn vouched(&self) -> KnownVouched {
        self.vouched.subscribe()
    }

    /// What to tell peers once, as it comes.
    pub fn once(&self) -> broadcast::Sender<HeadMessage> {
        self.once.clone()
    }

    /// Runs until cancelled, or until the disk fails.
    pub async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Heard>,
        mut challenges: mpsc::Receiver<Challenger>,
        cancelled: CancellationToken,
    ) -> Result<(), AttestError> {
        let mut resign = tokio::time::interval(RESIGN_EVERY);
        on_disk(|| self.follow())?;
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return Ok(()),
                changed = self.mirror.changed() => match changed {
                    Ok(()) => on_disk(|| self.follow())?,
                    // The follower has ended, and says why; the node is about to.
                    Err(_) => {
                        cancelled.cancelled().await;
                        return Ok(());
                    }
                },
                changed = self.lineage.changed() => match changed {
                    Ok(()) => on_disk(|| self.inherit())?,
                    // Who keeps it has ended, and says why; the node is about to.
                    Err(_) => {
                        cancelled.cancelled().await;
                        return Ok(());
                    }
                },
                heard = inbox.recv() => match heard {
                    Some(heard) => on_disk(|| self.hear(heard))?,
                    None => return Ok(()),
                },
                Some(challenger) = challenges.recv() => on_disk(|| self.challenge(challenger))?,
                _ = resign.tick() => on_disk(|| self.sign())?,
            }
        }
    }

    /// Takes over who is in office now.
    fn inherit(&mut self) -> Result<(), AttestError> {
        let lineage = self.lineage.borrow_and_update().clone();
        self.book.inherit(lineage);
        let served = self.served.borrow().clone();
        if let Some(head) = served {
            self.keep(&head)?;
        }
        let Some(head) = self.final_head else { return Ok(()) };
        // Heads of an epoch whose committee wasn't known were left out.
        self.take_heads(None, head)?;
        self.sign()
    }

    /// Takes over what the follower knows now.
    fn follow(&mut self) -> Result<(), AttestError> {
        let state = self.mirror.borrow_and_update().clone();
        if state.generation != self.generation {
            self.generation = state.generation;
            self.window.clear();
            self.book.forget_own();
            // Nothing of the former build counts, however little of the rebuild was seen.
            self.final_head = None;
        }
        let Some(head) = state.attestable else {
            self.final_head = None;
            self.book.forget_own();
            self.serve()?;
            return Ok(());
        };
        let news = self.final_head != Some(head);
        if news {
            let former = self.final_head.map(|head| head.position.number);
            self.take_heads(former, head)?;
            self.final_head = Some(head);
            self.sign()?;
        }
        Ok(())
    }

    /// Tells the book of every head since the former one: others may attest one in between.
    fn take_heads(&mut self, former: Option<u64>, head: FinalHead) -> Result<(), AttestError> {
        let newest = head.position.number;
        let from = former.map_or(0, |former| former + 1).max(newest.saturating_sub(self.book.reach()));
        let mut heads = Vec::new();
        for number in self.store.proven_heights(from)? {
            let header = self.store.get::<Headers>(&number)?.and_then(|rlp| Header::decode(&rlp).ok());
            heads.extend(header.map(|header| FinalHead {
                position: Position { number, hash: header.hash },
                timestamp: header.timestamp,
                confirmations: 0,
            }));
        }
        if let Some(newest) = heads.last() {
            self.epoch = self.spec.epoch_at(newest.timestamp);
        }
        self.book.own_heads(heads);
        let dissenters = self.book.dissenters(head.position);
        if !dissenters.is_empty() {
            tracing::warn!(number = newest, ?dissenters, "members attested another block than ours");
        }
        Ok(())
    }

    /// Signs our newest final head, for the first time or afresh.
    fn sign(&mut self) -> Result<(), AttestError> {
        if let Some((signing, head, members)) = self.in_office() {
            let now = unix_seconds();
            match signing.sign(head, members, now) {
                Ok(attestation) => {
                    self.state.send_modify(|state| {
                        state.last = Some(head.position.number);
                        (state.signed_at, state.held_back) = (Some(now), None);
                    });
                    self.book.observe(head.position, attestation, now);
                }
                Err(SignError::Store(error)) => return Err(error.into()),
                Err(reason) => self.hold_back(&reason),
            }
        }
        self.serve()?;
        self.tell();
        Ok(())
    }

    /// The key, the head to sign and the size of its committee, if that has us.
    fn in_office(&mut self) -> Option<(&mut Signing, FinalHead, usize)> {
        let committee = self.book.lineage().of(self.epoch);
        let (signing, head) = (self.signing.as_mut()?, self.final_head?);
        let members = committee.filter(|committee| committee.contains(&signing.address()));
        let members = members.map(|committee| committee.members().len());
        self.state.send_if_modified(|state| {
            let news = state.member != members.is_some();
            if news {
                (state.member, state.held_back) = (members.is_some(), None);
            }
            news
        });
        Some((signing, head, members?))
    }

    fn hold_back(&self, reason: &SignError) {
        let reason = reason.to_string();
        self.state.send_if_modified(|state| {
            let news = state.held_back.as_ref() != Some(&reason);
            if news {
                tracing::warn!(reason, "not signing");
                state.held_back = Some(reason);
            }
            news
        });
    }

    /// Has members vouch for the served head over a device's nonce.
    fn challenge(&mut self, challenger: Challenger) -> Result<(), AttestError> {
        let Some(head) = self.served.borrow().clone() else { return Ok(()) };
        let epoch = self.spec.epoch_at(head.header.timestamp);
        let Some(committee) = self.book.lineage().of(epoch).cloned() else { return Ok(()) };
        let (nonce, position) = (challenger.nonce, head.position);
        if !self.under_way.begin(challenger, head, committee, Instant::now()) {
            return Ok(());
        }
        self.say(HeadMessage::Challenge { number: position.number, hash: position.hash, nonce });
        if let Some(attestation) = self.vouch(position, nonce)? {
            self.under_way.sign(&self.spec, position, attestation);
        }
        Ok(())
    }

    /// Our signature over a nonce, if this is a final head of ours and we are in its committee.
    fn vouch(&mut self, position: Position, nonce: B256) -> Result<Option<Attestation>, AttestError> {
        let rlp = self.store.get::<Headers>(&position.number)?;
        let header = rlp.and_then(|rlp| Header::decode(&rlp).ok());
        let Some(header) = header.filter(|header| header.hash == position.hash) else { return Ok(None) };
        let committee = self.book.lineage().of(self.spec.epoch_at(header.timestamp));
        let Some(signing) = self.signing.as_ref() else { return Ok(None) };
        if !committee.is_some_and(|committee| committee.contains(&signing.address())) {
            return Ok(None);
        }
        Ok(signing.vouch(position, unix_seconds(), nonce))
    }

    fn say(&self, message: HeadMessage) {
        // Nobody may be connected.
        let _ = self.once.send(message);
    }

    fn hear(&mut self, heard: Heard) -> Result<(), AttestError> {
        match heard.message {
            HeadMessage::Attested { number, hash, attestation } if !attestation.nonce.is_zero() => {
                self.under_way.sign(&self.spec, Position { number, hash }, attestation);
            }
            HeadMessage::Challenge { number, hash, nonce } => {
                // Members only: a stranger's challenge goes to the node it is connected to.
                if self.book.lineage().committees().knows(&heard.from) {
                    let position = Position { number, hash };
                    if let Some(attestation) = self.vouch(position, nonce)? {
                        self.say(HeadMessage::Attested { number, hash, attestation });
                    }
                }
            }
            HeadMessage::Attested { number, hash, attestation } => {
                let position = Position { number, hash };
                match self.book.observe(position, attestation, unix_seconds()) {
                    Observed::New(member) => {
                        // Our own word that we don't remember is as good a record as the one that was lost.
                        if let Some(signing) = self.signing.as_mut().filter(|s| s.address() == member) {
                            signing.recall(position)?;
                        }
                        self.serve()?;
                        self.tell();
                    }
                    Observed::Equivocation(member) => self.convict(member, number, (hash, attestation))?,
                    outcome => {
                        tracing::trace!(from = %heard.from, ?outcome, "an attestation that says nothing new")
                    }
                }
            }
            HeadMessage::Report { number, hash } => {
                let member = self.book.lineage().committees().knows(&heard.from);
                if let Some(signing) = self.signing.as_mut().filter(|_| member) {
                    signing.report(heard.from, Position { number, hash });
                    if self.state.borrow().held_back.is_some() {
                        self.sign()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Keeps the first two signatures of a member that contradict each other.
    fn convict(&self, member: Address, number: u64, other: (B256, Attestation)) -> Result<(), AttestError> {
        let Some(one) = self.book.signed_by(&member, number) else { return Ok(()) };
        if self.store.get::<Faults>(&member)?.is_some() {
            return Ok(());
        }
        tracing::error!(%member, number, one = %one.0, other = %other.0,
            "a member signed two hashes at one number: the evidence is kept, and in /health");
        let mut batch = self.store.batch();
        batch.put::<Faults>(&member, &Fault { number, one, other });
        batch.commit(Durability::Disk)?;
        Ok(())
    }

    /// Publishes the highest head that has enough attestations, if that is news.
    fn serve(&mut self) -> Result<(), AttestError> {
        let Some((position, attestations, attested_at)) = self.book.served() else {
            self.served.send_if_modified(|served| served.take().is_some());
            return Ok(());
        };
        let known = self.served.borrow().clone();
        let same = |head: &Arc<ServedHead>| {
            (head.position, head.generation) == (position, self.generation)
                && head.attestations == attestations
        };
        if known.as_ref().is_some_and(same) {
            return Ok(());
        }
        let (Some(rlp), Some(account)) =
            (self.store.get::<Headers>(&position.number)?, self.store.get::<Accounts>(&position.number)?)
        else {
            return Ok(());
        };
        let Ok(header) = Header::decode(&rlp) else { return Ok(()) };
        let recent = self.mirror.borrow().recent.clone();
        if known.is_none_or(|head| head.position != position) {
            tracing::info!(number = position.number, hash = %position.hash, "serving under a new head");
            self.keep_window(position.number);
        }
        let generation = self.generation;
        let head =
            ServedHead { position, header, rlp, account, attestations, attested_at, generation, recent };
        self.keep(&head)?;
        self.served.send_replace(Some(Arc::new(head)));
        Ok(())
    }

    /// Keeps the first head of each epoch's second half, once it is known who comes next.
    fn keep(&self, head: &ServedHead) -> Result<(), AttestError> {
        if let Some(epoch) = steps::keep(&self.store, &self.spec, self.book.lineage(), head)? {
            self.state.send_modify(|state| state.kept = Some(epoch));
        }
        Ok(())
    }

    /// The last few served heights stay readable; what is older may be pruned.
    fn keep_window(&mut self, number: u64) {
        self.window.push_back(number);
        if self.window.len() > WINDOW_HEADS {
            self.window.pop_front();
        }
        if self.window.len() == WINDOW_HEADS
            && let Some(oldest) = self.window.front()
        {
            self.store.release_below(*oldest);
        }
    }

    fn tell(&self) {
        let mut messages: Vec<HeadMessage> = self
            .book
            .told()
            .into_iter()
            .map(|(position, attestation)| HeadMessage::Attested {
                number: position.number,
                hash: position.hash,
                attestation,
            })
            .collect();
        if let (true, Some(head)) = (self.state.borrow().member, self.final_head) {
            // Before the attestation, so that a member that waits for reports doesn't wait for a signature.
            let Position { number, hash } = head.position;
            messages.insert(0, HeadMessage::Report { number, hash });
        }
        self.told.send_if_modified(|told| {
            let news = **told != messages;
            if news {
                *told = Arc::new(messages);
            }
            news
        });
        let vouched = Vouched::new(self.book.lineage_shared(), self.book.ahead());
        self.vouched.send_if_modified(|told| {
            let news = !told.is(&vouched);
            if news {
                *told = Arc::new(vouched);
            }
            news
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::head::{Challenges, Lineage};
    use crate::store::{Durability, FinalBlock};
    use crate::testing::{self, FakeChain};
    use std::time::Duration;
    use windlass_protocol::SecretKey;
    use windlass_protocol::head::Head;
    use windlass_protocol::spec::VerifiedSpec;

    /// A member with a mirror in which each block of a made-up chain is proven.
    struct World {
        chain: Arc<FakeChain>,
        store: Arc<Store>,
        spec: Arc<VerifiedSpec>,
        members: Vec<SecretKey>,
        mirror: watch::Sender<MirrorState>,
        attester: Attester,
        _lineage: watch::Sender<Arc<Lineage>>,
        _directory: tempfile::TempDir,
    }

    impl World {
        fn new(change: impl FnOnce(&mut windlass_protocol::spec::ChainSpec)) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let (spec, members) = testing::spec_with(3, change);
            let spec = Arc::new(spec);
            let store = Arc::new(Store::open(directory.path(), &spec).unwrap());
            let signing = Signing::new(&members[0], spec.clone(), store.clone()).unwrap();
            let mirror = watch::Sender::new(MirrorState::default());
            let lineage = watch::Sender::new(Arc::new(Lineage::lasting(&spec)));
            let known = lineage.subscribe();
            let attester =
                Attester::new(store.clone(), spec.clone(), known, Some(signing), mirror.subscribe());
            Self {
                chain: FakeChain::new(),
                store,
                spec,
                members,
                mirror,
                attester,
                _lineage: lineage,
                _directory: directory,
            }
        }

        /// Makes a block, mirrors it, and says it is final in this build of the mirror.
        fn finalise(&mut self, generation: u64) -> FinalHead {
            self.chain.extend(Vec::new());
            let head = self.mirrored(self.chain.height());
            self.mirror.send_replace(MirrorState {
                attestable: Some(head),
                generation,
                ..MirrorState::default()
            });
            head
        }

        fn mirrored(&self, number: u64) -> FinalHead {
            let (block, proof, root) = self.chain.proven(number);
            let position = Position { number, hash: block.header.hash };
            let head = FinalHead { position, timestamp: block.header.timestamp, confirmations: 1 };
            let applied = FinalBlock {
                position: head.position,
                header: block.rlp,
                changes: Vec::new(),
                account: Some((proof, root)),
            };
            self.store.apply(&applied, 0, Durability::Process).unwrap();
            head
        }

        fn hears(&mut self, member: usize, head: FinalHead) {
            let Position { number, hash } = head.position;
            let statement =
                Head { number, hash, attested_at: unix_seconds(), nonce: windlass_protocol::B256::ZERO };
            let attestation = statement.attest(&self.spec, &self.members[member]);
            let message = HeadMessage::Attested { number, hash, attestation };
            self.attester.hear(Heard { from: Address::ZERO, message }).unwrap();
        }
    }

    #[test]
    fn a_rebuild_that_was_seen_late_is_served_at_the_same_height() {
        let mut world = World::new(|_| {});
        let head = world.finalise(0);
        world.attester.follow().unwrap();
        world.hears(1, head);
        let served = world.attester.served();
        assert_eq!(served.borrow().as_ref().unwrap().generation, 0);
        // Cleared and built again between two looks; the newest final block is the same as before.
        world.mirror.send_modify(|state| state.generation = 1);
        world.attester.follow().unwrap();
        world.hears(2, head);
        let served = served.borrow().clone().expect("served under the new build");
        assert_eq!((served.position, served.generation), (head.position, 1));
    }

    #[test]
    fn a_head_is_not_vouched_for_once_no_client_would_take_it() {
        // Blocks of the made-up chain are long past.
        let mut world = World::new(|spec| spec.max_finality_lag = 60);
        world.finalise(0);
        world.attester.follow().unwrap();
        let attesting = world.attester.signing().borrow().clone();
        assert_eq!(attesting.signed_at, None);
        assert!(attesting.held_back.unwrap().contains("finality lag of 60 s"));
    }

    #[test]
    fn our_own_signature_that_comes_back_is_the_record_that_was_lost() {
        let mut world = World::new(|_| {});
        let (first, second) = (world.finalise(0), world.finalise(0));
        // Signed by the node before it lost its disk; it is at the first head again.
        world.hears(0, second);
        world.mirror.send_modify(|state| state.attestable = Some(first));
        world.attester.follow().unwrap();
        let held_back = world.attester.signing().borrow().held_back.clone().unwrap();
        assert!(held_back.contains("signed before"), "{held_back}");
        world.mirror.send_modify(|state| state.attestable = Some(second));
        world.attester.follow().unwrap();
        assert_eq!(world.attester.signing().borrow().held_back, None);
    }

    #[tokio::test]
    async fn a_confirmation_that_comes_later_is_enough_to_sign() {
        let mut world = World::new(|spec| spec.dev = false);
        world.finalise(0);
        world.attester.follow().unwrap();
        let head = world.finalise(0);
        let mut state = world.attester.signing();
        let (_inbox, heard) = mpsc::channel(1);
        let cancelled = CancellationToken::new();
        let (_, challengers) = Challenges::channel();
        let task = tokio::spawn(world.attester.run(heard, challengers, cancelled.clone()));
        let alone =
            |state: &SigningState| state.held_back.as_ref().is_some_and(|why| why.contains("one provider"));
        state.wait_for(alone).await.unwrap();
        let confirmed = FinalHead { confirmations: 2, ..head };
        world.mirror.send_modify(|state| state.attestable = Some(confirmed));
        // Long before the next round of fresh signatures.
        let signed = state.wait_for(|state| state.signed_at.is_some());
        tokio::time::timeout(Duration::from_secs(5), signed).await.unwrap().unwrap();
        cancelled.cancel();
        task.await.unwrap().unwrap();
    }
}
