//! The content of a key file: JSON in the form of the Web3 secret storage definition, and its cryptography
//! (scrypt or PBKDF2, AES-128-CTR, a keccak256 checksum over half of the derived key and the ciphertext).
//!
//! Knows nothing of files.

use crate::{CreateError, FormatError, OpenError, Strength, limits};
use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use windlass_protocol::alloy_primitives::hex;
use windlass_protocol::{Address, KeyAddress, SecretKey, keccak256};
use zeroize::Zeroizing;

const VERSION: u32 = 3;
const CIPHER: &str = "aes-128-ctr";
/// Derived bytes: 16 of the cipher's key, 16 of the checksum's.
const DERIVED_BYTES: usize = 32;

/// A key file, parsed and not yet decrypted.
#[derive(Serialize, Deserialize)]
pub(crate) struct KeyFile {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    // Some early writers spelt it with a capital letter.
    #[serde(alias = "Crypto")]
    crypto: Crypto,
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    #[serde(flatten)]
    kdf: Kdf,
    mac: String,
}

#[derive(Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

/// How the passphrase becomes a key.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kdf", content = "kdfparams", rename_all = "lowercase")]
enum Kdf {
    Scrypt { dklen: u32, n: u64, p: u32, r: u32, salt: String },
    Pbkdf2 { c: u32, dklen: u32, prf: String, salt: String },
}

impl KeyFile {
    pub(crate) fn encrypt(
        key: &SecretKey,
        passphrase: &str,
        strength: Strength,
    ) -> Result<Self, CreateError> {
        let n = match strength {
            Strength::Standard => 1 << 18,
            Strength::Light => 1 << 12,
        };
        let salt: [u8; 32] = random()?;
        let kdf = Kdf::Scrypt { dklen: DERIVED_BYTES as u32, n, p: 1, r: 8, salt: hex::encode(salt) };
        let derived =
            kdf.derive(passphrase).unwrap_or_else(|_| unreachable!("our own parameters are in bounds"));
        let iv: [u8; 16] = random()?;
        let mut text = key.to_bytes();
        apply_cipher(&derived, &iv, &mut text);
        Ok(Self {
            version: VERSION,
            id: Some(uuid(random()?)),
            address: Some(hex::encode(key.address().0)),
            crypto: Crypto {
                cipher: CIPHER.to_owned(),
                cipherparams: CipherParams { iv: hex::encode(iv) },
                ciphertext: hex::encode(text.as_slice()),
                kdf,
                mac: hex::encode(checksum(&derived, text.as_slice())),
            },
        })
    }

    pub(crate) fn decrypt(&self, passphrase: &str) -> Result<SecretKey, OpenError> {
        let (iv, mut text) = self.cipher_input().map_err(OpenError::Format)?;
        let mac: [u8; 32] = field("mac", &self.crypto.mac).map_err(OpenError::Format)?;
        let derived = self.crypto.kdf.derive(passphrase).map_err(OpenError::Format)?;
        if checksum(&derived, text.as_slice()) != mac {
            return Err(OpenError::Passphrase);
        }
        apply_cipher(&derived, &iv, &mut text);
        let key = SecretKey::from_bytes(&text).map_err(|_| OpenError::Format(FormatError::Mismatch))?;
        match self.address() {
            Ok(stated) if stated != key.address() => Err(OpenError::Format(FormatError::Mismatch)),
            Ok(_) | Err(FormatError::NoAddress) => Ok(key),
            Err(error) => Err(OpenError::Format(error)),
        }
    }

    fn cipher_input(&self) -> Result<([u8; 16], Zeroizing<[u8; 32]>), FormatError> {
        if self.crypto.cipher != CIPHER {
            return Err(FormatError::Field("cipher"));
        }
        let iv = field("cipherparams.iv", &self.crypto.cipherparams.iv)?;
        Ok((iv, Zeroizing::new(field("ciphertext", &self.crypto.ciphertext)?)))
    }

