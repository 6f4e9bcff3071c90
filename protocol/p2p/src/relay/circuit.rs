//! One circuit: bytes from each end to the other, sealed, until both have ended or one breaks.
//!
//! It holds a buffer only while bytes are in it, reads no further while they can't be handed on, closes one half when
//! the other end has closed its own, and lets other circuits run when it has forwarded its turn's worth.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite, future::BoxFuture};

use super::{
    bandwidth::Bandwidth,
    buffers::{Buffer, Buffers},
    meter::Meter,
};
use crate::limits::{RELAY_QUANTUM, RELAY_TURN};

/// What every circuit of a relay shares.
#[derive(Debug)]
pub(super) struct Carriage {
    pub(super) buffers: Arc<Buffers>,
    /// The rate of all circuits together, if there is one.
    pub(super) rate: Option<Arc<Bandwidth>>,
}

/// Bytes that went through a circuit so far, both ways together; for whoever looks whether it is still in use.
pub(super) type Moved = Arc<AtomicU64>;

/// A circuit under way: resolves when both ends have closed, or with the error of the one that broke.
pub(super) struct Circuit<A, B> {
    one: A,
    other: B,
    there: Half,
    back: Half,
    moved: Moved,
}

impl<A, B> Circuit<A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    /// A circuit between two streams. What each sends is counted on its own meter, and held to its own rate.
    pub(super) fn new(one: (A, Arc<Meter>), other: (B, Arc<Meter>), carriage: &Carriage) -> Self {
        let half = |meter| Half::new(meter, carriage);
        Self { there: half(one.1), back: half(other.1), one: one.0, other: other.0, moved: Moved::default() }
    }

    pub(super) fn moved(&self) -> Moved {
        self.moved.clone()
    }
}

impl<A, B> Future for Circuit<A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let there = this.there.poll(&mut this.one, &mut this.other, &this.moved, cx)?;
        let back = this.back.poll(&mut this.other, &mut this.one, &this.moved, cx)?;
        match (there, back) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }
}

/// How far one direction is.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Its source has closed; what was read is on its way, then the close.
    Closing,
    Closed,
}

/// One direction.
struct Half {
    state: State,
    /// Bytes that were read and not yet handed on: `buffer[start..end]`, and never an empty range.
    buffer: Option<Buffer>,
    start: usize,
    end: usize,
    /// Handed on and not yet flushed.
    unflushed: bool,
    /// Bytes that may be read before another quantum is taken; only with a rate.
    credit: usize,
    /// A quantum being waited for.
    turn: Option<BoxFuture<'static, ()>>,
    rate: Option<Arc<Bandwidth>>,
    buffers: Arc<Buffers>,
    meter: Arc<Meter>,
}

impl Half {
    fn new(meter: Arc<Meter>, carriage: &Carriage) -> Self {
        Self {
            state: State::Open,
            buffer: None,
            start: 0,
            end: 0,
            unflushed: false,
            credit: 0,
            turn: None,
            rate: carriage.rate.clone(),
            buffers: carriage.buffers.clone(),
            meter,
        }
    }

    /// Forwards what there is, at most a turn's worth; ready when this direction has ended in order.
    fn poll<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        from: &mut R,
        to: &mut W,
        moved: &AtomicU64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut forwarded = 0;
        while self.state != State::Closed {
            if self.buffer.is_some() {
                let written = ready!(self.poll_hand_on(to, cx))?;
                moved.fetch_add(written as u64, Ordering::Relaxed);
                forwarded += written;
                if forwarded >= RELAY_TURN {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            } else if self.state == State::Closing {
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                ready!(Pin::new(&mut *to).poll_close(cx))?;
                self.state = State::Closed;
            } else if self.poll_fill(from, cx)?.is_pending() {
                if self.unflushed {
                    ready!(Pin::new(&mut *to).poll_flush(cx))?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads into a buffer of its own, which goes back at once if there is nothing to read.
    fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let limited = self.rate.is_some() || self.meter.rate.is_some();
        if limited {
            ready!(self.poll_credit(cx));
        }
        let mut buffer = self.buffers.take();
        let room = if limited { buffer.len().min(self.credit) } else { buffer.len() };
        let read = ready!(Pin::new(from).poll_read(cx, &mut buffer[..room]))?;
        if read == 0 {
            self.state = State::Closing;
            return Poll::Ready(Ok(()));
        }
        self.meter.add(read);
        self.credit = self.credit.saturating_sub(read);
        (self.start, self.end) = (0, read);
        self.buffer = Some(buffer);
        Poll::Ready(Ok(()))
    }

    /// Waits for a quantum of the sender's own rate, then for one of the relay's: who is over its own rate keeps
    /// nobody else waiting.
    fn poll_credit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.credit > 0 {
            return Poll::Ready(());
        }
        let turn = self.turn.get_or_insert_with(|| {
            let (meter, rate) = (self.meter.clone(), self.rate.clone());
            Box::pin(async move {
                if let Some(own) = &meter.rate {
                    own.quantum().await;
                }
                if let Some(rate) = rate {
                    rate.quantum().await;
                }
            })
        });
        ready!(turn.as_mut().poll(cx));
        self.turn = None;
        self.credit = RELAY_QUANTUM;
        Poll::Ready(())
    }

    fn poll_hand_on<W: AsyncWrite + Unpin>(
        &mut self,
        to: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(buffer) = &self.buffer else { return Poll::Ready(Ok(0)) };
        let written = ready!(Pin::new(to).poll_write(cx, &buffer[self.start..self.end]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.start += written;
        self.unflushed = true;
        if self.start == self.end {
            self.buffer = None;
        }
        Poll::Ready(Ok(written))
    }
}

#[cfg(test)]
mod tests;
