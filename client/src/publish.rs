//! Published services: who asks for one is judged here, before a byte of the service flows.
//!
//! Callers prove themselves with a staple; what it rests on is judged together with this device's own fresh
//! evidence about itself. A refusal tells its code, nothing else.

use crate::{
    ask::{AskError, Asker, cold},
    claim::verify_staple,
    client::Core,
    desk::{Desk, Heard},
    events::Event,
    guard::{Guard, Held, Rule},
    limits::{ACCEPT_QUEUE, OPEN_DEADLINE},
    open::carried,
    refused::{RefusedNode, Rejection, listed},
    stream::{Pipe, Stream},
};
use libp2p::PeerId;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use windlass_p2p::{
    Incoming, PeerStream,
    frame::{FrameError, read_frame, write_frame},
    identity,
};
use windlass_protocol::{
    DeviceId, KeyAddress, Service,
    authorise::{OFFLINE_MAX_AGE, Policy, Refusal, judge_device},
    message::stream::{MAX_OPEN_BYTES, Open, Reply},
    question::Question,
    record::DeviceRecord,
    slot::Slot,
    wire::{self, DecodeError},
};

/// Why a service was not published.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// This device's own record forbids it.
    #[error("device {device} can't publish: {refusal}")]
    NotActive {
        /// This device.
        device: DeviceId,
        /// What its record says.
        refusal: Refusal,
    },
    /// Streams are published as services of streams, datagrams as those of datagrams.
    #[error("{0} carries {carried}: publish it as such", carried = carried(*.0))]
    OtherTransport(Service),
    /// The service is published already.
    #[error("{0} is published already")]
    AlreadyPublished(Service),
    /// Too many services.
    #[error("{0} services are published already")]
    TooMany(usize),
    /// No node could prove this device's own record.
    #[error("no node could prove this device's own record: {}", listed(.refused))]
    NoNode {
        /// Each refused node and why.
        refused: Vec<RefusedNode>,
    },
    /// This device has no clock, and its anchor has not told it the time.
    #[error("{}", cold(.refused))]
    Cold {
        /// The nodes that were asked for a head signed over a nonce, and what came of it.
        refused: Vec<RefusedNode>,
    },
    /// No node took a reservation and the route.
    #[error("no node made this device reachable within {after:?}; last failure: {last}")]
    NotReachable {
        /// The deadline.
        after: Duration,
        /// What happened last.
        last: String,
    },
    /// Evidence would count for no time, or for longer than anyone may rely on it.
    #[error("the policy's max_age is {0} s; it is from 1 to {OFFLINE_MAX_AGE}")]
    MaxAge(u64),
    /// The client is shut down.
    #[error("the client has been shut down")]
    Stopped,
}

impl PublishError {
    /// Whether this is a proven *no* rather than a failure.
    pub fn is_proven_no(&self) -> bool {
        matches!(self, Self::NotActive { .. })
    }

    fn unanswered(error: AskError) -> Self {
        match error {
            AskError::NoNode { refused } => Self::NoNode { refused },
            AskError::Cold { refused } => Self::Cold { refused },
            AskError::Stopped => Self::Stopped,
        }
    }
}

/// A published service. Dropping it withdraws the service and cuts the streams that were accepted.
pub struct Publication {
    service: Service,
    streams: mpsc::Receiver<Stream>,
    relays: watch::Receiver<Vec<PeerId>>,
    book: Arc<Book>,
    guard: Arc<Guard>,
    _held: Held,
}

impl Publication {
    pub(crate) fn new(core: &Core, service: Service, entry: Registered) -> Self {
        let Registered { streams, held } = entry;
        let (book, guard) = (core.book.clone(), core.guard.clone());
        Self { service, streams, relays: core.reach.relays(), book, guard, _held: held }
    }

    /// The next authorised stream; `None` once the client is shut down. Cancel-safe.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }

    /// The service.
    pub fn service(&self) -> Service {
        self.service
    }

    /// The nodes that relay to this device right now.
    pub fn relays(&self) -> Vec<PeerId> {
        self.relays.borrow().clone()
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        // One that is let in between the two finds the queue of streams closed, or ends in it.
        self.guard.withdraw(self.service);
        self.book.withdraw(self.service);
    }
}

