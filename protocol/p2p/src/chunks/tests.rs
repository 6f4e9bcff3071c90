#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, executor::block_on};
use proptest::prelude::*;

use super::*;

/// A stream whose steps are scripted: how many bytes each read or write moves, zero being a pause.
#[derive(Default)]
struct Scripted {
    incoming: Vec<u8>,
    at: usize,
    /// Whether the end of `incoming` is a failure.
    fails: bool,
    /// Whether reading waits for good.
    silent: bool,
    written: Vec<u8>,
    /// One entry per write that moved bytes.
    writes: Vec<usize>,
    flushed: usize,
    closed: bool,
    steps: Vec<usize>,
    step: usize,
    /// Bytes that writing takes before it blocks for good.
    room: Option<usize>,
    blocked: Option<Waker>,
}

impl Scripted {
    fn next_step(&mut self, cx: &Context<'_>) -> Option<usize> {
        let step = match self.steps.len() {
            0 => usize::MAX,
            steps => self.steps[self.step % steps],
        };
        self.step += 1;
        if step == 0 {
            cx.waker().wake_by_ref();
            return None;
        }
        Some(step)
    }
}

impl AsyncRead for Scripted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.silent {
            return Poll::Pending;
        }
        let Some(step) = self.next_step(cx) else { return Poll::Pending };
        let count = step.min(buf.len()).min(self.incoming.len() - self.at);
        if count == 0 && self.fails {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        buf[..count].copy_from_slice(&self.incoming[self.at..self.at + count]);
        self.at += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(step) = self.next_step(cx) else { return Poll::Pending };
        let count = step.min(buf.len()).min(self.room.unwrap_or(usize::MAX));
        if count == 0 {
            self.blocked = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(room) = &mut self.room {
            *room -= count;
        }
        self.written.extend_from_slice(&buf[..count]);
        self.writes.push(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed = self.written.len();
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

fn reading(incoming: &[u8], steps: &[usize]) -> ChunkStream<Scripted> {
    let incoming = incoming.to_vec();
    ChunkStream::new(Scripted { incoming, steps: steps.to_vec(), ..Scripted::default() })
}

/// All bytes up to the end, and the cut if that is what it was.
fn all_of(stream: &mut ChunkStream<Scripted>) -> (Vec<u8>, Option<Cut>) {
    let mut bytes = Vec::new();
    match block_on(stream.read_to_end(&mut bytes)) {
        Ok(_) => (bytes, None),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            (bytes, error.get_ref().unwrap().downcast_ref().copied())
        }
    }
}

#[test]
fn golden_bytes() {
    let mut stream = reading(b"", &[]);
    block_on(async {
        stream.write_all(b"hi").await.unwrap();
        stream.write_all(&[7; 300]).await.unwrap();
        stream.close().await.unwrap();
    });
    let mut expected = vec![0x00, 0x02, b'h', b'i', 0x01, 0x2c];
    expected.extend_from_slice(&[7; 300]);
    expected.extend_from_slice(&[0x00, 0x00]);
    assert_eq!(stream.stream.written, expected);
    assert_eq!(stream.stream.flushed, expected.len());
    // The length and its bytes share a frame of the muxer.
    assert_eq!(stream.stream.writes, [4, 302, 2]);
    // The longest chunk there can be is understood, though we send none.
    let mut longest = vec![0xff, 0xff];
    longest.extend_from_slice(&[9; 65_535]);
    longest.extend_from_slice(&[0, 0]);
    assert_eq!(all_of(&mut reading(&longest, &[])), (vec![9; 65_535], None));
}

#[test]
fn nothing_but_the_end_mark_is_an_end() {
    for (bytes, got, missing) in [
        (&[][..], &[][..], 2),
        (&[0x00], &[], 1),
        (&[0x00, 0x03], &[], 3),
        (&[0x00, 0x03, 1, 2], &[1, 2], 1),
        (&[0x00, 0x02, 1, 2], &[1, 2], 2),
        (&[0x00, 0x02, 1, 2, 0x00], &[1, 2], 1),
    ] {
        let cut = Some(Cut::Unfinished { missing });
        let mut stream = reading(bytes, &[]);
        assert_eq!(all_of(&mut stream), (got.to_vec(), cut), "{bytes:x?}");
        // Asking again gives the same answer.
        assert_eq!(all_of(&mut stream), (vec![], cut), "{bytes:x?}");
        let mut failing = reading(bytes, &[]);
        failing.stream.fails = true;
        assert_eq!(all_of(&mut failing), (got.to_vec(), Some(Cut::Reset)), "{bytes:x?}");
    }
}

#[test]
fn what_follows_the_end_mark_is_never_read() {
    for after in [&[0x00, 0x00][..], &[0x00, 0x01, 9], b"\xff\xffnoise", &[0x00]] {
        let bytes = [&[0x00, 0x02, 1, 2, 0x00, 0x00], after].concat();
        let mut stream = reading(&bytes, &[]);
        assert_eq!(all_of(&mut stream), (vec![1, 2], None));
        assert_eq!(all_of(&mut stream), (vec![], None));
        assert_eq!(stream.stream.at, 6, "bytes after the end were read");
    }
}

#[test]
fn below_a_half_stays_open_until_both_directions_have_ended() {
    // Ours first: while the other side may still be cut, nothing is closed.
    let mut stream = reading(&[0x00, 0x01, 5, 0x00, 0x00], &[]);
    block_on(stream.close()).unwrap();
    assert_eq!((&stream.stream.written[..], stream.stream.closed), (&[0, 0][..], false));
    let mut one = [0];
    assert_eq!(block_on(stream.read(&mut one)).unwrap(), 1);
    assert!(!stream.stream.closed);
    assert_eq!(block_on(stream.read(&mut one)).unwrap(), 0);
    assert!(stream.stream.closed);

    // Theirs first.
    let mut stream = reading(&[0x00, 0x00], &[]);
    assert_eq!(block_on(stream.read(&mut one)).unwrap(), 0);
    block_on(stream.write_all(b"x")).unwrap();
    assert!(!stream.stream.closed);
    block_on(stream.close()).unwrap();
    assert!(stream.stream.closed);
}

#[test]
fn nothing_is_written_after_the_end_mark() {
    let mut stream = reading(b"", &[]);
    block_on(stream.close()).unwrap();
    let error = block_on(stream.write(b"late")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    block_on(stream.close()).unwrap();
    assert_eq!(stream.stream.written, [0, 0]);
}

#[test]
fn a_blocked_stream_holds_one_chunk_and_then_makes_writers_wait() {
    let mut stream = reading(b"", &[]);
    stream.stream.room = Some(1_000);
    let bytes = vec![3; 10 * STAGED_BYTES];
    let taken = stream.write(&bytes).now_or_never().unwrap().unwrap();
    assert_eq!(taken, STAGED_BYTES - LENGTH_BYTES);
    assert!(stream.write(&bytes).now_or_never().is_none());
    assert!(stream.flush().now_or_never().is_none());
    assert!(stream.close().now_or_never().is_none());
    assert!(stream.staged.capacity() <= 2 * STAGED_BYTES, "{}", stream.staged.capacity());
    // The end stands behind what was staged, whatever was given up meanwhile.
    stream.stream.room = None;
    block_on(stream.close()).unwrap();
    let mut far = reading(&stream.stream.written, &[]);
    assert_eq!(all_of(&mut far), (vec![3; taken], None));
}

/// Counts how often it is woken.
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_reader_hands_on_what_a_writer_left_behind() {
    let counter = Arc::new(Counter(AtomicUsize::new(0)));
    let waker = Waker::from(counter.clone());
    let mut cx = Context::from_waker(&waker);
    let mut stream = reading(&[], &[]);
    stream.stream.silent = true;
    stream.stream.room = Some(3);
    assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut [0; 8]).is_pending());
    // Written, and then nobody writes, flushes or closes any more.
    assert_eq!(stream.write(b"question").now_or_never().unwrap().unwrap(), 8);
    assert_eq!(counter.0.load(Ordering::Relaxed), 1, "the reader was not told");
    assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut [0; 8]).is_pending());
    stream.stream.room = None;
    stream.stream.blocked.take().unwrap().wake();
    assert_eq!(counter.0.load(Ordering::Relaxed), 2, "room for the rest woke nobody");
    assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut [0; 8]).is_pending());
    assert_eq!(stream.stream.written, b"\x00\x08question");
}

