//! `cargo xtask`: the project's chores. Each one is a module of its own; this file only chooses.

mod agents;
mod base;
mod bench;
mod boot;
mod cache;
mod ci;
mod demo;
mod deps;
mod dist;
mod docs;
mod ext4;
mod fuzz;
mod guards;
mod links;
mod lxd;
mod release;
mod rooms;
mod sh;
mod test;
mod tidy;
mod tool;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use test::{Extent, Tally};

/// The project's chores.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build agents and tool, make target/demo/palm.img from examples/farm.yaml, and show what is on it
    Demo,
    /// Run every test: on real filesystems, loop devices and LXD, and on a booted ARM system
    Test {
        /// Leave out the real LXD and the booted ARM system
        #[arg(long)]
        quick: bool,
    },
    /// Run what CI runs: format, lints, rules, documentation, the demo, and the tests with one booted ARM system
    Ci,
    /// Build target/dist/palmfarm with the agents inside, and the agents beside it
    Dist,
    /// Make what people download: static tools and Debian packages for x86-64 and arm64, in target/release-files
    Release(release::Options),
    /// Build the agents alone, and print the folder that they are in
    Agents {
        /// What to build for [default: all of them]
        #[arg(value_enum)]
        archs: Vec<agents::Arch>,
    },
    /// Make a real Debian system in the layout of one of Ubuntu's images: target/base/LAYOUT.img.xz
    Base {
        /// bionic, jammy, noble or resolute
        layout: String,
    },
    /// Make the base that is built into the tool, src/base/mini/mini.img.xz, again
    Mini,
    /// Boot a card in QEMU beside a home router, and look at it from outside
    Boot(boot::Options),
    /// Measure palmfarm side by side with what people use: target/bench.md
    Bench(bench::Options),
    /// Compare random edits of random ext4 by our writer with the kernel's (as root)
    Ext4 {
        /// Edit lists for each shape of filesystem
        #[arg(long, value_name = "N", default_value_t = ext4::CASES)]
        cases: u32,
    },
    /// Fuzz the entry points for untrusted bytes (wants nightly Rust and cargo-fuzz)
    Fuzz(fuzz::Options),
    /// Try every farm and every command line of the documents, and make the book if mdBook is here
    Docs {
        /// Make the reference in docs/reference again first
        #[arg(long)]
        write: bool,
    },
    /// Check the rules of ARCHITECTURE.md that a compiler does not know
    Tidy,
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Demo => demo::run(),
        Chore::Test { quick } => return tests(if quick { Extent::Quick } else { Extent::Full }),
        Chore::Ci => return verdict(ci::run()),
        Chore::Dist => dist::run(),
        Chore::Release(options) => release::run(&options),
        Chore::Agents { archs } => agents::run(&archs),
        Chore::Base { layout } => base::run(&layout),
        Chore::Mini => base::mini::run(),
        Chore::Boot(options) => boot::run(&options),
        Chore::Bench(options) => bench::run(options),
        Chore::Ext4 { cases } => ext4::run(cases),
        Chore::Fuzz(options) => fuzz::run(options),
        Chore::Docs { write } => docs::run(write),
        Chore::Tidy => tidy::run(),
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

/// The folder for everything that is made.
pub(crate) fn target_dir() -> PathBuf {
    workspace_dir().join("target")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chore_is_described() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        for chore in Cli::command().get_subcommands() {
            assert!(chore.get_about().is_some(), "{}", chore.get_name());
        }
    }
}
