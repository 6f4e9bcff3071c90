//! secp256k1 keys and signatures. A secret key is wiped when dropped, prints redacted, and has no
//! serialisation: storing one is the business of an encrypted key file, elsewhere.

use crate::address::KeyAddress;
use alloy_primitives::{Address, B256, keccak256};
use core::fmt;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::ffi::types::AlignedType;
use secp256k1::{Message, Secp256k1};
use zeroize::Zeroizing;

/// Half of the group order, big endian: a signature with a greater `s` is malleable and refused (EIP-2).
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d,
    0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// Room for a verification context, in words of 16 bytes: the library asks for 13 on 64 bit.
const CONTEXT_WORDS: usize = 32;

/// Why bytes are not a key or a signature proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Zero, or not below the group order.
    #[error("not a secp256k1 secret key")]
    SecretKey,
    /// Not a point on the curve in compressed or uncompressed form.
    #[error("not a secp256k1 public key")]
    PublicKey,
    /// Wrong length, recovery id outside {0, 1}, high `s`, or no key recovers from it.
    #[error("not a valid signature (65 bytes r, s, v with low s)")]
    Signature,
}

/// A device's, node's or operator's secret key.
pub struct SecretKey(secp256k1::SecretKey);

impl SecretKey {
    /// Takes 32 random bytes as a key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        secp256k1::SecretKey::from_byte_array(*bytes).map(Self).map_err(|_| KeyError::SecretKey)
    }

    /// The key's 32 bytes, for an encrypted key file or the transport's handshake; wiped when dropped.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.secret_bytes())
    }

    /// The public key.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public_key(&Secp256k1::signing_only()))
    }

    /// The address of this key.
    pub fn address(&self) -> KeyAddress {
        self.public_key().address()
    }

    /// Signs a 32-byte digest (RFC 6979 nonce, low `s`). The digest must come from EIP-712 or a
    /// 0x19-prefixed message: never sign one a stranger supplied.
    pub fn sign(&self, digest: &B256) -> Signature {
        let context = Secp256k1::signing_only();
        let (recovery, compact) =
            context.sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.0).serialize_compact();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&compact);
        // A recovery id above 1 needs r ≥ order, which no honest nonce has (probability 2^-127).
        bytes[64] = i32::from(recovery) as u8;
        Signature(bytes)
    }
}

impl Clone for SecretKey {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(redacted, address {})", self.address())
    }
}

/// A secp256k1 public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicKey(secp256k1::PublicKey);

impl PublicKey {
    /// Decodes the 33-byte compressed form.
    pub fn from_compressed(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; 33] = bytes.try_into().map_err(|_| KeyError::PublicKey)?;
        secp256k1::PublicKey::from_byte_array_compressed(bytes).map(Self).map_err(|_| KeyError::PublicKey)
    }

    /// The 33-byte compressed form.
    pub fn to_compressed(&self) -> [u8; 33] {
        self.0.serialize()
    }

    /// The last 20 bytes of keccak256 of the 64-byte key (without the 0x04).
    pub fn address(&self) -> KeyAddress {
        let hash = keccak256(&self.0.serialize_uncompressed()[1..]);
        KeyAddress(Address::from_slice(&hash[12..]))
    }
}

/// A recoverable signature: r ‖ s ‖ v, 65 bytes, v in {0, 1}, low s.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 65]);

