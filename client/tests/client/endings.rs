//! However a client ends, nothing of it goes on.

use crate::streams::{Scene, lamp, start};
use crate::world::SERVICE;
use std::io;
use tokio::io::AsyncReadExt;
use windlass_client::{Ended, OpenError, Policy};

#[tokio::test]
async fn a_client_dropped_without_shutdown_ends_all_that_was_its_own() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    let mut events = caller.events();
    let (near, mut far) = scene.connect(&caller).await;
    drop(caller);
    assert_eq!(near.end_reason(), Some(Ended::Stopped));
    let error = far.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    while events.next().await.is_some() {}

    // A publisher, with a stream that somebody has accepted.
    let caller = scene.caller(21).await;
    let (mut near, far) = scene.connect(&caller).await;
    let Scene { world, nodes, publisher, mut publication } = scene;
    let mut events = publisher.events();
    drop(publisher);
    assert_eq!(far.end_reason(), Some(Ended::Stopped));
    assert!(publication.accept().await.is_none());
    let error = near.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    while events.next().await.is_some() {}
    // Its connections are gone as well: its route still stands, and leads to nobody.
    let other = start(&world, &nodes, 21).await;
    let error = other.open(&lamp(), SERVICE).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. } | OpenError::NoRoute { .. }), "{error}");
    // Another one of the same key takes its place.
    let again = start(&world, &nodes, 20).await;
    let mut publication = again.publish(SERVICE, Policy::default()).await.unwrap();
    let lamp = lamp();
    let (opened, accepted) = tokio::join!(other.open(&lamp, SERVICE), publication.accept());
    assert!(opened.is_ok() && accepted.is_some());
    for client in [caller, other, again] {
        client.shutdown().await;
    }
}

#[test]
fn a_client_that_outlives_its_runtime_is_dropped_without_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (scene, caller, near, far) = runtime.block_on(async {
        let mut scene = Scene::new(Policy::default()).await;
        let caller = scene.caller(21).await;
        let (near, far) = scene.connect(&caller).await;
        (scene, caller, near, far)
    });
    drop(runtime);
    drop(caller);
    assert_eq!(near.end_reason(), Some(Ended::Stopped));
    drop((scene, near, far));
}
