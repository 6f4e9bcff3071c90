//! A transaction that is signed and not sent yet: what node and command line hand to a provider.
//!
//! It never holds a key: whoever has one signs the digest it is given.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{B256, Bytes, Signature, U256};

/// A signed transaction. Its hash is known before it leaves, so that a journal can name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedTransaction {
    /// Its hash.
    pub hash: B256,
    /// What is sent.
    pub raw: Bytes,
}

impl SignedTransaction {
    /// Has `sign` sign the digest of an EIP-1559 transaction: r ‖ s ‖ v with low s and v in {0, 1}.
    pub fn new(transaction: TxEip1559, sign: impl FnOnce(&B256) -> [u8; 65]) -> Self {
        let bytes = sign(&transaction.signature_hash());
        let (r, s) = (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..64]));
        let envelope = TxEnvelope::from(transaction.into_signed(Signature::new(r, s, bytes[64] == 1)));
        Self { hash: *envelope.tx_hash(), raw: envelope.encoded_2718().into() }
    }
}

/// Whether a provider's refusal to take a transaction says that it has it already.
pub fn is_known_already(message: &str) -> bool {
    message.to_lowercase().contains("already known")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloy::eips::eip2718::Decodable2718;
    use alloy::primitives::keccak256;
    use alloy::signers::SignerSync;
    use alloy::signers::local::PrivateKeySigner;

    #[test]
    fn a_signed_transaction_is_its_signers_and_has_its_hash() {
        let key = PrivateKeySigner::from_slice(&[7; 32]).unwrap();
        for nonce in 0..8 {
            let transaction =
                TxEip1559 { chain_id: 31_337, nonce, gas_limit: 21_000, ..TxEip1559::default() };
            let sign = |digest: &B256| {
                let mut bytes = key.sign_hash_sync(digest).unwrap().as_bytes();
                bytes[64] -= 27;
                bytes
            };
            let signed = SignedTransaction::new(transaction.clone(), sign);
            let envelope = TxEnvelope::decode_2718(&mut signed.raw.as_ref()).unwrap();
            assert_eq!(
                envelope.signature().recover_address_from_prehash(&transaction.signature_hash()).unwrap(),
                key.address()
            );
            assert_eq!((*envelope.tx_hash(), keccak256(&signed.raw)), (signed.hash, signed.hash));
            assert_eq!(envelope.as_eip1559().unwrap().tx(), &transaction);
        }
    }

    #[test]
    fn a_provider_that_has_it_already_is_understood() {
        assert!(is_known_already("transaction Already Known"));
        assert!(!is_known_already("nonce too low"));
    }
}
