//! Resolving: what is proven is believed, every lie is refused and named, and another node is asked.

use crate::{
    fake_node::{FakeNode, Manner},
    world::{World, device, key, name},
};
use std::sync::Arc;
use windlass_client::{
    Builder, Client, Denial, HeadStore, MemoryHeadStore, NodeError, RefusedNode, Rejection, ResolveError,
    StartError, Target,
    limits::{HEDGE_AFTER, NODE_DEADLINE},
};
use windlass_protocol::{
    Address,
    bundle::BundleError,
    head::HeadError,
    message::resolve::Reason,
    question::Question,
    record::{DeviceStatus, NEVER, NameKind, NameRecord},
    slot::Slot,
};

/// A client that asks one node after the other: whose answer is refused must not depend on how busy this machine is.
async fn client(world: &World, nodes: &[&FakeNode]) -> Client {
    builder(world, nodes).hedge_after(NODE_DEADLINE).start().await.unwrap()
}

fn builder(world: &World, nodes: &[&FakeNode]) -> Builder {
    let nodes = nodes.iter().map(|node| node.multiaddr.clone());
    Client::builder(world.spec.clone(), key(21)).nodes(nodes)
}

fn lamp() -> Target {
    Target::Name(name("lamp"))
}

#[tokio::test]
async fn a_name_leads_to_a_proven_device() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let client = client(&world, &[&node]).await;
    let resolved = client.resolve(&lamp()).await.unwrap();
    assert_eq!((resolved.device, resolved.record.fleet), (device(20), 7));
    assert_eq!(resolved.name, Some(name("lamp")));
    assert!(resolved.route.is_none());
    let provenance = resolved.provenance;
    assert_eq!((provenance.number, provenance.signers, provenance.threshold), (101, 2, 2));
    assert_eq!((provenance.node, provenance.refused.len()), (node.peer, 0));
    assert!(provenance.bytes > 500 && provenance.age < 60);
    let by_id = client.resolve(&Target::Device(device(20))).await.unwrap();
    assert_eq!((by_id.record, by_id.name), (resolved.record, None));
    client.shutdown().await;
}

#[tokio::test]
async fn a_revoked_device_resolves_to_its_tombstone() {
    let world = World::new();
    world.set_status(device(20), DeviceStatus::Revoked);
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let client = client(&world, &[&node]).await;
    let resolved = client.resolve(&lamp()).await.unwrap();
    assert_eq!(resolved.record.status, DeviceStatus::Revoked);
    client.shutdown().await;
}

#[tokio::test]
async fn every_no_is_proven_and_typed() {
    let world = World::new();
    let pointing = |kind, expiry| {
        NameRecord { target: Address::repeat_byte(0x77), expiry, kind: Some(kind), version: 1 }.encode()
    };
    world.mine([
        (Slot::Name(name("a-node").label_hash()), pointing(NameKind::Node, NEVER)),
        (Slot::Name(name("over").label_hash()), pointing(NameKind::Device, 1_000)),
        (Slot::Name(name("ghost").label_hash()), pointing(NameKind::Device, NEVER)),
    ]);
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let client = client(&world, &[&node]).await;
    let ghost = windlass_client::DeviceId(Address::repeat_byte(0x77));
    let cases = [
        ("nobody", Denial::NoSuchName),
        ("over", Denial::NameExpired),
        ("a-node", Denial::NoDevice),
        ("ghost", Denial::NotRegistered(ghost)),
    ];
    for (text, expected) in cases {
        let error = client.resolve(&Target::Name(name(text))).await.unwrap_err();
        assert!(error.is_proven_no(), "{error}");
        assert!(matches!(error, ResolveError::Denied { denial, .. } if denial == expected), "{error}");
    }
    client.shutdown().await;
}

/// Resolves with a node of this manner ahead of an honest one: the first is refused, the second believed.
async fn refusal_of(manner: Manner) -> RefusedNode {
    let world = World::new();
    let liar = FakeNode::start(&world, 10, manner).await;
    let honest = FakeNode::start(&world, 11, Manner::Honest).await;
    let client = client(&world, &[&liar, &honest]).await;
    // What a client verified before is what a later answer must not fall behind.
    if matches!(manner, Manner::Behind | Manner::Fork) {
        liar.behave(Manner::Honest);
        client.resolve(&lamp()).await.unwrap();
        client.forget();
        liar.behave(manner);
    }
    let resolved = client.resolve(&lamp()).await.unwrap();
    assert_eq!(resolved.device, device(20));
    assert_eq!(resolved.provenance.node, honest.peer);
    let [refused] = &resolved.provenance.refused[..] else { panic!("{:?}", resolved.provenance.refused) };
    assert_eq!((refused.peer, &refused.multiaddr), (liar.peer, &liar.multiaddr));
    assert_eq!(refused.address, key(10).address());
    // Whoever lied or failed is not asked again while an honest node answers; being behind is no fault.
    let asked = liar.asked();
    client.forget();
    client.resolve(&lamp()).await.unwrap();
    assert!(liar.asked() == asked || matches!(refused.reason, Rejection::Older { .. }));
    client.shutdown().await;
    refused.clone()
}

