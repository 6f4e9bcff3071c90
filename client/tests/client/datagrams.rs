//! Datagrams between devices: their borders, what is lost and when, and how they end.

use crate::{
    fake_node::{FakeNode, Manner},
    streams::{lamp, start},
    world::{SERVICE, World, device},
};
use std::{io, sync::Arc};
use windlass_client::{
    Client, DatagramPublication, Datagrams, MAX_DATAGRAM_BYTES, Mode, OpenError, Policy, PublishError,
    Refusal, SendError, Sent, Service, limits::DATAGRAM_QUEUE,
};
use windlass_protocol::record::DeviceStatus;

const PORT: Service = Service::Datagram(53);

/// A node, device 20 that publishes [`PORT`] to its fleet, and device 21 of that fleet.
struct Scene {
    world: Arc<World>,
    _node: FakeNode,
    publisher: Client,
    publication: DatagramPublication,
    caller: Client,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new();
        let nodes = [FakeNode::start(&world, 10, Manner::Honest).await];
        let (publisher, caller) = (start(&world, &nodes, 20).await, start(&world, &nodes, 21).await);
        let policy = Policy { mode: Mode::Protected, ..Policy::default() };
        let publication = publisher.publish_datagrams(PORT, policy).await.unwrap();
        let [_node] = nodes;
        Self { world, _node, publisher, publication, caller }
    }

    async fn connect(&mut self) -> (Datagrams, Datagrams) {
        let lamp = lamp();
        let opened = self.caller.open_datagrams(&lamp, PORT);
        let (opened, accepted) = tokio::join!(opened, self.publication.accept());
        (opened.unwrap(), accepted.unwrap())
    }

    async fn shutdown(self) {
        self.caller.shutdown().await;
        self.publisher.shutdown().await;
    }
}

#[tokio::test]
async fn datagrams_keep_their_borders_both_ways_and_each_half_ends_alone() {
    let mut scene = Scene::new().await;
    let (mut near, mut far) = scene.connect().await;
    assert_eq!((near.peer(), far.peer()), (device(20), device(21)));
    assert_eq!((near.service(), far.service()), (PORT, PORT));
    assert!(near.authorization().is_some());
    for length in [1, 2, 1_200, 16_382, 16_383, 16_384, 65_507, MAX_DATAGRAM_BYTES] {
        let datagram: Vec<u8> = (0..length).map(|at| at as u8).collect();
        for (from, to) in [(&near, &mut far)] {
            assert_eq!(from.send(&datagram).unwrap(), Sent::Queued);
            from.flush().await.unwrap();
            assert_eq!(to.recv().await.unwrap().unwrap(), datagram, "{length}");
        }
        // Sent back without a flush: whoever waits to receive sends what is queued.
        assert_eq!(far.send(&datagram).unwrap(), Sent::Queued);
        let (back, _) = tokio::join!(near.recv(), far.flush());
        assert_eq!(back.unwrap().unwrap(), datagram, "{length} back");
    }
    near.shutdown().await.unwrap();
    assert_eq!(far.recv().await.unwrap(), None);
    assert!(matches!(near.send(b"late"), Err(SendError::Ended(_))));
    far.send(b"still open").unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(near.recv().await.unwrap().unwrap(), b"still open");
    assert_eq!(near.recv().await.unwrap(), None);
    scene.shutdown().await;
}

#[tokio::test]
async fn what_finds_the_queue_full_is_lost_and_the_rest_arrives_whole_and_in_order() {
    let mut scene = Scene::new().await;
    let (near, mut far) = scene.connect().await;
    // Nobody receives: what the way can't hold waits in the queue, and then is lost.
    let datagram = |number: u32| [&number.to_be_bytes()[..], &[7; 1_020]].concat();
    let mut queued = Vec::new();
    let mut number = 0;
    while near.dropped() < 10 {
        if near.send(&datagram(number)).unwrap() == Sent::Queued {
            queued.push(number);
        }
        number += 1;
        assert!(number < 1_000_000, "nothing is ever lost");
        tokio::task::yield_now().await;
    }
    assert!(queued.len() > DATAGRAM_QUEUE / 4);
    // The newest is what is lost.
    assert_eq!(queued.last(), queued.len().checked_sub(1).map(|last| last as u32).as_ref());
    let receive = async {
        for expected in &queued {
            assert_eq!(far.recv().await.unwrap().unwrap(), datagram(*expected));
        }
    };
    let (flushed, ()) = tokio::join!(near.flush(), receive);
    flushed.unwrap();
    // There is room again; and once it has ended, a full queue says so.
    assert_eq!(near.send(b"again").unwrap(), Sent::Queued);
    near.flush().await.unwrap();
    assert_eq!(far.recv().await.unwrap().unwrap(), b"again");
    let before = near.dropped();
    while near.dropped() == before {
        near.send(&datagram(0)).unwrap();
    }
    scene.caller.shutdown().await;
    assert!(matches!(near.send(&datagram(0)), Err(SendError::Ended(_))));
    scene.publisher.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_a_datagram_is_refused() {
    let mut scene = Scene::new().await;
    let (near, _far) = scene.connect().await;
    for length in [0, MAX_DATAGRAM_BYTES + 1] {
        let refused = near.send(&vec![0; length]);
        assert!(matches!(refused, Err(SendError::Length(said)) if said == length), "{refused:?}");
    }
    scene.shutdown().await;
}

#[tokio::test]
async fn streams_and_datagrams_are_not_taken_for_each_other() {
    let mut scene = Scene::new().await;
    let stream = scene.caller.open(&lamp(), PORT).await.unwrap_err();
    assert!(matches!(stream, OpenError::OtherTransport(PORT)), "{stream}");
    let datagrams = scene.caller.open_datagrams(&lamp(), SERVICE).await.unwrap_err();
    assert!(matches!(datagrams, OpenError::OtherTransport(SERVICE)), "{datagrams}");
    let policy = || Policy { mode: Mode::Public, ..Policy::default() };
    let stream = scene.publisher.publish(PORT, policy()).await.err().unwrap();
    assert!(matches!(stream, PublishError::OtherTransport(PORT)), "{stream}");
    let datagrams = scene.publisher.publish_datagrams(SERVICE, policy()).await.err().unwrap();
    assert!(matches!(datagrams, PublishError::OtherTransport(SERVICE)), "{datagrams}");
    // Of one port there may be both.
    let other = scene.publisher.publish(Service::Stream(53), policy()).await.unwrap();
    let (_near, far) = scene.connect().await;
    assert_eq!(far.service(), PORT);
    drop(other);
    scene.shutdown().await;
}

#[tokio::test]
async fn a_revocation_ends_them_and_dropping_them_is_a_cut() {
    let mut scene = Scene::new().await;
    let (near, mut far) = scene.connect().await;
    drop(near);
    assert_eq!(far.recv().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

    let (mut near, mut far) = scene.connect().await;
    scene.world.set_status(device(21), DeviceStatus::Revoked);
    for end in [&mut near, &mut far] {
        let error = end.recv().await.unwrap_err();
        let expected = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
        assert!(expected.contains(&error.kind()), "{error}");
        assert!(matches!(end.send(b"late"), Err(SendError::Ended(_))));
    }
    let reasons = [near.end_reason(), far.end_reason()];
    let revoked = windlass_client::Ended::Denied(Refusal::Revoked);
    assert!(reasons.contains(&Some(revoked)), "{reasons:?}");
    scene.shutdown().await;
}
