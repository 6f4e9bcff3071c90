//! A committee is replaced: what is served, what is kept for devices that sleep, and where lists come from.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::chain::Change;
use crate::follower::Follower;
use crate::serve::Served;
use crate::store::{Position, Store};
use crate::testing::{FakeChain, key, spec_with};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use windlass_protocol::committee::{Committees, committee_hash, verify_step};
use windlass_protocol::head::Head;
use windlass_protocol::message::head::HeadMessage;
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::{Address, SecretKey};

mod recovery;

/// The fake chain's blocks are a second apart from this time on: ten make an epoch.
const GENESIS: u64 = 1_000_000;
const LENGTH: u64 = 10;
/// The epoch in which the spec was made.
const FIRST: u32 = (GENESIS / LENGTH) as u32;

/// Lists by epoch, as a provider tells them.
#[derive(Default)]
struct Told(Mutex<BTreeMap<u32, Vec<Vec<Address>>>>);

impl ListSource for Told {
    async fn proposed(&self, _: &VerifiedSpec, epoch: u32, _: u64) -> Vec<Vec<Address>> {
        self.0.lock().unwrap().get(&epoch).cloned().unwrap_or_default()
    }
}

/// A mirror whose heads are attested by whoever the test says.
struct Office {
    chain: Arc<FakeChain>,
    store: Arc<Store>,
    spec: Arc<VerifiedSpec>,
    told: Arc<Told>,
    follower: Follower<FakeChain>,
    genealogist: Genealogist<Told>,
    served: Served,
    inbox: mpsc::Sender<Heard>,
    challenges: Challenges,
    once: tokio::sync::broadcast::Receiver<HeadMessage>,
    cancelled: CancellationToken,
    _directory: tempfile::TempDir,
}

impl Office {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (spec, _) = spec_with(3, |spec| {
            spec.epoch_length = LENGTH;
            spec.date = GENESIS;
        });
        let spec = Arc::new(spec);
        let (chain, told) = (FakeChain::new(), Arc::<Told>::default());
        let store = Arc::new(Store::open(directory.path(), &spec).unwrap());
        let follower = Follower::new(chain.clone(), store.clone(), spec.clone()).unwrap();
        let genealogist = Genealogist::new(told.clone(), store.clone(), spec.clone());
        let attester =
            Attester::new(store.clone(), spec.clone(), genealogist.known(), None, follower.state());
        let served = attester.served();
        let (inbox, heard) = mpsc::channel(64);
        let cancelled = CancellationToken::new();
        let (challenges, challengers) = Challenges::channel();
        let once = attester.once().subscribe();
        tokio::spawn(attester.run(heard, challengers, cancelled.clone()));
        let _directory = directory;
        Self {
            chain,
            store,
            spec,
            told,
            follower,
            genealogist,
            served,
            inbox,
            challenges,
            once,
            cancelled,
            _directory,
        }
    }

    /// A final block with these changes; true if everybody's list is known.
    async fn extend(&mut self, changes: Vec<Change>) -> bool {
        self.chain.extend(changes);
        self.chain.finalise(1);
        self.follower.step().await.unwrap();
        let generation = self.store.generation();
        self.genealogist.catch_up(self.chain.height(), generation).await.unwrap()
    }

    async fn hear(&self, member: &SecretKey) {
        let (number, hash) = (self.chain.height(), self.chain.hash(self.chain.height()));
        let head = Head { number, hash, attested_at: GENESIS + number, nonce: Default::default() };
        let message = HeadMessage::Attested { number, hash, attestation: head.attest(&self.spec, member) };
        self.inbox.send(Heard { from: member.address().0, message }).await.unwrap();
    }

    /// A final block that these keys attest and that is served.
    async fn advance(&mut self, changes: Vec<Change>, members: &[u8]) -> Arc<ServedHead> {
        assert!(self.extend(changes).await);
        for member in members {
            self.hear(&key(*member)).await;
        }
        let number = self.chain.height();
        let served =
            self.served.wait_for(|head| head.as_ref().is_some_and(|head| head.position.number == number));
        served.await.unwrap().clone().unwrap()
    }

    /// Blocks up to this height, attested by these keys.
    async fn advance_to(&mut self, height: u64, members: &[u8]) -> Arc<ServedHead> {
        while self.chain.height() + 1 < height {
            self.advance(Vec::new(), members).await;
        }
        self.advance(Vec::new(), members).await
    }

    /// The keys that attest the served head.
    fn signers(&self, head: &ServedHead) -> Vec<Address> {
        let signer = |attestation: &windlass_protocol::head::Attestation| {
            attestation.signer(&self.spec, head.position.number, head.position.hash).unwrap()
        };
        head.attestations.iter().map(signer).collect()
    }

    fn known(&self) -> Arc<Lineage> {
        self.genealogist.known().borrow().clone()
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.cancelled.cancel();
    }
}

