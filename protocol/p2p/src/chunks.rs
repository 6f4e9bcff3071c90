//! Bytes in chunks, with an end that can't be mistaken: what `/windlass/stream/1` carries once a stream is accepted.
//!
//! A chunk is its length, a big-endian u16 of 1..=65,535, and that many bytes; length 0 is the orderly end of that
//! direction. No muxer keeps a cut apart from an end in every state of a stream; so here whatever comes without the
//! end mark is cut. For the same reason a half is not closed below before both directions have ended: until then,
//! dropping the stream resets it, and the other side learns of the cut whichever way the bytes were going.
//!
//! It never looks at the bytes and holds back none longer than the stream below makes it wait.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker, ready},
};

use futures::{AsyncRead, AsyncWrite, task::AtomicWaker};

use crate::limits::STAGED_BYTES;

mod whole;

pub use whole::MAX_CHUNK_BYTES;

/// Bytes of a chunk's length.
const LENGTH_BYTES: usize = 2;

/// Why a stream is at its end without its end mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The stream below failed.
    #[error("the stream was reset, or its connection closed")]
    Reset,
    /// The stream below ended as if that were all there is.
    #[error("the stream broke off without its end mark: {missing} bytes or more are missing")]
    Unfinished {
        /// Bytes of the chunk, or of the length, that was due.
        missing: usize,
    },
}

impl From<Cut> for io::Error {
    fn from(cut: Cut) -> Self {
        Self::new(io::ErrorKind::ConnectionReset, cut)
    }
}

/// What is known of the other side's bytes.
#[derive(Debug, Clone, Copy)]
enum Reading {
    /// Between two chunks, or behind the first byte of a length.
    Length(Option<u8>),
    /// This many bytes of a chunk are still to come; never zero.
    Chunk(usize),
    Ended,
    Cut(Cut),
}

/// What we have promised the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// The end mark is staged.
    Ending,
    Ended,
}

/// Wakes both halves: whichever is polled next hands on what is staged.
#[derive(Debug, Default)]
struct Halves {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wake for Halves {
    fn wake(self: Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

/// Chunks over a stream of bytes. See the module.
///
/// Reading gives `Ok(0)` only after the other side's end mark; every other end is an
/// [`io::ErrorKind::ConnectionReset`] around a [`Cut`]. Closing sends our end mark and leaves reading open.
#[derive(Debug)]
pub struct ChunkStream<S> {
    stream: S,
    reading: Reading,
    writing: Writing,
    /// A chunk on its way: length and bytes leave in one write, since the muxer makes a frame of each.
    staged: Vec<u8>,
    sent: usize,
    halves: Arc<Halves>,
    /// Who waits to read, to be told when something stays behind in `staged`.
    reader: Option<Waker>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ChunkStream<S> {
    /// Chunks over `stream`, from its next byte on in both directions.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            reading: Reading::Length(None),
            writing: Writing::Open,
            staged: Vec::new(),
            sent: 0,
            halves: Arc::default(),
            reader: None,
        }
    }

    /// Hands on what is staged, for whichever half asks.
    fn poll_staged(&mut self) -> Poll<io::Result<()>> {
        let waker = Waker::from(self.halves.clone());
        let mut cx = Context::from_waker(&waker);
        while self.sent < self.staged.len() {
            let rest = &self.staged[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(&mut cx, rest))? {
                0 => return Poll::Ready(Err(Cut::Reset.into())),
                written => self.sent += written,
            }
        }
        self.staged.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Reads into `buf`, which is not empty, as far as one read below goes. `Ok(0)` is progress without bytes.
    fn poll_step(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, Cut>> {
        let stream = Pin::new(&mut self.stream);
        match self.reading {
            Reading::Length(first) => {
                let mut length = [first.unwrap_or_default(), 0];
                let known = usize::from(first.is_some());
                let read = ready!(stream.poll_read(cx, &mut length[known..])).map_err(|_| Cut::Reset)?;
                self.reading = match (known + read, u16::from_be_bytes(length)) {
                    _ if read == 0 => {
                        let missing = LENGTH_BYTES - known;
                        return Poll::Ready(Err(Cut::Unfinished { missing }));
                    }
                    (1, _) => Reading::Length(Some(length[0])),
                    (_, 0) => Reading::Ended,
                    (_, length) => Reading::Chunk(usize::from(length)),
                };
                Poll::Ready(Ok(0))
            }
            Reading::Chunk(left) => {
                let room = buf.len().min(left);
                let read = ready!(stream.poll_read(cx, &mut buf[..room])).map_err(|_| Cut::Reset)?;
                match left - read {
                    _ if read == 0 => return Poll::Ready(Err(Cut::Unfinished { missing: left })),
                    0 => self.reading = Reading::Length(None),
                    left => self.reading = Reading::Chunk(left),
                }
                Poll::Ready(Ok(read))
            }
            Reading::Ended => Poll::Ready(Ok(0)),
            Reading::Cut(cut) => Poll::Ready(Err(cut)),
        }
    }

    /// Closes below once both directions have ended. Courtesy: all that had to arrive was handed on before, and a
    /// stream that is dropped without it is reset behind its last byte.
    fn close_if_done(&mut self, cx: &mut Context<'_>) {
        if matches!(self.reading, Reading::Ended) && self.writing == Writing::Ended {
            let _ = Pin::new(&mut self.stream).poll_close(cx);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ChunkStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if !this.staged.is_empty() {
            // Nobody may be left who waits to write; what was taken has to leave all the same. Should it fail,
            // the next write says so.
            this.halves.reader.register(cx.waker());
            let _ = this.poll_staged();
        }
        let mut filled = 0;
        while filled < buf.len() && !matches!(this.reading, Reading::Ended) {
            match this.poll_step(cx, &mut buf[filled..]) {
                Poll::Ready(Ok(read)) => filled += read,
                Poll::Ready(Err(cut)) => {
                    this.reading = Reading::Cut(cut);
                    if filled == 0 {
                        return Poll::Ready(Err(cut.into()));
                    }
                    break;
                }
                Poll::Pending if filled == 0 => {
                    remember(&mut this.reader, cx);
                    return Poll::Pending;
                }
                Poll::Pending => break,
            }
        }
        this.close_if_done(cx);
        Poll::Ready(Ok(filled))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ChunkStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.writing != Writing::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        this.halves.writer.register(cx.waker());
        ready!(this.poll_staged())?;
        let taken = buf.len().min(STAGED_BYTES - LENGTH_BYTES);
        let Some(length) = u16::try_from(taken).ok().filter(|length| *length > 0) else {
            return Poll::Ready(Ok(0));
        };
        this.staged.extend_from_slice(&length.to_be_bytes());
        this.staged.extend_from_slice(&buf[..taken]);
        // What was taken counts as written, so a write that is given up later takes nothing back.
        match this.poll_staged() {
            Poll::Ready(outcome) => outcome?,
            Poll::Pending => this.reader.take().into_iter().for_each(Waker::wake),
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.halves.writer.register(cx.waker());
        ready!(self.poll_staged())?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.writing == Writing::Open {
            this.staged.extend_from_slice(&[0; LENGTH_BYTES]);
            this.writing = Writing::Ending;
        }
        if this.writing == Writing::Ending {
            ready!(Pin::new(&mut *this).poll_flush(cx))?;
            this.writing = Writing::Ended;
        }
        this.close_if_done(cx);
        Poll::Ready(Ok(()))
    }
}

fn remember(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests;
