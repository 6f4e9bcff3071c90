//! What a publisher makes of callers that don't use this client: false, stale and malformed opens.

use crate::{
    streams::Scene,
    world::{SERVICE, World, device, key, now},
};
use futures::{AsyncReadExt, StreamExt, future::join_all, stream::FuturesUnordered};
use libp2p::{StreamProtocol, multiaddr::Protocol};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use windlass_client::{
    Policy, Refusal,
    limits::{JUDGING, JUDGING_PER_PEER, OPEN_DEADLINE},
};
use windlass_p2p::{
    Control, PeerStream,
    frame::{read_frame, write_frame},
    identity,
    swarm::{DeviceConfig, device_swarm},
};
use windlass_protocol::{
    authorise::Claim,
    bundle::Bundle,
    grant::{GrantService, GrantTarget, Grantee, grant_id, parties_hash},
    message::{
        names,
        stream::{MAX_REPLY_BYTES, Open, Reply},
    },
    record::DeviceStatus,
    slot::Slot,
    wire,
};

/// A peer that sends whatever frames it likes.
struct Raw {
    control: Control,
    _swarm: JoinSet<()>,
}

impl Raw {
    fn new(seed: u8) -> Self {
        let (mut swarm, control) = device_swarm(&key(seed), &DeviceConfig::new("raw/0")).unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Self { control, _swarm: task }
    }

    async fn stream(&self, scene: &Scene) -> PeerStream {
        let publisher = identity::peer_id_of(&key(20).public_key());
        let relay = scene.nodes[0].multiaddr.clone();
        let circuit = relay.with(Protocol::P2pCircuit).with(Protocol::P2p(publisher));
        let protocol = StreamProtocol::new(names::STREAM);
        self.control.open(publisher, vec![circuit], protocol, Duration::from_secs(10)).await.unwrap()
    }

    async fn send(&self, scene: &Scene, claim: Claim, staple: Bundle) -> Reply {
        let mut stream = self.stream(scene).await;
        let open = Open { service: SERVICE, claim, stream_id: 0, offset: 0, staple };
        write_frame(&mut stream, &wire::encode(&open)).await.unwrap();
        wire::decode(&read_frame(&mut stream).await.unwrap(), MAX_REPLY_BYTES).unwrap()
    }
}

fn staple(world: &World, slots: &[Slot]) -> Bundle {
    world.tip().bundle(&world.spec, slots, &[1, 2], now())
}

fn grant() -> Slot {
    let parties = parties_hash(
        GrantTarget::Device(device(20)),
        Grantee::Device(device(21)),
        GrantService::One(SERVICE),
    );
    Slot::Grant(grant_id(7, parties))
}

const CALLER: fn() -> Slot = || Slot::Device(device(21));

#[tokio::test]
async fn an_honest_staple_is_accepted_whoever_sends_it() {
    let scene = Scene::new(Policy::default()).await;
    let staple = staple(&scene.world, &[CALLER(), grant()]);
    let reply = Raw::new(21).send(&scene, Claim::Granted(device(21), 0), staple).await;
    assert_eq!(reply, Reply::Accepted);
}

#[tokio::test]
async fn a_staple_that_proves_nothing_is_refused() {
    let scene = Scene::new(Policy::default()).await;
    let raw = Raw::new(21);
    let claim = Claim::Granted(device(21), 0);
    let good = staple(&scene.world, &[CALLER(), grant()]);
    let mut flipped = good.clone();
    let mut node = flipped.storage[0].to_vec();
    node[40] ^= 1;
    flipped.storage[0] = node.into();
    let mut truncated = good.clone();
    truncated.storage.pop();
    let mut strange = good.clone();
    strange.attestations.truncate(1);
    let lacking = staple(&scene.world, &[CALLER()]);
    let padded = staple(&scene.world, &[CALLER(), grant(), Slot::Device(device(22))]);
    for (what, staple) in [
        ("flipped", flipped),
        ("truncated", truncated),
        ("attested by too few", strange),
        ("without its grant", lacking),
        ("with a slot too many", padded),
    ] {
        assert_eq!(raw.send(&scene, claim, staple).await, Reply::Refused(Refusal::BadStaple), "{what}");
    }
    // The grant at another place than claimed.
    let reply = raw.send(&scene, Claim::Granted(device(21), 1), good).await;
    assert_eq!(reply, Reply::Refused(Refusal::BadStaple));
}

