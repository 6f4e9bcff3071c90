//! `/windlass/route/1`: a device publishes where it is; anyone asks where a device is.

use crate::address::DeviceId;
use crate::route::{MAX_ROUTE_BYTES, SignedRoute};
use crate::wire;
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

/// Most bytes of a frame of this protocol.
pub const MAX_ROUTE_MESSAGE_BYTES: usize = MAX_ROUTE_BYTES + 64;

/// RLP `[0, route]` or `[1, device]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteRequest {
    /// Keep this route.
    Publish(SignedRoute),
    /// Which route do you hold?
    Fetch(DeviceId),
}

/// RLP `[0]`, `[1, route]`, `[2]` or `[3, reason]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteResponse {
    /// The route is kept, or an equal or newer one is.
    Kept,
    /// The newest route held.
    Found(SignedRoute),
    /// None is held.
    NotFound,
    /// The route was not kept.
    Refused(RouteRefusal),
}

/// Why a node keeps no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteRefusal {
    /// 1: wrong chain, expired, or not decodable.
    #[error("the node found the route invalid")]
    Invalid,
    /// 2: the device is not active, or the signature is not its key's.
    #[error("the node found no such active device under the signing key")]
    NotActive,
    /// 3: too many requests, or no room.
    #[error("the node is busy")]
    Busy,
    /// Any other number: of a later version.
    #[error("the node refused the route for an unknown reason")]
    Unknown,
}

impl RouteRefusal {
    fn code(self) -> u8 {
        match self {
            Self::Invalid => 1,
            Self::NotActive => 2,
            Self::Busy => 3,
            Self::Unknown => 255,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Invalid,
            2 => Self::NotActive,
            3 => Self::Busy,
            _ => Self::Unknown,
        }
    }
}

impl Encodable for RouteRequest {
    fn rlp_append(&self, s: &mut RlpStream) {
        match self {
            Self::Publish(route) => s.begin_list(2).append(&0u8).append(route),
            Self::Fetch(device) => s.begin_list(2).append(&1u8).append(&device.0.as_slice()),
        };
    }
}

impl Decodable for RouteRequest {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 2)?;
        match f[0].as_val::<u8>()? {
            0 => Ok(Self::Publish(f[1].as_val()?)),
            1 => Ok(Self::Fetch(DeviceId(wire::address(&f[1])?))),
            _ => Err(DecoderError::Custom("an unknown kind of route request")),
        }
    }
}

impl Encodable for RouteResponse {
    fn rlp_append(&self, s: &mut RlpStream) {
        match self {
            Self::Kept => s.begin_list(1).append(&0u8),
            Self::Found(route) => s.begin_list(2).append(&1u8).append(route),
            Self::NotFound => s.begin_list(1).append(&2u8),
            Self::Refused(refusal) => s.begin_list(2).append(&3u8).append(&refusal.code()),
        };
    }
}

impl Decodable for RouteResponse {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 1)?;
        let second = || f.get(1).ok_or(DecoderError::RlpIncorrectListLen);
        match f[0].as_val::<u8>()? {
            0 => Ok(Self::Kept),
            1 => Ok(Self::Found(second()?.as_val()?)),
            2 => Ok(Self::NotFound),
            3 => Ok(Self::Refused(RouteRefusal::from_code(second()?.as_val()?))),
            _ => Err(DecoderError::Custom("an unknown kind of route response")),
        }
    }
}
