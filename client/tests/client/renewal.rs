//! A device that slept for longer than its chain spec is good for: a newer version that any node brings lets it in again,
//! and nothing else does.

use crate::{
    fake_node::{FakeNode, Manner},
    streams::lamp,
    world::{World, addresses, key, now},
};
use std::{
    io,
    sync::{Arc, Mutex},
};
use windlass_client::{
    AskError, Client, Event, Events, HeadStore, HighestHead, MemoryHeadStore, NoClock, Rejection,
    VerifiedSpec, Warmth, limits::NODE_DEADLINE, verify_spec,
};
use windlass_protocol::{
    B256,
    committee::StepError,
    spec::{ChainSpec, SignedSpec},
};

/// A spec that was made a quarter of an hour ago, and good for ten minutes.
fn expired() -> Arc<World> {
    World::with(|spec| {
        spec.epoch_length = 100;
        spec.trusting_period = 500;
        spec.date = now() - 900;
    })
}

async fn client(spec: &VerifiedSpec, store: &Arc<MemoryHeadStore>, nodes: &[&FakeNode]) -> Client {
    let nodes = nodes.iter().map(|node| node.multiaddr.clone());
    let builder = Client::builder(spec.clone(), key(21)).nodes(nodes).hedge_after(NODE_DEADLINE);
    builder.head_store(store.clone()).start().await.unwrap()
}

/// Fails unless the only reason is that the spec is too old.
fn assert_expired(error: &AskError) {
    let AskError::NoNode { refused } = error else { panic!("{error}") };
    for node in refused {
        assert!(matches!(node.reason, Rejection::Step(StepError::Expired { .. })), "{}", node.reason);
    }
    assert!(error.to_string().contains("a newer chain spec is needed"), "{error}");
}

async fn renewal(events: &mut Events) -> (u64, u64) {
    loop {
        if let Some(Event::Renewed { from, to }) = events.next().await {
            return (from, to);
        }
    }
}

#[tokio::test]
async fn a_device_with_a_spec_of_long_ago_comes_back_by_any_node_and_stays() {
    let world = expired();
    let store = Arc::new(MemoryHeadStore::default());
    let withholds = FakeNode::start(&world, 10, Manner::Honest).await;
    let gives = FakeNode::start(&world, 11, Manner::Honest).await;
    let device = client(&world.spec, &store, &[&withholds, &gives]).await;
    assert_expired(&device.ask(Vec::new()).await.unwrap_err());
    assert_eq!(device.spec().version, 1);
    device.shutdown().await;

    let device = client(&world.spec, &store, &[&withholds, &gives]).await;
    let mut events = device.events();
    gives.give(world.renewed(|_| {}));
    let resolved = device.resolve(&lamp()).await.unwrap();
    assert_eq!(renewal(&mut events).await, (1, 2));
    assert_eq!((device.spec().version, resolved.provenance.spec), (2, (device.spec().hash(), 2)));
    device.shutdown().await;
    assert_eq!(store.load(world.spec.network()).unwrap().unwrap().number, 101);

    // Started again with the same old file it needs nobody to tell it anew.
    gives.give(Vec::new());
    let asked = withholds.asked() + gives.asked();
    let device = client(&world.spec, &store, &[&withholds, &gives]).await;
    assert_eq!(device.spec().version, 2);
    device.resolve(&lamp()).await.unwrap();
    assert_eq!(withholds.asked() + gives.asked(), asked + 1);
    device.shutdown().await;
}

#[tokio::test]
async fn nothing_but_the_publishers_higher_version_is_adopted() {
    let world = expired();
    let good = world.renewed(|_| {});
    let of = |change: fn(&mut ChainSpec)| world.renewed(change);
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    let other_publisher = {
        let spec = ChainSpec { version: 2, date: now(), ..(*world.spec).clone() };
        SignedSpec::sign(&spec, &key(8)).to_bytes()
    };
    let cases: [(&str, Vec<u8>, bool); 9] = [
        ("another publisher's", other_publisher, false),
        ("a changed bit", flipped, false),
        ("cut", good[..good.len() - 1].to_vec(), true),
        ("noise", vec![7; 200], true),
        ("the same version", of(|spec| spec.version = 1), false),
        ("a lower version", of(|spec| spec.version = 0), false),
        ("another network", of(|spec| spec.genesis_hash = B256::ZERO), false),
        ("dated before", of(|spec| spec.date -= 2_000), false),
        ("dated ahead", of(|spec| spec.date += 3_600), false),
    ];
    for (case, bytes, lie) in cases {
        let store = Arc::new(MemoryHeadStore::default());
        let node = FakeNode::start(&world, 10, Manner::Honest).await;
        node.give(bytes);
        let device = client(&world.spec, &store, &[&node]).await;
        let mut events = device.events();
        let error = device.ask(Vec::new()).await.unwrap_err();
        assert_expired(&error);
        assert_eq!(device.spec().version, 1, "{case}");
        assert_eq!(store.load_spec(world.spec.network()).unwrap(), Some(world.spec.to_bytes()), "{case}");
        let refused = loop {
            match events.next().await.unwrap() {
                Event::NodeRefused(refused) if matches!(refused.reason, Rejection::Renewal(_)) => {
                    break refused;
                }
                Event::Renewed { .. } => panic!("{case}"),
                _ => {}
            }
        };
        assert_eq!(refused.reason.is_lie(), lie, "{case}: {}", refused.reason);
        device.shutdown().await;
    }
}