#[tokio::test]
async fn a_claim_to_be_somebody_else_is_refused() {
    let scene = Scene::new(Policy::default()).await;
    let stolen = staple(&scene.world, &[CALLER(), grant()]);
    let reply = Raw::new(22).send(&scene, Claim::Granted(device(21), 0), stolen).await;
    assert_eq!(reply, Reply::Refused(Refusal::NotItsKey));
    // An enrolled key that claims to be nobody.
    let key = key(22).address();
    let nobody = staple(&scene.world, &[Slot::Device(device(22)), Slot::KeyOf(key)]);
    let reply = Raw::new(22).send(&scene, Claim::Unenrolled, nobody).await;
    assert_eq!(reply, Reply::Refused(Refusal::BadStaple));
}

#[tokio::test]
async fn a_staple_older_than_max_age_is_stale() {
    let scene = Scene::new(Policy::default()).await;
    let mut block = scene.world.tip();
    block.timestamp = now() - 700;
    block.number -= 1;
    let old = block.bundle(&scene.world.spec, &[CALLER(), grant()], &[1, 2], now() - 700);
    let reply = Raw::new(21).send(&scene, Claim::Granted(device(21), 0), old).await;
    assert_eq!(reply, Reply::Refused(Refusal::Stale));
}

#[tokio::test]
async fn a_staple_from_before_the_revocation_is_judged_by_newer_evidence() {
    let scene = Scene::new(Policy::default()).await;
    let raw = Raw::new(21);
    let claim = Claim::Granted(device(21), 0);
    let before = staple(&scene.world, &[CALLER(), grant()]);
    scene.world.set_status(device(21), DeviceStatus::Revoked);
    let after = staple(&scene.world, &[CALLER(), grant()]);
    assert_eq!(raw.send(&scene, claim, after).await, Reply::Refused(Refusal::Revoked));
    assert_eq!(raw.send(&scene, claim, before).await, Reply::Refused(Refusal::Revoked));
}

/// An attested block that contradicts the one at the same height is no evidence, in a staple as anywhere else.
#[tokio::test]
async fn a_staple_under_another_block_at_a_verified_height_is_refused() {
    let scene = Scene::new(Policy::default()).await;
    let claim = Claim::Granted(device(21), 0);
    let mut fork = scene.world.tip();
    fork.timestamp -= 1;
    let forked = fork.bundle(&scene.world.spec, &[CALLER(), grant()], &[1, 2], now());
    let raw = Raw::new(21);
    assert_eq!(raw.send(&scene, claim, forked).await, Reply::Refused(Refusal::BadStaple));
    let honest = staple(&scene.world, &[CALLER(), grant()]);
    assert_eq!(raw.send(&scene, claim, honest).await, Reply::Accepted);
}

#[tokio::test]
async fn noise_is_reset() {
    let scene = Scene::new(Policy::default()).await;
    let mut noisy = Raw::new(21).stream(&scene).await;
    write_frame(&mut noisy, b"\xffnoise").await.unwrap();
    let mut answer = Vec::new();
    assert!(noisy.read_to_end(&mut answer).await.is_err() && answer.is_empty());
}

/// A fixed bug: two keys with mute streams held every place, and every caller after them was reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mute_streams_of_many_keys_lock_out_nobody() {
    let scene = Scene::new(Policy::default()).await;
    // The honest caller is connected before the flood; only its stream has to find a place.
    let honest = Raw::new(21);
    drop(honest.stream(&scene).await);
    let strangers: Vec<Raw> = (0..JUDGING / JUDGING_PER_PEER + 2).map(|n| Raw::new(100 + n as u8)).collect();
    let floods = strangers.iter().map(|raw| {
        futures::stream::iter(0..JUDGING_PER_PEER).then(|_| raw.stream(&scene)).collect::<Vec<PeerStream>>()
    });
    let mut mute: Vec<PeerStream> = join_all(floods).await.into_iter().flatten().collect();
    assert!(mute.len() > JUDGING);
    let evicted = mute.len() - JUDGING;
    let staple = staple(&scene.world, &[CALLER(), grant()]);
    let began = Instant::now();
    assert_eq!(honest.send(&scene, Claim::Granted(device(21), 0), staple).await, Reply::Accepted);
    assert!(
        began.elapsed() < OPEN_DEADLINE / 2,
        "it waited for places to be given up: {:?}",
        began.elapsed()
    );
    // Those that had to leave were reset, and told nothing.
    let ends = mute.iter_mut().map(|stream| async move { stream.read(&mut [0]).await });
    let mut ends = ends.collect::<FuturesUnordered<_>>();
    for _ in 0..evicted {
        assert!(ends.next().await.unwrap().is_err());
    }
}
