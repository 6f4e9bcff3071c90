//! What a client tells its owner unasked: how devices are reached, which head is the highest, and who was refused.
//!
//! Telling never waits: an owner that doesn't listen, or listens slowly, misses events and is told how many. Nothing
//! here decides anything, and no event is needed to use the client safely.

use crate::{heads::HighestHead, limits::EVENTS, refused::RefusedNode, stream::Ended};
use libp2p::PeerId;
use std::{io, sync::Arc};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use windlass_p2p::Path;
use windlass_protocol::{DeviceId, Service, authorise::Refusal};

/// Something that happened in a client.
#[derive(Debug, Clone)]
pub enum Event {
    /// A higher head than any before was verified.
    Head(HighestHead),
    /// This device had no clock: its anchor has vouched for this head over its nonce, and from now on it believes what is
    /// fresh.
    Warmed(HighestHead),
    /// The chain spec was too old to believe anybody by, and a newer version that the same publisher signed has taken its
    /// place.
    Renewed {
        /// The version before.
        from: u64,
        /// The version now.
        to: u64,
    },
    /// The head store failed to write: what it should have kept is lost with a restart.
    NotKept(Arc<io::Error>),
    /// These nodes relay to this device now.
    Relays(Vec<PeerId>),
    /// The best path to a peer changed; `None` when there is none any more.
    Path {
        /// A node, or another device.
        peer: PeerId,
        /// How new streams to it go.
        path: Option<Path>,
    },
    /// A device that was let in through a relay could not be reached directly; it stays relayed, and is tried again
    /// after a pause.
    StaysRelayed {
        /// The device.
        peer: PeerId,
        /// How often it was tried so far.
        attempts: u32,
        /// What the last attempt came to.
        why: String,
    },
    /// A node's answer was not taken.
    NodeRefused(RefusedNode),
    /// A caller was not let in.
    CallerRefused {
        /// Who it claimed to be.
        caller: DeviceId,
        /// What it wanted.
        service: Service,
        /// What it was told.
        refusal: Refusal,
    },
    /// This side ended a live stream.
    StreamEnded {
        /// The device at the other end.
        peer: DeviceId,
        /// The service, where it is one of ours.
        service: Option<Service>,
        /// Why.
        why: Ended,
    },
    /// So many events came while nobody took them, and are lost; later ones follow.
    Missed(u64),
}

/// The end that tells; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Teller(broadcast::Sender<Event>);

impl Default for Teller {
    fn default() -> Self {
        Self(broadcast::Sender::new(EVENTS))
    }
}

impl Teller {
    /// Tells whoever listens; what it is made of is only put together if somebody does.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.0.receiver_count() > 0 {
            // The last listener may have left meanwhile.
            let _ = self.0.send(event());
        }
    }

    pub(crate) fn listen(
        &self,
        heads: watch::Receiver<Option<HighestHead>>,
        relays: watch::Receiver<Vec<PeerId>>,
        stop: CancellationToken,
    ) -> Events {
        Events { told: self.0.subscribe(), heads, relays, stop }
    }
}

/// The events of a client from the moment it was asked for them; see [`crate::Client::events`].
#[derive(Debug)]
pub struct Events {
    told: broadcast::Receiver<Event>,
    /// These hold the newest value only, so a slow owner misses none that still matters.
    heads: watch::Receiver<Option<HighestHead>>,
    relays: watch::Receiver<Vec<PeerId>>,
    stop: CancellationToken,
}

impl Events {
    /// The next event; `None` once the client is shut down and what it told before was taken. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        let Self { told, heads, relays, stop } = self;
        loop {
            tokio::select! {
                biased;
                told = told.recv() => return match told {
                    Ok(event) => Some(event),
                    Err(broadcast::error::RecvError::Lagged(count)) => Some(Event::Missed(count)),
                    Err(broadcast::error::RecvError::Closed) => None,
                },
                Ok(()) = heads.changed() => {
                    if let Some(head) = *heads.borrow_and_update() {
                        return Some(Event::Head(head));
                    }
                }
                Ok(()) = relays.changed() => return Some(Event::Relays(relays.borrow_and_update().clone())),
                () = stop.cancelled() => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use windlass_protocol::B256;

    #[tokio::test]
    async fn a_slow_owner_is_told_what_it_missed_and_never_holds_up_the_client() {
        let teller = Teller::default();
        teller.tell(|| unreachable!("nobody listens"));
        let (heads, head) = watch::channel(None);
        let (_relays, relay) = watch::channel(Vec::new());
        let stop = CancellationToken::new();
        let mut events = teller.listen(head, relay, stop.clone());
        let peer = PeerId::random();
        for number in 0..EVENTS as u64 + 10 {
            teller.tell(|| Event::Path { peer, path: None });
            heads.send_replace(Some(HighestHead { number, hash: B256::ZERO }));
        }
        assert!(matches!(events.next().await, Some(Event::Missed(10))));
        for _ in 0..EVENTS {
            assert!(matches!(events.next().await, Some(Event::Path { path: None, .. })));
        }
        // Of heads only the newest counts.
        let newest = EVENTS as u64 + 9;
        assert!(matches!(events.next().await, Some(Event::Head(head)) if head.number == newest));
        teller.tell(|| Event::Path { peer, path: None });
        stop.cancel();
        assert!(matches!(events.next().await, Some(Event::Path { .. })));
        assert!(events.next().await.is_none());
    }
}
