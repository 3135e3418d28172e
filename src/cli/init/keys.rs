//! The SSH keys of a first farm: those of this computer, of files and of accounts. It reads public keys and writes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::anyhow;

use super::answers::{Answers, Key};
use super::Setup;
use crate::cli::args::Init;
use crate::cli::env::client;
use crate::cli::{CliResult, Failure, Outcome};
use crate::farm::accounts::{self, FetchError};
use crate::farm::{credentials, Account};
use crate::host::folder::Folder;
use crate::host::{bounded_read, privileges};
use crate::text::io_reason;
use crate::text_file;

/// The largest file of public keys, in bytes.
const LARGEST: u64 = 64 << 10;

/// The most files of ~/.ssh that are looked at.
const MOST: usize = 100;

/// What ssh(1) tries by itself (`-i`), the best one first.
const TRIED: [&str; 5] = [
    "id_ed25519.pub",
    "id_ed25519_sk.pub",
    "id_ecdsa.pub",
    "id_ecdsa_sk.pub",
    "id_rsa.pub",
];

/// How somebody without a key gets one.
const MAKE_ONE: &str = "make one: ssh-keygen -t ed25519; or give --key FILE or --github NAME";

/// A public key of this computer.
struct Here {
    name: String,
    line: String,
}

impl Setup<'_> {
    /// Settle who may log in.
    pub(super) fn keys(&mut self, args: &Init) -> CliResult {
        let accounts = args.github.iter().map(|name| format!("github:{name}"));
        let accounts = accounts.chain(args.launchpad.iter().map(|name| format!("launchpad:{name}")));
        let files = args.key.iter().map(|file| file.display().to_string());
        let given: Vec<String> = files.chain(accounts).collect();
        let here = of_this_computer();
        if !given.is_empty() {
            let words: Vec<&str> = given.iter().map(String::as_str).collect();
            self.answers = self.with_keys(&words, &[])?;
            return Ok(());
        }
        let tried = here
            .iter()
            .filter(|key| TRIED.contains(&key.name.as_str()))
            .count();
        let proposed = if tried > 0 { tried } else { here.len() };
        if !self.asks {
            if here.is_empty() {
                let error = anyhow!("this computer has no public SSH key in ~/.ssh, so nobody could log in; nothing was written");
                return Err(Failure::refused(error, MAKE_ONE));
            }
            let numbers: Vec<String> = (1..=proposed).map(|number| number.to_string()).collect();
            let words: Vec<&str> = numbers.iter().map(String::as_str).collect();
            self.answers = self.with_keys(&words, &here)?;
            return Ok(());
        }
        self.ask_for_keys(&here, proposed)
    }

    fn ask_for_keys(&mut self, here: &[Here], proposed: usize) -> CliResult {
        let ui = self.session.ui;
        for (number, key) in (1_usize..).zip(here) {
            let shown = credentials::fingerprint(&key.line).unwrap_or_default();
            ui.error_line(format_args!("{number}: ~/.ssh/{}, {shown}", key.name));
        }
        let numbers: Vec<String> = (1..=proposed).map(|number| number.to_string()).collect();
        let default = numbers.join(" ");
        let question = if here.is_empty() {
            ui.error_line("this computer has no public SSH key in ~/.ssh; `ssh-keygen -t ed25519` makes one");
            "who may log in: a public key or its file, or github:NAME? ".to_owned()
        } else {
            format!("who may log in: numbers, public keys or their files, or github:NAME? [{default}] ")
        };
        loop {
            let answer = self.ask(&question)?;
            let answer = if answer.is_empty() { &default } else { &answer };
            let words: Vec<&str> = if credentials::ssh_keys(answer).is_ok() {
                vec![answer]
            } else {
                answer.split([' ', ',']).filter(|word| !word.is_empty()).collect()
            };
            match self.with_keys(&words, here) {
                Ok(next) => {
                    self.answers = next;
                    return Ok(());
                }
                Err(failure) if failure.outcome == Outcome::Interrupted => return Err(failure),
                Err(failure) => {
                    let message = failure.error.map(|error| format!("{error:#}"));
                    let hint = failure.hint.map(|hint| format!(" ({hint})"));
                    ui.error_line(format_args!(
                        "{}{}",
                        message.unwrap_or_default(),
                        hint.unwrap_or_default()
                    ));
                }
            }
        }
    }

    /// The answers with the keys that `words` name: numbers of `here`, accounts, files, or the text of a key.
    fn with_keys(&self, words: &[&str], here: &[Here]) -> Result<Answers, Failure> {
        let mut keys = Vec::new();
        for word in words {
            if let Ok(number) = word.parse::<usize>() {
                let key = number.checked_sub(1).and_then(|at| here.get(at));
                let key = key.ok_or_else(|| {
                    let error = anyhow!("{number} is not a number from 1 to {}", here.len());
                    Failure::new(Outcome::Refused, error)
                })?;
                keys.push(Key::Line(key.line.clone()));
            } else if word.starts_with("github:") || word.starts_with("launchpad:") {
                keys.push(self.account(word)?);
            } else if let Ok(pasted) = credentials::ssh_keys(word) {
                keys.extend(pasted.into_iter().map(Key::Line));
            } else {
                keys.extend(of_file(Path::new(word))?.into_iter().map(Key::Line));
            }
        }
        if keys.is_empty() {
            let error = anyhow!("nobody could log in at the Pi");
            return Err(Failure::refused(error, MAKE_ONE));
        }
        let next = Answers {
            keys,
            ..self.answers.clone()
        };
        next.verdict(self.folder)
            .map_err(|why| Failure::new(Outcome::Refused, anyhow!("{why}")))?;
        Ok(next)
    }

    fn account(&self, word: &str) -> Result<Key, Failure> {
        let account: Account = word
            .parse()
            .map_err(|why: String| Failure::new(Outcome::Refused, anyhow!("{why}")))?;
        let lines =
            accounts::fetch(&client()?, &account, self.session.observer().cancel).map_err(|error| {
                if self.session.is_cancelled() {
                    return self.session.interrupted("interrupted; nothing was written");
                }
                Failure::with_hint(Outcome::Refused, error, FetchError::hint)
            })?;
        Ok(Key::Account(account, lines))
    }
}

