//! The three protocols over real connections, and the answers under a served head, judged as a client would.
#![allow(clippy::unwrap_used)]

use super::watcher::{Owed, Watcher};
use super::*;
use crate::dht::{Dht, Registered};
use crate::limits::{CONCURRENT_REQUESTS, REQUEST_BURST, REQUEST_DEADLINE, ROUTE_REQUESTS_PER_STREAM};
use crate::network::Network;
use crate::rate::Rates;
use crate::testing::device::{Device, push};
use crate::testing::{self, Served as Mirror};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use std::num::NonZeroUsize;
use tokio_util::sync::CancellationToken;
use windlass_p2p::PeerStream;
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::identity;
use windlass_protocol::bundle::{VerifiedBundle, open_bundle, verify_bundle};
use windlass_protocol::grant::candidates;
use windlass_protocol::head::{Committee, Trust};
use windlass_protocol::message::names;
use windlass_protocol::message::resolve::{Reason, Request, Response};
use windlass_protocol::message::route::{RouteRefusal, RouteRequest, RouteResponse};
use windlass_protocol::message::watch::{FromNode, MAX_STRANGER_SLOTS, TailNotice, Watch};
use windlass_protocol::question::{Question, Target};
use windlass_protocol::record::{
    DeviceRecord, DeviceStatus, FleetRecord, GrantRecord, NEVER, NameKind, NameRecord, RIGHT_OPEN,
};
use windlass_protocol::route::{Route, SignedRoute, verify_route};
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::{Address, B256, Bytes, DeviceId, Name, SecretKey, Service, wire};

const TARGET: u8 = 0x21;
const CALLER: u8 = 0x22;
const PORT: Service = Service::Stream(8_080);

fn id(seed: u8) -> DeviceId {
    testing::key(seed).address().as_first_key()
}

fn name() -> Name {
    "pump".parse().unwrap()
}

fn device(seed: u8, status: DeviceStatus) -> (B256, B256) {
    let record = DeviceRecord { key: testing::key(seed).address(), fleet: 1, valid_until: NEVER, status };
    (Slot::Device(id(seed)).storage_key(), record.encode())
}

/// A fleet with two active devices, a name for one, and a grant that is the last of the candidates.
fn population() -> Vec<(B256, B256)> {
    let fleet = FleetRecord { operator: Address::repeat_byte(9), policy_epoch: 1, nonce: 0, flags: 0 };
    let named = NameRecord { target: id(TARGET).0, expiry: NEVER, kind: Some(NameKind::Device), version: 1 };
    let grant = GrantRecord { expiry: NEVER, policy_epoch: 1, fleet: 1, rights: RIGHT_OPEN };
    let last = candidates(id(TARGET), 1, id(CALLER), 1, PORT).last().unwrap();
    vec![
        (Slot::Fleet(1).storage_key(), fleet.encode()),
        device(TARGET, DeviceStatus::Active),
        device(CALLER, DeviceStatus::Active),
        (Slot::Name(name().label_hash()).storage_key(), named.encode()),
        (Slot::Grant(last).storage_key(), grant.encode()),
    ]
}

fn answers(mirror: &Mirror) -> (Answers, Arc<RouteBook>) {
    let book = Arc::new(RouteBook::open(mirror.store.clone(), mirror.now).unwrap());
    let lineage = testing::lineage(&mirror.spec);
    let (store, spec, head) = (mirror.store.clone(), mirror.spec.clone(), mirror.head.clone());
    (Answers::new(store, spec, head, lineage, book.clone()), book)
}

/// Reads a response as a client does: every slot of every question proven, nothing left over.
fn verified(
    mirror: &Mirror,
    questions: &[Question],
    response: Response,
) -> (VerifiedBundle, Vec<SignedRoute>) {
    let Response::Proven { bundle, routes } = response else { panic!("refused: {response:?}") };
    let committee = Committee::first(&mirror.spec);
    let trust = Trust { spec: &mirror.spec, committee: &committee, now: Some(mirror.now), nonce: None };
    let mut open = open_bundle(&trust, &bundle).unwrap();
    let timestamp = open.head().header().timestamp;
    for question in questions {
        question.expand(timestamp, &mut |slot| open.value(slot)).unwrap();
    }
    (open.finish().unwrap(), routes)
}

