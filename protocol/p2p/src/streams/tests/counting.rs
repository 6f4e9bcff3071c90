//! Random histories of connections, callers and streams against the bookkeeping alone: limits hold at
//! every step, callers are served in order, and in the end nothing is left.

use std::{collections::VecDeque, time::Instant};

use libp2p::swarm::ConnectionId;
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::sync::{mpsc, oneshot};

use super::{
    super::{
        Limits, OpenError, PeerStream, Usage,
        control::Progress,
        handler::Request,
        notice::{CallerId, Notice},
        peers::{Peers, Snapshot, WantStream},
        stream::{Link, Outbound, Place},
    },
    host::{ECHO, peer},
};
use crate::{Path, Transport};

const LIMITS: Limits =
    Limits { streams_per_peer: 5, opening_per_peer: 2, waiting_per_peer: 4, inbound_per_connection: 1 };

#[derive(Debug, Clone, Copy)]
enum Action {
    Connect { relayed: bool },
    Disconnect(usize),
    Close,
    Want,
    Cancel(usize),
    Negotiated(usize),
    Drop(usize),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => any::<bool>().prop_map(|relayed| Action::Connect { relayed }),
        1 => (0..4usize).prop_map(Action::Disconnect),
        1 => Just(Action::Close),
        8 => Just(Action::Want),
        2 => (0..4usize).prop_map(Action::Cancel),
        5 => (0..2usize).prop_map(Action::Negotiated),
        5 => (0..5usize).prop_map(Action::Drop),
    ]
}

/// A connection's handler, as far as counting goes.
struct Wire {
    id: ConnectionId,
    requests: mpsc::UnboundedReceiver<Box<Request>>,
}

type Answer = oneshot::Receiver<Result<PeerStream, OpenError>>;

struct World {
    peers: Peers,
    notices: mpsc::UnboundedReceiver<Notice>,
    wires: Vec<Wire>,
    /// Callers without an answer, in the order they came.
    callers: VecDeque<(CallerId, Answer)>,
    opening: Vec<(ConnectionId, Outbound)>,
    open: Vec<(ConnectionId, Outbound)>,
    next: usize,
    served: usize,
    busy: usize,
}

impl World {
    fn new() -> Self {
        let (sender, notices) = mpsc::unbounded_channel();
        Self {
            peers: Peers::new(LIMITS, Snapshot::default(), sender),
            notices,
            wires: Vec::new(),
            callers: VecDeque::new(),
            opening: Vec::new(),
            open: Vec::new(),
            next: 0,
            served: 0,
            busy: 0,
        }
    }

    fn apply(&mut self, action: Action) {
        let to = peer(1);
        match action {
            Action::Connect { relayed } => {
                let path = match relayed {
                    true => Path::Relayed { via: peer(2) },
                    false => Path::Direct { transport: Transport::Tcp },
                };
                self.next += 1;
                let id = ConnectionId::new_unchecked(self.next);
                let (sender, requests) = mpsc::unbounded_channel();
                self.wires.push(Wire { id, requests });
                self.peers.connected(Link::new(to, id, path, None, sender));
                self.peers.dispatch(to);
            }
            Action::Disconnect(at) if at < self.wires.len() => {
                let id = self.wires.remove(at).id;
                self.peers.disconnected(to, id);
                self.peers.dispatch(to);
            }
            Action::Close => self.peers.closing(to),
            Action::Want => self.want(),
            Action::Cancel(at) if at < self.callers.len() => {
                let (caller, _) = self.callers.remove(at).unwrap();
                self.peers.apply(Notice::Cancelled { peer: to, caller });
            }
            Action::Negotiated(at) if at < self.opening.len() => {
                let (id, mut place) = self.opening.remove(at);
                place.opened();
                self.open.push((id, place));
            }
            Action::Drop(at) if at < self.open.len() => drop(self.open.remove(at)),
            _ => {}
        }
        self.settle();
    }

    fn want(&mut self) {
        self.next += 1;
        let caller = CallerId(self.next as u64);
        let (reply, answer) = oneshot::channel();
        let progress = Progress::default();
        let want = WantStream { protocol: ECHO, deadline: Instant::now(), reply, progress };
        let waits = self.peers.want_stream(peer(1), caller, want);
        assert_eq!(waits, self.callers.len() < LIMITS.waiting_per_peer);
        if waits {
            self.callers.push_back((caller, answer));
            self.peers.dispatch(peer(1));
        } else {
            self.busy += 1;
        }
    }

    /// Delivers notices and requests until nothing moves, then checks every bound.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Ok(notice) = self.notices.try_recv() {
                self.peers.apply(notice);
                moved = true;
            }
            for wire in &mut self.wires {
                while let Ok(request) = wire.requests.try_recv() {
                    let (_, mut answer) = self.callers.pop_front().unwrap();
                    // Served in the order they came: this request answers the oldest caller.
                    drop(request.reply);
                    assert!(matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
                    let Place::Outbound(place) = request.place else { panic!("{:?}", request.place) };
                    self.opening.push((wire.id, place));
                    self.served += 1;
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        let live = |places: &[(ConnectionId, Outbound)]| {
            places.iter().filter(|(id, _)| self.wires.iter().any(|wire| wire.id == *id)).count()
        };
        let (opening, open) = (live(&self.opening), live(&self.open));
        assert!(opening <= LIMITS.opening_per_peer && opening + open <= LIMITS.streams_per_peer);
        assert_eq!(self.peers.usage().waiting, self.callers.len());
        assert_eq!(self.peers.usage().connections, self.wires.len());
        if !self.callers.is_empty() && self.peers.is_connected(&peer(1)) {
            assert!(
                opening == LIMITS.opening_per_peer || opening + open == LIMITS.streams_per_peer,
                "somebody waits although there is room"
            );
        }
    }

    /// Everybody leaves; nothing may be remembered.
    fn end(mut self) {
        while !self.callers.is_empty() {
            self.apply(Action::Cancel(0));
        }
        while !self.wires.is_empty() {
            self.apply(Action::Disconnect(0));
        }
        // Streams that outlive their connections give back places nobody counts any more.
        self.opening.clear();
        self.open.clear();
        self.settle();
        assert_eq!(self.peers.usage(), Usage::default());
    }
}

#[test]
fn limits_hold_in_every_history() {
    let (served, busy) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let histories = proptest::collection::vec(action(), 1..80);
    TestRunner::default()
        .run(&histories, |history| {
            let mut world = World::new();
            history.into_iter().for_each(|action| world.apply(action));
            served.set(served.get() + world.served);
            busy.set(busy.get() + world.busy);
            world.end();
            Ok(())
        })
        .unwrap();
    // A history that serves nobody and refuses nobody shows nothing.
    assert!(served.get() > 500 && busy.get() > 100, "served {}, busy {}", served.get(), busy.get());
}

/// A fixed bug: notices come before commands, so the wish of a caller that had left was taken up and dialled for.
#[test]
fn a_caller_that_left_before_its_wish_came_is_not_waited_for() {
    let mut world = World::new();
    let (caller, to) = (CallerId(1), peer(1));
    let (reply, answer) = oneshot::channel();
    let (want_connection, connected) = oneshot::channel();
    drop((answer, connected));
    world.peers.apply(Notice::Cancelled { peer: to, caller });
    let want = WantStream { protocol: ECHO, deadline: Instant::now(), reply, progress: Progress::default() };
    assert!(!world.peers.want_stream(to, caller, want));
    assert!(!world.peers.want_connection(to, caller, want_connection));
    assert_eq!(world.peers.usage(), Usage::default());
}
