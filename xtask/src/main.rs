//! `cargo xtask`: the project's chores. Each subcommand is a module of its own; this file only chooses.

mod base;
mod boot;
mod deps;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["base", rest @ ..] => base::run(rest),
        ["boot", rest @ ..] => boot::run(rest),
        _ => {
            eprintln!(
                "usage: cargo xtask demo | test [--quick] | ci | bench | base LAYOUT | boot | dist | mini"
            );
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