fn open_question() -> Question {
    Question::Open { target: Target::Name(name()), caller: id(CALLER), service: PORT }
}

fn route(mirror: &Mirror, seed: u8, seq: u64) -> SignedRoute {
    let relay: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
    let relay = relay.with(Protocol::P2p(identity::peer_id_of(&testing::key(1).public_key())));
    let route = Route {
        chain_id: mirror.spec.chain_id,
        genesis_hash: mirror.spec.genesis_hash,
        device: id(seed),
        seq,
        issued_at: mirror.now,
        ttl: 600,
        relays: vec![relay.to_vec().into()],
        direct: Vec::new(),
    };
    SignedRoute::sign(&route, &testing::key(seed))
}

#[tokio::test]
async fn answers_verify_under_the_served_head() {
    let mut mirror = Mirror::start();
    let (answers, _) = answers(&mirror);
    let unready = answers.respond(&[open_question()], mirror.now);
    assert!(matches!(unready, Err(AnswerError::NotReady)));

    mirror.advance(population()).await;
    let unknown = "nobody".parse::<Name>().unwrap();
    let questions = [
        open_question(),
        Question::Target(Target::Name(unknown.clone())),
        Question::Target(Target::Device(id(0x77))),
        Question::Fleet(1),
    ];
    let response = answers.respond(&questions, mirror.now).unwrap();
    let (proven, _) = verified(&mirror, &questions, response);
    assert_eq!(proven.device(id(TARGET)).unwrap().unwrap().status, DeviceStatus::Active);
    assert_eq!(proven.device(id(0x77)).unwrap(), None);
    assert_eq!(proven.name(unknown.label_hash()).unwrap(), None);
    assert_eq!(proven.head().number(), 1);

    // The head alone.
    let response = answers.respond(&[], mirror.now).unwrap();
    let (proven, _) = verified(&mirror, &[], response);
    assert!(proven.values().is_empty());
}

#[tokio::test]
async fn an_older_served_head_is_proven_while_the_mirror_moves_on() {
    let mut mirror = Mirror::start();
    let (answers, _) = answers(&mirror);
    let old = mirror.advance(population()).await;
    let slots = [Slot::Device(id(CALLER))];
    for status in [DeviceStatus::Suspended, DeviceStatus::Active, DeviceStatus::Revoked] {
        mirror.advance(vec![device(CALLER, status)]).await;
    }
    let committee = Committee::first(&mirror.spec);
    let trust = Trust { spec: &mirror.spec, committee: &committee, now: Some(mirror.now), nonce: None };
    let status_under = |head: &ServedHead| {
        let bundle = answers.prove(head, &slots).unwrap();
        let proven = verify_bundle(&trust, &bundle, &slots).unwrap();
        proven.device(id(CALLER)).unwrap().unwrap().status
    };
    assert_eq!(status_under(&old), DeviceStatus::Active);
    assert_eq!(status_under(&answers.served().unwrap()), DeviceStatus::Revoked);

    // Long after, the old height is gone, and says so instead of proving something else.
    for value in 1..20 {
        mirror.advance(vec![(B256::with_last_byte(200), B256::with_last_byte(value))]).await;
    }
    assert!(matches!(answers.prove(&old, &slots), Err(AnswerError::View(_))));
}

#[tokio::test]
async fn more_than_a_bundle_is_refused_not_cut() {
    let mut mirror = Mirror::start();
    let (answers, _) = answers(&mirror);
    mirror.advance(population()).await;
    // Sixteen absent callers cost two slots each, and their target and its fleet two more.
    let questions: Vec<_> = (0x40..0x50)
        .map(|seed| Question::Open { target: Target::Device(id(TARGET)), caller: id(seed), service: PORT })
        .collect();
    let refused = answers.respond(&questions, mirror.now);
    assert!(matches!(refused, Err(AnswerError::TooLarge)), "{refused:?}");
    assert!(matches!(AnswerError::TooLarge.refusal(), Response::Refused { reason: Reason::TooLarge, .. }));
}

