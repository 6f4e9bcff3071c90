//! Publishing and opening through relays, and what ends a live stream.

use crate::{
    fake_node::{FakeNode, Manner},
    world::{SERVICE, World, device, key, name, now},
};
use futures::future::join_all;
use std::{io, sync::Arc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use windlass_client::{
    Client, Clock, DeviceId, Ended, Event, Events, Listed, Mode, OpenError, Path, Policy, Publication,
    PublishError, Refusal, Service, Stream, Target,
};
use windlass_p2p::identity;
use windlass_protocol::{
    B256,
    grant::{GrantService, GrantTarget, Grantee, grant_id, parties_hash},
    record::{DeviceRecord, DeviceStatus},
    slot::Slot,
};

/// Two relaying nodes and device 20, which publishes [`SERVICE`].
pub(crate) struct Scene {
    pub(crate) world: Arc<World>,
    pub(crate) nodes: Vec<FakeNode>,
    pub(crate) publisher: Client,
    pub(crate) publication: Publication,
}

impl Scene {
    pub(crate) async fn new(policy: Policy) -> Self {
        Self::with(policy, &[Manner::Honest, Manner::Honest]).await
    }

    pub(crate) async fn with(policy: Policy, manners: &[Manner]) -> Self {
        let world = World::new();
        let mut nodes = Vec::new();
        for (seed, manner) in (10..).zip(manners) {
            nodes.push(FakeNode::start(&world, seed, *manner).await);
        }
        let publisher = start(&world, &nodes, 20).await;
        let publication = publisher.publish(SERVICE, policy).await.unwrap();
        Self { world, nodes, publisher, publication }
    }

    pub(crate) async fn caller(&self, seed: u8) -> Client {
        start(&self.world, &self.nodes, seed).await
    }

    /// Opens the service as device 21 and returns both ends.
    pub(crate) async fn connect(&mut self, caller: &Client) -> (Stream, Stream) {
        let lamp = lamp();
        let (opened, accepted) = tokio::join!(caller.open(&lamp, SERVICE), self.publication.accept());
        (opened.unwrap(), accepted.unwrap())
    }
}

pub(crate) async fn start(world: &World, nodes: &[FakeNode], seed: u8) -> Client {
    let nodes = nodes.iter().map(|node| node.multiaddr.clone());
    // On one machine the way would be direct a moment after the first stream.
    Client::builder(world.spec.clone(), key(seed)).nodes(nodes).punch(false).start().await.unwrap()
}

pub(crate) fn lamp() -> Target {
    Target::Name(name("lamp"))
}

fn mode(mode: Mode) -> Policy {
    Policy { mode, ..Policy::default() }
}

/// What a reader sees of a stream that somebody else ended.
async fn read_error(stream: &mut Stream) -> io::ErrorKind {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap_err().kind()
}

#[tokio::test]
async fn a_granted_device_opens_by_name_and_both_ends_know_each_other() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    let (mut near, mut far) = scene.connect(&caller).await;
    assert_eq!((near.peer(), far.peer()), (device(20), device(21)));
    assert_eq!((near.service(), far.service()), (SERVICE, SERVICE));
    let Path::Relayed { via } = near.path() else { panic!("{}", near.path()) };
    assert!(scene.nodes.iter().any(|node| node.peer == via));
    let rests = far.authorization().unwrap();
    assert!(rests.slots.contains(&Slot::Device(device(21))) && rests.slots.contains(&Slot::Fleet(7)));
    assert_eq!((rests.slots.len(), rests.number), (4, 101));
    assert!(near.authorization().unwrap().slots.contains(&Slot::Device(device(20))));

    // A megabyte there, its end, and a megabyte back after it.
    let sent: Vec<u8> = (0..1_000_000u32).map(|at| at as u8).collect();
    let there = async {
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
        let mut back = Vec::new();
        near.read_to_end(&mut back).await.unwrap();
        back
    };
    let back = async {
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        far.write_all(&received).await.unwrap();
        far.shutdown().await.unwrap();
    };
    let (received, ()) = tokio::join!(there, back);
    assert!(received == sent);
    assert_eq!((near.end_reason(), far.end_reason()), (None, None));
    caller.shutdown().await;
    scene.publisher.shutdown().await;
}

