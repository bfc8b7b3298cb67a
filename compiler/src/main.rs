//! The `mnc` program: see `mnc_compiler::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mnc_compiler::cli::run(std::env::args_os())
}
