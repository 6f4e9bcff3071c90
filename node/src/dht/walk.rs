//! Asking other nodes: one walk towards a device, and putting a route where the walk ends.
//!
//! A node's answer is a hint. The nodes it names are looked up in the registry before they are dialled, and a route is
//! verified before it counts; the newest one that verifies wins, so a node can withhold one and change none.

use super::roster::{Contact, Word, dialable, place, place_of_peer};
use super::search::Search;
use super::task::Outcome;
use super::{Dht, DhtStats, Found, Registered};
use crate::clock::unix_seconds;
use crate::head::Peer;
use crate::limits::{PLACE_DEADLINE, WALK_DEADLINE, WALK_GRACE, WALK_STEP};
use crate::serve::RouteJudge;
use futures::AsyncWriteExt;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use rlp::Decodable;
use std::collections::{HashMap, HashSet};
use std::time::Instant;
use tokio::time::{timeout, timeout_at};
use windlass_p2p::frame::{FrameError, read_frame, write_frame};
use windlass_p2p::{Control, OpenError, identity};
use windlass_protocol::message::names;
use windlass_protocol::message::nodes::{
    MAX_NODE_ADDRESSES, MAX_NODES_ANSWER_BYTES, MAX_NODES_TOLD, NodeAt, NodesAnswer, NodesRequest,
};
use windlass_protocol::message::route::{MAX_ROUTE_MESSAGE_BYTES, RouteRequest, RouteResponse};
use windlass_protocol::route::SignedRoute;
use windlass_protocol::{Bytes, DeviceId, wire};

/// Why a node gave no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Open(Box<OpenError>),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Malformed(#[from] wire::DecodeError),
    #[error("it was silent for {} ms", WALK_STEP.as_millis())]
    Silent,
}

/// What a walk is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Aim {
    /// A route, for somebody who waits.
    Find,
    /// The nodes that are nearest.
    Reach,
}

/// What a walk came to.
#[derive(Default)]
struct Walked {
    /// The newest route that verifies, with its seq.
    newest: Option<(u64, SignedRoute)>,
    /// The nearest that answered.
    holders: Vec<Contact>,
    /// The seq of the route that each says it holds.
    claimed: HashMap<PeerId, u64>,
    /// How many answered.
    answers: usize,
}

/// What every walk needs.
#[derive(Clone)]
pub(super) struct Walker {
    pub(super) own: PeerId,
    pub(super) control: Control,
    pub(super) dht: Dht,
    pub(super) registered: Registered,
    pub(super) judge: RouteJudge,
}

impl Walker {
    /// Walks to the nodes nearest to a device, or until a route of it is found if that is the aim.
    async fn walk(&self, device: DeviceId, aim: Aim) -> Walked {
        let place = place(device.0);
        let known = self.dht.roster().nearest(place, MAX_NODES_TOLD, Instant::now());
        let mut search = Search::new(place, known);
        let mut walked = Walked::default();
        let mut asking = FuturesUnordered::new();
        let now = tokio::time::Instant::now();
        let mut until = now + if aim == Aim::Find { WALK_DEADLINE } else { PLACE_DEADLINE };
        loop {
            while let Some(contact) = search.next() {
                asking.push(self.ask(contact, device));
            }
            let Ok(Some((peer, answer))) = timeout_at(until, asking.next()).await else { break };
            let Some(answer) = answer else {
                search.failed(&peer);
                continue;
            };
            if let Some(route) = answer.route {
                self.take(&mut walked, peer, device, route, aim).await;
                if walked.newest.is_some() {
                    until = until.min(tokio::time::Instant::now() + WALK_GRACE);
                }
            }
            let nodes = self.look_up(search.news(self.contacts(answer.nodes))).await;
            search.answered(&peer, nodes);
        }
        (walked.holders, walked.answers) = (search.holders(), search.answers());
        walked
    }

