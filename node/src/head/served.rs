//! A head that answers can be proven under.

use crate::follower::Recent;
use crate::store::{Position, Store, View, ViewError};
use std::sync::Arc;
use windlass_protocol::Bytes;
use windlass_protocol::bundle::Bundle;
use windlass_protocol::head::Attestation;
use windlass_protocol::header::Header;
use windlass_protocol::slot::Slot;

/// A final head with a threshold of attestations and the proof of the registry's account.
#[derive(Clone, Debug)]
pub struct ServedHead {
    /// The block.
    pub position: Position,
    /// Its decoded header.
    pub header: Header,
    /// Its header's RLP.
    pub rlp: Bytes,
    /// The proof of the registry's account under it.
    pub account: Vec<Bytes>,
    /// The freshest attestations, as many as the threshold.
    pub attestations: Vec<Attestation>,
    /// Unix seconds at which a threshold vouched for it last.
    pub attested_at: u64,
    /// The build of the mirror it was found in.
    pub generation: u64,
    /// What changed lately.
    pub recent: Arc<Recent>,
}

impl ServedHead {
    /// The mirror under this head.
    pub fn view<'s>(&self, store: &'s Store) -> View<'s> {
        View::new(store, self.position.number, self.generation)
    }

    /// A bundle that proves these slots under this head. Reads the store: call it where blocking is allowed.
    pub fn prove(&self, store: &Store, slots: &[Slot]) -> Result<Bundle, ViewError> {
        let view = self.view(store);
        let storage = view.prove(slots)?;
        view.check()?;
        Ok(self.bundle(storage))
    }

    /// A bundle of this head and these trie nodes.
    pub fn bundle(&self, storage: Vec<Bytes>) -> Bundle {
        Bundle {
            header: self.rlp.clone(),
            attestations: self.attestations.clone(),
            account: self.account.clone(),
            storage,
        }
    }
}
