//! One frame on a stream: its payload's length as an unsigned varint, then the payload.
//!
//! The length is canonical (no padding) and at most [`MAX_FRAME`], so it takes one to three bytes.
//! What a payload means is the business of `windlass_protocol::message`; deadlines are the caller's.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::limits::{FRAME_CHUNK, MAX_FRAME, MAX_FRAME_PREFIX};

/// Why a frame couldn't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side finished, and no frame had begun.
    #[error("the stream ended before another frame")]
    Ended,
    /// The other side finished in the middle of a frame.
    #[error("the stream ended after {received} bytes of a frame")]
    Truncated {
        /// Bytes of the frame that came, its prefix included.
        received: usize,
    },
    /// The length has more digits than it needs, or more than any allowed frame needs.
    #[error("the peer sent a frame length that is not canonical")]
    NotCanonical,
    /// The payload is larger than any message of ours.
    #[error("a frame of {length} bytes exceeds the limit of {most}")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
        /// The largest that is taken here.
        most: usize,
    },
    /// The stream failed.
    #[error("the stream failed in a frame: {0}")]
    Io(#[from] io::Error),
}

/// Reads one frame and returns its payload.
///
/// Memory grows with the bytes that arrive, never with the claimed length alone. Not cancel-safe: a
/// dropped future leaves the stream in the middle of a frame.
pub async fn read_frame<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Vec<u8>, FrameError> {
    read_frame_of(stream, MAX_FRAME).await
}

/// The same for a protocol whose messages have at most `most` bytes, [`MAX_FRAME`] or less.
pub async fn read_frame_of<R: AsyncRead + Unpin>(stream: &mut R, most: usize) -> Result<Vec<u8>, FrameError> {
    let (length, prefix) = read_length(stream, most.min(MAX_FRAME)).await?;
    let mut payload = Vec::new();
    while payload.len() < length {
        let start = payload.len();
        payload.resize(length.min(start + FRAME_CHUNK), 0);
        let read = stream.read(&mut payload[start..]).await?;
        payload.truncate(start + read);
        if read == 0 {
            return Err(FrameError::Truncated { received: prefix + start });
        }
    }
    Ok(payload)
}

/// Reads the length prefix; returns the length and how many bytes it took.
async fn read_length<R: AsyncRead + Unpin>(
    stream: &mut R,
    most: usize,
) -> Result<(usize, usize), FrameError> {
    let mut prefix = [0; MAX_FRAME_PREFIX];
    for received in 0..MAX_FRAME_PREFIX {
        if stream.read(&mut prefix[received..=received]).await? == 0 {
            return Err(match received {
                0 => FrameError::Ended,
                _ => FrameError::Truncated { received },
            });
        }
        if unsigned_varint::decode::is_last(prefix[received]) {
            let digits = &prefix[..=received];
            let (length, _) = unsigned_varint::decode::u32(digits).map_err(|_| FrameError::NotCanonical)?;
            let length = usize::try_from(length).map_err(|_| FrameError::NotCanonical)?;
            if length > most {
                return Err(FrameError::TooLarge { length, most });
            }
            return Ok((length, digits.len()));
        }
    }
    Err(FrameError::NotCanonical)
}

