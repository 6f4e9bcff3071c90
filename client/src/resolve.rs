//! From a name or device id to the proven record, and to the route the device signed.

use crate::{
    ask::{Answer, AskError, Asker, Provenance, cold, exchange},
    client::Core,
    limits::{NODE_DEADLINE, ROUTE_FETCHES},
    pool::Node,
    refused::{RefusedNode, Rejection, listed},
    verifier::Verifier,
};
use futures::future::join_all;
use std::sync::Arc;
use tokio::time::timeout;
use windlass_protocol::{
    DeviceId, Name,
    bundle::VerifiedBundle,
    message::{
        names,
        route::{MAX_ROUTE_MESSAGE_BYTES, RouteRequest, RouteResponse},
    },
    question::{NameDenial, Question, Target, name_target},
    record::DeviceRecord,
    route::{RouteError, SignedRoute, VerifiedRoute, verify_route},
    wire,
};

/// A device, proven, and where it says it is.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Its id.
    pub device: DeviceId,
    /// Its record. Its status may be anything: a revoked device resolves to a revoked record.
    pub record: DeviceRecord,
    /// The name that led here, if it was asked for by name.
    pub name: Option<Name>,
    /// Where it is reachable now; `None` if it published nothing lately.
    pub route: Option<VerifiedRoute>,
    /// Under which head, from which node, and which nodes were refused.
    pub provenance: Provenance,
}

/// A proven *no*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Nobody registered this name.
    #[error("no such name")]
    NoSuchName,
    /// The name is past its expiry.
    #[error("the name has expired")]
    NameExpired,
    /// The name points at nothing, or at something that is not a device.
    #[error("the name points at no device")]
    NoDevice,
    /// No device with this id was ever enrolled.
    #[error("device {0} is not registered")]
    NotRegistered(DeviceId),
}

impl From<NameDenial> for Denial {
    fn from(denial: NameDenial) -> Self {
        match denial {
            NameDenial::Unknown => Self::NoSuchName,
            NameDenial::Expired => Self::NameExpired,
            NameDenial::NoDevice => Self::NoDevice,
        }
    }
}

/// Why a target was not resolved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResolveError {
    /// It is proven that there is nothing to resolve to.
    #[error("{target}: {denial} (proven under block {})", .provenance.number)]
    Denied {
        /// What was asked.
        target: Target,
        /// What is proven.
        denial: Denial,
        /// Under which head, from which node, and which nodes were refused.
        provenance: Box<Provenance>,
    },
    /// No node gave an answer that could be verified.
    #[error("{target}: no node gave a verifiable answer: {}", listed(.refused))]
    NoNode {
        /// What was asked.
        target: Target,
        /// Each refused node and why.
        refused: Vec<RefusedNode>,
    },
    /// This device has no clock, and its anchor has not told it the time.
    #[error("{}", cold(.refused))]
    Cold {
        /// The nodes that were asked for a head signed over a nonce, and what came of it.
        refused: Vec<RefusedNode>,
    },
    /// The client is shut down.
    #[error("the client has been shut down")]
    Stopped,
}

impl ResolveError {
    /// Whether this is a proven *no* rather than a failure to find out.
    pub fn is_proven_no(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }

    /// The nodes whose answers were not taken.
    pub fn refused(&self) -> &[RefusedNode] {
        match self {
            Self::Denied { provenance, .. } => &provenance.refused,
            Self::NoNode { refused, .. } | Self::Cold { refused } => refused,
            Self::Stopped => &[],
        }
    }

    pub(crate) fn unanswered(target: &Target, error: AskError) -> Self {
        match error {
            AskError::NoNode { refused } => Self::NoNode { target: target.clone(), refused },
            AskError::Cold { refused } => Self::Cold { refused },
            AskError::Stopped => Self::Stopped,
        }
    }
}

/// What an answer says about a target.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) device: DeviceId,
    pub(crate) record: DeviceRecord,
    pub(crate) route: Option<VerifiedRoute>,
}

/// Resolves a target by what was proven before, or by asking; where the answer brings no route, nodes are asked for one.
pub(crate) async fn resolve(core: &Core, target: &Target) -> Result<Resolved, ResolveError> {
    let question = Question::Target(target.clone());
    let (mut found, answer) = match core.found_before(target, &question).await? {
        Some(kept) => kept,
        None => {
            let (found, answer) = core.asker.find(target, question.clone()).await?;
            core.warm.keep(&[question], found.route.clone(), answer.clone(), false);
            (found, answer)
        }
    };
    if found.route.is_none() {
        found.route = core.asker.fetch_route(found.device, &found.record).await;
    }
    let name = match target {
        Target::Name(name) => Some(name.clone()),
        Target::Device(_) => None,
    };
    let Found { device, record, route } = found;
    Ok(Resolved { device, record, name, route, provenance: answer.provenance })
}