#[tokio::test]
async fn a_publisher_holds_reservations_at_two_nodes_and_tells_both_its_route() {
    let scene = Scene::new(Policy::default()).await;
    assert_eq!(scene.publication.relays().len(), 2);
    assert!(scene.nodes.iter().all(|node| node.holds_route(device(20))));
    let resolved = scene.caller(21).await.resolve(&lamp()).await.unwrap();
    assert_eq!(resolved.route.unwrap().route().relays.len(), 2);
}

#[tokio::test]
async fn who_may_not_is_told_why() {
    let scene = Scene::new(Policy::default()).await;
    let refusal = async |seed: u8| scene.caller(seed).await.open(&lamp(), SERVICE).await.unwrap_err();
    let error = refusal(22).await;
    assert!(matches!(error, OpenError::NoGrant { device: id, .. } if id == device(20)), "{error}");
    let error = refusal(30).await;
    assert!(matches!(error, OpenError::NotRegistered { device: id } if id == device(30)), "{error}");
    assert!(error.is_proven_no());
    let elsewhere = scene.caller(21).await.open(&lamp(), Service::Stream(1)).await.unwrap_err();
    assert!(
        matches!(elsewhere, OpenError::Refused { refusal: Some(Refusal::NoService), code: 6, .. }),
        "{elsewhere}"
    );
}

#[tokio::test]
async fn a_callers_own_standing_is_judged_before_anybody_is_dialled() {
    let scene = Scene::new(Policy::default()).await;
    scene.world.set_status(device(21), DeviceStatus::Suspended);
    let error = scene.caller(21).await.open(&lamp(), SERVICE).await.unwrap_err();
    assert!(matches!(error, OpenError::Suspended { device: id } if id == device(21)), "{error}");
    let nodes = scene.nodes.iter().map(|node| node.multiaddr.clone());
    let builder = Client::builder(scene.world.spec.clone(), key(22)).nodes(nodes);
    let impostor = builder.device_id(device(21)).start().await.unwrap();
    scene.world.set_status(device(21), DeviceStatus::Active);
    let error = impostor.open(&lamp(), SERVICE).await.unwrap_err();
    assert!(matches!(error, OpenError::NotOurKey { device: id } if id == device(21)), "{error}");
    assert!(error.is_proven_no());
}

#[tokio::test]
async fn a_revoked_or_absent_target_is_not_dialled() {
    let world = World::new();
    let nodes = vec![FakeNode::start(&world, 10, Manner::Honest).await];
    let caller = start(&world, &nodes, 21).await;
    let error = caller.open(&lamp(), SERVICE).await.unwrap_err();
    assert!(matches!(error, OpenError::NoRoute { device: id } if id == device(20)), "{error}");
    world.set_status(device(20), DeviceStatus::Revoked);
    let error = caller.open(&lamp(), SERVICE).await.unwrap_err();
    assert!(matches!(error, OpenError::Revoked { device: id } if id == device(20)), "{error}");
    let error = caller.open(&Target::Name(name("nobody")), SERVICE).await.unwrap_err();
    assert!(matches!(error, OpenError::Denied { .. }) && error.is_proven_no(), "{error}");
}

