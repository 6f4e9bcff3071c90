//! Moving bytes between a stream and a local socket, both ways, until both halves are closed or either side is cut.

use crate::failure::Failure;
use crate::limits::COPY_BUFFER_BYTES;
use crate::local::Socket;
use serde::Serialize;
use std::fmt;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use windlass_client::{OpenError, Stream};

/// How one stream ended.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
#[serde(tag = "end", rename_all = "snake_case")]
pub(crate) enum End {
    /// Both halves were closed in order.
    Closed {
        /// Bytes from the local socket into the stream.
        sent: u64,
        /// Bytes from the stream to the local socket.
        received: u64,
        /// Datagrams that found no room.
        #[serde(skip_serializing_if = "is_none")]
        lost: u64,
    },
    /// Cut by this side, the other, the network or the local socket.
    Cut {
        /// Why.
        reason: String,
    },
}

/// For serde, which hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none(lost: &u64) -> bool {
    *lost == 0
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { sent, received, lost: 0 } => {
                write!(f, "closed after {sent} bytes out, {received} in")
            }
            Self::Closed { sent, received, lost } => {
                write!(f, "closed after {sent} bytes out, {received} in; {lost} datagrams found no room")
            }
            Self::Cut { reason } => write!(f, "cut: {reason}"),
        }
    }
}

/// Copies until the end. A cut is passed on to the local socket as a reset: a clean close would look like the end of
/// the data.
pub(crate) async fn pump(mut stream: Stream, mut socket: Socket) -> End {
    let ended = stream.ended();
    match copy(&mut stream, &mut socket, ended).await {
        Ok((sent, received)) => End::Closed { sent, received, lost: 0 },
        Err(reason) => {
            socket.reset();
            // Copying may fail before it is told why.
            End::Cut { reason: stream.end_reason().map_or(reason, |known| known.to_string()) }
        }
    }
}

/// Copies until both halves are closed, or until `ended` says why this side ended the stream: copying alone would
/// notice that only once a slow local reader had taken what is buffered for it.
async fn copy<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    socket: &mut Socket,
    ended: impl Future<Output = impl fmt::Display>,
) -> Result<(u64, u64), String> {
    let size = COPY_BUFFER_BYTES;
    tokio::select! {
        reason = ended => Err(reason.to_string()),
        copied = copy_bidirectional_with_sizes(socket, stream, size, size) => copied.map_err(|error| told(&error)),
    }
}

pub(crate) fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "reset by the other side, or the way to it was lost".to_owned(),
        io::ErrorKind::BrokenPipe => "one side stopped reading".to_owned(),
        _ => error.to_string(),
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        use OpenError as E;
        use windlass_client::Denial;
        let code = match &error {
            E::Denied { denial: Denial::NoSuchName, .. } => "no_such_name",
            E::Denied { denial: Denial::NameExpired, .. } => "name_expired",
            E::Denied { denial: Denial::NoDevice, .. } => "no_device",
            E::Denied { denial: Denial::NotRegistered(_), .. } | E::NotRegistered { .. } => "not_registered",
            E::Revoked { .. } => "revoked",
            E::Suspended { .. } => "suspended",
            E::Expired { .. } => "expired",
            E::NotOurKey { .. } => "not_our_key",
            E::NoGrant { .. } => "no_grant",
            E::NoRoute { .. } => "no_route",
            E::Unreachable { .. } => "unreachable",
            E::PeerIsNot { .. } => "peer_is_not",
            E::Refused { .. } => "refused",
            E::Stale { .. } => "stale",
            E::Busy { .. } => "busy",
            E::Timeout { .. } => "timeout",
            E::Broken { .. } => "broken",
            E::NoNode { .. } => "no_node",
            E::Cold { .. } => "cold",
            E::Unproven(_) => "unproven",
            E::OtherTransport(_) => "usage",
            E::Stopped => "stopped",
        };
        if error.is_proven_no() { Self::no(code, error) } else { Self::fault(code, error) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::future::pending;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::net::{TcpListener, TcpStream};

    /// A local program's end of a connection, and ours.
    async fn sockets() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (local, Socket::Tcp(listener.accept().await.unwrap().0))
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_each_half_closes_alone() {
        let (mut local, mut socket) = sockets().await;
        let (mut near, mut far) = duplex(16);
        let copying = tokio::spawn(async move { copy(&mut near, &mut socket, pending::<String>()).await });
        local.write_all(b"question").await.unwrap();
        local.shutdown().await.unwrap();
        let mut asked = String::new();
        far.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, "question");
        far.write_all(b"a longer answer than the pipe holds").await.unwrap();
        far.shutdown().await.unwrap();
        let mut answer = String::new();
        local.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "a longer answer than the pipe holds");
        assert_eq!(copying.await.unwrap(), Ok((8, 35)));
    }

    /// A fixed bug: the end of a stream went unnoticed for as long as the local program didn't read.
    #[tokio::test]
    async fn a_stream_that_is_ended_is_cut_under_a_reader_that_does_not_read() {
        let (mut local, mut socket) = sockets().await;
        let (mut near, mut far) = duplex(1 << 16);
        let (end, ended) = tokio::sync::oneshot::channel::<String>();
        let copying = tokio::spawn(async move {
            let done = copy(&mut near, &mut socket, async { ended.await.unwrap() }).await;
            socket.reset();
            done
        });
        // Writes for as long as anybody takes it: the buffers on the way fill up, since nobody reads.
        let writing = tokio::spawn(async move { while far.write_all(&[7; 1 << 16]).await.is_ok() {} });
        end.send("the device is revoked".to_owned()).unwrap();
        assert_eq!(copying.await.unwrap(), Err("the device is revoked".to_owned()));
        writing.await.unwrap();
        let mut rest = Vec::new();
        let error = local.read_to_end(&mut rest).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
