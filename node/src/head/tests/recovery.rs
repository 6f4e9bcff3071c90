//! A node that lost its directory gets back from peers what it kept for devices that sleep, and nothing else.

use super::*;
use crate::limits::{REQUEST_BURST, REQUESTS_PER_SECOND, STREAM_QUEUE};
use crate::network::Network;
use crate::rate::Rates;
use crate::serve::{Answers, RouteBook, run_resolver};
use std::num::NonZeroUsize;
use windlass_p2p::StreamProtocol;
use windlass_protocol::bundle::BundleError;
use windlass_protocol::committee::{CommitteeStep, ListError, StepError};
use windlass_protocol::head::HeadError;
use windlass_protocol::message::names;

const NEXT: u32 = FIRST + 1;
/// How far the chain has come.
const HEIGHT: u64 = 42;

/// An office in which the first epoch was followed by another committee, and time has passed since.
async fn changed(successors: &[u8], spoilt: Vec<Change>) -> (Office, Arc<ServedHead>) {
    let mut office = Office::start();
    office.told.0.lock().unwrap().insert(NEXT, vec![members(successors)]);
    office.advance(spoilt, &[1, 2]).await;
    office.advance(proposal(NEXT, successors), &[1, 2]).await;
    office.advance_to(9, &[1, 3]).await;
    let head = office.advance_to(HEIGHT, successors).await;
    (office, head)
}

impl Office {
    /// How it leads to the committee of an epoch.
    fn step_to(&self, head: &ServedHead, epoch: u32) -> Option<CommitteeStep> {
        steps::towards(&self.store, &self.spec, &self.known(), head, epoch).unwrap()
    }

    /// A node of the same chain with an empty directory, which has mirrored all of it.
    async fn lost(&self) -> Lost {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path(), &self.spec).unwrap());
        let mut follower = Follower::new(self.chain.clone(), store.clone(), self.spec.clone()).unwrap();
        follower.step().await.unwrap();
        let genealogist = Genealogist::new(self.told.clone(), store.clone(), self.spec.clone());
        assert!(genealogist.catch_up(HEIGHT, store.generation()).await.unwrap());
        Lost { store, spec: self.spec.clone(), follower, genealogist, _directory: directory }
    }
}

struct Lost {
    store: Arc<Store>,
    spec: Arc<VerifiedSpec>,
    follower: Follower<FakeChain>,
    genealogist: Genealogist<Told>,
    _directory: tempfile::TempDir,
}

impl Lost {
    fn recovery<S: StepSource>(&self, source: S) -> Recovery<S> {
        let (store, spec) = (self.store.clone(), self.spec.clone());
        Recovery::new(source, store, spec, self.genealogist.known(), self.follower.state())
    }

    /// How far it leads a device that knows the spec alone, under heads it kept.
    fn leads_to(&self, head: &ServedHead) -> u32 {
        let lineage = self.genealogist.known().borrow().clone();
        let mut committees = Committees::first(&self.spec);
        while committees.through() < NEXT {
            let epoch = committees.through() + 1;
            let step = steps::towards(&self.store, &self.spec, &lineage, head, epoch).unwrap();
            let Some(step) = step else { break };
            committees.take(&verify_step(&self.spec, &committees, Some(GENESIS + HEIGHT), &step).unwrap());
        }
        committees.through()
    }

    fn take(&self, step: &CommitteeStep, newest: u64) -> Result<u32, steps::Unkept> {
        let lineage = self.genealogist.known().borrow().clone();
        steps::take(&self.store, &self.spec, &lineage, NEXT, newest, step.clone())
    }
}

/// Peers that each have one answer, or none.
struct Peers(Vec<Option<CommitteeStep>>);

impl StepSource for Peers {
    fn peers(&self) -> usize {
        self.0.len()
    }

    async fn ask(&self, peer: usize, _: u32) -> Result<CommitteeStep, String> {
        self.0[peer].clone().ok_or_else(|| "nothing kept".to_owned())
    }
}

#[tokio::test]
async fn a_node_that_lost_its_directory_leads_sleepers_again_whoever_lies_to_it() {
    let (office, head) = changed(&[11, 12], Vec::new()).await;
    let honest = office.step_to(&head, NEXT).unwrap();
    let lost = office.lost().await;
    assert_eq!(lost.leads_to(&head), FIRST, "nothing is kept");

    let mut unsigned = honest.clone();
    unsigned.bundle.attestations.pop();
    let (other, other_head) = changed(&[13, 14], Vec::new()).await;
    let contradicting = other.step_to(&other_head, NEXT).unwrap();
    let lies = vec![None, Some(unsigned), Some(contradicting)];
    assert!(!lost.recovery(Peers(lies.clone())).round().await.unwrap());
    assert_eq!(lost.leads_to(&head), FIRST, "lies lead nowhere");

    let peers = lies.into_iter().chain([Some(honest)]).collect();
    assert!(lost.recovery(Peers(peers)).round().await.unwrap(), "nothing is missing any more");
    assert_eq!(lost.leads_to(&head), NEXT);
}