#[tokio::test]
async fn public_protected_and_listed_services_let_in_whom_they_name() {
    let cases = [
        (Mode::Public, 30, true),
        (Mode::Public, 22, true),
        (Mode::Protected, 21, true),
        (Mode::Protected, 22, false),
        (Mode::Private { grants: false, list: vec![Listed::Fleet(8)] }, 22, true),
        (Mode::Private { grants: false, list: vec![Listed::Device(device(22))] }, 22, true),
        (Mode::Private { grants: false, list: vec![Listed::Device(device(22))] }, 21, false),
    ];
    for (rules, seed, let_in) in cases {
        let mut scene = Scene::new(mode(rules.clone())).await;
        let caller = scene.caller(seed).await;
        if let_in {
            let (_near, far) = scene.connect(&caller).await;
            assert_eq!(far.peer(), device(seed), "{rules:?}");
        } else {
            let error = caller.open(&lamp(), SERVICE).await.unwrap_err();
            assert!(matches!(error, OpenError::NoGrant { .. }), "{rules:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_route_that_only_another_node_holds_is_found() {
    let mut scene = Scene::new(Policy::default()).await;
    scene.nodes[0].forget_routes();
    let caller = scene.caller(21).await;
    let (near, _far) = scene.connect(&caller).await;
    assert_eq!(near.peer(), device(20));
}

#[tokio::test]
async fn revoking_the_caller_cuts_the_stream_on_both_ends() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    let (mut near, mut far) = scene.connect(&caller).await;
    // Nobody reads or writes meanwhile: the cut doesn't wait for the application.
    let (near_end, far_end) = (near.ended(), far.ended());
    scene.world.set_status(device(21), DeviceStatus::Revoked);
    assert_eq!(far_end.await, Ended::Denied(Refusal::Revoked));
    assert_eq!(near_end.await, Ended::Denied(Refusal::Revoked));
    for stream in [&mut near, &mut far] {
        assert_eq!(read_error(stream).await, io::ErrorKind::ConnectionAborted);
        let error = stream.write_all(b"more").await.unwrap_err();
        let reason = error.get_ref().and_then(|source| source.downcast_ref::<Ended>());
        assert_eq!(reason, Some(&Ended::Denied(Refusal::Revoked)));
        assert!(stream.authorization().is_none());
    }
}

#[tokio::test]
async fn a_withdrawn_grant_cuts_the_stream_of_a_blocked_reader() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    let (mut near, mut far) = scene.connect(&caller).await;
    let parties = parties_hash(
        GrantTarget::Device(device(20)),
        Grantee::Device(device(21)),
        GrantService::One(SERVICE),
    );
    let withdrawal = async { scene.world.mine([(Slot::Grant(grant_id(7, parties)), B256::ZERO)]) };
    let (far_error, near_error, ()) = tokio::join!(read_error(&mut far), read_error(&mut near), withdrawal);
    assert_eq!((far_error, near_error), (io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset));
    assert_eq!(far.end_reason(), Some(Ended::Denied(Refusal::NoGrant)));
}

#[tokio::test]
async fn revoking_the_publisher_cuts_the_stream_on_both_ends() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    let (near, far) = scene.connect(&caller).await;
    let (near_end, far_end) = (near.ended(), far.ended());
    scene.world.set_status(device(20), DeviceStatus::Revoked);
    assert_eq!(near_end.await, Ended::Denied(Refusal::Revoked));
    // A publisher without standing has nothing to grant with.
    assert_eq!(far_end.await, Ended::Denied(Refusal::Stale));
}

/// A fixed bug: behind a half that was closed already, a cut looked like an orderly end, or like nothing at all.
#[tokio::test]
async fn a_cut_is_told_as_a_cut_whichever_halves_are_closed() {
    for (near_closed, far_closed) in [(false, false), (true, false), (false, true)] {
        for revoked in [true, false] {
            let mut scene = Scene::new(Policy::default()).await;
            let caller = scene.caller(21).await;
            let (mut near, mut far) = scene.connect(&caller).await;
            far.write_all(b"half of the answer").await.unwrap();
            far.flush().await.unwrap();
            let mut start = [0; 18];
            near.read_exact(&mut start).await.unwrap();
            if near_closed {
                near.shutdown().await.unwrap();
                assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
            }
            if far_closed {
                far.shutdown().await.unwrap();
                assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
            }
            // The caller doesn't watch its own grant, so only the other side's cut can end its stream.
            if revoked {
                let parties = parties_hash(
                    GrantTarget::Device(device(20)),
                    Grantee::Device(device(21)),
                    GrantService::One(SERVICE),
                );
                let ended = far.ended();
                scene.world.mine([(Slot::Grant(grant_id(7, parties)), B256::ZERO)]);
                assert_eq!(ended.await, Ended::Denied(Refusal::NoGrant));
            } else {
                drop(far);
            }
            let case = format!("near closed: {near_closed}, far closed: {far_closed}, revoked: {revoked}");
            if !far_closed {
                assert_eq!(read_error(&mut near).await, io::ErrorKind::ConnectionReset, "{case}");
            }
            if !near_closed {
                let written = async {
                    loop {
                        if let Err(error) = near.write_all(&[7; 4_096]).await {
                            return error.kind();
                        }
                    }
                };
                assert_eq!(written.await, io::ErrorKind::ConnectionReset, "{case}");
            }
            assert_eq!(near.end_reason(), None, "{case}");
        }
    }
}

