//! Opening a stream: one round trip to a node for everything that must be proven, one through a relay to the
//! device, and the key reached compared with the key proven.

use crate::{
    ask::cold,
    claim::{Caller, NoClaim},
    client::Core,
    guard::Rule,
    limits::{ASK_PATIENCE, CONNECT_DEADLINE, REPLY_DEADLINE},
    refused::{RefusedNode, listed},
    resolve::{Denial, Found, ResolveError},
    stream::{Pipe, Stream},
    turns::Turn,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol, multiaddr::Protocol};
use std::time::Duration;
use tokio::time::timeout;
use windlass_p2p::{
    Path, PeerStream,
    frame::{FrameError, read_frame, write_frame},
    identity,
    streams::Stage,
};
use windlass_protocol::{
    DeviceId, KeyAddress, Service,
    authorise::{Claim, Refusal, judge_device},
    bundle::{BundleError, VerifiedBundle},
    message::{
        names,
        stream::{MAX_REPLY_BYTES, Open, Reply},
    },
    question::{Question, Target},
    route::VerifiedRoute,
    slot::Slot,
    wire,
};

/// What an open was doing when its deadline came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenStage {
    /// Reaching the device through its relays.
    Connect,
    /// Waiting for the device's reply.
    Reply,
}

impl std::fmt::Display for OpenStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "reaching it",
            Self::Reply => "waiting for its reply",
        })
    }
}

/// Why a stream was not opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// It is proven that the target leads to no device.
    #[error("{target}: {denial}")]
    Denied {
        /// What was asked.
        target: Target,
        /// What is proven.
        denial: Denial,
    },
    /// Streams are opened to services of streams, datagrams to those of datagrams.
    #[error("{0} carries {carried}: open it as such", carried = carried(*.0))]
    OtherTransport(Service),
    /// The caller is enrolled nowhere, and the service is not public.
    #[error("device {device} is not registered")]
    NotRegistered {
        /// Whom it concerns: this device.
        device: DeviceId,
    },
    /// This device or the target is revoked, for ever.
    #[error("device {device} is revoked")]
    Revoked {
        /// Whom it concerns.
        device: DeviceId,
    },
    /// This device or the target is suspended.
    #[error("device {device} is suspended")]
    Suspended {
        /// Whom it concerns.
        device: DeviceId,
    },
    /// This device's or the target's enrolment has expired.
    #[error("the enrolment of device {device} has expired")]
    Expired {
        /// Whom it concerns.
        device: DeviceId,
    },
    /// The key this client acts with is not, or not any more, its device's.
    #[error(
        "this key is not device {device}'s: use the device's current key, or state the device this key is of"
    )]
    NotOurKey {
        /// This device.
        device: DeviceId,
    },
    /// No grant, list entry or fleet lets this device open the service.
    #[error("no grant lets this device open {service} on device {device}")]
    NoGrant {
        /// The target.
        device: DeviceId,
        /// The service.
        service: Service,
    },
    /// No node holds a route of the device that is still good: it is offline, or publishes nothing.
    #[error("device {device} is nowhere to be reached: no node holds a valid route of it")]
    NoRoute {
        /// The target.
        device: DeviceId,
    },
    /// None of the device's relays led to it.
    #[error("device {device} was not reached: {source}")]
    Unreachable {
        /// The target.
        device: DeviceId,
        /// What was tried.
        source: Box<windlass_p2p::OpenError>,
    },
    /// Somebody else answered where the device should be.
    #[error("reached peer {got} in place of {expected}")]
    PeerIsNot {
        /// The device's proven key.
        expected: Box<PeerId>,
        /// Who was there.
        got: Box<PeerId>,
    },
    /// The device refused, for a reason without a variant of its own.
    #[error("device {device} refused {service} with code {code}{}", .refusal.map(|r| format!(": {r}")).unwrap_or_default())]
    Refused {
        /// The target.
        device: DeviceId,
        /// The service.
        service: Service,
        /// The number on the wire.
        code: u8,
        /// What it means, unless it is of a later version.
        refusal: Option<Refusal>,
    },
    /// The evidence of either side is too old to rely on.
    #[error("the evidence about device {device}, or the device's own, is too old to rely on")]
    Stale {
        /// The target.
        device: DeviceId,
    },
    /// The device, or this client, has all the streams it can hold.
    #[error("device {device} is busy, or this client has too many streams")]
    Busy {
        /// The target.
        device: DeviceId,
    },
    /// The device did not do its part in time.
    #[error("device {device}: gave up {stage} after {after:?}")]
    Timeout {
        /// The target.
        device: DeviceId,
        /// What was under way.
        stage: OpenStage,
        /// The deadline.
        after: Duration,
    },
    /// The stream broke before the device had answered.
    #[error("the stream to device {device} broke before it was open: {reason}")]
    Broken {
        /// The target.
        device: DeviceId,
        /// How.
        reason: String,
    },
    /// No node gave an answer that could be verified.
    #[error("{target}: no node gave a verifiable answer: {}", listed(.refused))]
    NoNode {
        /// What was asked.
        target: Target,
        /// Each refused node and why.
        refused: Vec<RefusedNode>,
    },
    /// This device has no clock, and its anchor has not told it the time.
    #[error("{}", cold(.refused))]
    Cold {
        /// The nodes that were asked for a head signed over a nonce, and what came of it.
        refused: Vec<RefusedNode>,
    },
    /// A verified answer lacks what its question asks for: a defect of this client, never of a node.
    #[error("the verified answer can't be used: {0}")]
    Unproven(BundleError),
    /// The client is shut down.
    #[error("the client has been shut down")]
    Stopped,
}

