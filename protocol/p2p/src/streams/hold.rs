//! Keeping one connection, whatever runs on it, for what is bound to that very connection: a reservation.
//!
//! It keeps idleness from closing the connection, nothing else does it keep away.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use libp2p::{PeerId, StreamProtocol, swarm::ConnectionId};
use tokio::sync::oneshot;

use super::{
    error::{OpenError, Stage},
    handler::Request,
    stream::{Link, PeerStream, Place},
};

/// A connection that is kept until this is dropped, or it breaks.
#[derive(Debug)]
pub struct Hold(Arc<Link>);

impl Hold {
    pub(super) fn new(link: Arc<Link>) -> Self {
        link.holds.fetch_add(1, Ordering::AcqRel);
        link.wake();
        Self(link)
    }

    /// The connection.
    pub fn connection(&self) -> ConnectionId {
        self.0.connection
    }

    /// Who is at its other end.
    pub fn peer(&self) -> PeerId {
        self.0.peer
    }

    /// Waits until the connection is over. Cancel-safe.
    pub async fn over(&self) {
        // Registered before the look, so that an end in between isn't missed.
        let over = self.0.over.notified();
        if !self.0.is_dead() {
            over.await;
        }
    }

    /// Opens a stream on this connection and on no other, within `deadline`. It counts against no limit of ours: who
    /// holds the connection bounds how many it opens.
    pub async fn open(&self, protocol: StreamProtocol, deadline: Duration) -> Result<PeerStream, OpenError> {
        let peer = self.0.peer;
        let closed = || OpenError::Closed { peer, source: None };
        let (reply, answer) = oneshot::channel();
        let deadline_at = Instant::now() + deadline;
        let request = Box::new(Request { protocol, deadline: deadline_at, reply, place: Place::Held });
        if self.0.is_dead() {
            return Err(closed());
        }
        self.0.requests.send(request).map_err(|_| closed())?;
        let answered = async {
            tokio::select! {
                answer = answer => match answer {
                    Ok(answer) => answer,
                    // It was with a connection that closed.
                    Err(_) => Err(closed()),
                },
                () = self.over() => Err(closed()),
            }
        };
        let late = Err(OpenError::Timeout { peer, stage: Stage::Negotiate, after: deadline });
        tokio::time::timeout(deadline, answered).await.unwrap_or(late)
    }

    /// For tests of what only counts holds: a connection that was never there.
    #[cfg(test)]
    pub(crate) fn of_nothing(connection: usize) -> Self {
        let (requests, _) = tokio::sync::mpsc::unbounded_channel();
        let path = crate::Path::Direct { transport: crate::Transport::Tcp };
        let connection = ConnectionId::new_unchecked(connection);
        Self::new(Link::new(PeerId::random(), connection, path, None, requests))
    }
}

/// Names one connection without keeping it.
#[derive(Debug, Clone)]
pub struct Tether(Arc<Link>);

impl Tether {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self(link)
    }

    /// The connection.
    pub fn connection(&self) -> ConnectionId {
        self.0.connection
    }

    /// Who is at its other end.
    pub fn peer(&self) -> PeerId {
        self.0.peer
    }

    /// Keeps the connection from now on; `None` if it is over.
    pub fn hold(&self) -> Option<Hold> {
        let hold = Hold::new(self.0.clone());
        (!self.0.is_dead()).then_some(hold)
    }

    /// Waits until the connection is over. Cancel-safe.
    pub async fn over(&self) {
        let over = self.0.over.notified();
        if !self.0.is_dead() {
            over.await;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::AcqRel);
        // The connection may be idle now, and nobody else would look.
        self.0.wake();
    }
}
