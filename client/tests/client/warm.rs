//! Opening again: what was proven is used while it holds, and never after it changed.

use crate::{
    streams::{Scene, lamp},
    world::{FLEET, SERVICE, device, name},
};
use windlass_client::{Mode, OpenError, Policy, Target};
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
