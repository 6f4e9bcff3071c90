//! A node on loopback that relays honestly and answers as it is told to.

use crate::world::{Block, World, addresses, key, now};
use futures::{AsyncReadExt, FutureExt, StreamExt, future::BoxFuture};
use libp2p::{Multiaddr, PeerId, StreamProtocol, multiaddr::Protocol, swarm::SwarmEvent};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use windlass_client::DeviceId;
use windlass_p2p::{
    PeerStream, autonat,
    frame::{read_frame, write_frame},
    identity,
    relay::{Everybody, Group, NotReady, Policy as RelayPolicy, RelayConfig, Server, Standing},
    swarm::{NodeConfig, node_swarm},
};
use windlass_protocol::{
    B256, Bytes,
    bundle::{Bundle, MAX_BUNDLE_SLOTS},
    committee::CommitteeStep,
    message::{
        MAX_FRAME, names,
        resolve::{Reason, Request, Response},
        route::{MAX_ROUTE_MESSAGE_BYTES, RouteRequest, RouteResponse},
        watch::{Push, TailNotice, Watch},
    },
    question::{Question, Target},
    route::{Route, SignedRoute},
    slot::Slot,
    wire,
};

/// How a node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    /// Takes questions and says nothing.
    Silent,
    /// Says it can't.
    Declines,
    /// A bit of a proven value is flipped.
    WrongValue,
    /// The last node of the slot proofs is missing.
    Truncated,
    /// Answers about a slot that exists with the proof of one that doesn't.
    ForgedAbsence,
    /// A node that nothing needs is among the proofs.
    Padded,
    /// The block before the last, genuine and freshly attested.
    Behind,
    /// Another block at the same height, attested by a committee that broke its word.
    Fork,
    /// The last attestation is from long ago.
    Aged,
    /// Attested by one member and a stranger.
    Stranger,
    /// Attested by one member only.
    TooFew,
    /// Attests nothing but noise.
    Garbage,
    /// Adds a route that another key signed.
    FalseRoute,
    /// Pushes proofs of slots that nobody asked for.
    Unasked,
    /// Watches and never pushes.
    Withholds,
    /// Pushes every new head, and no change of what it proved before.
    HidesChanges,
    /// Pushes the same thing over and over.
    Repeats,
    /// Answers every nonce with signatures over the first one it was asked for.
    ReplaysNonce,
    /// Answers nonces with signatures over none.
    IgnoresNonce,
    /// Its heads are signed by the first committee, whoever is in office.
    Retired,
    /// Leads on with a head of an epoch's first half.
    FirstHalf,
    /// Leads to other members than were proposed.
    FalseList,
    /// Leads on with one signature.
    LoneStep,
    /// Leads over an epoch that has a committee of its own.
    StepsOver,
    /// Answers questions of a committee with something else.
    Evades,
}

struct Shared {
    world: Arc<World>,
    manner: watch::Sender<Manner>,
    routes: watch::Sender<BTreeMap<DeviceId, SignedRoute>>,
    asked: watch::Sender<u64>,
    watched: watch::Sender<BTreeSet<Slot>>,
    notice: watch::Sender<Option<TailNotice>>,
    nonces: watch::Sender<Vec<B256>>,
    /// What it says is the newest chain spec.
    spec: watch::Sender<Bytes>,
}

/// Dials back for everybody, or for nobody.
struct DialsBack(Arc<AtomicBool>);

impl RelayPolicy for DialsBack {
    fn standing(&self, _: PeerId) -> BoxFuture<'static, Result<Standing, NotReady>> {
        let served = Standing::Served(Group::Fleet(0));
        let standing = if self.0.load(Ordering::Relaxed) { served } else { Standing::Stranger };
        futures::future::ready(Ok(standing)).boxed()
    }
}