impl OpenError {
    /// Whether this is a *no* by proof or by the device, rather than a failure.
    pub fn is_proven_no(&self) -> bool {
        use OpenError as E;
        matches!(
            self,
            E::Denied { .. }
                | E::NotRegistered { .. }
                | E::Revoked { .. }
                | E::Suspended { .. }
                | E::Expired { .. }
                | E::NotOurKey { .. }
                | E::NoGrant { .. }
        )
    }

    /// Whether fresher evidence or a newer route may do better: not where somebody is busy, nor after a long wait.
    fn may_be_outdated(&self) -> bool {
        !matches!(self, Self::Busy { .. } | Self::Timeout { .. } | Self::Stopped | Self::Cold { .. })
    }

    /// A refusal of `service` on `target`, about `about`.
    fn refused(refusal: Refusal, about: DeviceId, target: DeviceId, service: Service) -> Self {
        match refusal {
            Refusal::NotRegistered => Self::NotRegistered { device: about },
            Refusal::Revoked => Self::Revoked { device: about },
            Refusal::Suspended => Self::Suspended { device: about },
            Refusal::Expired => Self::Expired { device: about },
            Refusal::NoGrant => Self::NoGrant { device: target, service },
            Refusal::Stale => Self::Stale { device: target },
            Refusal::Busy => Self::Busy { device: target },
            Refusal::NoService | Refusal::BadStaple | Refusal::NotItsKey | Refusal::Withdrawn => {
                Self::Refused { device: target, service, code: refusal.code(), refusal: Some(refusal) }
            }
        }
    }

    fn unresolved(error: ResolveError) -> Self {
        match error {
            ResolveError::Denied { target, denial, .. } => Self::Denied { target, denial },
            ResolveError::NoNode { target, refused } => Self::NoNode { target, refused },
            ResolveError::Cold { refused } => Self::Cold { refused },
            ResolveError::Stopped => Self::Stopped,
        }
    }
}

/// What a service carries, in words.
pub(crate) fn carried(service: Service) -> &'static str {
    match service {
        Service::Stream(_) => "streams",
        Service::Datagram(_) => "datagrams",
    }
}

