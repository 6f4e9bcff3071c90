//! Every decoder and verifier of `windlass-protocol` as a plain function of bytes.
//!
//! A target takes any bytes, and panics where what it calls breaks its word: never to panic itself, to decode what it
//! encodes to the same value, to believe nothing that was changed. It says whether it took the bytes, so that who feeds it
//! knows that it got past the door. The tests feed each with its seeds, with the inputs under `corpus/`, and with seeded
//! mutations of both; `windlass-fuzz TARGET SECONDS` goes on for as long as one likes. A target is what cargo-fuzz
//! calls, too, where there is a nightly compiler: `fuzz_target!(|bytes: &[u8]| { target.run(bytes); })`.

mod codecs;
mod evidence;
mod mutate;
mod world;

pub use mutate::{Dice, mutate};

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One decoder or verifier.
#[derive(Clone, Copy)]
pub struct Target {
    /// What it is called on the command line, and its folder of inputs.
    pub name: &'static str,
    /// Takes any bytes; whether they were taken for what they should be.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that are taken.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub fn targets() -> Vec<Target> {
    codecs::targets().into_iter().chain(evidence::targets()).collect()
}

/// The inputs kept for a target: what once broke it, or led further than its seeds.
///
/// # Errors
/// Of the file system; a target without a folder has none.
pub fn kept(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let folder = corpus().join(target.name);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    paths.into_iter().map(fs::read).collect()
}

/// Where inputs are kept.
pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}
