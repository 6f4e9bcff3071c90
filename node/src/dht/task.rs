//! The `dht` task: whose walk is under way and who waits for it, what the last ones came to, who is still a node, and
//! greeting. It waits for nobody: whatever takes time is a task of its own, joined here.

use super::exchange::{STREAMS_PER_NODE, serve};
use super::roster::network_of;
use super::walk::Walker;
use super::{Found, Wish};
use crate::head::Peer;
use crate::limits::{
    FOUND_HOLDS, GREET_EVERY, GREET_PAUSE, NOT_FOUND_HOLDS, OUTCOMES_KEPT, PLACES_AT_ONCE, REQUEST_STREAMS,
    WALK_BURST, WALK_WAITERS, WALKS_AT_ONCE, WALKS_PER_SECOND,
};
use crate::rate::Rates;
use crate::seats::Seats;
use crate::serve::RouteBook;
use crate::serve::streams::serve_each;
use crate::store::Position;
use libp2p::PeerId;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use windlass_p2p::Incoming;
use windlass_protocol::DeviceId;
use windlass_protocol::route::SignedRoute;

/// See the module.
pub struct Task {
    walker: Walker,
    book: Arc<RouteBook>,
    configured: Vec<Peer>,
    wished: mpsc::Receiver<Wish>,
    published: mpsc::Receiver<SignedRoute>,
    desk: Desk,
    walks: JoinSet<Outcome>,
    puts: JoinSet<()>,
    chores: JoinSet<Chore>,
}

/// What was done besides.
enum Chore {
    /// Everybody was looked up again; whether there is somebody new to greet.
    LookedUp(bool),
    /// So many answered.
    Greeted(usize),
}

/// What a walk to find a route came to.
pub(super) struct Outcome {
    pub(super) device: DeviceId,
    pub(super) found: Found,
    /// Whether anybody answered: silence says nothing about the device.
    pub(super) is_certain: bool,
}

/// Who waits for what, and what is known already. Pure.
struct Desk {
    under_way: HashMap<DeviceId, (Id, Vec<oneshot::Sender<Found>>)>,
    outcomes: HashMap<DeviceId, (Found, Instant)>,
    peers: Rates<PeerId>,
    networks: Rates<IpAddr>,
}

impl Task {
    pub(super) fn new(
        walker: Walker,
        book: Arc<RouteBook>,
        configured: Vec<Peer>,
        wished: mpsc::Receiver<Wish>,
        published: mpsc::Receiver<SignedRoute>,
    ) -> Self {
        Self {
            walker,
            book,
            configured,
            wished,
            published,
            desk: Desk::new(),
            walks: JoinSet::new(),
            puts: JoinSet::new(),
            chores: JoinSet::new(),
        }
    }

    /// Serves other nodes, and looks for and places routes, until cancelled.
    pub async fn run(mut self, incoming: Incoming, cancelled: CancellationToken) {
        let seats = Seats::new(REQUEST_STREAMS, STREAMS_PER_NODE);
        let (walker, book) = (self.walker.clone(), self.book.clone());
        let serving = serve_each(seats, incoming, cancelled.clone(), |stream| {
            serve(walker.clone(), book.clone(), stream)
        });
        tokio::join!(serving, self.work(cancelled));
    }

    async fn work(&mut self, cancelled: CancellationToken) {
        let mut mirror = self.walker.registered.mirror();
        mirror.mark_changed();
        let mut judged: Option<Position> = None;
        let (mut greeting, mut round) = (false, 0);
        let mut greet_at = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = cancelled.cancelled() => break,
                Some(wish) = self.wished.recv() => self.wish(wish),
                Some(ended) = self.walks.join_next_with_id() => self.desk.ended(ended, Instant::now()),
                Some(route) = self.published.recv(), if self.puts.len() < PLACES_AT_ONCE => {
                    let walker = self.walker.clone();
                    self.puts.spawn(async move { walker.put(route).await });
                }
                Some(_) = self.puts.join_next() => {}
                Ok(()) = mirror.changed(), if self.chores.is_empty() => {
                    let base = mirror.borrow_and_update().base;
                    if base != judged {
                        judged = base;
                        self.look_up();
                    }
                }
                () = tokio::time::sleep_until(greet_at), if !greeting && self.chores.is_empty() => {
                    (greeting, round) = (true, round + 1);
                    let walker = self.walker.clone();
                    self.chores.spawn(async move { Chore::Greeted(walker.greet(round).await) });
                }
                Some(done) = self.chores.join_next() => {
                    let now = tokio::time::Instant::now();
                    match done {
                        Ok(Chore::LookedUp(true)) => greet_at = now,
                        Ok(Chore::LookedUp(false)) => {}
                        Ok(Chore::Greeted(0)) | Err(_) => (greeting, greet_at) = (false, now + GREET_PAUSE),
                        Ok(Chore::Greeted(_)) => (greeting, greet_at) = (false, now + GREET_EVERY),
                    }
                }
            }
        }
        self.walks.shutdown().await;
        self.puts.shutdown().await;
        self.chores.shutdown().await;
    }

    /// Looks everybody up again who is known or configured: who is slashed or gone isn't a node any more.
    fn look_up(&mut self) {
        let (walker, configured) = (self.walker.clone(), self.configured.clone());
        self.chores.spawn(async move { Chore::LookedUp(walker.look_up_all(&configured).await) });
    }

    fn wish(&mut self, wish: Wish) {
        let has_nodes = self.walker.dht.roster().len() > 0;
        let Some(wish) = self.desk.settle(wish, has_nodes, Instant::now()) else { return };
        let (walker, device) = (self.walker.clone(), wish.device);
        let walk = self.walks.spawn(async move { walker.find(device).await });
        self.desk.under_way.insert(device, (walk.id(), vec![wish.reply]));
    }
}