/// The keys in ~/.ssh, those first that ssh tries by itself.
fn of_this_computer() -> Vec<Here> {
    let Some(folder) = privileges::home().map(|home| home.join(".ssh")) else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir(&folder) else {
        return Vec::new();
    };
    let names = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.strip_suffix(".pub").is_some())
        .take(MOST);
    // Certificates (`-cert.pub`) and whatever else ends like this are no keys.
    let mut found: BTreeMap<(usize, String), String> = BTreeMap::new();
    for name in names {
        let rank = TRIED.iter().position(|tried| *tried == name);
        if let Ok([line]) = of_file(&folder.join(&name)).as_deref() {
            found.insert((rank.unwrap_or(TRIED.len()), name), line.clone());
        }
    }
    let found = found.into_iter();
    found.map(|((_, name), line)| Here { name, line }).collect()
}

/// The public keys in a file.
fn of_file(path: &Path) -> Result<Vec<String>, Failure> {
    let refused = |why: String| {
        let error = anyhow!("{}: {why}", path.display());
        Failure::new(Outcome::Refused, error)
    };
    let real = Folder::new("", privileges::home()).join(path);
    let bytes = bounded_read::read(&real, LARGEST).map_err(|error| refused(io_reason(&error)))?;
    let text = text_file::decode(&bytes).map_err(|error| refused(format!("it {error}")))?;
    credentials::ssh_keys(&text).map_err(refused)
}

/// The keys as people compare them.
pub(super) fn shown(key: &Key) -> Vec<String> {
    let of = |line: &String| {
        let comment = line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
        let shown = credentials::fingerprint(line).unwrap_or_default();
        format!("{shown} {comment}").trim_end().to_owned()
    };
    match key {
        Key::Line(line) => vec![of(line)],
        Key::Account(_, lines) => lines.iter().map(of).collect(),
    }
}
