//! The relay's server: takes requests on the hop protocol, asks whom it serves, keeps reservations, opens circuits.
//!
//! It is a user of streams like any other and no part of the swarm, so nothing that passes through it holds the swarm
//! up. One task for each request, which goes on as the keeper of the reservation or the carrier of the circuit; the
//! server joins them all.

use std::{
    collections::HashMap,
    future::Future,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures::AsyncWriteExt;
use libp2p::{PeerId, StreamProtocol, core::SignedEnvelope, identity::Keypair, multiaddr::Protocol};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    bandwidth::Bandwidth,
    circuit::{Carriage, Circuit, Moved},
    ledger::{Booked, Caps, Keeper, Ledger, NoPlace, Reserved},
    meter::{Meters, Usage},
    policy::{Group, Policy, Standing},
    rates::Rates,
    wire::{self, Granted, HopRequest, MAX_MESSAGE, Status},
};
use crate::{
    frame::{FrameError, read_frame_of, write_frame},
    limits,
    misbehaviour::Misbehaviour,
    streams::{AlreadyAccepting, Control, Hold, Incoming, PeerStream},
};

/// What devices and callers speak to a relay.
pub const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");

/// What a relay speaks to the device that a circuit is for.
pub const STOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/stop");

/// What one relay grants. The defaults are those of [`crate::limits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayConfig {
    /// How many of everything.
    pub caps: Caps,
    /// Whether strangers may open circuits, within their share.
    pub strangers: bool,
    /// Life of a reservation.
    pub reservation_life: Duration,
    /// Circuits on which nothing moves for this long end.
    pub idle: Duration,
    /// How often whoever holds anything is judged again.
    pub rejudge: Duration,
    /// Bytes per second through all circuits together; none is no limit.
    pub bytes_per_second: Option<u64>,
    /// Bytes per second that one device may send, over all its circuits; none is no limit.
    pub device_bytes_per_second: Option<u64>,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            caps: Caps::default(),
            strangers: true,
            reservation_life: limits::RESERVATION_LIFE,
            idle: limits::CIRCUIT_IDLE,
            rejudge: limits::REJUDGE,
            bytes_per_second: None,
            device_bytes_per_second: None,
        }
    }
}

/// What a relay counts, for others to look at.
#[derive(Clone)]
pub struct RelayStats(Arc<Shared>);

impl RelayStats {
    /// Devices that hold a reservation.
    pub fn reservations(&self) -> usize {
        self.0.ledger.counts().0
    }

    /// Circuits that stand or are being opened.
    pub fn circuits(&self) -> usize {
        self.0.ledger.counts().1
    }

    /// Requests that were refused, for whatever reason, since the start.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Bytes that each device sent into the relay.
    pub fn usage(&self) -> Usage {
        self.0.meters.usage()
    }

    /// Bytes of memory that relayed bytes may pass through at this moment, small buffers not counted.
    pub fn buffer_bytes(&self) -> usize {
        self.0.carriage.buffers.made() * limits::RELAY_BUFFER
    }
}

/// What all tasks of a relay share.
struct Shared {
    config: RelayConfig,
    keypair: Keypair,
    local: PeerId,
    control: Control,
    policy: Arc<dyn Policy>,
    ledger: Arc<Ledger>,
    carriage: Carriage,
    meters: Meters,
    rates: Rates,
    under_way: UnderWay,
    misbehaviour: Misbehaviour,
    refused: AtomicU64,
    stopping: watch::Sender<bool>,
}

/// A relay that accepts requests; it answers them while it runs.
pub struct Server {
    shared: Arc<Shared>,
    incoming: Incoming,
}