/// Writes one frame and flushes it.
///
/// Not cancel-safe: a dropped future may leave half a frame on the stream.
pub async fn write_frame<W: AsyncWrite + Unpin>(stream: &mut W, payload: &[u8]) -> Result<(), FrameError> {
    let too_large = FrameError::TooLarge { length: payload.len(), most: MAX_FRAME };
    if payload.len() > MAX_FRAME {
        return Err(too_large);
    }
    let length = u32::try_from(payload.len()).map_err(|_| too_large)?;
    let mut digits = unsigned_varint::encode::u32_buffer();
    let prefix = unsigned_varint::encode::u32(length, &mut digits);
    // One buffer, one write: prefix and payload share a frame of the muxer below.
    let mut frame = Vec::with_capacity(prefix.len() + payload.len());
    frame.extend_from_slice(prefix);
    frame.extend_from_slice(payload);
    stream.write_all(&frame).await?;
    stream.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use futures::{executor::block_on, io::Cursor};
    use proptest::prelude::*;

    use super::*;

    /// A peer that sends its bytes one at a time, with a pause before each.
    struct Slow<'a> {
        bytes: &'a [u8],
        paused: bool,
    }

    impl AsyncRead for Slow<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.paused = !self.paused;
            if self.paused {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.bytes.split_first() {
                Some((first, rest)) => {
                    buf[0] = *first;
                    self.bytes = rest;
                    Poll::Ready(Ok(1))
                }
                None => Poll::Ready(Ok(0)),
            }
        }
    }

    fn written(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        block_on(write_frame(&mut bytes, payload)).unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>, FrameError> {
        block_on(read_frame(&mut Cursor::new(bytes)))
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(written(b""), [0x00]);
        assert_eq!(written(b"hi"), [0x02, b'h', b'i']);
        assert_eq!(written(&[7; 300])[..3], [0xac, 0x02, 7]);
        assert_eq!(written(&[7; MAX_FRAME])[..4], [0x80, 0x80, 0x04, 7]);
    }

    #[test]
    fn too_large_is_refused_on_both_sides() {
        let refused = block_on(write_frame(&mut Vec::new(), &[0; MAX_FRAME + 1]));
        assert!(matches!(refused, Err(FrameError::TooLarge { length, .. }) if length == MAX_FRAME + 1));
        assert!(
            matches!(read(&[0x81, 0x80, 0x04]), Err(FrameError::TooLarge { length, .. }) if length == MAX_FRAME + 1)
        );
    }

    #[test]
    fn lengths_are_canonical() {
        for bytes in [&[0x80, 0x00][..], &[0x82, 0x80, 0x00], &[0x80, 0x80, 0x80, 0x01], &[0xff; 9]] {
            assert!(matches!(read(bytes), Err(FrameError::NotCanonical)), "{bytes:x?}");
        }
    }

    #[test]
    fn a_stream_that_ends_says_where() {
        assert!(matches!(read(&[]), Err(FrameError::Ended)));
        assert!(matches!(read(&[0x80]), Err(FrameError::Truncated { received: 1 })));
        assert!(matches!(read(&[0x03, 1, 2]), Err(FrameError::Truncated { received: 3 })));
    }

    #[test]
    fn a_claimed_length_costs_no_memory() {
        // A reader that records how much room it was ever offered.
        struct Offered(usize);
        impl AsyncRead for Offered {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                buf: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                self.0 = self.0.max(buf.len());
                Poll::Ready(Ok(0))
            }
        }
        let mut offered = Offered(0);
        let mut claims_all = AsyncReadExt::chain(Cursor::new([0x80, 0x80, 0x04]), &mut offered);
        assert!(matches!(block_on(read_frame(&mut claims_all)), Err(FrameError::Truncated { received: 3 })));
        assert_eq!(offered.0, FRAME_CHUNK);
    }

    proptest! {
        #[test]
        fn round_trips(payload in proptest::collection::vec(any::<u8>(), 0..3 * FRAME_CHUNK)) {
            prop_assert_eq!(read(&written(&payload)).unwrap(), payload);
        }

        #[test]
        fn a_slow_peer_is_understood(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = written(&payload);
            let mut slow = Slow { bytes: &bytes, paused: false };
            prop_assert_eq!(block_on(read_frame(&mut slow)).unwrap(), payload);
        }

        #[test]
        fn never_panics_and_reads_only_its_frame(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(payload) = read(&bytes) {
                prop_assert_eq!(&written(&payload)[..], &bytes[..bytes.len().min(written(&payload).len())]);
            }
        }
    }
}