/// What a registration in the book hands to its publication.
pub(crate) struct Registered {
    streams: mpsc::Receiver<Stream>,
    held: Held,
}

struct Published {
    policy: Arc<Policy>,
    streams: mpsc::Sender<Stream>,
}

/// The published services.
pub(crate) struct Book {
    services: Mutex<BTreeMap<Service, Published>>,
    /// How many there may be.
    most: usize,
    /// How many there are: the device is reachable while there is one.
    count: watch::Sender<usize>,
}

impl Book {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { services: Mutex::default(), most, count: watch::Sender::new(0) })
    }

    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    fn register(&self, service: Service, policy: Policy) -> Result<mpsc::Receiver<Stream>, PublishError> {
        let mut services = self.lock();
        let room = services.len() < self.most;
        let (sender, streams) = mpsc::channel(ACCEPT_QUEUE);
        match services.entry(service) {
            Entry::Occupied(_) => return Err(PublishError::AlreadyPublished(service)),
            Entry::Vacant(_) if !room => return Err(PublishError::TooMany(self.most)),
            Entry::Vacant(entry) => entry.insert(Published { policy: Arc::new(policy), streams: sender }),
        };
        self.count.send_replace(services.len());
        Ok(streams)
    }

    pub(crate) fn withdraw(&self, service: Service) {
        let mut services = self.lock();
        services.remove(&service);
        self.count.send_replace(services.len());
    }

    /// Ends every publication: their owners see the end of their streams.
    pub(crate) fn clear(&self) {
        self.lock().clear();
        self.count.send_replace(0);
    }

    fn find(&self, service: Service) -> Option<(Arc<Policy>, mpsc::Sender<Stream>)> {
        self.lock().get(&service).map(|found| (found.policy.clone(), found.streams.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Service, Published>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Proves this device's own standing and registers the service.
pub(crate) async fn register(
    core: &Core,
    service: Service,
    policy: Policy,
) -> Result<Registered, PublishError> {
    let max_age = policy.max_age;
    if !(1..=OFFLINE_MAX_AGE).contains(&max_age) {
        return Err(PublishError::MaxAge(max_age));
    }
    let record = own_record(&core.asker, core.own, core.key.address()).await?;
    let fleet = Question::Fleet(record.fleet);
    core.asker.ask(vec![fleet], |_, _| Ok(())).await.map_err(PublishError::unanswered)?;
    let held = core.guard.hold(vec![Slot::Device(core.own), Slot::Fleet(record.fleet)], max_age);
    let streams = core.book.register(service, policy)?;
    Ok(Registered { streams, held })
}

async fn own_record(asker: &Asker, own: DeviceId, key: KeyAddress) -> Result<DeviceRecord, PublishError> {
    let question = Question::Slot(Slot::Device(own));
    let read = |bundle: &windlass_protocol::bundle::VerifiedBundle, _: &[_]| {
        bundle.device(own).map_err(crate::refused::Rejection::Unproven)
    };
    let (record, answer) = asker.ask(vec![question], read).await.map_err(PublishError::unanswered)?;
    let refused = |refusal| PublishError::NotActive { device: own, refusal };
    let record = record.ok_or_else(|| refused(Refusal::NotRegistered))?;
    judge_device(&record, answer.provenance.timestamp, asker.verifier.now()).map_err(refused)?;
    match record.key == key {
        true => Ok(record),
        false => Err(refused(Refusal::NotItsKey)),
    }
}

/// Judges inbound streams until stopped, a bounded number at a time; a slow caller holds up no other.
pub(crate) async fn accept(core: Arc<Core>, mut incoming: Incoming, stop: CancellationToken) {
    let mut desk = Desk::new(core.limits.judging);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            stream = incoming.next(), if desk.has_room() => match stream {
                Some(stream) => desk.take(stream.peer(), |heard| welcome(core.clone(), stream, heard)),
                None => break,
            },
            Some(()) = desk.finished() => {}
        }
    }
    desk.shutdown().await;
}

/// Why an inbound stream was not answered.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    PeerId(#[from] windlass_protocol::peer_id::PeerIdError),
}