impl Server {
    /// Begins to accept requests on every connection of `control`'s swarm, present and future.
    pub fn new(
        keypair: Keypair,
        control: Control,
        policy: Arc<dyn Policy>,
        config: RelayConfig,
    ) -> Result<Self, AlreadyAccepting> {
        let queue = NonZeroUsize::new(limits::HOP_QUEUE).unwrap_or(NonZeroUsize::MIN);
        let incoming = control.accept(HOP, queue)?;
        let rate = config.bytes_per_second.map(Bandwidth::new).map(Arc::new);
        let shared = Shared {
            local: keypair.public().to_peer_id(),
            keypair,
            control,
            policy,
            ledger: Ledger::new(config.caps),
            carriage: Carriage { buffers: Arc::default(), rate },
            meters: Meters::new(config.device_bytes_per_second),
            rates: Rates::default(),
            under_way: UnderWay::default(),
            misbehaviour: Misbehaviour::default(),
            refused: AtomicU64::new(0),
            stopping: watch::Sender::new(false),
            config,
        };
        Ok(Self { shared: Arc::new(shared), incoming })
    }

    /// What it counts.
    pub fn stats(&self) -> RelayStats {
        RelayStats(self.shared.clone())
    }

    /// Serves until `stop`, then lets circuits end that have something under way, for a bounded time.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { shared, mut incoming } = self;
        let mut tasks = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(stream) = incoming.next() => {
                    if let Some(seat) = shared.admit(&stream) {
                        tasks.spawn(serve(shared.clone(), stream, seat));
                    }
                }
                Some(served) = tasks.join_next() => if let Ok(Some(keeper)) = served {
                    // What is granted lasts: a task of its own, since one for a request takes more memory.
                    tasks.spawn(kept(shared.clone(), keeper));
                }
            }
        }
        // No new request is agreed on from here, and none that waits is taken.
        drop(incoming);
        shared.stopping.send_replace(true);
        let drained = async { while tasks.join_next().await.is_some() {} };
        if timeout(limits::RELAY_DRAIN, drained).await.is_err() {
            tracing::info!(circuits = tasks.len(), "circuits are cut: they did not end in time");
        }
        tasks.shutdown().await;
    }
}

/// Requests under way, by peer: one that says nothing holds a seat of its own, not somebody else's.
#[derive(Debug, Default)]
struct UnderWay(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_peer: HashMap<PeerId, usize>,
}

/// A request's seat; given back when dropped.
struct Seat(Arc<Mutex<Taken>>, PeerId);

/// Whose seats are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoSeat {
    /// The peer's own: its doing.
    Own,
    /// Everybody's: not this peer's doing.
    All,
}

impl UnderWay {
    fn take(&self, peer: PeerId) -> Result<Seat, NoSeat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_peer.get(&peer).copied().unwrap_or_default();
        if own >= limits::HOPS_PER_PEER {
            return Err(NoSeat::Own);
        }
        if taken.all >= limits::HOPS {
            return Err(NoSeat::All);
        }
        taken.all += 1;
        taken.by_peer.insert(peer, own + 1);
        Ok(Seat(self.0.clone(), peer))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        match taken.by_peer.get_mut(&self.1) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.by_peer.remove(&self.1)),
        }
    }
}

impl Shared {
    /// A seat for a request. Without one the stream is dropped, which resets it and costs us nothing more.
    fn admit(&self, stream: &PeerStream) -> Option<Seat> {
        let seat = self.under_way.take(stream.peer());
        let why = seat.as_ref().err().copied();
        if why == Some(NoSeat::Own) {
            self.misbehaved(stream, "too many requests to the relay at once");
        }
        self.refused.fetch_add(u64::from(why.is_some()), Ordering::Relaxed);
        seat.ok()
    }

    fn misbehaved(&self, stream: &PeerStream, what: &str) {
        self.misbehaviour.tell(stream.ip(), Some(stream.peer()), what);
    }

    async fn standing(&self, peer: PeerId) -> Result<Standing, Status> {
        self.policy.standing(peer).await.map_err(|error| {
            tracing::debug!(%peer, %error, "the relay");
            Status::ResourceLimitExceeded
        })
    }

    /// The group of a peer that may hold a reservation.
    async fn may_reserve(&self, peer: PeerId) -> Result<Group, Status> {
        match self.standing(peer).await? {
            Standing::Served(group) => Ok(group),
            Standing::Stranger | Standing::Refused => Err(Status::PermissionDenied),
        }
    }

