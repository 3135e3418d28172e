//! `palmfarm completions SHELL`: what the shell completes after `palmfarm`.

use clap::CommandFactory;

use super::args::{Completions, Palmfarm};
use super::ui::Ui;
use super::CliResult;

pub(super) fn run(args: &Completions, ui: Ui) -> CliResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Palmfarm::command(), "palmfarm", &mut script);
    ui.output(&script)
}
