//! Who has a reservation, who has how many circuits with whom: every question a look-up, every bound checked before
//! anything is spent.
//!
//! It moves no bytes and asks nobody. A destination's places are shared: its own fleet always finds one, no other fleet
//! takes more than a quarter, strangers together an eighth, and one caller a handful.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::PeerId;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use super::policy::Group;
use crate::{limits, streams::Hold};

/// How many of everything; the defaults are those of [`crate::limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Reservations held at a time.
    pub reservations: usize,
    /// Circuits carried at a time.
    pub circuits: usize,
    /// Of these, those of strangers.
    pub stranger_circuits: usize,
    /// Circuits of one caller.
    pub circuits_per_peer: usize,
    /// Circuits to one destination. Its shares follow from it.
    pub circuits_per_destination: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            reservations: limits::RESERVATIONS,
            circuits: limits::CIRCUITS,
            stranger_circuits: limits::STRANGER_CIRCUITS,
            circuits_per_peer: limits::CIRCUITS_PER_PEER,
            circuits_per_destination: limits::CIRCUITS_PER_DESTINATION,
        }
    }
}

impl Caps {
    /// A share of a destination's places, in the proportion of the shipped limits; never none.
    fn share(&self, of_the_shipped: usize) -> usize {
        (self.circuits_per_destination * of_the_shipped).div_ceil(limits::CIRCUITS_PER_DESTINATION)
    }
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// The destination isn't reachable through this relay.
    #[error("the destination has no reservation")]
    NoReservation,
    /// The relay has as much as it takes.
    #[error("the relay is full")]
    RelayFull,
    /// The caller has all the circuits it may have.
    #[error("the caller has too many circuits")]
    CallerFull,
    /// The destination has all the circuits that this caller's group may have to it.
    #[error("the destination has too many circuits")]
    DestinationFull,
}

/// All reservations and circuits of one relay.
#[derive(Debug)]
pub(super) struct Ledger {
    caps: Caps,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    destinations: HashMap<PeerId, Destination>,
    reservations: usize,
    callers: HashMap<PeerId, usize>,
    circuits: usize,
    stranger_circuits: usize,
    /// The number of the next reservation.
    next: u64,
}

/// One device that others want to reach; forgotten with its last circuit and its reservation.
#[derive(Debug)]
struct Destination {
    reservation: Option<Reservation>,
    circuits: usize,
    foreign: usize,
    by_group: HashMap<Group, usize>,
    by_caller: HashMap<PeerId, usize>,
    /// Turns to ask the device whether it takes a circuit.
    turns: Arc<Semaphore>,
}

impl Default for Destination {
    fn default() -> Self {
        Self {
            reservation: None,
            circuits: 0,
            foreign: 0,
            by_group: HashMap::new(),
            by_caller: HashMap::new(),
            turns: Arc::new(Semaphore::new(limits::STOPS_PER_DESTINATION)),
        }
    }
}

#[derive(Debug)]
struct Reservation {
    number: u64,
    hold: Arc<Hold>,
    group: Group,
    until: watch::Sender<Instant>,
}

/// What became of a request for a reservation.
pub(super) enum Reserved {
    /// The one that stands on the same connection lasts longer.
    Renewed,
    /// A new one, for whoever asked to keep.
    New(Keeper),
}

/// What keeps a reservation: it ends when this is dropped.
pub(super) struct Keeper {
    ledger: Arc<Ledger>,
    peer: PeerId,
    number: u64,
    pub(super) hold: Arc<Hold>,
    /// When it ends; closed when another took its place.
    pub(super) until: watch::Receiver<Instant>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.ledger.end(self.peer, self.number);
    }
}

/// A circuit's place in all the books; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    ledger: Arc<Ledger>,
    from: PeerId,
    to: PeerId,
    group: Group,
    foreign: bool,
}

/// A circuit's place and how to reach its destination.
#[derive(Debug)]
pub(super) struct Booked {
    pub(super) place: Place,
    pub(super) hold: Arc<Hold>,
    pub(super) turns: Arc<Semaphore>,
}

