//! Whole nodes on loopback, against a made-up chain over JSON-RPC.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::head::Peer;
use crate::store::Store;
use crate::testing::device::{Device, push};
use crate::testing::rpc::{Manner, Rpc};
use crate::testing::{self, FakeChain};
use libp2p::multiaddr::Protocol;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;
use windlass_protocol::B256;

const CHAIN_ID: u64 = 1_337;

/// Where nobody listens: a port that no test is given by the system.
const NOBODY: &str = "http://127.0.0.1:1";

/// A chain with its server, the spec that pins it, and a folder per node.
struct World {
    chain: Arc<FakeChain>,
    rpc: Rpc,
    spec: VerifiedSpec,
    keys: Vec<SecretKey>,
    folders: Vec<tempfile::TempDir>,
}

impl World {
    async fn new(chain_id: u64) -> Self {
        let chain = FakeChain::new();
        let rpc = Rpc::serve(chain.clone(), chain_id).await;
        let (spec, keys) = testing::spec(3);
        let folders = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        Self { chain, rpc, spec, keys, folders }
    }

    fn config(&self, index: usize, peers: &[&Node]) -> NodeConfig {
        let peer = |node: &&Node| {
            let mut address = node.listen_addrs()[0].clone();
            let Some(Protocol::P2p(id)) = address.pop() else { panic!("{address}") };
            Peer { id, addresses: vec![address] }
        };
        NodeConfig {
            data_dir: self.folder(index).to_owned(),
            spec: self.spec.clone(),
            spec_file: self.folder(index).join("chain.spec"),
            providers: vec![self.rpc.url.clone()],
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
            external: Vec::new(),
            upnp: false,
            peers: peers.iter().map(peer).collect(),
            admin: "127.0.0.1:0".parse().unwrap(),
            poll_interval: Duration::from_millis(20),
            cache_bytes: crate::limits::LEAST_STORE_CACHE_BYTES,
            evidence_key: None,
            relay: Default::default(),
        }
    }

    fn folder(&self, index: usize) -> &Path {
        self.folders[index].path()
    }

    async fn start(&self, index: usize, peers: &[&Node]) -> Node {
        Node::start(self.config(index, peers), self.keys[index].clone()).await.unwrap()
    }

    fn make_block(&self, value: u8) -> u64 {
        self.chain.extend(vec![(B256::with_last_byte(1), B256::with_last_byte(value))]);
        self.chain.finalise(1);
        self.chain.height()
    }

    /// A second provider, of a chain of its own in which the same blocks are made.
    async fn twin(&self) -> (Arc<FakeChain>, Rpc) {
        let chain = FakeChain::new();
        (chain.clone(), Rpc::serve(chain, CHAIN_ID).await)
    }

    /// Waits until a node serves this height, as a device sees it: attested, proven, pushed.
    async fn served(&self, device: &Device, node: &Node, height: u64) {
        let name = windlass_protocol::message::names::WATCH;
        let mut stream = device.open(node.peer_id(), &node.listen_addrs()[0], name).await;
        let mut reached = 0;
        while reached < height {
            let now = unix_seconds();
            reached = push(&mut stream, &self.spec, now).await.1.head().number();
        }
    }
}