    /// The group of a peer that may open circuits.
    async fn may_call(&self, peer: PeerId) -> Result<Group, Status> {
        match self.standing(peer).await? {
            Standing::Served(group) => Ok(group),
            Standing::Stranger if self.config.strangers => Ok(Group::Strangers),
            Standing::Stranger | Standing::Refused => Err(Status::PermissionDenied),
        }
    }

    /// Returns when a peer that may at the moment `check` may no longer. Not being able to tell changes nothing.
    async fn until_refused<F: Future<Output = Result<Group, Status>>>(&self, check: impl Fn() -> F) {
        loop {
            sleep(self.config.rejudge).await;
            if check().await == Err(Status::PermissionDenied) {
                return;
            }
        }
    }

    /// Returns once the relay stops.
    async fn stopping(&self) {
        // The sender lives in `self`, so this ends with the relay's stop alone.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// What a granted reservation says. `None` while this relay doesn't know where it is.
    fn reservation(&self, peer: PeerId) -> Option<Granted> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let expires = (now + self.config.reservation_life).as_secs();
        let addresses: Vec<_> = self
            .control
            .external_addresses()
            .into_iter()
            .take(limits::RELAY_ADDRESSES)
            .map(|address| address.with(Protocol::P2p(self.local)))
            .collect();
        if addresses.is_empty() {
            tracing::warn!("a reservation is refused: no external address of this relay is known");
            return None;
        }
        let payload = wire::voucher(&self.local, &peer, expires);
        // Domain and payload type of the specification's reservation vouchers.
        let envelope =
            SignedEnvelope::new(&self.keypair, "libp2p-relay-rsvp".to_owned(), vec![0x03, 0x02], payload);
        let voucher = envelope.map(SignedEnvelope::into_protobuf_encoding).unwrap_or_default();
        Some(Granted { expires, addresses, voucher })
    }
}

/// Serves one request to its end; what it granted is to be kept.
async fn serve(shared: Arc<Shared>, mut stream: PeerStream, seat: Seat) -> Option<Keeper> {
    let peer = stream.peer();
    let request = match timeout(limits::HOP_DEADLINE, read_request(&shared, &mut stream)).await {
        Ok(Ok(request)) => request,
        Ok(Err(status)) => {
            refuse(&shared, stream, status).await;
            return None;
        }
        Err(_) => {
            shared.misbehaved(&stream, "no request came on a stream to the relay");
            return None;
        }
    };
    let outcome = match request {
        HopRequest::Reserve => match reserve(&shared, &mut stream).await {
            Ok(keeper) => return keeper,
            Err(status) => status,
        },
        HopRequest::Connect(to) => match connect(&shared, &mut stream, to).await {
            Ok((booked, stop)) => {
                drop(seat);
                // In a box, so that a request under way takes little memory.
                Box::pin(carry(&shared, booked, (peer, stream), (to, stop))).await;
                return None;
            }
            Err(status) => status,
        },
    };
    refuse(&shared, stream, outcome).await;
    None
}

async fn read_request(shared: &Shared, stream: &mut PeerStream) -> Result<HopRequest, Status> {
    let frame = match read_frame_of(stream, MAX_MESSAGE).await {
        Ok(frame) => frame,
        // Somebody who thought better of it.
        Err(FrameError::Io(_) | FrameError::Ended) => return Err(Status::ConnectionFailed),
        Err(error) => {
            shared.misbehaved(stream, &format!("a request to the relay can't be read: {error}"));
            return Err(Status::MalformedMessage);
        }
    };
    let request = HopRequest::decode(&frame).map_err(|error| {
        shared.misbehaved(stream, &format!("a request to the relay can't be understood: {error}"));
        error.status()
    })?;
    if !shared.rates.admit(stream.peer(), std::time::Instant::now()) {
        shared.misbehaved(stream, "requests to the relay come too fast");
        return Err(Status::ResourceLimitExceeded);
    }
    if stream.path().is_relayed() {
        // Circuits over circuits multiply what one of them costs.
        return Err(Status::PermissionDenied);
    }
    Ok(request)
}