impl Ledger {
    pub(super) fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Self { caps, books: Mutex::default() })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reservations and circuits that stand.
    pub(super) fn counts(&self) -> (usize, usize) {
        let books = self.books();
        (books.reservations, books.circuits)
    }

    /// Grants `peer` a reservation on the connection that `hold` keeps. One that it has on another connection ends:
    /// the newest is the likeliest to be alive.
    pub(super) fn reserve(
        self: &Arc<Self>,
        peer: PeerId,
        group: Group,
        hold: Hold,
        until: Instant,
    ) -> Result<Reserved, NoPlace> {
        let mut guard = self.books();
        let books = &mut *guard;
        let standing = books.destinations.get_mut(&peer).and_then(|to| to.reservation.as_mut());
        match standing {
            Some(standing) if standing.hold.connection() == hold.connection() => {
                standing.group = group;
                standing.until.send_replace(until);
                drop(guard);
                return Ok(Reserved::Renewed);
            }
            Some(_) => {}
            None if books.reservations >= self.caps.reservations => return Err(NoPlace::RelayFull),
            None => books.reservations += 1,
        }
        let number = books.next;
        books.next += 1;
        let hold = Arc::new(hold);
        let (sender, receiver) = watch::channel(until);
        let reservation = Reservation { number, hold: hold.clone(), group, until: sender };
        // What it takes the place of is dropped outside the lock.
        let former = books.destinations.entry(peer).or_default().reservation.replace(reservation);
        drop(guard);
        drop(former);
        Ok(Reserved::New(Keeper { ledger: self.clone(), peer, number, hold, until: receiver }))
    }

    fn end(&self, peer: PeerId, number: u64) {
        let mut books = self.books();
        let Some(to) = books.destinations.get_mut(&peer) else { return };
        if to.reservation.as_ref().is_none_or(|standing| standing.number != number) {
            return;
        }
        let ended = to.reservation.take();
        books.reservations -= 1;
        books.forget_if_done(peer);
        drop(books);
        drop(ended);
    }

    /// Books a circuit.
    pub(super) fn book(self: &Arc<Self>, from: PeerId, group: Group, to: PeerId) -> Result<Booked, NoPlace> {
        let mut books = self.books();
        let stranger = group == Group::Strangers;
        if books.circuits >= self.caps.circuits
            || stranger && books.stranger_circuits >= self.caps.stranger_circuits
        {
            return Err(NoPlace::RelayFull);
        }
        if books.callers.get(&from).is_some_and(|own| *own >= self.caps.circuits_per_peer) {
            return Err(NoPlace::CallerFull);
        }
        let Some(destination) = books.destinations.get_mut(&to) else { return Err(NoPlace::NoReservation) };
        let Some(reservation) = &destination.reservation else { return Err(NoPlace::NoReservation) };
        let (hold, foreign) = (reservation.hold.clone(), group != reservation.group);
        if destination.is_full_for(&self.caps, from, group, foreign) {
            return Err(NoPlace::DestinationFull);
        }
        destination.circuits += 1;
        destination.foreign += usize::from(foreign);
        more(&mut destination.by_group, group);
        more(&mut destination.by_caller, from);
        let turns = destination.turns.clone();
        books.circuits += 1;
        books.stranger_circuits += usize::from(stranger);
        more(&mut books.callers, from);
        drop(books);
        let place = Place { ledger: self.clone(), from, to, group, foreign };
        Ok(Booked { place, hold, turns })
    }
}

impl Destination {
    fn is_full_for(&self, caps: &Caps, from: PeerId, group: Group, foreign: bool) -> bool {
        let of_group = self.by_group.get(&group).copied().unwrap_or_default();
        let of_caller = self.by_caller.get(&from).copied().unwrap_or_default();
        let share = match group {
            Group::Strangers => caps.share(limits::STRANGERS_PER_DESTINATION),
            _ if foreign => caps.share(limits::FLEET_PER_DESTINATION),
            _ => caps.circuits_per_destination,
        };
        self.circuits >= caps.circuits_per_destination
            || foreign && self.foreign >= caps.share(limits::FOREIGN_PER_DESTINATION)
            || of_group >= share
            || of_caller >= limits::CIRCUITS_PER_PAIR
    }
}

impl Books {
    fn forget_if_done(&mut self, peer: PeerId) {
        if let Entry::Occupied(to) = self.destinations.entry(peer)
            && to.get().reservation.is_none()
            && to.get().circuits == 0
        {
            to.remove();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut books = self.ledger.books();
        books.circuits -= 1;
        books.stranger_circuits -= usize::from(self.group == Group::Strangers);
        fewer(&mut books.callers, self.from);
        if let Some(to) = books.destinations.get_mut(&self.to) {
            to.circuits -= 1;
            to.foreign -= usize::from(self.foreign);
            fewer(&mut to.by_group, self.group);
            fewer(&mut to.by_caller, self.from);
        }
        books.forget_if_done(self.to);
    }
}

fn more<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    *counts.entry(key).or_default() += 1;
}