    /// Looks for a route, for whoever asked this node.
    pub(super) async fn find(&self, device: DeviceId) -> Outcome {
        DhtStats::count(&self.dht.stats.walks);
        let walked = self.walk(device, Aim::Find).await;
        let found = walked.newest.map_or(Found::Nothing, |(_, route)| Found::Route(route));
        if matches!(found, Found::Route(_)) {
            DhtStats::count(&self.dht.stats.found);
        }
        Outcome { device, found, is_certain: walked.answers > 0 }
    }

    /// Notes a route that a node named: what it claims, and if somebody waits for it whether it is one.
    async fn take(&self, walked: &mut Walked, peer: PeerId, device: DeviceId, route: SignedRoute, aim: Aim) {
        let Ok(claimed) = route.claimed() else { return };
        walked.claimed.insert(peer, claimed.seq);
        let is_newer = walked.newest.as_ref().is_none_or(|(seq, _)| claimed.seq > *seq);
        if aim == Aim::Reach || !is_newer {
            return;
        }
        if claimed.device == device && self.verifies(&route).await {
            walked.newest = Some((claimed.seq, route));
        } else {
            // It may only be behind: a key that was rotated, a device that was revoked.
            tracing::debug!(%peer, %device, "a node answered with a route that doesn't verify");
            DhtStats::count(&self.dht.stats.refused);
        }
    }

    async fn verifies(&self, route: &SignedRoute) -> bool {
        let (judge, route) = (self.judge.clone(), route.clone());
        let verified = tokio::task::spawn_blocking(move || judge.verify(&route, unix_seconds()));
        matches!(verified.await, Ok(Ok(Ok(_))))
    }

    /// Those of these that are registered nodes; they are remembered as well.
    async fn look_up(&self, mut contacts: Vec<Contact>) -> Vec<Contact> {
        let peers = contacts.iter().map(|contact| contact.peer).collect();
        let nodes = self.registered.among(peers).await.unwrap_or_default();
        contacts.retain(|contact| nodes.contains(&contact.peer));
        let mut roster = self.dht.roster();
        for contact in &contacts {
            roster.learn(contact.clone(), Word::Hearsay);
        }
        contacts
    }

    /// Others that a node named, as far as they can be dialled.
    fn contacts(&self, nodes: Vec<NodeAt>) -> Vec<Contact> {
        let own = self.control.external_addresses();
        let contact = |node: NodeAt| Contact {
            peer: identity::peer_id_of(&node.key),
            addresses: dialable(&multiaddrs(&node.addresses), &own),
        };
        let contacts = nodes.into_iter().map(contact);
        contacts.filter(|contact| contact.peer != self.own && !contact.addresses.is_empty()).collect()
    }

    async fn ask(&self, contact: Contact, device: DeviceId) -> (PeerId, Option<NodesAnswer>) {
        let peer = contact.peer;
        let request = NodesRequest { device, addresses: self.own_addresses() };
        let answer: Result<NodesAnswer, AskError> =
            self.exchange(contact, names::NODES, wire::encode(&request), MAX_NODES_ANSWER_BYTES).await;
        match &answer {
            Ok(_) => self.dht.roster().answered(&peer),
            Err(error) => {
                tracing::debug!(%peer, %error, "a node didn't answer");
                self.dht.roster().failed(&peer, Instant::now());
                if matches!(error, AskError::Malformed(_)) {
                    DhtStats::count(&self.dht.stats.refused);
                }
            }
        }
        (peer, answer.ok())
    }

