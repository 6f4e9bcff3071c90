//! Which addresses of this device are reached from outside: only those are named in its routes.
//!
//! Where this device listens, where a router opened a port for it and where nodes see it, nodes are asked to dial (AutoNAT v2),
//! and an address counts once a node says that it reached it and the nonce was heard here. Nodes alone are asked, since
//! whoever is asked learns the address. What can't be confirmed is left out: it would cost every caller an attempt.

use crate::{
    client::Core,
    direct,
    limits::{CONFIRM_DEADLINE, CONFIRM_EVERY, CONFIRMED_AT_ONCE, DIAL_BACKS, OBSERVERS},
    pool::Node,
};
use futures::future::join_all;
use libp2p::Multiaddr;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use windlass_p2p::{
    Incoming, PeerStream,
    autonat::{self, Answer},
};

/// The nonces that nodes were asked to say, and whether they were heard.
#[derive(Default)]
struct Nonces(Mutex<HashMap<u64, bool>>);

impl Nonces {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self) -> u64 {
        let nonce = rand::random();
        self.lock().insert(nonce, false);
        nonce
    }

    /// Whether somebody was asked to say this.
    fn heard(&self, nonce: u64) -> bool {
        self.lock().get_mut(&nonce).map(|heard| *heard = true).is_some()
    }

    fn settle(&self, nonce: u64) -> bool {
        self.lock().remove(&nonce).unwrap_or_default()
    }
}

/// Keeps `confirmed` up to date until stopped. Whoever waits for its first change waits for the first round.
pub(crate) async fn keep(
    core: Arc<Core>,
    incoming: Incoming,
    confirmed: watch::Sender<Vec<Multiaddr>>,
    stop: CancellationToken,
) {
    let nonces = Arc::new(Nonces::default());
    tokio::select! {
        () = stop.cancelled() => {}
        () = listen(incoming, nonces.clone()) => {}
        () = confirm(&core, &nonces, &confirmed) => {}
    }
}

/// Hears what is said by whoever dials back; anybody may try.
async fn listen(mut incoming: Incoming, nonces: Arc<Nonces>) {
    let mut heard = JoinSet::new();
    loop {
        tokio::select! {
            stream = incoming.next() => {
                let Some(stream) = stream else { return };
                // Beyond the bound it is reset; and nobody reaches an address through a relay.
                if heard.len() < DIAL_BACKS && !stream.path().is_relayed() {
                    let nonces = nonces.clone();
                    heard.spawn(async move { timeout(CONFIRM_DEADLINE, hear(stream, &nonces)).await });
                }
            }
            Some(_) = heard.join_next() => {}
        }
    }
}

async fn hear(mut stream: PeerStream, nonces: &Nonces) {
    let Ok(nonce) = autonat::hear(&mut stream).await else { return };
    if nonces.heard(nonce) {
        // If it doesn't arrive the node says that it reached nobody.
        let _ = autonat::acknowledge(&mut stream).await;
    }
}

async fn confirm(core: &Core, nonces: &Nonces, confirmed: &watch::Sender<Vec<Multiaddr>>) {
    let mut changed = core.direct_ways.changes();
    let mut moved = core.moved.subscribe();
    let mut verdicts = Verdicts::default();
    let mut asks_all = true;
    let mut is_first = true;
    loop {
        moved.mark_unchanged();
        let mut candidates = direct::candidates(core).await;
        candidates.truncate(CONFIRMED_AT_ONCE);
        let due = verdicts.due(&candidates, asks_all);
        let asked = join_all(due.into_iter().map(async |address| {
            let reached = is_reached(core, nonces, &address).await;
            (address, reached)
        }));
        let reached = verdicts.settle(&candidates, asked.await);
        tracing::debug!(?reached, "addresses that are reached from outside");
        confirmed.send_if_modified(|known| {
            let is_news = *known != reached;
            *known = reached;
            is_news || std::mem::take(&mut is_first)
        });
        asks_all = tokio::select! {
            () = changed.next() => false,
            Ok(()) = moved.changed() => false,
            () = sleep(CONFIRM_EVERY) => true,
        };
    }
}

