//! What other nodes ask of this one: `/windlass/nodes/1`, one request and one answer to a stream.
//!
//! Answered are registered nodes alone. A stream of anybody else is reset: what it could learn, a device may ask by
//! `/windlass/route/1`, and where nodes are is told to nodes.

use super::roster::{Contact, Word, dialable, place};
use super::walk::{Walker, multiaddrs};
use crate::clock::unix_seconds;
use crate::limits::{REQUEST_DEADLINE, REQUEST_STREAMS_PER_PEER};
use crate::serve::RouteBook;
use futures::AsyncWriteExt;
use libp2p::PeerId;
use std::sync::Arc;
use std::time::Instant;
use windlass_p2p::frame::{FrameError, read_frame, write_frame};
use windlass_p2p::{PeerStream, identity};
use windlass_protocol::message::nodes::{
    MAX_NODES_REQUEST_BYTES, MAX_NODES_TOLD, NodeAt, NodesAnswer, NodesRequest,
};
use windlass_protocol::{DeviceId, wire};

/// Streams of one peer at a time: all it may ask at once.
pub(super) const STREAMS_PER_NODE: usize = REQUEST_STREAMS_PER_PEER;

/// Serves one stream.
pub(super) async fn serve(walker: Walker, book: Arc<RouteBook>, mut stream: PeerStream) {
    let peer = stream.peer();
    let is_known = walker.dht.is_node(&peer);
    let rates = &walker.dht.rates;
    // Charged for the stream: who opens and says nothing pays as well.
    let admitted = if is_known { &rates.nodes } else { &rates.strangers }.admit(peer, Instant::now());
    if !admitted || !(is_known || walker.registered.is_node_now(peer).await) {
        return;
    }
    let served = tokio::time::timeout(REQUEST_DEADLINE, async {
        let frame = read_frame(&mut stream).await?;
        let Ok(request) = wire::decode::<NodesRequest>(&frame, MAX_NODES_REQUEST_BYTES) else {
            tracing::debug!(%peer, "a node asked something that can't be read");
            return Ok(());
        };
        let answer = walker.answer(peer, request, book).await;
        write_frame(&mut stream, &wire::encode(&answer)).await?;
        stream.close().await?;
        Ok::<(), FrameError>(())
    });
    if let Ok(Err(error)) = served.await {
        tracing::debug!(%peer, %error, "a node didn't take its answer");
    }
}

impl Walker {
    async fn answer(&self, peer: PeerId, request: NodesRequest, book: Arc<RouteBook>) -> NodesAnswer {
        let device = request.device;
        let addresses = dialable(&multiaddrs(&request.addresses), &self.control.external_addresses());
        self.dht.roster().learn(Contact { peer, addresses }, Word::Own);
        let held = tokio::task::spawn_blocking(move || book.newest(device, unix_seconds()));
        let route = held.await.ok().and_then(Result::ok).flatten();
        NodesAnswer { route, nodes: self.near(device, peer) }
    }

    /// The nodes nearest to a device, without who asks.
    fn near(&self, device: DeviceId, asking: PeerId) -> Vec<NodeAt> {
        let near = self.dht.roster().nearest(place(device.0), MAX_NODES_TOLD + 1, Instant::now());
        let node = |contact: Contact| {
            let key = identity::public_key_of(&contact.peer).ok()?;
            Some(NodeAt { key, addresses: contact.addresses.iter().map(|at| at.to_vec().into()).collect() })
        };
        let others = near.into_iter().filter(|contact| contact.peer != asking);
        others.filter_map(node).take(MAX_NODES_TOLD).collect()
    }
}
