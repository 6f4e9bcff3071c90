//! The chain spec grows old: a device that slept for longer than its trusting period can believe nobody's heads any more.
//! A newer version, which any node can bring, lets it in again.
//!
//! Only the publisher's signature counts, and only a higher version of the same network that isn't dated ahead of the
//! clock. What was adopted is kept, so that a restart with the old file doesn't go back.

use crate::{
    ask::{Asker, exchange},
    events::Event,
    heads::HeadStore,
    limits::{NODE_DEADLINE, RENEW_PAUSE},
    pool::Node,
    refused::{RefusedNode, Rejection},
};
use futures::future::join_all;
use std::{io, sync::Arc};
use tokio::time::{Instant, timeout};
use windlass_protocol::{
    message::{
        MAX_FRAME, names,
        resolve::{Request, Response},
    },
    question::Question,
    spec::{VerifiedSpec, verify_renewal, verify_spec},
    wire,
};

/// One look for a newer spec at a time, and when the last one ended.
pub(crate) type Renewing = tokio::sync::Mutex<Option<Instant>>;

/// The spec to begin with: the one that is given, or a later one that was used before. Reads and writes the store: call it
/// where blocking is allowed.
pub(crate) fn begin(given: VerifiedSpec, store: &dyn HeadStore) -> io::Result<VerifiedSpec> {
    let network = given.network();
    let damaged = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    if let Some(bytes) = store.load_spec(network)? {
        let kept = verify_spec(&bytes, given.publisher())
            .map_err(|error| damaged(format!("the chain spec that was kept: {error}")))?;
        kept.is_of_network(&given)
            .map_err(|error| damaged(format!("the chain spec that was kept: {error}")))?;
        if kept.version >= given.version {
            if kept.hash() != given.hash() {
                tracing::info!(
                    given = given.version,
                    used = kept.version,
                    "a newer chain spec than the given one was used before, and is used again"
                );
            }
            return Ok(kept);
        }
    }
    if let Err(error) = store.store_spec(network, &given.to_bytes()) {
        tracing::warn!(%error, "can't keep the chain spec: after a restart an older one passes");
    }
    Ok(given)
}

/// Whether a newer spec could help: nodes were reached, and who vouches for them isn't known here.
pub(crate) fn may_be_outdated(refused: &[RefusedNode]) -> bool {
    refused.iter().any(|node| node.reason.may_be_our_spec())
}

impl Asker {
    /// Asks the nodes for a newer spec, and goes on under the newest; false if nobody has one. Cancel-safe.
    pub(crate) async fn renew(&self) -> bool {
        let present = self.verifier.spec();
        let mut last = self.renewing.lock().await;
        if self.verifier.spec().version > present.version {
            return true;
        }
        // Who has no clock can't tell whether a spec is of the future.
        if self.verifier.time.is_cold() || last.is_some_and(|last| last.elapsed() < RENEW_PAUSE) {
            return false;
        }
        let nodes = self.pool.ranked();
        // Of all nodes: one alone could have an older one, or say that it has none.
        let brought = join_all(nodes.iter().map(|node| self.fetch_spec(node, &present))).await;
        *last = Some(Instant::now());
        let newest = brought.into_iter().flatten().max_by_key(|spec| spec.version);
        match newest {
            Some(newest) => self.adopt(newest).await,
            None => false,
        }
    }

    async fn fetch_spec(&self, node: &Node, present: &VerifiedSpec) -> Option<VerifiedSpec> {
        let asked = timeout(NODE_DEADLINE, self.ask_spec(node, present)).await;
        match asked.unwrap_or(Err(Rejection::Silent { after: NODE_DEADLINE })) {
            Ok(spec) => spec,
            Err(reason) => {
                tracing::debug!(node = %node.peer, %reason, "no newer chain spec from this node");
                self.pool.rejected(node, &reason);
                None
            }
        }
    }

    async fn ask_spec(&self, node: &Node, present: &VerifiedSpec) -> Result<Option<VerifiedSpec>, Rejection> {
        let request = wire::encode(&Request::of(vec![Question::Spec(present.version)]));
        let frame = exchange(&self.control, node, names::RESOLVE, &request, NODE_DEADLINE).await?;
        match wire::decode(&frame, MAX_FRAME).map_err(Rejection::Malformed)? {
            Response::Spec(bytes) if bytes.is_empty() => Ok(None),
            Response::Spec(bytes) => {
                verify_renewal(&bytes, present, self.verifier.now()).map(Some).map_err(Rejection::Renewal)
            }
            // Of an earlier release, or too busy.
            Response::Refused { .. } => Ok(None),
            Response::Proven { .. } | Response::Step(_) => Err(Rejection::NotTheQuestion),
        }
    }

    /// Keeps it first: it must not be forgotten once anything was believed under it.
    async fn adopt(&self, newer: VerifiedSpec) -> bool {
        let (store, network, bytes) = (self.store.clone(), newer.network(), newer.to_bytes());
        let keep = tokio::task::spawn_blocking(move || store.store_spec(network, &bytes)).await;
        if let Err(error) = keep.map_err(io::Error::other).flatten() {
            tracing::warn!(%error, "can't keep the newer chain spec: after a restart it is looked for again");
            self.teller.tell(|| Event::NotKept(Arc::new(error)));
        }
        let (from, to) = (self.verifier.spec().version, newer.version);
        let adopted = self.verifier.adopt(newer);
        if adopted {
            tracing::info!(from, to, "goes on under a newer chain spec");
            self.teller.tell(|| Event::Renewed { from, to });
        }
        adopted
    }
}
