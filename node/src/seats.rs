//! Who has how many streams of one protocol open: bounded for each peer before it is for all, so that no peer
//! takes another's.

use libp2p::PeerId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The seats of one protocol.
pub struct Seats {
    all: usize,
    per_peer: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_peer: HashMap<PeerId, usize>,
}

/// One stream's seat; given back when dropped.
pub struct Seat {
    seats: Arc<Seats>,
    peer: PeerId,
}

impl Seats {
    /// As many seats in all, and as many for one peer.
    pub fn new(all: usize, per_peer: usize) -> Arc<Self> {
        Arc::new(Self { all, per_peer, taken: Mutex::default() })
    }

    /// A seat for a stream of this peer, if it and all together have one left.
    pub fn take(self: &Arc<Self>, peer: PeerId) -> Option<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_peer.get(&peer).copied().unwrap_or_default();
        if own >= self.per_peer || taken.all >= self.all {
            return None;
        }
        taken.all += 1;
        taken.by_peer.insert(peer, own + 1);
        Some(Seat { seats: self.clone(), peer })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        match taken.by_peer.get_mut(&self.peer) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.by_peer.remove(&self.peer)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_peer_has_its_share_and_gives_it_back() {
        let seats = Seats::new(3, 2);
        let (one, other) = (PeerId::random(), PeerId::random());
        let held = [seats.take(one).unwrap(), seats.take(one).unwrap()];
        assert!(seats.take(one).is_none(), "its share");
        let theirs = seats.take(other).unwrap();
        assert!(seats.take(other).is_none(), "all of them");
        drop(held);
        assert!(seats.take(one).is_some());
        drop(theirs);
        assert!(seats.taken.lock().unwrap().by_peer.is_empty(), "nothing is remembered of who left");
    }
}
