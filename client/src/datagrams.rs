//! Datagrams over a stream: each chunk is one, and its borders are kept.
//!
//! Sending never waits: what finds the queue full is lost, the newest first, as a full socket buffer loses it. What isn't
//! lost arrives whole and in order. Empty datagrams can't be told from the end, and aren't carried.

use crate::{
    guard::Authorization,
    limits::{DATAGRAM_QUEUE, DATAGRAM_QUEUE_BYTES},
    publish::Publication,
    stream::{Ended, Stream},
};
use libp2p::PeerId;
use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};
use tokio::io::AsyncWriteExt;
use windlass_p2p::{Path, chunks::MAX_CHUNK_BYTES};
use windlass_protocol::{DeviceId, KeyAddress, Service};

/// Bytes of the longest datagram; UDP itself carries up to 65,507.
pub const MAX_DATAGRAM_BYTES: usize = MAX_CHUNK_BYTES;

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way, or will be as soon as those before it are.
    Queued,
    /// The queue was full: it is lost.
    Dropped,
}

/// Why a datagram was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// None of this length can be carried.
    #[error("a datagram has 1 to {MAX_DATAGRAM_BYTES} bytes, this one has {0}")]
    Length(usize),
    /// The stream has ended: cut, or shut down.
    #[error("the stream has ended: {0}")]
    Ended(io::Error),
}

#[derive(Default)]
struct Outgoing {
    queue: VecDeque<Box<[u8]>>,
    bytes: usize,
    dropped: u64,
    /// Who waits in a receive or flush, and sends what is queued meanwhile.
    waiting: Option<Waker>,
}

impl Outgoing {
    fn has_room(&self, bytes: usize) -> bool {
        self.queue.len() < DATAGRAM_QUEUE && self.bytes + bytes <= DATAGRAM_QUEUE_BYTES
    }
}

/// Datagrams to and from a device, for as long as both may talk.
///
/// What is queued leaves whenever somebody waits in [`Datagrams::recv`], [`Datagrams::flush`] or [`Datagrams::shutdown`],
/// and with the next [`Datagrams::send`]. Dropping it without shutting it down cuts the stream.
pub struct Datagrams {
    stream: Stream,
    outgoing: Mutex<Outgoing>,
    /// Of the datagram that is arriving, what has come.
    incoming: Vec<u8>,
}

impl Datagrams {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, outgoing: Mutex::default(), incoming: Vec::new() }
    }

    /// Sends a datagram, or loses it where the queue is full. Never waits.
    pub fn send(&self, datagram: &[u8]) -> Result<Sent, SendError> {
        let length = datagram.len();
        if !(1..=MAX_DATAGRAM_BYTES).contains(&length) {
            return Err(SendError::Length(length));
        }
        let mut outgoing = self.lock();
        // A waker of ours would be in the way of whoever waits: they are told to go on with what doesn't leave at once.
        let mut cx = Context::from_waker(Waker::noop());
        let mut left = self.poll_drain(&mut cx, &mut outgoing);
        let room = outgoing.has_room(length);
        if room {
            outgoing.queue.push_back(datagram.into());
            outgoing.bytes += length;
            left = self.poll_drain(&mut cx, &mut outgoing);
        } else if !matches!(left, Poll::Ready(Err(_))) {
            outgoing.dropped += 1;
        }
        let waiting = if left.is_pending() { outgoing.waiting.take() } else { None };
        drop(outgoing);
        waiting.into_iter().for_each(Waker::wake);
        match left {
            Poll::Ready(Err(error)) => Err(SendError::Ended(error)),
            _ => Ok(if room { Sent::Queued } else { Sent::Dropped }),
        }
    }

    /// The next datagram; `None` once the other side has shut down. Cancel-safe.
    pub async fn recv(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (stream, outgoing, incoming) = (&self.stream, &self.outgoing, &mut self.incoming);
        let whole = poll_fn(|cx| {
            {
                let mut outgoing = outgoing.lock().unwrap_or_else(PoisonError::into_inner);
                outgoing.waiting = Some(cx.waker().clone());
                // Should it fail, the next send says so.
                let _ = drain(stream, cx, &mut outgoing);
            }
            stream.poll_read_chunk(cx, incoming)
        });
        Ok(whole.await?.then(|| std::mem::take(&mut self.incoming)))
    }

    /// Waits until all that is queued has left. Cancel-safe.
    pub async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut outgoing = self.lock();
            outgoing.waiting = Some(cx.waker().clone());
            self.poll_drain(cx, &mut outgoing)
        })
        .await
    }

    /// Sends what is queued and says that no more will come. What the other side sends can still be received.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.stream.shutdown().await
    }

    /// How many datagrams found the queue full and were lost.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// The device at the other end. Of an unenrolled caller, the id its key would have.
    pub fn peer(&self) -> DeviceId {
        self.stream.peer()
    }

    /// The address of the key that the other end proved to hold.
    pub fn peer_key(&self) -> KeyAddress {
        self.stream.peer_key()
    }

    /// The service that was opened.
    pub fn service(&self) -> Service {
        self.stream.service()
    }

    /// Direct, or through which node.
    pub fn path(&self) -> Path {
        self.stream.path()
    }

    /// What it rests on right now; `None` once this side ended it.
    pub fn authorization(&self) -> Option<Authorization> {
        self.stream.authorization()
    }

    /// Why this side ended it, if it did.
    pub fn end_reason(&self) -> Option<Ended> {
        self.stream.end_reason()
    }

    /// Waits until this side ends it; see [`Stream::ended`].
    pub fn ended(&self) -> impl Future<Output = Ended> + Send + 'static {
        self.stream.ended()
    }

    fn poll_drain(&self, cx: &mut Context<'_>, outgoing: &mut Outgoing) -> Poll<io::Result<()>> {
        drain(&self.stream, cx, outgoing)
    }

    fn lock(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands on what is queued, as far as it is taken.
fn drain(stream: &Stream, cx: &mut Context<'_>, outgoing: &mut Outgoing) -> Poll<io::Result<()>> {
    while let Some(datagram) = outgoing.queue.front() {
        ready!(stream.poll_write_chunk(cx, datagram))?;
        outgoing.bytes -= datagram.len();
        outgoing.queue.pop_front();
    }
    stream.poll_flush_chunks(cx)
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Datagrams").field(&self.stream).finish()
    }
}

/// A published datagram service. Dropping it withdraws the service and cuts what was accepted.
pub struct DatagramPublication(Publication);

impl DatagramPublication {
    pub(crate) fn new(publication: Publication) -> Self {
        Self(publication)
    }

    /// The next authorised caller; `None` once the client is shut down. Cancel-safe.
    pub async fn accept(&mut self) -> Option<Datagrams> {
        self.0.accept().await.map(Datagrams::new)
    }

    /// The service.
    pub fn service(&self) -> Service {
        self.0.service()
    }

    /// The nodes that relay to this device right now.
    pub fn relays(&self) -> Vec<PeerId> {
        self.0.relays()
    }
}

impl fmt::Debug for DatagramPublication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatagramPublication").field(&self.0.service()).finish()
    }
}
