//! The agent's command line; everything else is in the library beside it.
//!
//! Exit codes: 0 all is as declared, 1 refused and nothing was touched, 2 usage, 3 something could not be made true.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use palmfarm_agent::arguments::{self, Request};
use palmfarm_agent::root::Root;
use palmfarm_agent::run::{self, ExitStatus};
use palmfarm_agent::status::{self, Format};
use palmfarm_agent::{apply, cluster, doctor, rebuild};
use palmfarm_protocol::firstboot::FirstBoot;

fn main() -> ExitCode {
    let mut args: Vec<String> = env::args().skip(1).collect();
    let mut root = PathBuf::from("/");
    if args.first().is_some_and(|first| first == "--root") && args.len() > 1 {
        root = PathBuf::from(args.remove(1));
        args.remove(0);
    }
    let root = Root::new(root);
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let parsed = match arguments::parse(&words) {
        Ok(Request::Run(parsed)) => parsed,
        Ok(Request::Help(text)) => {
            // A reader that stops early, as head(1) does, is not a failure.
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("palmfarm-agent: {}", error.trim_end());
            return ExitCode::from(2);
        }
    };
    let own = |command: fn(&Root, &FirstBoot) -> ExitStatus| {
        run::with_document(&root, None, |document, _| command(&root, document))
    };
    let format = if parsed.has("--json") {
        Format::Json
    } else {
        Format::Text
    };
    let status = match parsed.command {
        "bridge" => own(run::bridge),
        "seed" => run::seed(&root),
        "network" => own(run::network),
        "doctor" => own(doctor::doctor),
        "log" => doctor::log(&root),
        "run" => run::with_document(&root, parsed.value("--document"), |document, digest| {
            run::run(&root, document, digest)
        }),
        "apply" => {
            let mode = if parsed.has("--dry-run") {
                apply::Mode::Look(format)
            } else {
                apply::Mode::Apply
            };
            apply::apply(&root, Path::new(parsed.operand()), mode)
        }
        "rebuild" => run::with_document(&root, None, |document, digest| {
            rebuild::rebuild(&root, document, digest, parsed.operand(), parsed.has("--yes"))
        }),
        "cluster care" => own(cluster::care),
        "cluster forget" => run::with_document(&root, None, |document, _| {
            cluster::forget(&root, document, parsed.operand(), parsed.has("--yes"))
        }),
        "status" if parsed.has("--follow") => status::follow(&root, format),
        "status" => status::once(&root, format),
        _ => {
            println!("palmfarm-agent {}", env!("CARGO_PKG_VERSION"));
            ExitStatus::Done
        }
    };
    match status {
        ExitStatus::Done => ExitCode::SUCCESS,
        ExitStatus::Refused => ExitCode::from(1),
        ExitStatus::Failed => ExitCode::from(3),
    }
}
