//! Passphrases in files: the one reading that the node and the command line share.

use crate::limits::MAX_PASSPHRASE_BYTES;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Why a passphrase file gives no passphrase.
#[derive(Debug, thiserror::Error)]
#[error("the passphrase file {}: {reason}", .path.display())]
pub struct PassphraseError {
    /// Where.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: PassphraseFault,
}

/// What is wrong with a passphrase file.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseFault {
    /// The file system refused.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// Longer than any passphrase's: another file, probably.
    #[error("longer than {MAX_PASSPHRASE_BYTES} bytes: is it the right file?")]
    TooLarge,
    /// Not text.
    #[error("not UTF-8 text")]
    NotText,
}

/// The first line of a file, without its end. What was read is wiped from memory when it is dropped.
pub fn read_passphrase(path: &Path) -> Result<Zeroizing<String>, PassphraseError> {
    let failed = |reason| PassphraseError { path: path.to_owned(), reason };
    // As much room as can be needed at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PASSPHRASE_BYTES as usize + 1));
    let file = File::open(path).map_err(|error| failed(error.into()))?;
    file.take(MAX_PASSPHRASE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(error.into()))?;
    if bytes.len() as u64 > MAX_PASSPHRASE_BYTES {
        return Err(failed(PassphraseFault::TooLarge));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| failed(PassphraseFault::NotText))?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_line_is_the_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        for (content, expected) in [
            ("a word", "a word"),
            ("a word\n", "a word"),
            ("a word\r\n\n# a note\n", "a word"),
            (" spaces count \n", " spaces count "),
            ("", ""),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(*read_passphrase(&path).unwrap(), expected, "{content:?}");
        }
        std::fs::write(&path, vec![b'x'; MAX_PASSPHRASE_BYTES as usize + 1]).unwrap();
        assert!(matches!(read_passphrase(&path).unwrap_err().reason, PassphraseFault::TooLarge));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(matches!(read_passphrase(&path).unwrap_err().reason, PassphraseFault::NotText));
        let missing = read_passphrase(&folder.path().join("nothing")).unwrap_err().to_string();
        assert!(missing.contains("nothing"), "{missing}");
    }
}