/// A fixed bug: whoever waited for a stream's end kept it open after it was dropped.
#[tokio::test]
async fn waiting_for_the_end_of_a_stream_does_not_keep_it_open() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    let (near, mut far) = scene.connect(&caller).await;
    let waiting = tokio::spawn(near.ended());
    drop(near);
    assert_eq!(read_error(&mut far).await, io::ErrorKind::ConnectionReset);
    assert!(!waiting.is_finished());
    waiting.abort();
}

#[tokio::test]
async fn withdrawing_a_service_cuts_its_streams_and_no_others() {
    let mut scene = Scene::new(Policy::default()).await;
    let elsewhere = Service::Stream(9);
    let policy = mode(Mode::Private { grants: false, list: vec![Listed::Device(device(21))] });
    let mut other = scene.publisher.publish(elsewhere, policy).await.unwrap();
    let caller = scene.caller(21).await;
    let (mut near, mut far) = scene.connect(&caller).await;
    let lamp = lamp();
    let (kept, far_kept) = tokio::join!(caller.open(&lamp, elsewhere), other.accept());
    let (mut kept, mut far_kept) = (kept.unwrap(), far_kept.unwrap());
    drop(scene.publication);
    assert_eq!(far.ended().await, Ended::Denied(Refusal::Withdrawn));
    assert_eq!(read_error(&mut far).await, io::ErrorKind::ConnectionAborted);
    assert_eq!(read_error(&mut near).await, io::ErrorKind::ConnectionReset);
    kept.write_all(b"still here").await.unwrap();
    kept.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    far_kept.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"still here");
    // Published anew, it has nothing to do with what was cut.
    scene.publication = scene.publisher.publish(SERVICE, Policy::default()).await.unwrap();
    let (_near, far) = scene.connect(&caller).await;
    assert_eq!(far.end_reason(), None);
}

#[tokio::test]
async fn rotating_the_publishers_key_away_ends_what_it_accepted() {
    let mut scene = Scene::new(mode(Mode::Public)).await;
    let caller = scene.caller(21).await;
    let (_near, far) = scene.connect(&caller).await;
    let ended = far.ended();
    let slot = Slot::Device(device(20));
    let record = DeviceRecord::decode(&scene.world.tip().value(slot)).unwrap().unwrap();
    scene.world.mine([(slot, DeviceRecord { key: key(77).address(), ..record }.encode())]);
    assert_eq!(ended.await, Ended::Denied(Refusal::Stale));
}

#[tokio::test]
async fn one_node_that_withholds_the_revocation_keeps_nothing_alive() {
    let manners = [Manner::Withholds, Manner::Honest];
    let mut scene = Scene::with(Policy::default(), &manners).await;
    let caller = scene.caller(21).await;
    let (_near, far) = scene.connect(&caller).await;
    let ended = far.ended();
    scene.world.set_status(device(21), DeviceStatus::Revoked);
    assert_eq!(ended.await, Ended::Denied(Refusal::Revoked));
}

#[tokio::test]
async fn a_node_that_pushes_what_nobody_asked_for_is_replaced() {
    let manners = [Manner::Unasked, Manner::Unasked, Manner::Honest];
    let mut scene = Scene::with(Policy::default(), &manners).await;
    let caller = scene.caller(21).await;
    let (_near, far) = scene.connect(&caller).await;
    scene.nodes[2].watches(Slot::Device(device(21))).await;
    let ended = far.ended();
    scene.world.set_status(device(21), DeviceStatus::Revoked);
    assert_eq!(ended.await, Ended::Denied(Refusal::Revoked));
}

fn revoked(scene: &Scene, id: DeviceId) -> B256 {
    let record = DeviceRecord::decode(&scene.world.tip().value(Slot::Device(id))).unwrap().unwrap();
    DeviceRecord { status: DeviceStatus::Revoked, valid_until: now(), ..record }.encode()
}

#[tokio::test]
async fn a_revocation_in_a_block_not_yet_final_cuts_the_stream() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    let (_near, far) = scene.connect(&caller).await;
    let (slot, height) = (Slot::Device(device(21)), scene.world.tip().number);
    scene.nodes[0].watches(slot).await;
    let ended = far.ended();
    scene.nodes[0].tell(height + 1, slot, revoked(&scene, device(21)));
    assert_eq!(ended.await, Ended::Denied(Refusal::Revoked));
    // Nor does another begin, though nothing is proven yet.
    let error = caller.open(&lamp(), SERVICE).await.unwrap_err();
    assert!(matches!(error, OpenError::Revoked { .. }), "{error}");
}

