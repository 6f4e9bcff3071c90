//! What the end of a stream looks like: orderly, reset, or with its connection.

use std::io::ErrorKind;

use futures::{AsyncReadExt, AsyncWriteExt};

use super::host::{HasStreams, Host, TRANSPORTS, node, soon};
use crate::{
    Transport,
    streams::{Incoming, PeerStream},
    swarm::NodeBehaviour,
};

/// Two hosts and both ends of a stream between them.
struct Pair {
    caller: Host<NodeBehaviour>,
    callee: Host<NodeBehaviour>,
    _incoming: Incoming,
    near: PeerStream,
    far: PeerStream,
}

async fn pair(over: Transport) -> Pair {
    let (caller, mut callee) = (node(1), node(2));
    let at = callee.listen_over(over).await;
    let mut incoming = callee.accept(4);
    let near = caller.open(callee.peer, &[at]).await.unwrap();
    let far = incoming.next().await.unwrap();
    Pair { caller, callee, _incoming: incoming, near, far }
}

/// Each transport, with our side open and closed.
fn cases() -> impl Iterator<Item = (Transport, bool)> {
    TRANSPORTS.iter().flat_map(|over| [(*over, false), (*over, true)])
}

async fn read_all(stream: &mut PeerStream) -> Result<Vec<u8>, (ErrorKind, Vec<u8>)> {
    let mut bytes = Vec::new();
    match soon(stream.read_to_end(&mut bytes)).await {
        Ok(_) => Ok(bytes),
        Err(error) => Err((error.kind(), bytes)),
    }
}

async fn write_all(stream: &mut PeerStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test]
async fn an_orderly_end_is_an_end_whether_or_not_our_side_is_closed() {
    for (over, close_ours) in cases() {
        let Pair { caller: _caller, callee: _callee, mut near, mut far, .. } = pair(over).await;
        if close_ours {
            near.close().await.unwrap();
            assert_eq!(read_all(&mut far).await, Ok(vec![]));
        }
        write_all(&mut far, b"all of it").await;
        far.close().await.unwrap();
        assert_eq!(
            read_all(&mut near).await,
            Ok(b"all of it".to_vec()),
            "{over:?}, close_ours: {close_ours}"
        );
        // Asking again gives the same answer.
        assert_eq!(read_all(&mut near).await, Ok(vec![]));
        if !close_ours {
            write_all(&mut near, b"the other way still works").await;
            near.close().await.unwrap();
            assert_eq!(read_all(&mut far).await, Ok(b"the other way still works".to_vec()));
        }
    }
}

#[tokio::test]
async fn a_dropped_stream_is_reset_not_ended() {
    for over in TRANSPORTS.iter().copied() {
        let Pair { caller: _caller, callee: _callee, mut near, mut far, .. } = pair(over).await;
        write_all(&mut far, b"half").await;
        drop(far);
        assert_eq!(
            read_all(&mut near).await,
            Err((ErrorKind::ConnectionReset, b"half".to_vec())),
            "{over:?}"
        );
        assert_eq!(near.write_all(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_closed_connection_breaks_its_streams() {
    for (over, close_ours) in cases() {
        let Pair { caller, callee, mut near, mut far, .. } = pair(over).await;
        write_all(&mut far, b"half").await;
        let mut start = [0; 4];
        near.read_exact(&mut start).await.unwrap();
        if close_ours {
            near.close().await.unwrap();
        }
        callee.control.disconnect(caller.peer).await;
        let broken = Err((ErrorKind::ConnectionReset, vec![]));
        assert_eq!(read_all(&mut near).await, broken, "{over:?}, close_ours: {close_ours}");
        assert_eq!(read_all(&mut far).await, broken);
        assert_eq!(far.write_all(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(far.flush().await.is_err() && far.close().await.is_err());
    }
}

/// Over TCP, where the kernel says so for a process that is gone; over QUIC only silence does.
#[tokio::test]
async fn a_vanished_host_breaks_its_streams() {
    for close_ours in [false, true] {
        let Pair { caller: _caller, callee, mut near, far, .. } = pair(Transport::Tcp).await;
        if close_ours {
            near.close().await.unwrap();
        }
        // The task and with it every socket is gone, as after kill -9. The far end of the stream
        // stays, so that it can't reset anything in an orderly way.
        drop(callee);
        assert_eq!(read_all(&mut near).await, Err((ErrorKind::ConnectionReset, vec![])));
        drop(far);
    }
}

#[tokio::test]
async fn waiting_reads_and_writes_wake_when_the_connection_dies() {
    for over in TRANSPORTS.iter().copied() {
        waiting_reads_and_writes_wake(pair(over).await).await;
    }
}

async fn waiting_reads_and_writes_wake(Pair { caller, callee, near, far: _far, .. }: Pair) {
    let (mut read, mut write) = near.split();
    let stuck_write = async {
        loop {
            if let Err(error) = write.write_all(&[0; 4096]).await {
                return error.kind();
            }
        }
    };
    let stuck_read = async { read.read(&mut [0]).await.unwrap_err().kind() };
    let killer = kill_when_idle(&caller, &callee);
    let (written, read, ()) = soon(async { tokio::join!(stuck_write, stuck_read, killer) }).await;
    assert_eq!((written, read), (ErrorKind::ConnectionReset, ErrorKind::ConnectionReset));
}

/// Cuts the connection once both tasks have had ample turns to get stuck.
async fn kill_when_idle(caller: &Host<impl HasStreams>, callee: &Host<impl HasStreams>) {
    for _ in 0..200 {
        caller.usage().await;
        callee.usage().await;
    }
    callee.control.disconnect(caller.peer).await;
}
