//! `palmfarm init`: asks for what a first farm needs, offering what this computer knows already, and writes the farm; never
//! over a file.

mod answers;
mod keys;

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{anyhow, Context};
use serde_json::json;

use super::args::Init;
use super::ask::ask_line;
use super::env::{self, drop_privileges};
use super::session::Session;
use super::ui::Ui;
use super::{lock, CliResult, Failure, Outcome, OutcomeExt};
use crate::farm::decode::values;
use crate::host::{computer, privileges};
use crate::text::shell_quote;
use answers::{Answers, Container, Key};

/// The file name that means standard output.
const STDOUT: &str = "-";

pub(super) fn run(args: &Init, ui: Ui) -> CliResult {
    drop_privileges()?;
    let prints = args.file == Path::new(STDOUT);
    if !prints {
        refuse_existing(&args.file)?;
    }
    let session = Session::start(ui);
    let folder = args.file.parent().filter(|dir| *dir != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    let mut setup = Setup {
        answers: start(),
        folder,
        asks: ui.can_ask() && !args.yes,
        session: &session,
    };
    setup.settle_all(args)?;
    let (answers, asked) = (setup.answers, setup.asks);
    let text = answers.text().or_fail(Outcome::Failed)?;
    if prints {
        ui.output(text.as_bytes())?;
        if answers.keys.iter().any(|key| matches!(key, Key::Account(..))) {
            ui.info_line(
                "the keys of accounts are not pinned, since the folder of the farm is not known: run `palmfarm lock` there",
            );
        }
        return Ok(());
    }
    for key in &answers.keys {
        if let Key::Account(account, lines) = key {
            lock::keep(folder, account, lines)?;
        }
    }
    write_new(&args.file, &text)?;
    report(&args.file, &answers, asked, ui);
    Ok(())
}

/// What is proposed where this computer knows nothing better.
fn start() -> Answers {
    Answers {
        board: "Raspberry Pi",
        base: "ubuntu-24.04-arm64",
        keys: Vec::new(),
        hostname: "palm".into(),
        user: "pi".into(),
        timezone: "Etc/UTC".into(),
        locale: None,
        address: None,
        gateway: None,
        containers: Vec::new(),
    }
}

/// The answers as they come.
struct Setup<'a> {
    answers: Answers,
    /// Where the farm will be.
    folder: &'a Path,
    /// Whether there is a person to ask.
    asks: bool,
    session: &'a Session,
}

/// One question.
struct Question<'q> {
    /// The option that answers it.
    option: &'q str,
    text: &'q str,
    /// The answers that will be proposed: the first one that will do.
    proposed: &'q [Option<String>],
}

