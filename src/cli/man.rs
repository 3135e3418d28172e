//! `palmfarm man DIR`: a man page for the tool and for each of its commands, one for farm.yaml, and the agent's. What the
//! command line and the schema declare is taken from there; `man/words.rs` has the rest.

mod words;

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap_mangen::roff::{bold, roman, Roff};
use clap_mangen::Man;

use super::args;
use super::reference::{self, synopsis};
use super::ui::Ui;
use super::{CliResult, Outcome, OutcomeExt};
use crate::host::atomic_file::{AtomicFile, Durability, Readers};

/// The agent's page. Its tests compare it with the agent's own usage.
const AGENT: &str = include_str!("man/palmfarm-agent.8");

/// What stands at the foot of every page.
const SOURCE: &str = concat!("palmfarm ", env!("CARGO_PKG_VERSION"));

pub(super) fn run(args: &args::Man, ui: Ui) -> CliResult {
    fs::create_dir_all(&args.dir)
        .with_context(|| format!("creating the folder {}", args.dir.display()))
        .or_fail(Outcome::Failed)?;
    let tool = reference::tool();
    let mut pages = vec![
        (format!("{}.1", tool.get_name()), command_page(&tool)),
        ("palmfarm.yaml.5".to_owned(), farm_page()),
        ("palmfarm-agent.8".to_owned(), AGENT.replace("@SOURCE@", SOURCE)),
    ];
    reference::commands(&tool, &mut |command| {
        pages.push((format!("{}.1", name(command)), command_page(command)));
    });
    for (file, page) in &pages {
        write(&args.dir.join(file), page)?;
    }
    let count = pages.len();
    ui.report(
        &serde_json::json!({"event": "man", "pages": count, "dir": args.dir}),
        format_args!("wrote {count} man pages to {}", args.dir.display()),
    );
    Ok(())
}

fn write(path: &Path, page: &str) -> CliResult {
    AtomicFile::create(path, Readers::All)
        .and_then(|file| {
            std::io::Write::write_all(&mut file.file(), page.as_bytes())?;
            file.commit(Durability::Cached)
        })
        .with_context(|| format!("writing {}", path.display()))
        .or_fail(Outcome::Failed)
}

/// The name of a command's page: `palmfarm-base-fetch`.
fn name(command: &clap::Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn command_page(command: &clap::Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let long = command
        .get_long_about()
        .map_or_else(|| about.clone(), ToString::to_string);
    let mut page = Page::new(name(command), "1", "User Commands");
    page.section("NAME").text(format!("{} - {about}", name(command)));
    page.section("SYNOPSIS").text(synopsis(command));
    page.section("DESCRIPTION")
        .text(format!("{}.", long.trim_end_matches('.')));
    let man = Man::new(command.clone());
    page.by(|out| man.render_options_section(out));
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        page.by(|out| man.render_subcommands_section(out));
    }
    let words: Vec<&str> = command.get_bin_name().unwrap_or_default().split(' ').collect();
    page.list(
        "EXIT STATUS",
        words::EXIT_STATUS.iter().map(|(code, text)| (*code, *text)),
    );
    page.list("ENVIRONMENT", words::chosen(words::ENVIRONMENT, &words));
    page.list("FILES", words::chosen(words::FILES, &words));
    page.list("EXAMPLES", words::examples(&words));
    let mut others = vec![
        "palmfarm(1)".to_owned(),
        "palmfarm.yaml(5)".to_owned(),
        "palmfarm-agent(8)".to_owned(),
    ];
    if words.len() == 1 {
        reference::commands(command, &mut |below| others.push(format!("{}(1)", name(below))));
    }
    others.retain(|other| other.trim_end_matches("(1)") != name(command));
    page.section("SEE ALSO").text(others.join(", "));
    page.finish()
}

/// `palmfarm.yaml(5)`, from the schema.
fn farm_page() -> String {
    let mut page = Page::new("palmfarm.yaml", "5", "File Formats");
    page.section("NAME")
        .text("palmfarm.yaml - the farm file of palmfarm");
    page.section("DESCRIPTION").text(words::FARM);
    let keys = reference::keys();
    let entries = keys.iter().map(|key| {
        let default = key
            .default
            .as_ref()
            .map(|default| format!(" Default: {default}."));
        let required = if key.required { " Required." } else { "" };
        let text = format!(
            "{} It takes {}.{}{required}",
            key.text,
            key.takes,
            default.unwrap_or_default()
        );
        (key.path.as_str(), text.replace('`', ""))
    });
    page.list("KEYS", entries);
    page.section("EXAMPLE").verbatim(words::SHORT_FARM);
    page.section("SEE ALSO")
        .text("palmfarm(1), palmfarm-check(1), palmfarm-schema(1)");
    page.finish()
}

/// A page of the manual that grows from top to bottom.
struct Page {
    roff: Roff,
    /// What is finished, in troff's own form.
    text: String,
}

impl Page {
    fn new(name: &str, section: &str, manual: &str) -> Self {
        let mut roff = Roff::new();
        roff.control("TH", [name, section, "", SOURCE, manual]);
        Self {
            roff,
            text: String::new(),
        }
    }

    fn section(&mut self, title: &str) -> &mut Self {
        self.roff.control("SH", [title]);
        self
    }

    fn text(&mut self, text: impl Into<String>) {
        self.roff.text([roman(text)]);
    }

    /// Lines as they are.
    fn verbatim(&mut self, text: &str) {
        self.roff.control("nf", []);
        for line in text.lines() {
            self.roff.text([roman(line)]);
        }
        self.roff.control("fi", []);
    }

    /// A section of terms and what they mean; nothing if there are none.
    fn list<'a, T: Into<String>>(&mut self, title: &str, entries: impl IntoIterator<Item = (&'a str, T)>) {
        let mut entries = entries.into_iter().peekable();
        if entries.peek().is_none() {
            return;
        }
        self.section(title);
        for (term, text) in entries {
            self.roff.control("TP", []);
            self.roff.text([bold(term)]);
            self.roff.text([roman(text)]);
        }
    }

    /// What `clap_mangen` writes at this place.
    fn by(&mut self, render: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) {
        let mut out = Vec::new();
        // Writing into memory does not fail.
        drop(render(&mut out));
        self.take();
        self.text
            .push_str(&without_preamble(&String::from_utf8_lossy(&out)));
    }

    /// Put what was added so far into the text.
    fn take(&mut self) {
        let roff = std::mem::take(&mut self.roff).render();
        let part = if self.text.is_empty() {
            roff
        } else {
            without_preamble(&roff)
        };
        self.text.push_str(&part);
    }

    fn finish(mut self) -> String {
        self.take();
        self.text
    }
}

/// A piece of a page without the definitions that roff puts at the beginning of each.
fn without_preamble(piece: &str) -> String {
    let from = piece.find(".SH").unwrap_or(piece.len());
    piece.get(from..).unwrap_or_default().to_owned()
}