#[tokio::test]
async fn the_newest_valid_route_is_kept_and_sent_along() {
    let mut mirror = Mirror::start();
    let (answers, book) = answers(&mirror);
    mirror.advance(population()).await;
    let record = answers.device(id(TARGET)).unwrap().unwrap();
    let keep = |seq| {
        let signed = route(&mirror, TARGET, seq);
        let verified = verify_route(&mirror.spec, &signed, id(TARGET), &record, mirror.now).unwrap();
        book.keep(&verified, &signed, mirror.now).unwrap();
    };
    keep(5);
    keep(9);
    keep(7);
    assert_eq!(book.len(), 1);
    let response = answers.respond(&[open_question()], mirror.now).unwrap();
    let (_, routes) = verified(&mirror, &[open_question()], response);
    assert_eq!(routes, [route(&mirror, TARGET, 9)]);
    // Ended routes are neither sent nor kept.
    assert_eq!(book.newest(id(TARGET), mirror.now + 600).unwrap(), None);
    book.sweep(mirror.now + 600).unwrap();
    assert!(book.is_empty());
}

/// A node's three protocols on loopback, and a device connected to it.
struct Loopback {
    mirror: Mirror,
    node: PeerId,
    address: Multiaddr,
    device: Device,
    cancelled: CancellationToken,
}

impl Loopback {
    /// With a rate that hardly grants anything after the burst, however slow the machine.
    async fn start(device: &SecretKey) -> Self {
        Self::start_at_rate(device, 0.01, REQUEST_BURST).await
    }