impl Desk {
    fn new() -> Self {
        Self {
            under_way: HashMap::new(),
            outcomes: HashMap::new(),
            peers: Rates::new(WALKS_PER_SECOND, WALK_BURST),
            networks: Rates::new(WALKS_PER_SECOND, WALK_BURST),
        }
    }

    /// Answers a wish at once, or has it wait for a walk that is under way. Gives it back if it takes a walk of its own.
    fn settle(&mut self, wish: Wish, has_nodes: bool, now: Instant) -> Option<Wish> {
        if let Some((_, waiting)) = self.under_way.get_mut(&wish.device)
            && waiting.len() < WALK_WAITERS
        {
            waiting.push(wish.reply);
            return None;
        }
        let known = self.outcomes.get(&wish.device).filter(|(found, at)| !is_over(found, *at, now));
        let answer = match known {
            Some((found, _)) => found.clone(),
            None if !has_nodes => Found::Nothing,
            None if self.under_way.len() >= WALKS_AT_ONCE || self.under_way.contains_key(&wish.device) => {
                Found::Busy
            }
            None if !self.admits(&wish, now) => Found::Busy,
            None => return Some(wish),
        };
        // Who doesn't wait any longer needs no answer.
        let _ = wish.reply.send(answer);
        None
    }

    fn admits(&self, wish: &Wish, now: Instant) -> bool {
        let network = wish.ip.and_then(network_of);
        self.peers.admit(wish.peer, now) && network.is_none_or(|network| self.networks.admit(network, now))
    }

    /// A walk came to an end: whoever waits is told, and the next ones who ask.
    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>, now: Instant) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, Some(outcome)),
            // Its callers are told by its end.
            Err(error) => (error.id(), None),
        };
        let Some(outcome) = outcome else {
            return self.under_way.retain(|_, (walk, _)| *walk != id);
        };
        for waiting in self.under_way.remove(&outcome.device).into_iter().flat_map(|(_, waiting)| waiting) {
            let _ = waiting.send(outcome.found.clone());
        }
        if outcome.is_certain {
            self.remember(outcome.device, outcome.found, now);
        }
    }

    fn remember(&mut self, device: DeviceId, found: Found, now: Instant) {
        if self.outcomes.len() >= OUTCOMES_KEPT {
            self.outcomes.retain(|_, (found, at)| !is_over(found, *at, now));
        }
        if self.outcomes.len() < OUTCOMES_KEPT {
            self.outcomes.insert(device, (found, now));
        }
    }
}