#[tokio::test]
async fn a_notice_grants_nothing() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    let (_near, far) = scene.connect(&caller).await;
    let slot = Slot::Device(device(21));
    scene.nodes[0].watches(slot).await;
    let active = scene.world.tip().value(slot);
    let ended = far.ended();
    scene.world.set_status(device(21), DeviceStatus::Suspended);
    assert_eq!(ended.await, Ended::Denied(Refusal::Suspended));
    scene.nodes[0].tell(scene.world.tip().number + 1, slot, active);
    let error = caller.open(&lamp(), SERVICE).await.unwrap_err();
    assert!(matches!(error, OpenError::Suspended { .. }), "{error}");
}

#[tokio::test]
async fn a_notice_that_came_to_nothing_is_the_last_one_believed() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    let (_near, far) = scene.connect(&caller).await;
    let slot = Slot::Device(device(21));
    scene.nodes[0].watches(slot).await;
    let ended = far.ended();
    scene.nodes[0].tell(scene.world.tip().number + 1, slot, revoked(&scene, device(21)));
    assert_eq!(ended.await, Ended::Denied(Refusal::Revoked));
    // The block is final, and nothing of the kind was in it.
    scene.world.mine([]);
    let (_near, far) = scene.connect(&caller).await;
    scene.nodes[0].watches(slot).await;
    scene.nodes[0].tell(scene.world.tip().number + 1, slot, revoked(&scene, device(21)));
    let ended = far.ended();
    scene.world.set_status(device(21), DeviceStatus::Suspended);
    assert_eq!(ended.await, Ended::Denied(Refusal::Suspended));
}

#[tokio::test]
async fn a_node_that_tells_the_same_again_and_again_is_replaced() {
    let manners = [Manner::Repeats, Manner::Repeats, Manner::Honest];
    let mut scene = Scene::with(Policy::default(), &manners).await;
    let caller = scene.caller(21).await;
    let (_near, far) = scene.connect(&caller).await;
    scene.nodes[2].watches(Slot::Device(device(21))).await;
    let ended = far.ended();
    scene.world.set_status(device(21), DeviceStatus::Revoked);
    assert_eq!(ended.await, Ended::Denied(Refusal::Revoked));
}

/// A clock ahead of the others by less than they tolerate.
struct Ahead;

impl Clock for Ahead {
    fn unix_millis(&self) -> u64 {
        (now() + 40) * 1_000
    }
}

/// A fixed bug: nodes keep the route with the highest number, so one that was signed after the clock had gone back
/// was kept by nobody, and nobody was told.
#[tokio::test]
async fn a_device_whose_clock_went_back_is_found_where_it_is_now() {
    let world = World::new();
    let mut nodes = vec![FakeNode::start(&world, 10, Manner::Honest).await];
    nodes.push(FakeNode::start(&world, 11, Manner::Honest).await);
    let ahead = Client::builder(world.spec.clone(), key(20)).nodes([nodes[0].multiaddr.clone()]).clock(Ahead);
    let before = ahead.start().await.unwrap();
    let publication = before.publish(SERVICE, Policy::default()).await.unwrap();
    let seq = nodes[0].newer_route(device(20), 0).await;
    assert!(seq > now() * 1_000 + 20_000);
    drop(publication);
    before.shutdown().await;

    let publisher = start(&world, &nodes, 20).await;
    let _publication = publisher.publish(SERVICE, Policy::default()).await.unwrap();
    nodes[0].newer_route(device(20), seq).await;
}

#[tokio::test]
async fn silence_of_every_node_ends_the_stream_as_stale() {
    let mut scene = Scene::new(Policy { max_age: 2, ..Policy::default() }).await;
    let caller = scene.caller(21).await;
    let (_near, far) = scene.connect(&caller).await;
    scene.nodes.iter().for_each(|node| node.behave(Manner::Silent));
    assert_eq!(far.ended().await, Ended::Denied(Refusal::Stale));
}

