//! Freshness that needs nobody's clock: members sign a nonce made just now.
//!
//! A device without a clock is cold: before anything else it has its anchor, a key it was provisioned with, sign its
//! nonce, together with a threshold of the committee; what they sign also tells it the time.

use crate::{
    ask::{AskError, Asker, exchange},
    events::Event,
    heads::HighestHead,
    limits::NODE_DEADLINE,
    pool::Node,
    refused::{RefusedNode, Rejection, plain},
    renewal::may_be_outdated,
};
use std::time::Instant;
use tokio::time::timeout;
use windlass_protocol::{
    B256, KeyAddress,
    bundle::{BundleError, VerifiedBundle, open_bundle},
    head::{Attestation, HeadError, Trust},
    header::Header,
    message::{
        MAX_FRAME, names,
        resolve::{Request, Response},
    },
    wire,
};

/// Whether a client knows the time, and so can believe anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmth {
    /// Without a clock, and no head was signed over its nonce by its anchor yet: it refuses everything.
    Cold,
    /// It has a clock, or its anchor told it the time.
    Warm,
}

impl Asker {
    pub(crate) fn warmth(&self) -> Warmth {
        if self.verifier.time.is_cold() { Warmth::Cold } else { Warmth::Warm }
    }

    /// Makes sure that the time is known before anybody is believed.
    pub(crate) async fn warm_up(&self) -> Result<(), AskError> {
        if self.warmth() == Warmth::Warm {
            return Ok(());
        }
        let Some(anchor) = self.anchor else {
            return Err(AskError::Cold { refused: Vec::new() });
        };
        // One challenge at a time; whoever waited finds it answered.
        let _turn = self.warming.lock().await;
        if self.warmth() == Warmth::Warm {
            return Ok(());
        }
        let head = self.challenge(Some(anchor)).await.map_err(|refused| AskError::Cold { refused })?;
        self.verifier.time.anchor(head.head().attested_at());
        let (number, hash) = (head.head().number(), head.head().header().hash);
        self.teller.tell(|| Event::Warmed(HighestHead { number, hash }));
        Ok(())
    }

    /// A head that a threshold of members signed over a nonce of ours, once more under a newer spec where there is one and
    /// nobody can be believed without.
    pub(crate) async fn vouched(&self) -> Result<VerifiedBundle, AskError> {
        self.warm_up().await?;
        let signed = match self.challenge(None).await {
            Err(refused) if may_be_outdated(&refused) && self.renew().await => self.challenge(None).await,
            signed => signed,
        };
        signed.map_err(|refused| AskError::NoNode { refused })
    }

    /// A head that a threshold of members, and the anchor if one is asked for, signed over a nonce of ours; from the
    /// first node that has one.
    pub(crate) async fn challenge(
        &self,
        anchor: Option<KeyAddress>,
    ) -> Result<VerifiedBundle, Vec<RefusedNode>> {
        let mut refused = Vec::new();
        for node in self.pool.ranked() {
            let nonce = B256::from(rand::random::<[u8; 32]>());
            match self.challenge_at(&node, nonce, anchor).await {
                Ok(head) => return Ok(head),
                Err(reason) => {
                    self.pool.rejected(&node, &reason);
                    refused.push(node.refused(reason));
                }
            }
        }
        Err(refused)
    }

    async fn challenge_at(
        &self,
        node: &Node,
        nonce: B256,
        anchor: Option<KeyAddress>,
    ) -> Result<VerifiedBundle, Rejection> {
        let started = Instant::now();
        let request = wire::encode(&Request { questions: Vec::new(), nonce: Some(nonce) });
        let asked = exchange(&self.control, node, names::RESOLVE, &request, NODE_DEADLINE);
        let silent = |_| Rejection::Silent { after: NODE_DEADLINE };
        let frame = timeout(NODE_DEADLINE, asked).await.map_err(silent)??;
        let bundle = match wire::decode(&frame, MAX_FRAME).map_err(Rejection::Malformed)? {
            Response::Proven { bundle, .. } => bundle,
            Response::Refused { reason, text } => {
                return Err(Rejection::Declined { reason, text: plain(&text) });
            }
            Response::Step(_) | Response::Spec(_) => return Err(Rejection::NotTheQuestion),
        };
        let grounds = match self.verifier.grounds(&bundle.header) {
            Err(Rejection::Unwalked { epoch, .. }) => {
                self.walk(node, epoch).await?;
                self.verifier.grounds(&bundle.header)?
            }
            known => known?,
        };
        // Who has no clock learns the time from this very answer.
        let now = (self.warmth() == Warmth::Warm).then(|| self.verifier.now());
        let trust = Trust { now, nonce: Some(nonce), ..grounds.trust() };
        let verified = open_bundle(&trust, &bundle)
            .and_then(|open| open.finish())
            .map_err(|error| self.verifier.rejection(error))?;
        if let Some(anchor) = anchor {
            signed_by(anchor, &trust, &bundle.header, &bundle.attestations)?;
        }
        self.heads.advance(verified.head())?;
        self.guard.observe(&verified);
        self.pool.served(node, started.elapsed());
        Ok(verified)
    }
}

/// Refuses signatures among which the anchor's isn't.
fn signed_by(
    anchor: KeyAddress,
    trust: &Trust<'_>,
    header: &[u8],
    attestations: &[Attestation],
) -> Result<(), Rejection> {
    let header = Header::decode(header)
        .map_err(|error| Rejection::Unproven(BundleError::Head(HeadError::Header(error))))?;
    let signer = |attestation: &Attestation| attestation.signer(trust.spec, header.number, header.hash);
    match attestations.iter().any(|attestation| signer(attestation) == Some(anchor.0)) {
        true => Ok(()),
        false => Err(Rejection::NoAnchor(anchor)),
    }
}