/// One less; of none nothing is remembered.
fn fewer<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    const HOME: Group = Group::Fleet(1);

    fn reserve(ledger: &Arc<Ledger>, peer: PeerId, hold: Hold) -> Result<Reserved, NoPlace> {
        ledger.reserve(peer, HOME, hold, Instant::now() + Duration::from_secs(9))
    }

    fn kept(reserved: Result<Reserved, NoPlace>) -> Keeper {
        match reserved {
            Ok(Reserved::New(keeper)) => keeper,
            Ok(Reserved::Renewed) => panic!("renewed"),
            Err(error) => panic!("{error}"),
        }
    }

    fn book_all(ledger: &Arc<Ledger>, group: Group, to: PeerId) -> Vec<Booked> {
        std::iter::from_fn(|| ledger.book(PeerId::random(), group, to).ok()).collect()
    }

    #[test]
    fn nobody_locks_a_device_out() {
        let ledger = Ledger::new(Caps::default());
        let device = PeerId::random();
        let _keeper = kept(reserve(&ledger, device, Hold::of_nothing(1)));
        let strangers = book_all(&ledger, Group::Strangers, device);
        assert_eq!(strangers.len(), limits::STRANGERS_PER_DESTINATION);
        let rivals: Vec<_> = (2..9).map(|fleet| book_all(&ledger, Group::Fleet(fleet), device)).collect();
        assert_eq!(rivals[0].len(), limits::FLEET_PER_DESTINATION);
        let foreign = strangers.len() + rivals.iter().map(Vec::len).sum::<usize>();
        assert_eq!(foreign, limits::FOREIGN_PER_DESTINATION, "however many fleets they come from");
        let own = book_all(&ledger, HOME, device);
        assert_eq!(own.len(), limits::CIRCUITS_PER_DESTINATION - foreign, "the rest is its fleet's");
        assert_eq!(ledger.book(PeerId::random(), HOME, device).unwrap_err(), NoPlace::DestinationFull);
        drop((strangers, rivals, own));
        assert_eq!(ledger.counts(), (1, 0));
        let books = ledger.books();
        let to = &books.destinations[&device];
        assert!(to.by_group.is_empty() && to.by_caller.is_empty() && books.callers.is_empty());
    }

    #[test]
    fn one_caller_has_a_handful_with_one_device_and_its_share_of_the_relay() {
        let ledger = Ledger::new(Caps { circuits_per_peer: 20, ..Caps::default() });
        let devices: Vec<_> = (0..10).map(|_| PeerId::random()).collect();
        let _keepers: Vec<_> =
            devices.iter().map(|device| kept(reserve(&ledger, *device, Hold::of_nothing(1)))).collect();
        let caller = PeerId::random();
        let mut held = Vec::new();
        for device in &devices {
            while let Ok(booked) = ledger.book(caller, HOME, *device) {
                held.push(booked);
            }
        }
        assert_eq!(held.len(), 20);
        assert_eq!(ledger.book(caller, HOME, devices[9]).unwrap_err(), NoPlace::CallerFull);
        held.truncate(limits::CIRCUITS_PER_PAIR);
        assert_eq!(ledger.book(caller, HOME, devices[0]).unwrap_err(), NoPlace::DestinationFull);
        assert!(ledger.book(caller, HOME, devices[1]).is_ok());
    }

    #[test]
    fn strangers_cannot_fill_the_relay() {
        let caps = Caps { circuits: 40, stranger_circuits: 10, ..Caps::default() };
        let ledger = Ledger::new(caps);
        let device = PeerId::random();
        let _keeper = kept(reserve(&ledger, device, Hold::of_nothing(1)));
        let strangers = book_all(&ledger, Group::Strangers, device);
        assert_eq!(strangers.len(), 10);
        assert_eq!(book_all(&ledger, HOME, device).len(), 30);
        assert_eq!(ledger.counts(), (1, 10));
    }

    #[test]
    fn the_newest_connection_has_the_reservation_and_nothing_is_left_behind() {
        let ledger = Ledger::new(Caps { reservations: 1, ..Caps::default() });
        let device = PeerId::random();
        let first = kept(reserve(&ledger, device, Hold::of_nothing(1)));
        assert!(matches!(reserve(&ledger, device, Hold::of_nothing(1)), Ok(Reserved::Renewed)));
        let second = kept(reserve(&ledger, device, Hold::of_nothing(2)));
        assert!(first.until.has_changed().is_err(), "the first is told that it was replaced");
        let booked = ledger.book(PeerId::random(), HOME, device).unwrap();
        assert_eq!(booked.hold.connection(), second.hold.connection());
        // The first one's end is not the second one's.
        drop(first);
        assert_eq!(ledger.counts(), (1, 1));
        assert!(matches!(reserve(&ledger, PeerId::random(), Hold::of_nothing(3)), Err(NoPlace::RelayFull)));
        drop(second);
        assert_eq!(ledger.book(PeerId::random(), HOME, device).unwrap_err(), NoPlace::NoReservation);
        drop(booked);
        assert_eq!(ledger.counts(), (0, 0));
        assert!(ledger.books().destinations.is_empty());
    }
}
