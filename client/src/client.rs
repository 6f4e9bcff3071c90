//! What a client does, the tasks that do it, and how they end.

use crate::{
    ask::{Answer, AskError, Asker},
    builder::Builder,
    datagrams::{DatagramPublication, Datagrams},
    direct::{self, Direct},
    events::{Events, Teller},
    fresh::Warmth,
    guard::{Guard, Known, Own},
    heads::{self, HeadStore, Walked},
    interfaces, keep,
    lan::Lan,
    limits::{INBOUND_QUEUE, Limits, PUBLISH_DEADLINE, PUNCHES, SHUTDOWN},
    network::Network,
    open::{self, OpenError},
    publish::{self, Book, Publication, PublishError},
    reach::{self, Reach},
    resolve::{self, ResolveError, Resolved},
    stream::Stream,
    turns::Turns,
    warm::Warm,
    watch,
};
use libp2p::StreamProtocol;
use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use windlass_p2p::Control;
use windlass_protocol::{
    DeviceId, SecretKey, Service,
    authorise::Policy,
    head::VerifiedHead,
    message::names,
    question::{Question, Target},
    spec::VerifiedSpec,
};

/// How long a new publication waits for its second relay once it has a first.
const SECOND_RELAY: Duration = Duration::from_secs(2);

pub(crate) fn start_tasks(
    core: &Arc<Core>,
    control: &Control,
    store: Arc<dyn HeadStore>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let asker = &core.asker;
    tasks.spawn(heads::keep(
        asker.heads.clone(),
        asker.verifier.clone(),
        store,
        core.teller.clone(),
        stop.clone(),
    ));
    tasks.spawn(keep::keep(asker.clone(), core.warm.clone(), stop.clone()));
    for _ in 0..core.limits.watched_nodes.min(asker.pool.len()) {
        tasks.spawn(watch::seat(core.clone(), stop.clone()));
    }
    for _ in 0..core.limits.reservations.min(asker.pool.len()) {
        tasks.spawn(reach::seat(core.clone(), stop.clone()));
    }
    tasks.spawn(reach::herald(core.clone(), stop.clone()));
    tasks.spawn(interfaces::watch(core.clone(), stop.clone()));
    let queue = NonZeroUsize::new(INBOUND_QUEUE).expect("a constant above zero");
    let incoming =
        control.accept(StreamProtocol::new(names::STREAM), queue).expect("a new control accepts nothing yet");
    tasks.spawn(publish::accept(core.clone(), incoming, stop.clone()));
    if core.direct_ways.is_wanted() {
        let queue = NonZeroUsize::new(PUNCHES).expect("a constant above zero");
        let invitations =
            control.accept(windlass_p2p::punch::PROTOCOL, queue).expect("a new control accepts nothing yet");
        tasks.spawn(direct::answer(core.clone(), invitations, stop.clone()));
    }
    tasks
}

