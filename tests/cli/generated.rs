//! What is made from the declarations of the command line, and the documentation that must agree with them.

use std::collections::BTreeSet;
use std::fs;

use clap::{Command, CommandFactory};
use palmfarm::cli::args::Palmfarm;

use super::{palmfarm, told};

/// The tool's commands, by name.
fn commands() -> Vec<Command> {
    let mut tool = Palmfarm::command();
    tool.build();
    let shown = tool
        .get_subcommands()
        .filter(|command| command.get_name() != "help" && !command.is_hide_set());
    shown.cloned().collect()
}

#[test]
fn every_command_has_a_man_page_that_man_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let out = palmfarm(dir.path(), &["man", "pages/man1"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let pages = dir.path().join("pages/man1");
    let whole = fs::read_to_string(pages.join("palmfarm.1")).unwrap();
    for section in ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"] {
        assert!(
            whole.contains(&format!(".SH \"{section}\"")) || whole.contains(&format!(".SH {section}")),
            "{whole}"
        );
    }
    let build = fs::read_to_string(pages.join("palmfarm-build.1")).unwrap();
    assert!(build.contains("[\\-\\-card CARD]"), "{build}");
    for command in commands() {
        let name = format!("palmfarm-{}", command.get_name());
        let page = fs::read_to_string(pages.join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".TH "), "{page}");
        let about = command.get_about().unwrap().to_string();
        assert!(
            page.contains(&about.replace('-', "\\-")),
            "{name} does not say {about:?}"
        );
        for below in command
            .get_subcommands()
            .filter(|below| below.get_name() != "help")
        {
            assert!(pages.join(format!("{name}-{}.1", below.get_name())).is_file());
        }
    }
    // A second run replaces them, and leaves nothing else.
    let before = fs::read_dir(&pages).unwrap().count();
    assert_eq!(
        palmfarm(dir.path(), &["man", "pages/man1"]).status.code(),
        Some(0)
    );
    assert_eq!(fs::read_dir(&pages).unwrap().count(), before);
    let out = palmfarm(dir.path(), &["man", "pages/man1/palmfarm.1/below"]);
    assert_eq!(out.status.code(), Some(3), "{}", told(&out));
}

#[test]
fn farm_yaml_and_the_agent_have_pages() {
    let dir = tempfile::tempdir().unwrap();
    let out = palmfarm(dir.path(), &["man", "."]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let farm = fs::read_to_string(dir.path().join("palmfarm.yaml.5")).unwrap();
    for key in palmfarm::cli::reference::keys() {
        let path = key.path.replace('-', "\\-");
        assert!(farm.contains(&format!("\\fB{path}\\fR")), "{path}: {farm}");
    }
    let agent = fs::read_to_string(dir.path().join("palmfarm-agent.8")).unwrap();
    for command in palmfarm_agent::arguments::COMMANDS {
        let name = command.name;
        assert!(
            agent.contains(&format!("\n.TP\n\\fB{name}\\fR")),
            "{name} is not in {agent}"
        );
    }
    // man's own formatter has nothing to say; it is not everywhere.
    let mut groff = std::process::Command::new("groff");
    groff
        .args(["-man", "-ww", "-Tutf8", "-Z"])
        .current_dir(dir.path());
    for page in fs::read_dir(dir.path()).unwrap() {
        groff.arg(page.unwrap().path());
    }
    match groff.output() {
        Ok(out) => assert!(out.stderr.is_empty(), "{}", told(&out)),
        Err(_) => println!("skipped in part: man pages: groff is not here"),
    }
}

/// What bash offers at Tab after the words of `line`.
fn offered(line: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let out = palmfarm(dir.path(), &["completions", "bash"]);
    fs::write(dir.path().join("palmfarm.bash"), out.stdout).unwrap();
    let script = r#"
        source palmfarm.bash
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _palmfarm palmfarm "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = std::process::Command::new("bash");
    bash.args(["--norc", "-c", script, "bash"]).args(line);
    let out = bash.current_dir(dir.path()).output().unwrap();
    assert!(out.stderr.is_empty(), "{line:?}: {}", told(&out));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines()
        .map(str::to_owned)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn bash_offers_what_there_is() {
    let check = |line: &[&str], expect: &[&str]| {
        let mut offered = offered(line);
        offered.sort();
        assert_eq!(offered, expect, "{line:?}");
    };
    check(&["palmfarm", "ch"], &["check"]);
    check(&["palmfarm", "base", "su"], &["suggest"]);
    check(
        &["palmfarm", "base", "fetch", "ubuntu-22"],
        &["ubuntu-22.04-arm64", "ubuntu-22.04-armhf"],
    );
    check(&["palmfarm", "base", "suggest", "zero"], &["zero2w"]);
    check(
        &["palmfarm", "plan", "farm.yaml", "--format", "h"],
        &["hosts", "html"],
    );
    check(&["palmfarm", "flash", "--al"], &["--allow"]);
}

#[test]
fn every_shell_gets_completions_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let out = palmfarm(dir.path(), &["completions", shell]);
        assert_eq!(out.status.code(), Some(0), "{shell}: {}", told(&out));
        let script = String::from_utf8(out.stdout).unwrap();
        for command in commands() {
            assert!(
                script.contains(command.get_name()),
                "{shell}: {}",
                command.get_name()
            );
        }
    }
}

#[test]
fn the_schema_is_printed_whole() {
    let dir = tempfile::tempdir().unwrap();
    let out = palmfarm(dir.path(), &["schema"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let schema: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(schema["properties"]["farm"]["const"], 1);
}

/// The command column of the manual's table: name, and the long options it mentions.
fn table() -> Vec<(String, BTreeSet<String>)> {
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/manual.md")).unwrap();
    let cells = manual
        .lines()
        .filter_map(|line| line.strip_prefix("| `palmfarm "))
        .map(|line| {
            // A bar inside of a cell is written `\|`.
            let line = line.replace("\\|", "\u{1}");
            line.split('|').next().unwrap_or_default().replace('\u{1}', "|")
        });
    cells
        .map(|cell| {
            let name = cell
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
                .next()
                .unwrap_or_default();
            let options = cell
                .split(|c: char| c.is_whitespace() || matches!(c, '[' | ']' | '`' | '…'))
                .filter(|word| word.starts_with("--"))
                .map(str::to_owned);
            (name.to_owned(), options.collect())
        })
        .collect()
}

#[test]
fn the_table_in_the_manual_is_the_list_of_commands() {
    let table = table();
    let told: BTreeSet<String> = table.iter().map(|(name, _)| name.clone()).collect();
    let there: BTreeSet<String> = commands()
        .iter()
        .map(|command| command.get_name().to_owned())
        .collect();
    assert_eq!(told, there);
    for (name, options) in &table {
        let command = commands()
            .into_iter()
            .find(|command| command.get_name() == name)
            .unwrap();
        let mut known: BTreeSet<String> = BTreeSet::new();
        for one in std::iter::once(&command).chain(command.get_subcommands()) {
            known.extend(
                one.get_arguments()
                    .filter_map(|arg| arg.get_long())
                    .map(|long| format!("--{long}")),
            );
        }
        let unknown: Vec<_> = options.difference(&known).collect();
        assert!(
            unknown.is_empty(),
            "the manual gives `palmfarm {name}` {unknown:?}, which it does not take"
        );
    }
}
