//! `palmfarm man DIR`: a man page for the tool and one for each of its commands, from the declarations that `--help`
//! prints.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;

use super::args::{self, Palmfarm};
use super::ui::Ui;
use super::{CliResult, Failure, Outcome, OutcomeExt};
use crate::host::atomic_file::{AtomicFile, Durability, Readers};

pub(super) fn run(args: &args::Man, ui: Ui) -> CliResult {
    fs::create_dir_all(&args.dir)
        .with_context(|| format!("creating the folder {}", args.dir.display()))
        .or_fail(Outcome::Failed)?;
    let mut tool = Palmfarm::command().disable_help_subcommand(true);
    tool.build();
    let pages = pages(&tool, &args.dir)?;
    ui.report(
        &serde_json::json!({"event": "man", "pages": pages, "dir": args.dir}),
        format_args!("wrote {pages} man pages to {}", args.dir.display()),
    );
    Ok(())
}

/// Write the pages of `command` and of everything below it, and count them.
fn pages(command: &clap::Command, dir: &Path) -> Result<usize, Failure> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let path = dir.join(format!("{name}.1"));
    let mut page = Vec::new();
    Man::new(command.clone())
        .render(&mut page)
        .and_then(|()| {
            let file = AtomicFile::create(&path, Readers::All)?;
            std::io::Write::write_all(&mut file.file(), &page)?;
            file.commit(Durability::Cached)
        })
        .with_context(|| format!("writing {}", path.display()))
        .or_fail(Outcome::Failed)?;
    let mut count = 1_usize;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        count = count.saturating_add(pages(below, dir)?);
    }
    Ok(count)
}
