//! Opening and accepting: the happy way, the shared dial, and every way it can fail.

use std::{net::TcpListener, num::NonZeroUsize, time::Duration};

use futures::future::join_all;
use libp2p::{Multiaddr, StreamProtocol, multiaddr::Protocol};

use super::host::{ECHO, LONG, echoed, node, peer, soon};
use crate::{
    Path, Transport,
    streams::{OpenError, Stage, Usage},
};

#[tokio::test]
async fn a_stream_echoes_and_half_closes() {
    let (caller, mut callee) = (node(1), node(2));
    let at = callee.listen_directly().await;
    let _echo = callee.echo();
    let mut stream = caller.open(callee.peer, &[at]).await.unwrap();
    assert_eq!(stream.peer(), callee.peer);
    assert_eq!(stream.path(), Path::Direct { transport: Transport::Tcp });
    assert_eq!(caller.control.connections(&callee.peer)[0].id, stream.connection());
    // The echo only ends because closing our side leaves theirs open.
    assert_eq!(echoed(&mut stream, b"out and back").await.unwrap(), b"out and back");
}

#[tokio::test]
async fn the_accepting_side_knows_the_caller() {
    let (caller, mut callee) = (node(1), node(2));
    let at = callee.listen_directly().await;
    let mut incoming = callee.accept(1);
    let opened = caller.open(callee.peer, &[at]).await.unwrap();
    let accepted = incoming.next().await.unwrap();
    assert_eq!(accepted.peer(), caller.peer);
    assert_eq!(accepted.path(), opened.path());
}

/// rust-libp2p issue 6157: a second dial requested while the first was under way was lost.
#[tokio::test]
async fn two_opens_to_a_peer_not_yet_dialled_both_succeed() {
    let (caller, mut callee) = (node(1), node(2));
    let at = callee.listen_directly().await;
    let _echo = callee.echo();
    let at = [at];
    let (one, two) = tokio::join!(caller.open(callee.peer, &at), caller.open(callee.peer, &at));
    let (mut one, mut two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.connection(), two.connection(), "one dial serves both");
    assert_eq!(echoed(&mut one, b"1").await.unwrap(), b"1");
    assert_eq!(echoed(&mut two, b"2").await.unwrap(), b"2");
}

#[tokio::test]
async fn a_thousand_opens_at_once_all_echo() {
    let (caller, mut callee) = (node(1), node(2));
    let at = [callee.listen_directly().await];
    let _echo = callee.echo();
    caller.control.connect(callee.peer, at.to_vec(), LONG).await.unwrap();
    let calls = (0..1000u32).map(|number| {
        let bytes = number.to_be_bytes().repeat(256);
        let (caller, at, to) = (&caller, &at, callee.peer);
        async move {
            let mut stream = caller.open(to, at).await.unwrap();
            assert_eq!(echoed(&mut stream, &bytes).await.unwrap(), bytes);
        }
    });
    soon(join_all(calls)).await;
    assert_eq!(callee.control.refused(), 0);
    assert_eq!(caller.control.connections(&callee.peer).len(), 1);
}

#[tokio::test]
async fn an_address_that_comes_later_joins_the_dial() {
    let (caller, mut callee) = (node(1), node(2));
    let at = callee.listen_directly().await;
    let _echo = callee.echo();
    // Nobody ever answers here: the connection is made by the kernel and the handshake never starts.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = tcp_at(silent.local_addr().unwrap().port());
    let (nowhere, at) = ([nowhere], [at]);
    let (one, two) = tokio::join!(caller.open(callee.peer, &nowhere), caller.open(callee.peer, &at));
    assert_eq!(one.unwrap().connection(), two.unwrap().connection());
}

#[tokio::test]
async fn a_protocol_the_peer_does_not_speak_is_unsupported() {
    let (caller, mut callee) = (node(1), node(2));
    let at = callee.listen_directly().await;
    let other = StreamProtocol::new("/test/other/1");
    let refused = caller.control.open(callee.peer, vec![at], other.clone(), LONG).await.unwrap_err();
    assert!(matches!(refused, OpenError::Unsupported { protocol, .. } if protocol == other));
}

#[tokio::test]
async fn accepting_begins_and_ends_on_live_connections() {
    let (caller, mut callee) = (node(1), node(2));
    let at = [callee.listen_directly().await];
    caller.control.connect(callee.peer, at.to_vec(), LONG).await.unwrap();
    assert!(matches!(caller.open(callee.peer, &at).await, Err(OpenError::Unsupported { .. })));

    let incoming = callee.accept(1);
    assert!(callee.control.accept(ECHO, NonZeroUsize::MIN).is_err(), "one acceptor per protocol");
    caller.open(callee.peer, &at).await.unwrap();

    drop(incoming);
    assert!(matches!(caller.open(callee.peer, &at).await, Err(OpenError::Unsupported { .. })));
    callee.accept(1);
}

#[tokio::test]
async fn nobody_and_nowhere_are_told_apart() {
    let caller = node(1);
    let to = peer(2);
    assert!(matches!(caller.open(to, &[]).await, Err(OpenError::NoAddress { .. })));

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = caller.open(to, &[tcp_at(closed)]).await.unwrap_err();
    assert!(matches!(refused, OpenError::Dial { .. }));
    let text = refused.to_string();
    assert!(text.contains(&closed.to_string()) && text.contains("refused") && !text.contains('\n'), "{text}");
    caller.until(|usage| usage == Usage::default()).await;
}

#[tokio::test]
async fn somebody_else_at_the_address_is_named() {
    let (caller, mut callee) = (node(1), node(2));
    let at = callee.listen_directly().await;
    match caller.open(peer(3), &[at]).await {
        Err(OpenError::PeerIsNot { expected, got, .. }) => {
            assert_eq!((expected, got), (peer(3), callee.peer));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_deadline_says_what_it_was_waiting_for() {
    let caller = node(1);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = tcp_at(silent.local_addr().unwrap().port());
    let soon = Duration::from_millis(50);
    let late = caller.control.open(peer(2), vec![at.clone()], ECHO, soon).await.unwrap_err();
    assert!(matches!(late, OpenError::Timeout { stage: Stage::Dial, after, .. } if after == soon));
    let late = caller.control.connect(peer(2), vec![at], soon).await.unwrap_err();
    assert!(matches!(late, OpenError::Timeout { stage: Stage::Dial, .. }));
}

#[tokio::test]
async fn a_stopped_swarm_is_told() {
    let caller = node(1);
    let control = caller.control.clone();
    drop(caller);
    let outcome = control.open(peer(2), vec![tcp_at(1)], ECHO, LONG).await;
    assert!(matches!(outcome, Err(OpenError::Stopped | OpenError::Closed { .. })));
}

#[tokio::test]
async fn cycles_of_connections_leave_nothing_behind() {
    let (caller, mut callee) = (node(1), node(2));
    let at = callee.listen_directly().await;
    let _echo = callee.echo();
    for _ in 0..200 {
        caller.control.connect(callee.peer, vec![at.clone()], LONG).await.unwrap();
        let mut stream = caller.open(callee.peer, &[]).await.unwrap();
        assert_eq!(echoed(&mut stream, b"x").await.unwrap(), b"x");
        caller.control.disconnect(callee.peer).await;
        // The stream outlives its connection and must not keep anything alive.
        caller.until(|usage| usage == Usage::default()).await;
    }
    callee.until(|usage| usage == Usage::default()).await;
}

fn tcp_at(port: u16) -> Multiaddr {
    Multiaddr::empty().with(Protocol::Ip4([127, 0, 0, 1].into())).with(Protocol::Tcp(port))
}
