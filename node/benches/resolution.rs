//! Figures of proven resolution in a node, for registries of 10^3 to 10^6 slots: made-up devices in a real mirror, the
//! real answers, a real verifier, and a device on loopback. It prints a table and judges nothing.
//!
//! `make bench-resolution`, or with sizes of one's own `cargo bench -p windlass-node --bench resolution -- 1000`.
#![allow(missing_docs, clippy::unwrap_used)]

use alloy::consensus::Header as ConsensusHeader;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_node::follower::Recent;
use windlass_node::head::{Challenges, Lineage, ServedHead};
use windlass_node::network::Network;
use windlass_node::rate::Rates;
use windlass_node::serve::{Answers, RouteBook, run_resolver};
use windlass_node::store::{Durability, FinalBlock, Position, Store, View};
use windlass_p2p::StreamProtocol;
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::swarm::{DeviceConfig, device_swarm};
use windlass_protocol::bundle::{Bundle, open_bundle, verify_account, verify_bundle};
use windlass_protocol::head::{Committee, Head, Trust};
use windlass_protocol::header::Header;
use windlass_protocol::message::names;
use windlass_protocol::message::resolve::{Request, Response};
use windlass_protocol::question::{Question, Target};
use windlass_protocol::record::{DeviceRecord, DeviceStatus, NEVER};
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::{
    ChainSpec, ContractPin, Contracts, FinalityRule, Fraction, SignedSpec, VerifiedSpec, verify_spec,
};
use windlass_protocol::trie::{self, ACCOUNT_TRIE, Account, MemoryStore, ProofPool};
use windlass_protocol::{Address, B256, Bytes, DeviceId, KeyAddress, SecretKey, keccak256, wire};

const REGISTRY: Address = Address::repeat_byte(0x11);
const CODE_HASH: B256 = B256::repeat_byte(0xcc);
/// Slots of one batch while the mirror is filled.
const BATCH: u64 = 50_000;
/// Measurements of each kind.
const ROUNDS: u64 = 20_000;
/// Questions over loopback.
const ASKED: usize = 2_000;

fn main() {
    let sizes: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 10_000, 100_000, 1_000_000] } else { sizes };
    println!(
        "{:>9} {:>8} {:>9} {:>9} {:>10} {:>10} {:>8} {:>9} {:>9} {:>9} {:>9} {:>8}",
        "slots",
        "fill s",
        "p50 us",
        "p99 us",
        "lookups/s",
        "bundles/s",
        "bytes",
        "verify us",
        "no sig us",
        "net p50",
        "net p99",
        "B/slot"
    );
    for slots in sizes {
        measure(slots);
    }
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn spec() -> VerifiedSpec {
    let mut committee: Vec<Address> = (1..=3).map(|seed| key(seed).address().0).collect();
    committee.sort_unstable();
    let spec = ChainSpec {
        version: 1,
        chain_id: 1_337,
        genesis_hash: B256::repeat_byte(1),
        contracts: Contracts {
            registry: ContractPin { address: REGISTRY, code_hash: CODE_HASH },
            ..Contracts::default()
        },
        deploy_block: 1,
        committee,
        head_interval: 1,
        finality: FinalityRule::Tag,
        max_finality_lag: 3_600,
        trusting_period: 604_800,
        epoch_length: 86_400,
        stake_age: 86_400,
        unbonding_period: 1_814_400,
        fault_fraction: Fraction { numerator: 1, denominator: 2 },
        dev: true,
        date: now(),
    };
    verify_spec(&SignedSpec::sign(&spec, &key(9)).to_bytes(), key(9).address()).unwrap()
}

fn device(number: u64) -> DeviceId {
    DeviceId(Address::from_slice(&keccak256(number.to_be_bytes())[12..]))
}

fn record(number: u64) -> B256 {
    let (key, status) = (KeyAddress(device(number).0), DeviceStatus::Active);
    DeviceRecord { key, fleet: 1, valid_until: NEVER, status }.encode()
}

