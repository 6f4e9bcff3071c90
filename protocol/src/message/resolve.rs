//! `/windlass/resolve/1`: one request, one response, then the stream ends.

use crate::bundle::Bundle;
use crate::committee::CommitteeStep;
use crate::question::{MAX_QUESTIONS, Question};
use crate::route::SignedRoute;
use crate::spec::{MAX_COMMITTEE, MAX_SPEC_BYTES};
use crate::wire;
use alloc::string::String;
use alloc::vec::Vec;
use alloy_primitives::{B256, Bytes};
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

/// Most bytes of a request.
pub const MAX_REQUEST_BYTES: usize = 4_096;
/// Most routes in one answer: one per question that leads to a device.
pub const MAX_ROUTES: usize = MAX_QUESTIONS;
/// Most bytes of a refusal's explanation.
const MAX_TEXT_BYTES: usize = 256;

/// Questions, all answered under one head. RLP `[[question…]]`, or `[[], nonce]`. None asks for the head alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Request {
    /// At most [`MAX_QUESTIONS`].
    pub questions: Vec<Question>,
    /// What members have to sign now, with the head alone: whoever answers can't have had it ready.
    pub nonce: Option<B256>,
}

impl Request {
    /// Questions without a nonce.
    pub fn of(questions: Vec<Question>) -> Self {
        Self { questions, nonce: None }
    }
}

impl Encodable for Request {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(1 + usize::from(self.nonce.is_some())).append_list(&self.questions);
        if let Some(nonce) = &self.nonce {
            s.append(&nonce.as_slice());
        }
    }
}

impl Decodable for Request {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 1)?;
        let nonce = f.get(1).map(wire::word).transpose()?;
        Ok(Self { questions: wire::list(&f[0], MAX_QUESTIONS)?, nonce })
    }
}

/// A node's answer: RLP `[0, bundle, [route…]]`, `[1, reason, text]`, `[2, step…]` or `[3, signed spec]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    /// Proofs of every slot the questions expand to, and the routes of the devices they lead to, where the
    /// node holds one.
    Proven {
        /// Head and proofs.
        bundle: Bundle,
        /// Unverified until checked against the proven record.
        routes: Vec<SignedRoute>,
    },
    /// To a question of a committee: how to walk towards it.
    Step(CommitteeStep),
    /// To a question of the chain spec: the newest one the node was given, as its publisher signed it, unverified; empty
    /// where it is not above the version asked with.
    Spec(Bytes),
    /// No answer.
    Refused {
        /// Why.
        reason: Reason,
        /// For people.
        text: String,
    },
}

/// Why a node does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// 1: it can't prove anything yet, or any more.
    #[error("the node has no attested head to prove under")]
    NotReady,
    /// 2: the answer would not fit one bundle.
    #[error("the answer is larger than one bundle")]
    TooLarge,
    /// 3: too many requests.
    #[error("too many requests")]
    RateLimited,
    /// 4: the request made no sense.
    #[error("the node did not understand the request")]
    Malformed,
    /// Any other number: of a later version.
    #[error("the node refused for an unknown reason")]
    Unknown,
}

impl Reason {
    fn code(self) -> u8 {
        match self {
            Self::NotReady => 1,
            Self::TooLarge => 2,
            Self::RateLimited => 3,
            Self::Malformed => 4,
            Self::Unknown => 255,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::NotReady,
            2 => Self::TooLarge,
            3 => Self::RateLimited,
            4 => Self::Malformed,
            _ => Self::Unknown,
        }
    }
}

impl Encodable for Response {
    fn rlp_append(&self, s: &mut RlpStream) {
        match self {
            Self::Proven { bundle, routes } => {
                s.begin_list(3).append(&0u8).append(bundle).append_list(routes);
            }
            Self::Refused { reason, text } => {
                s.begin_list(3).append(&1u8).append(&reason.code()).append(text);
            }
            Self::Step(step) => {
                s.begin_list(4).append(&2u8).append(&step.bundle).append(&step.last);
                wire::append_slices(s, &step.members);
            }
            Self::Spec(signed) => {
                s.begin_list(2).append(&3u8).append(&signed.as_ref());
            }
        }
    }
}

impl Decodable for Response {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 2)?;
        let field = |index: usize| f.get(index).ok_or(DecoderError::RlpIncorrectListLen);
        match f[0].as_val::<u8>()? {
            0 => Ok(Self::Proven { bundle: f[1].as_val()?, routes: wire::list(field(2)?, MAX_ROUTES)? }),
            1 if field(2)?.data()?.len() > MAX_TEXT_BYTES => Err(DecoderError::RlpIsTooBig),
            1 => Ok(Self::Refused { reason: Reason::from_code(f[1].as_val()?), text: field(2)?.as_val()? }),
            2 => {
                let members = wire::addresses(field(3)?, MAX_COMMITTEE)?;
                Ok(Self::Step(CommitteeStep { bundle: f[1].as_val()?, last: field(2)?.as_val()?, members }))
            }
            3 if f[1].data()?.len() > MAX_SPEC_BYTES => Err(DecoderError::RlpIsTooBig),
            3 => Ok(Self::Spec(Bytes::copy_from_slice(f[1].data()?))),
            _ => Err(DecoderError::Custom("an unknown kind of response")),
        }
    }
}
