//! From questions to a proven response, under one head.
//!
//! The questions are expanded over the mirror exactly as the client expands them over the proofs. Nothing
//! here knows about streams or peers.

use super::{RouteBook, Served};
use crate::head::{KnownLineage, ServedHead, steps};
use crate::spec_file::NewestSpec;
use crate::store::{Store, StoreError, ViewError};
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_protocol::bundle::{Bundle, MAX_BUNDLE_BYTES, MAX_BUNDLE_SLOTS};
use windlass_protocol::message::MAX_FRAME;
use windlass_protocol::message::resolve::{MAX_ROUTES, Reason, Response};
use windlass_protocol::question::{ExpandError, Question, Target, name_target};
use windlass_protocol::record::{DeviceRecord, DeviceStatus, KeyRecord, NameRecord, expired};
use windlass_protocol::route::MAX_ROUTE_BYTES;
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::{B256, Bytes, DeviceId, KeyAddress, wire};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// Nothing can be proven now.
    #[error("this node has no attested head to prove under")]
    NotReady,
    /// More than one bundle holds.
    #[error("the answer is larger than one bundle: ask less at once")]
    TooLarge,
    /// A question of a committee or of the chain spec among others.
    #[error("a committee, or the chain spec, is asked for in a request of its own")]
    NotAlone,
    /// No head that proves who is in office in this epoch.
    #[error("this node keeps no head that leads to the committee of epoch {0}")]
    NoStep(u32),
    /// The mirror couldn't be read.
    #[error(transparent)]
    View(#[from] ViewError),
}

impl AnswerError {
    /// The refusal to send.
    pub fn refusal(&self) -> Response {
        let (reason, text) = match self {
            Self::NotReady => (Reason::NotReady, self.to_string()),
            Self::NoStep(_) => (Reason::NotReady, self.to_string()),
            Self::NotAlone => (Reason::Malformed, self.to_string()),
            Self::TooLarge => (Reason::TooLarge, self.to_string()),
            // What is wrong with our disk is nobody else's business.
            Self::View(_) => (Reason::NotReady, "this node can't read its mirror".to_owned()),
        };
        Response::Refused { reason, text }
    }
}

impl From<StoreError> for AnswerError {
    fn from(error: StoreError) -> Self {
        Self::View(error.into())
    }
}

/// Answers from the mirror, and from the routes that devices published.
#[derive(Clone)]
pub struct Answers {
    store: Arc<Store>,
    spec: Arc<VerifiedSpec>,
    served: Served,
    lineage: KnownLineage,
    routes: Arc<RouteBook>,
    /// `None` where nothing newer than `spec` will be given.
    newest: Option<NewestSpec>,
}

/// What an expansion ran into.
enum Stop {
    TooManySlots,
    Store(StoreError),
}

impl Answers {
    /// Answers under whatever head is served when they are asked for.
    pub fn new(
        store: Arc<Store>,
        spec: Arc<VerifiedSpec>,
        served: Served,
        lineage: KnownLineage,
        routes: Arc<RouteBook>,
    ) -> Self {
        Self { store, spec, served, lineage, routes, newest: None }
    }

    /// Passes on the newest spec of these.
    pub fn with_newest(self, newest: NewestSpec) -> Self {
        Self { newest: Some(newest), ..self }
    }

    /// The head that is served now.
    pub fn served(&self) -> Option<Arc<ServedHead>> {
        self.served.borrow().clone()
    }

    /// Sees every change of the served head.
    pub fn subscribe(&self) -> Served {
        self.served.clone()
    }

    /// Answers questions. Reads the disk: call it where blocking is allowed.
    pub fn respond(&self, questions: &[Question], now: u64) -> Result<Response, AnswerError> {
        if questions.iter().any(|question| matches!(question, Question::Spec(_))) {
            return self.spec(questions);
        }
        let head = self.served().ok_or(AnswerError::NotReady)?;
        if questions.iter().any(|question| matches!(question, Question::Committee(_))) {
            return self.step(&head, questions);
        }
        match self.respond_under(&head, questions, now) {
            // The window moved on while we read: once more, under the newest head.
            Err(AnswerError::View(ViewError::Gone(_))) => {
                let head = self.served().ok_or(AnswerError::NotReady)?;
                self.respond_under(&head, questions, now)
            }
            other => other,
        }
    }

    /// How to walk to the committee of an epoch. Comes under another head than anything else, so it is asked for alone.
    fn step(&self, head: &ServedHead, questions: &[Question]) -> Result<Response, AnswerError> {
        let [Question::Committee(epoch)] = questions else { return Err(AnswerError::NotAlone) };
        let lineage = self.lineage.borrow().clone();
        let step = steps::towards(&self.store, &self.spec, &lineage, head, *epoch)?;
        step.map(Response::Step).ok_or(AnswerError::NoStep(*epoch))
    }

