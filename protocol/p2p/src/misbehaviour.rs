//! One line in the log for each misbehaviour, with the address it came from: what a filter such as fail2ban reads.
//!
//! ```text
//! … WARN windlass::misbehaviour: misbehaviour ip=203.0.113.9 peer=16Uiu2… what="…"
//! ```
//!
//! An address gets one line a second and all together a few, so that nobody fills a disk with them. It only tells;
//! whoever misbehaved has been refused already.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::limits::MISBEHAVIOUR_LINES_PER_SECOND;

/// The target of the lines, to filter by.
pub const TARGET: &str = "windlass::misbehaviour";

/// How long an address is told of once.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes the lines.
#[derive(Debug, Default)]
pub struct Misbehaviour(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    since: Option<Instant>,
    /// Whom the lines since then were about.
    about: HashSet<Option<IpAddr>>,
}

impl Misbehaviour {
    /// Tells what a peer did. Without an address, on a circuit, there is nobody to ban and the line says `ip=none`.
    pub fn tell(&self, ip: Option<IpAddr>, peer: Option<PeerId>, what: &str) {
        if !self.may_tell(ip, Instant::now()) {
            return;
        }
        let ip = ip.map_or_else(|| "none".to_owned(), |ip| ip.to_string());
        match peer {
            Some(peer) => tracing::warn!(target: TARGET, ip = %ip, %peer, what, "misbehaviour"),
            None => tracing::warn!(target: TARGET, ip = %ip, what, "misbehaviour"),
        }
    }

    fn may_tell(&self, ip: Option<IpAddr>, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.since.is_none_or(|since| now.saturating_duration_since(since) >= PAUSE) {
            told.since = Some(now);
            told.about.clear();
        }
        told.about.len() < MISBEHAVIOUR_LINES_PER_SECOND as usize && told.about.insert(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_a_line_a_second_and_all_together_a_few() {
        let misbehaviour = Misbehaviour::default();
        let start = Instant::now();
        let from = |last: u32| Some(IpAddr::from(std::net::Ipv4Addr::from_bits(0xcb00_7100 + last)));
        assert!(misbehaviour.may_tell(from(1), start));
        assert!((0..1000).all(|_| !misbehaviour.may_tell(from(1), start)));
        assert!(misbehaviour.may_tell(from(2), start), "others are told of");
        let flood = (3..1000).filter(|last| misbehaviour.may_tell(from(*last), start)).count();
        assert_eq!(flood, MISBEHAVIOUR_LINES_PER_SECOND as usize - 2);
        assert!(misbehaviour.may_tell(from(1), start + PAUSE));
    }
}
