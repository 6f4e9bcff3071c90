//! An open stream: ordered bytes between two devices, each of which knows who the other is, for as long as
//! both may talk.
//!
//! It moves bytes and ends when told to; whether it may go on is decided by the guard.

use crate::guard::{Admission, Authorization};
use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};
use windlass_p2p::{ChunkStream, Path, PeerStream};
use windlass_protocol::{DeviceId, KeyAddress, Service, authorise::Refusal};

/// Why this side ended a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// What the stream rested on changed, expired, or was not confirmed in time.
    #[error("the stream was ended: {0}")]
    Denied(Refusal),
    /// The client was shut down.
    #[error("the stream was ended: the client has been shut down")]
    Stopped,
}

/// The part of a stream that the guard can reach: it ends the stream whether or not anybody reads from it.
pub(crate) struct Pipe {
    state: Mutex<PipeState>,
    /// Apart from the rest, so that waiting for the end doesn't keep the stream open.
    ended: Arc<watch::Sender<Option<Ended>>>,
}

/// What a stream carries once it is accepted.
type Bytes = ChunkStream<PeerStream>;

struct PipeState {
    stream: Option<Bytes>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    pub(crate) fn new(stream: PeerStream) -> Arc<Self> {
        let state = PipeState { stream: Some(ChunkStream::new(stream)), reader: None, writer: None };
        Arc::new(Self { state: Mutex::new(state), ended: Arc::new(watch::Sender::new(None)) })
    }

    /// Cuts the stream in both directions, at once; the other side sees a reset, whatever was closed before.
    pub(crate) fn end(&self, why: Ended) {
        let (stream, reader, writer) = {
            let mut state = self.lock();
            self.ended.send_if_modified(|ended| ended.is_none() && ended.replace(why).is_none());
            (state.stream.take(), state.reader.take(), state.writer.take())
        };
        // Dropping it resets it; outside the lock, since that wakes others.
        drop(stream);
        reader.into_iter().chain(writer).for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self) -> io::Error {
        match *self.ended.borrow() {
            Some(ended) => io::Error::new(io::ErrorKind::ConnectionAborted, ended),
            None => io::ErrorKind::NotConnected.into(),
        }
    }

    fn poll_reader<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut Bytes>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut state = self.lock();
        let Some(stream) = state.stream.as_mut() else { return Poll::Ready(Err(self.error())) };
        let polled = poll(Pin::new(stream), cx);
        if polled.is_pending() {
            remember(&mut state.reader, cx);
        }
        polled
    }

    fn poll_writer<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut Bytes>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut state = self.lock();
        let Some(stream) = state.stream.as_mut() else { return Poll::Ready(Err(self.error())) };
        let polled = poll(Pin::new(stream), cx);
        if polled.is_pending() {
            remember(&mut state.writer, cx);
        }
        polled
    }
}

fn remember(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

/// A stream to or from a device.
///
/// Reading gives `Ok(0)` only after the other side's own mark of its end, and then all it wrote before has been
/// read; shutting down the writer sends ours and leaves reading open. Where this side ended the stream, reading and
/// writing fail with [`io::ErrorKind::ConnectionAborted`] around an [`Ended`]; where the other side or the network cut
/// it, whichever half was closed by then, with [`io::ErrorKind::ConnectionReset`]. Dropping a stream that isn't shut
/// down cuts it; the other side is told that what it read is unfinished. Flush or shut down after the last write.
pub struct Stream {
    pipe: Arc<Pipe>,
    admission: Admission,
    peer: DeviceId,
    peer_key: KeyAddress,
    service: Service,
    path: Path,
}

impl Stream {
    pub(crate) fn new(
        pipe: Arc<Pipe>,
        admission: Admission,
        peer: (DeviceId, KeyAddress),
        service: Service,
        path: Path,
    ) -> Self {
        let (peer, peer_key) = peer;
        Self { pipe, admission, peer, peer_key, service, path }
    }

    /// The device at the other end. Of an unenrolled caller, the id its key would have.
    pub fn peer(&self) -> DeviceId {
        self.peer
    }

    /// The address of the key that the other end proved to hold.
    pub fn peer_key(&self) -> KeyAddress {
        self.peer_key
    }

    /// The service that was opened.
    pub fn service(&self) -> Service {
        self.service
    }

    /// Direct, or through which node.
    pub fn path(&self) -> Path {
        self.path
    }

    /// What the stream rests on right now; `None` once this side ended it.
    pub fn authorization(&self) -> Option<Authorization> {
        self.admission.authorization()
    }

    /// Why this side ended the stream, if it did.
    pub fn end_reason(&self) -> Option<Ended> {
        *self.pipe.ended.borrow()
    }

    /// Waits until this side ends the stream, whether or not anybody reads; never returns if the stream
    /// ends otherwise. Cancel-safe, and independent of the stream's borrow.
    pub fn ended(&self) -> impl Future<Output = Ended> + Send + 'static {
        let mut ended = self.pipe.ended.subscribe();
        let sender = self.pipe.ended.clone();
        async move {
            let ended = ended.wait_for(Option::is_some).await.ok().and_then(|ended| *ended);
            // While it is held, waiting can't come to nothing.
            drop(sender);
            ended.unwrap_or(Ended::Stopped)
        }
    }
}

/// For datagrams: whole chunks, in place of bytes.
impl Stream {
    pub(crate) fn poll_read_chunk(
        &self,
        cx: &mut Context<'_>,
        chunk: &mut Vec<u8>,
    ) -> Poll<io::Result<bool>> {
        self.pipe.poll_reader(cx, |stream, cx| stream.poll_read_chunk(cx, chunk))
    }

    pub(crate) fn poll_write_chunk(&self, cx: &mut Context<'_>, chunk: &[u8]) -> Poll<io::Result<()>> {
        self.pipe.poll_writer(cx, |stream, cx| stream.poll_write_chunk(cx, chunk))
    }

    pub(crate) fn poll_flush_chunks(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.poll_writer(cx, futures::AsyncWrite::poll_flush)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("peer", &self.peer)
            .field("service", &self.service)
            .field("path", &self.path)
            .field("ended", &self.end_reason())
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(self.pipe.poll_reader(cx, |stream, cx| {
            futures::AsyncRead::poll_read(stream, cx, buf.initialize_unfilled())
        }))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.pipe.poll_writer(cx, |stream, cx| futures::AsyncWrite::poll_write(stream, cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.poll_writer(cx, futures::AsyncWrite::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.poll_writer(cx, futures::AsyncWrite::poll_close)
    }
}