/// A running node; dropping it is killing it.
pub(crate) struct FakeNode {
    pub(crate) peer: PeerId,
    pub(crate) multiaddr: Multiaddr,
    shared: Arc<Shared>,
    dials_back: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl FakeNode {
    pub(crate) async fn start(world: &Arc<World>, seed: u8, manner: Manner) -> Self {
        let secret = key(seed);
        let peer = identity::peer_id_of(&secret.public_key());
        let (mut swarm, control) = node_swarm(&secret, &NodeConfig::new("fake-node/0")).unwrap();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        swarm.add_external_address(address.clone());
        let shared = Arc::new(Shared {
            world: world.clone(),
            manner: watch::Sender::new(manner),
            routes: watch::Sender::default(),
            asked: watch::Sender::new(0),
            watched: watch::Sender::default(),
            notice: watch::Sender::default(),
            nonces: watch::Sender::default(),
            spec: watch::Sender::default(),
        });
        let mut tasks = JoinSet::new();
        let keypair = identity::keypair(&secret);
        let relay = Server::new(keypair, control.clone(), Arc::new(Everybody), RelayConfig::default());
        tasks.spawn(relay.unwrap().run(std::future::pending()));
        let dials_back = Arc::new(AtomicBool::new(true));
        let autonat = autonat::Server::new(&control, Arc::new(DialsBack(dials_back.clone()))).unwrap();
        tasks.spawn(autonat.run(std::future::pending()));
        tasks.spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        for protocol in [names::RESOLVE, names::ROUTE, names::WATCH] {
            let queue = NonZeroUsize::new(64).unwrap();
            let mut incoming = control.accept(StreamProtocol::new(protocol), queue).unwrap();
            let shared = shared.clone();
            tasks.spawn(async move {
                let mut streams = JoinSet::new();
                while let Some(stream) = incoming.next().await {
                    let shared = shared.clone();
                    // A client that went away ends the conversation, nothing else.
                    streams.spawn(async move {
                        match protocol {
                            names::RESOLVE => drop(shared.resolve(stream).await),
                            names::ROUTE => drop(shared.route(stream).await),
                            _ => drop(shared.watch(stream).await),
                        }
                    });
                }
            });
        }
        Self { peer, multiaddr: address.with(Protocol::P2p(peer)), shared, dials_back, _tasks: tasks }
    }

    /// From now on it tells nobody whether an address is reached.
    pub(crate) fn dial_nobody(&self) {
        self.dials_back.store(false, Ordering::Relaxed);
    }

    pub(crate) fn behave(&self, manner: Manner) {
        self.shared.manner.send_replace(manner);
    }

    /// From now on it passes this on as the newest chain spec, whoever asks.
    pub(crate) fn give(&self, spec: Vec<u8>) {
        self.shared.spec.send_replace(spec.into());
    }

    /// How many questions it was asked.
    pub(crate) fn asked(&self) -> u64 {
        *self.shared.asked.borrow()
    }

    /// The nonces it was asked to have signed.
    pub(crate) fn nonces(&self) -> Vec<B256> {
        self.shared.nonces.borrow().clone()
    }

    /// Waits for the next question from now on.
    pub(crate) async fn next_question(&self) {
        let mut asked = self.shared.asked.subscribe();
        asked.mark_unchanged();
        asked.changed().await.unwrap();
    }

    /// Waits until a client watches this slot here.
    pub(crate) async fn watches(&self, slot: Slot) {
        let mut watched = self.shared.watched.subscribe();
        watched.wait_for(|watched| watched.contains(&slot)).await.unwrap();
    }

    /// Tells whoever watches of a block that isn't final.
    pub(crate) fn tell(&self, number: u64, slot: Slot, value: B256) {
        let notice = TailNotice { number, hash: B256::repeat_byte(0xf0), slots: vec![(slot, value)] };
        self.shared.notice.send_replace(Some(notice));
    }

    pub(crate) fn forget_routes(&self) {
        self.shared.routes.send_modify(BTreeMap::clear);
    }

    pub(crate) fn holds_route(&self, device: DeviceId) -> bool {
        self.shared.routes.borrow().contains_key(&device)
    }

    /// Waits until it holds a route of this device with a number above this one, and returns its number.
    pub(crate) async fn newer_route(&self, device: DeviceId, above: u64) -> u64 {
        let mut routes = self.shared.routes.subscribe();
        let seq =
            |routes: &BTreeMap<DeviceId, SignedRoute>| Some(routes.get(&device)?.claimed().unwrap().seq);
        let newer = routes.wait_for(|routes| seq(routes).is_some_and(|seq| seq > above)).await.unwrap();
        seq(&newer).unwrap()
    }
}

type Io = Result<(), Box<dyn std::error::Error + Send + Sync>>;

impl Shared {
    fn manner(&self) -> Manner {
        *self.manner.borrow()
    }

    async fn resolve(&self, mut stream: PeerStream) -> Io {
        let request: Request = wire::decode(&read_frame(&mut stream).await?, MAX_FRAME)?;
        self.asked.send_modify(|asked| *asked += 1);
        let response = match self.manner() {
            Manner::Silent => return std::future::pending().await,
            Manner::Declines => {
                Response::Refused { reason: Reason::NotReady, text: "still syncing\u{1b}[31m".to_owned() }
            }
            Manner::Garbage => return Ok(write_frame(&mut stream, b"not RLP at all").await?),
            manner if request.nonce.is_some() => self.sign(request.nonce.unwrap(), manner),
            manner => match &request.questions[..] {
                [Question::Spec(_)] => Response::Spec(self.spec.borrow().clone()),
                [Question::Committee(epoch)] if manner != Manner::Evades => self.step(*epoch, manner),
                _ => self.prove(&request, manner),
            },
        };
        write_frame(&mut stream, &wire::encode(&response)).await?;
        // Until the client has read it and closed.
        stream.read_to_end(&mut Vec::new()).await?;
        Ok(())
    }

