//! Questions to nodes and answers that were verified: the only way in which registry facts enter the client.
//!
//! Whatever a node does wrong, the next one is asked; the result says which nodes were refused and why.

use crate::{
    events::Teller,
    guard::Guard,
    heads::{HeadStore, Heads},
    limits::{ASK_DEADLINE, LAG_DEADLINE, LAG_PAUSE, NODE_DEADLINE},
    pool::{Node, NodePool},
    refused::{RefusedNode, Rejection, listed, plain},
    renewal::{Renewing, may_be_outdated},
    verifier::{Grounds, Verifier},
    walk::Walking,
};
use futures::{AsyncWriteExt, StreamExt, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};
use windlass_p2p::{
    Control, OpenError,
    frame::{FrameError, read_frame, write_frame},
};
use windlass_protocol::{
    B256, KeyAddress,
    bundle::{BundleError, VerifiedBundle, open_bundle},
    message::{
        MAX_FRAME, names,
        resolve::{Request, Response},
    },
    question::{ExpandError, Question},
    route::SignedRoute,
    wire,
};

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A node proved all of it just now.
    Asked,
    /// It was proven before; a node proved just now, under a newer head, that nothing in the registry changed since.
    Revalidated,
    /// It was proven before, is fresh enough, and nobody was asked.
    Kept,
}

/// Under which head something was proven, by whom, and what it took.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// The block's number.
    pub number: u64,
    /// The block's hash.
    pub hash: B256,
    /// The block's time, Unix seconds.
    pub timestamp: u64,
    /// Seconds since a threshold of the committee last vouched for this head.
    pub age: u64,
    /// How many members attested it.
    pub signers: usize,
    /// How many had to.
    pub threshold: usize,
    /// The epoch of the committee they are of.
    pub epoch: u32,
    /// The hash of the chain spec that all this was checked under, and its version.
    pub spec: (B256, u64),
    /// Whether it was asked for just now, or proven before.
    pub source: Source,
    /// Bytes of the answer; none where nobody was asked.
    pub bytes: usize,
    /// How long the answer took, refused nodes included.
    pub took: Duration,
    /// The node that answered.
    pub node: PeerId,
    /// The address of its key.
    pub node_address: KeyAddress,
    /// Where it was dialled.
    pub node_multiaddr: Multiaddr,
    /// The nodes whose answers were not taken, in the order they were asked.
    pub refused: Vec<RefusedNode>,
}

/// A verified answer: every slot that the questions lead to, proven under one head.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The proven slots.
    pub bundle: VerifiedBundle,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// Why there is no verified answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// No node gave an answer that could be verified.
    #[error("no node gave a verifiable answer: {}", listed(.refused))]
    NoNode {
        /// Each refused node and why.
        refused: Vec<RefusedNode>,
    },
    /// This device has no clock, and its anchor has not told it the time: it can't tell what is fresh.
    #[error("{}", cold(.refused))]
    Cold {
        /// The nodes that were asked for such a head, and what came of it.
        refused: Vec<RefusedNode>,
    },
    /// The client is shut down.
    #[error("the client has been shut down")]
    Stopped,
}

/// Why nothing is believed, and what to do.
pub(crate) fn cold(refused: &[RefusedNode]) -> String {
    let nodes = if refused.is_empty() { String::new() } else { format!("; {}", listed(refused)) };
    format!(
        "this device has no plausible clock and no head signed over its nonce by its anchor, so it believes nothing: set its clock, or pin an anchor{nodes}"
    )
}

/// Asks nodes.
pub(crate) struct Asker {
    pub(crate) control: Control,
    pub(crate) pool: Arc<NodePool>,
    pub(crate) heads: Arc<Heads>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) walking: Walking,
    pub(crate) renewing: Renewing,
    /// Where a newer spec is kept.
    pub(crate) store: Arc<dyn HeadStore>,
    /// Whose signature over a nonce tells the time, where there is no clock.
    pub(crate) anchor: Option<KeyAddress>,
    pub(crate) warming: tokio::sync::Mutex<()>,
    pub(crate) teller: Teller,
    pub(crate) max_age: u64,
    /// How long a node may keep us waiting before the next one is asked as well.
    pub(crate) hedge_after: Duration,
}

/// One node's verified answer.
struct Proof {
    bundle: VerifiedBundle,
    routes: Vec<SignedRoute>,
    bytes: usize,
    grounds: Grounds,
}

