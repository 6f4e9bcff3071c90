//! Which protocols this side accepts, and the bounded queue behind each.
//!
//! Shared by the control (which registers), by every connection's handler (which looks up), and by
//! nobody else. Look-ups are one hash; the lists that handlers announce are shared, not copied.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures::Stream;
use libp2p::StreamProtocol;
use tokio::sync::mpsc;

use super::{error::AlreadyAccepting, stream::PeerStream};

/// The protocols accepted at one moment, immutable.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    queues: HashMap<StreamProtocol, Queue>,
    /// What is announced to the other side; the same protocols as `queues`.
    pub(super) protocols: Arc<[StreamProtocol]>,
}

#[derive(Debug, Clone)]
struct Queue {
    streams: mpsc::Sender<PeerStream>,
    refused: Arc<AtomicU64>,
}

impl Accepted {
    /// Hands a new stream to whoever accepts its protocol; drops and so resets it when nobody does or
    /// their queue is full. Returns whether somebody took it.
    pub(super) fn deliver(&self, protocol: &StreamProtocol, stream: PeerStream) -> bool {
        let Some(queue) = self.queues.get(protocol) else { return false };
        let taken = queue.streams.try_send(stream).is_ok();
        if !taken {
            queue.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    fn with_changed(&self, change: impl FnOnce(&mut HashMap<StreamProtocol, Queue>)) -> Self {
        let mut queues = self.queues.clone();
        change(&mut queues);
        let protocols = queues.keys().cloned().collect();
        Self { queues, protocols }
    }
}

/// The current [`Accepted`], replaced as a whole when it changes.
#[derive(Debug, Default)]
pub(super) struct Registry {
    current: RwLock<Arc<Accepted>>,
    /// Counts changes, so that handlers needn't take the lock to learn that there was none.
    version: AtomicU64,
    /// Streams that were reset because nobody took them, over all protocols and connections.
    pub(super) refused: AtomicU64,
}

impl Registry {
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn current(&self) -> Arc<Accepted> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn register(
        self: &Arc<Self>,
        protocol: StreamProtocol,
        queue: NonZeroUsize,
    ) -> Result<Incoming, AlreadyAccepting> {
        let (streams, receiver) = mpsc::channel(queue.get());
        let refused = Arc::new(AtomicU64::new(0));
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.queues.contains_key(&protocol) {
            return Err(AlreadyAccepting { protocol });
        }
        let queue = Queue { streams, refused: refused.clone() };
        *current = Arc::new(current.with_changed(|queues| {
            queues.insert(protocol.clone(), queue);
        }));
        self.version.fetch_add(1, Ordering::Release);
        Ok(Incoming { streams: receiver, refused, protocol, registry: self.clone() })
    }

    fn unregister(&self, protocol: &StreamProtocol) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(current.with_changed(|queues| {
            queues.remove(protocol);
        }));
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// The inbound streams of one protocol, in the order they were agreed on.
///
/// Its queue is bounded: a stream that finds it full is reset and counted. Dropping it stops
/// accepting the protocol and resets what still waits in the queue.
#[derive(Debug)]
pub struct Incoming {
    streams: mpsc::Receiver<PeerStream>,
    refused: Arc<AtomicU64>,
    protocol: StreamProtocol,
    registry: Arc<Registry>,
}

impl Incoming {
    /// The next stream; `None` never comes while this value lives. Cancel-safe.
    pub async fn next(&mut self) -> Option<PeerStream> {
        self.streams.recv().await
    }

    /// The protocol of these streams.
    pub fn protocol(&self) -> &StreamProtocol {
        &self.protocol
    }

    /// How many streams were reset so far because the queue was full.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Stream for Incoming {
    type Item = PeerStream;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PeerStream>> {
        self.streams.poll_recv(cx)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.registry.unregister(&self.protocol);
    }
}