fn steps() -> impl Strategy<Value = Vec<usize>> {
    // A script of pauses alone would never end.
    proptest::collection::vec(0..40usize, 1..20).prop_map(|mut steps| {
        steps.push(1);
        steps
    })
}

proptest! {
    #[test]
    fn any_splits_carry_the_same_bytes(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..12),
        large in 0..3 * STAGED_BYTES,
        write_steps in steps(),
        read_steps in steps(),
    ) {
        let mut near = reading(&[], &write_steps);
        let large = vec![0xa5; large];
        block_on(async {
            for piece in &pieces {
                near.write_all(piece).await.unwrap();
            }
            near.write_all(&large).await.unwrap();
            near.close().await.unwrap();
        });
        let sent = [pieces.concat(), large].concat();
        let wire = &near.stream.written;
        prop_assert_eq!(all_of(&mut reading(wire, &read_steps)), (sent.clone(), None));
        // Cut anywhere, it is a prefix and never an end.
        let at = wire.len() * read_steps[0] / 40;
        let (got, cut) = all_of(&mut reading(&wire[..at.min(wire.len() - 1)], &read_steps));
        prop_assert!(cut.is_some() && sent.starts_with(&got));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), steps in steps()) {
        let (got, _) = all_of(&mut reading(&bytes, &steps));
        prop_assert!(got.len() <= bytes.len());
    }
}