fn members(keys: &[u8]) -> Vec<Address> {
    let mut members: Vec<Address> = keys.iter().map(|seed| key(*seed).address().0).collect();
    members.sort_unstable();
    members
}

fn proposal(epoch: u32, keys: &[u8]) -> Vec<Change> {
    vec![(Slot::Committee(epoch).storage_key(), committee_hash(&members(keys)))]
}

#[tokio::test]
async fn from_the_next_epoch_on_only_the_new_committee_counts_and_sleepers_find_the_way() {
    let mut office = Office::start();
    let next = FIRST + 1;
    office.told.0.lock().unwrap().insert(next, vec![members(&[12]), members(&[11, 12])]);
    office.advance(Vec::new(), &[1, 2]).await;
    office.advance(proposal(next, &[11, 12]), &[1, 2]).await;
    assert_eq!(office.known().committees().through(), FIRST, "not settled in the first half");
    office.advance_to(5, &[1, 2]).await;
    assert_eq!(office.known().of(next).unwrap().members(), members(&[11, 12]));
    office.advance_to(9, &[1, 3]).await;

    // The first block of the new epoch: those who are replaced may sign what they like.
    assert!(office.extend(Vec::new()).await);
    for seed in [1, 2, 3, 11] {
        office.hear(&key(seed)).await;
    }
    office.hear(&key(12)).await;
    let head = office.served.wait_for(|head| head.as_ref().is_some_and(|head| head.position.number == 10));
    let head = head.await.unwrap().clone().unwrap();
    let mut signers = office.signers(&head);
    signers.sort_unstable();
    assert_eq!(signers, members(&[11, 12]));

    // Three epochs later a device that slept is led over the change, and on to the present.
    let head = office.advance_to(42, &[11, 12]).await;
    let lineage = office.known();
    let mut committees = Committees::first(&office.spec);
    let now = Some(GENESIS + 42);
    for expected in [next, FIRST + 4] {
        let epoch = committees.through() + 1;
        let step = steps::towards(&office.store, &office.spec, &lineage, &head, epoch).unwrap().unwrap();
        let step = verify_step(&office.spec, &committees, now, &step).unwrap();
        committees.take(&step);
        assert_eq!(committees.through(), expected);
    }
    assert_eq!(committees.latest().members(), members(&[11, 12]));
    let beyond = steps::towards(&office.store, &office.spec, &lineage, &head, FIRST + 5).unwrap();
    assert_eq!(beyond, None, "nothing settles that yet");
}

#[tokio::test]
async fn a_walk_of_many_empty_epochs_before_a_change_takes_a_few_steps() {
    let mut office = Office::start();
    let change = FIRST + 12;
    office.told.0.lock().unwrap().insert(change, vec![members(&[11, 12])]);
    office.advance_to(111, &[1, 2]).await;
    office.advance(proposal(change, &[11, 12]), &[1, 2]).await;
    office.advance_to(119, &[1, 2]).await;
    let head = office.advance_to(121, &[11, 12]).await;
    let lineage = office.known();
    let mut committees = Committees::first(&office.spec);
    let mut walked = 0;
    while committees.through() < change {
        let epoch = committees.through() + 1;
        let step = steps::towards(&office.store, &office.spec, &lineage, &head, epoch).unwrap().unwrap();
        let step = verify_step(&office.spec, &committees, Some(GENESIS + 121), &step).unwrap();
        committees.take(&step);
        walked += 1;
    }
    assert_eq!((walked, committees.latest().members()), (2, &members(&[11, 12])[..]));
}