/// Answers with a refusal. Best effort: it was decided already.
async fn refuse(shared: &Shared, mut stream: PeerStream, status: Status) {
    shared.refused.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(peer = %stream.peer(), ?status, "the relay refused a request");
    let answer = async {
        write_frame(&mut stream, &wire::hop_status(status)).await?;
        stream.close().await.map_err(FrameError::from)
    };
    let _ = timeout(limits::HOP_DEADLINE, answer).await;
}

/// Grants a reservation. `None` if one that stands was renewed, or the answer wasn't taken.
async fn reserve(shared: &Arc<Shared>, stream: &mut PeerStream) -> Result<Option<Keeper>, Status> {
    let peer = stream.peer();
    let group = shared.may_reserve(peer).await?;
    let granted = shared.reservation(peer).ok_or(Status::ReservationRefused)?;
    let until = Instant::now() + shared.config.reservation_life;
    let reserved = shared.ledger.reserve(peer, group, stream.hold(), until).map_err(|error| {
        tracing::debug!(%peer, %error, "the relay");
        Status::ResourceLimitExceeded
    })?;
    let answer = async {
        write_frame(stream, &wire::granted(&granted)).await?;
        stream.close().await.map_err(FrameError::from)
    };
    match (timeout(limits::HOP_DEADLINE, answer).await, reserved) {
        (Ok(Ok(())), Reserved::New(keeper)) => Ok(Some(keeper)),
        // Who doesn't take the answer has no reservation.
        _ => Ok(None),
    }
}

async fn kept(shared: Arc<Shared>, keeper: Keeper) -> Option<Keeper> {
    keep(&shared, keeper).await;
    None
}

/// Keeps a reservation until it ends, its connection does, another takes its place, or its device is refused.
async fn keep(shared: &Shared, mut keeper: Keeper) {
    let hold: Arc<Hold> = keeper.hold.clone();
    let refused = shared.until_refused(|| shared.may_reserve(hold.peer()));
    let expired = async {
        loop {
            let until = *keeper.until.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                changed = keeper.until.changed() => if changed.is_err() { return },
            }
        }
    };
    tokio::select! {
        () = hold.over() => {}
        () = refused => {
            tracing::info!(peer = %hold.peer(), "a reservation ends: its device isn't served any more");
            // No message says that a reservation is gone. Its device would take it for standing, also once it is
            // served again; a connection that closes makes it ask anew.
            shared.control.disconnect(hold.peer()).await;
        }
        () = expired => {}
        () = shared.stopping() => {}
    }
}

/// Books a circuit and has its destination take it.
async fn connect(
    shared: &Arc<Shared>,
    stream: &mut PeerStream,
    to: PeerId,
) -> Result<(Booked, PeerStream), Status> {
    let from = stream.peer();
    if from == to {
        return Err(Status::PermissionDenied);
    }
    let group = shared.may_call(from).await?;
    let booked = shared.ledger.book(from, group, to).map_err(|error| {
        tracing::debug!(%from, %to, %error, "the relay");
        match error {
            NoPlace::NoReservation => Status::NoReservation,
            NoPlace::RelayFull | NoPlace::CallerFull | NoPlace::DestinationFull => {
                Status::ResourceLimitExceeded
            }
        }
    })?;
    // The device may have been revoked since it was judged last.
    if shared.may_reserve(to).await == Err(Status::PermissionDenied) {
        return Err(Status::NoReservation);
    }
    let stopped = timeout(limits::STOP_DEADLINE, stop(&booked, from));
    let other = stopped.await.unwrap_or(Err(Status::ConnectionFailed))?;
    let answer = wire::hop_status(Status::Ok);
    match timeout(limits::HOP_DEADLINE, write_frame(stream, &answer)).await {
        Ok(Ok(())) => Ok((booked, other)),
        _ => Err(Status::ConnectionFailed),
    }
}