impl Core {
    /// What this question's answer said of the target, where it was proven before and still holds by our clock.
    pub(crate) async fn found_before(
        &self,
        target: &Target,
        question: &Question,
    ) -> Result<Option<(Found, Answer)>, ResolveError> {
        let kept = self.proven_before(std::slice::from_ref(question)).await;
        let Some((route, answer)) = kept.map_err(|error| ResolveError::unanswered(target, error))? else {
            return Ok(None);
        };
        // A denial that comes of something kept is asked again.
        let found = read_target(&self.asker.verifier, target, &answer.bundle, &[]).ok().and_then(Result::ok);
        Ok(found.map(|found| (Found { route, ..found }, answer)))
    }
}

impl Asker {
    /// Asks a question that leads to `target`'s device.
    pub(crate) async fn find(
        &self,
        target: &Target,
        question: Question,
    ) -> Result<(Found, Answer), ResolveError> {
        let read = |bundle: &VerifiedBundle, routes: &[SignedRoute]| {
            read_target(&self.verifier, target, bundle, routes)
        };
        let (outcome, answer) =
            self.ask(vec![question], read).await.map_err(|error| ResolveError::unanswered(target, error))?;
        match outcome {
            Ok(found) => Ok((found, answer)),
            Err(denial) => {
                let provenance = Box::new(answer.provenance);
                Err(ResolveError::Denied { target: target.clone(), denial, provenance })
            }
        }
    }

    /// Asks nodes for the newest valid route of a device; those without one say nothing.
    pub(crate) async fn fetch_route(&self, device: DeviceId, record: &DeviceRecord) -> Option<VerifiedRoute> {
        let nodes: Vec<Arc<Node>> = self.pool.ranked().into_iter().take(ROUTE_FETCHES).collect();
        let fetched = join_all(nodes.iter().map(|node| self.fetch_route_from(node, device, record))).await;
        fetched.into_iter().flatten().max_by_key(|route| route.route().seq)
    }

    async fn fetch_route_from(
        &self,
        node: &Node,
        device: DeviceId,
        record: &DeviceRecord,
    ) -> Option<VerifiedRoute> {
        let request = wire::encode(&RouteRequest::Fetch(device));
        let exchange = exchange(&self.control, node, names::ROUTE, &request, NODE_DEADLINE);
        let frame = timeout(NODE_DEADLINE, exchange).await.ok()?.ok()?;
        let signed = match wire::decode(&frame, MAX_ROUTE_MESSAGE_BYTES) {
            Ok(RouteResponse::Found(signed)) => signed,
            Ok(_) => return None,
            Err(error) => {
                self.pool.rejected(node, &Rejection::Malformed(error));
                return None;
            }
        };
        match believe(&self.verifier, &signed, device, record) {
            Ok(route) => route,
            Err(reason) => {
                self.pool.rejected(node, &reason);
                None
            }
        }
    }
}

fn read_target(
    verifier: &Verifier,
    target: &Target,
    bundle: &VerifiedBundle,
    routes: &[SignedRoute],
) -> Result<Result<Found, Denial>, Rejection> {
    let device = match target {
        Target::Device(id) => *id,
        Target::Name(name) => {
            let record = bundle.name(name.label_hash()).map_err(Rejection::Unproven)?;
            match name_target(record, bundle.head().header().timestamp, Some(verifier.now())) {
                Ok(id) => id,
                Err(denial) => return Ok(Err(denial.into())),
            }
        }
    };
    let Some(record) = bundle.device(device).map_err(Rejection::Unproven)? else {
        return Ok(Err(Denial::NotRegistered(device)));
    };
    let mut route: Option<VerifiedRoute> = None;
    for signed in routes {
        let believed = believe(verifier, signed, device, &record)?;
        let newest = route.as_ref().map(|route| route.route().seq);
        route = match believed {
            Some(other) if newest.is_none_or(|seq| other.route().seq > seq) => Some(other),
            _ => route,
        };
    }
    Ok(Ok(Found { device, record, route }))
}

/// Verifies a route that a node passed on. One past its life is as good as none, and so is one that the
/// device's earlier key signed: a rotation alone does that. Any other fault is the node's, which has to check
/// before it keeps a route.
fn believe(
    verifier: &Verifier,
    signed: &SignedRoute,
    device: DeviceId,
    record: &DeviceRecord,
) -> Result<Option<VerifiedRoute>, Rejection> {
    match verify_route(&verifier.spec(), signed, device, record, verifier.now()) {
        Ok(route) => Ok(Some(route)),
        Err(RouteError::Time(_) | RouteError::NotItsKey { .. }) => Ok(None),
        Err(error) => Err(Rejection::Route(error)),
    }
}
