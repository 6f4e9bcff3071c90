//! Where passphrases come from: a file, or the terminal. Never an argument (every process could read it) and never an
//! environment variable (children inherit it).

use crate::failure::Failure;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where to take a passphrase from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// The first line of a file.
    File(PathBuf),
    /// Ask at the terminal.
    Prompt,
}

impl Source {
    /// The given file, or the one `WINDLASS_PASSPHRASE_FILE` names, or the profile's, or the terminal.
    pub(crate) fn choose(
        given: Option<PathBuf>,
        environment: Option<PathBuf>,
        profile: Option<PathBuf>,
    ) -> Self {
        given.or(environment).or(profile).map_or(Self::Prompt, Self::File)
    }

    /// The passphrase that opens `what`.
    ///
    /// # Errors
    /// [`Failure`] when the file can't be read or there is no terminal.
    pub(crate) fn read(&self, what: &Path) -> Result<Zeroizing<String>, Failure> {
        match self {
            Self::File(path) => from_file(path),
            Self::Prompt => prompt(&format!("Passphrase of {}: ", what.display())),
        }
    }

    /// A passphrase for a new key; at the terminal it is asked for twice.
    ///
    /// # Errors
    /// As of [`Self::read`]; also when it is empty or the two differ.
    pub(crate) fn choose_new(&self, what: &Path) -> Result<Zeroizing<String>, Failure> {
        let passphrase = self.read(what)?;
        if passphrase.is_empty() {
            return Err(Failure::fault("passphrase", "an empty passphrase protects nothing: choose one"));
        }
        if *self == Self::Prompt && prompt("The same again: ")? != passphrase {
            return Err(Failure::fault("passphrase", "the two passphrases differ: nothing was made"));
        }
        Ok(passphrase)
    }
}

fn from_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    windlass_keyfile::read_passphrase(path).map_err(|error| Failure::fault("passphrase", error.to_string()))
}

/// Asks at the terminal without showing what is typed.
pub(crate) fn prompt(question: &str) -> Result<Zeroizing<String>, Failure> {
    let unavailable =
        "no passphrase: give --passphrase-file, set WINDLASS_PASSPHRASE_FILE, or run in a terminal";
    if !std::io::stdin().is_terminal() {
        return Err(Failure::fault("passphrase", unavailable));
    }
    rpassword::prompt_password(question)
        .map(Zeroizing::new)
        .map_err(|_| Failure::fault("passphrase", unavailable))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_nearest_source_wins() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(Source::choose(path("a"), path("b"), path("c")), Source::File("a".into()));
        assert_eq!(Source::choose(None, path("b"), path("c")), Source::File("b".into()));
        assert_eq!(Source::choose(None, None, path("c")), Source::File("c".into()));
        assert_eq!(Source::choose(None, None, None), Source::Prompt);
    }

    #[test]
    fn a_file_gives_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        let what = Path::new("key.json");
        let source = Source::File(path.clone());
        assert!(source.read(what).unwrap_err().message.contains("No such file"));
        std::fs::write(&path, "correct horse\r\nsecond line\n").unwrap();
        assert_eq!(*source.read(what).unwrap(), "correct horse");
        std::fs::write(&path, "\n").unwrap();
        assert!(source.choose_new(what).unwrap_err().message.contains("empty"));
    }
}
