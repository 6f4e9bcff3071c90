//! Why a stream or connection couldn't be had. Nothing here says whether a peer was *allowed* it.

use std::{fmt, io, sync::Arc, time::Duration};

use libp2p::{Multiaddr, PeerId, StreamProtocol, swarm::DialError};

/// What an open or connect was waiting for when its deadline came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The task that owns the swarm.
    Swarm,
    /// A connection to the peer.
    Dial,
    /// A free place among the streams to the peer.
    Queue,
    /// The peer's answer to the protocol we proposed.
    Negotiate,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Swarm => "waiting for the network task",
            Self::Dial => "connecting",
            Self::Queue => "waiting for a free stream",
            Self::Negotiate => "agreeing on the protocol",
        })
    }
}

/// Why a stream couldn't be opened, or a connection made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// Too many callers wait for this peer already. Ours to fix: open fewer streams at once.
    #[error("too many callers are waiting for peer {peer}")]
    Busy {
        /// The peer.
        peer: PeerId,
    },
    /// There is no connection to the peer and no address to dial it at.
    #[error("not connected to peer {peer}, and no address of it is known")]
    NoAddress {
        /// The peer.
        peer: PeerId,
    },
    /// No address led to the peer.
    #[error("can't connect to peer {peer}: {source}")]
    Dial {
        /// The peer.
        peer: PeerId,
        /// What each attempt came to.
        source: DialFailures,
    },
    /// Somebody else answered at the peer's address.
    #[error("{address} is not peer {expected} but {got}")]
    PeerIsNot {
        /// The peer that was dialled.
        expected: PeerId,
        /// Who proved to be there.
        got: PeerId,
        /// Where.
        address: Multiaddr,
    },
    /// The peer doesn't speak the protocol.
    #[error("peer {peer} doesn't speak {protocol}")]
    Unsupported {
        /// The peer.
        peer: PeerId,
        /// The protocol we proposed.
        protocol: StreamProtocol,
    },
    /// The connection closed, or the peer reset the stream, before it was ready.
    #[error("the connection to peer {peer} closed before the stream was open")]
    Closed {
        /// The peer.
        peer: PeerId,
        /// How the stream failed, if it had begun.
        #[source]
        source: Option<Arc<io::Error>>,
    },
    /// The deadline passed.
    #[error("peer {peer}: gave up after {after:?} {stage}")]
    Timeout {
        /// The peer.
        peer: PeerId,
        /// What it was waiting for.
        stage: Stage,
        /// The deadline that was given.
        after: Duration,
    },
    /// The swarm is gone; nothing will ever be opened again.
    #[error("the network task has stopped")]
    Stopped,
}

/// Every failed attempt to reach one peer, in the order they ended.
#[derive(Debug, Clone, Default)]
pub struct DialFailures(Arc<[Attempt]>);

/// A failed attempt. libp2p lends its error and keeps it, so the reasons are text.
#[derive(Debug, Clone)]
pub enum Attempt {
    /// Nobody, or nothing that speaks our transports, answered.
    Unreachable {
        /// Where.
        address: Multiaddr,
        /// The innermost reason.
        reason: String,
    },
    /// Somebody else answered.
    WrongPeer {
        /// Where.
        address: Multiaddr,
        /// Who it was.
        got: PeerId,
    },
    /// Something on our side refused the dial.
    Refused {
        /// The innermost reason.
        reason: String,
    },
    /// The relay that the circuit would have gone through couldn't be reached.
    Relay {
        /// The relay.
        relay: PeerId,
        /// What happened there.
        failures: DialFailures,
    },
}

impl Attempt {
    /// What one of libp2p's dials came to, one attempt for each address.
    pub(crate) fn of(error: &DialError) -> Vec<Self> {
        match error {
            DialError::Transport(failures) => failures
                .iter()
                .map(|(address, error)| Self::Unreachable {
                    address: address.clone(),
                    reason: root_of(error),
                })
                .collect(),
            DialError::WrongPeerId { obtained, address } => {
                vec![Self::WrongPeer { address: address.clone(), got: *obtained }]
            }
            DialError::Denied { cause } => vec![Self::Refused { reason: root_of(cause) }],
            other => vec![Self::Refused { reason: one_line(other) }],
        }
    }
}

impl DialFailures {
    pub(crate) fn new(attempts: Vec<Attempt>) -> Self {
        Self(attempts.into())
    }

    /// The attempts.
    pub fn attempts(&self) -> &[Attempt] {
        &self.0
    }

    /// The first attempt that found somebody else, as the error that says so.
    pub(crate) fn wrong_peer(&self, expected: PeerId) -> Option<OpenError> {
        self.0.iter().find_map(|attempt| match attempt {
            Attempt::WrongPeer { address, got } => {
                Some(OpenError::PeerIsNot { expected, got: *got, address: address.clone() })
            }
            _ => None,
        })
    }
}

impl std::error::Error for DialFailures {}

impl fmt::Display for DialFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no attempt was made");
        }
        for (at, attempt) in self.0.iter().enumerate() {
            let separator = if at > 0 { "; " } else { "" };
            write!(f, "{separator}{attempt}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { address, reason } => write!(f, "{address}: {reason}"),
            Self::WrongPeer { address, got } => write!(f, "{address} is peer {got}"),
            Self::Refused { reason } => write!(f, "refused here: {reason}"),
            Self::Relay { relay, failures } => write!(f, "relay {relay}: {failures}"),
        }
    }
}

/// The innermost cause: libp2p wraps what happened in layers that only repeat themselves.
fn root_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    one_line(root)
}

/// An error's text on one line, whatever libp2p puts into it.
fn one_line(error: &(impl fmt::Display + ?Sized)) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The protocol already has somebody who takes its streams.
#[derive(Debug, thiserror::Error)]
#[error("streams of {protocol} are accepted elsewhere already")]
pub struct AlreadyAccepting {
    /// The protocol.
    pub protocol: StreamProtocol,
}
