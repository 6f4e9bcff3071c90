//! The messages of circuit relay v2 that a relay reads and writes, byte by byte as the libp2p specification has them
//! (`relay/circuit-v2.md`): protobuf, each message one frame. Nothing here decides anything.
//!
//! Fields we have no use for, and fields nobody has heard of, are skipped; of a field that comes twice the last counts.

use libp2p::{Multiaddr, PeerId};

use crate::protobuf::{Fields, Malformed, Value, put_bytes, put_number};

/// Bytes of one message: those of a reservation, which names addresses and carries a voucher, have a few hundred.
pub const MAX_MESSAGE: usize = 4096;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Granted.
    Ok,
    /// No reservation here.
    ReservationRefused,
    /// As much as there may be at a time, or too much in too short a time.
    ResourceLimitExceeded,
    /// Not for this peer.
    PermissionDenied,
    /// The other device doesn't answer.
    ConnectionFailed,
    /// The other device has no reservation here.
    NoReservation,
    /// Not to be understood.
    MalformedMessage,
    /// Understood, and out of place.
    UnexpectedMessage,
}

impl Status {
    /// The number on the wire.
    pub fn code(self) -> u64 {
        match self {
            Self::Ok => 100,
            Self::ReservationRefused => 200,
            Self::ResourceLimitExceeded => 201,
            Self::PermissionDenied => 202,
            Self::ConnectionFailed => 203,
            Self::NoReservation => 204,
            Self::MalformedMessage => 400,
            Self::UnexpectedMessage => 401,
        }
    }
}

/// What a peer asks of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HopRequest {
    /// To be reachable through it.
    Reserve,
    /// A circuit to this peer.
    Connect(PeerId),
}

/// Why a message can't be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// No protobuf, or a field that must be there isn't.
    #[error("the message is malformed")]
    Malformed,
    /// A message that the other side sends.
    #[error("the message is out of place")]
    Unexpected,
}

impl From<Malformed> for WireError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl WireError {
    /// What the sender is told.
    pub fn status(self) -> Status {
        match self {
            Self::Malformed => Status::MalformedMessage,
            Self::Unexpected => Status::UnexpectedMessage,
        }
    }
}

fn peer_of(message: &[u8]) -> Result<PeerId, WireError> {
    let mut fields = Fields::of(message);
    let mut peer = None;
    while let Some((field, value)) = fields.next()? {
        if let (1, Value::Bytes(id)) = (field, value) {
            peer = Some(PeerId::from_bytes(id).map_err(|_| WireError::Malformed)?);
        }
    }
    peer.ok_or(WireError::Malformed)
}

impl HopRequest {
    /// Reads what a peer sent on a stream of the hop protocol.
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::of(message);
        let (mut kind, mut peer) = (None, None);
        while let Some((field, value)) = fields.next()? {
            match (field, value) {
                (1, Value::Number(number)) => kind = Some(number),
                (2, Value::Bytes(bytes)) => peer = Some(bytes),
                (1 | 2, _) => return Err(WireError::Malformed),
                _ => {}
            }
        }
        match kind.ok_or(WireError::Malformed)? {
            0 => Ok(Self::Reserve),
            1 => peer_of(peer.ok_or(WireError::Malformed)?).map(Self::Connect),
            _ => Err(WireError::Unexpected),
        }
    }
}

/// A reservation as a relay grants it.
#[derive(Debug)]
pub struct Granted {
    /// Unix seconds.
    pub expires: u64,
    /// Where the relay is, each ending in its peer id.
    pub addresses: Vec<Multiaddr>,
    /// A signed envelope that says the same to third parties; empty for none.
    pub voucher: Vec<u8>,
}

/// Type `STATUS` of a hop message.
const HOP_STATUS: u64 = 2;

/// The answer to a granted reservation. Without a `limit`: circuits here have none in total.
pub(super) fn granted(reservation: &Granted) -> Vec<u8> {
    let mut inner = Vec::new();
    put_number(&mut inner, 1, reservation.expires);
    for address in &reservation.addresses {
        put_bytes(&mut inner, 2, &address.to_vec());
    }
    if !reservation.voucher.is_empty() {
        put_bytes(&mut inner, 3, &reservation.voucher);
    }
    let mut message = Vec::new();
    put_number(&mut message, 1, HOP_STATUS);
    put_bytes(&mut message, 3, &inner);
    put_number(&mut message, 5, Status::Ok.code());
    message
}

/// The answer to a circuit, or a refusal of anything.
pub(super) fn hop_status(status: Status) -> Vec<u8> {
    let mut message = Vec::new();
    put_number(&mut message, 1, HOP_STATUS);
    put_number(&mut message, 5, status.code());
    message
}