/// All chunks up to the end, and the cut if that is what it was.
fn chunks_of(stream: &mut ChunkStream<Scripted>) -> (Vec<Vec<u8>>, Option<io::ErrorKind>) {
    let mut chunks = Vec::new();
    loop {
        let mut chunk = Vec::new();
        let read =
            block_on(std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_read_chunk(cx, &mut chunk)));
        match read {
            Ok(true) => chunks.push(chunk),
            Ok(false) => return (chunks, None),
            Err(error) => return (chunks, Some(error.kind())),
        }
    }
}

fn write_chunk(stream: &mut ChunkStream<Scripted>, chunk: &[u8]) -> io::Result<()> {
    block_on(std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_write_chunk(cx, chunk)))
}

proptest! {
    #[test]
    fn whole_chunks_keep_their_borders_however_they_come(
        lengths in prop::collection::vec(prop_oneof![1usize..20, 4_090usize..4_100, Just(65_535)], 0..6),
        steps in prop::collection::vec(0usize..5_000, 1..6),
    ) {
        prop_assume!(steps.iter().any(|step| *step > 0));
        let chunks: Vec<Vec<u8>> =
            lengths.iter().enumerate().map(|(at, length)| vec![at as u8; *length]).collect();
        let mut writer = reading(b"", &steps);
        for chunk in &chunks {
            write_chunk(&mut writer, chunk).unwrap();
        }
        block_on(writer.close()).unwrap();
        let mut reader = reading(&writer.stream.written, &steps);
        prop_assert_eq!(chunks_of(&mut reader), (chunks, None));
    }
}

#[test]
fn a_chunk_that_is_cut_is_no_datagram() {
    let whole = [&[0x00, 0x02, 1, 2][..], &[0x00, 0x03, 7, 8, 9], &[0x00, 0x00]].concat();
    for length in 0..whole.len() {
        let (chunks, cut) = chunks_of(&mut reading(&whole[..length], &[1]));
        assert_eq!(cut, Some(io::ErrorKind::ConnectionReset), "cut to {length}");
        let complete = [4, 9].iter().filter(|end| **end <= length).count();
        assert_eq!(chunks.len(), complete, "cut to {length}");
    }
    assert_eq!(chunks_of(&mut reading(&whole, &[1])), (vec![vec![1, 2], vec![7, 8, 9]], None));
}

#[test]
fn a_long_chunk_is_made_room_for_only_as_it_comes() {
    let mut stream = reading(&[0xff, 0xff, 1], &[]);
    stream.stream.fails = true;
    let mut chunk = Vec::new();
    let read = std::future::poll_fn(|cx| Pin::new(&mut stream).poll_read_chunk(cx, &mut chunk));
    assert!(block_on(read).is_err());
    assert!(chunk.capacity() < 16_384, "{}", chunk.capacity());
}

#[test]
fn a_chunk_is_written_whole_or_not_at_all() {
    let mut stream = reading(b"", &[]);
    for wrong in [vec![], vec![0; 65_536]] {
        assert_eq!(write_chunk(&mut stream, &wrong).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    // Longer than what bytes are staged in.
    write_chunk(&mut stream, &[5; 65_535]).unwrap();
    assert_eq!(stream.stream.writes, [65_537]);
    // What is blocked behind another leaves nothing behind.
    stream.stream.room = Some(10);
    write_chunk(&mut stream, &[6; 100]).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut stream).poll_write_chunk(&mut cx, &[7; 100]).is_pending());
    stream.stream.room = None;
    block_on(stream.close()).unwrap();
    assert_eq!(stream.stream.written.len(), 65_537 + 102 + 2);
    assert_eq!(write_chunk(&mut stream, &[8]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}
