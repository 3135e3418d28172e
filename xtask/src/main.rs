//! `cargo xtask`: the project's chores. Each subcommand is a module of its own; this file only chooses.

mod agents;
mod base;
mod bench;
mod boot;
mod cache;
mod ci;
mod demo;
mod deps;
mod dist;
mod ext4;
mod fuzz;
mod guards;
mod links;
mod lxd;
mod rooms;
mod sh;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use test::{Extent, Tally};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["base", rest @ ..] => base::run(rest),
        ["boot", rest @ ..] => boot::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        ["dist", rest @ ..] => dist::run(rest),
        ["ext4", rest @ ..] => ext4::run(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["mini"] => base::mini::run(),
        ["demo"] => demo::run(),
        ["test"] => return tests(Extent::Full),
        ["test", "--quick"] => return tests(Extent::Quick),
        ["tidy"] => tidy::run(),
        ["ci"] => return verdict(ci::run()),
        _ => {
            eprintln!(
                "usage: cargo xtask demo | test [--quick] | ci | bench [IMAGE] | base LAYOUT | boot | ext4 | fuzz | dist | mini"
            );
            return ExitCode::from(2);
        }
    };
    verdict(done.map(|()| true))
}

fn tests(extent: Extent) -> ExitCode {
    let mut tally = Tally::default();
    verdict(test::run(extent, &mut tally).map(|()| tally.close()))
}

/// Whether all went well, as an exit code.
fn verdict(done: anyhow::Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the source tree.
pub(crate) fn workspace_dir() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where everything that is made goes.
pub(crate) fn target_dir() -> PathBuf {
    workspace_dir().join("target")
}
