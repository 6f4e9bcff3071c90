//! Devices' challenges: members vouch for the served head once more, over a nonce that nobody knew before. So neither a
//! signature from a drawer nor a member's clock passes for freshness.
//!
//! One fan-out: whoever a device asks tells the members it is connected to, and gathers what they sign. Owns what is
//! under way, bounded in number and time; who may ask how often is decided where requests come in.

use super::ServedHead;
use crate::limits::{CHALLENGE_DEADLINE, CHALLENGES_UNDER_WAY};
use crate::store::Position;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};
use windlass_protocol::bundle::Bundle;
use windlass_protocol::head::{Attestation, Committee};
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::{Address, B256};

/// A device's nonce, and where the answer goes.
#[derive(Debug)]
pub struct Challenger {
    /// Not zero.
    pub nonce: B256,
    /// Gets the head alone, with signatures over the nonce.
    pub answer: oneshot::Sender<Bundle>,
}

/// Where challenges are brought.
#[derive(Clone, Debug)]
pub struct Challenges(mpsc::Sender<Challenger>);

impl Challenges {
    /// A way in, and its end.
    pub fn channel() -> (Self, mpsc::Receiver<Challenger>) {
        let (sender, inbox) = mpsc::channel(CHALLENGES_UNDER_WAY);
        (Self(sender), inbox)
    }

    /// The served head with a threshold of signatures over this nonce; `None` if they can't be had in time.
    pub async fn ask(&self, nonce: B256) -> Option<Bundle> {
        let (answer, answered) = oneshot::channel();
        // Beyond what may be under way nobody waits.
        self.0.try_send(Challenger { nonce, answer }).ok()?;
        tokio::time::timeout(CHALLENGE_DEADLINE, answered).await.ok()?.ok()
    }
}

struct Pending {
    head: Arc<ServedHead>,
    committee: Committee,
    signed: BTreeMap<Address, Attestation>,
    answer: oneshot::Sender<Bundle>,
    since: Instant,
}

/// The challenges under way.
#[derive(Default)]
pub(super) struct UnderWay(BTreeMap<B256, Pending>);

impl UnderWay {
    /// Takes one up over the served head; false if there is no room, or the nonce is taken.
    pub(super) fn begin(
        &mut self,
        challenger: Challenger,
        head: Arc<ServedHead>,
        committee: Committee,
        now: Instant,
    ) -> bool {
        self.0.retain(|_, pending| {
            !pending.answer.is_closed() && now.duration_since(pending.since) < CHALLENGE_DEADLINE
        });
        let Challenger { nonce, answer } = challenger;
        if nonce.is_zero() || self.0.len() >= CHALLENGES_UNDER_WAY || self.0.contains_key(&nonce) {
            return false;
        }
        let pending = Pending { head, committee, signed: BTreeMap::new(), answer, since: now };
        self.0.insert(nonce, pending);
        true
    }

    /// Takes a signature over a nonce; true if it was waited for. With the last one needed the device is answered.
    pub(super) fn sign(&mut self, spec: &VerifiedSpec, position: Position, attestation: Attestation) -> bool {
        let Some(pending) = self.0.get_mut(&attestation.nonce) else { return false };
        let signer = attestation.signer(spec, position.number, position.hash);
        let Some(signer) = signer.filter(|signer| pending.committee.contains(signer)) else { return false };
        if pending.head.position != position {
            return false;
        }
        pending.signed.insert(signer, attestation);
        if pending.signed.len() >= spec.threshold(pending.committee.members().len())
            && let Some(done) = self.0.remove(&attestation.nonce)
        {
            let bundle =
                Bundle { attestations: done.signed.into_values().collect(), ..done.head.bundle(Vec::new()) };
            // A device that has gone needs no answer.
            let _ = done.answer.send(bundle);
        }
        true
    }
}