impl Signature {
    /// Takes 65 bytes with v in {0, 1}; high `s` is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; 65] = bytes.try_into().map_err(|_| KeyError::Signature)?;
        if bytes[64] > 1 || bytes[32..64] > HALF_ORDER[..] {
            return Err(KeyError::Signature);
        }
        Ok(Self(bytes))
    }

    /// r ‖ s ‖ v with v in {0, 1}.
    pub fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }

    /// r ‖ s ‖ v with v in {27, 28}, as contracts expect.
    pub fn to_ethereum_bytes(&self) -> [u8; 65] {
        let mut bytes = self.0;
        bytes[64] += 27;
        bytes
    }

    /// The key that signed `digest`. Every 65 bytes recover to *some* key or none: compare its address.
    pub fn recover(&self, digest: &B256) -> Result<PublicKey, KeyError> {
        let id = RecoveryId::try_from(i32::from(self.0[64])).map_err(|_| KeyError::Signature)?;
        let signature =
            RecoverableSignature::from_compact(&self.0[..64], id).map_err(|_| KeyError::Signature)?;
        // A context of the library's own making is blinded with fresh randomness wherever another crate turns on its
        // features `std` and `rand`: that takes as long as half a recovery and hides nothing here, since what is
        // verified is public.
        let mut room = [AlignedType::zeroed(); CONTEXT_WORDS];
        Secp256k1::preallocated_verification_only(&mut room)
            .expect("the room is more than twice what a context takes")
            .recover_ecdsa(Message::from_digest(digest.0), &signature)
            .map(PublicKey)
            .map_err(|_| KeyError::Signature)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", alloy_primitives::hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloc::format;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_bytes(&[byte; 32]).unwrap()
    }

    #[test]
    fn address_of_the_first_test_account() {
        // Private key 0xac09…ff80 of the well-known test mnemonic.
        let bytes =
            alloy_primitives::hex!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
        let key = SecretKey::from_bytes(&bytes).unwrap();
        assert_eq!(format!("{}", key.address()), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    }

    #[test]
    fn a_signature_recovers_to_its_signer() {
        let digest = keccak256(b"windlass");
        let signature = key(7).sign(&digest);
        assert_eq!(signature.recover(&digest).unwrap().address(), key(7).address());
        assert_ne!(signature.recover(&keccak256(b"other")).map(|k| k.address()), Ok(key(7).address()));
        assert_eq!(Signature::from_bytes(signature.as_bytes()), Ok(signature));
    }

    #[test]
    fn a_context_has_room() {
        use secp256k1::VerifyOnlyPreallocated;
        let words = Secp256k1::<VerifyOnlyPreallocated<'_>>::preallocate_verification_size();
        assert!(2 * words <= CONTEXT_WORDS, "{words}");
    }

    /// Whatever is done to a signature, our own context and one of the library's making find the same key, or none.
    #[test]
    fn a_context_on_the_stack_recovers_what_a_randomised_one_does() {
        let randomised = Secp256k1::verification_only();
        let mut found = [0; 2];
        for round in 0..600_u16 {
            let digest = keccak256(round.to_be_bytes());
            let mut bytes = *key(1 + (round % 200) as u8).sign(&digest).as_bytes();
            // Every third is as signed; of the others one bit of r, s or v is turned.
            if round % 3 > 0 {
                let bit = usize::from(round) * 7 % (64 * 8 + 1);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            let Ok(signature) = Signature::from_bytes(&bytes) else { continue };
            let id = RecoveryId::try_from(i32::from(bytes[64])).unwrap();
            let theirs = RecoverableSignature::from_compact(&bytes[..64], id)
                .and_then(|it| randomised.recover_ecdsa(Message::from_digest(digest.0), &it));
            let ours = signature.recover(&digest);
            assert_eq!(ours.ok().map(|key| key.0), theirs.ok(), "round {round}");
            found[usize::from(ours.is_ok())] += 1;
        }
        assert!(found[0] > 50 && found[1] > 300, "{found:?}");
    }

    #[test]
    fn high_s_is_refused() {
        let signature = key(7).sign(&keccak256(b"windlass"));
        let order = alloy_primitives::U256::from_be_bytes(HALF_ORDER) * alloy_primitives::U256::from(2u8)
            + alloy_primitives::U256::from(1u8);
        let s = alloy_primitives::U256::from_be_slice(&signature.as_bytes()[32..64]);
        let mut bytes = *signature.as_bytes();
        bytes[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        bytes[64] ^= 1;
        assert_eq!(Signature::from_bytes(&bytes), Err(KeyError::Signature));
    }

    #[test]
    fn wrong_lengths_and_recovery_ids_are_refused() {
        let mut bytes = *key(1).sign(&B256::ZERO).as_bytes();
        assert_eq!(Signature::from_bytes(&bytes[..64]), Err(KeyError::Signature));
        bytes[64] = 2;
        assert_eq!(Signature::from_bytes(&bytes), Err(KeyError::Signature));
        bytes[64] = 27;
        assert_eq!(Signature::from_bytes(&bytes), Err(KeyError::Signature));
    }

    #[test]
    fn a_zero_signature_recovers_to_nobody() {
        assert_eq!(Signature([0; 65]).recover(&B256::ZERO), Err(KeyError::Signature));
    }

    #[test]
    fn a_secret_key_prints_redacted() {
        let text = format!("{:?}", key(0x42));
        assert!(text.contains("redacted") && !text.contains("4242"));
    }
}
