//! Routes of devices that published them at another node: where they are put, and how they are found.
//!
//! Every registered node and every device has a place, the hash of its address; a route is held by the nodes whose places
//! are nearest to its device's, by XOR, as in Kademlia. Nodes find each other by asking (`/windlass/nodes/1`), routes are
//! moved by `/windlass/route/1` and verified wherever they arrive. It takes part in nothing but that: what a node holds
//! is in the route book, and no node's word decides who may open what.
//!
//! | file | holds |
//! | --- | --- |
//! | `registered` | who is a node, by the mirror |
//! | `roster` | the nodes that are known, and which are nearest |
//! | `search` | whom to ask next; pure |
//! | `walk` | asking, believing, putting |
//! | `task` | the `dht` task: whose walk is under way, what came of the last ones, greeting |
//! | `exchange` | what other nodes ask of this one |

mod exchange;
mod registered;
mod roster;
mod search;
mod task;
mod walk;

pub use registered::Registered;
pub use task::Task;

use crate::head::Peer;
use crate::limits::{
    NODE_REQUEST_BURST, NODE_REQUESTS_PER_SECOND, STRANGER_NODE_REQUEST_BURST,
    STRANGER_NODE_REQUESTS_PER_SECOND, WALK_INBOX,
};
use crate::rate::Rates;
use crate::serve::{RouteBook, RouteJudge};
use libp2p::PeerId;
use roster::Roster;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};
use windlass_p2p::Control;
use windlass_protocol::DeviceId;
use windlass_protocol::route::SignedRoute;

/// What looking for a route came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The newest that nodes have and that verifies.
    Route(SignedRoute),
    /// None of the nodes that would hold it has one.
    Nothing,
    /// Too many are looking; ask again.
    Busy,
}

/// The handle of the `dht` task; cheap to clone.
#[derive(Clone)]
pub struct Dht {
    roster: Arc<Mutex<Roster>>,
    wishes: mpsc::Sender<Wish>,
    news: mpsc::Sender<SignedRoute>,
    rates: Arc<NodeRates>,
    stats: Arc<DhtStats>,
}

/// How often a registered node may ask or bring, and how often a peer that isn't known to be one may ask.
struct NodeRates {
    nodes: Rates,
    strangers: Rates,
}

/// Somebody looks for a route that isn't here.
struct Wish {
    device: DeviceId,
    peer: PeerId,
    ip: Option<IpAddr>,
    reply: oneshot::Sender<Found>,
}

/// What was done, for whoever only wants to know.
#[derive(Debug, Default)]
pub struct DhtStats {
    walks: AtomicU64,
    found: AtomicU64,
    placed: AtomicU64,
    refused: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DhtCounts {
    /// Registered nodes that are known.
    pub nodes: u64,
    /// Walks to find a route.
    pub walks: u64,
    /// Those that found one.
    pub found: u64,
    /// Routes that another node took.
    pub placed: u64,
    /// Answers of nodes that were no answer, and routes that didn't verify.
    pub refused: u64,
}

impl Dht {
    /// The handle, and the task that does the work. `own` is this node; `configured` are the nodes it is told of.
    pub fn new(
        own: PeerId,
        control: Control,
        configured: Vec<Peer>,
        registered: Registered,
        judge: RouteJudge,
        book: Arc<RouteBook>,
    ) -> (Self, Task) {
        let roster = Arc::new(Mutex::new(Roster::new(own)));
        let (wishes, wished) = mpsc::channel(WALK_INBOX);
        let (news, published) = mpsc::channel(WALK_INBOX);
        let rates = NodeRates {
            nodes: Rates::new(NODE_REQUESTS_PER_SECOND, NODE_REQUEST_BURST),
            strangers: Rates::new(STRANGER_NODE_REQUESTS_PER_SECOND, STRANGER_NODE_REQUEST_BURST),
        };
        let dht = Self { roster, wishes, news, rates: Arc::new(rates), stats: Arc::default() };
        let walker = walk::Walker { own, control, dht: dht.clone(), registered, judge };
        (dht, Task::new(walker, book, configured, wished, published))
    }

    /// Looks for a device's route at the nodes that would hold it. Returns when they have answered or their time is up.
    pub async fn find(&self, device: DeviceId, peer: PeerId, ip: Option<IpAddr>) -> Found {
        let (reply, answer) = oneshot::channel();
        match self.wishes.try_send(Wish { device, peer, ip, reply }) {
            Ok(()) => answer.await.unwrap_or(Found::Busy),
            Err(_) => Found::Busy,
        }
    }

    /// Has a verified route held by the nodes nearest to its device. Never waits; while too many wait it is left out, and
    /// comes again with the device's next one.
    pub fn place(&self, route: SignedRoute) {
        if self.news.try_send(route).is_err() {
            tracing::debug!("a route isn't placed: too many wait");
        }
    }

    /// Whether this peer is known as a registered node.
    pub fn is_node(&self, peer: &PeerId) -> bool {
        self.roster().contains(peer)
    }

    /// Takes one request of a registered node; `false` if it has to wait.
    pub fn admit_node(&self, peer: PeerId) -> bool {
        self.rates.nodes.admit(peer, Instant::now())
    }

    /// What was done so far.
    pub fn counts(&self) -> DhtCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DhtCounts {
            nodes: self.roster().len() as u64,
            walks: read(&self.stats.walks),
            found: read(&self.stats.found),
            placed: read(&self.stats.placed),
            refused: read(&self.stats.refused),
        }
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DhtStats {
    fn count(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