    fn prove(&self, request: &Request, manner: Manner) -> Response {
        let mut block = if manner == Manner::Behind { self.world.previous() } else { self.world.tip() };
        let mut slots = Vec::new();
        for question in &request.questions {
            let mut collect = |slot: Slot| -> Result<B256, std::convert::Infallible> {
                if !slots.contains(&slot) {
                    slots.push(slot);
                }
                Ok(block.value(slot))
            };
            question.expand(block.timestamp, &mut collect).unwrap();
        }
        if manner == Manner::Fork {
            block.timestamp -= 1;
        }
        let mut routes: Vec<SignedRoute> =
            request.questions.iter().filter_map(|question| self.route_of(&block, question)).collect();
        if manner == Manner::FalseRoute {
            routes.push(self.false_route());
        }
        Response::Proven { bundle: self.bundle(&block, &slots, manner), routes }
    }

    /// The head alone, signed over a nonce by members 1 and 3.
    fn sign(&self, nonce: B256, manner: Manner) -> Response {
        self.nonces.send_modify(|nonces| nonces.push(nonce));
        let nonce = match manner {
            Manner::ReplaysNonce => self.nonces.borrow()[0],
            Manner::IgnoresNonce => B256::ZERO,
            _ => nonce,
        };
        let signers: &[u8] = if manner == Manner::TooFew { &[1] } else { &[1, 3] };
        let bundle = self.world.tip().bundle_over(nonce, &self.world.spec, &[], signers, now());
        Response::Proven { bundle, routes: Vec::new() }
    }

    /// How to get from the committee before this epoch's to a later one.
    fn step(&self, epoch: u32, manner: Manner) -> Response {
        let world = &self.world;
        let (keys, change) = world.committee(epoch - 1);
        let newest = world.spec.epoch_at(world.tip().timestamp);
        let second = manner != Manner::FirstHalf;
        let head = change.and_then(|change| Some((world.block_of(change - 1, second)?, change)));
        let (block, last) = match head {
            Some((block, change)) => (block, change),
            None if epoch <= newest => (world.tip(), newest.min(epoch + 23)),
            None => return Response::Refused { reason: Reason::NotReady, text: "no such head".to_owned() },
        };
        let last = if manner == Manner::StepsOver { last + 1 } else { last };
        let slots: Vec<Slot> = (epoch..=last).map(Slot::Committee).collect();
        let signers = if manner == Manner::LoneStep { &keys[..1] } else { &keys[..] };
        let block = if manner == Manner::StepsOver { world.tip() } else { block };
        let bundle = block.bundle(&world.spec, &slots, signers, now());
        let members = match change {
            Some(_) if manner == Manner::FalseList => addresses(&[7, 8]),
            Some(change) if manner != Manner::StepsOver => addresses(&world.committee(change).0),
            _ => Vec::new(),
        };
        Response::Step(CommitteeStep { bundle, last, members })
    }

    fn bundle(&self, block: &Block, slots: &[Slot], manner: Manner) -> Bundle {
        let (keys, _) = self.world.committee(self.world.spec.epoch_at(block.timestamp));
        let members: &[u8] = match manner {
            Manner::Stranger => &[1, 40],
            Manner::TooFew => &[2],
            Manner::Retired => &[1, 3],
            _ => &[keys[0], keys[2]],
        };
        let attested_at = if manner == Manner::Aged { now() - 700 } else { now() };
        let mut block = block.clone();
        if manner == Manner::Aged {
            block.timestamp = attested_at;
        }
        let spec = &self.world.spec;
        let mut bundle = block.bundle(spec, slots, members, attested_at);
        match manner {
            Manner::WrongValue => {
                let last = bundle.storage.last_mut().unwrap();
                let mut bytes = last.to_vec();
                *bytes.last_mut().unwrap() ^= 1;
                *last = bytes.into();
            }
            Manner::Truncated => drop(bundle.storage.pop()),
            Manner::ForgedAbsence => {
                bundle = block.bundle(spec, &[Slot::Fleet(999)], members, attested_at);
            }
            Manner::Padded => bundle.storage.push(Bytes::from(vec![0x55; 40])),
            _ => {}
        }
        bundle
    }

