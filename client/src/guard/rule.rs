//! By which rules a stream may live, judged over evidence.

use std::sync::Arc;
use windlass_protocol::{
    DeviceId, KeyAddress, Service,
    authorise::{Ask, Authorisation, Claim, Mode, Policy, Refusal, authorise, authorise_callee},
    evidence::Evidence,
};

/// By which rules a stream may live.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    /// Somebody opened a service of ours.
    Inbound { policy: Arc<Policy>, service: Service, own: Own, key: KeyAddress, claim: Claim },
    /// We opened a service of `target`'s; `own` is who we are if we are enrolled.
    Outbound { target: DeviceId, key: KeyAddress, own: Option<Own>, max_age: u64 },
}

/// This device, and the key it acts with: rotated away, it is nobody's.
pub(crate) type Own = (DeviceId, KeyAddress);

impl Rule {
    /// By what is proven, and no less by what is said of blocks that aren't final yet: that can only deny.
    pub(super) fn judge(&self, evidence: &Evidence, now: u64) -> Result<Authorisation, Refusal> {
        let authorisation = self.judge_by(evidence, now)?;
        if let Some(doubted) = evidence.if_doubts_are_true(&authorisation.slots) {
            self.judge_by(&doubted, now)?;
        }
        Ok(authorisation)
    }

    /// Whether it lets in whoever asks.
    pub(crate) fn is_for_anyone(&self) -> bool {
        matches!(self, Self::Inbound { policy, .. } if matches!(policy.mode, Mode::Public))
    }

    fn judge_by(&self, evidence: &Evidence, now: u64) -> Result<Authorisation, Refusal> {
        match self {
            Self::Inbound { policy, service, own, key, claim } => {
                let (own, own_key) = *own;
                let ask = Ask { policy, service: *service, own, own_key, key: *key, claim: *claim };
                authorise(&ask, evidence, now)
            }
            Self::Outbound { target, key, own, max_age } => {
                authorise_callee(*target, *key, *own, *max_age, evidence, now)
            }
        }
    }

    /// Who is at the other end, and our service if it is one.
    pub(super) fn other_end(&self) -> (DeviceId, Option<Service>) {
        match self {
            Self::Inbound { claim, key, service, .. } => (claim.device(*key), Some(*service)),
            Self::Outbound { target, .. } => (*target, None),
        }
    }

    /// Whether this is a caller's stream to `service` of ours.
    pub(super) fn serves(&self, wanted: Service) -> bool {
        matches!(self, Self::Inbound { service, .. } if *service == wanted)
    }

    pub(super) fn max_age(&self) -> u64 {
        match self {
            Self::Inbound { policy, .. } => policy.max_age,
            Self::Outbound { max_age, .. } => *max_age,
        }
    }
}
