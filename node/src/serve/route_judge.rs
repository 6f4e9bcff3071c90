//! Which route is one: signed by the key that an active device uses now, by the served head. It keeps none.

use super::{AnswerError, Answers};
use std::sync::Arc;
use windlass_protocol::DeviceId;
use windlass_protocol::message::route::RouteRefusal;
use windlass_protocol::route::{RouteError, SignedRoute, VerifiedRoute, verify_route};
use windlass_protocol::spec::VerifiedSpec;

/// See the module.
#[derive(Clone)]
pub struct RouteJudge {
    spec: Arc<VerifiedSpec>,
    answers: Answers,
}

impl RouteJudge {
    /// By what these answers are proven with.
    pub fn new(spec: Arc<VerifiedSpec>, answers: Answers) -> Self {
        Self { spec, answers }
    }

    /// Verifies a route of whichever device it claims to be of, or says why it is none. Reads the disk: call it where
    /// blocking is allowed.
    pub fn verify(
        &self,
        signed: &SignedRoute,
        now: u64,
    ) -> Result<Result<VerifiedRoute, RouteRefusal>, AnswerError> {
        let Ok(claimed) = signed.claimed() else { return Ok(Err(RouteRefusal::Invalid)) };
        let record = self.answers.device(claimed.device)?;
        let Some(record) = record.filter(|record| self.answers.is_active(record, now)) else {
            return Ok(Err(RouteRefusal::NotActive));
        };
        Ok(verify_route(&self.spec, signed, claimed.device, &record, now).map_err(|error| match error {
            RouteError::NotItsKey { .. } => RouteRefusal::NotActive,
            _ => RouteRefusal::Invalid,
        }))
    }

    /// Whether the registry knows this device as active; `false` where that can't be told now. Reads the disk.
    pub fn is_active(&self, device: DeviceId, now: u64) -> bool {
        let record = self.answers.device(device).ok().flatten();
        record.is_some_and(|record| self.answers.is_active(&record, now))
    }
}
