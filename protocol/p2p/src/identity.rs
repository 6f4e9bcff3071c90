//! Who a peer is: the secret key as libp2p wants it, and PeerId ↔ key address.
//!
//! A secp256k1 PeerId *is* the public key (37 bytes of protobuf in an identity multihash), so both
//! directions are pure functions. Nothing here says whether a key is still valid: the registry does.

use libp2p::{
    PeerId,
    identity::{Keypair, secp256k1},
};
use windlass_protocol::{
    PublicKey, SecretKey,
    address::KeyAddress,
    peer_id::{self, PeerIdError},
};

/// The key pair with which libp2p's handshakes prove the device's or node's own key.
pub fn keypair(secret: &SecretKey) -> Keypair {
    let bytes = secret.to_bytes();
    // libp2p zeroes the array it reads the key from; ours is zeroed when it is dropped.
    let mut copy = *bytes;
    let secret = secp256k1::SecretKey::try_from_bytes(&mut copy)
        .expect("the same curve's same range of keys on both sides");
    secp256k1::Keypair::from(secret).into()
}

/// The PeerId of a public key.
pub fn peer_id_of(key: &PublicKey) -> PeerId {
    PeerId::from_bytes(&peer_id::encode(key)).expect("an identity multihash of 37 bytes is a PeerId")
}

/// The public key inside a PeerId. Refuses every key type but secp256k1.
pub fn public_key_of(peer: &PeerId) -> Result<PublicKey, PeerIdError> {
    peer_id::decode(&peer.to_bytes())
}

/// The key address of a peer. Refuses every key type but secp256k1.
pub fn key_address_of(peer: &PeerId) -> Result<KeyAddress, PeerIdError> {
    public_key_of(peer).map(|key| key.address())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn libp2p_and_protocol_agree_on_peer_ids() {
        for seed in 1..=50u8 {
            let secret = SecretKey::from_bytes(&[seed; 32]).unwrap();
            let peer = keypair(&secret).public().to_peer_id();
            assert_eq!(peer, peer_id_of(&secret.public_key()));
            assert_eq!(key_address_of(&peer).unwrap(), secret.address());
        }
    }

    #[test]
    fn golden_peer_id() {
        // The key 1 is the generator of the curve; its Ethereum address is widely published.
        let mut one = [0; 32];
        one[31] = 1;
        let secret = SecretKey::from_bytes(&one).unwrap();
        let peer = keypair(&secret).public().to_peer_id();
        assert_eq!(
            key_address_of(&peer).unwrap().to_string().to_lowercase(),
            "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
        );
        assert!(peer.to_base58().starts_with("16Uiu2HA"));
    }

    #[test]
    fn other_key_types_are_refused() {
        // PeerId::random() is a SHA-256 multihash of nothing in particular, as RSA peer ids are.
        assert!(key_address_of(&PeerId::random()).is_err());
        // An Ed25519 PeerId: identity multihash, 36 bytes, key type 1, 32 bytes of key.
        let mut ed25519 = vec![0x00, 36, 0x08, 0x01, 0x12, 32];
        ed25519.extend([7; 32]);
        assert!(key_address_of(&PeerId::from_bytes(&ed25519).unwrap()).is_err());
    }
}
