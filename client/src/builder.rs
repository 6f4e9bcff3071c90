//! What a client is made of, and its start: every part in order, each handed what it needs.

use crate::{
    ask::Asker,
    client::{Client, Core, start_tasks},
    clock::{Clock, SystemClock, Timekeeper},
    confirm,
    direct::{self, Direct},
    events::Teller,
    guard::Guard,
    heads::{HeadStore, Heads, HighestHead, MemoryHeadStore, Walked},
    limits::{
        CLOCK_SLACK, DEV_CLOCK, DIAL_BACKS, ENTERING, HEDGE_AFTER, LISTEN_WITHIN, Limits, WAITING_TO_ENTER,
    },
    network::{Network, Outlook},
    pool::{NodeError, NodePool},
    publish::Book,
    reach::Reach,
    renewal,
    turns::Turns,
    verifier::Verifier,
    warm::Warm,
};
use libp2p::Multiaddr;
use std::{collections::HashMap, fmt, io, num::NonZeroUsize, sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use windlass_p2p::autonat;
use windlass_p2p::swarm::{BuildError, DeviceConfig, device_swarm};
use windlass_protocol::{
    DeviceId, KeyAddress, SecretKey,
    authorise::{DEFAULT_MAX_AGE, OFFLINE_MAX_AGE},
    spec::VerifiedSpec,
};

/// What identify calls this side.
const AGENT: &str = concat!("windlass-client/", env!("CARGO_PKG_VERSION"));

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
    /// A limit of none, or beyond what there may be.
    #[error("the limit {name} is {value}; it is from 1 to {most}")]
    Limit {
        /// Which.
        name: &'static str,
        /// What was asked for.
        value: usize,
        /// The most there may be.
        most: usize,
    },
    /// Evidence would count for no time, or for longer than anyone may rely on it.
    #[error("max_age is {0} s; it is from 1 to {OFFLINE_MAX_AGE}")]
    MaxAge(u64),
}

/// What a client begins with.
struct Loaded {
    spec: VerifiedSpec,
    highest: Option<HighestHead>,
    walked: Option<Walked>,
}

impl Loaded {
    /// Reads the store, and writes the spec to it: call it where blocking is allowed.
    fn from(store: &dyn HeadStore, given: VerifiedSpec) -> io::Result<Self> {
        let spec = renewal::begin(given, store)?;
        Ok(Self { highest: store.load(spec.network())?, walked: store.load_committee(spec.hash())?, spec })
    }
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
    punch: bool,
    upnp: bool,
    lan: bool,
    heads: Arc<dyn HeadStore>,
    clock: Arc<dyn Clock>,
    anchor: Option<KeyAddress>,
    limits: Limits,
}

impl Builder {
    pub(crate) fn new(spec: VerifiedSpec, key: SecretKey) -> Self {
        Self {
            spec,
            key,
            nodes: Vec::new(),
            device: None,
            max_age: DEFAULT_MAX_AGE,
            hedge_after: HEDGE_AFTER,
            direct: false,
            punch: cfg!(feature = "quic"),
            upnp: false,
            lan: false,
            heads: Arc::new(MemoryHeadStore::default()),
            clock: Arc::new(SystemClock),
            anchor: None,
            limits: Limits::default(),
        }
    }

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

    /// Where the highest verified head and the newest chain spec are kept. Default: in memory, for this process.
    pub fn head_store(mut self, store: impl HeadStore) -> Self {
        self.heads = Arc::new(store);
        self
    }

    /// Whether to listen for direct connections from the start, to name this device's network addresses in the routes that
    /// anybody may ask for, and to dial what others name there. Named is only what a node was seen to reach from outside.
    /// Default: no; see [`Builder::punch`] for the discreet way.
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Whether to try for a direct connection with a device that was reached through a relay, once a stream between the
    /// two is authorised; only then is it told where this device is, and never by a public service. Until then this device
    /// listens nowhere. Default: yes, where QUIC is compiled in.
    pub fn punch(mut self, punch: bool) -> Self {
        self.punch = punch;
        self
    }

    /// Whether to have the router open the ports that this device listens at, by UPnP; who may know where it is, is then told
    /// of these too. Default: no, the router is left alone. Without QUIC compiled in it does nothing.
    pub fn upnp(mut self, upnp: bool) -> Self {
        self.upnp = upnp;
        self
    }

    /// Whether this device looks for others in its local network, and is found there while it publishes something, by whoever
    /// knows its peer id. Then it listens from the start. It is one more way to dial: who may open what stays as it is.
    /// Default: no, nothing is said in a local network. IPv4 alone.
    pub fn lan(mut self, lan: bool) -> Self {
        self.lan = lan;
        self
    }

