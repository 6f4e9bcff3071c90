//! Asking and opening again: what was proven is used while it holds, and never after it changed.

use crate::{
    fake_node::{FakeNode, Manner},
    streams::{Scene, lamp},
    world::{FLEET, SERVICE, World, device, key, name},
};
use std::sync::Arc;
use windlass_client::{Client, Mode, OpenError, Policy, Question, Source, Target};
use windlass_protocol::{
    B256,
    grant::{GrantService, GrantTarget, Grantee, grant_id, parties_hash},
    record::DeviceStatus,
    slot::Slot,
};

fn asked(scene: &Scene) -> u64 {
    scene.nodes.iter().map(|node| node.asked()).sum()
}

/// The grant of the service on device 20 to device 21.
fn grant() -> Slot {
    let parties = parties_hash(
        GrantTarget::Device(device(20)),
        Grantee::Device(device(21)),
        GrantService::One(SERVICE),
    );
    Slot::Grant(grant_id(FLEET, parties))
}

/// Waits until every node was told by the caller to watch this slot.
async fn watched(scene: &Scene, slot: Slot) {
    for node in &scene.nodes {
        node.watches(slot).await;
    }
}

#[tokio::test]
async fn a_second_open_asks_no_node() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    assert_eq!(caller.look_up(&lamp()), None);
    drop(scene.connect(&caller).await);
    let before = asked(&scene);
    for _ in 0..5 {
        drop(scene.connect(&caller).await);
    }
    assert_eq!(asked(&scene), before);
    // What is proven can be looked up as well, by name and by id, with its age.
    let known = caller.look_up(&lamp()).unwrap();
    assert_eq!((known.device, known.number), (device(20), 101));
    assert!(known.age < 60 && known.record.status == DeviceStatus::Active);
    assert_eq!(caller.look_up(&Target::Device(device(20))).unwrap().record, known.record);
    assert_eq!(caller.look_up(&Target::Name(name("nobody"))), None);
    caller.shutdown().await;
    scene.publisher.shutdown().await;
}

#[tokio::test]
async fn blocks_that_change_nothing_keep_it_warm() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    let live = scene.connect(&caller).await;
    watched(&scene, grant()).await;
    let before = asked(&scene);
    let mut heads = caller.events();
    scene.world.mine([]);
    // The same root under a newer head: one header with its account proof makes all of it new.
    while !matches!(heads.next().await, Some(windlass_client::Event::Head(head)) if head.number == 102) {}
    drop(scene.connect(&caller).await);
    assert_eq!(asked(&scene), before);
    while caller.look_up(&lamp()).unwrap().number != 102 {
        tokio::task::yield_now().await;
    }
    drop(live);
    caller.shutdown().await;
    scene.publisher.shutdown().await;
}

#[tokio::test]
async fn a_change_takes_it_back_at_once() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    drop(scene.connect(&caller).await);
    watched(&scene, Slot::Device(device(20))).await;
    scene.world.set_status(device(20), DeviceStatus::Suspended);
    // Nothing is open any more: what is kept is watched for itself.
    loop {
        let known = caller.look_up(&lamp()).unwrap();
        if known.record.status == DeviceStatus::Suspended {
            break;
        }
        tokio::task::yield_now().await;
    }
    let error = caller.open(&lamp(), SERVICE).await.unwrap_err();
    assert!(matches!(error, OpenError::Suspended { device: id } if id == device(20)), "{error}");
    caller.shutdown().await;
    scene.publisher.shutdown().await;
}

#[tokio::test]
async fn a_refusal_of_what_was_kept_is_asked_anew() {
    let policy = Policy { mode: Mode::Private { grants: true, list: Vec::new() }, ..Policy::default() };
    let mut scene = Scene::new(policy).await;
    let caller = scene.caller(21).await;
    drop(scene.connect(&caller).await);
    // The caller may or may not have heard of it yet.
    scene.world.mine([(grant(), B256::ZERO)]);
    let lamp = lamp();
    let error = loop {
        tokio::select! {
            opened = caller.open(&lamp, SERVICE) => match opened {
                Ok(stream) => drop(stream),
                Err(error) => break error,
            },
            accepted = scene.publication.accept() => drop(accepted),
        }
    };
    assert!(matches!(error, OpenError::NoGrant { .. }), "{error}");
    caller.shutdown().await;
    scene.publisher.shutdown().await;
}