    /// The newest spec, which needs neither head nor mirror: whoever asks for it may have no committee to believe.
    fn spec(&self, questions: &[Question]) -> Result<Response, AnswerError> {
        let [Question::Spec(version)] = questions else { return Err(AnswerError::NotAlone) };
        let newest = self.newest.as_ref().map(|newest| newest.borrow().clone());
        let newest = newest.as_ref().unwrap_or(&self.spec);
        let is_news = newest.version > *version;
        Ok(Response::Spec(if is_news { newest.to_bytes().into() } else { Bytes::new() }))
    }

    fn respond_under(
        &self,
        head: &ServedHead,
        questions: &[Question],
        now: u64,
    ) -> Result<Response, AnswerError> {
        let values = self.expand(head, questions)?;
        let slots: Vec<Slot> = values.keys().copied().collect();
        let bundle = self.prove(head, &slots)?;
        let mut room = MAX_FRAME - rlp::encode(&bundle).len();
        let mut routes = Vec::new();
        for device in targets(questions, &values, head.header.timestamp) {
            // A route that finds no room can still be asked for by itself.
            let Some(route) = self.routes.newest(device, now)?.filter(|_| room > 2 * MAX_ROUTE_BYTES) else {
                continue;
            };
            room -= MAX_ROUTE_BYTES;
            if routes.len() < MAX_ROUTES && !routes.contains(&route) {
                routes.push(route);
            }
        }
        Ok(Response::Proven { bundle, routes })
    }

    /// Every slot the questions lead to, with its value.
    fn expand(&self, head: &ServedHead, questions: &[Question]) -> Result<BTreeMap<Slot, B256>, AnswerError> {
        let view = head.view(&self.store);
        let mut values = BTreeMap::new();
        for question in questions {
            let mut lookup = |slot: Slot| {
                if let Some(value) = values.get(&slot) {
                    return Ok(*value);
                }
                if values.len() == MAX_BUNDLE_SLOTS {
                    return Err(Stop::TooManySlots);
                }
                let value = view.slot(slot).map_err(Stop::Store)?;
                values.insert(slot, value);
                Ok(value)
            };
            match question.expand(head.header.timestamp, &mut lookup) {
                // A record outside the layout is proven as it is: the client sees for itself.
                Ok(()) | Err(ExpandError::Record(_)) => {}
                Err(ExpandError::Lookup(Stop::TooManySlots)) => return Err(AnswerError::TooLarge),
                Err(ExpandError::Lookup(Stop::Store(error))) => return Err(error.into()),
            }
        }
        view.check()?;
        Ok(values)
    }

    /// A bundle of these slots that fits a frame.
    pub fn prove(&self, head: &ServedHead, slots: &[Slot]) -> Result<Bundle, AnswerError> {
        let bundle = head.prove(&self.store, slots)?;
        match wire::encode(&bundle).len() {
            bytes if bytes > MAX_BUNDLE_BYTES => Err(AnswerError::TooLarge),
            _ => Ok(bundle),
        }
    }

    /// The device that uses this key, by the served head.
    pub fn device_of_key(&self, key: KeyAddress) -> Result<Option<(DeviceId, DeviceRecord)>, AnswerError> {
        let head = self.served().ok_or(AnswerError::NotReady)?;
        let view = head.view(&self.store);
        let rotated = KeyRecord::decode(&view.slot(Slot::KeyOf(key))?).ok().flatten();
        let id = rotated.map_or(key.as_first_key(), |record| record.device);
        let record = DeviceRecord::decode(&view.slot(Slot::Device(id))?).ok().flatten();
        view.check()?;
        Ok(record.filter(|record| record.key == key).map(|record| (id, record)))
    }

    /// The device's record, by the served head.
    pub fn device(&self, id: DeviceId) -> Result<Option<DeviceRecord>, AnswerError> {
        let head = self.served().ok_or(AnswerError::NotReady)?;
        let view = head.view(&self.store);
        let record = DeviceRecord::decode(&view.slot(Slot::Device(id))?).ok().flatten();
        view.check()?;
        Ok(record)
    }

    /// Whether a device is in use, by the served head and our clock.
    pub fn is_active(&self, record: &DeviceRecord, now: u64) -> bool {
        let timestamp = self.served().map_or(0, |head| head.header.timestamp);
        record.status == DeviceStatus::Active && !expired(record.valid_until, timestamp, Some(now))
    }
}

/// The devices that the questions lead to.
fn targets(questions: &[Question], values: &BTreeMap<Slot, B256>, timestamp: u64) -> Vec<DeviceId> {
    let device = |target: &Target| match target {
        Target::Device(id) => Some(*id),
        Target::Name(name) => {
            let record = NameRecord::decode(values.get(&Slot::Name(name.label_hash()))?).ok()?;
            name_target(record, timestamp, None).ok()
        }
    };
    let target = |question: &Question| match question {
        Question::Target(target) | Question::Open { target, .. } => device(target),
        _ => None,
    };
    questions.iter().filter_map(target).collect()
}