    fn route_of(&self, block: &Block, question: &Question) -> Option<SignedRoute> {
        let (Question::Target(target) | Question::Open { target, .. }) = question else { return None };
        let device = match target {
            Target::Device(id) => *id,
            Target::Name(name) => {
                let value = block.value(Slot::Name(name.label_hash()));
                DeviceId(windlass_protocol::record::NameRecord::decode(&value).unwrap()?.target)
            }
        };
        self.routes.borrow().get(&device).cloned()
    }

    fn false_route(&self) -> SignedRoute {
        let spec = &self.world.spec;
        let route = Route {
            chain_id: spec.chain_id,
            genesis_hash: spec.genesis_hash,
            device: crate::world::device(20),
            seq: u64::MAX,
            issued_at: now(),
            ttl: 60,
            relays: vec![],
            direct: vec![],
        };
        SignedRoute::sign(&route, &key(66))
    }

    async fn route(&self, mut stream: PeerStream) -> Io {
        let request: RouteRequest = wire::decode(&read_frame(&mut stream).await?, MAX_ROUTE_MESSAGE_BYTES)?;
        let response = match request {
            RouteRequest::Publish(signed) => {
                let Route { device, seq, .. } = signed.claimed()?;
                // As real nodes do: the highest number wins, and whoever sent another isn't told.
                self.routes.send_if_modified(|routes| {
                    let known = routes.get(&device).map(|known| known.claimed().unwrap().seq);
                    let is_newer = known.is_none_or(|known| seq > known);
                    if is_newer {
                        routes.insert(device, signed);
                    }
                    is_newer
                });
                RouteResponse::Kept
            }
            RouteRequest::Fetch(device) => match self.routes.borrow().get(&device) {
                Some(signed) => RouteResponse::Found(signed.clone()),
                None => RouteResponse::NotFound,
            },
        };
        write_frame(&mut stream, &wire::encode(&response)).await?;
        stream.read_to_end(&mut Vec::new()).await?;
        Ok(())
    }

    async fn watch(&self, stream: PeerStream) -> Io {
        let (mut reader, mut writer) = stream.split();
        let (messages, mut inbox) = mpsc::channel::<Watch>(8);
        let read = async move {
            loop {
                let message = wire::decode(&read_frame(&mut reader).await?, MAX_FRAME)?;
                if messages.send(message).await.is_err() {
                    return Io::Ok(());
                }
            }
        };
        let push = async {
            let mut slots = BTreeSet::new();
            let mut heights = self.world.heights();
            let mut notices = self.notice.subscribe();
            let mut told = None;
            let mut proven = BTreeSet::new();
            loop {
                tokio::select! {
                    changed = notices.changed() => changed?,
                    message = inbox.recv() => match message {
                        Some(message) => {
                            slots.retain(|slot| !message.drop.contains(slot));
                            slots.extend(message.add);
                        }
                        None => return Io::Ok(()),
                    },
                    changed = heights.changed() => changed?,
                }
                // As a node does it: who comes later is told, too, of what it watches.
                let notice = notices.borrow_and_update().clone();
                if let Some(news) =
                    notice.filter(|it| told.as_ref() != Some(it) && slots.contains(&it.slots[0].0))
                {
                    write_frame(&mut writer, &wire::encode(&news)).await?;
                    told = Some(news);
                }
                // Of all streams together: one must not hide what another watches.
                self.watched.send_modify(|watched| watched.extend(&slots));
                let all: Vec<Slot> = slots.iter().copied().collect();
                for chunk in all.chunks(MAX_BUNDLE_SLOTS) {
                    if let Some(push) = self.push(&self.told(chunk, &mut proven)) {
                        let times = if self.manner() == Manner::Repeats { usize::MAX } else { 1 };
                        let frame = wire::encode(&push);
                        for _ in 0..times {
                            write_frame(&mut writer, &frame).await?;
                        }
                    }
                }
            }
        };
        tokio::select! { ended = read => ended, ended = push => ended }
    }

    /// Which of these slots to prove in a push, given those it proved before.
    fn told(&self, slots: &[Slot], proven: &mut BTreeSet<Slot>) -> Vec<Slot> {
        let hides = self.manner() == Manner::HidesChanges;
        let told = slots.iter().filter(|slot| !hides || !proven.contains(slot)).copied().collect();
        proven.extend(slots);
        told
    }

    fn push(&self, slots: &[Slot]) -> Option<Push> {
        let manner = self.manner();
        let slots = match manner {
            Manner::Withholds | Manner::Silent => return None,
            Manner::Unasked => vec![Slot::FleetCount],
            _ => slots.to_vec(),
        };
        let block = if manner == Manner::Behind { self.world.previous() } else { self.world.tip() };
        let bundle = self.bundle(&block, &slots, manner);
        Some(Push { slots, bundle })
    }
}