#[tokio::test]
async fn evidence_is_proven_anew_before_it_is_too_old() {
    let manners = [Manner::Withholds, Manner::Withholds];
    let mut scene = Scene::with(Policy { max_age: 2, ..Policy::default() }, &manners).await;
    let caller = scene.caller(21).await;
    let (mut near, mut far) = scene.connect(&caller).await;
    let before = scene.nodes[0].asked() + scene.nodes[1].asked();
    // Without pushes the slots outlive max_age only by being asked for again and again.
    while scene.nodes[0].asked() + scene.nodes[1].asked() < before + 6 {
        tokio::select! {
            () = scene.nodes[0].next_question() => {}
            () = scene.nodes[1].next_question() => {}
        }
    }
    near.write_all(b"still here").await.unwrap();
    let mut bytes = [0; 10];
    far.read_exact(&mut bytes).await.unwrap();
    assert_eq!((&bytes, far.end_reason()), (b"still here", None));
}

#[tokio::test]
async fn when_the_relay_dies_the_next_stream_takes_another() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    let (mut near, _far) = scene.connect(&caller).await;
    let Path::Relayed { via } = near.path() else { panic!("{}", near.path()) };
    let dead = scene.nodes.iter().position(|node| node.peer == via).unwrap();
    drop(scene.nodes.remove(dead));
    assert_eq!(read_error(&mut near).await, io::ErrorKind::ConnectionReset);
    let (near, _far) = scene.connect(&caller).await;
    assert_eq!(near.path(), Path::Relayed { via: scene.nodes[0].peer });
}

#[tokio::test]
async fn with_consent_of_both_ends_the_path_is_direct() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let start = async |seed: u8| {
        let builder = Client::builder(world.spec.clone(), key(seed)).nodes([node.multiaddr.clone()]);
        builder.direct(true).start().await.unwrap()
    };
    let is_direct = async || {
        let (publisher, caller) = (start(20).await, start(21).await);
        let mut publication = publisher.publish(SERVICE, Policy::default()).await.unwrap();
        let lamp = lamp();
        let (near, far) = tokio::join!(caller.open(&lamp, SERVICE), publication.accept());
        !near.unwrap().path().is_relayed() && !far.unwrap().path().is_relayed()
    };
    // On a busy machine the first route may not wait until the node has reached the device.
    let direct =
        tokio::time::timeout(std::time::Duration::from_secs(120), async { while !is_direct().await {} });
    direct.await.expect("a direct path");
}

