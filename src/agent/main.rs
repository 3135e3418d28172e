//! The agent's command line; everything else is in the library beside it.
//!
//! Exit codes: 0 all is as declared, 1 refused and nothing was touched, 2 usage, 3 something could not be made true.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use palmfarm_agent::root::Root;
use palmfarm_agent::run::{self, ExitStatus};
use palmfarm_agent::status::{self, Format};
use palmfarm_agent::{apply, rebuild};

const USAGE: &str = "\
usage: palmfarm-agent [--root DIR] COMMAND
    bridge                give the bridge the hardware address of the uplink (before systemd-networkd)
    seed                  let cloud-init start again after a first boot that was cut short (before cloud-init)
    network               confirm the declared network, or go back to DHCP
    run [--document FILE] make true what the card declares
    apply FILE            replace the card's first-boot document with another one, and make that true
    rebuild NAME [--yes]  make a container again; the old one stays under another name
    status [--json] [--follow]
                          how far the card is; --follow until the current run has ended
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
    let status = match words.as_slice() {
        ["bridge"] => run::with_document(&root, None, |document, _| run::bridge(&root, document)),
        ["seed"] => run::seed(&root),
        ["network"] => run::with_document(&root, None, |document, _| run::network(&root, document)),
        ["run"] => run::with_document(&root, None, |document, digest| run::run(&root, document, digest)),
        ["run", "--document", file] => run::with_document(&root, Some(file), |document, digest| {
            run::run(&root, document, digest)
        }),
        ["apply", file] => apply::apply(&root, Path::new(file)),
        ["rebuild", name] | ["rebuild", name, "--yes"] | ["rebuild", "--yes", name] => {
            let asked = words.len() == 3;
            run::with_document(&root, None, |document, digest| {
                rebuild::rebuild(&root, document, digest, name, asked)
            })
        }
        ["status"] => status::once(&root, Format::Text),
        ["status", "--json"] => status::once(&root, Format::Json),
        ["status", "--follow"] => status::follow(&root, Format::Text),
        ["status", "--json", "--follow"] | ["status", "--follow", "--json"] => {
            status::follow(&root, Format::Json)
        }
        ["version" | "--version"] => {
            println!("palmfarm-agent {}", env!("CARGO_PKG_VERSION"));
            ExitStatus::Done
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match status {
        ExitStatus::Done => ExitCode::SUCCESS,
        ExitStatus::Refused => ExitCode::from(1),
        ExitStatus::Failed => ExitCode::from(3),
    }
}
