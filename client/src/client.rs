//! The composition root: builds the client's parts, starts its tasks in order, and ends them.

use crate::{
    ask::{Answer, AskError, Asker},
    clock::{Clock, SystemClock, Timekeeper},
    events::{Events, Teller},
    fresh::Warmth,
    guard::{Guard, Known, Own},
    heads::{self, HeadStore, Heads, MemoryHeadStore},
    keep,
    limits::{
        CLOCK_SLACK, DEV_CLOCK, HEDGE_AFTER, INBOUND_QUEUE, PUBLISH_DEADLINE, RESERVATIONS, SHUTDOWN,
        WATCHED_NODES,
    },
    network::Network,
    open::{self, OpenError},
    pool::{NodeError, NodePool},
    publish::{self, Book, Publication, PublishError},
    reach::{self, Reach},
    resolve::{ResolveError, Resolved},
    stream::Stream,
    verifier::Verifier,
    warm::Warm,
    watch,
};
use libp2p::{Multiaddr, StreamProtocol};
use std::{
    fmt, io,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use windlass_p2p::{
    Control,
    swarm::{BuildError, DeviceConfig, device_swarm},
};
use windlass_protocol::{
    DeviceId, KeyAddress, SecretKey, Service,
    authorise::{DEFAULT_MAX_AGE, OFFLINE_MAX_AGE, Policy},
    head::VerifiedHead,
    message::names,
    question::{Question, Target},
    spec::VerifiedSpec,
};

/// What identify calls this side.
const AGENT: &str = concat!("windlass-client/", env!("CARGO_PKG_VERSION"));

/// How long a new publication waits for its second relay once it has a first.
const SECOND_RELAY: Duration = Duration::from_secs(2);

/// Why a client did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configured nodes.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The network layer.
    #[error(transparent)]
    Network(#[from] BuildError),
    /// The highest head could not be read: starting without it would allow going back.
    #[error("can't read the highest head: {0}")]
    Heads(#[source] io::Error),
    /// Direct connections were asked for and nothing can be listened at.
    #[error("can't listen for direct connections: {0}")]
    Listen(String),
    /// Evidence would count for no time, or for longer than anyone may rely on it.
    #[error("max_age is {0} s; it is from 1 to {OFFLINE_MAX_AGE}")]
    MaxAge(u64),
}

/// What a client is made of; see [`Client::builder`].
pub struct Builder {
    spec: VerifiedSpec,
    key: SecretKey,
    nodes: Vec<Multiaddr>,
    device: Option<DeviceId>,
    max_age: u64,
    hedge_after: Duration,
    direct: bool,
    heads: Arc<dyn HeadStore>,
    clock: Arc<dyn Clock>,
    anchor: Option<KeyAddress>,
}

impl Builder {
    /// The nodes to ask, each multiaddr ending in `/p2p/<peer id>`; two or more are better.
    pub fn nodes(mut self, nodes: impl IntoIterator<Item = Multiaddr>) -> Self {
        self.nodes.extend(nodes);
        self
    }

    /// This device's id, if its key was ever rotated. Default: the address of the key.
    pub fn device_id(mut self, device: DeviceId) -> Self {
        self.device = Some(device);
        self
    }

    /// Seconds for which proven evidence counts, 1 to `authorise::OFFLINE_MAX_AGE` (a day). Default: 600; `authorise::STRICT_MAX_AGE` where
    /// revocation must bite fast.
    pub fn max_age(mut self, seconds: u64) -> Self {
        self.max_age = seconds;
        self
    }

    /// How long a node may keep this client waiting before the next one is asked as well. Default: 1 s, less where many
    /// nodes are configured; a node's whole deadline asks one after the other, which spares nodes and costs time.
    pub fn hedge_after(mut self, wait: Duration) -> Self {
        self.hedge_after = wait;
        self
    }

    /// Where the highest verified head is kept. Default: in memory, for this process.
    pub fn head_store(mut self, store: impl HeadStore) -> Self {
        self.heads = Arc::new(store);
        self
    }

    /// Whether to listen for and to dial direct connections, telling callers this device's network
    /// addresses. Default: no, everything goes through relays.
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// The key of a committee's member that this device was provisioned with: where its clock says less than when the
    /// chain spec was made, it believes nothing until this key has signed a nonce of its own. Default: none, and such a
    /// device stays cold.
    pub fn anchor(mut self, key: KeyAddress) -> Self {
        self.anchor = Some(key);
        self
    }

    /// Where the time comes from; [`crate::NoClock`] where there is none. Default: the machine's clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Starts the client on the current tokio runtime. Connects to nobody yet.
    pub async fn start(self) -> Result<Client, StartError> {
        if !(1..=OFFLINE_MAX_AGE).contains(&self.max_age) {
            return Err(StartError::MaxAge(self.max_age));
        }
        let teller = Teller::default();
        let pool = Arc::new(NodePool::new(self.nodes, teller.clone())?);
        let (store, spec_hash) = (self.heads, self.spec.hash());
        let loading = store.clone();
        let load = move || Ok((loading.load(spec_hash)?, loading.load_committee(spec_hash)?));
        let (known, walked) = tokio::task::spawn_blocking(load)
            .await
            .map_err(|error| StartError::Heads(io::Error::other(error)))?
            .map_err(StartError::Heads)?;
        let (mut swarm, control) = device_swarm(&self.key, &DeviceConfig::new(AGENT))?;
        if self.direct {
            let any =
                Multiaddr::from(std::net::Ipv4Addr::UNSPECIFIED).with(libp2p::multiaddr::Protocol::Tcp(0));
            swarm.listen_on(any).map_err(|error| StartError::Listen(error.to_string()))?;
        }
        let stop = CancellationToken::new();
        let (listening, direct) = tokio::sync::watch::channel(Vec::new());
        let (network, network_task) =
            Network::new(swarm, control.clone(), listening, teller.clone(), stop.clone());
        // A development chain may be dated ahead of everybody's clock.
        let made = if self.spec.dev { self.spec.date.min(DEV_CLOCK) } else { self.spec.date };
        let time = Arc::new(Timekeeper::new(self.clock, made.saturating_sub(CLOCK_SLACK)));
        let guard = Guard::new(time.clone(), teller.clone());
        let asker = Arc::new(Asker {
            control: control.clone(),
            pool,
            heads: Arc::new(Heads::new(known)),
            guard: guard.clone(),
            verifier: Arc::new(Verifier::new(self.spec, time, walked)),
            walking: Default::default(),
            anchor: self.anchor,
            warming: Default::default(),
            teller: teller.clone(),
            max_age: self.max_age,
            hedge_after: self.hedge_after,
        });
        let core = Arc::new(Core {
            asker,
            warm: Arc::new(Warm::new(guard.clone(), self.max_age)),
            guard,
            book: Book::new(),
            network,
            reach: Reach::new(direct),
            teller,
            own: self.device.unwrap_or_else(|| self.key.address().as_first_key()),
            key: self.key,
            direct: self.direct,
        });
        let mut tasks = start_tasks(&core, &control, store, &stop);
        tasks.spawn(network_task);
        Ok(Client { core, stop, tasks: Mutex::new(tasks) })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("nodes", &self.nodes)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

fn start_tasks(
    core: &Arc<Core>,
    control: &Control,
    store: Arc<dyn HeadStore>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let asker = &core.asker;
    tasks.spawn(heads::keep(asker.heads.clone(), asker.verifier.clone(), store, stop.clone()));
    tasks.spawn(keep::keep(asker.clone(), core.warm.clone(), stop.clone()));
    for _ in 0..WATCHED_NODES.min(asker.pool.len()) {
        tasks.spawn(watch::seat(core.clone(), stop.clone()));
    }
    for _ in 0..RESERVATIONS.min(asker.pool.len()) {
        tasks.spawn(reach::seat(core.clone(), stop.clone()));
    }
    tasks.spawn(reach::herald(core.clone(), stop.clone()));
    let queue = NonZeroUsize::new(INBOUND_QUEUE).expect("a constant above zero");
    let incoming =
        control.accept(StreamProtocol::new(names::STREAM), queue).expect("a new control accepts nothing yet");
    tasks.spawn(publish::accept(core.clone(), incoming, stop.clone()));
    tasks
}

/// What the client's tasks share.
pub(crate) struct Core {
    pub(crate) asker: Arc<Asker>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) warm: Arc<Warm>,
    pub(crate) book: Arc<Book>,
    pub(crate) network: Network,
    pub(crate) reach: Reach,
    pub(crate) teller: Teller,
    pub(crate) own: DeviceId,
    pub(crate) key: SecretKey,
    pub(crate) direct: bool,
}

impl Core {
    /// This device and the key it acts with.
    pub(crate) fn own(&self) -> Own {
        (self.own, self.key.address())
    }
}

/// A device's light client. All methods take `&self`: share it in an [`Arc`].
///
/// Dropping it ends its tasks and streams at once; [`Client::shutdown`] waits until they have ended.
pub struct Client {
    core: Arc<Core>,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

impl Client {
    /// Begins a client that believes this chain spec and acts with this key.
    pub fn builder(spec: VerifiedSpec, key: SecretKey) -> Builder {
        Builder {
            spec,
            key,
            nodes: Vec::new(),
            device: None,
            max_age: DEFAULT_MAX_AGE,
            hedge_after: HEDGE_AFTER,
            direct: false,
            heads: Arc::new(MemoryHeadStore::default()),
            clock: Arc::new(SystemClock),
            anchor: None,
        }
    }

    /// This device's id.
    pub fn device_id(&self) -> DeviceId {
        self.core.own
    }

    /// What happens from now on: heads, paths, relays, refusals. Nothing waits for whoever listens.
    pub fn events(&self) -> Events {
        let (heads, relays) = (self.core.asker.heads.subscribe(), self.core.reach.relays());
        self.core.teller.listen(heads, relays, self.stop.clone())
    }

    /// Whether this client knows the time, and so can believe anything. [`crate::Event::Warmed`] tells when that changes.
    pub fn warmth(&self) -> Warmth {
        self.core.asker.warmth()
    }

    /// Has members sign a nonce made just now, and returns the head they signed: freshness without anybody's clock. A node
    /// takes one such question in 10 s from each device. Cancel-safe.
    pub async fn challenge(&self) -> Result<VerifiedHead, AskError> {
        self.core.asker.warm_up().await?;
        let signed = self.core.asker.challenge(None).await;
        signed.map(|bundle| *bundle.head()).map_err(|refused| AskError::NoNode { refused })
    }

    /// Finds a device: its proven record, and the route it signed. Takes at most 13 s; cancel-safe.
    pub async fn resolve(&self, target: &Target) -> Result<Resolved, ResolveError> {
        self.core.asker.resolve(target).await
    }

    /// What is proven of a device and still counts, without asking anybody; `None` if that is not enough. Never blocks.
    pub fn look_up(&self, target: &Target) -> Option<Known> {
        self.core.guard.known(target, self.core.asker.max_age)
    }

    /// Has nodes prove what these questions lead to, all under one head. At most 16 questions and 24 slots
    /// fit one answer: a larger one is declined by every node. Cancel-safe.
    pub async fn ask(&self, questions: Vec<Question>) -> Result<Answer, AskError> {
        self.core.asker.ask(questions, |_, _| Ok(())).await.map(|((), answer)| answer)
    }

    /// Opens a service on a device: by the time it returns both ends have proven who they are and that they
    /// may. What the last open of the same service had proven is used again while it is fresh and nothing in it changed.
    /// Cancel-safe.
    pub async fn open(&self, target: &Target, service: Service) -> Result<Stream, OpenError> {
        open::open(&self.core, target, service).await
    }

    /// Publishes a service under a policy. Returns once callers can find and reach this device.
    pub async fn publish(&self, service: Service, policy: Policy) -> Result<Publication, PublishError> {
        let entry = publish::register(&self.core, service, policy).await?;
        let publication = Publication::new(&self.core, service, entry);
        let mut relays = self.core.reach.relays();
        let reachable = timeout(PUBLISH_DEADLINE, relays.wait_for(|relays| !relays.is_empty()));
        match reachable.await.map(|reached| reached.is_ok()) {
            Ok(true) if !self.stop.is_cancelled() => {}
            Ok(_) => return Err(PublishError::Stopped),
            Err(_) => {
                let last = self.core.reach.last_failure();
                return Err(PublishError::NotReachable { after: PUBLISH_DEADLINE, last });
            }
        }
        // One relay is enough to begin; a second makes losing one harmless.
        let enough = self.core.asker.pool.len().min(2);
        let _ = timeout(SECOND_RELAY, relays.wait_for(|relays| relays.len() >= enough)).await;
        Ok(publication)
    }

    /// Ends every stream, publication and task, and returns when they have ended. A stream that both sides
    /// haven't finished is reset: read the other side's end first where every byte counts.
    pub async fn shutdown(self) {
        self.end();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while tasks.join_next().await.is_some() {} };
        if timeout(SHUTDOWN, ended).await.is_err() {
            tracing::warn!(after = ?SHUTDOWN, "tasks had to be aborted at shutdown");
            tasks.shutdown().await;
        }
    }

    fn end(&self) {
        self.core.guard.stop();
        self.core.book.clear();
        self.stop.cancel();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("device", &self.core.own).finish_non_exhaustive()
    }
}