#[tokio::test]
async fn of_several_versions_the_highest_is_adopted_and_never_a_lower_one_again() {
    let world = expired();
    let store = Arc::new(MemoryHeadStore::default());
    let (second, third) = (world.renewed(|_| {}), world.renewed(|spec| spec.version = 3));
    let older = FakeNode::start(&world, 10, Manner::Honest).await;
    let newer = FakeNode::start(&world, 11, Manner::Honest).await;
    older.give(second.clone());
    newer.give(third);
    let device = client(&world.spec, &store, &[&older, &newer]).await;
    device.resolve(&lamp()).await.unwrap();
    assert_eq!(device.spec().version, 3);
    device.shutdown().await;
    // The file was put back to an older version, of which the device knows a newer one.
    let second = verify_spec(&second, key(9).address()).unwrap();
    for file in [&second, &world.spec] {
        let device = client(file, &store, &[&older]).await;
        assert_eq!(device.spec().version, 3);
        device.shutdown().await;
    }
    // A newer file wins, and is what counts from then on.
    let fourth = verify_spec(&world.renewed(|spec| spec.version = 4), key(9).address()).unwrap();
    client(&fourth, &store, &[&older]).await.shutdown().await;
    let device = client(&world.spec, &store, &[&older]).await;
    assert_eq!(device.spec().version, 4);
    device.shutdown().await;
}

#[tokio::test]
async fn a_publisher_can_replace_a_committee_that_is_lost() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    world.elect(0, &[4, 5, 6]);
    let device = client(&world.spec, &Arc::default(), &[&node]).await;
    let error = device.resolve(&lamp()).await.unwrap_err();
    assert!(error.to_string().contains("not in the committee"), "{error}");
    device.shutdown().await;

    node.give(world.renewed(|spec| spec.committee = addresses(&[4, 5, 6])));
    let device = client(&world.spec, &Arc::default(), &[&node]).await;
    assert_eq!(device.resolve(&lamp()).await.unwrap().provenance.spec.1, 2);
    assert_eq!(device.committee().members, addresses(&[4, 5, 6]));
    device.shutdown().await;
}

#[tokio::test]
async fn an_owner_may_have_it_looked_for_before_it_is_needed() {
    let world = World::new();
    let (store, node) = (Arc::default(), FakeNode::start(&world, 10, Manner::Honest).await);
    let device = client(&world.spec, &store, &[&node]).await;
    let renewed = world.renewed(|_| {});
    node.give(renewed.clone());
    assert!(device.renew_spec().await.unwrap());
    assert_eq!(device.spec().version, 2);
    assert_eq!(device.resolve(&lamp()).await.unwrap().provenance.spec.1, 2);
    // Nobody has a newer one.
    assert!(!device.renew_spec().await.unwrap());
    device.shutdown().await;
    assert_eq!(store.load_spec(world.spec.network()).unwrap(), Some(renewed));
}

#[tokio::test]
async fn nodes_are_not_asked_for_it_again_and_again() {
    let world = expired();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let device = client(&world.spec, &Arc::default(), &[&node]).await;
    assert_expired(&device.ask(Vec::new()).await.unwrap_err());
    let first = node.asked();
    assert_expired(&device.ask(Vec::new()).await.unwrap_err());
    assert_eq!(node.asked() - first, first - 1, "all but the question for a spec");
    device.shutdown().await;
}

#[tokio::test]
async fn without_a_clock_no_spec_is_adopted() {
    let world = expired();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    node.give(world.renewed(|_| {}));
    let builder = Client::builder(world.spec.clone(), key(21)).nodes([node.multiaddr.clone()]);
    let device = builder.clock(NoClock).anchor(key(40).address()).start().await.unwrap();
    let error = device.ask(Vec::new()).await.unwrap_err();
    assert!(matches!(error, AskError::Cold { .. }), "{error}");
    assert_eq!((device.warmth(), device.spec().version), (Warmth::Cold, 1));
    device.shutdown().await;
}

/// Has what it was given, and takes nothing any more.
#[derive(Default)]
struct Full(Mutex<u32>);

impl HeadStore for Full {
    fn load(&self, _: B256) -> io::Result<Option<HighestHead>> {
        Ok(None)
    }

    fn store(&self, _: B256, _: HighestHead) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn store_spec(&self, _: B256, _: &[u8]) -> io::Result<()> {
        *self.0.lock().unwrap() += 1;
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[tokio::test]
async fn a_head_store_that_fails_to_write_is_told_and_stops_nothing() {
    let world = expired();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    node.give(world.renewed(|_| {}));
    let store = Arc::new(Full::default());
    let builder = Client::builder(world.spec.clone(), key(21)).nodes([node.multiaddr.clone()]);
    let device = builder.head_store(store.clone()).start().await.unwrap();
    let mut events = device.events();
    device.resolve(&lamp()).await.unwrap();
    assert_eq!(device.spec().version, 2);
    // The newer spec, then the head.
    let mut failures = 0;
    while failures < 2 {
        if let Some(Event::NotKept(error)) = events.next().await {
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            failures += 1;
        }
    }
    assert_eq!(*store.0.lock().unwrap(), 2, "once at the start, once when it was adopted");
    device.resolve(&lamp()).await.unwrap();
    device.shutdown().await;
}

/// What is kept of another network, or was damaged, isn't used and is said.
#[tokio::test]
async fn a_kept_spec_that_is_none_of_this_networks_stops_the_start() {
    let world = expired();
    let network = world.spec.network();
    let other = world.renewed(|spec| spec.deploy_block = 7);
    for bytes in [other, vec![1, 2, 3]] {
        let store = Arc::new(MemoryHeadStore::default());
        store.store_spec(network, &bytes).unwrap();
        let node = FakeNode::start(&world, 10, Manner::Honest).await;
        let builder = Client::builder(world.spec.clone(), key(21)).nodes([node.multiaddr.clone()]);
        let error = builder.head_store(store).start().await.unwrap_err();
        assert!(error.to_string().contains("chain spec"), "{error}");
    }
}