/// A mirror of this many devices.
fn fill(store: &Store, slots: u64) -> u64 {
    let mut number = 0;
    for first in (0..slots).step_by(BATCH as usize) {
        number += 1;
        let changes = (first..slots.min(first + BATCH))
            .map(|device_number| (Slot::Device(device(device_number)).storage_key(), record(device_number)))
            .collect();
        let position = Position { number, hash: B256::with_last_byte(number as u8) };
        let block = FinalBlock { position, header: Bytes::new(), changes, account: None };
        store.apply(&block, number, Durability::Process).unwrap();
    }
    number
}

/// A head over the mirror's root that two members attest.
fn served(store: &Store, spec: &VerifiedSpec, number: u64) -> ServedHead {
    let generation = store.generation();
    let storage_root = View::new(store, number, generation).root().unwrap();
    let registry = keccak256(REGISTRY);
    let account = Account { storage_root, code_hash: CODE_HASH, ..Account::default() };
    let mut accounts = BTreeMap::from([(registry, Some(account.encode()))]);
    // As deep as a chain of a few hundred accounts.
    accounts.extend((0..300u64).map(|n| (keccak256(n.to_be_bytes()), Some(Account::default().encode()))));
    let mut states = MemoryStore::new();
    let state_root = trie::update(&mut states, ACCOUNT_TRIE, &accounts).unwrap();
    let header = ConsensusHeader {
        number,
        state_root,
        timestamp: now(),
        base_fee_per_gas: Some(7),
        ..ConsensusHeader::default()
    };
    let rlp: Bytes = alloy_rlp::encode(&header).into();
    let header = Header::decode(&rlp).unwrap();
    let head = Head { number, hash: header.hash, attested_at: now(), nonce: B256::ZERO };
    ServedHead {
        position: Position { number, hash: header.hash },
        header,
        rlp,
        account: trie::prove(&states, ACCOUNT_TRIE, &registry).unwrap(),
        attestations: [1, 2].map(|seed| head.attest(spec, &key(seed))).to_vec(),
        attested_at: head.attested_at,
        generation,
        recent: Arc::new(Recent::default()),
    }
}