/// What comes of asking all nodes once.
struct Round<'a> {
    started: Instant,
    refused: &'a mut Vec<RefusedNode>,
    /// Nodes worth asking again in a moment.
    later: Vec<Arc<Node>>,
}

impl Asker {
    /// Asks node after node, the next one as soon as one fails or keeps us waiting, until one proves its answer and
    /// `read` can take it; `read` sees the proven slots and the routes, which are still to be verified. Where nobody can be
    /// believed because the chain spec is too old, they are asked for a newer one, and once more. Cancel-safe.
    pub(crate) async fn ask<T>(
        &self,
        questions: Vec<Question>,
        read: impl Fn(&VerifiedBundle, &[SignedRoute]) -> Result<T, Rejection>,
    ) -> Result<(T, Answer), AskError> {
        self.warm_up().await?;
        let request = Request::of(questions);
        match self.ask_under_this_spec(&request, &read).await {
            Err(AskError::NoNode { refused }) if may_be_outdated(&refused) => match self.renew().await {
                true => self.ask_under_this_spec(&request, &read).await,
                false => Err(AskError::NoNode { refused }),
            },
            asked => asked,
        }
    }

    async fn ask_under_this_spec<T>(
        &self,
        request: &Request,
        read: &impl Fn(&VerifiedBundle, &[SignedRoute]) -> Result<T, Rejection>,
    ) -> Result<(T, Answer), AskError> {
        let started = Instant::now();
        let mut refused: Vec<RefusedNode> = Vec::new();
        let mut candidates = self.pool.ranked();
        while !candidates.is_empty() {
            let mut round = Round { started, refused: &mut refused, later: Vec::new() };
            match self.ask_all(candidates.into(), request, read, &mut round).await? {
                Some((value, node, proof)) => {
                    let answer = self.answer(&node, proof, started.elapsed(), refused);
                    return Ok((value, answer));
                }
                None => candidates = round.later,
            }
            if started.elapsed() >= LAG_DEADLINE {
                break;
            }
            // Those that were behind, starting or busy may do better in a moment.
            if !candidates.is_empty() {
                sleep(LAG_PAUSE).await;
            }
        }
        Err(AskError::NoNode { refused })
    }

    /// One round over the nodes: the first answer that is taken, or none.
    async fn ask_all<T>(
        &self,
        mut candidates: VecDeque<Arc<Node>>,
        request: &Request,
        read: &impl Fn(&VerifiedBundle, &[SignedRoute]) -> Result<T, Rejection>,
        round: &mut Round<'_>,
    ) -> Result<Option<(T, Arc<Node>, Proof)>, AskError> {
        let mut waiting: Vec<(Arc<Node>, Instant)> = Vec::new();
        let mut asked = FuturesUnordered::new();
        // The last one needs time to answer, too.
        let turns = u32::try_from(candidates.len()).unwrap_or(u32::MAX).saturating_add(1);
        let hedge_after = self.hedge_after.min(ASK_DEADLINE / turns);
        loop {
            let left = ASK_DEADLINE.saturating_sub(round.started.elapsed()).min(NODE_DEADLINE);
            if let Some(node) = candidates.pop_front().filter(|_| !left.is_zero()) {
                waiting.push((node.clone(), Instant::now()));
                asked.push(async move {
                    let outcome = self.ask_node(&node, request, left, read).await;
                    (node, outcome)
                });
            }
            let hedge = !candidates.is_empty() && !left.is_zero();
            let (node, outcome) = tokio::select! {
                next = asked.next() => match next {
                    Some(answered) => answered,
                    None => return Ok(None),
                },
                () = sleep(hedge_after), if hedge => continue,
            };
            waiting.retain(|(other, _)| other.peer != node.peer);
            match outcome {
                Ok((value, proof)) => {
                    // Whoever kept us waiting for another is not asked first the next time.
                    let slow = waiting.iter().map(|(node, since)| (node, since.elapsed()));
                    for (slow, waited) in slow.filter(|(_, waited)| *waited >= hedge_after) {
                        self.pool.outpaced(slow, waited);
                        round.refused.push(slow.refused(Rejection::Silent { after: waited }));
                    }
                    return Ok(Some((value, node, proof)));
                }
                Err(Rejection::Unreachable(error)) if matches!(*error, OpenError::Stopped) => {
                    return Err(AskError::Stopped);
                }
                Err(reason) => {
                    if reason.may_pass() {
                        round.later.push(node.clone());
                    }
                    self.reject(&node, reason, round.refused);
                }
            }
        }
    }