    /// The key of a committee's member that this device was provisioned with: where its clock says less than when the
    /// chain spec was made, it believes nothing until this key has signed a nonce of its own. Default: none, and such a
    /// device stays cold.
    pub fn anchor(mut self, key: KeyAddress) -> Self {
        self.anchor = Some(key);
        self
    }

    /// How much this client may hold at a time. Default: what a device with an operating system has to spare;
    /// [`Limits::embedded`] for smaller ones.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
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
        if let Some((name, value, most)) = self.limits.impossible() {
            return Err(StartError::Limit { name, value, most });
        }
        let teller = Teller::default();
        let pool = Arc::new(NodePool::new(self.nodes, teller.clone())?);
        let (store, given) = (self.heads.clone(), self.spec);
        let load = tokio::task::spawn_blocking(move || Loaded::from(&*store, given)).await;
        let Loaded { spec, highest, walked } =
            load.map_err(io::Error::other).flatten().map_err(StartError::Heads)?;
        let (swarm, control) =
            device_swarm(&self.key, &DeviceConfig { upnp: self.upnp, ..DeviceConfig::new(AGENT) })?;
        let own = *swarm.local_peer_id();
        let stop = CancellationToken::new();
        let (listening, direct) = watch::channel(Vec::new());
        let (observed, seen) = watch::channel(HashMap::new());
        let (mapped, opened) = watch::channel(Vec::new());
        let confirmed = watch::Sender::new(Vec::new());
        let (direct_ways, invitations) = Direct::new(self.punch, seen, direct.clone(), opened);
        let outlook = Outlook {
            listening,
            mapped,
            observed,
            authorised: direct_ways.authorised(),
            nodes: pool.peers(),
        };
        let (network, network_task) =
            Network::new(swarm, control.clone(), outlook, teller.clone(), stop.clone());
        // A development chain may be dated ahead of everybody's clock.
        let made = if spec.dev { spec.date.min(DEV_CLOCK) } else { spec.date };
        let time = Arc::new(Timekeeper::new(self.clock, made.saturating_sub(CLOCK_SLACK)));
        let guard = Guard::new(time.clone(), teller.clone(), self.limits.live_streams);
        let verifier = Arc::new(Verifier::new(spec, time, walked));
        let asker = Arc::new(Asker {
            control: control.clone(),
            pool,
            heads: Arc::new(Heads::new(highest)),
            guard: guard.clone(),
            verifier: verifier.clone(),
            walking: Default::default(),
            renewing: Default::default(),
            store: self.heads.clone(),
            anchor: self.anchor,
            warming: Default::default(),
            teller: teller.clone(),
            max_age: self.max_age,
            hedge_after: self.hedge_after,
        });
        let core = Arc::new(Core {
            asker,
            warm: Arc::new(Warm::new(guard.clone(), verifier, self.max_age, self.limits.kept_answers)),
            guard,
            book: Book::new(self.limits.publications),
            network,
            entering: Turns::new(ENTERING, WAITING_TO_ENTER),
            asking: Turns::new(1, WAITING_TO_ENTER),
            // Where it is reached is named in routes only if it opted in: else nobody fills this.
            reach: Reach::new(confirmed.subscribe()),
            direct_ways,
            moved: watch::Sender::new(0),
            teller,
            own: self.device.unwrap_or_else(|| self.key.address().as_first_key()),
            key: self.key,
            direct: self.direct,
            lan: self.lan.then(Arc::default),
            limits: self.limits,
        });
        let mut tasks = start_tasks(&core, &control, self.heads, &stop);
        tasks.spawn(network_task);
        tasks.spawn(direct::invite(core.clone(), invitations, stop.clone()));
        if let Some(lan) = core.lan.clone() {
            listen(&core, direct.clone()).await?;
            tasks.spawn(lan.run(own, direct.clone(), core.book.count(), stop.clone()));
        }
        if self.direct {
            listen(&core, direct).await?;
            let queue = NonZeroUsize::new(DIAL_BACKS).expect("a constant above zero");
            let dialled_back = control.accept(autonat::DIAL_BACK, queue).expect("nobody else accepts it");
            tasks.spawn(confirm::keep(core.clone(), dialled_back, confirmed, stop.clone()));
        }
        Ok(Client::new(core, stop, tasks))
    }
}

/// Begins to listen for direct connections, and makes sure that it does.
async fn listen(core: &Core, mut listening: watch::Receiver<Vec<Multiaddr>>) -> Result<(), StartError> {
    core.network.listen().await;
    let begun = timeout(LISTEN_WITHIN, listening.wait_for(|addresses| !addresses.is_empty())).await;
    match begun {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => {
            Err(StartError::Listen(format!("no interface had an address within {LISTEN_WITHIN:?}")))
        }
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