/// Whether what a walk came to answers nobody any longer.
fn is_over(found: &Found, at: Instant, now: Instant) -> bool {
    let holds = if matches!(found, Found::Route(_)) { FOUND_HOLDS } else { NOT_FOUND_HOLDS };
    now.saturating_duration_since(at) >= holds
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;
    use windlass_protocol::Address;

    fn device(number: u64) -> DeviceId {
        DeviceId(Address::left_padding_from(&number.to_be_bytes()))
    }

    fn wish(number: u64, peer: PeerId, ip: &str) -> (Wish, oneshot::Receiver<Found>) {
        let (reply, answer) = oneshot::channel();
        (Wish { device: device(number), peer, ip: ip.parse().ok(), reply }, answer)
    }

    /// Begins a walk that never ends by itself, as the task would.
    fn begin(desk: &mut Desk, walks: &mut JoinSet<Outcome>, wish: Wish) -> Id {
        let id = walks.spawn(std::future::pending()).id();
        desk.under_way.insert(wish.device, (id, vec![wish.reply]));
        id
    }

    fn end(desk: &mut Desk, id: Id, number: u64, is_certain: bool, now: Instant) {
        let outcome = Outcome { device: device(number), found: Found::Nothing, is_certain };
        desk.ended(Ok((id, outcome)), now);
    }

    #[tokio::test]
    async fn one_walk_answers_everybody_and_its_outcome_the_next_ones_for_a_while() {
        let (mut desk, mut walks, now) = (Desk::new(), JoinSet::new(), Instant::now());
        let peer = PeerId::random;
        let (first, mut told) = wish(1, peer(), "192.0.2.1");
        let first = desk.settle(first, true, now).expect("a walk of its own");
        let id = begin(&mut desk, &mut walks, first);
        let (second, mut also_told) = wish(1, peer(), "198.51.100.1");
        assert!(desk.settle(second, true, now).is_none(), "waits for the walk under way");
        assert!(told.try_recv().is_err() && also_told.try_recv().is_err());
        end(&mut desk, id, 1, true, now);
        assert_eq!((told.await.unwrap(), also_told.await.unwrap()), (Found::Nothing, Found::Nothing));
        let (third, told) = wish(1, peer(), "203.0.113.1");
        assert!(desk.settle(third, true, now + NOT_FOUND_HOLDS / 2).is_none(), "it is known");
        assert_eq!(told.await.unwrap(), Found::Nothing);
        let (fourth, _told) = wish(1, peer(), "203.0.113.1");
        assert!(desk.settle(fourth, true, now + NOT_FOUND_HOLDS).is_some(), "not any more");

        // What nobody answered says nothing, and a walk that broke off lets nobody wait.
        let (fifth, _told) = wish(2, peer(), "203.0.113.1");
        let id = begin(&mut desk, &mut walks, fifth);
        end(&mut desk, id, 2, false, now);
        let (sixth, told) = wish(2, peer(), "203.0.113.1");
        let sixth = desk.settle(sixth, true, now).expect("asked again");
        begin(&mut desk, &mut walks, sixth);
        walks.abort_all();
        while let Some(ended) = walks.join_next_with_id().await {
            desk.ended(ended, now);
        }
        assert!(told.await.is_err() && desk.under_way.is_empty());
    }

    #[test]
    fn each_peer_and_each_network_has_its_walks_and_no_more() {
        let (mut desk, now) = (Desk::new(), Instant::now());
        let mut number = 0;
        let mut granted = |desk: &mut Desk, peer: PeerId, ip: &str, at: Instant| {
            number += 1;
            let (wish, mut answer) = wish(number, peer, ip);
            let is_granted = desk.settle(wish, true, at).is_some();
            assert!(is_granted || answer.try_recv() == Ok(Found::Busy));
            is_granted
        };
        let burst = WALK_BURST as usize;
        let greedy = PeerId::random();
        // One peer, wherever it comes from.
        let count = |n: usize| format!("198.18.{n}.1");
        assert_eq!((0..20).filter(|n| granted(&mut desk, greedy, &count(*n), now)).count(), burst);
        // One network, whoever it claims to be.
        let neighbour = |n: usize| format!("203.0.113.{n}");
        assert_eq!(
            (0..20).filter(|n| granted(&mut desk, PeerId::random(), &neighbour(*n), now)).count(),
            burst
        );
        assert!(granted(&mut desk, PeerId::random(), "192.0.2.1", now), "somebody else");
        let later = now + Duration::from_secs(1);
        assert!(
            granted(&mut desk, greedy, "192.0.2.2", later) && !granted(&mut desk, greedy, "192.0.2.3", later)
        );
    }

    #[tokio::test]
    async fn walks_and_what_is_remembered_of_them_are_bounded() {
        let (mut desk, mut walks, now) = (Desk::new(), JoinSet::new(), Instant::now());
        for number in 0..WALKS_AT_ONCE as u64 {
            let (wish, _answer) = wish(number, PeerId::random(), "");
            begin(&mut desk, &mut walks, wish);
        }
        let (more, answer) = wish(999, PeerId::random(), "");
        assert!(desk.settle(more, true, now).is_none());
        assert_eq!(answer.await.unwrap(), Found::Busy);
        let mut answers = Vec::new();
        for _ in 0..WALK_WAITERS {
            let (waiting, answer) = wish(1, PeerId::random(), "");
            assert!(desk.settle(waiting, true, now).is_none());
            answers.push(answer);
        }
        assert_eq!(answers.pop().unwrap().try_recv(), Ok(Found::Busy), "too many wait for one walk");
        assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()));
        let (alone, answer) = wish(1_000, PeerId::random(), "");
        assert!(desk.settle(alone, false, now).is_none(), "nobody to ask");
        assert_eq!(answer.await.unwrap(), Found::Nothing);

        for number in 0..2 * OUTCOMES_KEPT as u64 {
            desk.remember(device(number), Found::Nothing, now);
        }
        assert_eq!(desk.outcomes.len(), OUTCOMES_KEPT);
        desk.remember(device(u64::MAX), Found::Nothing, now + NOT_FOUND_HOLDS);
        assert_eq!(desk.outcomes.len(), 1, "what is over makes room");
    }
}