    async fn start_at_rate(device: &SecretKey, per_second: f64, burst: f64) -> Self {
        let mirror = Mirror::start();
        let (answers, book) = answers(&mirror);
        let listen = ["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let (network, control) = Network::listen(&testing::key(0x60), &listen, Vec::new()).await.unwrap();
        let (node, address) = (network.peer_id(), network.addresses()[0].clone());
        let cancelled = CancellationToken::new();
        let rates = Arc::new(Rates::new(per_second, burst));
        let accept = |name| {
            control
                .accept(StreamProtocol::new(name), NonZeroUsize::new(CONCURRENT_REQUESTS).unwrap())
                .unwrap()
        };
        let stop = || cancelled.clone();
        let (challenges, _) = crate::head::Challenges::channel();
        let asked = accept(names::RESOLVE);
        tokio::spawn(run_resolver(answers.clone(), challenges, rates.clone(), asked, stop()));
        let watches = accept(names::WATCH);
        tokio::spawn(run_watch(answers.clone(), mirror.state(), rates.clone(), watches, stop()));
        let judge = RouteJudge::new(mirror.spec.clone(), answers);
        let lineage = testing::lineage(&mirror.spec);
        let registered = Registered::new(mirror.store.clone(), lineage, mirror.state());
        let (dht, task) =
            Dht::new(node, control.clone(), Vec::new(), registered, judge.clone(), book.clone());
        tokio::spawn(task.run(accept(names::NODES), stop()));
        tokio::spawn(run_routes(judge, book, dht, rates, accept(names::ROUTE), stop()));
        tokio::spawn(network.run(stop()));
        let device = Device::start(device);
        Self { mirror, node, address, device, cancelled }
    }

    async fn open(&self, name: &'static str) -> PeerStream {
        self.device.open(self.node, &self.address, name).await
    }

    async fn ask(&self, questions: Vec<Question>) -> Response {
        let mut stream = self.open(names::RESOLVE).await;
        write_frame(&mut stream, &wire::encode(&Request::of(questions))).await.unwrap();
        wire::decode(&read_frame(&mut stream).await.unwrap(), usize::MAX).unwrap()
    }

    /// Reads one push and proves what it says.
    async fn push(&self, stream: &mut PeerStream) -> (Vec<Slot>, VerifiedBundle) {
        push(stream, &self.mirror.spec, self.mirror.now + 50).await
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.cancelled.cancel();
    }
}

#[tokio::test]
async fn resolve_answers_strangers_and_refuses_nonsense_and_floods() {
    let mut loopback = Loopback::start(&testing::key(0x70)).await;
    let unready = loopback.ask(vec![open_question()]).await;
    assert!(matches!(unready, Response::Refused { reason: Reason::NotReady, .. }));
    loopback.mirror.advance(population()).await;
    let response = loopback.ask(vec![open_question()]).await;
    verified(&loopback.mirror, &[open_question()], response);

    let mut stream = loopback.open(names::RESOLVE).await;
    write_frame(&mut stream, &[0xff; 40]).await.unwrap();
    let response: Response = wire::decode(&read_frame(&mut stream).await.unwrap(), usize::MAX).unwrap();
    assert!(matches!(response, Response::Refused { reason: Reason::Malformed, .. }));

    let mut limited = 0;
    for _ in 0..2 * REQUEST_BURST as usize {
        let response = loopback.ask(Vec::new()).await;
        limited += usize::from(matches!(response, Response::Refused { reason: Reason::RateLimited, .. }));
    }
    assert!(limited > 0);
}

#[tokio::test]
async fn a_watched_slot_is_proven_at_once_and_on_every_change() {
    let mut loopback = Loopback::start(&testing::key(CALLER)).await;
    loopback.mirror.advance(population()).await;
    let mut stream = loopback.open(names::WATCH).await;
    // The head first, whatever is watched.
    let (slots, proven) = loopback.push(&mut stream).await;
    assert_eq!((slots.len(), proven.head().number()), (0, 1));
    let watched = vec![Slot::Device(id(TARGET)), Slot::Device(id(CALLER)), Slot::Fleet(7)];
    let watch = Watch { add: watched.clone(), drop: Vec::new() };
    write_frame(&mut stream, &wire::encode(&watch)).await.unwrap();
    let (slots, proven) = loopback.push(&mut stream).await;
    assert_eq!(slots.len(), 3);
    assert_eq!(proven.device(id(CALLER)).unwrap().unwrap().status, DeviceStatus::Active);
    assert_eq!(proven.fleet(7).unwrap(), None);

    loopback.mirror.advance(vec![device(CALLER, DeviceStatus::Revoked)]).await;
    let (slots, proven) = loopback.push(&mut stream).await;
    assert_eq!(slots, [Slot::Device(id(CALLER))]);
    assert_eq!(proven.device(id(CALLER)).unwrap().unwrap().status, DeviceStatus::Revoked);

    // A fresher vouching for the same head, then a block that changes nothing that is watched.
    let fresher = loopback.mirror.now + 5;
    loopback.mirror.attest(fresher).await;
    let (slots, proven) = loopback.push(&mut stream).await;
    assert_eq!((slots.len(), proven.head().attested_at()), (0, fresher));
    loopback.mirror.advance(vec![device(0x55, DeviceStatus::Active)]).await;
    let (slots, proven) = loopback.push(&mut stream).await;
    assert_eq!((slots.len(), proven.head().number()), (0, 3));

    // What is added with the drop shows that the drop arrived.
    let drop = Watch { add: vec![Slot::Fleet(8)], drop: vec![Slot::Device(id(TARGET))] };
    write_frame(&mut stream, &wire::encode(&drop)).await.unwrap();
    assert_eq!(loopback.push(&mut stream).await.0, [Slot::Fleet(8)]);
    loopback
        .mirror
        .advance(vec![device(TARGET, DeviceStatus::Suspended), device(CALLER, DeviceStatus::Active)])
        .await;
    let (slots, _) = loopback.push(&mut stream).await;
    assert_eq!(slots, [Slot::Device(id(CALLER))]);
}

#[tokio::test]
async fn a_slow_watcher_gets_the_newest_head_and_the_union_of_changes() {
    let mut mirror = Mirror::start();
    let (answers, _) = answers(&mirror);
    let head = mirror.advance(population()).await;
    let mut watcher = Watcher::default();
    let add = vec![Slot::Device(id(TARGET)), Slot::Device(id(CALLER)), Slot::Fleet(1)];
    watcher.change(Watch { add, drop: Vec::new() }, 64).unwrap();
    assert_eq!(watcher.owed(&head), Owed::Proofs);
    assert_eq!(watcher.proofs(&answers, &head).unwrap().len(), 1);
    mirror.advance(vec![device(TARGET, DeviceStatus::Suspended)]).await;
    mirror.advance(vec![device(TARGET, DeviceStatus::Active)]).await;
    let head = mirror.advance(vec![device(CALLER, DeviceStatus::Suspended)]).await;
    assert_eq!(watcher.owed(&head), Owed::Proofs);
    let pushes = watcher.proofs(&answers, &head).unwrap();
    assert_eq!(pushes.len(), 1);
    assert_eq!(pushes[0].slots.len(), 2, "both devices changed since, the fleet didn't");
    assert_eq!(watcher.owed(&head), Owed::Nothing);
    let head = mirror.advance(Vec::new()).await;
    assert_eq!(watcher.owed(&head), Owed::Head, "nothing that it watches changed");
    assert_eq!(watcher.owed(&head), Owed::Nothing);
}

#[tokio::test]
async fn many_watched_slots_come_in_chunks_and_too_many_close_the_stream() {
    let mut loopback = Loopback::start(&testing::key(0x71)).await;
    loopback.mirror.advance(population()).await;
    let mut stream = loopback.open(names::WATCH).await;
    loopback.push(&mut stream).await;
    let slots: Vec<Slot> = (1..=MAX_STRANGER_SLOTS as u64).map(Slot::Fleet).collect();
    write_frame(&mut stream, &wire::encode(&Watch { add: slots, drop: Vec::new() })).await.unwrap();
    let mut proven = 0;
    while proven < MAX_STRANGER_SLOTS {
        let (slots, _) = loopback.push(&mut stream).await;
        assert!(slots.len() <= 24);
        proven += slots.len();
    }
    let one_more = Watch { add: vec![Slot::Fleet(9_999)], drop: Vec::new() };
    write_frame(&mut stream, &wire::encode(&one_more)).await.unwrap();
    assert!(read_frame(&mut stream).await.is_err());

    // An active device may watch more.
    let mut loopback = Loopback::start(&testing::key(CALLER)).await;
    loopback.mirror.advance(population()).await;
    let mut stream = loopback.open(names::WATCH).await;
    loopback.push(&mut stream).await;
    let slots: Vec<Slot> = (1..=100).map(Slot::Fleet).collect();
    write_frame(&mut stream, &wire::encode(&Watch { add: slots, drop: Vec::new() })).await.unwrap();
    let (slots, _) = loopback.push(&mut stream).await;
    assert_eq!(slots.len(), 24);
}

#[tokio::test]
async fn routes_are_taken_from_active_devices_alone() {
    let mut loopback = Loopback::start(&testing::key(TARGET)).await;
    let mut changes = population();
    changes.push(device(0x31, DeviceStatus::Suspended));
    loopback.mirror.advance(changes).await;
    let mut stream = loopback.open(names::ROUTE).await;
    let mut ask = async |request: RouteRequest| -> RouteResponse {
        write_frame(&mut stream, &wire::encode(&request)).await.unwrap();
        wire::decode(&read_frame(&mut stream).await.unwrap(), usize::MAX).unwrap()
    };
    let mirror = &loopback.mirror;
    assert_eq!(ask(RouteRequest::Fetch(id(TARGET))).await, RouteResponse::NotFound);
    let good = route(mirror, TARGET, 1);
    assert_eq!(ask(RouteRequest::Publish(good.clone())).await, RouteResponse::Kept);
    assert_eq!(ask(RouteRequest::Fetch(id(TARGET))).await, RouteResponse::Found(good.clone()));
    let refused = RouteResponse::Refused(RouteRefusal::NotActive);
    assert_eq!(ask(RouteRequest::Publish(route(mirror, 0x31, 1))).await, refused, "suspended");
    assert_eq!(ask(RouteRequest::Publish(route(mirror, 0x32, 1))).await, refused, "unenrolled");
    let mut stolen = good.claimed().unwrap();
    stolen.seq = 99;
    let stolen = SignedRoute::sign(&stolen, &testing::key(CALLER));
    assert_eq!(ask(RouteRequest::Publish(stolen)).await, refused, "signed by another device");
    let mut ended = good.claimed().unwrap();
    ended.issued_at -= 10_000;
    let ended = SignedRoute::sign(&ended, &testing::key(TARGET));
    let invalid = RouteResponse::Refused(RouteRefusal::Invalid);
    assert_eq!(ask(RouteRequest::Publish(ended)).await, invalid, "ended");
    assert_eq!(ask(RouteRequest::Fetch(id(TARGET))).await, RouteResponse::Found(good));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_not_final_is_told_of_once_without_proof() {
    let mut loopback = Loopback::start(&testing::key(0x71)).await;
    let slot = Slot::Device(DeviceId(Address::with_last_byte(1)));
    loopback.mirror.advance(vec![(slot.storage_key(), B256::with_last_byte(1))]).await;
    let mut stream = loopback.open(names::WATCH).await;
    let watch = Watch { add: vec![slot], drop: Vec::new() };
    write_frame(&mut stream, &wire::encode(&watch)).await.unwrap();
    let next = async |stream: &mut PeerStream| {
        let frame = read_frame(stream).await.unwrap();
        wire::decode::<FromNode>(&frame, usize::MAX).unwrap()
    };
    loop {
        match next(&mut stream).await {
            FromNode::Push(push) if push.slots == [slot] => break,
            FromNode::Push(_) => {}
            FromNode::Notice(notice) => panic!("nothing is pending: {notice:?}"),
        }
    }
    // Another slot's change is nobody's business here; of two writes the last counts.
    let other = Slot::FleetCount.storage_key();
    loopback.mirror.announce(vec![(other, B256::with_last_byte(5))]).await;
    loopback
        .mirror
        .announce(vec![
            (slot.storage_key(), B256::with_last_byte(2)),
            (slot.storage_key(), B256::with_last_byte(3)),
        ])
        .await;
    let (number, chain) = (loopback.mirror.chain.height(), loopback.mirror.chain.clone());
    let notice = next(&mut stream).await;
    let expected =
        TailNotice { number, hash: chain.hash(number), slots: vec![(slot, B256::with_last_byte(3))] };
    assert_eq!(notice, FromNode::Notice(expected));
    // The block is taken back and another says otherwise.
    chain.reorg(1);
    loopback.mirror.announce(vec![(slot.storage_key(), B256::with_last_byte(4))]).await;
    let FromNode::Notice(notice) = next(&mut stream).await else { panic!("a push") };
    assert_eq!((notice.hash, notice.slots), (chain.hash(number), vec![(slot, B256::with_last_byte(4))]));
    // Final, it is proven, and not told of again.
    loopback.mirror.advance(Vec::new()).await;
    loopback.mirror.advance(Vec::new()).await;
    loop {
        match next(&mut stream).await {
            FromNode::Push(push) if push.slots == [slot] => break,
            FromNode::Push(_) => {}
            FromNode::Notice(notice) => panic!("told twice: {notice:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hashes_of_one_member_at_one_number_are_kept_as_evidence() {
    let mut mirror = Mirror::start();
    mirror.advance(Vec::new()).await;
    let member = mirror.members[2].address().0;
    let (honest, forged) = (B256::repeat_byte(1), B256::repeat_byte(2));
    mirror.hear(2, 2, honest).await;
    mirror.hear(2, 2, honest).await;
    mirror.attest(mirror.now + 1).await;
    assert_eq!(mirror.store.faults().unwrap(), []);
    mirror.hear(2, 2, forged).await;
    // Only the first fault is kept: it is enough, and a liar can't fill the disk.
    mirror.hear(2, 3, honest).await;
    mirror.hear(2, 3, forged).await;
    mirror.attest(mirror.now + 2).await;
    let faults = mirror.store.faults().unwrap();
    let [(accused, fault)] = faults.as_slice() else { panic!("{faults:?}") };
    assert_eq!((*accused, fault.number, fault.one.0, fault.other.0), (member, 2, honest, forged));
    for (hash, attestation) in [fault.one, fault.other] {
        assert_eq!(attestation.signer(&mirror.spec, 2, hash), Some(member));
    }
    mirror.store.clear_mirror().unwrap();
    assert_eq!(mirror.store.faults().unwrap().len(), 1, "a rebuild keeps the evidence");
}

#[tokio::test]
async fn silent_streams_of_one_peer_keep_nobody_from_asking_or_publishing() {
    let mut loopback = Loopback::start(&testing::key(0x71)).await;
    loopback.mirror.advance(population()).await;
    let mut silent = Vec::new();
    for name in [names::RESOLVE, names::ROUTE] {
        for _ in 0..CONCURRENT_REQUESTS / 2 - 8 {
            silent.push(loopback.open(name).await);
        }
    }
    // The same device may open more connections than one, and so may others.
    let flooders: Vec<Device> = (0..3).map(|n| Device::start(&testing::key(0x72 + n))).collect();
    for flooder in &flooders {
        for name in [names::RESOLVE, names::ROUTE] {
            for _ in 0..CONCURRENT_REQUESTS / 2 - 8 {
                silent.push(flooder.open(loopback.node, &loopback.address, name).await);
            }
        }
    }
    let honest = Device::start(&testing::key(TARGET));
    let asked = async {
        let mut stream = honest.open(loopback.node, &loopback.address, names::RESOLVE).await;
        write_frame(&mut stream, &wire::encode(&Request::of(Vec::new()))).await.unwrap();
        read_frame(&mut stream).await.unwrap();
        let mut stream = honest.open(loopback.node, &loopback.address, names::ROUTE).await;
        let publish = RouteRequest::Publish(route(&loopback.mirror, TARGET, 1));
        write_frame(&mut stream, &wire::encode(&publish)).await.unwrap();
        let kept =
            wire::decode::<RouteResponse>(&read_frame(&mut stream).await.unwrap(), usize::MAX).unwrap();
        assert_eq!(kept, RouteResponse::Kept);
    };
    // Well within the time that a silent stream may last.
    tokio::time::timeout(REQUEST_DEADLINE / 2, asked).await.expect("answered at once");
}

#[tokio::test]
async fn a_stream_of_routes_ends_after_its_share_of_requests_and_when_it_is_too_many() {
    let answered = async |burst: f64| {
        let mut loopback = Loopback::start_at_rate(&testing::key(TARGET), 0.01, burst).await;
        loopback.mirror.advance(population()).await;
        let mut stream = loopback.open(names::ROUTE).await;
        let mut answered = 0;
        while write_frame(&mut stream, &wire::encode(&RouteRequest::Fetch(id(TARGET)))).await.is_ok()
            && read_frame(&mut stream).await.is_ok()
        {
            answered += 1;
        }
        answered
    };
    assert_eq!(answered(1_000.0).await, ROUTE_REQUESTS_PER_STREAM);
    // The last answer says why.
    assert_eq!(answered(5.0).await, 6);
}

#[tokio::test]
async fn the_newest_spec_is_passed_on_before_there_is_a_head_and_only_to_who_has_an_older_one() {
    let mirror = Mirror::start();
    let (answers, _) = answers(&mirror);
    let asked = |answers: &Answers, version| answers.respond(&[Question::Spec(version)], mirror.now).unwrap();
    let bytes = |spec: &VerifiedSpec| Response::Spec(spec.to_bytes().into());
    assert_eq!(asked(&answers, 0), bytes(&mirror.spec));
    assert_eq!(asked(&answers, mirror.spec.version), Response::Spec(Bytes::new()));

    let (renewed, _) = testing::spec_with(3, |spec| spec.version = 7);
    let (given, newest) = tokio::sync::watch::channel(mirror.spec.clone());
    let answers = answers.with_newest(newest);
    assert_eq!(asked(&answers, 1), Response::Spec(Bytes::new()));
    given.send_replace(Arc::new(renewed.clone()));
    assert_eq!(asked(&answers, 1), bytes(&renewed));
    assert_eq!(asked(&answers, 7), Response::Spec(Bytes::new()));
    let among_others = [Question::Spec(1), Question::Fleet(1)];
    assert!(matches!(answers.respond(&among_others, mirror.now), Err(AnswerError::NotAlone)));
}
