//! `palmfarm completions SHELL`: what the shell completes after `palmfarm`.

use clap::CommandFactory;

use super::args::{Completions, Palmfarm};
use super::{written, Ended};

/// Print them.
///
/// # Errors
/// Failed, where standard output cannot be written.
pub fn run(args: &Completions) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Palmfarm::command(), "palmfarm", &mut script);
    written(&script)
}