/// Resolves, dials, proves and is let in, or says why not.
pub(crate) async fn open(core: &Core, target: &Target, service: Service) -> Result<Stream, OpenError> {
    let question = Question::Open { target: target.clone(), caller: core.own, service };
    // Whoever wants the same at the same time waits for what the first one finds out, but not for long.
    let key = (target.to_string(), service);
    let asking = timeout(ASK_PATIENCE, core.asking.take(key)).await.ok().flatten();
    let kept = core.found_before(target, &question).await.map_err(OpenError::unresolved)?;
    if let Some((found, answer)) = kept {
        drop(asking);
        match enter_by(core, service, &found, &answer.bundle).await {
            // Asked anew, it may be another place, another grant, or the same answer with its reason.
            Err(error) if error.may_be_outdated() => {
                tracing::debug!(%error, %target, "what was proven before doesn't open it any more");
                core.warm.forget(std::slice::from_ref(&question));
            }
            entered => return entered,
        }
    }
    let (found, answer) = core.asker.find(target, question.clone()).await.map_err(OpenError::unresolved)?;
    let stream = enter_by(core, service, &found, &answer.bundle).await?;
    core.warm.keep(&[question], found.route, answer, true);
    Ok(stream)
}

/// Opens by what is proven.
async fn enter_by(
    core: &Core,
    service: Service,
    found: &Found,
    bundle: &VerifiedBundle,
) -> Result<Stream, OpenError> {
    let attempt = Attempt { core, service, device: found.device };
    let (claim, slots) = attempt.claim(bundle, found)?;
    let staple = bundle.extract(&slots).map_err(OpenError::Unproven)?;
    let _turn = attempt.turn().await?;
    let (stream, key) = attempt.reach(found).await?;
    let open = Open { service, claim, stream_id: 0, offset: 0, staple };
    attempt.enter(stream, key, open).await
}

/// One attempt at one device.
struct Attempt<'a> {
    core: &'a Core,
    service: Service,
    device: DeviceId,
}