/// What the client's tasks share.
pub(crate) struct Core {
    pub(crate) asker: Arc<Asker>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) warm: Arc<Warm>,
    pub(crate) book: Arc<Book>,
    pub(crate) network: Network,
    /// Opens under way, by device.
    pub(crate) entering: Turns<DeviceId>,
    /// What opens ask, one caller at a time for each question.
    pub(crate) asking: Turns<(String, Service)>,
    pub(crate) reach: Reach,
    pub(crate) direct_ways: Direct,
    /// How often this machine's addresses changed: what waits to reach somebody needn't wait any longer.
    pub(crate) moved: tokio::sync::watch::Sender<u64>,
    pub(crate) teller: Teller,
    pub(crate) own: DeviceId,
    pub(crate) key: SecretKey,
    pub(crate) direct: bool,
    /// Who asks in the local network, if that is wanted.
    pub(crate) lan: Option<Arc<Lan>>,
    pub(crate) limits: Limits,
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
    pub(crate) fn new(core: Arc<Core>, stop: CancellationToken, tasks: JoinSet<()>) -> Self {
        Self { core, stop, tasks: Mutex::new(tasks) }
    }

    /// Begins a client that believes this chain spec and acts with this key.
    pub fn builder(spec: VerifiedSpec, key: SecretKey) -> Builder {
        Builder::new(spec, key)
    }

    /// This device's id.
    pub fn device_id(&self) -> DeviceId {
        self.core.own
    }

    /// The chain spec in use: the one that was given, or a newer version of it that the same publisher signed.
    pub fn spec(&self) -> Arc<VerifiedSpec> {
        self.core.asker.verifier.spec()
    }

    /// Asks the nodes now for a newer version of the chain spec, whether or not the present one is too old; true if one was
    /// adopted. Looks at most once in 10 s. Cancel-safe.
    pub async fn renew_spec(&self) -> Result<bool, AskError> {
        self.core.asker.warm_up().await?;
        Ok(self.core.asker.renew().await)
    }

    /// The latest committee known, and the epochs it is known to be in office for: as far as the answers so far led.
    pub fn committee(&self) -> Walked {
        self.core.asker.verifier.walked()
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
        self.core.asker.vouched().await.map(|bundle| *bundle.head())
    }

    /// Finds a device: its proven record, and the route it signed. What was proven before answers without a question while
    /// it is fresh, for half of max_age, and nothing newer is known; and after one for the newest head, where the
    /// registry's storage root held. Takes at most 13 s, twice that where a newer chain spec is needed first; cancel-safe.
    pub async fn resolve(&self, target: &Target) -> Result<Resolved, ResolveError> {
        resolve::resolve(&self.core, target).await
    }

    /// Forgets what was proven for earlier questions: the next ones are asked anew.
    pub fn forget(&self) {
        self.core.warm.clear();
    }

    /// What is proven of a device and still counts, without asking anybody; `None` if that is not enough. Never blocks.
    pub fn look_up(&self, target: &Target) -> Option<Known> {
        self.core.guard.known(target, self.core.asker.max_age)
    }

    /// Has nodes prove what these questions lead to, all under one head; none asks for the newest head alone. At most 16
    /// questions and 24 slots fit one answer: a larger one is declined by every node. The same questions again are
    /// answered from what was proven, as in [`Client::resolve`]. Questions of a committee or of the chain spec are the
    /// client's own: no node is asked. Cancel-safe.
    pub async fn ask(&self, questions: Vec<Question>) -> Result<Answer, AskError> {
        // Answered otherwise than by proofs of slots, which would look like a lie here.
        if questions.iter().any(|question| matches!(question, Question::Committee(_) | Question::Spec(_))) {
            return Err(AskError::NoNode { refused: Vec::new() });
        }
        if questions.is_empty() {
            return self.core.asker.ask(questions, |_, _| Ok(())).await.map(|((), answer)| answer);
        }
        if let Some((_, answer)) = self.core.proven_before(&questions).await? {
            return Ok(answer);
        }
        let ((), answer) = self.core.asker.ask(questions.clone(), |_, _| Ok(())).await?;
        self.core.warm.keep(&questions, None, answer.clone(), false);
        Ok(answer)
    }

    /// Opens a service on a device: by the time it returns both ends have proven who they are and that they
    /// may. What the last open of the same service had proven is used again while it is fresh and nothing in it changed.
    /// Cancel-safe.
    pub async fn open(&self, target: &Target, service: Service) -> Result<Stream, OpenError> {
        match service {
            Service::Stream(_) => open::open(&self.core, target, service).await,
            Service::Datagram(_) => Err(OpenError::OtherTransport(service)),
        }
    }

    /// The same for a service of datagrams.
    pub async fn open_datagrams(&self, target: &Target, service: Service) -> Result<Datagrams, OpenError> {
        match service {
            Service::Datagram(_) => open::open(&self.core, target, service).await.map(Datagrams::new),
            Service::Stream(_) => Err(OpenError::OtherTransport(service)),
        }
    }

    /// Publishes a service under a policy. Returns once callers can find and reach this device.
    pub async fn publish(&self, service: Service, policy: Policy) -> Result<Publication, PublishError> {
        match service {
            Service::Stream(_) => self.make_reachable(service, policy).await,
            Service::Datagram(_) => Err(PublishError::OtherTransport(service)),
        }
    }

    /// The same for a service of datagrams.
    pub async fn publish_datagrams(
        &self,
        service: Service,
        policy: Policy,
    ) -> Result<DatagramPublication, PublishError> {
        match service {
            Service::Datagram(_) => self.make_reachable(service, policy).await.map(DatagramPublication::new),
            Service::Stream(_) => Err(PublishError::OtherTransport(service)),
        }
    }

    async fn make_reachable(&self, service: Service, policy: Policy) -> Result<Publication, PublishError> {
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
