//! Parse, run, exit code. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use palmfarm::cli::args::{Command, Palmfarm};
use palmfarm::cli::progress::Audience;
use palmfarm::cli::{self, Outcome, Voice};

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        // People get a sentence and a place, never a backtrace.
        let place = panic
            .location()
            .map(|at| format!(" at {}:{}", at.file(), at.line()))
            .unwrap_or_default();
        cli::say::complaint(format_args!(
            "palmfarm: this is a bug in palmfarm{place}; please report it with the command you ran"
        ));
    }));
    let args = match Palmfarm::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // `--help` and `--version` come this way too, and go to standard output.
            let outcome = if error.use_stderr() {
                Outcome::Usage
            } else {
                Outcome::Done
            };
            drop(error.print());
            return outcome.into();
        }
    };
    if args.quiet {
        cli::say::hush();
    }
    let voice = if args.json { Voice::Json } else { Voice::People };
    let ended = std::panic::catch_unwind(|| run(&args, voice));
    match ended {
        Ok(Ok(())) => Outcome::Done.into(),
        Ok(Err(failure)) => failure.report(voice),
        Err(_) => Outcome::Failed.into(),
    }
}

fn run(args: &Palmfarm, voice: Voice) -> cli::Ended {
    let audience = match (args.quiet, voice) {
        (true, _) => Audience::Nobody,
        (false, Voice::Json) => Audience::Program,
        (false, Voice::People) => Audience::People,
    };
    match &args.command {
        Command::Init(args) => cli::init::run(args),
        Command::Check(args) => cli::check::run(args, voice),
        Command::Devices => cli::list::run(voice),
        Command::Plan(args) => cli::plan::run(args, voice, audience),
        Command::Build(args) => cli::build::run(args, voice, audience),
        Command::Flash(args) => cli::flash::run(args, voice, audience),
        Command::Inspect(args) => cli::inspect::run(args, voice, audience),
        Command::Base(args) => cli::base::run(args, voice, audience),
        Command::Schema => cli::schema::run(),
        Command::Completions(args) => cli::completions::run(args),
        Command::Man(args) => cli::man::run(args, voice),
    }
}
