//! The command line of Windlass, as a library: the commands, and what they are made of for others to use.
//!
//! | module | owns |
//! | --- | --- |
//! | [`deploy`] | putting the contracts on a chain and signing the chain spec; resumable |
//! | [`registry`], [`names`] | the contracts' transactions, typed |
//! | [`chain`], [`transact`], [`refusal`] | JSON-RPC with deadlines; sending and waiting; a contract's no, in words |
//! | [`consent`] | a device's consent on its way to the operator |
//! | `profile`, `context` | what commands act with: spec, nodes, keys |
//! | `commands` | one group of commands per file |
//! | `local`, `pump`, `flows` | local sockets, and moving bytes or datagrams between them and devices |
//! | `failure`, `output` | exit codes, error lines, results |
//!
//! Reading commands ask nodes and verify proofs; only transactions use a chain's RPC. A key file is opened only by
//! commands that sign or connect as a device.

mod args;
pub mod chain;
mod commands;
pub mod consent;
mod context;
pub mod deploy;
mod failure;
mod flows;
mod head_file;
pub mod limits;
mod local;
pub mod names;
mod output;
mod parties;
mod passphrase;
mod profile;
mod proof;
mod pump;
pub mod refusal;
pub mod registry;
mod state;
pub mod transact;
mod when;

use args::Cli;
use clap::Parser;
use clap::error::ErrorKind;
use failure::Failure;
use std::ffi::OsString;
use std::process::ExitCode;
use tokio::io::AsyncReadExt;

/// Runs one command line, the program's name first, and gives the process's exit code: 0 done, 1 a proven no, 2
/// everything else, 130 interrupted.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, arguments.iter().any(|argument| argument == "--json")),
    };
    let json = cli.global.json;
    if let Err(failure) = start_log() {
        return end(&failure, json);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(&Failure::fault("system", format!("can't start: {error}")), json),
    };
    let guarded = cli.global.stdin_guard;
    let outcome = runtime.block_on(interruptible(cli));
    if guarded {
        // Its end would wait for that of the standard input, which is still open.
        runtime.shutdown_background();
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => end(&failure, json),
    }
}

async fn interruptible(cli: Cli) -> Result<(), Failure> {
    let guarded = cli.global.stdin_guard;
    tokio::select! {
        // The command first: until it waits for something, Ctrl-C at a passphrase prompt has its usual effect.
        biased;
        done = commands::dispatch(cli) => done,
        interrupt = tokio::signal::ctrl_c() => match interrupt {
            Ok(()) => Err(Failure::interrupted()),
            Err(error) => Err(Failure::fault("system", format!("can't listen for Ctrl-C: {error}"))),
        },
        () = stdin_closes(), if guarded => Err(Failure::interrupted()),
    }
}

async fn stdin_closes() {
    let (mut stdin, mut buffer) = (tokio::io::stdin(), [0; 256]);
    // What is written there is of no interest, only its end; an error is an end, too.
    while stdin.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

fn end(failure: &Failure, json: bool) -> ExitCode {
    failure.report(json);
    ExitCode::from(failure.exit_code())
}

/// Prints help as asked for, or what is wrong with the arguments on one line.
fn refuse(error: &clap::Error, json: bool) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        // Only fails when nobody reads it.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    end(&Failure::fault("usage", one_line(&error.render().to_string())), json)
}

/// clap's message without its usage and its pointer to help.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let told: Vec<&str> = lines
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .collect();
    let text = told.join(" ");
    format!("{} (see --help)", text.strip_prefix("error: ").unwrap_or(&text))
}

/// Logs only when asked to, on standard error.
fn start_log() -> Result<(), Failure> {
    let Some(wanted) = std::env::var_os("WINDLASS_LOG") else { return Ok(()) };
    let filter = wanted.to_str().and_then(|text| tracing_subscriber::EnvFilter::try_new(text).ok());
    let filter = filter.ok_or_else(|| {
        let hint = "expected one like info or windlass_client=debug";
        Failure::fault("usage", format!("WINDLASS_LOG is {wanted:?}, which is no log filter: {hint}"))
    })?;
    // A second start in one process, as in tests, keeps the first log.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(arguments: &[&str]) -> String {
        let error = Cli::try_parse_from(arguments).err().unwrap();
        one_line(&error.render().to_string())
    }

    #[test]
    fn wrong_arguments_are_said_on_one_line() {
        let checksum = message(&["windlass", "device", "show", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed"]);
        assert!(checksum.contains("EIP-55") && !checksum.contains('\n'), "{checksum}");
        let similar = message(&["windlass", "flet", "show", "1"]);
        assert!(similar.contains("flet") && similar.contains("fleet"), "{similar}");
        let missing = message(&["windlass", "fleet", "show"]);
        assert!(missing.contains("<FLEET>") && !missing.contains("Usage"), "{missing}");
    }
}