    fn reject(&self, node: &Node, reason: Rejection, refused: &mut Vec<RefusedNode>) {
        self.pool.rejected(node, &reason);
        refused.retain(|known| known.peer != node.peer);
        refused.push(node.refused(reason));
    }

    fn answer(&self, node: &Node, proof: Proof, took: Duration, refused: Vec<RefusedNode>) -> Answer {
        let (head, spec) = (*proof.bundle.head(), &proof.grounds.spec);
        let provenance = Provenance {
            number: head.number(),
            hash: head.header().hash,
            timestamp: head.header().timestamp,
            age: head.age(self.verifier.now()),
            signers: head.signers(),
            threshold: proof.grounds.threshold(),
            epoch: spec.epoch_at(head.header().timestamp),
            spec: (spec.hash(), spec.version),
            source: Source::Asked,
            bytes: proof.bytes,
            took,
            node: node.peer,
            node_address: node.address,
            node_multiaddr: node.multiaddr(),
            refused,
        };
        Answer { bundle: proof.bundle, provenance }
    }

    async fn ask_node<T>(
        &self,
        node: &Node,
        request: &Request,
        deadline: Duration,
        read: &impl Fn(&VerifiedBundle, &[SignedRoute]) -> Result<T, Rejection>,
    ) -> Result<(T, Proof), Rejection> {
        let started = Instant::now();
        let frame = timeout(
            deadline,
            exchange(&self.control, node, names::RESOLVE, &wire::encode(request), deadline),
        )
        .await
        .map_err(|_| Rejection::Silent { after: deadline })??;
        let latency = started.elapsed();
        let proof = match self.verify(&request.questions, &frame) {
            Err(Rejection::Unwalked { epoch, .. }) => {
                self.walk(node, epoch).await?;
                self.verify(&request.questions, &frame)?
            }
            verified => verified?,
        };
        let head = proof.bundle.head();
        let age = head.age(self.verifier.now());
        if age > self.max_age {
            return Err(Rejection::TooOld { age, max_age: self.max_age });
        }
        self.heads.advance(head)?;
        let value = read(&proof.bundle, &proof.routes)?;
        self.guard.observe(&proof.bundle);
        self.pool.served(node, latency);
        Ok((value, proof))
    }

    fn verify(&self, questions: &[Question], frame: &[u8]) -> Result<Proof, Rejection> {
        let (bundle, routes) = match wire::decode(frame, MAX_FRAME).map_err(Rejection::Malformed)? {
            Response::Proven { bundle, routes } => (bundle, routes),
            Response::Refused { reason, text } => {
                return Err(Rejection::Declined { reason, text: plain(&text) });
            }
            Response::Step(_) | Response::Spec(_) => return Err(Rejection::NotTheQuestion),
        };
        let grounds = self.verifier.grounds(&bundle.header)?;
        let mut open =
            open_bundle(&grounds.trust(), &bundle).map_err(|error| self.verifier.rejection(error))?;
        let timestamp = open.head().header().timestamp;
        for question in questions {
            question.expand(timestamp, &mut |slot| open.value(slot)).map_err(|error| {
                Rejection::Unproven(match error {
                    ExpandError::Lookup(error) => error,
                    ExpandError::Record(error) => BundleError::Record(error),
                })
            })?;
        }
        let bundle = open.finish()?;
        Ok(Proof { bundle, routes, bytes: frame.len(), grounds })
    }
}

/// One request to a node and its response, each one frame on a stream of its own.
pub(crate) async fn exchange(
    control: &Control,
    node: &Node,
    protocol: &'static str,
    request: &[u8],
    deadline: Duration,
) -> Result<Vec<u8>, Rejection> {
    let broken = |error: FrameError| Rejection::Broken(Arc::new(error));
    let mut stream = control
        .open(node.peer, node.dial.clone(), StreamProtocol::new(protocol), deadline)
        .await
        .map_err(|error| Rejection::Unreachable(Box::new(error)))?;
    write_frame(&mut stream, request).await.map_err(broken)?;
    let response = read_frame(&mut stream).await.map_err(broken)?;
    // Closing is courtesy: the node is done with the stream, and a failure changes nothing.
    let _ = stream.close().await;
    Ok(response)
}
