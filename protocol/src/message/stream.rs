//! `/windlass/stream/1`: the caller's open frame, the device's reply, then raw bytes with half-close.

use crate::address::DeviceId;
use crate::authorise::{Claim, Refusal};
use crate::bundle::{Bundle, MAX_STAPLE_BYTES};
use crate::question::service;
use crate::service::Service;
use crate::wire;
use alloy_primitives::Address;
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

/// Most bytes of an open frame: a staple and the fields before it.
pub const MAX_OPEN_BYTES: usize = MAX_STAPLE_BYTES + 256;
/// Most bytes of a reply.
pub const MAX_REPLY_BYTES: usize = 64;

/// What a caller asks for. RLP `[service, claim, device, streamId, offset, staple]`; claim is 0 unenrolled
/// (device empty), 1 a device, 2 + n a device with the n-th candidate grant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// The service.
    pub service: Service,
    /// What the caller states about itself.
    pub claim: Claim,
    /// Names the stream, for resuming later; 0 today.
    pub stream_id: u64,
    /// Bytes already received, for resuming later; 0 today.
    pub offset: u64,
    /// The proofs of the claim: two slots at most.
    pub staple: Bundle,
}

/// RLP `[code]`: 0 accepted, otherwise a [`Refusal`]'s code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Raw bytes follow.
    Accepted,
    /// No.
    Refused(Refusal),
    /// No, with a code of a later version.
    RefusedUnknown(u8),
}

impl Encodable for Open {
    fn rlp_append(&self, s: &mut RlpStream) {
        let (code, device) = match self.claim {
            Claim::Unenrolled => (0u8, None),
            Claim::Device(id) => (1, Some(id)),
            Claim::Granted(id, place) => (place.saturating_add(2), Some(id)),
        };
        s.begin_list(6).append(&self.service.number()).append(&code);
        s.append(&device.as_ref().map_or(&[][..], |id| id.0.as_slice()));
        s.append(&self.stream_id).append(&self.offset).append(&self.staple);
    }
}

impl Decodable for Open {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 6)?;
        let device = || -> Result<DeviceId, DecoderError> {
            let address: Address = wire::address(&f[2])?;
            Ok(DeviceId(address))
        };
        let claim = match f[1].as_val::<u8>()? {
            0 => Claim::Unenrolled,
            1 => Claim::Device(device()?),
            code => Claim::Granted(device()?, code - 2),
        };
        Ok(Self {
            service: service(&f[0])?,
            claim,
            stream_id: f[3].as_val()?,
            offset: f[4].as_val()?,
            staple: f[5].as_val()?,
        })
    }
}

impl Encodable for Reply {
    fn rlp_append(&self, s: &mut RlpStream) {
        let code = match self {
            Self::Accepted => 0,
            Self::Refused(refusal) => refusal.code(),
            Self::RefusedUnknown(code) => *code,
        };
        s.begin_list(1).append(&code);
    }
}

impl Decodable for Reply {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let code: u8 = wire::fields(rlp, 1)?[0].as_val()?;
        Ok(match (code, Refusal::from_code(code)) {
            (0, _) => Self::Accepted,
            (_, Some(refusal)) => Self::Refused(refusal),
            (code, None) => Self::RefusedUnknown(code),
        })
    }
}