async fn welcome(core: Arc<Core>, stream: PeerStream, heard: Heard) {
    let peer = stream.peer();
    match timeout(OPEN_DEADLINE, serve(&core, stream, &heard)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "an inbound stream failed before it was answered"),
        Err(_) => tracing::debug!(%peer, after = ?OPEN_DEADLINE, "an inbound stream was too slow to open"),
    }
}

/// Reads the open, judges it, replies, and hands the stream to the publication's owner.
async fn serve(core: &Core, mut stream: PeerStream, heard: &Heard) -> Result<(), Unanswered> {
    let key = identity::key_address_of(&stream.peer())?;
    let frame = read_frame(&mut stream).await?;
    let open: Open = wire::decode(&frame, MAX_OPEN_BYTES)?;
    heard.set();
    if matches!(core.asker.verifier.grounds(&open.staple.header), Err(Rejection::Unwalked { .. })) {
        // An epoch has begun, and the caller knows before we do.
        core.asker.catch_up().await;
    }
    let judged = judge(core, &open, key).and_then(|(rule, streams)| {
        // The place in the owner's queue is taken before the caller is told yes.
        let place = streams.try_reserve_owned().map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::Busy,
            mpsc::error::TrySendError::Closed(_) => Refusal::NoService,
        })?;
        if core.guard.has_room() { Ok((rule, place)) } else { Err(Refusal::Busy) }
    });
    let device = open.claim.device(key);
    let (rule, place) = match judged {
        Ok(accepted) => accepted,
        Err(refusal) => {
            // Strangers can have this said as often as they like, so it is not for every log.
            tracing::debug!(caller = %device, service = %open.service, %refusal, "refused a caller");
            let (caller, service) = (device, open.service);
            core.teller.tell(|| Event::CallerRefused { caller, service, refusal });
            write_frame(&mut stream, &wire::encode(&Reply::Refused(refusal))).await?;
            // Closing lets the reply arrive; dropping alone would reset the stream.
            return Ok(futures::AsyncWriteExt::close(&mut stream).await.map_err(FrameError::Io)?);
        }
    };
    write_frame(&mut stream, &wire::encode(&Reply::Accepted)).await?;
    let (path, tether) = (stream.path(), stream.tether());
    // Whoever a public service lets in is no less a stranger, who never learns where this device is.
    let may_know = path.is_relayed() && !rule.is_for_anyone();
    let pipe = Pipe::new(stream);
    // The evidence may have changed while the reply was written; then the stream is reset right here.
    match core.guard.admit(pipe.clone(), rule) {
        Ok(admission) => {
            tracing::debug!(caller = %device, service = %open.service, %path, "accepted a stream");
            place.send(Stream::new(pipe, admission, (device, key), open.service, path));
            if may_know {
                core.direct_ways.let_in(tether);
            }
        }
        Err(refusal) => tracing::debug!(caller = %device, %refusal, "ended a stream as it began"),
    }
    Ok(())
}

fn judge(core: &Core, open: &Open, key: KeyAddress) -> Result<(Rule, mpsc::Sender<Stream>), Refusal> {
    let (policy, streams) = core.book.find(open.service).ok_or(Refusal::NoService)?;
    let own = core.guard.device(core.own).ok_or(Refusal::Stale)?;
    let verifier = &core.asker.verifier;
    let grounds = verifier.grounds(&open.staple.header).map_err(|_| Refusal::BadStaple)?;
    let staple = verify_staple(&grounds.trust(), open, key, core.own, own.fleet)
        .inspect_err(|error| tracing::debug!(caller = %key, %error, "a staple proves nothing"))
        .map_err(|_| Refusal::BadStaple)?;
    // A block that contradicts one verified before is no evidence, whoever attested it.
    core.asker
        .heads
        .note(staple.head())
        .inspect_err(|error| tracing::debug!(caller = %key, %error, "a staple contradicts what is proven"))
        .map_err(|_| Refusal::BadStaple)?;
    core.guard.observe(&staple);
    let rule = Rule::Inbound { policy, service: open.service, own: core.own(), key, claim: open.claim };
    core.guard.judge(&rule)?;
    Ok((rule, streams))
}
