//! Several nodes on loopback that share a mirror: what one of them is told, another finds.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::clock::unix_seconds;
use crate::limits::{STREAM_QUEUE, WALK_BURST};
use crate::network::Network;
use crate::serve::{Answers, run_routes};
use crate::store::Store;
use crate::testing::device::Device;
use crate::testing::{self, Served as Mirror};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, StreamProtocol};
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::{Incoming, PeerStream, identity};
use windlass_protocol::message::names;
use windlass_protocol::message::nodes::{NodeAt, NodesAnswer, NodesRequest, place_of};
use windlass_protocol::message::route::{RouteRefusal, RouteRequest, RouteResponse};
use windlass_protocol::record::{DeviceRecord, DeviceStatus, NEVER, NodeRecord};
use windlass_protocol::route::Route;
use windlass_protocol::slot::Slot;
use windlass_protocol::{B256, wire};

const DEVICE: u8 = 0x21;
const STRANGER: u8 = 0x70;
/// Nodes beyond the committee of three.
const REGISTERED: u8 = 0x61;
const UNREGISTERED: u8 = 0x68;

fn id(seed: u8) -> DeviceId {
    testing::key(seed).address().as_first_key()
}

fn peer(seed: u8) -> PeerId {
    identity::peer_id_of(&testing::key(seed).public_key())
}

fn enrolled(seed: u8) -> (B256, B256) {
    let key = testing::key(seed).address();
    let record = DeviceRecord { key, fleet: 1, valid_until: NEVER, status: DeviceStatus::Active };
    (Slot::Device(id(seed)).storage_key(), record.encode())
}

fn staked(seed: u8, flags: u16) -> (B256, B256) {
    let record = NodeRecord { stake: 1, since: 1, unbond_at: 0, flags };
    (Slot::Node(testing::key(seed).address().0).storage_key(), record.encode())
}

fn route(mirror: &Mirror, seed: u8, seq: u64) -> SignedRoute {
    let relay: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
    let route = Route {
        chain_id: mirror.spec.chain_id,
        genesis_hash: mirror.spec.genesis_hash,
        device: id(seed),
        seq,
        issued_at: unix_seconds(),
        ttl: 600,
        relays: vec![relay.with(Protocol::P2p(peer(1))).to_vec().into()],
        direct: Vec::new(),
    };
    SignedRoute::sign(&route, &testing::key(seed))
}

/// A node's routes and its part in the DHT.
struct TestNode {
    peer: PeerId,
    address: Multiaddr,
    dht: Dht,
    book: Arc<RouteBook>,
    cancelled: CancellationToken,
    _directory: tempfile::TempDir,
}

impl TestNode {
    async fn start(mirror: &Mirror, seed: u8, configured: &[&Self]) -> Self {
        let configured = configured.iter().map(|node| node.as_peer()).collect();
        Self::start_knowing(mirror, seed, configured).await
    }

    async fn start_knowing(mirror: &Mirror, seed: u8, configured: Vec<Peer>) -> Self {
        let (network, control, address) = listen(seed).await;
        let directory = tempfile::tempdir().unwrap();
        let routes = Arc::new(Store::open(directory.path(), &mirror.spec).unwrap());
        let book = Arc::new(RouteBook::open(routes, mirror.now).unwrap());
        let lineage = testing::lineage(&mirror.spec);
        let (store, spec) = (mirror.store.clone(), mirror.spec.clone());
        let registered = Registered::new(store.clone(), lineage.clone(), mirror.state());
        let answers = Answers::new(store, spec.clone(), mirror.head.clone(), lineage, book.clone());
        let judge = RouteJudge::new(spec, answers);
        let (nodes, asked) = (accept(&control, names::NODES), accept(&control, names::ROUTE));
        let (dht, task) = Dht::new(peer(seed), control, configured, registered, judge.clone(), book.clone());
        let cancelled = CancellationToken::new();
        let rates = Arc::new(Rates::new(1_000.0, 1_000.0));
        tokio::spawn(task.run(nodes, cancelled.clone()));
        tokio::spawn(run_routes(judge, book.clone(), dht.clone(), rates, asked, cancelled.clone()));
        tokio::spawn(network.run(cancelled.clone()));
        Self { peer: peer(seed), address, dht, book, cancelled, _directory: directory }
    }

    fn as_peer(&self) -> Peer {
        Peer { id: self.peer, addresses: vec![self.address.clone()] }
    }

