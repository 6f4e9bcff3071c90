//! `windlass-node`: see [`windlass_node::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    windlass_node::cli::run(std::env::args_os())
}
