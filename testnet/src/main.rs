//! `windlass-testnet`: see `windlass_testnet::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    windlass_testnet::cli::run(std::env::args_os())
}