/// Tells a device that `from` wants a circuit to it.
pub(super) fn stop_connect(from: &PeerId) -> Vec<u8> {
    let mut peer = Vec::new();
    put_bytes(&mut peer, 1, &from.to_bytes());
    let mut message = Vec::new();
    put_number(&mut message, 1, 0);
    put_bytes(&mut message, 2, &peer);
    message
}

/// Reads what a device answered: the number of a status, whichever it is.
pub(super) fn stop_status(message: &[u8]) -> Result<u64, WireError> {
    let mut fields = Fields::of(message);
    let (mut kind, mut status) = (None, None);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Number(number)) => kind = Some(number),
            (4, Value::Number(number)) => status = Some(number),
            (1 | 4, _) => return Err(WireError::Malformed),
            _ => {}
        }
    }
    match (kind, status) {
        (Some(1), Some(status)) => Ok(status),
        (Some(0), _) => Err(WireError::Unexpected),
        _ => Err(WireError::Malformed),
    }
}

/// The payload of a voucher: `relay` keeps a place for `peer` until `expires`.
pub(super) fn voucher(relay: &PeerId, peer: &PeerId, expires: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    put_bytes(&mut payload, 1, &relay.to_bytes());
    put_bytes(&mut payload, 2, &peer.to_bytes());
    put_number(&mut payload, 3, expires);
    payload
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn peer() -> PeerId {
        let secret = windlass_protocol::SecretKey::from_bytes(&[9; 32]).unwrap();
        crate::identity::peer_id_of(&secret.public_key())
    }

    fn connect(id: &[u8]) -> Vec<u8> {
        let mut inner = Vec::new();
        put_bytes(&mut inner, 1, id);
        put_bytes(&mut inner, 2, b"an address nobody needs");
        let mut message = Vec::new();
        put_number(&mut message, 1, 1);
        put_bytes(&mut message, 2, &inner);
        message
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(hop_status(Status::Ok), [0x08, 2, 0x28, 100]);
        assert_eq!(hop_status(Status::NoReservation), [0x08, 2, 0x28, 0xcc, 0x01]);
        let reservation = Granted {
            expires: 300,
            addresses: vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()],
            voucher: vec![7],
        };
        let inner = [0x08, 0xac, 2, 0x12, 8, 4, 127, 0, 0, 1, 6, 0, 1, 0x1a, 1, 7];
        let expected = [&[0x08, 2, 0x1a, 16][..], &inner, &[0x28, 100]].concat();
        assert_eq!(granted(&reservation), expected);
        let id = peer().to_bytes();
        assert_eq!(
            stop_connect(&peer()),
            [&[0x08, 0, 0x12, 2 + id.len() as u8, 0x0a, id.len() as u8], &id[..]].concat()
        );
    }

    #[test]
    fn requests_are_read_and_unknown_fields_are_skipped() {
        assert_eq!(HopRequest::decode(&[0x08, 0]), Ok(HopRequest::Reserve));
        assert_eq!(HopRequest::decode(&connect(&peer().to_bytes())), Ok(HopRequest::Connect(peer())));
        let mut strange = vec![];
        put_number(&mut strange, 99, 5);
        put_bytes(&mut strange, 98, b"new");
        strange.extend_from_slice(&[0x89, 6, 1, 2, 3, 4, 5, 6, 7, 8]);
        strange.extend_from_slice(&connect(&peer().to_bytes()));
        assert_eq!(HopRequest::decode(&strange), Ok(HopRequest::Connect(peer())));
        assert_eq!(stop_status(&[0x08, 1, 0x20, 100]), Ok(100));
    }

    #[test]
    fn whatever_is_wrong_has_its_status() {
        let malformed: [&[u8]; 9] = [
            &[],
            &[0x28, 100],
            &[0x08],
            &[0x08, 1],
            &[0x0a, 1, 0],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0x08, 1, 0x12, 0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0x0b, 0x0c],
            &connect(&[1, 2, 3]),
        ];
        for message in malformed {
            assert_eq!(HopRequest::decode(message), Err(WireError::Malformed), "{message:x?}");
        }
        assert_eq!(HopRequest::decode(&hop_status(Status::Ok)), Err(WireError::Unexpected));
        assert_eq!(HopRequest::decode(&[0x08, 77]), Err(WireError::Unexpected));
        assert_eq!(stop_status(&stop_connect(&peer())), Err(WireError::Unexpected));
        assert_eq!(stop_status(&[0x08, 1]), Err(WireError::Malformed));
    }

    proptest! {
        #[test]
        fn never_panics(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = HopRequest::decode(&message);
            let _ = stop_status(&message);
        }
    }
}
