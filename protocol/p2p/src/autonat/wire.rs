//! The messages of AutoNAT v2, each one frame.

use libp2p::Multiaddr;

use crate::{
    frame::FrameError,
    limits::PUNCH_ADDRESSES,
    protobuf::{Fields, Malformed, Value, put_bytes, put_fixed64, put_number},
};

/// Bytes of a message, as other implementations have it; 4 KiB of data and its frame.
pub(super) const MAX_MESSAGE: usize = 4104;

/// Bytes of what is said on the way back, padded as other encoders may.
pub(super) const MAX_DIAL_BACK: usize = 64;

/// Response statuses.
const REJECTED: u64 = 100;
const REFUSED: u64 = 101;
const OK: u64 = 200;

/// Dial statuses.
const DIAL_ERROR: u64 = 100;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum AutonatError {
    /// The stream.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No message of this protocol, or not the one whose turn it is.
    #[error("the other side doesn't keep to AutoNAT v2")]
    Protocol,
}

impl From<Malformed> for AutonatError {
    fn from(_: Malformed) -> Self {
        Self::Protocol
    }
}

/// What is asked: addresses, the one that matters most first, and what to say there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) nonce: u64,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// The server can't tell.
    Internal,
    /// Not now, or not for this peer.
    Rejected,
    /// None of these addresses is dialled.
    Refused,
    /// The address at this place was.
    Dialled { index: usize, reached: bool },
    /// The server wants bytes before it dials; ours doesn't.
    WantsData,
}

pub(super) fn encode_request(addresses: &[Multiaddr], nonce: u64) -> Vec<u8> {
    let mut request = Vec::new();
    for address in addresses {
        put_bytes(&mut request, 1, &address.to_vec());
    }
    put_fixed64(&mut request, 2, nonce);
    let mut message = Vec::new();
    put_bytes(&mut message, 1, &request);
    message
}

/// Addresses that are none keep their place, since the answer names one by it: they are dialled by nobody.
pub(super) fn decode_request(message: &[u8]) -> Result<Request, AutonatError> {
    let mut fields = Fields::of(only(message, 1)?);
    let (mut addresses, mut nonce) = (Vec::new(), None);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Bytes(bytes)) if addresses.len() < PUNCH_ADDRESSES => {
                addresses.push(Multiaddr::try_from(bytes.to_vec()).unwrap_or_else(|_| Multiaddr::empty()));
            }
            (1, Value::Bytes(_)) => {}
            (2, Value::Fixed64(number)) => nonce = Some(number),
            (1 | 2, _) => return Err(AutonatError::Protocol),
            _ => {}
        }
    }
    // proto3 leaves out what is zero.
    Ok(Request { addresses, nonce: nonce.unwrap_or_default() })
}

pub(super) fn encode_reply(reply: Reply) -> Vec<u8> {
    let (status, index, dial) = match reply {
        Reply::Internal | Reply::WantsData => (0, 0, 0),
        Reply::Rejected => (REJECTED, 0, 0),
        Reply::Refused => (REFUSED, 0, 0),
        Reply::Dialled { index, reached } => (OK, index as u64, if reached { OK } else { DIAL_ERROR }),
    };
    let mut response = Vec::new();
    for (field, value) in [(1, status), (2, index), (3, dial)] {
        if value != 0 {
            put_number(&mut response, field, value);
        }
    }
    let mut message = Vec::new();
    put_bytes(&mut message, 2, &response);
    message
}

pub(super) fn decode_reply(message: &[u8]) -> Result<Reply, AutonatError> {
    if only(message, 3).is_ok() {
        return Ok(Reply::WantsData);
    }
    let mut fields = Fields::of(only(message, 2)?);
    let mut numbers = [0; 4];
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1..=3, Value::Number(number)) => numbers[field as usize] = number,
            (1..=3, _) => return Err(AutonatError::Protocol),
            _ => {}
        }
    }
    let [_, status, index, dial] = numbers;
    Ok(match status {
        OK => Reply::Dialled {
            index: usize::try_from(index).map_err(|_| AutonatError::Protocol)?,
            reached: dial == OK,
        },
        REFUSED => Reply::Refused,
        REJECTED => Reply::Rejected,
        _ => Reply::Internal,
    })
}

