//! A client that slept: it walks from the last committee it knows to the present, whoever lies about the way.

use crate::{
    fake_node::{FakeNode, Manner},
    world::{World, addresses, key, name, now},
};
use std::sync::Arc;
use windlass_client::{
    AskError, Client, HeadStore, MemoryHeadStore, Rejection, Target, Walked, limits::NODE_DEADLINE,
};
use windlass_protocol::{
    bundle::BundleError,
    committee::{ListError, StepError},
    head::HeadError,
};

/// Seconds of an epoch: headers of a development chain may run ahead of the clock by as many as a test needs.
const LENGTH: u64 = 100;

/// A chain with short epochs, and the epoch it is in.
fn world() -> (Arc<World>, u32) {
    let world = World::with(|spec| spec.epoch_length = LENGTH);
    let epoch = world.spec.epoch_at(world.spec.date);
    (world, epoch)
}

async fn client(world: &World, store: &Arc<MemoryHeadStore>, nodes: &[&FakeNode]) -> Client {
    let nodes = nodes.iter().map(|node| node.multiaddr.clone());
    let builder = Client::builder(world.spec.clone(), key(21)).nodes(nodes);
    builder.hedge_after(NODE_DEADLINE).head_store(store.clone()).start().await.unwrap()
}

fn lamp() -> Target {
    Target::Name(name("lamp"))
}

#[tokio::test]
async fn a_client_that_slept_walks_over_every_change_and_goes_on_from_there() {
    let (world, epoch) = world();
    let store = Arc::new(MemoryHeadStore::default());
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let awake = client(&world, &store, &[&node]).await;
    assert_eq!(awake.resolve(&lamp()).await.unwrap().provenance.epoch, epoch);
    awake.shutdown().await;

    world.replace_committee(epoch + 2, &[4, 5, 6]);
    world.replace_committee(epoch + 3, &[5, 6, 7]);
    // Nobody proposes any more: the last committee stays.
    world.mine_at(world.spec.epoch_start(epoch + 40) + 60, []);
    let woken = client(&world, &store, &[&node]).await;
    let resolved = woken.resolve(&lamp()).await.unwrap();
    assert_eq!((resolved.provenance.epoch, resolved.provenance.refused.len()), (epoch + 40, 0));
    woken.shutdown().await;
    let walked = Walked { members: addresses(&[5, 6, 7]), from: epoch + 3, through: epoch + 40 };
    assert_eq!(store.load_committee(world.spec.hash()).unwrap(), Some(walked));

    // From there on one question is enough.
    let asked = node.asked();
    let later = client(&world, &store, &[&node]).await;
    later.resolve(&lamp()).await.unwrap();
    assert_eq!(node.asked(), asked + 1);
    later.shutdown().await;
}

/// Resolves after a change of committee with a node of this manner ahead of an honest one.
async fn refused_on_the_way(manner: Manner) -> Rejection {
    let (world, epoch) = world();
    world.replace_committee(epoch + 1, &[4, 5, 6]);
    world.mine_at(world.spec.epoch_start(epoch + 3) + 60, []);
    let liar = FakeNode::start(&world, 10, manner).await;
    let honest = FakeNode::start(&world, 11, Manner::Honest).await;
    let client = client(&world, &Arc::default(), &[&liar, &honest]).await;
    let resolved = client.resolve(&lamp()).await.unwrap();
    assert_eq!((resolved.provenance.node, resolved.provenance.epoch), (honest.peer, epoch + 3));
    let [refused] = &resolved.provenance.refused[..] else { panic!("{:?}", resolved.provenance.refused) };
    assert_eq!((refused.peer, refused.address), (liar.peer, key(10).address()));
    client.shutdown().await;
    refused.reason.clone()
}

#[tokio::test]
async fn the_retired_committee_is_refused_and_named() {
    let reason = refused_on_the_way(Manner::Retired).await;
    assert!(matches!(reason, Rejection::Retired { .. }) && reason.is_lie(), "{reason}");
    assert!(reason.to_string().contains("is no more"), "{reason}");
}

#[tokio::test]
async fn a_step_under_a_head_of_the_first_half_is_refused() {
    let reason = refused_on_the_way(Manner::FirstHalf).await;
    assert!(matches!(reason, Rejection::Step(StepError::Early { .. })), "{reason}");
}

#[tokio::test]
async fn a_list_that_does_not_hash_to_the_slot_is_refused() {
    let reason = refused_on_the_way(Manner::FalseList).await;
    assert!(matches!(reason, Rejection::Step(StepError::List(ListError::OtherHash { .. }))), "{reason}");
    assert!(reason.is_lie());
}

#[tokio::test]
async fn a_step_with_too_few_signatures_is_refused() {
    let reason = refused_on_the_way(Manner::LoneStep).await;
    assert!(matches!(reason, Rejection::Unproven(BundleError::Head(HeadError::TooFew { .. }))), "{reason}");
}

#[tokio::test]
async fn a_step_over_an_epoch_with_a_committee_of_its_own_is_refused() {
    let reason = refused_on_the_way(Manner::StepsOver).await;
    assert!(matches!(reason, Rejection::Step(StepError::Skipped(_))) && reason.is_lie(), "{reason}");
}

#[tokio::test]
async fn who_evades_the_question_is_refused() {
    let reason = refused_on_the_way(Manner::Evades).await;
    assert!(matches!(reason, Rejection::NotTheQuestion), "{reason}");
}

#[tokio::test]
async fn past_the_trusting_period_no_walk_begins() {
    let world = World::with(|spec| {
        spec.epoch_length = LENGTH;
        spec.trusting_period = 500;
        spec.date = now() - 900;
    });
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let client = client(&world, &Arc::default(), &[&node]).await;
    let error = client.ask(vec![]).await.unwrap_err();
    let AskError::NoNode { refused } = &error else { panic!("{error}") };
    let [refused] = &refused[..] else { panic!("{refused:?}") };
    assert!(matches!(refused.reason, Rejection::Step(StepError::Expired { .. })), "{}", refused.reason);
    // The chain spec is too old, and no node can help that.
    assert!(!refused.reason.is_lie() && error.to_string().contains("newer chain spec"), "{error}");
    client.shutdown().await;
}
