//! Whole chunks: where a chunk is a datagram its borders count.
//!
//! Not to be mixed with reading or writing bytes in the same direction of a stream.

use super::{ChunkStream, LENGTH_BYTES, Reading, Writing, remember};
use futures::{AsyncRead, AsyncWrite};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

/// Room made at a time: what a chunk says of its length is believed only as its bytes come.
const STEP_BYTES: usize = 4_096;

/// Bytes of the longest chunk.
pub const MAX_CHUNK_BYTES: usize = u16::MAX as usize;

impl<S: AsyncRead + AsyncWrite + Unpin> ChunkStream<S> {
    /// Reads one chunk into `chunk`, which is empty at first, and keeps what has come of it: as long as it isn't ready the
    /// same one is handed in again. `false` is the other side's end mark.
    pub fn poll_read_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunk: &mut Vec<u8>,
    ) -> Poll<io::Result<bool>> {
        let this = &mut *self;
        if !this.staged.is_empty() {
            // As in reading bytes: nobody else may be left to hand it on.
            this.halves.reader.register(cx.waker());
            let _ = this.poll_staged();
        }
        loop {
            let (within, room) = match this.reading {
                Reading::Ended => {
                    this.close_if_done(cx);
                    return Poll::Ready(Ok(false));
                }
                Reading::Chunk(left) => (true, left.min(STEP_BYTES)),
                Reading::Length(_) | Reading::Cut(_) => (false, 1),
            };
            let filled = chunk.len();
            chunk.resize(filled + room, 0);
            let step = this.poll_step(cx, &mut chunk[filled..]);
            chunk.truncate(filled + if let Poll::Ready(Ok(read)) = step { read } else { 0 });
            match step {
                Poll::Ready(Ok(_)) if within && matches!(this.reading, Reading::Length(None)) => {
                    return Poll::Ready(Ok(true));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(cut)) => {
                    this.reading = Reading::Cut(cut);
                    return Poll::Ready(Err(cut.into()));
                }
                Poll::Pending => {
                    remember(&mut this.reader, cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Writes one chunk of 1 to [`MAX_CHUNK_BYTES`] bytes, all of it or nothing; ready once it was taken.
    pub fn poll_write_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunk: &[u8],
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.writing != Writing::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let Some(length) = u16::try_from(chunk.len()).ok().filter(|length| *length > 0) else {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        this.halves.writer.register(cx.waker());
        ready!(this.poll_staged())?;
        this.staged.reserve_exact(LENGTH_BYTES + chunk.len());
        this.staged.extend_from_slice(&length.to_be_bytes());
        this.staged.extend_from_slice(chunk);
        match this.poll_staged() {
            Poll::Ready(outcome) => outcome?,
            Poll::Pending => this.reader.take().into_iter().for_each(Waker::wake),
        }
        Poll::Ready(Ok(()))
    }
}
