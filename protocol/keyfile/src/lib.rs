//! Secret keys at rest: files of the Web3 secret storage definition, version 3.
//!
//! Owns creating, reading and the permissions of such files. Never asks for a passphrase, never keeps one, and
//! never overwrites a file: a key that is gone can't be made again.
//!
//! ```
//! use windlass_keyfile::{Strength, address, create, read};
//! use windlass_protocol::SecretKey;
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("pump.json");
//! let key = SecretKey::from_bytes(&[7; 32])?;
//! create(&path, &key, "a passphrase", Strength::Light)?;
//! assert_eq!(address(&path)?, key.address());
//! assert_eq!(read(&path, "a passphrase")?.address(), key.address());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod format;
pub mod limits;
mod passphrase;

pub use passphrase::{PassphraseError, PassphraseFault, read_passphrase};

use format::KeyFile;
use rand::TryRngCore;
use rand::rngs::OsRng;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use windlass_protocol::{KeyAddress, SecretKey};
use zeroize::Zeroizing;

/// How much work one guess of the passphrase costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Strength {
    /// scrypt with N = 2^18: 256 MiB and about a second per guess. For keys worth anything.
    #[default]
    Standard,
    /// scrypt with N = 2^12: 4 MiB and milliseconds. For testnets and tests only.
    Light,
}

/// Why no key file was made. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Something is there already.
    #[error("{0} exists, and key files are never overwritten: choose another path")]
    Exists(PathBuf),
    /// The file system refused.
    #[error("can't write the key file {path}: {source}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
}

/// Why a key file doesn't give its key or address.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system refused.
    #[error("can't read the key file {path}: {source}")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than the owner may open it.
    #[error("the key file {path} can be opened by others (mode {mode:03o}): run `chmod 600 {path}`", path = path.display())]
    Permissions {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It isn't Web3 secret storage of version 3, or of a kind or size this crate doesn't take.
    #[error("{path} is not a key file: {reason}")]
    Format {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        reason: FormatError,
    },
    /// The passphrase doesn't open it. A damaged file looks the same.
    #[error("wrong passphrase for {0} (or the file is damaged)")]
    Passphrase(PathBuf),
}

/// What is wrong with a file's content.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Longer than [`limits::MAX_FILE_BYTES`].
    #[error("longer than {} bytes", limits::MAX_FILE_BYTES)]
    TooLarge,
    /// Not the JSON of version 3.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Another version of the definition.
    #[error("version {0}, and only version 3 is known")]
    Version(u32),
    /// A field has the wrong form.
    #[error("the field `{0}` has the wrong form")]
    Field(&'static str),
    /// The cost it asks for is absurd: a stranger's file could stop the machine.
    #[error("its key derivation asks for more than {} MiB or too many rounds", limits::MAX_KDF_BYTES >> 20)]
    Cost,
    /// The file doesn't say which address its key has.
    #[error("it doesn't state its address, so its passphrase is needed")]
    NoAddress,
    /// What was decrypted is no key, or not the key of the stated address.
    #[error("its key and its stated address don't match")]
    Mismatch,
}

/// Why decrypting failed, before a path is attached.
enum OpenError {
    Format(FormatError),
    Passphrase,
}

/// A new key from the operating system's random bytes.
///
/// # Errors
/// [`CreateError::Random`].
pub fn generate() -> Result<SecretKey, CreateError> {
    loop {
        let mut bytes = Zeroizing::new([0u8; 32]);
        OsRng.try_fill_bytes(bytes.as_mut_slice()).map_err(|_| CreateError::Random)?;
        // One in 2^127 isn't below the group order.
        if let Ok(key) = SecretKey::from_bytes(&bytes) {
            return Ok(key);
        }
    }
}

/// Encrypts `key` into a new file of mode 0600. The file appears complete or not at all.
///
/// # Errors
/// [`CreateError`]; [`CreateError::Exists`] when there is anything at `path`.
pub fn create(path: &Path, key: &SecretKey, passphrase: &str, strength: Strength) -> Result<(), CreateError> {
    // Before the expensive part; what decides is the rename below.
    if path.symlink_metadata().is_ok() {
        return Err(CreateError::Exists(path.to_owned()));
    }
    let json = KeyFile::encrypt(key, passphrase, strength)?.to_json();
    let failed = |source| CreateError::Write { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The temporary file has mode 0600 from its first byte on.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(json.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist_noclobber(path).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => CreateError::Exists(path.to_owned()),
        _ => failed(error.error),
    })?;
    // The name has to survive a power cut like the content does.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Decrypts the key. Takes as long as the file's key derivation asks for.
///
/// # Errors
/// [`ReadError`]; a file that others may open is refused before anything is read from it.
pub fn read(path: &Path, passphrase: &str) -> Result<SecretKey, ReadError> {
    let file = open(path)?;
    check_permissions(path, &file)?;
    parse(path, file)?.decrypt(passphrase).map_err(|error| match error {
        OpenError::Passphrase => ReadError::Passphrase(path.to_owned()),
        OpenError::Format(reason) => ReadError::Format { path: path.to_owned(), reason },
    })
}

/// The address that the file states, without decrypting anything: a statement, checked only by [`read`].
///
/// # Errors
/// [`ReadError`]; [`FormatError::NoAddress`] when the file states none.
pub fn address(path: &Path) -> Result<KeyAddress, ReadError> {
    let stated = parse(path, open(path)?)?.address();
    stated.map_err(|reason| ReadError::Format { path: path.to_owned(), reason })
}

fn open(path: &Path) -> Result<File, ReadError> {
    File::open(path).map_err(|source| ReadError::Read { path: path.to_owned(), source })
}

fn parse(path: &Path, file: File) -> Result<KeyFile, ReadError> {
    let mut bytes = Vec::new();
    let limit = limits::MAX_FILE_BYTES;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| ReadError::Read { path: path.to_owned(), source })?;
    let parsed =
        if bytes.len() as u64 > limit { Err(FormatError::TooLarge) } else { KeyFile::from_json(&bytes) };
    parsed.map_err(|reason| ReadError::Format { path: path.to_owned(), reason })
}

#[cfg(unix)]
fn check_permissions(path: &Path, file: &File) -> Result<(), ReadError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().map_err(|source| ReadError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(ReadError::Permissions { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_permissions(_: &Path, _: &File) -> Result<(), ReadError> {
    Ok(())
}

#[cfg(test)]
mod tests;