async fn health(node: &Node) -> (u16, serde_json::Value) {
    use alloy::transports::http::reqwest;
    let url = format!("http://{}/health", node.admin_addr());
    let response = reqwest::get(url).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

async fn admin_text(node: &Node, path: &str) -> String {
    use alloy::transports::http::reqwest;
    let response = reqwest::get(format!("http://{}/{path}", node.admin_addr())).await.unwrap();
    assert!(response.status().is_success());
    String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_serve_what_two_attest_and_go_on_without_one() {
    let world = World::new(CHAIN_ID).await;
    let device = Device::start(&testing::key(0x71));
    let first = world.start(0, &[]).await;
    let second = world.start(1, &[&first]).await;
    let third = world.start(2, &[&first, &second]).await;
    let height = world.make_block(1);
    for node in [&first, &second, &third] {
        world.served(&device, node, height).await;
    }
    let (status, report) = health(&first).await;
    assert_eq!((status, &report["status"]), (200, &serde_json::json!("ok")), "{report}");
    assert_eq!(report["served"]["number"], height);
    assert_eq!(report["attesting"], true);

    third.shutdown().await;
    let height = world.make_block(2);
    world.served(&device, &first, height).await;
    let third = world.start(2, &[&first, &second]).await;
    world.served(&device, &third, height).await;

    second.shutdown().await;
    third.shutdown().await;
    first.shutdown().await;
    // Nothing is left running: each directory opens again.
    for index in 0..3 {
        Store::open(world.folder(index), &world.spec).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_attestations_says_so() {
    let world = World::new(CHAIN_ID).await;
    let node = world.start(0, &[]).await;
    let (status, report) = health(&node).await;
    assert_eq!(status, 503);
    assert_eq!(report["served"], serde_json::Value::Null);
    assert_ne!(report["status"], "ok");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_prevents_a_start_is_said_in_one_line() {
    let world = World::new(CHAIN_ID).await;
    let node = world.start(0, &[]).await;
    let start = async |config: NodeConfig| {
        let error = Node::start(config, world.keys[1].clone()).await.err().expect("a refusal");
        assert!(!error.to_string().contains('\n'), "{error}");
        error
    };

    let error = start(world.config(0, &[])).await;
    assert!(matches!(error, StartError::Store(StoreError::Locked(_))), "{error}");

    let mut config = world.config(1, &[]);
    config.listen = vec![{
        let mut taken = node.listen_addrs()[0].clone();
        taken.pop();
        taken
    }];
    let error = start(config).await;
    assert!(matches!(&error, StartError::Network(ListenError::Listen { .. })), "{error}");

    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config = world.config(1, &[]);
    let port = taken.local_addr().unwrap().port();
    config.listen.push(format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap());
    let error = start(config).await;
    assert!(matches!(&error, StartError::Network(ListenError::Listen { .. })), "{error}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");

    let mut config = world.config(1, &[]);
    config.admin = node.admin_addr();
    let error = start(config).await;
    assert!(matches!(&error, StartError::Admin { .. }), "{error}");

    let mut config = world.config(1, &[]);
    config.providers = vec![NOBODY.to_owned()];
    let error = start(config).await;
    assert!(matches!(&error, StartError::Chain(SourceError::Unavailable(_))), "{error}");
    assert!(error.to_string().contains("providers"), "{error}");

    let other = World::new(CHAIN_ID + 1).await;
    let mut config = world.config(1, &[]);
    config.providers = vec![world.rpc.url.clone(), other.rpc.url.clone()];
    let error = start(config).await;
    assert!(matches!(&error, StartError::Chain(SourceError::OtherChain { what: "chain id", .. })), "{error}");

    let mut config = world.config(1, &[]);
    config.spec = testing::spec_with(3, |spec| spec.genesis_hash = B256::repeat_byte(0x99)).0;
    let error = start(config).await;
    assert!(
        matches!(&error, StartError::Chain(SourceError::OtherChain { what: "genesis hash", .. })),
        "{error}"
    );
    // A refused start leaves nothing behind: the same directory and ports serve the next one.
    world.start(1, &[&node]).await.shutdown().await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_and_a_second_provider_over_json_rpc() {
    let world = World::new(CHAIN_ID).await;
    for value in 1..60 {
        world.make_block(value);
    }
    world.chain.limit_ranges(9);
    let mut config = world.config(0, &[]);
    config.providers.insert(0, NOBODY.to_owned());
    let device = Device::start(&testing::key(0x71));
    let first = Node::start(config, world.keys[0].clone()).await.unwrap();
    let second = world.start(1, &[&first]).await;
    world.served(&device, &first, world.chain.height()).await;
    let (_, report) = health(&first).await;
    assert!(report["providers"][0]["failures"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["providers"][1]["preferred"], true);
    second.shutdown().await;
    first.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_what_health_says() {
    let world = World::new(CHAIN_ID).await;
    let device = Device::start(&testing::key(0x71));
    let first = world.start(0, &[]).await;
    let second = world.start(1, &[&first]).await;
    let height = world.make_block(1);
    world.served(&device, &first, height).await;
    let (_, report) = health(&first).await;
    let text = admin_text(&first, "metrics").await;
    for (name, expected) in [
        ("windlass_healthy", 1),
        ("windlass_head", height),
        ("windlass_served_head", height),
        ("windlass_root_checked_head", height),
        ("windlass_lag_blocks", 0),
        ("windlass_signing", 1),
        ("windlass_signed_head", height),
        ("windlass_mirror_rebuilds_total", 0),
    ] {
        assert!(text.contains(&format!("\n{name} {expected}\n")), "{name}: {text}");
    }
    assert!(
        report["mirror"]["slots"].as_u64().unwrap() >= 1 && report["mirror"]["bytes"].as_u64().unwrap() > 0
    );
    assert!(text.contains("windlass_provider_failures_total{url=\"http://127.0.0.1:"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    second.shutdown().await;
    first.shutdown().await;

    // Alone it can't prove anything, and says so.
    let alone = world.start(0, &[]).await;
    let text = admin_text(&alone, "metrics").await;
    assert!(text.contains("\nwindlass_healthy 0\n") && !text.contains("windlass_served_head "), "{text}");
    alone.shutdown().await;
}

/// A provider that has another final block than the rest is counted, shown, and not followed.
#[tokio::test(flavor = "multi_thread")]
async fn providers_that_contradict_each_other_are_counted_and_the_majority_followed() {
    let world = World::new(CHAIN_ID).await;
    // The same genesis, another block 1: a provider that lies about everything since.
    let liar = FakeChain::new();
    liar.break_finality(0);
    liar.extend(vec![(B256::with_last_byte(9), B256::with_last_byte(9))]);
    liar.finalise(1);
    world.make_block(1);
    let forged = Rpc::serve(liar.clone(), CHAIN_ID).await;
    let third = Rpc::serve(world.chain.clone(), CHAIN_ID).await;
    let mut config = world.config(0, &[]);
    config.providers = vec![forged.url.clone(), world.rpc.url.clone(), third.url.clone()];
    let device = Device::start(&testing::key(0x71));
    let first = Node::start(config, world.keys[0].clone()).await.unwrap();
    let second = world.start(1, &[&first]).await;
    let height = world.make_block(2);
    world.served(&device, &first, height).await;
    let (_, report) = health(&first).await;
    // Whose block was the mirrored one when they were compared is chance; that they contradict each other isn't.
    let contradictions = |index: usize| report["providers"][index]["contradictions"].as_u64().unwrap();
    assert!((0..3).map(contradictions).sum::<u64>() > 0, "{report}");
    let failure = report["providers"][0]["last_failure"].as_str().unwrap();
    assert!(failure.contains("another one for 2 providers"), "{report}");
    assert_eq!(report["providers"][0]["preferred"], false, "{report}");
    assert_eq!(report["mirror"]["rebuilds"], 0, "what most of them contradict is never mirrored: {report}");
    second.shutdown().await;
    first.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_providers_that_contradict_each_other_the_committees_is_followed_and_the_other_named() {
    let world = World::new(CHAIN_ID).await;
    let (liar, forged) = world.twin().await;
    liar.extend(vec![(B256::with_last_byte(1), B256::with_last_byte(1))]);
    liar.finalise(1);
    let device = Device::start(&testing::key(0x71));
    let first = world.start(0, &[]).await;
    let second = world.start(1, &[&first]).await;
    let config = || {
        let mut config = world.config(2, &[&first, &second]);
        config.providers.insert(0, forged.url.clone());
        config
    };
    let third = Node::start(config(), world.keys[2].clone()).await.unwrap();
    world.served(&device, &third, world.make_block(1)).await;
    // While it is down its providers part: one against one.
    third.shutdown().await;
    let height = world.make_block(2);
    liar.extend(vec![(B256::with_last_byte(9), B256::with_last_byte(9))]);
    liar.finalise(1);
    let third = Node::start(config(), world.keys[2].clone()).await.unwrap();
    world.served(&device, &third, height).await;
    let (_, report) = health(&third).await;
    assert_eq!(report["served"]["hash"], world.chain.hash(height).to_string(), "{report}");
    let failure = report["providers"][0]["last_failure"].as_str().unwrap();
    assert!(failure.contains("members of the committee vouch for"), "{report}");
    assert_eq!(report["providers"][0]["preferred"], false, "{report}");
    for node in [third, second, first] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_whose_state_cannot_be_proven_is_refused_by_name() {
    let world = World::new(CHAIN_ID).await;
    world.make_block(1);
    world.chain.forge_accounts(1);
    let error = Node::start(world.config(0, &[]), world.keys[0].clone()).await.err().expect("a refusal");
    assert!(matches!(&error, StartError::Chain(SourceError::Unproven { .. })), "{error}");
    let text = error.to_string();
    assert!(text.contains("not eligible") && text.contains("127.0.0.1") && !text.contains('\n'), "{text}");
    // One that only can't be asked now is no reason, as long as another answers.
    world.chain.withhold_accounts(1);
    let second = Rpc::serve(world.chain.clone(), CHAIN_ID).await;
    let mut config = world.config(0, &[]);
    config.providers.push(second.url.clone());
    Node::start(config, world.keys[0].clone()).await.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_provider_leaves_out_is_fetched_from_the_other() {
    let mut world = World::new(CHAIN_ID).await;
    (world.spec, world.keys) = testing::spec(1);
    let (honest, rpc) = world.twin().await;
    let device = Device::start(&testing::key(0x71));
    let mut config = world.config(0, &[]);
    config.providers.push(rpc.url.clone());
    let node = Node::start(config, world.keys[0].clone()).await.unwrap();
    for value in [1, 2] {
        honest.extend(vec![(B256::with_last_byte(1), B256::with_last_byte(value))]);
        honest.finalise(1);
        // The first provider leaves out what the second block wrote; the other doesn't.
        world.chain.drop_logs(usize::from(value == 2));
        let height = world.make_block(value);
        world.served(&device, &node, height).await;
    }
    let (_, report) = health(&node).await;
    assert_eq!(report["providers"][1]["preferred"], true, "{report}");
    assert!(
        report["providers"][0]["last_failure"].as_str().unwrap().contains("the chain proves"),
        "{report}"
    );
    assert_eq!(report["mirror"]["rebuilds"], 0, "what was proven stays: {report}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_development_a_head_is_signed_once_a_second_provider_calls_it_final() {
    let mut world = World::new(CHAIN_ID).await;
    let (twin, rpc) = world.twin().await;
    (world.spec, world.keys) = testing::spec_with(1, |spec| spec.dev = false);
    let mut config = world.config(0, &[]);
    config.providers.push(rpc.url.clone());
    let node = Node::start(config, world.keys[0].clone()).await.unwrap();
    let device = Device::start(&testing::key(0x71));
    // The first block is waited out, for there is no record yet; the second is final for one provider only.
    let both = |value: u8| {
        twin.extend(vec![(B256::with_last_byte(1), B256::with_last_byte(value))]);
        world.make_block(value)
    };
    both(1);
    twin.finalise(1);
    held_back(&node, "no record").await;
    let height = both(2);
    held_back(&node, "one provider").await;
    let (status, report) = health(&node).await;
    assert_eq!((status, &report["attesting"]), (503, &serde_json::json!(false)), "{report}");
    twin.finalise(1);
    world.served(&device, &node, height).await;
    let (_, report) = health(&node).await;
    assert_eq!(
        (&report["attesting"], &report["signing"]["held_back"]),
        (&true.into(), &serde_json::Value::Null),
        "{report}"
    );
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_providers_wrong_answer_ends_no_node() {
    let world = World::new(CHAIN_ID).await;
    let device = Device::start(&testing::key(0x71));
    let mut first = world.start(0, &[]).await;
    let second = world.start(1, &[&first]).await;
    world.served(&device, &first, world.make_block(1)).await;
    world.rpc.behave(Manner::WrongHashes);
    world.make_block(2);
    let failures =
        async { while health(&first).await.1["providers"][0]["failures"].as_u64().unwrap() < 3 {} };
    failures.await;
    world.rpc.behave(Manner::Honest);
    tokio::select! {
        () = world.served(&device, &second, 2) => {}
        ended = first.failed() => panic!("{ended}"),
    }
    second.shutdown().await;
    first.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_health_nor_metrics_answer_a_page_of_a_foreign_name() {
    use alloy::transports::http::reqwest::Client;
    let world = World::new(CHAIN_ID).await;
    let node = world.start(0, &[]).await;
    for path in ["health", "metrics"] {
        let url = format!("http://{}/{path}", node.admin_addr());
        let asked = Client::new().get(&url).header("Host", "evil.example").send().await.unwrap();
        assert_eq!(asked.status().as_u16(), 403, "{path}");
    }
    node.shutdown().await;
}

/// Waits until a node says that it holds its signature back for this reason.
async fn held_back(node: &Node, why: &str) {
    let mut report = health(node).await.1;
    while !report["signing"]["held_back"].as_str().is_some_and(|reason| reason.contains(why)) {
        report = health(node).await.1;
    }
}
