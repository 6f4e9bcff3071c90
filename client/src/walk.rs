//! Walking from the last committee known to the present, step by step, each asked of a node and verified.
//!
//! Whatever a node answers, the walk only goes forward, and what was walked is kept, so another node goes on from there.

use crate::{
    ask::{Asker, exchange},
    limits::{NODE_DEADLINE, WALK_PAUSE},
    pool::Node,
    refused::{Rejection, plain},
};
use tokio::time::{Instant, timeout};
use windlass_protocol::{
    message::{
        MAX_FRAME, names,
        resolve::{Reason, Request, Response},
    },
    question::Question,
    wire,
};

/// One walk at a time, and when the last one was that somebody else's word had caused.
pub(crate) type Walking = tokio::sync::Mutex<Option<Instant>>;

impl Asker {
    /// Walks to this epoch with one node's help.
    pub(crate) async fn walk(&self, node: &Node, epoch: u32) -> Result<(), Rejection> {
        let _turn = self.walking.lock().await;
        let walked = async {
            while self.verifier.through() < epoch {
                self.step(node).await?;
            }
            Ok(())
        };
        let walked = timeout(NODE_DEADLINE, walked).await;
        match walked.unwrap_or(Err(Rejection::Silent { after: NODE_DEADLINE })) {
            // It shows a head of that epoch, and has none that leads there.
            Err(Rejection::Declined { reason: Reason::NotReady, .. }) => {
                Err(Rejection::Unwalked { epoch, known: self.verifier.through() })
            }
            walked => walked,
        }
    }

    async fn step(&self, node: &Node) -> Result<(), Rejection> {
        let next = self.verifier.through().saturating_add(1);
        let request = wire::encode(&Request::of(vec![Question::Committee(next)]));
        let frame = exchange(&self.control, node, names::RESOLVE, &request, NODE_DEADLINE).await?;
        let step = match wire::decode(&frame, MAX_FRAME).map_err(Rejection::Malformed)? {
            Response::Step(step) => step,
            Response::Refused { reason, text } => {
                return Err(Rejection::Declined { reason, text: plain(&text) });
            }
            Response::Proven { .. } | Response::Spec(_) => return Err(Rejection::NotTheQuestion),
        };
        let epoch = self.verifier.walk_on(&step)?;
        tracing::debug!(epoch, "walked on to the committee of a later epoch");
        Ok(())
    }

    /// Has any node lead to the present, because a stranger shows a head of an epoch not walked to yet: now and then,
    /// since anybody can make one up.
    pub(crate) async fn catch_up(&self) {
        {
            let mut last = self.walking.lock().await;
            if last.is_some_and(|last| last.elapsed() < WALK_PAUSE) {
                return;
            }
            *last = Some(Instant::now());
        }
        // Every answer leads there.
        if let Err(error) = self.ask(Vec::new(), |_, _| Ok(())).await {
            tracing::debug!(%error, "a stranger's head is of an epoch that no node leads to");
        }
    }
}
