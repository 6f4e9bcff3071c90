//! Datagrams between a local UDP socket and devices: those of one sender are a flow, and a flow is a stream of its own.
//!
//! UDP has no end: a flow ends when nothing moved for a while, or to make room for another. What can't be carried on at
//! once is lost, as UDP loses it.

use crate::limits::{FLOW_GOODBYE, FLOW_IDLE};
use crate::pump::{End, told};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use windlass_client::{Datagrams, MAX_DATAGRAM_BYTES, SendError, Sent};

/// The local end of one flow.
#[derive(Debug)]
pub(crate) enum Side {
    /// A program that sends to our socket; what it sends comes through a queue.
    Sender {
        /// From it.
        inbox: mpsc::Receiver<Box<[u8]>>,
        /// Ours.
        socket: Arc<UdpSocket>,
        /// Its socket address.
        address: SocketAddr,
    },
    /// A program that is sent to, through a socket of the flow's own.
    Server {
        /// Connected to it.
        socket: UdpSocket,
        /// Of one datagram.
        buffer: Vec<u8>,
    },
}

impl Side {
    /// A socket of one flow's own to a local server.
    pub(crate) async fn server(to: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(to).await?;
        Ok(Self::Server { socket, buffer: vec![0; MAX_DATAGRAM_BYTES] })
    }

    /// The next datagram of the local program, `None` when there will be no more. Cancel-safe.
    async fn recv(&mut self) -> io::Result<Option<Box<[u8]>>> {
        match self {
            Self::Sender { inbox, .. } => Ok(inbox.recv().await),
            Self::Server { socket, buffer } => {
                let length = socket.recv(buffer).await?;
                Ok(Some(buffer[..length].into()))
            }
        }
    }

    async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        match self {
            Self::Sender { socket, address, .. } => socket.send_to(datagram, address).await.map(drop),
            Self::Server { socket, .. } => socket.send(datagram).await.map(drop),
        }
    }
}

/// What went each way, in bytes, and how many datagrams were lost.
#[derive(Default)]
struct Count {
    sent: u64,
    received: u64,
    lost: u64,
}

/// Carries datagrams until one side is done, or nothing moves any more.
pub(crate) async fn carry(mut datagrams: Datagrams, mut side: Side) -> End {
    let mut count = Count::default();
    let outcome = exchange(&mut datagrams, &mut side, &mut count).await;
    let outcome = match outcome {
        Ok(()) => goodbye(&mut datagrams).await,
        failed => failed,
    };
    match outcome {
        Ok(()) => End::Closed { sent: count.sent, received: count.received, lost: count.lost },
        // Moving may fail before it is told why.
        Err(reason) => End::Cut { reason: datagrams.end_reason().map_or(reason, |known| known.to_string()) },
    }
}

async fn exchange(datagrams: &mut Datagrams, side: &mut Side, count: &mut Count) -> Result<(), String> {
    let mut ended = pin!(datagrams.ended());
    loop {
        tokio::select! {
            reason = &mut ended => return Err(reason.to_string()),
            local = side.recv() => match local.map_err(|error| format!("the local service: {error}"))? {
                Some(datagram) => match datagrams.send(&datagram) {
                    Ok(Sent::Queued) => count.sent += datagram.len() as u64,
                    // An empty one can't be told from the end.
                    Ok(Sent::Dropped) | Err(SendError::Length(_)) => count.lost += 1,
                    Err(SendError::Ended(error)) => return Err(told(&error)),
                },
                None => return Ok(()),
            },
            remote = datagrams.recv() => match remote.map_err(|error| told(&error))? {
                Some(datagram) => match side.send(&datagram).await {
                    Ok(()) => count.received += datagram.len() as u64,
                    // Too long for this socket, or its buffer is full.
                    Err(_) => count.lost += 1,
                },
                None => return Ok(()),
            },
            () = sleep(FLOW_IDLE) => return Ok(()),
        }
    }
}

/// Ends in order: what is queued leaves, and the other side is waited for a little.
async fn goodbye(datagrams: &mut Datagrams) -> Result<(), String> {
    let ending = async {
        datagrams.shutdown().await?;
        while datagrams.recv().await?.is_some() {}
        Ok::<(), io::Error>(())
    };
    match timeout(FLOW_GOODBYE, ending).await {
        Ok(Err(error)) => Err(told(&error)),
        // Somebody who goes on sending is cut.
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}