impl Attempt<'_> {
    fn refused(&self, refusal: Refusal, about: DeviceId) -> OpenError {
        OpenError::refused(refusal, about, self.device, self.service)
    }

    /// Waits until few enough opens to the device are under way.
    async fn turn(&self) -> Result<Turn, OpenError> {
        let (device, after) = (self.device, CONNECT_DEADLINE);
        let turn = timeout(after, self.core.entering.take(device)).await;
        let turn = turn.map_err(|_| OpenError::Timeout { device, stage: OpenStage::Connect, after })?;
        turn.ok_or(OpenError::Busy { device })
    }

    /// Judges both ends by what is proven and chooses what to claim.
    fn claim(&self, bundle: &VerifiedBundle, found: &Found) -> Result<(Claim, Vec<Slot>), OpenError> {
        let now = self.core.asker.verifier.now();
        judge_device(&found.record, bundle.head().header().timestamp, now)
            .map_err(|refusal| self.refused(refusal, self.device))?;
        let caller = Caller { own: self.core.own, key: self.core.key.address(), service: self.service, now };
        caller.choose(bundle, self.device, &found.record).map_err(|no| match no {
            NoClaim::Refused(Refusal::NotItsKey) => OpenError::NotOurKey { device: self.core.own },
            NoClaim::Refused(refusal) => self.refused(refusal, self.core.own),
            NoClaim::Unproven(error) => OpenError::Unproven(error),
        })
    }

    /// Connects to the device by its route, and once more by a newer one if there is.
    async fn reach(&self, found: &Found) -> Result<(PeerStream, KeyAddress), OpenError> {
        let fetch = || self.core.asker.fetch_route(self.device, &found.record);
        let route = match found.route.clone() {
            Some(route) => route,
            None => fetch().await.ok_or(OpenError::NoRoute { device: self.device })?,
        };
        let first = self.dial(&route).await;
        if !matches!(first, Err(OpenError::Unreachable { .. } | OpenError::Timeout { .. })) {
            return first;
        }
        // The answering node's route may be behind: the device may have moved to other relays.
        match fetch().await {
            Some(newer) if newer.route().seq > route.route().seq => self.dial(&newer).await,
            _ => first,
        }
    }

    async fn dial(&self, route: &VerifiedRoute) -> Result<(PeerStream, KeyAddress), OpenError> {
        use windlass_p2p::OpenError as P2p;
        let device = self.device;
        let expected = identity::peer_id_of(route.key());
        let control = &self.core.asker.control;
        let mut addresses = self.addresses(route, expected);
        if let Some(lan) = self.core.lan.as_ref().filter(|_| control.connections(&expected).is_empty()) {
            addresses.splice(0..0, lan.find(expected).await);
        }
        let protocol = StreamProtocol::new(names::STREAM);
        let opened = control.open(expected, addresses, protocol, CONNECT_DEADLINE).await;
        if let Err(P2p::Timeout { stage: Stage::Negotiate, .. }) = &opened {
            // There is a connection, and nobody at its other end: the next attempt shall make another.
            control.disconnect(expected).await;
        }
        let stream = opened.map_err(|error| match error {
            P2p::PeerIsNot { expected, got, .. } => someone_else(expected, got),
            P2p::Timeout { after, .. } => OpenError::Timeout { device, stage: OpenStage::Connect, after },
            P2p::NoAddress { .. } => OpenError::NoRoute { device },
            P2p::Busy { .. } => OpenError::Busy { device },
            P2p::Stopped => OpenError::Stopped,
            source => OpenError::Unreachable { device, source: Box::new(source) },
        })?;
        // The handshake proves it already; nothing is sent to anybody else whatever the layer below does.
        match stream.peer() {
            got if got == expected => Ok((stream, route.key().address())),
            got => Err(someone_else(expected, got)),
        }
    }

    /// Circuits through each relay of the route; direct multiaddrs too where this client may use them.
    fn addresses(&self, route: &VerifiedRoute, peer: PeerId) -> Vec<Multiaddr> {
        let parse = |bytes: &windlass_protocol::Bytes| Multiaddr::try_from(bytes.to_vec()).ok();
        let circuits = route.route().relays.iter().filter_map(parse);
        let circuits = circuits.map(|relay| relay.with(Protocol::P2pCircuit).with(Protocol::P2p(peer)));
        let direct = route.route().direct.iter().filter(|_| self.core.direct).filter_map(parse);
        direct.chain(circuits).collect()
    }

    /// Sends the open, takes the reply, and lets the stream live.
    async fn enter(&self, mut stream: PeerStream, key: KeyAddress, open: Open) -> Result<Stream, OpenError> {
        let device = self.device;
        let enrolled = !matches!(open.claim, Claim::Unenrolled);
        let reply = timeout(REPLY_DEADLINE, exchange_open(&mut stream, &open))
            .await
            .map_err(|_| OpenError::Timeout { device, stage: OpenStage::Reply, after: REPLY_DEADLINE })?;
        match reply.map_err(|reason| OpenError::Broken { device, reason })? {
            Reply::Accepted => {}
            Reply::Refused(refusal) => return Err(self.refused(refusal, self.core.own)),
            Reply::RefusedUnknown(code) => {
                return Err(OpenError::Refused { device, service: self.service, code, refusal: None });
            }
        }
        let (path, connection): (Path, _) = (stream.path(), stream.connection());
        let pipe = Pipe::new(stream);
        let own = enrolled.then_some(self.core.own());
        let rule = Rule::Outbound { target: device, key, own, max_age: self.core.asker.max_age };
        let admission =
            self.core.guard.admit(pipe.clone(), rule).map_err(|refusal| self.refused(refusal, device))?;
        if path.is_relayed() {
            self.core.direct_ways.was_let_in(connection);
        }
        Ok(Stream::new(pipe, admission, (device, key), self.service, path))
    }
}

fn someone_else(expected: PeerId, got: PeerId) -> OpenError {
    OpenError::PeerIsNot { expected: Box::new(expected), got: Box::new(got) }
}

async fn exchange_open(stream: &mut PeerStream, open: &Open) -> Result<Reply, String> {
    let broken = |error: FrameError| error.to_string();
    write_frame(stream, &wire::encode(open)).await.map_err(broken)?;
    let frame = read_frame(stream).await.map_err(broken)?;
    wire::decode(&frame, MAX_REPLY_BYTES).map_err(|error| error.to_string())
}