#[tokio::test]
async fn a_list_that_nobody_tells_stops_the_walk_until_somebody_does() {
    let mut office = Office::start();
    let next = FIRST + 1;
    office.advance(proposal(next, &[11, 12]), &[1, 2]).await;
    // What is told doesn't hash to the slot.
    office.told.0.lock().unwrap().insert(next, vec![members(&[12, 13])]);
    for _ in 2..=5 {
        office.extend(Vec::new()).await;
    }
    let generation = office.store.generation();
    assert!(!office.genealogist.catch_up(5, generation).await.unwrap());
    assert!(office.known().of(next).is_none());
    office.told.0.lock().unwrap().insert(next, vec![members(&[11, 12])]);
    assert!(office.genealogist.catch_up(5, generation).await.unwrap());
    assert!(office.known().of(next).is_some());
    // It is kept: another start needs nobody.
    let restarted = Genealogist::new(Arc::<Told>::default(), office.store.clone(), office.spec.clone());
    assert!(restarted.catch_up(5, generation).await.unwrap());
    assert_eq!(restarted.known().borrow().change_at(next), Some(&members(&[11, 12])[..]));
}

#[tokio::test]
async fn a_nonce_is_answered_by_a_threshold_of_those_in_office() {
    let mut office = Office::start();
    let head = office.advance(Vec::new(), &[1, 2]).await;
    let nonce = windlass_protocol::B256::repeat_byte(5);
    let challenges = office.challenges.clone();
    let asked = tokio::spawn(async move { challenges.ask(nonce).await });
    // Members are told.
    let Position { number, hash } = head.position;
    assert_eq!(office.once.recv().await.unwrap(), HeadMessage::Challenge { number, hash, nonce });
    // A stranger, somebody else's nonce and another block don't count, nor does one member twice.
    let other = windlass_protocol::B256::repeat_byte(6);
    for (seed, hash, nonce) in
        [(40, hash, nonce), (1, hash, other), (1, other, nonce), (1, hash, nonce), (1, hash, nonce)]
    {
        let statement = Head { number, hash, attested_at: GENESIS, nonce };
        let attestation = statement.attest(&office.spec, &key(seed));
        let message = HeadMessage::Attested { number, hash, attestation };
        office.inbox.send(Heard { from: key(seed).address().0, message }).await.unwrap();
    }
    // Heard after those, and no answer yet.
    office.extend(Vec::new()).await;
    assert!(!asked.is_finished());
    let statement = Head { number, hash, attested_at: GENESIS, nonce };
    let attestation = statement.attest(&office.spec, &key(3));
    let message = HeadMessage::Attested { number, hash, attestation };
    office.inbox.send(Heard { from: key(3).address().0, message }).await.unwrap();
    let bundle = asked.await.unwrap().expect("a threshold has signed");
    let committee = windlass_protocol::head::Committee::first(&office.spec);
    let trust = windlass_protocol::head::Trust {
        spec: &office.spec,
        committee: &committee,
        now: None,
        nonce: Some(nonce),
    };
    let verified =
        windlass_protocol::head::verify_head(&trust, &bundle.header, &bundle.attestations).unwrap();
    assert_eq!((verified.number(), verified.signers()), (number, 2));
}

/// A device still knows the spec under which the first committee was in office; the node was started under a renewed one,
/// which begins with its successor.
#[tokio::test]
async fn a_renewed_spec_still_leads_devices_that_know_only_the_older_one() {
    let mut office = Office::start();
    let next = FIRST + 1;
    office.told.0.lock().unwrap().insert(next, vec![members(&[11, 12])]);
    office.advance(Vec::new(), &[1, 2]).await;
    office.advance(proposal(next, &[11, 12]), &[1, 2]).await;
    office.advance_to(9, &[1, 3]).await;
    let head = office.advance_to(32, &[11, 12]).await;

    let (renewed, _) = spec_with(3, |spec| {
        spec.epoch_length = LENGTH;
        spec.version = 2;
        spec.date = GENESIS + 25;
        spec.committee = members(&[11, 12]);
    });
    assert_eq!(renewed.succeeds(&office.spec), Ok(()));
    let genealogist = Genealogist::new(Arc::<Told>::default(), office.store.clone(), Arc::new(renewed));
    assert!(genealogist.catch_up(32, office.store.generation()).await.unwrap());
    let lineage = genealogist.known().borrow().clone();
    let now = Some(GENESIS + 32);
    let mut committees = Committees::first(&office.spec);
    while committees.through() < FIRST + 3 {
        let epoch = committees.through() + 1;
        let step = steps::towards(&office.store, &office.spec, &lineage, &head, epoch).unwrap().unwrap();
        committees.take(&verify_step(&office.spec, &committees, now, &step).unwrap());
    }
    assert_eq!(committees.latest().members(), members(&[11, 12]));

    // A node without the heads of that time says that it can't, rather than what no device would believe.
    let lost = Lineage::first(&office.spec);
    assert_eq!(steps::towards(&office.store, &office.spec, &lost, &head, next).unwrap(), None);
}
