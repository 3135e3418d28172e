//! The program `palmfarm`. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    palmfarm::cli::main()
}