#[tokio::test]
async fn a_caller_beyond_the_queue_is_told_busy() {
    let scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    let lamp = lamp();
    let most = windlass_client::limits::ACCEPT_QUEUE;
    let opened = join_all((0..=most).map(|_| caller.open(&lamp, SERVICE))).await;
    let (open, refused): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
    assert_eq!((open.len(), refused.len()), (most, 1));
    assert!(matches!(refused[0], Err(OpenError::Busy { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_service_is_published_once_and_withdrawn_when_dropped() {
    let scene = Scene::new(Policy::default()).await;
    let again = scene.publisher.publish(SERVICE, Policy::default()).await;
    assert!(matches!(again, Err(PublishError::AlreadyPublished(SERVICE))));
    // Another service keeps the device reachable, so that the refusal is the device's.
    let _other = scene.publisher.publish(Service::Stream(9), Policy::default()).await.unwrap();
    let caller = scene.caller(21).await;
    drop(scene.publication);
    let error = caller.open(&lamp(), SERVICE).await.unwrap_err();
    assert!(matches!(error, OpenError::Refused { refusal: Some(Refusal::NoService), .. }), "{error}");
}

#[tokio::test]
async fn who_is_not_active_publishes_nothing() {
    let world = World::new();
    let nodes = vec![FakeNode::start(&world, 10, Manner::Honest).await];
    let stranger = start(&world, &nodes, 30).await.publish(SERVICE, Policy::default()).await.map(drop);
    let refused = |outcome, expected| matches!(outcome, Err(PublishError::NotActive { refusal, .. }) if refusal == expected);
    assert!(refused(stranger, Refusal::NotRegistered));
    world.set_status(device(20), DeviceStatus::Revoked);
    let revoked = start(&world, &nodes, 20).await.publish(SERVICE, Policy::default()).await.map(drop);
    assert!(refused(revoked, Refusal::Revoked));
}

/// Waits for an event that `wanted` picks.
async fn told<T>(events: &mut Events, wanted: impl Fn(Event) -> Option<T>) -> T {
    loop {
        if let Some(found) = wanted(events.next().await.unwrap()) {
            return found;
        }
    }
}

#[tokio::test]
async fn an_owner_is_told_of_heads_paths_and_refusals() {
    let mut scene = Scene::new(Policy::default()).await;
    let mut events = scene.publisher.events();
    let stranger = scene.caller(22).await;
    // Its own node would tell it no; it has to be refused by the device.
    let caller = scene.caller(21).await;
    let (near, _far) = scene.connect(&caller).await;
    let path = near.path();
    let reached = told(&mut events, |event| match event {
        Event::Path { peer, path: Some(path) } if path.is_relayed() => Some((peer, path)),
        _ => None,
    });
    assert_eq!(reached.await, (identity::peer_id_of(&key(21).public_key()), path));
    assert!(stranger.open(&lamp(), SERVICE).await.is_err());
    let refused = told(&mut events, |event| match event {
        Event::CallerRefused { caller, service, refusal } => Some((caller, service, refusal)),
        _ => None,
    });
    assert_eq!(refused.await, (device(22), SERVICE, Refusal::NoGrant));
    scene.world.set_status(device(21), DeviceStatus::Revoked);
    let (mut head, mut ended) = (None, None);
    while head.is_none() || ended.is_none() {
        match events.next().await.unwrap() {
            Event::Head(found) => head = Some(found.number),
            Event::StreamEnded { peer, service, why } => ended = Some((peer, service, why)),
            _ => {}
        }
    }
    let expected = (device(21), Some(SERVICE), Ended::Denied(Refusal::Revoked));
    assert_eq!((head, ended), (Some(102), Some(expected)));
    scene.publisher.shutdown().await;
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn an_owner_is_told_which_node_was_refused() {
    let world = World::new();
    let nodes = vec![FakeNode::start(&world, 10, Manner::WrongValue).await];
    let client = start(&world, &nodes, 21).await;
    let mut events = client.events();
    assert!(client.resolve(&lamp()).await.is_err());
    let refused = told(&mut events, |event| match event {
        Event::NodeRefused(node) => Some(node),
        _ => None,
    });
    let refused = refused.await;
    assert!(refused.peer == nodes[0].peer && refused.reason.is_lie(), "{refused}");
}

#[tokio::test]
async fn shutting_down_ends_streams_and_publications() {
    let mut scene = Scene::new(Policy::default()).await;
    let caller = scene.caller(21).await;
    let (mut near, mut far) = scene.connect(&caller).await;
    let ended = near.ended();
    caller.shutdown().await;
    assert_eq!(ended.await, Ended::Stopped);
    assert_eq!(read_error(&mut near).await, io::ErrorKind::ConnectionAborted);
    assert_eq!(read_error(&mut far).await, io::ErrorKind::ConnectionReset);
    drop(scene.publisher);
    assert!(scene.publication.accept().await.is_none());
}

/// Silence would be noticed after a minute; this one talks on, and says everything but what matters.
#[tokio::test]
async fn a_node_that_hides_a_change_is_named_and_left() {
    let mut scene = Scene::with(Policy::default(), &[Manner::HidesChanges, Manner::Honest]).await;
    let caller = scene.caller(21).await;
    let mut events = caller.events();
    let (mut near, far) = scene.connect(&caller).await;
    for node in &scene.nodes {
        // The publisher watches the device as well, the name only the caller.
        node.watches(Slot::Name(name("lamp").label_hash())).await;
    }
    scene.world.set_status(device(20), DeviceStatus::Suspended);
    // Whoever hides it keeps nothing alive.
    read_error(&mut near).await;
    // A head after the change, and the one after that: by then it would have told.
    let reason = loop {
        match tokio::time::timeout(std::time::Duration::from_millis(200), events.next()).await {
            Ok(Some(Event::NodeRefused(refused))) if refused.peer == scene.nodes[0].peer => {
                break refused.reason;
            }
            Ok(Some(_)) => {}
            Ok(None) => panic!("nobody was refused"),
            Err(_) => scene.world.mine([]),
        }
    };
    let expected = Slot::Device(device(20));
    assert!(matches!(reason, windlass_client::Rejection::Withheld(slot) if slot == expected), "{reason}");
    drop(far);
    caller.shutdown().await;
    scene.publisher.shutdown().await;
}