#[tokio::test]
async fn only_a_head_that_devices_believe_and_the_mirror_agrees_with_is_kept() {
    let (office, head) = changed(&[11, 12], Vec::new()).await;
    let honest = office.step_to(&head, NEXT).unwrap();
    let lost = office.lost().await;
    let refused = |step: &CommitteeStep| lost.take(step, HEIGHT).unwrap_err();

    let mut others_list = honest.clone();
    others_list.members = members(&[12, 13]);
    assert!(matches!(
        refused(&others_list),
        steps::Unkept::Step(StepError::List(ListError::OtherHash { .. }))
    ));
    let mut cut = honest.clone();
    cut.bundle.storage.pop();
    assert!(matches!(refused(&cut), steps::Unkept::Step(StepError::Bundle(BundleError::Slot { .. }))));
    // The newest head proves the slot as well, but those who were to be asked have left office.
    let mut retired = honest.clone();
    retired.bundle = head.prove(&office.store, &[Slot::Committee(NEXT)]).unwrap();
    let strangers = |error: &steps::Unkept| {
        let steps::Unkept::Step(StepError::Bundle(BundleError::Head(error))) = error else { return false };
        matches!(error, HeadError::NotCommittee { .. })
    };
    assert!(strangers(&refused(&retired)));
    let (other, other_head) = changed(&[13, 14], Vec::new()).await;
    let contradicting = other.step_to(&other_head, NEXT).unwrap();
    assert!(matches!(refused(&contradicting), steps::Unkept::Contradicts(NEXT)));

    // A block that isn't final for us yet; and another block than ours, which the same members signed.
    let number = windlass_protocol::header::Header::decode(&honest.bundle.header).unwrap().number;
    assert!(matches!(lost.take(&honest, number - 1), Err(steps::Unkept::Block(of)) if of == number));
    let forked = vec![(windlass_protocol::B256::repeat_byte(1), windlass_protocol::B256::repeat_byte(2))];
    let (fork, fork_head) = changed(&[11, 12], forked).await;
    let elsewhere = fork.step_to(&fork_head, NEXT).unwrap();
    let lineage = office.known();
    let taken = steps::take(&office.store, &office.spec, &lineage, NEXT, HEIGHT, elsewhere);
    assert!(matches!(taken, Err(steps::Unkept::Block(of)) if of == number));

    assert_eq!(lost.leads_to(&head), FIRST, "none of them was kept");
    assert_eq!(lost.take(&honest, HEIGHT).unwrap(), NEXT);
    assert_eq!(lost.leads_to(&head), NEXT);
}

#[tokio::test]
async fn what_is_missing_is_asked_of_peers_as_a_device_asks() {
    let (office, head) = changed(&[11, 12], Vec::new()).await;
    let lost = office.lost().await;
    let listen = ["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let (network, control) = Network::listen(&key(0x60), &listen, Vec::new()).await.unwrap();
    let peer = Peer { id: network.peer_id(), addresses: vec![network.addresses()[0].clone()] };
    let queue = NonZeroUsize::new(STREAM_QUEUE).unwrap();
    let incoming = control.accept(StreamProtocol::new(names::RESOLVE), queue).unwrap();
    let routes = Arc::new(RouteBook::open(office.store.clone(), GENESIS).unwrap());
    let (store, spec) = (office.store.clone(), office.spec.clone());
    let answers = Answers::new(store, spec, office.served.clone(), office.genealogist.known(), routes);
    let rates = Arc::new(Rates::new(REQUESTS_PER_SECOND, REQUEST_BURST));
    let stop = CancellationToken::new();
    tokio::spawn(network.run(stop.clone()));
    tokio::spawn(run_resolver(answers, office.challenges.clone(), rates, incoming, stop.clone()));
    let (asking, ours) = Network::listen(&key(0x61), &listen, Vec::new()).await.unwrap();
    tokio::spawn(asking.run(stop.clone()));

    let absent = Peer { id: peer_id(0x62), addresses: vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()] };
    let recovery = lost.recovery(AskPeers::new(ours, vec![absent, peer]));
    // A busy machine may let one request time out.
    let mut whole = false;
    for _ in 0..20 {
        whole = whole || recovery.round().await.unwrap();
    }
    assert!(whole, "nothing is missing any more");
    assert_eq!(lost.leads_to(&head), NEXT);
    stop.cancel();
}

fn peer_id(seed: u8) -> libp2p::PeerId {
    windlass_p2p::identity::peer_id_of(&key(seed).public_key())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_task_asks_once_the_mirror_has_a_head_and_ends_when_told() {
    let (office, head) = changed(&[11, 12], Vec::new()).await;
    let honest = office.step_to(&head, NEXT).unwrap();
    let lost = office.lost().await;
    // Says, as before a first sync, that there is no head yet.
    let directory = tempfile::tempdir().unwrap();
    let begun = Arc::new(Store::open(directory.path(), &office.spec).unwrap());
    let mut follower = Follower::new(office.chain.clone(), begun, office.spec.clone()).unwrap();
    let (store, spec) = (lost.store.clone(), lost.spec.clone());
    let (known, mirror) = (lost.genealogist.known(), follower.state());
    let (asked, mut asking) = mpsc::channel(1);
    let source = Watched { asked, honest };
    let stop = CancellationToken::new();
    let task = tokio::spawn(Recovery::new(source, store, spec, known, mirror).run(stop.clone()));
    follower.step().await.unwrap();
    assert_eq!(asking.recv().await, Some(NEXT));
    stop.cancel();
    task.await.unwrap().unwrap();
}

/// A peer that says what it is asked.
struct Watched {
    asked: mpsc::Sender<u32>,
    honest: CommitteeStep,
}

impl StepSource for Watched {
    fn peers(&self) -> usize {
        1
    }

    async fn ask(&self, _: usize, epoch: u32) -> Result<CommitteeStep, String> {
        self.asked.send(epoch).await.map_err(|error| error.to_string())?;
        Ok(self.honest.clone())
    }
}