/// Asks the destination to take a circuit, when it is this one's turn.
async fn stop(booked: &Booked, from: PeerId) -> Result<PeerStream, Status> {
    let failed = |_| Status::ConnectionFailed;
    let _turn = booked.turns.acquire().await.map_err(failed)?;
    let opened = booked.hold.open(STOP, limits::STOP_DEADLINE).await;
    let mut stream = opened.map_err(|error| {
        tracing::debug!(to = %booked.hold.peer(), %error, "a circuit's destination can't be asked");
        Status::ConnectionFailed
    })?;
    let asked = async {
        write_frame(&mut stream, &wire::stop_connect(&from)).await?;
        read_frame_of(&mut stream, MAX_MESSAGE).await
    };
    let answer = asked.await.map_err(|_| Status::ConnectionFailed)?;
    match wire::stop_status(&answer) {
        Ok(code) if code == Status::Ok.code() => Ok(stream),
        Ok(code) if code == Status::PermissionDenied.code() => Err(Status::PermissionDenied),
        Ok(code) if code == Status::ResourceLimitExceeded.code() => Err(Status::ResourceLimitExceeded),
        // Above all devices that let go of their reservation and whose word of it is still under way.
        _ => Err(Status::ConnectionFailed),
    }
}

/// Carries a circuit until it ends, is idle for too long, or one of its ends is refused.
async fn carry(
    shared: &Shared,
    booked: Booked,
    (from, near): (PeerId, PeerStream),
    (to, far): (PeerId, PeerStream),
) {
    let near = (near, shared.meters.of(from));
    let far = (far, shared.meters.of(to));
    let circuit = Circuit::new(near, far, &shared.carriage);
    let moved = circuit.moved();
    let refused = async {
        tokio::select! {
            () = shared.until_refused(|| shared.may_call(from)) => {}
            () = shared.until_refused(|| shared.may_reserve(to)) => {}
        }
    };
    let still = async {
        tokio::select! {
            () = until_still(&moved, shared.config.idle) => {}
            () = async {
                shared.stopping().await;
                until_still(&moved, limits::RELAY_DRAIN_QUIET).await;
            } => {}
        }
    };
    let ended = tokio::select! {
        ended = circuit => match ended {
            Ok(()) => "both ends closed",
            Err(_) => "one end broke",
        },
        () = refused => "an end isn't served any more",
        () = still => "nothing moved on it",
    };
    tracing::debug!(%from, %to, ended, bytes = moved.load(Ordering::Relaxed), "a circuit ended");
    drop(booked.place);
}

/// Returns when nothing moved for this long, give or take a quarter of it.
async fn until_still(moved: &Moved, idle: Duration) {
    let (mut seen, mut since) = (moved.load(Ordering::Relaxed), Instant::now());
    loop {
        sleep(idle / 4).await;
        match moved.load(Ordering::Relaxed) {
            now if now != seen => (seen, since) = (now, Instant::now()),
            _ if since.elapsed() >= idle => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn requests_under_way_are_bounded_for_a_peer_and_for_all_and_forgotten() {
        let under_way = UnderWay::default();
        let greedy = PeerId::random();
        let held: Vec<Seat> = std::iter::from_fn(|| under_way.take(greedy).ok()).collect();
        assert_eq!(held.len(), limits::HOPS_PER_PEER);
        let others: Vec<Seat> = std::iter::from_fn(|| under_way.take(PeerId::random()).ok()).collect();
        assert_eq!(held.len() + others.len(), limits::HOPS);
        assert_eq!(under_way.take(greedy).err(), Some(NoSeat::Own));
        assert_eq!(under_way.take(PeerId::random()).err(), Some(NoSeat::All));
        drop(held);
        assert!(under_way.take(greedy).is_ok());
        drop(others);
        assert_eq!(under_way.0.lock().unwrap().all, 0);
        assert!(under_way.0.lock().unwrap().by_peer.is_empty());
    }
}
