//! libp2p's PeerId of a secp256k1 key, encoded and decoded here so that a device's core needs no
//! libp2p: an identity multihash over the protobuf `{ type: Secp256k1, data: 33 bytes }`.

use crate::keys::PublicKey;

/// Bytes of a secp256k1 PeerId: identity multihash header (2), protobuf header (4), compressed key (33).
pub const PEER_ID_BYTES: usize = 39;

/// Identity multihash of 37 bytes, then protobuf: field 1 varint 2 (Secp256k1), field 2 of 33 bytes.
/// Source: libp2p specs, peer-ids.
const PREFIX: [u8; 6] = [0x00, 37, 0x08, 0x02, 0x12, 33];

/// Why bytes are not a PeerId Windlass accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerIdError {
    /// Another key type, or a hash instead of the key itself.
    #[error("the peer id does not carry a secp256k1 key")]
    OtherKeyType,
    /// The 33 bytes are not on the curve.
    #[error("the peer id carries an invalid public key")]
    InvalidKey,
}

/// The PeerId bytes of a public key.
pub fn encode(key: &PublicKey) -> [u8; PEER_ID_BYTES] {
    let mut bytes = [0; PEER_ID_BYTES];
    bytes[..6].copy_from_slice(&PREFIX);
    bytes[6..].copy_from_slice(&key.to_compressed());
    bytes
}

/// The public key a PeerId carries.
pub fn decode(bytes: &[u8]) -> Result<PublicKey, PeerIdError> {
    if bytes.len() != PEER_ID_BYTES || bytes[..6] != PREFIX {
        return Err(PeerIdError::OtherKeyType);
    }
    PublicKey::from_compressed(&bytes[6..]).map_err(|_| PeerIdError::InvalidKey)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::keys::SecretKey;

    #[test]
    fn round_trip() {
        let key = SecretKey::from_bytes(&[9; 32]).unwrap().public_key();
        assert_eq!(decode(&encode(&key)), Ok(key));
    }

    #[test]
    fn other_kinds_are_refused() {
        let key = SecretKey::from_bytes(&[9; 32]).unwrap().public_key();
        let good = encode(&key);
        for index in 0..6 {
            let mut bytes = good;
            bytes[index] ^= 1;
            assert_eq!(decode(&bytes), Err(PeerIdError::OtherKeyType));
        }
        assert_eq!(decode(&good[..38]), Err(PeerIdError::OtherKeyType));
        let mut off_curve = good;
        off_curve[7..].fill(0xff);
        assert_eq!(decode(&off_curve), Err(PeerIdError::InvalidKey));
    }
}