/// A world, a node, and a client for which an answer of twelve minutes ago is old, but not too old.
async fn asking() -> (Arc<World>, FakeNode, Client) {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let builder = Client::builder(world.spec.clone(), key(21)).nodes([node.multiaddr.clone()]);
    let client = builder.max_age(1_200).start().await.unwrap();
    (world, node, client)
}

#[tokio::test]
async fn the_same_asked_again_is_answered_from_what_was_proven() {
    let (_world, node, client) = asking().await;
    let questions = vec![Question::Fleet(FLEET), Question::Slot(Slot::Device(device(22)))];
    let (first, answer) =
        (client.resolve(&lamp()).await.unwrap(), client.ask(questions.clone()).await.unwrap());
    assert_eq!((first.provenance.source, answer.provenance.source), (Source::Asked, Source::Asked));
    // The question for the route apart: device 20 published none.
    let before = node.asked();
    let (second, again) = (client.resolve(&lamp()).await.unwrap(), client.ask(questions).await.unwrap());
    assert_eq!(node.asked(), before);
    assert_eq!((second.device, second.record, second.name), (first.device, first.record, first.name));
    assert_eq!(again.bundle.values(), answer.bundle.values());
    // It still says under which head, of what age, by how many, and that nobody was asked.
    for (kept, asked) in [(&second.provenance, &first.provenance), (&again.provenance, &answer.provenance)] {
        assert_eq!((kept.source, kept.bytes, kept.refused.len()), (Source::Kept, 0, 0));
        assert_eq!((kept.number, kept.hash, kept.signers), (asked.number, asked.hash, asked.signers));
        assert_eq!((kept.threshold, kept.epoch, kept.spec), (asked.threshold, asked.epoch, asked.spec));
        assert!(kept.age >= asked.age && kept.node == asked.node);
    }
    // Other questions are others' answers.
    assert_eq!(client.ask(vec![Question::Fleet(8)]).await.unwrap().provenance.source, Source::Asked);
    client.forget();
    assert_eq!(client.resolve(&lamp()).await.unwrap().provenance.source, Source::Asked);
    client.shutdown().await;
}

#[tokio::test]
async fn an_old_answer_is_made_new_by_the_head_alone_where_the_root_held() {
    let (world, node, client) = asking().await;
    node.behave(Manner::Aged);
    let first = client.resolve(&lamp()).await.unwrap();
    assert!(first.provenance.age >= 700);
    node.behave(Manner::Honest);
    world.mine([]);
    let before = node.asked();
    let second = client.resolve(&lamp()).await.unwrap();
    assert_eq!((node.asked(), second.provenance.source), (before + 1, Source::Revalidated));
    assert_eq!((second.provenance.number, second.device, second.record), (102, first.device, first.record));
    assert!(second.provenance.age < 60 && second.provenance.signers == 2);
    assert!(second.provenance.bytes > 0 && second.provenance.bytes < first.provenance.bytes);
    // From now on it is fresh.
    assert_eq!(client.resolve(&lamp()).await.unwrap().provenance.source, Source::Kept);
    assert_eq!(node.asked(), before + 1);
    client.shutdown().await;
}

#[tokio::test]
async fn where_the_root_changed_an_old_answer_is_asked_anew() {
    for changes_the_device in [false, true] {
        let (world, node, client) = asking().await;
        node.behave(Manner::Aged);
        client.resolve(&lamp()).await.unwrap();
        node.behave(Manner::Honest);
        match changes_the_device {
            true => world.set_status(device(20), DeviceStatus::Suspended),
            false => world.set_status(device(22), DeviceStatus::Suspended),
        }
        let before = node.asked();
        let second = client.resolve(&lamp()).await.unwrap();
        assert_eq!((node.asked(), second.provenance.source), (before + 2, Source::Asked));
        assert_eq!(second.record.status == DeviceStatus::Suspended, changes_the_device);
        client.shutdown().await;
    }
}

#[tokio::test]
async fn what_is_asked_twice_is_watched_and_a_change_takes_it_back() {
    let (world, node, client) = asking().await;
    for _ in 0..2 {
        client.resolve(&lamp()).await.unwrap();
    }
    node.watches(Slot::Device(device(20))).await;
    world.set_status(device(20), DeviceStatus::Suspended);
    while client.resolve(&lamp()).await.unwrap().record.status != DeviceStatus::Suspended {
        tokio::task::yield_now().await;
    }
    client.shutdown().await;
}
