//! `windlass`: the command line. Everything is the library's; here only the process's arguments and exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    windlass_cli::run(std::env::args_os())
}