/// What nodes said last of each address.
#[derive(Default)]
struct Verdicts(HashMap<Multiaddr, bool>);

impl Verdicts {
    /// Those to ask about: all of them, or the new ones.
    fn due(&self, candidates: &[Multiaddr], all: bool) -> Vec<Multiaddr> {
        candidates.iter().filter(|address| all || !self.0.contains_key(*address)).cloned().collect()
    }

    /// Takes in what was said, and tells which addresses are reached. Where nobody tried, the last verdict stands.
    fn settle(&mut self, candidates: &[Multiaddr], asked: Vec<(Multiaddr, Option<bool>)>) -> Vec<Multiaddr> {
        self.0.extend(asked.into_iter().filter_map(|(address, reached)| Some((address, reached?))));
        self.0.retain(|address, _| candidates.contains(address));
        candidates.iter().filter(|address| self.0.get(*address) == Some(&true)).cloned().collect()
    }
}

/// Whether nodes reach an address; `None` if none of them tried.
async fn is_reached(core: &Core, nonces: &Nonces, address: &Multiaddr) -> Option<bool> {
    let mut outcome = None;
    for node in core.asker.pool.ranked().into_iter().take(OBSERVERS) {
        let nonce = nonces.expect();
        let answer = timeout(CONFIRM_DEADLINE, ask(core, &node, address, nonce)).await.ok().flatten();
        let heard = nonces.settle(nonce);
        match answer {
            Some(Answer::Reached) if heard => return Some(true),
            Some(Answer::Reached | Answer::NotReached) => outcome = Some(false),
            Some(Answer::NotTried) | None => {}
        }
    }
    outcome
}

async fn ask(core: &Core, node: &Node, address: &Multiaddr, nonce: u64) -> Option<Answer> {
    let control = &core.asker.control;
    let opened = control.open(node.peer, node.dial.clone(), autonat::DIAL_REQUEST, CONFIRM_DEADLINE).await;
    let mut stream = opened.ok()?;
    let answer = autonat::ask(&mut stream, address, nonce).await;
    answer.inspect_err(|error| tracing::debug!(peer = %node.peer, %error, "a node didn't dial back")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_while_the_last_who_tried_reached_it() {
        let at =
            |port: u16| -> Multiaddr { format!("/ip4/192.0.2.7/tcp/{port}").parse().expect("it is one") };
        let (one, other) = (at(1), at(2));
        let both = [one.clone(), other.clone()];
        let mut verdicts = Verdicts::default();
        assert_eq!(verdicts.due(&both, false), both);
        let reached = verdicts.settle(&both, vec![(one.clone(), Some(true)), (other.clone(), None)]);
        assert_eq!(reached, both[..1]);
        assert_eq!(verdicts.due(&both, false), both[1..], "what nobody tried is asked again");
        assert_eq!(verdicts.settle(&both, vec![(one.clone(), None)]), both[..1], "silence changes nothing");
        assert_eq!(verdicts.settle(&both, vec![(one.clone(), Some(false))]), []);
        assert_eq!(verdicts.due(&both, true), both);
        // What isn't an address of this device any more is forgotten.
        verdicts.settle(&[other], Vec::new());
        assert!(verdicts.0.is_empty());
    }

    #[test]
    fn a_nonce_counts_only_if_it_was_asked_for_and_only_once() {
        let nonces = Nonces::default();
        let (one, other) = (nonces.expect(), nonces.expect());
        assert!(!nonces.heard(one ^ 1) || one ^ 1 == other);
        assert!(nonces.heard(one));
        assert!(nonces.settle(one) && !nonces.settle(other));
        assert!(!nonces.heard(one) && nonces.lock().is_empty());
    }
}
