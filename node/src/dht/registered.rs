//! Who is a node: whose key's slot in the mirror says registered and not slashed, or who sits on a committee that the
//! network started with, unless it was slashed. Judged by the newest final block in the mirror, like the relay's guests.

use crate::follower::MirrorState;
use crate::head::KnownLineage;
use crate::store::{Store, View, ViewError};
use libp2p::PeerId;
use std::sync::Arc;
use tokio::sync::watch;
use windlass_p2p::identity::key_address_of;
use windlass_protocol::Address;
use windlass_protocol::record::NodeRecord;
use windlass_protocol::slot::Slot;

/// The bit of a node's flags that is never taken back.
const SLASHED: u16 = 1;

/// See the module.
#[derive(Clone)]
pub struct Registered {
    store: Arc<Store>,
    lineage: KnownLineage,
    mirror: watch::Receiver<MirrorState>,
}

impl Registered {
    /// By this mirror.
    pub fn new(store: Arc<Store>, lineage: KnownLineage, mirror: watch::Receiver<MirrorState>) -> Self {
        Self { store, lineage, mirror }
    }

    /// What the follower says, for whoever waits for it to change.
    pub(super) fn mirror(&self) -> watch::Receiver<MirrorState> {
        self.mirror.clone()
    }

    /// Those of these peers that are nodes; `None` while nothing is mirrored or it can't be read.
    pub(super) async fn among(&self, peers: Vec<PeerId>) -> Option<Vec<PeerId>> {
        if peers.is_empty() {
            return Some(peers);
        }
        let own = self.clone();
        let judged = tokio::task::spawn_blocking(move || own.judge(peers)).await.ok()?;
        judged.inspect_err(|error| tracing::debug!(%error, "can't judge who is a node now")).ok().flatten()
    }

    /// Whether a peer is a node, as far as that can be told now.
    pub(super) async fn is_node_now(&self, peer: PeerId) -> bool {
        self.among(vec![peer]).await.is_some_and(|nodes| !nodes.is_empty())
    }

    /// Reads the disk.
    fn judge(&self, mut peers: Vec<PeerId>) -> Result<Option<Vec<PeerId>>, ViewError> {
        let Some(base) = self.mirror.borrow().base else { return Ok(None) };
        let view = View::new(&self.store, base.number, self.store.generation());
        let mut failed = None;
        peers.retain(|peer| {
            let Ok(key) = key_address_of(peer) else { return false };
            self.is_node(&view, key.0).unwrap_or_else(|error| {
                failed = Some(error);
                false
            })
        });
        view.check()?;
        failed.map_or(Ok(Some(peers)), Err)
    }

    fn is_node(&self, view: &View<'_>, address: Address) -> Result<bool, ViewError> {
        // What is outside the layout says nothing that counts.
        let record = NodeRecord::decode(&view.slot(Slot::Node(address))?).ok().flatten();
        Ok(match record {
            Some(record) if record.flags & SLASHED != 0 => false,
            Some(record) if record.stake > 0 => true,
            _ => self.lineage.borrow().committees().knows(&address),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{self, Served as Mirror};
    use windlass_p2p::identity::peer_id_of;
    use windlass_protocol::B256;

    fn node(seed: u8, stake: u128, flags: u16) -> (B256, B256) {
        let record = NodeRecord { stake, since: 1, unbond_at: 0, flags };
        (Slot::Node(testing::key(seed).address().0).storage_key(), record.encode())
    }

    #[tokio::test]
    async fn registered_nodes_and_members_are_nodes_until_they_are_slashed_or_gone() {
        let mut mirror = Mirror::start();
        let lineage = testing::lineage(&mirror.spec);
        let registered = Registered::new(mirror.store.clone(), lineage, mirror.state());
        let peer = |seed: u8| peer_id_of(&testing::key(seed).public_key());
        let all: Vec<PeerId> = [1, 2, 0x61, 0x62, 0x63, 0x64].map(peer).to_vec();
        assert_eq!(registered.among(all.clone()).await, None, "nothing is mirrored yet");
        mirror.advance(vec![node(0x61, 5, 0), node(0x62, 5, 0), node(0x63, 5, SLASHED)]).await;
        let asked = [all.clone(), vec![PeerId::random()]].concat();
        assert_eq!(registered.among(asked).await.unwrap(), [1, 2, 0x61, 0x62].map(peer));
        // One is slashed, a member too, and one withdrew its stake.
        mirror.advance(vec![node(0x61, 0, SLASHED), node(2, 0, SLASHED), node(0x62, 0, 0)]).await;
        assert_eq!(registered.among(all).await.unwrap(), [1].map(peer));
    }
}