pub(super) fn encode_dial_back(nonce: u64) -> Vec<u8> {
    let mut message = Vec::new();
    put_fixed64(&mut message, 1, nonce);
    message
}

pub(super) fn decode_dial_back(message: &[u8]) -> Result<u64, AutonatError> {
    let mut fields = Fields::of(message);
    let mut nonce = 0;
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Fixed64(number)) => nonce = number,
            (1, _) => return Err(AutonatError::Protocol),
            _ => {}
        }
    }
    Ok(nonce)
}

/// The message that stands in this field.
fn only(message: &[u8], wanted: u64) -> Result<&[u8], AutonatError> {
    let mut fields = Fields::of(message);
    let mut found = None;
    while let Some((field, value)) = fields.next()? {
        if let (true, Value::Bytes(bytes)) = (field == wanted, value) {
            found = Some(bytes);
        }
    }
    found.ok_or(AutonatError::Protocol)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// As `autonat-v2.md` has them.
    #[test]
    fn golden_bytes() {
        let here = at("/ip4/192.0.2.1/tcp/1");
        let request = encode_request(std::slice::from_ref(&here), 7);
        assert_eq!(request, [0x0a, 19, 0x0a, 8, 4, 192, 0, 2, 1, 6, 0, 1, 0x11, 7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_request(&request).unwrap(), Request { addresses: vec![here], nonce: 7 });
        let reached = Reply::Dialled { index: 0, reached: true };
        assert_eq!(encode_reply(reached), [0x12, 6, 0x08, 0xc8, 1, 0x18, 0xc8, 1]);
        let in_vain = Reply::Dialled { index: 1, reached: false };
        assert_eq!(encode_reply(in_vain), [0x12, 7, 0x08, 0xc8, 1, 0x10, 1, 0x18, 100]);
        assert_eq!(encode_reply(Reply::Refused), [0x12, 2, 0x08, 101]);
        for reply in [reached, in_vain, Reply::Refused, Reply::Rejected, Reply::Internal] {
            assert_eq!(decode_reply(&encode_reply(reply)).unwrap(), reply);
        }
        assert_eq!(decode_reply(&[0x1a, 3, 0x10, 0x80, 2]).unwrap(), Reply::WantsData);
        assert_eq!(encode_dial_back(1), [0x09, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_dial_back(&encode_dial_back(u64::MAX)).unwrap(), u64::MAX);
    }

    #[test]
    fn what_is_no_message_is_refused_and_addresses_without_end_are_bounded() {
        for malformed in [&[][..], &[0x0a], &[0x12, 0], &[0x0a, 2, 0x10, 1], &[0x0a, 2, 0x08, 1]] {
            assert!(decode_request(malformed).is_err(), "{malformed:?}");
        }
        for malformed in [&[][..], &[0x0a, 0], &[0x12, 2, 0x0a, 0]] {
            assert!(decode_reply(malformed).is_err(), "{malformed:?}");
        }
        assert!(decode_dial_back(&[0x08, 1]).is_err());
        let many = vec![at("/ip4/192.0.2.1/tcp/1"); 200];
        assert_eq!(decode_request(&encode_request(&many, 1)).unwrap().addresses.len(), PUNCH_ADDRESSES);
        // An address that is none keeps its place.
        let odd = [0x0a, 7, 0x0a, 2, 0xff, 0xff, 0x0a, 1, 0];
        assert_eq!(decode_request(&odd).unwrap().addresses.len(), 2);
    }

    proptest! {
        #[test]
        fn never_panics(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (decode_request(&message), decode_reply(&message), decode_dial_back(&message));
        }
    }
}
