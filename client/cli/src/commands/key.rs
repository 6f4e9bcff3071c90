//! `key` and `address`: key files.

use crate::context::{Context, refuse_existing};
use crate::failure::Failure;
use crate::passphrase::prompt;
use crate::state::read_bounded;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use windlass_client::SecretKey;
use windlass_keyfile::limits::MAX_PASSPHRASE_BYTES;
use windlass_keyfile::{Strength, create, generate};
use windlass_protocol::alloy_primitives::hex;
use zeroize::Zeroizing;

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Make a key and keep it in a new, encrypted file
    New(NewArgs),
    /// Print a key file's address without opening it
    Address(AddressArgs),
    /// Keep an existing secret key in a new, encrypted file
    Import(ImportArgs),
}

#[derive(Args, Debug)]
pub(crate) struct NewArgs {
    /// File to make; never overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Weak but fast encryption, for testnets only
    #[arg(long)]
    light: bool,
}

#[derive(Args, Debug)]
pub(crate) struct AddressArgs {
    /// Key file [default: --key, or the profile's]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    new: NewArgs,
    /// File with the secret key in hexadecimal [default: ask at the terminal]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Made {
    address: String,
    file: PathBuf,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.address, self.file.display())
    }
}

#[derive(Serialize)]
struct ShownAddress {
    address: String,
}

impl fmt::Display for ShownAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

pub(crate) fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::New(arguments) => {
            refuse_existing(&arguments.out)?;
            keep(context, &generate()?, arguments)
        }
        Command::Import(arguments) => {
            refuse_existing(&arguments.new.out)?;
            keep(context, &secret(arguments.secret_file)?, arguments.new)
        }
        Command::Address(arguments) => address(context, arguments),
    }
}

pub(crate) fn address(context: &Context, arguments: AddressArgs) -> Result<(), Failure> {
    let path = match &arguments.file {
        Some(file) => file,
        None => context.key_file()?,
    };
    let address = windlass_keyfile::address(path)?.to_string();
    context.output.print(&ShownAddress { address })
}

fn keep(context: &Context, key: &SecretKey, arguments: NewArgs) -> Result<(), Failure> {
    let strength = if arguments.light { Strength::Light } else { Strength::Standard };
    let passphrase = context.passphrase.choose_new(&arguments.out)?;
    create(&arguments.out, key, &passphrase, strength)?;
    context.output.print(&Made { address: key.address().to_string(), file: arguments.out })
}

fn secret(file: Option<PathBuf>) -> Result<SecretKey, Failure> {
    let failed = |reason: &str| Failure::fault("secret_key", reason);
    let text = match file {
        None => prompt("Secret key (64 hexadecimal digits): ")?,
        Some(path) => {
            let read = read_bounded(&path, MAX_PASSPHRASE_BYTES).map_err(|error| error.to_string());
            let bytes = read.and_then(|bytes| bytes.ok_or_else(|| "no such file".to_owned()));
            let bytes =
                Zeroizing::new(bytes.map_err(|reason| failed(&format!("{}: {reason}", path.display())))?);
            Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())
        }
    };
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), bytes.as_mut_slice())
        .map_err(|_| failed("not a secret key: expected 64 hexadecimal digits"))?;
    SecretKey::from_bytes(&bytes).map_err(|error| failed(&error.to_string()))
}