    /// The stated address.
    pub(crate) fn address(&self) -> Result<KeyAddress, FormatError> {
        let text = self.address.as_deref().ok_or(FormatError::NoAddress)?;
        field("address", text).map(|bytes: [u8; 20]| KeyAddress(Address::from(bytes)))
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and numbers always serialise") + "\n"
    }

    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, FormatError> {
        // The version first: another version's file would fail on some field of ours instead.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl Kdf {
    fn derive(&self, passphrase: &str) -> Result<Zeroizing<[u8; DERIVED_BYTES]>, FormatError> {
        let mut derived = Zeroizing::new([0; DERIVED_BYTES]);
        let (Self::Scrypt { dklen, salt, .. } | Self::Pbkdf2 { dklen, salt, .. }) = self;
        if *dklen as usize != DERIVED_BYTES {
            return Err(FormatError::Field("kdfparams.dklen"));
        }
        let salt = hex::decode(salt).map_err(|_| FormatError::Field("kdfparams.salt"))?;
        if salt.len() > limits::MAX_SALT_BYTES {
            return Err(FormatError::Field("kdfparams.salt"));
        }
        match self {
            Self::Scrypt { n, p, r, .. } => {
                let params = scrypt_params(*n, *r, *p)?;
                scrypt::scrypt(passphrase.as_bytes(), &salt, &params, derived.as_mut_slice())
                    .map_err(|_| FormatError::Field("kdfparams"))?;
            }
            Self::Pbkdf2 { c, prf, .. } => {
                if prf != "hmac-sha256" {
                    return Err(FormatError::Field("kdfparams.prf"));
                }
                if *c == 0 || *c > limits::MAX_PBKDF2_ROUNDS {
                    return Err(FormatError::Cost);
                }
                pbkdf2::pbkdf2_hmac::<sha2::Sha256>(passphrase.as_bytes(), &salt, *c, derived.as_mut_slice());
            }
        }
        Ok(derived)
    }
}

fn scrypt_params(n: u64, r: u32, p: u32) -> Result<scrypt::Params, FormatError> {
    if n < 2 || !n.is_power_of_two() || r == 0 || p == 0 {
        return Err(FormatError::Field("kdfparams"));
    }
    let (r64, p64) = (u64::from(r), u64::from(p));
    let work = n.saturating_mul(r64).saturating_mul(p64);
    let memory = n.saturating_add(p64).saturating_mul(r64).saturating_mul(128);
    if work > limits::MAX_SCRYPT_WORK || memory > limits::MAX_KDF_BYTES {
        return Err(FormatError::Cost);
    }
    scrypt::Params::new(n.ilog2() as u8, r, p).map_err(|_| FormatError::Field("kdfparams"))
}

/// Encrypts and decrypts: the cipher is its own inverse.
fn apply_cipher(derived: &[u8; DERIVED_BYTES], iv: &[u8; 16], text: &mut Zeroizing<[u8; 32]>) {
    let mut key = Zeroizing::new([0; 16]);
    key.copy_from_slice(&derived[..16]);
    let mut cipher = Ctr128BE::<Aes128>::new((&*key).into(), iv.into());
    cipher.apply_keystream(text.as_mut_slice());
}

fn checksum(derived: &[u8; DERIVED_BYTES], ciphertext: &[u8]) -> [u8; 32] {
    let mut input = Zeroizing::new([0; 48]);
    input[..16].copy_from_slice(&derived[16..]);
    input[16..].copy_from_slice(ciphertext);
    keccak256(input.as_slice()).0
}

/// A field of exactly `N` bytes in hexadecimal.
fn field<const N: usize>(name: &'static str, text: &str) -> Result<[u8; N], FormatError> {
    hex::decode_to_array(text).map_err(|_| FormatError::Field(name))
}

fn random<const N: usize>() -> Result<[u8; N], CreateError> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(|_| CreateError::Random)?;
    Ok(bytes)
}

/// A version 4 UUID of these random bytes (RFC 9562).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
