//! The documents: every farm in them is checked, every command line in them is run or at least parsed, and the reference is
//! what schema and command line declare. `UPDATE_EXPECT=1` writes the reference again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod blocks;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::Parser;
use expect_test::expect_file;
use palmfarm::cli::args::Palmfarm;
use palmfarm::cli::reference;

use blocks::{blocks, command_lines, Block};
use common::agents::{give_agents, has_agents};

/// The top of the source tree.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What stands in the documents where a reader puts a public key, and the key of the examples, which is one.
const KEY: (&str, &str) = (
    "AAAA…",
    "AAAAC3NzaC1lZDI1NTE5AAAAIJ9uFcIdEjWNV0yG3V0bKlBhGFgwcTLrVn6hqw6kJ4wV",
);

/// Pages of the book and the README, by path below [`ROOT`].
fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned()];
    for folder in ["docs", "docs/reference"] {
        for entry in fs::read_dir(Path::new(ROOT).join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.strip_suffix(".md").is_some() {
                pages.push(format!("{folder}/{name}"));
            }
        }
    }
    pages.sort();
    pages
}

fn text(page: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(page)).unwrap()
}

#[test]
fn the_reference_is_what_is_declared() {
    expect_file!["../../docs/reference/farm-yaml.md"].assert_eq(&reference::farm_page());
    expect_file!["../../docs/reference/commands.md"].assert_eq(&reference::commands_page());
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = text("docs/SUMMARY.md");
    let listed: BTreeSet<String> = summary
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(link, _)| format!("docs/{link}"))
        .collect();
    let there = pages()
        .into_iter()
        .filter(|page| page != "README.md" && page != "docs/SUMMARY.md");
    assert_eq!(listed, there.collect());
}

/// A folder as a reader has it: the examples and the files that they name, and a public key.
struct Reader(tempfile::TempDir);

impl Reader {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&Path::new(ROOT).join("examples"), dir.path());
        copy(&Path::new(ROOT).join("examples"), &dir.path().join("examples"));
        fs::create_dir(dir.path().join(".ssh")).unwrap();
        let key = format!("ssh-ed25519 {} reader\n", KEY.1);
        fs::write(dir.path().join(".ssh/id_ed25519.pub"), key).unwrap();
        Self(dir)
    }

    fn palmfarm(&self, args: &[String]) -> Output {
        let home = self.0.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_palmfarm"));
        command
            .current_dir(home)
            .env("HOME", home)
            .env_remove("XDG_CACHE_HOME");
        give_agents(&mut command).args(args).output().unwrap()
    }

    /// Check `farm`, and leave it as farm.yaml on the built-in base.
    fn take(&self, page: &str, farm: &str) {
        let farm = farm.replace(KEY.0, KEY.1);
        let file = self.0.path().join("farm.yaml");
        fs::write(&file, &farm).unwrap();
        if farm.contains("\ncluster:") {
            let out = self.palmfarm(&["keys".to_owned(), "new".to_owned()]);
            assert_eq!(out.status.code(), Some(0), "{page}:\n{farm}\n{}", told(&out));
        }
        let out = self.palmfarm(&["check".to_owned(), "farm.yaml".to_owned()]);
        assert_eq!(out.status.code(), Some(0), "{page}:\n{farm}\n{}", told(&out));
        fs::write(&file, on_mini(&farm)).unwrap();
    }
}

/// `farm` on the built-in base, since Ubuntu's are not here.
fn on_mini(farm: &str) -> String {
    let lines = farm.lines().map(|line| match line.strip_prefix("base:") {
        Some(_) => "base: mini\n".to_owned(),
        None => format!("{line}\n"),
    });
    lines.collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to: PathBuf = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else if to.extension().is_some_and(|end| end == "yaml") {
            fs::write(to, on_mini(&fs::read_to_string(entry.path()).unwrap())).unwrap();
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn told(out: &Output) -> String {
    let (stdout, stderr) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    format!("{}\n{stdout}\n{stderr}", out.status)
}

#[test]
fn every_farm_and_every_command_works() {
    if !has_agents() {
        return;
    }
    let (mut farms, mut ran, mut parsed, mut others) = (0, 0, 0, 0);
    for page in pages() {
        let reader = Reader::new();
        for block in blocks(&text(&page)) {
            match block {
                Block::Farm(farm) => {
                    reader.take(&page, &farm);
                    farms += 1;
                }
                Block::Console { text, runs } => {
                    for line in command_lines(&text) {
                        let Some(args) = line.palmfarm() else {
                            assert!(
                                !runs,
                                "{page}: `{}` is not palmfarm's, so the block needs `console,no_run`",
                                line.shown
                            );
                            others += 1;
                            continue;
                        };
                        let all = std::iter::once("palmfarm".to_owned()).chain(args.iter().cloned());
                        if let Err(error) = Palmfarm::try_parse_from(all) {
                            assert!(!error.use_stderr(), "{page}: `{}`: {error}", line.shown);
                        }
                        parsed += 1;
                        if runs {
                            let out = reader.palmfarm(&args);
                            assert_eq!(
                                out.status.code(),
                                Some(0),
                                "{page}: `{}`: {}",
                                line.shown,
                                told(&out)
                            );
                            ran += 1;
                        }
                    }
                }
            }
        }
    }
    println!(
        "docs: {farms} farms checked; {ran} of {parsed} palmfarm commands run, the others parsed; {others} commands of \
         other programs not tried"
    );
    assert!(farms > 0 && ran > 0, "the documents are not read as they were");
}