    async fn ask(&self, device: &Device, request: RouteRequest) -> RouteResponse {
        let mut stream = device.open(self.peer, &self.address, names::ROUTE).await;
        write_frame(&mut stream, &wire::encode(&request)).await.unwrap();
        wire::decode(&read_frame(&mut stream).await.unwrap(), usize::MAX).unwrap()
    }

    /// Asks until the answer is the one that is waited for.
    async fn ask_until(&self, device: &Device, fetched: DeviceId, expected: &RouteResponse) {
        eventually(async || self.ask(device, RouteRequest::Fetch(fetched)).await == *expected).await;
    }

    async fn knows(&self, peer: PeerId) {
        eventually(async || self.dht.is_node(&peer)).await;
    }

    fn holds(&self, seed: u8) -> Option<SignedRoute> {
        self.book.newest(id(seed), unix_seconds()).unwrap()
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.cancelled.cancel();
    }
}

/// Asks again and again, for as long as a busy machine may need.
async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(120), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.expect("it comes to that");
}

async fn listen(seed: u8) -> (Network, Control, Multiaddr) {
    let listen = ["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let (network, control) = Network::listen(&testing::key(seed), &listen, Vec::new()).await.unwrap();
    let mut address = network.addresses()[0].clone();
    address.pop();
    (network, control, address)
}

fn accept(control: &Control, name: &'static str) -> Incoming {
    control.accept(StreamProtocol::new(name), NonZeroUsize::new(STREAM_QUEUE).unwrap()).unwrap()
}

/// A mirror in which the device is active and the fourth node registered, besides the committee of three.
async fn mirror() -> Mirror {
    let mut mirror = Mirror::start();
    mirror.advance(vec![enrolled(DEVICE), enrolled(0x22), staked(REGISTERED, 0)]).await;
    mirror
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_published_at_one_node_is_found_at_a_node_that_came_later() {
    let mirror = mirror().await;
    let (device, caller) = (Device::start(&testing::key(DEVICE)), Device::start(&testing::key(STRANGER)));
    let first = TestNode::start(&mirror, 1, &[]).await;
    let second = TestNode::start(&mirror, 2, &[&first]).await;
    first.knows(second.peer).await;
    // It is put with the other one as well, which puts it nowhere further.
    let mut seq = 0;
    publish_until_held(&mirror, &first, &device, &mut seq, &[&second]).await;
    assert_eq!(second.dht.counts().placed, 0);

    // One that is told of the second node alone asks, and learns of the first.
    let third = TestNode::start(&mirror, 3, &[&second]).await;
    let found = || third.ask(&caller, RouteRequest::Fetch(id(DEVICE)));
    eventually(async || matches!(found().await, RouteResponse::Found(route) if seq_of(&route) > 0)).await;
    assert_eq!(third.holds(DEVICE), None, "what was found elsewhere isn't kept: it would grow old");
    third.knows(first.peer).await;
    first.knows(third.peer).await;

    // The newest wins, wherever it was published.
    publish_until_held(&mirror, &third, &device, &mut seq, &[&first, &second]).await;
    // Nobody is asked about whom the registry doesn't know.
    let walks = first.dht.counts().walks;
    assert_eq!(first.ask(&caller, RouteRequest::Fetch(id(STRANGER))).await, RouteResponse::NotFound);
    assert_eq!(first.dht.counts().walks, walks);
    assert_eq!(first.ask(&caller, RouteRequest::Fetch(id(0x22))).await, RouteResponse::NotFound);
    assert_eq!(first.dht.counts().walks, walks + 1, "a device that may be somewhere");
}

/// Publishes ever newer routes at one node, as a device does, until others hold one of them: on a busy machine a put may
/// come to nothing.
async fn publish_until_held(
    mirror: &Mirror,
    node: &TestNode,
    device: &Device,
    seq: &mut u64,
    holders: &[&TestNode],
) {
    let begun = *seq;
    let holds = |holder: &&TestNode| holder.holds(DEVICE).is_some_and(|route| seq_of(&route) > begun);
    eventually(async || {
        if *seq == begun || !holders.iter().all(holds) {
            *seq += 1;
            let publish = RouteRequest::Publish(route(mirror, DEVICE, *seq));
            assert_eq!(node.ask(device, publish).await, RouteResponse::Kept);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        holders.iter().all(holds)
    })
    .await;
}

fn seq_of(route: &SignedRoute) -> u64 {
    route.claimed().unwrap().seq
}

#[tokio::test(flavor = "multi_thread")]
async fn only_registered_nodes_are_asked_answered_or_named_and_a_slashed_one_no_more() {
    let mut mirror = mirror().await;
    let first = TestNode::start(&mirror, 1, &[]).await;
    let stranger = TestNode::start(&mirror, UNREGISTERED, &[&first]).await;
    let fourth = TestNode::start(&mirror, REGISTERED, &[&first, &stranger]).await;
    first.knows(fourth.peer).await;
    fourth.knows(first.peer).await;
    stranger.knows(first.peer).await;
    // The stranger is configured at one node and greets another; to neither is it a node.
    eventually(async || stranger.dht.counts().nodes == 1).await;
    assert!(!first.dht.is_node(&stranger.peer) && !fourth.dht.is_node(&stranger.peer));
    let probe = Device::start(&testing::key(UNREGISTERED + 1));
    let request = wire::encode(&NodesRequest { device: id(DEVICE), addresses: Vec::new() });
    let mut stream = probe.open(first.peer, &first.address, names::NODES).await;
    // It may be reset before it is written.
    let _ = write_frame(&mut stream, &request).await;
    assert!(read_frame(&mut stream).await.is_err(), "a stranger is told nothing");

    // A block that slashes it, or registers the other, is all that it takes.
    mirror.advance(vec![staked(REGISTERED, 1), staked(UNREGISTERED, 0)]).await;
    eventually(async || !first.dht.is_node(&fourth.peer)).await;
    fourth.knows(stranger.peer).await;
    let slashed = Device::start(&testing::key(REGISTERED));
    let mut stream = slashed.open(first.peer, &first.address, names::NODES).await;
    let _ = write_frame(&mut stream, &request).await;
    assert!(read_frame(&mut stream).await.is_err(), "who was slashed is told nothing");
}

/// A registered node that answers as the test wants, and notes what is brought to it.
struct Liar {
    as_peer: Peer,
    answer: Arc<Mutex<NodesAnswer>>,
    cancelled: CancellationToken,
}

impl Liar {
    async fn start(seed: u8) -> Self {
        let (network, control, address) = listen(seed).await;
        let cancelled = CancellationToken::new();
        let answer = Arc::new(Mutex::new(NodesAnswer::default()));
        let told = answer.clone();
        let mut asked = accept(&control, names::NODES);
        tokio::spawn(network.run(cancelled.clone()));
        tokio::spawn(async move {
            let _control = control;
            while let Some(stream) = asked.next().await {
                let answer = wire::encode(&*told.lock().unwrap());
                tokio::spawn(Self::lie(stream, answer));
            }
        });
        Self { as_peer: Peer { id: peer(seed), addresses: vec![address] }, answer, cancelled }
    }

    async fn lie(mut stream: PeerStream, answer: Vec<u8>) {
        if read_frame(&mut stream).await.is_ok() && write_frame(&mut stream, &answer).await.is_ok() {
            let _ = futures::AsyncWriteExt::close(&mut stream).await;
        }
    }

    fn says(&self, route: &SignedRoute) {
        self.answer.lock().unwrap().route = Some(route.clone());
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.cancelled.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_node_has_no_forged_stale_or_foreign_route_believed_or_kept() {
    let mirror = mirror().await;
    let liar = Liar::start(REGISTERED).await;
    let good = route(&mirror, DEVICE, 7);
    let claimed = good.claimed().unwrap();
    let ended = Route { issued_at: claimed.issued_at - 10_000, seq: 99, ..claimed.clone() };
    let foreign_chain = Route { chain_id: 1, seq: 99, ..claimed.clone() };
    let lies = [
        SignedRoute::sign(&Route { seq: 99, ..claimed }, &testing::key(REGISTERED)),
        SignedRoute::sign(&ended, &testing::key(DEVICE)),
        SignedRoute::sign(&foreign_chain, &testing::key(DEVICE)),
        route(&mirror, 0x22, 99),
    ];
    let caller = Device::start(&testing::key(STRANGER));
    let brought = Device::start(&testing::key(REGISTERED));
    for (number, lie) in lies.into_iter().enumerate() {
        liar.says(&lie);
        // Alone with the liar there is nothing to be found.
        let asking = TestNode::start_knowing(&mirror, 1, vec![liar.as_peer.clone()]).await;
        asking.knows(liar.as_peer.id).await;
        let refused = async || {
            let answer = asking.ask(&caller, RouteRequest::Fetch(id(DEVICE))).await;
            assert_ne!(answer, RouteResponse::Found(lie.clone()));
            assert!(!matches!(answer, RouteResponse::Found(_)), "{answer:?}");
            asking.dht.counts().refused > 0
        };
        eventually(refused).await;
        // Nor is it kept when the liar brings it.
        if number < 3 {
            let answer = asking.ask(&brought, RouteRequest::Publish(lie.clone())).await;
            assert!(matches!(answer, RouteResponse::Refused(_)), "{answer:?}");
        }
        assert_eq!(asking.holds(DEVICE), None);
        // Beside an honest node the honest one's is found.
        let honest = TestNode::start(&mirror, 2, &[]).await;
        let device = Device::start(&testing::key(DEVICE));
        assert_eq!(honest.ask(&device, RouteRequest::Publish(good.clone())).await, RouteResponse::Kept);
        let both = vec![liar.as_peer.clone(), honest.as_peer()];
        let asking = TestNode::start_knowing(&mirror, 3, both).await;
        asking.ask_until(&caller, id(DEVICE), &RouteResponse::Found(good.clone())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_nobody_registered_are_not_dialled_however_many_a_liar_names() {
    let mirror = mirror().await;
    let (liar, bystander) = (Liar::start(REGISTERED).await, TestNode::start(&mirror, 2, &[]).await);
    // Who is named is either unregistered, at an address where somebody counts the knocks, or a registered node.
    let trap = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let trap_at: Multiaddr =
        format!("/ip4/127.0.0.1/tcp/{}", trap.local_addr().unwrap().port()).parse().unwrap();
    let named = |seed: u8, at: &Multiaddr| NodeAt {
        key: testing::key(seed).public_key(),
        addresses: vec![at.to_vec().into()],
    };
    let nodes =
        (0..6).map(|n| named(UNREGISTERED + n, &trap_at)).chain([named(2, &bystander.address)]).collect();
    *liar.answer.lock().unwrap() = NodesAnswer { route: None, nodes };
    let asking = TestNode::start_knowing(&mirror, 1, vec![liar.as_peer.clone()]).await;
    asking.knows(bystander.peer).await;
    let caller = Device::start(&testing::key(STRANGER));
    assert_eq!(asking.ask(&caller, RouteRequest::Fetch(id(DEVICE))).await, RouteResponse::NotFound);
    assert!((0..6).all(|n| !asking.dht.is_node(&peer(UNREGISTERED + n))));
    let knocked = tokio::select! {
        biased;
        _ = trap.accept() => true,
        () = std::future::ready(()) => false,
    };
    assert!(!knocked, "an unregistered node was dialled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_asks_for_ever_new_devices_is_told_to_wait() {
    let mut mirror = mirror().await;
    let devices: Vec<u8> = (0x90..0xa0).collect();
    mirror.advance(devices.iter().map(|seed| enrolled(*seed)).collect()).await;
    let other = TestNode::start(&mirror, 2, &[]).await;
    let node = TestNode::start(&mirror, 1, &[&other]).await;
    node.knows(other.peer).await;
    let caller = Device::start(&testing::key(STRANGER));
    let fetches = devices.iter().map(|seed| node.ask(&caller, RouteRequest::Fetch(id(*seed))));
    let began = Instant::now();
    let answers = futures::future::join_all(fetches).await;
    let walked = answers.iter().filter(|answer| **answer == RouteResponse::NotFound).count();
    let busy = RouteResponse::Refused(RouteRefusal::Busy);
    assert!(answers.iter().all(|answer| *answer == RouteResponse::NotFound || *answer == busy));
    // A slow machine grants one more each second.
    let granted = WALK_BURST as u64 + began.elapsed().as_secs() + 1;
    assert!(walked as u64 <= granted && walked > 0, "{walked} of {} in {:?}", devices.len(), began.elapsed());
    assert!(node.dht.counts().walks <= granted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_is_forgotten_and_greets_when_it_is_back() {
    let mirror = mirror().await;
    let first = TestNode::start(&mirror, 1, &[]).await;
    let second = TestNode::start(&mirror, 2, &[&first]).await;
    first.knows(second.peer).await;
    let gone = second.peer;
    drop(second);
    // Routes that it was to hold, or a greeting, are what shows that it is gone.
    let device = Device::start(&testing::key(DEVICE));
    let mut seq = 1;
    eventually(async || {
        seq += 1;
        let publish = RouteRequest::Publish(route(&mirror, DEVICE, seq));
        assert_eq!(first.ask(&device, publish).await, RouteResponse::Kept);
        !first.dht.is_node(&gone)
    })
    .await;
    let second = TestNode::start(&mirror, 2, &[&first]).await;
    first.knows(second.peer).await;
}

#[test]
fn a_place_is_the_hash_of_an_address() {
    let expected = "0x5380c7b7ae81a58eb98d9c78de4a1fd7fd9535fc953ed2be602daaa41767312a";
    assert_eq!(place_of(windlass_protocol::Address::ZERO).to_string(), expected);
}