    /// One frame there and one back.
    async fn exchange<T: Decodable>(
        &self,
        contact: Contact,
        protocol: &'static str,
        request: Vec<u8>,
        most: usize,
    ) -> Result<T, AskError> {
        let exchanged = timeout(WALK_STEP, async {
            let protocol = StreamProtocol::new(protocol);
            let opened = self.control.open(contact.peer, contact.addresses, protocol, WALK_STEP).await;
            let mut stream = opened.map_err(|error| AskError::Open(Box::new(error)))?;
            write_frame(&mut stream, &request).await?;
            let frame = read_frame(&mut stream).await?;
            // It has said everything; an end that doesn't arrive changes nothing.
            let _ = stream.close().await;
            Ok(wire::decode(&frame, most)?)
        });
        exchanged.await.unwrap_or(Err(AskError::Silent))
    }

    /// Where this node is, as it tells others.
    fn own_addresses(&self) -> Vec<Bytes> {
        let own = self.control.external_addresses();
        let dialable = dialable(&own, &own);
        dialable.iter().take(MAX_NODE_ADDRESSES).map(|address| address.to_vec().into()).collect()
    }

    /// Puts a route with the nodes nearest to its device that don't have it.
    pub(super) async fn put(&self, route: SignedRoute) {
        let Ok(claimed) = route.claimed() else { return };
        let walked = self.walk(claimed.device, Aim::Reach).await;
        let behind =
            |contact: &Contact| walked.claimed.get(&contact.peer).is_none_or(|held| *held < claimed.seq);
        let request = wire::encode(&RouteRequest::Publish(route));
        let puts = walked.holders.iter().filter(|contact| behind(contact)).map(async |contact| {
            let answer =
                self.exchange(contact.clone(), names::ROUTE, request.clone(), MAX_ROUTE_MESSAGE_BYTES).await;
            match answer {
                Ok(RouteResponse::Kept) => DhtStats::count(&self.dht.stats.placed),
                Ok(other) => tracing::debug!(peer = %contact.peer, ?other, "a node took no route"),
                Err(error) => tracing::debug!(peer = %contact.peer, %error, "a node took no route"),
            }
        });
        join_all(puts).await;
    }

    /// Looks up everybody who is known, and who is configured and wasn't a node yet. Whether there is somebody new.
    pub(super) async fn look_up_all(&self, configured: &[Peer]) -> bool {
        let known = self.dht.roster().peers();
        let waiting = configured.iter().map(|peer| peer.id).filter(|peer| !known.contains(peer));
        let asked: Vec<PeerId> = known.iter().copied().chain(waiting).collect();
        let Some(nodes) = self.registered.among(asked).await else { return false };
        let nodes: HashSet<PeerId> = nodes.into_iter().collect();
        let mut roster = self.dht.roster();
        for peer in known.iter().filter(|peer| !nodes.contains(peer)) {
            tracing::info!(%peer, "no registered node any more");
            roster.forget(peer);
        }
        let mut is_anybody_new = false;
        for peer in configured.iter().filter(|peer| nodes.contains(&peer.id)) {
            let contact = Contact { peer: peer.id, addresses: peer.addresses.clone() };
            is_anybody_new |= roster.learn(contact, Word::Configured);
        }
        is_anybody_new
    }

    /// Greets the nodes nearest to this one, and those near some other place: so they know it, and it them. How many answered.
    pub(super) async fn greet(&self, round: u64) -> usize {
        let Some(own) = place_of_peer(&self.own) else { return 0 };
        let Ok(key) = identity::key_address_of(&self.own) else { return 0 };
        let elsewhere = windlass_protocol::keccak256([own.as_slice(), &round.to_be_bytes()].concat());
        let elsewhere = windlass_protocol::Address::from_slice(&elsewhere[..20]);
        let near = self.walk(DeviceId(key.0), Aim::Reach).await.answers;
        near + self.walk(DeviceId(elsewhere), Aim::Reach).await.answers
    }
}

/// Those of these bytes that are multiaddrs; the message was checked, so all of them.
pub(super) fn multiaddrs(bytes: &[Bytes]) -> Vec<Multiaddr> {
    bytes.iter().filter_map(|bytes| Multiaddr::try_from(bytes.to_vec()).ok()).collect()
}
