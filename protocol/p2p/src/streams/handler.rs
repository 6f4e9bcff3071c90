//! One connection's part of the streams: proposes protocols for the streams we open, all of them at
//! once, and hands the streams that the peer opens to whoever accepts their protocol.
//!
//! It decides nothing: the behaviour chose the connection and counted the place before a request
//! came here. It exchanges no events with the behaviour, so neither can hold up the other.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Instant,
};

use libp2p::{
    StreamProtocol,
    core::{
        UpgradeInfo,
        upgrade::{InboundUpgrade, ReadyUpgrade},
    },
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, Stream, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::{mpsc, oneshot};

use super::{
    accepting::{Accepted, Registry},
    error::{OpenError, Stage},
    stream::{Link, PeerStream, Place},
};

/// A stream to open on one connection.
#[derive(Debug)]
pub struct Request {
    pub(super) protocol: StreamProtocol,
    /// When the caller gives up, and what it was given when it asked.
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<PeerStream, OpenError>>,
    pub(super) place: Place,
}

/// See the module.
#[derive(Debug)]
pub struct Handler {
    link: Arc<Link>,
    requests: mpsc::UnboundedReceiver<Box<Request>>,
    registry: Arc<Registry>,
    accepted: Arc<Accepted>,
    version: u64,
    max_inbound: usize,
}

impl Handler {
    /// `requests` is bounded by the behaviour, which hands out a place with each. They are boxed: a channel begins with
    /// room for 32, and most connections of a node never carry one.
    pub(super) fn new(
        link: Arc<Link>,
        requests: mpsc::UnboundedReceiver<Box<Request>>,
        registry: Arc<Registry>,
        max_inbound: usize,
    ) -> Self {
        let version = registry.version();
        let accepted = registry.current();
        Self { link, requests, registry, accepted, version, max_inbound }
    }

    fn refresh(&mut self) {
        let version = self.registry.version();
        if version != self.version {
            self.version = version;
            self.accepted = self.registry.current();
        }
    }

    fn take(&mut self, protocol: &StreamProtocol, stream: Stream) {
        let taken = self.link.admit_inbound(self.max_inbound).is_some_and(|place| {
            let stream = PeerStream::new(stream, self.link.clone(), Place::Inbound(place));
            self.accepted.deliver(protocol, stream)
        });
        if !taken {
            self.registry.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(peer = %self.link.peer, %protocol, "reset a stream that nobody could take");
        }
    }

    fn fail(&self, request: Request, error: StreamUpgradeError<Infallible>) {
        let peer = self.link.peer;
        let error = match error {
            StreamUpgradeError::Timeout => {
                OpenError::Timeout { peer, stage: Stage::Negotiate, after: Default::default() }
            }
            StreamUpgradeError::NegotiationFailed => {
                OpenError::Unsupported { peer, protocol: request.protocol }
            }
            StreamUpgradeError::Io(source) => OpenError::Closed { peer, source: Some(Arc::new(source)) },
            StreamUpgradeError::Apply(never) => match never {},
        };
        // A caller that is gone needs no answer.
        let _ = request.reply.send(Err(error));
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.link.died();
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Accept;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Box<Request>;

    fn listen_protocol(&self) -> SubstreamProtocol<Accept> {
        SubstreamProtocol::new(Accept(self.accepted.clone()), ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.link.is_held()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Box<Request>, Infallible>> {
        self.link.alive(cx);
        self.refresh();
        match self.requests.poll_recv(cx) {
            Poll::Ready(Some(request)) => {
                let left = request.deadline.saturating_duration_since(Instant::now());
                let upgrade = ReadyUpgrade::new(request.protocol.clone());
                let protocol = SubstreamProtocol::new(upgrade, request).with_timeout(left);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            // The behaviour has dropped this connection, or has nothing to ask.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Option<Infallible>> {
        self.link.died();
        Poll::Ready(None)
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Box<Request>>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, stream),
                info: (),
            }) => self.take(&protocol, stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info }) => {
                let Request { mut place, reply, .. } = *info;
                place.opened();
                let stream = PeerStream::new(stream, self.link.clone(), place);
                // A caller that is gone drops the stream, which resets it and frees its place.
                let _ = reply.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => self.fail(*info, error),
            _ => {}
        }
    }
}

/// Agrees on any accepted protocol and hands back which one it was.
#[derive(Debug)]
pub struct Accept(Arc<Accepted>);

/// The accepted protocols, one after the other; copies no list, since libp2p asks after every poll.
#[derive(Debug)]
pub struct Protocols {
    list: Arc<[StreamProtocol]>,
    next: usize,
}

impl Iterator for Protocols {
    type Item = StreamProtocol;

    fn next(&mut self) -> Option<StreamProtocol> {
        let protocol = self.list.get(self.next)?.clone();
        self.next += 1;
        Some(protocol)
    }
}

impl UpgradeInfo for Accept {
    type Info = StreamProtocol;
    type InfoIter = Protocols;

    fn protocol_info(&self) -> Protocols {
        Protocols { list: self.0.protocols.clone(), next: 0 }
    }
}

impl InboundUpgrade<Stream> for Accept {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}
