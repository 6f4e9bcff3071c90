//! A device without a clock believes nothing until its anchor has signed its nonce; a nonce is answered once.

use crate::{
    fake_node::{FakeNode, Manner},
    streams::lamp,
    world::{SERVICE, World, key, now},
};
use windlass_client::{
    AskError, Builder, Client, Clock, Event, NoClock, OpenError, Rejection, ResolveError, Warmth,
    limits::NODE_DEADLINE,
};
use windlass_protocol::{bundle::BundleError, head::HeadError};

/// It was never set: the first of January 1970.
struct Unset;

impl Clock for Unset {
    fn unix_millis(&self) -> u64 {
        3_600_000
    }
}

fn builder(world: &World, nodes: &[&FakeNode]) -> Builder {
    let nodes = nodes.iter().map(|node| node.multiaddr.clone());
    Client::builder(world.spec.clone(), key(21)).nodes(nodes).hedge_after(NODE_DEADLINE)
}

#[tokio::test]
async fn without_clock_and_anchor_a_device_believes_nothing() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    for builder in [builder(&world, &[&node]).clock(NoClock), builder(&world, &[&node]).clock(Unset)] {
        let client = builder.start().await.unwrap();
        assert_eq!(client.warmth(), Warmth::Cold);
        let error = client.resolve(&lamp()).await.unwrap_err();
        assert!(matches!(error, ResolveError::Cold { .. }) && !error.is_proven_no(), "{error}");
        assert!(error.to_string().contains("pin an anchor"), "{error}");
        let error = client.open(&lamp(), SERVICE).await.unwrap_err();
        assert!(matches!(error, OpenError::Cold { .. }), "{error}");
        assert!(matches!(client.ask(vec![]).await, Err(AskError::Cold { .. })));
        client.shutdown().await;
    }
    assert_eq!(node.asked(), 0, "nobody is asked what can't be believed");
}

#[tokio::test]
async fn the_anchors_signature_over_its_nonce_warms_it_up() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let builder = builder(&world, &[&node]).clock(NoClock).anchor(key(3).address());
    let client = builder.start().await.unwrap();
    let mut events = client.events();
    let resolved = client.resolve(&lamp()).await.unwrap();
    assert!(resolved.provenance.age < 60);
    assert_eq!(client.warmth(), Warmth::Warm);
    loop {
        if let Some(Event::Warmed(head)) = events.next().await {
            assert_eq!(head.number, 101);
            break;
        }
    }
    // Once is enough.
    client.resolve(&lamp()).await.unwrap();
    assert_eq!(node.nonces().len(), 1);
    client.shutdown().await;
}

#[tokio::test]
async fn anybody_elses_signatures_leave_it_cold() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    // A genuine member, but not among those who signed; and one that is in no committee.
    for anchor in [2, 40] {
        let builder = builder(&world, &[&node]).clock(NoClock).anchor(key(anchor).address());
        let client = builder.start().await.unwrap();
        let Err(AskError::Cold { refused }) = client.ask(vec![]).await else { panic!("believed") };
        assert!(
            matches!(refused[0].reason, Rejection::NoAnchor(key) if key.0 == self::key(anchor).address().0)
        );
        assert_eq!(client.warmth(), Warmth::Cold);
        client.shutdown().await;
    }
}

/// What a client says of a node that answers its second nonce in this manner.
async fn refused_nonce(manner: Manner) -> Rejection {
    let world = World::new();
    let liar = FakeNode::start(&world, 10, manner).await;
    let honest = FakeNode::start(&world, 11, Manner::Honest).await;
    // The liar has a genuine answer in its drawer.
    let other = builder(&world, &[&liar]).start().await.unwrap();
    let _ = other.challenge().await;
    other.shutdown().await;
    let cold = builder(&world, &[&liar, &honest]).clock(NoClock).anchor(key(1).address());
    let cold = cold.start().await.unwrap();
    let mut events = cold.events();
    // The honest one is asked next, and believed.
    assert_eq!(cold.resolve(&lamp()).await.unwrap().provenance.node, honest.peer);
    let reason = loop {
        match events.next().await {
            Some(Event::NodeRefused(refused)) if refused.peer == liar.peer => break refused.reason,
            Some(_) => {}
            None => panic!("nobody was refused"),
        }
    };
    cold.shutdown().await;
    reason
}

#[tokio::test]
async fn a_replayed_nonce_is_refused_and_its_node_named() {
    let reason = refused_nonce(Manner::ReplaysNonce).await;
    assert!(matches!(reason, Rejection::Unproven(BundleError::Head(HeadError::Nonce(_)))), "{reason}");
    assert!(reason.is_lie());
}

#[tokio::test]
async fn signatures_over_no_nonce_or_too_few_are_refused() {
    let reason = refused_nonce(Manner::IgnoresNonce).await;
    assert!(matches!(reason, Rejection::Unproven(BundleError::Head(HeadError::Nonce(_)))), "{reason}");
    let reason = refused_nonce(Manner::TooFew).await;
    assert!(matches!(reason, Rejection::Unproven(BundleError::Head(HeadError::TooFew { .. }))), "{reason}");
}

#[tokio::test]
async fn a_device_with_a_clock_may_ask_for_the_same() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let client = builder(&world, &[&node]).start().await.unwrap();
    assert_eq!(client.warmth(), Warmth::Warm);
    let head = client.challenge().await.unwrap();
    assert!(head.number() == 101 && head.age(now()) < 60);
    // Every nonce is another.
    client.challenge().await.unwrap();
    let nonces = node.nonces();
    assert!(nonces.len() == 2 && nonces[0] != nonces[1]);
    client.shutdown().await;
}
