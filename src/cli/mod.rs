//! The command line: arguments, commands, and what people and scripts see of them. The library decides; this room asks it
//! and prints the answers.

pub mod args;
mod ask;
mod base;
mod build;
mod check;
mod complete;
pub mod devices;
mod doctor;
mod env;
mod find;
mod flash;
mod from_farm;
mod image;
mod init;
mod inspect;
mod keys;
mod lock;
mod man;
mod outcome;
mod plan;
mod progress;
mod push;
pub mod reference;
mod remote;
mod session;
mod ui;
mod watch;

use std::panic::{catch_unwind, set_hook, PanicHookInfo};
use std::process::ExitCode;

use clap::Parser;

use args::{Command, Palmfarm};
use outcome::{CliResult, Failure, Outcome, OutcomeExt};
use ui::Ui;

use crate::farm::SCHEMA;

/// Parse the arguments, run the command, and return its exit code.
pub fn main() -> ExitCode {
    set_hook(Box::new(report_panic));
    let mut args = match Palmfarm::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // `--help` and `--version` are errors too, which clap prints on standard output.
            let outcome = if error.use_stderr() {
                Outcome::Usage
            } else {
                Outcome::Done
            };
            drop(error.print());
            return outcome.into();
        }
    };
    if let Command::Flash(flash) = &mut args.command {
        flash.settle();
    }
    let ui = Ui {
        json: args.json,
        quiet: args.quiet,
    };
    match catch_unwind(|| run(&args.command, ui)) {
        Ok(Ok(())) => Outcome::Done.into(),
        Ok(Err(failure)) => failure.report(ui),
        Err(_) => Outcome::Failed.into(),
    }
}

fn run(command: &Command, ui: Ui) -> CliResult {
    match command {
        Command::Init(args) => init::run(args, ui),
        Command::Check(args) => check::run(args, ui),
        Command::Devices => devices::run(ui),
        Command::Lock(args) => lock::run(args, ui),
        Command::Keys(args::Keys::New(args)) => keys::new(args, ui),
        Command::Find(args) => find::run(args, ui),
        Command::Watch(args) => watch::run(args, ui),
        Command::Push(args) => push::run(args, ui),
        Command::Plan(args) => plan::run(args, ui),
        Command::Build(args) => build::run(args, ui),
        Command::Flash(args) => flash::run(args, ui),
        Command::Inspect(args) => inspect::run(args, ui),
        Command::Doctor(args) => doctor::run(args, ui),
        Command::Base(args) => base::run(args, ui),
        Command::Image(args) => image::run(args, ui),
        Command::Schema => ui.output(SCHEMA.as_bytes()),
        Command::Completions(args) => ui.output(&complete::script(args.shell)),
        Command::Man(args) => man::run(args, ui),
    }
}

/// People get a sentence and a place, never a backtrace.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map(|at| format!(" at {}:{}", at.file(), at.line()))
        .unwrap_or_default();
    // A panic may come before the arguments are known, and is reported even with `--quiet`.
    let ui = Ui {
        json: false,
        quiet: false,
    };
    ui.error_line(format_args!(
        "palmfarm: this is a bug in palmfarm{place}; please report it with the command you ran"
    ));
}