impl Setup<'_> {
    fn settle_all(&mut self, args: &Init) -> CliResult {
        let board = Question {
            option: "--board",
            text: "which Raspberry Pi: 2, 3, 4, 5 or zero2w?",
            proposed: &[computer::board(), Some("3".into())],
        };
        // Nothing is checked before there is a key: a user without one is a problem.
        self.settle(&board, args.board.as_deref(), |answers, text, _| {
            answers.set_board(text)
        })?;
        self.keys(args)?;
        let hostname = Question {
            option: "--hostname",
            text: "host name of the Pi?",
            proposed: &[Some(self.answers.hostname.clone())],
        };
        self.settle(&hostname, args.hostname.as_deref(), |answers, text, dir| {
            text.clone_into(&mut answers.hostname);
            answers.verdict(dir)
        })?;
        let user = Question {
            option: "--user",
            text: "your login name on the Pi?",
            proposed: &[privileges::user_name(), Some(self.answers.user.clone())],
        };
        self.settle(&user, args.user.as_deref(), |answers, text, dir| {
            text.clone_into(&mut answers.user);
            answers.verdict(dir)
        })?;
        let timezone = Question {
            option: "--timezone",
            text: "time zone?",
            proposed: &[computer::time_zone(), Some(self.answers.timezone.clone())],
        };
        self.settle(&timezone, args.timezone.as_deref(), |answers, text, dir| {
            text.clone_into(&mut answers.timezone);
            answers.verdict(dir)
        })?;
        let locale = Question {
            option: "--locale",
            text: "locale, or none?",
            proposed: &[env::locale(), Some("none".into())],
        };
        self.settle(&locale, args.locale.as_deref(), |answers, text, dir| {
            answers.locale = (text != "none").then(|| text.to_owned());
            answers.verdict(dir)
        })?;
        self.network(args)?;
        self.containers(args)
    }

    fn network(&mut self, args: &Init) -> CliResult {
        let address = Question {
            option: "--ipv4",
            text: "IPv4 address of the Pi: dhcp, or a fixed one such as 192.168.1.10/24?",
            proposed: &[Some("dhcp".into())],
        };
        // The router is compared with it below.
        self.settle(&address, args.ipv4.as_deref(), |answers, text, _| {
            answers.address = (text != "dhcp").then(|| text.to_owned());
            match &answers.address {
                None => Ok(()),
                Some(text) => values::network::<Ipv4Addr>(text, 32).map(drop),
            }
        })?;
        if self.answers.address.is_none() {
            return match &args.gateway {
                None => Ok(()),
                Some(_) => Err(Failure::usage(
                    "--gateway is for a fixed address: give --ipv4 too",
                )),
            };
        }
        let gateway = Question {
            option: "--gateway",
            text: "address of your router?",
            proposed: &[computer::router().map(|router| router.to_string())],
        };
        self.settle(&gateway, args.gateway.as_deref(), |answers, text, dir| {
            let address = text
                .parse()
                .map_err(|_| format!("{text:?} is not an IPv4 address"))?;
            answers.gateway = Some(address);
            answers.verdict(dir)
        })
    }

    fn containers(&mut self, args: &Init) -> CliResult {
        let usual = if self.answers.is_32_bit() { "none" } else { "web" };
        let containers = Question {
            option: "--container",
            text: "first containers: none, or NAME or NAME=IMAGE each, such as web db=debian/12?",
            proposed: &[Some(usual.into())],
        };
        let given = (!args.container.is_empty()).then(|| args.container.join(" "));
        self.settle(&containers, given.as_deref(), |answers, text, dir| {
            answers.containers = match text {
                "none" => Vec::new(),
                text => {
                    let words = text.split([' ', ',']).filter(|word| !word.is_empty());
                    words.map(Container::parse).collect()
                }
            };
            answers.verdict(dir)
        })
    }

    /// Put `given` in the answers, or what the person says, or what is proposed. `set` says why an answer will not do.
    fn settle(
        &mut self,
        question: &Question<'_>,
        given: Option<&str>,
        set: impl Fn(&mut Answers, &str, &Path) -> Result<(), String>,
    ) -> CliResult {
        let attempt = |answers: &Answers, text: &str| {
            let mut next = answers.clone();
            set(&mut next, text, self.folder).map(|()| next)
        };
        if let Some(given) = given {
            self.answers = attempt(&self.answers, given).map_err(|why| {
                let (option, given) = (question.option, shell_quote(given));
                Failure::new(Outcome::Refused, anyhow!("{option} {given}: {why}"))
            })?;
            return Ok(());
        }
        let proposed = question
            .proposed
            .iter()
            .flatten()
            .find_map(|text| attempt(&self.answers, text).ok().map(|next| (text, next)));
        if !self.asks {
            let Some((_, next)) = proposed else {
                let error = anyhow!("this computer has no answer to: {}", question.text);
                return Err(Failure::refused(
                    error,
                    format!("give it with {}", question.option),
                ));
            };
            self.answers = next;
            return Ok(());
        }
        let shown = proposed.as_ref().map(|(text, _)| format!(" [{text}]"));
        let line = format!("{}{} ", question.text, shown.unwrap_or_default());
        loop {
            let answer = self.ask(&line)?;
            let verdict = match (answer.as_str(), &proposed) {
                ("", Some((_, next))) => Ok(next.clone()),
                (answer, _) => attempt(&self.answers, answer),
            };
            match verdict {
                Ok(next) => {
                    self.answers = next;
                    return Ok(());
                }
                Err(why) => self.session.ui.error_line(why),
            }
        }
    }

    /// What the person types; if they close the input, nothing is written.
    fn ask(&self, question: &str) -> Result<String, Failure> {
        ask_line(question, self.session)?.ok_or_else(|| {
            self.session.ui.error_line("nothing was written");
            Failure::printed(Outcome::Refused)
        })
    }
}

fn refuse_existing(file: &Path) -> CliResult {
    if fs::symlink_metadata(file).is_err() {
        return Ok(());
    }
    let error = anyhow!("{} exists, and is not replaced", file.display());
    Err(Failure::refused(error, "name another file: palmfarm init FILE"))
}

/// Write `text` to a file that must not be there. Of a failure nothing is left.
fn write_new(file: &Path, text: &str) -> CliResult {
    let name = file.display();
    let mut out = File::create_new(file)
        .with_context(|| format!("creating {name}"))
        .or_fail(Outcome::Refused)?;
    let written = out.write_all(text.as_bytes()).and_then(|()| out.sync_all());
    if written.is_err() {
        // It is a part of a farm, and would be in the way of the next try.
        drop(fs::remove_file(file));
    }
    written
        .with_context(|| format!("writing {name}"))
        .or_fail(Outcome::Failed)
}

fn report(file: &Path, answers: &Answers, asked: bool, ui: Ui) {
    let keys: Vec<String> = answers.keys.iter().flat_map(keys::shown).collect();
    if ui.json {
        ui.event(&json!({
            "event": "written", "file": file, "base": answers.base, "hostname": answers.hostname,
            "user": answers.user, "keys": keys, "timezone": answers.timezone, "locale": answers.locale,
        }));
        return;
    }
    if !asked {
        let ipv4 = answers.address.as_deref().unwrap_or("dhcp");
        let locale = answers.locale.as_deref().unwrap_or("none");
        ui.info_line(format_args!(
            "taken without a question: base {}, host name {}, user {}, time zone {}, locale {locale}, IPv4 {ipv4}",
            answers.base, answers.hostname, answers.user, answers.timezone
        ));
        for key in keys {
            ui.info_line(format_args!("who may log in: {key}"));
        }
    }
    let name = file.display();
    let shown = shell_quote(&file.to_string_lossy());
    ui.info_line(format_args!(
        "wrote {name}; next: palmfarm check {shown}, then with the card in the reader: sudo palmfarm flash {shown}"
    ));
}