/// The time of each round, ascending, in microseconds.
fn rounds(count: u64, mut round: impl FnMut(u64)) -> Vec<f64> {
    // A fixed stride visits devices in no order.
    let mut times: Vec<f64> = (0..count)
        .map(|at| {
            let since = Instant::now();
            round(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            since.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    times
}

fn at(times: &[f64], part: f64) -> f64 {
    times[((times.len() - 1) as f64 * part) as usize]
}

fn mean(times: &[f64]) -> f64 {
    times.iter().sum::<f64>() / times.len() as f64
}

fn measure(slots: u64) {
    let directory = tempfile::tempdir().unwrap();
    let spec = Arc::new(spec());
    let store = Arc::new(Store::open(directory.path(), &spec).unwrap());
    let since = Instant::now();
    let number = fill(&store, slots);
    let filled = since.elapsed();
    let head = Arc::new(served(&store, &spec, number));
    let (_served, head_seen) = watch::channel(Some(head.clone()));
    let (_known, lineage) = watch::channel(Arc::new(Lineage::first(&spec)));
    let routes = Arc::new(RouteBook::open(store.clone(), now()).unwrap());
    let answers = Answers::new(store.clone(), spec.clone(), head_seen, lineage, routes);

    let view = head.view(&store);
    let lookup = |at: u64| {
        black_box(view.slot(Slot::Device(device(at % slots))).unwrap());
    };
    // Warm means that everything was asked for once.
    (0..slots).for_each(lookup);
    let lookups = rounds(ROUNDS, lookup);
    let respond = |at: u64| {
        let question = Question::Target(Target::Device(device(at % slots)));
        drop(black_box(answers.respond(&[question], now()).unwrap()));
    };
    (0..slots).for_each(respond);
    let proven = rounds(ROUNDS, respond);

    let (bytes, bundle, slot) = sample(&answers, slots);
    let committee = Committee::first(&spec);
    let trust = Trust { spec: &spec, committee: &committee, now: Some(now()), nonce: None };
    let verified = rounds(2_000, |_| drop(black_box(verify_bundle(&trust, &bundle, &[slot]).unwrap())));
    let unsigned = rounds(2_000, |_| {
        let account =
            verify_account(&spec.contracts.registry, head.header.state_root, &bundle.account).unwrap();
        let mut pool = ProofPool::new(&bundle.storage).unwrap();
        black_box(pool.lookup(account.storage_root, &slot.trie_key()).unwrap());
        pool.all_used().unwrap();
    });
    let net = loopback(answers, &spec, slots);
    let disk = store.size().unwrap().bytes;
    println!(
        "{slots:>9} {:>8.1} {:>9.1} {:>9.1} {:>10.0} {:>10.0} {bytes:>8} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>8.0}",
        filled.as_secs_f64(),
        at(&proven, 0.5),
        at(&proven, 0.99),
        1e6 / mean(&lookups),
        1e6 / mean(&proven),
        at(&verified, 0.5),
        at(&unsigned, 0.5),
        at(&net, 0.5),
        at(&net, 0.99),
        disk as f64 / slots as f64,
    );
}

/// One answer about one device: its size, its bundle, the slot.
fn sample(answers: &Answers, slots: u64) -> (usize, Bundle, Slot) {
    let id = device(slots / 2);
    let response = answers.respond(&[Question::Target(Target::Device(id))], now()).unwrap();
    let bytes = wire::encode(&response).len();
    let Response::Proven { bundle, .. } = response else { panic!("refused") };
    (bytes, bundle, Slot::Device(id))
}

/// A device asks over an established connection, one question after the other, and verifies each answer.
#[tokio::main]
async fn loopback(answers: Answers, spec: &VerifiedSpec, slots: u64) -> Vec<f64> {
    let stop = CancellationToken::new();
    let listen = ["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let (network, control) = Network::listen(&key(0x60), &listen, Vec::new()).await.unwrap();
    let (node, address) = (network.peer_id(), network.addresses()[0].clone());
    let protocol = StreamProtocol::new(names::RESOLVE);
    let incoming = control.accept(protocol.clone(), NonZeroUsize::new(256).unwrap()).unwrap();
    let (challenges, _challengers) = Challenges::channel();
    let rates = Arc::new(Rates::new(1e9, 1e9));
    tokio::spawn(network.run(stop.clone()));
    tokio::spawn(run_resolver(answers, challenges, rates, incoming, stop.clone()));
    let (mut swarm, device_control) = device_swarm(&key(0x70), &DeviceConfig::new("figures")).unwrap();
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let committee = Committee::first(spec);
    let trust = Trust { spec, committee: &committee, now: Some(now()), nonce: None };
    let mut times = Vec::new();
    for round in 0..ASKED + 50 {
        let id = device((round as u64).wrapping_mul(7_919) % slots);
        let question = Question::Target(Target::Device(id));
        let since = Instant::now();
        let within = Duration::from_secs(5);
        let mut stream =
            device_control.open(node, vec![address.clone()], protocol.clone(), within).await.unwrap();
        write_frame(&mut stream, &wire::encode(&Request::of(vec![question.clone()]))).await.unwrap();
        let frame = read_frame(&mut stream).await.unwrap();
        let Response::Proven { bundle, .. } = wire::decode(&frame, usize::MAX).unwrap() else {
            panic!("refused")
        };
        let mut open = open_bundle(&trust, &bundle).unwrap();
        question.expand(now(), &mut |slot| open.value(slot)).unwrap();
        assert!(open.finish().unwrap().device(id).unwrap().is_some());
        // The first ones connect and warm up.
        if round >= 50 {
            times.push(since.elapsed().as_secs_f64() * 1e6);
        }
    }
    stop.cancel();
    times.sort_unstable_by(f64::total_cmp);
    times
}
