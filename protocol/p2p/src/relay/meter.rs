//! How many bytes each device has sent into the relay, whoever they were for.
//!
//! Counts only; what they cost is settled elsewhere.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use libp2p::PeerId;

use super::bandwidth::Bandwidth;
use crate::limits::METERED_PEERS;

/// One device's bytes, and its rate if it has one.
#[derive(Debug)]
pub(super) struct Meter {
    bytes: AtomicU64,
    pub(super) rate: Option<Bandwidth>,
}

impl Meter {
    pub(super) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The meters of one relay.
#[derive(Debug)]
pub(super) struct Meters {
    bytes_per_second: Option<u64>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    peers: HashMap<PeerId, Arc<Meter>>,
    /// Bytes of devices that are no longer told apart.
    others: u64,
}

/// All meters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes sent into the relay by each device, since the relay was started.
    pub by_peer: Vec<(PeerId, u64)>,
    /// Bytes of devices that made room for others.
    pub others: u64,
}

impl Usage {
    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.by_peer.iter().fold(self.others, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

impl Meters {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, table: Mutex::default() }
    }

    /// The meter of a device, the same one for all its circuits.
    pub(super) fn of(&self, peer: PeerId) -> Arc<Meter> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = table.peers.get(&peer) {
            return meter.clone();
        }
        if table.peers.len() >= METERED_PEERS {
            table.forget_idle();
        }
        let rate = self.bytes_per_second.map(Bandwidth::new);
        let meter = Arc::new(Meter { bytes: AtomicU64::new(0), rate });
        table.peers.insert(peer, meter.clone());
        meter
    }

    pub(super) fn usage(&self) -> Usage {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |(peer, meter): (&PeerId, &Arc<Meter>)| (*peer, meter.bytes.load(Ordering::Relaxed));
        Usage { by_peer: table.peers.iter().map(read).collect(), others: table.others }
    }
}

impl Table {
    /// Takes together what devices without a circuit have sent. Those with one are at most as many as circuits have
    /// ends, so the table stays bounded, and it is searched once per as many newcomers as it then has room for.
    fn forget_idle(&mut self) {
        let others = &mut self.others;
        self.peers.retain(|_, meter| {
            let busy = Arc::strong_count(meter) > 1;
            if !busy {
                *others = others.saturating_add(meter.bytes.load(Ordering::Relaxed));
            }
            busy
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_for_who_sent_them_and_none_are_lost() {
        let meters = Meters::new(None);
        let (one, other) = (PeerId::random(), PeerId::random());
        meters.of(one).add(5);
        meters.of(one).add(6);
        let busy = meters.of(other);
        busy.add(7);
        let usage = meters.usage();
        assert_eq!(usage.total(), 18);
        assert!(usage.by_peer.contains(&(one, 11)) && usage.by_peer.contains(&(other, 7)));
        for _ in 0..2 * METERED_PEERS {
            meters.of(PeerId::random()).add(1);
        }
        let usage = meters.usage();
        assert!(usage.by_peer.len() <= METERED_PEERS);
        assert!(usage.by_peer.contains(&(other, 7)), "who has a circuit keeps its meter");
        assert_eq!(usage.total(), 18 + 2 * METERED_PEERS as u64);
    }
}