#[tokio::test]
async fn a_flipped_value_is_refused() {
    let reason = refusal_of(Manner::WrongValue).await.reason;
    assert!(
        matches!(reason, Rejection::Unproven(BundleError::Slot { .. } | BundleError::Storage(_))),
        "{reason}"
    );
}

#[tokio::test]
async fn a_truncated_proof_is_refused() {
    let reason = refusal_of(Manner::Truncated).await.reason;
    assert!(matches!(reason, Rejection::Unproven(BundleError::Slot { .. })), "{reason}");
}

#[tokio::test]
async fn a_forged_absence_is_refused() {
    let reason = refusal_of(Manner::ForgedAbsence).await.reason;
    assert!(matches!(reason, Rejection::Unproven(_)), "{reason}");
}

#[tokio::test]
async fn a_node_nobody_needs_is_refused() {
    let reason = refusal_of(Manner::Padded).await.reason;
    assert!(matches!(reason, Rejection::Unproven(BundleError::Storage(_))), "{reason}");
}

#[tokio::test]
async fn a_head_older_than_one_verified_is_refused() {
    let reason = refusal_of(Manner::Behind).await.reason;
    assert!(matches!(reason, Rejection::Older { number: 100, highest: 101 }), "{reason}");
}

#[tokio::test]
async fn another_block_at_a_verified_height_is_refused() {
    let reason = refusal_of(Manner::Fork).await.reason;
    assert!(matches!(reason, Rejection::Conflict { number: 101, .. }), "{reason}");
}

#[tokio::test]
async fn a_head_nobody_vouched_for_lately_is_refused() {
    let reason = refusal_of(Manner::Aged).await.reason;
    assert!(matches!(reason, Rejection::TooOld { age: 700.., max_age: 600 }), "{reason}");
}

#[tokio::test]
async fn a_strangers_attestation_is_refused() {
    let reason = refusal_of(Manner::Stranger).await.reason;
    let committee = |reason: &Rejection| {
        matches!(reason, Rejection::Unproven(BundleError::Head(HeadError::NotCommittee { .. })))
    };
    assert!(committee(&reason), "{reason}");
}

#[tokio::test]
async fn too_few_attestations_are_refused() {
    let reason = refusal_of(Manner::TooFew).await.reason;
    let few = matches!(
        reason,
        Rejection::Unproven(BundleError::Head(HeadError::TooFew { signers: 1, threshold: 2, .. }))
    );
    assert!(few, "{reason}");
}

#[tokio::test]
async fn noise_is_refused() {
    let reason = refusal_of(Manner::Garbage).await.reason;
    assert!(matches!(reason, Rejection::Malformed(_)), "{reason}");
}

#[tokio::test]
async fn a_route_that_another_key_signed_is_no_route_and_no_nodes_fault() {
    // A rotation alone makes every node that keeps the old key's route answer like this.
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::FalseRoute).await;
    let client = client(&world, &[&node]).await;
    let resolved = client.resolve(&lamp()).await.unwrap();
    assert_eq!(resolved.device, device(20));
    assert!(resolved.route.is_none(), "{:?}", resolved.route);
    assert!(resolved.provenance.refused.is_empty(), "{:?}", resolved.provenance.refused);
    client.shutdown().await;
}

#[tokio::test]
async fn a_silent_node_is_not_waited_for() {
    let world = World::new();
    let silent = FakeNode::start(&world, 10, Manner::Silent).await;
    let honest = FakeNode::start(&world, 11, Manner::Honest).await;
    let client = builder(&world, &[&silent, &honest]).start().await.unwrap();
    let provenance = client.resolve(&lamp()).await.unwrap().provenance;
    assert_eq!(provenance.node, honest.peer);
    assert!(provenance.took >= HEDGE_AFTER, "{:?}", provenance.took);
    let [named] = &provenance.refused[..] else { panic!("{:?}", provenance.refused) };
    assert!(named.peer == silent.peer && matches!(named.reason, Rejection::Silent { .. }), "{named}");
    client.forget();
    assert_eq!(client.resolve(&lamp()).await.unwrap().provenance.node, honest.peer);
    honest.behave(Manner::Silent);
    client.forget();
    let error = client.resolve(&lamp()).await.unwrap_err();
    assert_eq!(error.refused().len(), 2, "{error}");
    for node in error.refused() {
        assert!(matches!(node.reason, Rejection::Silent { .. }), "{}", node.reason);
    }
    client.shutdown().await;
}

/// A fixed bug: nodes were asked strictly one after the other, and time ran out on the silent ones.
#[tokio::test]
async fn silent_nodes_in_front_do_not_hide_an_honest_one() {
    let world = World::new();
    let mut nodes = Vec::new();
    for seed in 10..16 {
        nodes.push(FakeNode::start(&world, seed, Manner::Silent).await);
    }
    nodes.push(FakeNode::start(&world, 16, Manner::Honest).await);
    let client = builder(&world, &nodes.iter().collect::<Vec<_>>()).start().await.unwrap();
    let resolved = client.resolve(&lamp()).await.unwrap();
    assert_eq!(resolved.provenance.node, nodes[6].peer);
    client.shutdown().await;
}

