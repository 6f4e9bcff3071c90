//! An open stream: ordered bytes to and from one peer, and what is known about the way they take.
//!
//! It makes up for one thing that yamux doesn't say: to a reader, a reset stream and a dead
//! connection look like an orderly end. Here they are errors, so that half a file is never taken for
//! a whole one.

use std::{
    io::{self, IoSlice},
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::{AsyncRead, AsyncWrite, task::AtomicWaker};
use libp2p::{
    PeerId,
    swarm::{ConnectionId, Stream},
};
use tokio::sync::{Notify, mpsc};

use super::peers::ConnectionInfo;
use super::{
    handler::Request,
    hold::{Hold, Tether},
    notice::Notice,
};
use crate::Path;

/// What every stream of one connection shares with the connection's handler.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) path: Path,
    /// The other end's IP address; a circuit's is known to the relay alone.
    pub(super) ip: Option<IpAddr>,
    /// Where the handler takes wishes for streams from.
    pub(super) requests: mpsc::UnboundedSender<Box<Request>>,
    /// Set once the connection can carry nothing more.
    dead: AtomicBool,
    /// Counts the handler's polls that answered a question; see [`Link::poll_alive`].
    polls: AtomicU64,
    asking: Mutex<Vec<Waker>>,
    handler: AtomicWaker,
    inbound: AtomicUsize,
    /// How many want the connection kept although it carries nothing.
    pub(super) holds: AtomicUsize,
    /// Tells those that it is over.
    pub(super) over: Notify,
}

