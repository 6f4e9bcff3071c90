//! What a key file from a stranger may cost.

/// Bytes of a key file. The definition's have about 500.
pub const MAX_FILE_BYTES: u64 = 16 * 1024;
/// Bytes of memory scrypt may ask for: twice what the standard strength takes.
pub const MAX_KDF_BYTES: u64 = 512 << 20;
/// scrypt's N·r·p: eight times the standard strength, some seconds.
pub const MAX_SCRYPT_WORK: u64 = 1 << 24;
/// Rounds of PBKDF2: some seconds.
pub const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;
/// Bytes of a salt.
pub const MAX_SALT_BYTES: usize = 64;
/// Bytes of a passphrase file; what counts is its first line.
pub const MAX_PASSPHRASE_BYTES: u64 = 4 * 1024;
