//! The agent's command line; everything else is in the library beside it.
//!
//! Exit codes: 0 all is as declared, 1 refused and nothing touched, 2 usage, 3 something could not be made true.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use palmfarm_agent::apply;
use palmfarm_agent::root::Root;
use palmfarm_agent::run::{self, Ending};
use palmfarm_agent::status::{self, Form};
use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::paths::DOCUMENT;

const USAGE: &str = "\
usage: palmfarm-agent [--root DIR] COMMAND
    bridge                give the bridge the hardware address of the uplink (before systemd-networkd)
    seed                  let cloud-init begin anew after a first boot that was cut short (before cloud-init)
    network               confirm the declared network, or go back to DHCP
    run [--document FILE] make true what the card declares
    apply FILE            put another first-boot document in the place of the card's own, and make that true
    status [--json] [--follow]
                          how far that is; --follow until the run at work has ended
    version               the agent's version";

fn main() -> ExitCode {
    let mut args: Vec<String> = env::args().skip(1).collect();
    let mut root = PathBuf::from("/");
    if args.first().is_some_and(|first| first == "--root") && args.len() > 1 {
        root = PathBuf::from(args.remove(1));
        args.remove(0);
    }
    let root = Root::new(root);
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let ending = match words.as_slice() {
        ["bridge"] => with_document(&root, None, |document, _| run::bridge(&root, document)),
        ["seed"] => run::seed(&root),
        ["network"] => with_document(&root, None, |document, _| run::network(&root, document)),
        ["run"] => with_document(&root, None, |document, digest| run::run(&root, document, digest)),
        ["run", "--document", file] => with_document(&root, Some(file), |document, digest| {
            run::run(&root, document, digest)
        }),
        ["apply", file] => apply::apply(&root, Path::new(file)),
        ["status"] => status::once(&root, Form::Text),
        ["status", "--json"] => status::once(&root, Form::Json),
        ["status", "--follow"] => status::follow(&root, Form::Text),
        ["status", "--json", "--follow"] | ["status", "--follow", "--json"] => {
            status::follow(&root, Form::Json)
        }
        ["version" | "--version"] => {
            println!("palmfarm-agent {}", env!("CARGO_PKG_VERSION"));
            Ending::Done
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match ending {
        Ending::Done => ExitCode::SUCCESS,
        Ending::Refused => ExitCode::from(1),
        Ending::Failed => ExitCode::from(3),
    }
}

/// A document that is named lies where the caller says; the card's own lies below the root.
fn with_document(
    root: &Root,
    named: Option<&str>,
    command: impl FnOnce(&FirstBoot, &str) -> Ending,
) -> Ending {
    let file = named.map_or_else(|| root.at(DOCUMENT), PathBuf::from);
    match run::document(&file) {
        Ok((document, digest)) => command(&document, &digest),
        Err(trouble) => {
            eprintln!("palmfarm-agent: {trouble}");
            Ending::Refused
        }
    }
}
