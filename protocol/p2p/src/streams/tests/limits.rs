//! What happens at each bound.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWrite, FutureExt, poll};

use super::host::{ECHO, echoed, node, node_of, node_with, soon};
use crate::streams::{Limits, OpenError, Stage};

fn one_stream(waiting_per_peer: usize) -> Limits {
    Limits { streams_per_peer: 1, waiting_per_peer, ..Limits::default() }
}

#[tokio::test]
async fn callers_beyond_the_queue_are_told_busy() {
    let (caller, mut callee) = (node_with(1, one_stream(2)), node(2));
    let at = [callee.listen_directly().await];
    let _echo = callee.echo();
    let held = caller.open(callee.peer, &at).await.unwrap();
    let mut first = pin!(caller.open(callee.peer, &at));
    let mut second = pin!(caller.open(callee.peer, &at));
    assert!(poll!(first.as_mut()).is_pending() && poll!(second.as_mut()).is_pending());
    caller.until(|usage| usage.waiting == 2).await;
    assert!(matches!(caller.open(callee.peer, &at).await, Err(OpenError::Busy { .. })));

    // Those who wait get their turn, one after the other, as streams are dropped.
    drop(held);
    let served = first.await.unwrap();
    assert!(poll!(second.as_mut()).is_pending());
    drop(served);
    second.await.unwrap();
}

#[tokio::test]
async fn a_dropped_caller_gives_back_its_place() {
    let (caller, mut callee) = (node_with(1, one_stream(1)), node(2));
    let at = [callee.listen_directly().await];
    let _echo = callee.echo();
    let held = caller.open(callee.peer, &at).await.unwrap();
    {
        let mut gives_up = pin!(caller.open(callee.peer, &at));
        assert!(poll!(gives_up.as_mut()).is_pending());
        caller.until(|usage| usage.waiting == 1).await;
    }
    caller.until(|usage| usage.waiting == 0).await;
    let mut waits = pin!(caller.open(callee.peer, &at));
    assert!(poll!(waits.as_mut()).is_pending());
    caller.until(|usage| usage.waiting == 1).await;
    drop(held);
    waits.await.unwrap();
}

#[tokio::test]
async fn waiting_for_a_free_stream_ends_with_the_deadline() {
    let (caller, mut callee) = (node_with(1, one_stream(8)), node(2));
    let at = [callee.listen_directly().await];
    let _echo = callee.echo();
    let _held = caller.open(callee.peer, &at).await.unwrap();
    let late = caller.control.open(callee.peer, vec![], ECHO, Duration::from_millis(20)).await;
    assert!(matches!(late, Err(OpenError::Timeout { stage: Stage::Queue, .. })));
    caller.until(|usage| usage.waiting == 0).await;
}

#[tokio::test]
async fn a_full_queue_resets_new_streams_and_counts_them() {
    let (caller, mut callee) = (node(1), node(2));
    let at = [callee.listen_directly().await];
    let mut incoming = callee.accept(1);
    let mut taken = caller.open(callee.peer, &at).await.unwrap();
    let mut beyond = caller.open(callee.peer, &at).await.unwrap();
    let reset = soon(beyond.read(&mut [0])).await.unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!((incoming.refused(), callee.control.refused()), (1, 1));

    // The one that fitted is as good as ever.
    let accepted = incoming.next().await.unwrap();
    let (echo, back) = tokio::join!(
        async {
            let (read, mut write) = accepted.split();
            futures::io::copy(read, &mut write).await?;
            futures::AsyncWriteExt::close(&mut write).await
        },
        echoed(&mut taken, b"still here"),
    );
    echo.unwrap();
    assert_eq!(back.unwrap(), b"still here");
}

#[tokio::test]
async fn a_peer_holds_no_more_inbound_streams_than_allowed() {
    let callee_limits = Limits { inbound_per_connection: 2, ..Limits::default() };
    let (caller, mut callee) = (node(1), node_with(2, callee_limits));
    let at = [callee.listen_directly().await];
    let mut incoming = callee.accept(8);
    let _first = caller.open(callee.peer, &at).await.unwrap();
    let _second = caller.open(callee.peer, &at).await.unwrap();
    let mut third = caller.open(callee.peer, &at).await.unwrap();
    assert!(soon(third.read(&mut [0])).await.is_err());
    assert_eq!(callee.control.refused(), 1);

    // Dropping one on the callee's side makes room.
    drop(incoming.next().await.unwrap());
    let _fourth = caller.open(callee.peer, &at).await.unwrap();
    assert_eq!(callee.control.refused(), 1);
}

#[tokio::test]
async fn a_receiver_that_never_reads_stops_the_sender() {
    const CHUNK: usize = 16 * 1024;
    /// yamux's window of 256 KiB, its queue of ten frames, and room for what is on the way.
    const MOST: usize = 1024 * 1024;
    let (caller, mut callee) = (node(1), node(2));
    let at = [callee.listen_directly().await];
    let mut incoming = callee.accept(2);
    let mut stream = caller.open(callee.peer, &at).await.unwrap();
    let never_reads = incoming.next().await.unwrap();

    let mut sent = 0;
    let chunk = [7; CHUNK];
    let mut rounds_without_room = 0;
    while rounds_without_room < 100 {
        let write = futures::future::poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, &chunk));
        match write.now_or_never() {
            Some(written) => {
                sent += written.unwrap();
                rounds_without_room = 0;
            }
            // Other streams of the connection go on, which also shows that everything sent so far
            // has arrived and been answered.
            None => {
                let other = caller.open(callee.peer, &at).await.unwrap();
                drop((incoming.next().await.unwrap(), other));
                rounds_without_room += 1;
            }
        }
        assert!(sent < MOST, "the sender was never stopped");
    }
    // Agreeing on the protocol took a few bytes of the window.
    assert!(sent >= 255 * 1024, "the window was never used: {sent}");
    drop(never_reads);
}

#[tokio::test]
async fn streams_beyond_the_limit_wait_and_then_open() {
    let limits = Limits { streams_per_peer: 4, opening_per_peer: 2, ..Limits::default() };
    let (caller, mut callee) = (node_with(1, limits), node(2));
    let at = [callee.listen_directly().await];
    let _echo = callee.echo();
    let calls = (0..40u8).map(|number| {
        let (caller, at, to) = (&caller, &at, callee.peer);
        async move {
            let mut stream = caller.open(to, at).await.unwrap();
            assert_eq!(echoed(&mut stream, &[number]).await.unwrap(), [number]);
        }
    });
    soon(futures::future::join_all(calls)).await;
    caller.until(|usage| usage.waiting == 0 && usage.connections == 1).await;
}

/// A fixed bug: strangers could use up all connections, those to be dialled included.
#[tokio::test]
async fn strangers_leave_room_for_our_own_dials() {
    let (mut host, mut other) = (node_of(1, 4), node(2));
    let at = [host.listen_directly().await];
    let _echo = host.echo();
    let strangers: Vec<_> = (10..14).map(node).collect();
    let mut held = Vec::new();
    for stranger in &strangers[..3] {
        held.push(stranger.open(host.peer, &at).await.unwrap());
    }
    assert!(strangers[3].open(host.peer, &at).await.is_err());
    let _answers = other.echo();
    let elsewhere = [other.listen_directly().await];
    let mut stream = host.open(other.peer, &elsewhere).await.unwrap();
    assert_eq!(echoed(&mut stream, b"through").await.unwrap(), b"through");
}
