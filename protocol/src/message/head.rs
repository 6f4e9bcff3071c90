//! `/windlass/head/1`: nodes tell each other what they see and what they sign. One stream per direction,
//! any number of frames.

use crate::head::Attestation;
use crate::wire;
use alloy_primitives::B256;
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

/// Most bytes of a frame of this protocol.
pub const MAX_HEAD_MESSAGE_BYTES: usize = 512;

/// RLP `[0, number, hash, attestation]`, `[1, number, hash]` or `[2, number, hash, nonce]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadMessage {
    /// A member's signature, its own or one it passes on.
    Attested {
        /// The block.
        number: u64,
        /// Its hash.
        hash: B256,
        /// The signature.
        attestation: Attestation,
    },
    /// A device wants members to vouch for this head now: each signs it with the nonce.
    Challenge {
        /// The block.
        number: u64,
        /// Its hash.
        hash: B256,
        /// The device's.
        nonce: B256,
    },
    /// What the sender's provider reports as final; unsigned.
    Report {
        /// The block.
        number: u64,
        /// Its hash.
        hash: B256,
    },
}

impl Encodable for HeadMessage {
    fn rlp_append(&self, s: &mut RlpStream) {
        match self {
            Self::Attested { number, hash, attestation } => {
                s.begin_list(4).append(&0u8).append(number).append(&hash.as_slice()).append(attestation)
            }
            Self::Challenge { number, hash, nonce } => {
                s.begin_list(4).append(&2u8).append(number).append(&hash.as_slice()).append(&nonce.as_slice())
            }
            Self::Report { number, hash } => {
                s.begin_list(3).append(&1u8).append(number).append(&hash.as_slice())
            }
        };
    }
}

impl Decodable for HeadMessage {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 3)?;
        let (number, hash) = (f[1].as_val()?, wire::word(&f[2])?);
        match f[0].as_val::<u8>()? {
            0 => {
                let attestation = f.get(3).ok_or(DecoderError::RlpIncorrectListLen)?.as_val()?;
                Ok(Self::Attested { number, hash, attestation })
            }
            1 => Ok(Self::Report { number, hash }),
            2 => {
                let nonce = wire::word(f.get(3).ok_or(DecoderError::RlpIncorrectListLen)?)?;
                Ok(Self::Challenge { number, hash, nonce })
            }
            _ => Err(DecoderError::Custom("an unknown kind of head message")),
        }
    }
}