impl Link {
    pub(super) fn new(
        peer: PeerId,
        connection: ConnectionId,
        path: Path,
        ip: Option<IpAddr>,
        requests: mpsc::UnboundedSender<Box<Request>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            peer,
            connection,
            path,
            ip,
            requests,
            dead: AtomicBool::new(false),
            polls: AtomicU64::new(0),
            asking: Mutex::default(),
            handler: AtomicWaker::new(),
            inbound: AtomicUsize::new(0),
            holds: AtomicUsize::new(0),
            over: Notify::new(),
        })
    }

    /// Called at every poll of the handler: the connection is alive, tell whoever asks.
    pub(super) fn alive(&self, cx: &Context<'_>) {
        self.handler.register(cx.waker());
        let asking = std::mem::take(&mut *self.asking.lock().unwrap_or_else(PoisonError::into_inner));
        if !asking.is_empty() {
            self.polls.fetch_add(1, Ordering::AcqRel);
            asking.into_iter().for_each(Waker::wake);
        }
    }

    /// Called when the connection is over.
    pub(super) fn died(&self) {
        self.dead.store(true, Ordering::Release);
        self.over.notify_waiters();
        let asking = std::mem::take(&mut *self.asking.lock().unwrap_or_else(PoisonError::into_inner));
        asking.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Whether the connection outlived the moment `since` was taken.
    ///
    /// yamux ends its streams and reports its death within one poll of the connection, and the
    /// handler isn't polled again after that. So when the handler is polled later than a stream
    /// ended, the end wasn't the connection's.
    fn poll_alive(&self, since: &mut Option<u64>, cx: &Context<'_>) -> Poll<bool> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_dead() {
            return Poll::Ready(false);
        }
        let polls = self.polls.load(Ordering::Acquire);
        match *since {
            Some(since) if polls > since => return Poll::Ready(true),
            Some(_) => {}
            None => *since = Some(polls),
        }
        asking.push(cx.waker().clone());
        drop(asking);
        self.handler.wake();
        Poll::Pending
    }

    /// Whether a stream that the peer opened lives.
    pub(super) fn has_inbound(&self) -> bool {
        self.inbound.load(Ordering::Relaxed) > 0
    }

    /// What callers see of the connection.
    pub(super) fn info(&self) -> ConnectionInfo {
        ConnectionInfo { id: self.connection, path: self.path }
    }

    /// Whether somebody wants the connection kept.
    pub(super) fn is_held(&self) -> bool {
        self.holds.load(Ordering::Acquire) > 0
    }

    /// Has the handler look again.
    pub(super) fn wake(&self) {
        self.handler.wake();
    }

    /// Takes one of `most` places for streams that the peer opened.
    pub(super) fn admit_inbound(self: &Arc<Self>, most: usize) -> Option<Inbound> {
        let place = Inbound(self.clone());
        (self.inbound.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

/// The place of a stream that the peer opened.
#[derive(Debug)]
pub(super) struct Inbound(Arc<Link>);

impl Drop for Inbound {
    fn drop(&mut self) {
        self.0.inbound.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The place of a stream that we open, from the moment it is handed to a connection.
#[derive(Debug)]
pub(super) struct Outbound {
    peer: PeerId,
    connection: ConnectionId,
    opened: bool,
    notices: mpsc::UnboundedSender<Notice>,
}

impl Outbound {
    pub(super) fn new(
        peer: PeerId,
        connection: ConnectionId,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> Self {
        Self { peer, connection, opened: false, notices }
    }

    /// The protocol is agreed on; somebody else may negotiate.
    pub(super) fn opened(&mut self) {
        self.opened = true;
        let notice = Notice::Opened { peer: self.peer, connection: self.connection };
        // Without a behaviour there is nobody left who counts.
        let _ = self.notices.send(notice);
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        let notice = Notice::Released { peer: self.peer, connection: self.connection, opened: self.opened };
        let _ = self.notices.send(notice);
    }
}

/// Whose limit a stream counts against until it is dropped.
#[derive(Debug)]
#[allow(dead_code, reason = "held for what dropping it does")]
pub(super) enum Place {
    Inbound(Inbound),
    Outbound(Outbound),
    /// Bounded by whoever holds the connection.
    Held,
}

impl Place {
    /// The protocol is agreed on.
    pub(super) fn opened(&mut self) {
        if let Self::Outbound(place) = self {
            place.opened();
        }
    }
}

/// A stream to or from a peer.
///
/// Reads end with `Ok(0)` only when the peer closed its side; a reset stream or a dead connection is
/// an [`io::ErrorKind::ConnectionReset`]. Closing closes our side alone; dropping an unclosed stream
/// resets it. One limit of yamux remains: once *our* side is closed, a peer that resets looks like one
/// that closes, unless the whole connection died; and a writer whose peer closed first isn't told of a
/// reset at all. Frames carry their length and don't mind; anything else goes through
/// [`ChunkStream`](crate::ChunkStream).
#[derive(Debug)]
pub struct PeerStream {
    stream: Stream,
    link: Arc<Link>,
    _place: Place,
    end: End,
    write_closed: bool,
    /// Who waits for room to write, so that asking for the other side's state doesn't displace them.
    writer: Option<Waker>,
}

/// What is known about the end of the peer's bytes.
#[derive(Debug)]
enum End {
    NotSeen,
    /// There are no more bytes; why is still to be found out.
    Seen {
        since: Option<u64>,
    },
    Orderly,
    Broken,
}

impl PeerStream {
    pub(super) fn new(stream: Stream, link: Arc<Link>, place: Place) -> Self {
        Self { stream, link, _place: place, end: End::NotSeen, write_closed: false, writer: None }
    }

    /// Who is at the other end, as the handshake proved.
    pub fn peer(&self) -> PeerId {
        self.link.peer
    }

    /// The way the bytes take.
    pub fn path(&self) -> Path {
        self.link.path
    }

    /// The connection that carries it.
    pub fn connection(&self) -> ConnectionId {
        self.link.connection
    }

    /// The other end's IP address; `None` on a circuit, where only the relay knows it.
    pub fn ip(&self) -> Option<IpAddr> {
        self.link.ip
    }

    /// Keeps this stream's connection, also when nothing runs on it.
    pub fn hold(&self) -> Hold {
        Hold::new(self.link.clone())
    }

    /// Names this stream's connection, without keeping it.
    pub fn tether(&self) -> Tether {
        Tether::new(self.link.clone())
    }

    /// Finds out what the end of the peer's bytes means.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let End::Seen { since } = &mut self.end else {
            return Poll::Ready(if matches!(self.end, End::Broken) { Err(broken()) } else { Ok(0) });
        };
        let orderly = if self.write_closed {
            // Both sides being closed tells nothing; only the connection's life does.
            match self.link.poll_alive(since, cx) {
                Poll::Ready(alive) => alive,
                Poll::Pending => return Poll::Pending,
            }
        } else {
            // A stream that was reset, or lost its connection, can't be written to either. Writing
            // nothing finds out, and the caller's bytes stay where they are.
            let waker = self.writer.as_ref().unwrap_or_else(|| cx.waker()).clone();
            let write = Pin::new(&mut self.stream).poll_write(&mut Context::from_waker(&waker), &[]);
            !matches!(write, Poll::Ready(Err(_)))
        };
        self.end = if orderly { End::Orderly } else { End::Broken };
        self.poll_end(cx)
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the stream was reset, or its connection closed")
}

/// yamux reports a stream that can't be written to as a write of nothing, QUIC a connection that is gone in several ways.
fn write_error(error: io::Error) -> io::Error {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut, WriteZero};
    match error.kind() {
        WriteZero | NotConnected | ConnectionAborted | ConnectionReset | BrokenPipe | TimedOut => broken(),
        _ => error,
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if matches!(this.end, End::NotSeen) {
            match Pin::new(&mut this.stream).poll_read(cx, buf) {
                Poll::Ready(Ok(0)) => this.end = End::Seen { since: None },
                Poll::Ready(Err(error)) => return Poll::Ready(Err(write_error(error))),
                other => return other,
            }
        }
        this.poll_end(cx)
    }
}

impl PeerStream {
    /// Remembers who waits to write, and gives yamux's errors their right kind.
    fn after_write<T>(&mut self, poll: Poll<io::Result<T>>, cx: &Context<'_>) -> Poll<io::Result<T>> {
        match &poll {
            Poll::Pending => match &mut self.writer {
                Some(writer) => writer.clone_from(cx.waker()),
                None => self.writer = Some(cx.waker().clone()),
            },
            Poll::Ready(_) => self.writer = None,
        }
        poll.map_err(write_error)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.after_write(poll, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.after_write(poll, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.is_dead() {
            return Poll::Ready(Err(broken()));
        }
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.after_write(poll, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.write_closed && self.link.is_dead() {
            return Poll::Ready(Err(broken()));
        }
        let poll = Pin::new(&mut self.stream).poll_close(cx);
        if matches!(poll, Poll::Ready(Ok(()))) {
            self.write_closed = true;
        }
        self.after_write(poll, cx)
    }
}
