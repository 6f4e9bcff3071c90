//! Moving bytes between a stream and a local socket, both ways, until both halves are closed or either side is cut.

use crate::failure::Failure;
use crate::limits::COPY_BUFFER_BYTES;
use serde::Serialize;
use std::fmt;
use std::io;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;
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
    },
    /// Cut by this side, the other, the network or the local socket.
    Cut {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { sent, received } => write!(f, "closed after {sent} bytes out, {received} in"),
            Self::Cut { reason } => write!(f, "cut: {reason}"),
        }
    }
}

/// Copies until the end. A cut is passed on to the local socket as a reset: a clean close would look like the end of
/// the data.
pub(crate) async fn pump(mut stream: Stream, mut socket: TcpStream) -> End {
    let size = COPY_BUFFER_BYTES;
    match copy_bidirectional_with_sizes(&mut socket, &mut stream, size, size).await {
        Ok((sent, received)) => End::Closed { sent, received },
        Err(error) => {
            reset(&socket);
            End::Cut { reason: stream.end_reason().map_or_else(|| told(&error), |reason| reason.to_string()) }
        }
    }
}

/// Makes closing the socket a reset. If even that fails, it is closed already.
pub(crate) fn reset(socket: &TcpStream) {
    let _ = socket.set_zero_linger();
}

fn told(error: &io::Error) -> String {
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
            E::Unproven(_) => "unproven",
            E::Stopped => "stopped",
        };
        if error.is_proven_no() { Self::no(code, error) } else { Self::fault(code, error) }
    }
}
