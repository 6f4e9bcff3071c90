//! The task that carries attestations between nodes: one stream per direction, `/windlass/head/1`.
//!
//! To each configured peer a stream is kept open; to a peer that opened one to us, we open one back. Whatever
//! the attester wants told goes out on all of them. Nothing is believed here: the attester checks signatures.

use super::Heard;
use crate::limits::{
    HEAD_DEADLINE, HEAD_MESSAGE_BURST, HEAD_MESSAGES_PER_SECOND, MAX_HEAD_LINKS, MAX_HEAD_STREAMS,
    RECONNECT_PAUSE,
};
use crate::rate::Rates;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::{Control, Incoming, PeerStream, identity};
use windlass_protocol::message::head::{HeadMessage, MAX_HEAD_MESSAGE_BYTES};
use windlass_protocol::message::names;
use windlass_protocol::wire;

const PROTOCOL: StreamProtocol = StreamProtocol::new(names::HEAD);

/// A peer and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Who.
    pub id: PeerId,
    /// Where to dial it.
    pub address: Multiaddr,
}

/// Carries attestations.
pub struct Gossip {
    control: Control,
    configured: Vec<Peer>,
    told: watch::Receiver<Arc<Vec<HeadMessage>>>,
    inbox: mpsc::Sender<Heard>,
    rates: Arc<Rates>,
    linked: HashSet<PeerId>,
}

/// What one of the streams' tasks reports when it ends.
enum Ended {
    Reader,
    Link(PeerId),
}

impl Gossip {
    /// Tells `told` to peers and `inbox` what peers say.
    pub fn new(
        control: Control,
        configured: Vec<Peer>,
        told: watch::Receiver<Arc<Vec<HeadMessage>>>,
        inbox: mpsc::Sender<Heard>,
    ) -> Self {
        let rates = Arc::new(Rates::new(HEAD_MESSAGES_PER_SECOND, HEAD_MESSAGE_BURST));
        Self { control, configured, told, inbox, rates, linked: HashSet::new() }
    }

    /// Runs until cancelled. Every stream's task ends with it.
    pub async fn run(mut self, mut incoming: Incoming, cancelled: CancellationToken) {
        let mut tasks = JoinSet::new();
        for peer in std::mem::take(&mut self.configured) {
            self.linked.insert(peer.id);
            tasks.spawn(keep_linked(self.control.clone(), peer, self.told.clone()));
        }
        loop {
            tokio::select! {
                () = cancelled.cancelled() => break,
                Some(stream) = incoming.next() => self.accept(&mut tasks, stream),
                Some(Ok(ended)) = tasks.join_next() => {
                    if let Ended::Link(peer) = ended {
                        self.linked.remove(&peer);
                    }
                }
            }
        }
        tasks.shutdown().await;
    }

    fn accept(&mut self, tasks: &mut JoinSet<Ended>, stream: PeerStream) {
        let peer = stream.peer();
        if tasks.len() >= MAX_HEAD_STREAMS + MAX_HEAD_LINKS {
            // Dropping it resets it: the peer sees that we are full.
            return;
        }
        tasks.spawn(listen(stream, self.rates.clone(), self.inbox.clone()));
        if self.linked.len() < MAX_HEAD_LINKS && self.linked.insert(peer) {
            tasks.spawn(answer(self.control.clone(), peer, self.told.clone()));
        }
    }
}

/// Reads what a peer says until it stops, breaks off or talks nonsense.
async fn listen(mut stream: PeerStream, rates: Arc<Rates>, inbox: mpsc::Sender<Heard>) -> Ended {
    let peer = stream.peer();
    let Ok(from) = identity::key_address_of(&peer) else { return Ended::Reader };
    while let Ok(frame) = read_frame(&mut stream).await {
        let message = match wire::decode::<HeadMessage>(&frame, MAX_HEAD_MESSAGE_BYTES) {
            Ok(message) => message,
            Err(error) => {
                tracing::info!(%peer, %error, "a peer sent no message about heads: closing its stream");
                break;
            }
        };
        rates.wait(peer).await;
        // Waits while the attester is busy, and so slows the peer down.
        if inbox.send(Heard { from: from.0, message }).await.is_err() {
            break;
        }
    }
    Ended::Reader
}

/// Keeps a stream open to a configured peer, for ever.
async fn keep_linked(control: Control, peer: Peer, told: watch::Receiver<Arc<Vec<HeadMessage>>>) -> Ended {
    loop {
        match control.open(peer.id, vec![peer.address.clone()], PROTOCOL, HEAD_DEADLINE).await {
            Ok(stream) => {
                tracing::debug!(peer = %peer.id, "telling a peer about heads");
                tell(stream, told.clone()).await;
            }
            Err(error) => tracing::debug!(peer = %peer.id, %error, "a peer can't be reached"),
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
        if told.has_changed().is_err() {
            return Ended::Link(peer.id);
        }
    }
}

/// Opens a stream back to a peer that opened one to us, over the connection there is.
async fn answer(control: Control, peer: PeerId, told: watch::Receiver<Arc<Vec<HeadMessage>>>) -> Ended {
    match control.open(peer, Vec::new(), PROTOCOL, HEAD_DEADLINE).await {
        Ok(stream) => tell(stream, told).await,
        Err(error) => tracing::debug!(%peer, %error, "a peer takes no attestations"),
    }
    Ended::Link(peer)
}

/// Sends what is to be told and wasn't on this stream, until the stream breaks.
async fn tell(mut stream: PeerStream, mut told: watch::Receiver<Arc<Vec<HeadMessage>>>) {
    let mut sent: Arc<Vec<HeadMessage>> = Arc::default();
    told.mark_changed();
    while told.changed().await.is_ok() {
        let messages = told.borrow_and_update().clone();
        for message in messages.iter().filter(|message| !sent.contains(message)) {
            let frame = wire::encode(message);
            match tokio::time::timeout(HEAD_DEADLINE, write_frame(&mut stream, &frame)).await {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
        sent = messages;
    }
}