#[tokio::test]
async fn a_node_that_declines_is_named_and_its_text_made_harmless() {
    let reason = refusal_of(Manner::Declines).await.reason;
    let Rejection::Declined { reason: Reason::NotReady, text } = &reason else { panic!("{reason}") };
    assert_eq!(text, "still syncing[31m");
}

#[tokio::test]
async fn a_node_that_is_gone_is_named() {
    let world = World::new();
    let gone = FakeNode::start(&world, 10, Manner::Honest).await;
    let honest = FakeNode::start(&world, 11, Manner::Honest).await;
    let client = client(&world, &[&gone, &honest]).await;
    let peer = gone.peer;
    drop(gone);
    let resolved = client.resolve(&lamp()).await.unwrap();
    let [refused] = &resolved.provenance.refused[..] else { panic!("{:?}", resolved.provenance.refused) };
    assert_eq!(refused.peer, peer);
    assert!(matches!(refused.reason, Rejection::Unreachable(_)), "{}", refused.reason);
    client.shutdown().await;
}

#[tokio::test]
async fn with_liars_only_the_error_names_each() {
    let world = World::new();
    let first = FakeNode::start(&world, 10, Manner::WrongValue).await;
    let second = FakeNode::start(&world, 11, Manner::Stranger).await;
    let client = client(&world, &[&first, &second]).await;
    let error = client.resolve(&lamp()).await.unwrap_err();
    assert!(!error.is_proven_no());
    assert_eq!(error.refused().iter().map(|node| node.peer).collect::<Vec<_>>(), [first.peer, second.peer]);
    let text = error.to_string();
    for node in error.refused() {
        assert!(text.contains(&node.address.to_string()), "{text}");
    }
    client.shutdown().await;
}

#[tokio::test]
async fn a_node_that_is_behind_is_asked_again_until_it_caught_up() {
    let world = World::new();
    let node = Arc::new(FakeNode::start(&world, 10, Manner::Honest).await);
    let client = client(&world, &[&node]).await;
    client.resolve(&lamp()).await.unwrap();
    client.forget();
    node.behave(Manner::Behind);
    let catching_up = async {
        node.next_question().await;
        node.behave(Manner::Honest);
    };
    let lamp = lamp();
    let (resolved, ()) = tokio::join!(client.resolve(&lamp), catching_up);
    let provenance = resolved.unwrap().provenance;
    assert_eq!(provenance.node, node.peer);
    assert!(matches!(provenance.refused[0].reason, Rejection::Older { .. }));
    client.shutdown().await;
}

#[tokio::test]
async fn a_node_that_is_starting_is_asked_again_until_it_is_ready() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Declines).await;
    let client = client(&world, &[&node]).await;
    let lamp = lamp();
    let starting = async {
        node.next_question().await;
        node.behave(Manner::Honest);
    };
    let (resolved, ()) = tokio::join!(client.resolve(&lamp), starting);
    assert_eq!(resolved.unwrap().device, device(20));
    client.shutdown().await;
}

#[tokio::test]
async fn never_back_holds_over_a_restart() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let store = Arc::new(MemoryHeadStore::default());
    let start = || async {
        let builder = Client::builder(world.spec.clone(), key(21)).nodes([node.multiaddr.clone()]);
        builder.head_store(store.clone()).start().await.unwrap()
    };
    let first = start().await;
    first.resolve(&lamp()).await.unwrap();
    first.shutdown().await;
    assert_eq!(store.load(world.spec.network()).unwrap().unwrap().number, 101);
    node.behave(Manner::Behind);
    let second = start().await;
    let error = second.resolve(&lamp()).await.unwrap_err();
    assert!(matches!(error.refused()[0].reason, Rejection::Older { number: 100, highest: 101 }), "{error}");
    second.shutdown().await;
}

#[tokio::test]
async fn several_questions_are_answered_under_one_head() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let client = client(&world, &[&node]).await;
    let questions = vec![Question::Fleet(7), Question::Slot(Slot::Device(device(22))), Question::Fleet(999)];
    let answer = client.ask(questions).await.unwrap();
    assert_eq!(answer.bundle.fleet(7).unwrap().unwrap().policy_epoch, 1);
    assert_eq!(answer.bundle.device(device(22)).unwrap().unwrap().fleet, 8);
    assert_eq!(answer.bundle.fleet(999).unwrap(), None);
    // What isn't answered by slots is nobody's lie: nobody is asked.
    let asked = node.asked();
    for question in [Question::Committee(1), Question::Spec(1)] {
        let error = client.ask(vec![question]).await.unwrap_err();
        assert!(error.to_string().contains("no node was asked"), "{error}");
    }
    assert_eq!(node.asked(), asked);
    client.shutdown().await;
}

#[tokio::test]
async fn without_a_usable_node_nothing_starts() {
    let world = World::new();
    let start = Client::builder(world.spec.clone(), key(21)).start().await;
    assert!(matches!(start, Err(StartError::Node(NodeError::None))));
}
