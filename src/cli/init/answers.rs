//! What a first farm is made from, and the farm that it becomes. It asks nobody and writes nothing; whether an answer will do
//! is decided by the checks of the farm itself.

use std::net::Ipv4Addr;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::{context, Environment, UndefinedBehavior, Value};

use crate::base::download::boards::{self, Suggestion};
use crate::cli::env::variable;
use crate::farm::image_aliases::USUAL;
use crate::farm::problem::{ProblemLine, Problems};
use crate::farm::{self, Account, FarmText};

const TEMPLATE: &str = include_str!("farm.yaml");

/// The first farm of somebody.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// What to call the board, and the base that suits it.
    pub(super) board: &'static str,
    pub(super) base: &'static str,
    pub(super) keys: Vec<Key>,
    pub(super) hostname: String,
    pub(super) user: String,
    pub(super) timezone: String,
    /// `None`: the base's own.
    pub(super) locale: Option<String>,
    /// A fixed address with its prefix length; `None`: DHCP.
    pub(super) address: Option<String>,
    /// The router, for a fixed address.
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) containers: Vec<Container>,
}

/// Who may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A line of `authorized_keys`.
    Line(String),
    /// An account, and the lines that it has now.
    Account(Account, Vec<String>),
}

/// A first container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Container {
    /// As they are written in the farm.
    name: String,
    image: String,
    /// Whether it is to serve web pages.
    serves: bool,
}

impl Container {
    /// From `NAME` or `NAME=IMAGE`. `web` alone is the usual first one: a web server.
    pub(super) fn parse(text: &str) -> Self {
        let (name, image) = text.split_once('=').unwrap_or((text, USUAL));
        // An alias of LXD's server has a slash.
        let image = if image.contains('/') && !image.contains(':') {
            format!("images:{image}")
        } else {
            image.to_owned()
        };
        Self {
            name: scalar(name),
            image: quoted(&image),
            serves: text == "web",
        }
    }

    fn value(&self) -> Value {
        Value::from_pairs([
            ("name", Value::from(self.name.as_str())),
            ("image", Value::from(self.image.as_str())),
            ("serves", Value::from(self.serves)),
        ])
    }
}

impl Answers {
    /// Take the board called `text`.
    pub(super) fn set_board(&mut self, text: &str) -> Result<(), String> {
        let boards = match boards::suggest(text) {
            Suggestion::Boards(boards) => boards,
            Suggestion::Unsupported => return Err(format!("Ubuntu makes no image for {text:?}")),
            Suggestion::Unknown => {
                let known = "write 2, 3, 4, 5 or zero2w, or what /proc/device-tree/model says on it";
                return Err(format!(
                    "{text:?} is not a Raspberry Pi that palmfarm knows; {known}"
                ));
            }
        };
        let suits_all = |base: &&&str| boards.iter().all(|board| board.bases.contains(base));
        let [first, others @ ..] = boards.as_slice() else {
            return Err(format!("{text:?} is not a Raspberry Pi that palmfarm knows"));
        };
        let base = first.bases.iter().find(suits_all);
        self.base = base.ok_or_else(|| format!("no image suits every {text:?}"))?;
        self.board = if others.is_empty() {
            first.name
        } else {
            // Only the revisions of the Pi 2 are told apart.
            first.name.split(',').next().unwrap_or(first.name)
        };
        Ok(())
    }

    /// Whether its base has 32 bits, for which LXD's image server has nothing.
    pub(super) fn is_32_bit(&self) -> bool {
        self.base.ends_with("armhf")
    }

    /// The farm file.
    pub(super) fn text(&self) -> Result<String, minijinja::Error> {
        self.rendered(|key| match key {
            Key::Line(line) => vec![quoted(line)],
            Key::Account(account, _) => {
                let account = account.to_string();
                let (site, name) = account.split_once(':').unwrap_or_default();
                vec![format!("{{{site}: {}}}", scalar(name))]
            }
        })
    }

    fn rendered(&self, shown: impl Fn(&Key) -> Vec<String>) -> Result<String, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).keep_trailing_newline(true);
        environment.set_syntax(syntax.build()?);
        let keys: Vec<String> = self.keys.iter().flat_map(shown).collect();
        environment.render_str(
            TEMPLATE,
            context! {
                board => self.board,
                base => self.base,
                keys,
                hostname => scalar(&self.hostname),
                user => scalar(&self.user),
                timezone => scalar(&self.timezone),
                locale => self.locale.as_deref().map(scalar),
                address => self.address.as_deref().map(scalar_in_flow),
                gateway => self.gateway.map(|gateway| gateway.to_string()),
                containers => self.containers.iter().map(Container::value).collect::<Vec<Value>>(),
                is_32_bit => self.is_32_bit(),
                usual => USUAL,
            },
        )
    }

    /// Whether a farm with these answers, in the folder `dir`, has no problem: the first one, and what to do.
    pub(super) fn verdict(&self, dir: &Path) -> Result<(), String> {
        // Accounts are pinned only when the farm is written, so here their keys stand for them.
        let text = self.rendered(|key| match key {
            Key::Line(line) => vec![quoted(line)],
            Key::Account(_, lines) => lines.iter().map(|line| quoted(line)).collect(),
        });
        let text = text.map_err(|error| error.to_string())?;
        let first =
            |text: &FarmText, problems: &Problems| text.lines(problems).next().map(|line| sentence(&line));
        let problem = match farm::parse("farm.yaml", text.as_bytes(), dir, &variable, None) {
            Ok(loaded) => first(&loaded.text, &loaded.warnings),
            Err(refused) => first(refused.text(), refused.problems()),
        };
        problem.map_or(Ok(()), Err)
    }
}

fn sentence(line: &ProblemLine<'_>) -> String {
    match line.hint {
        Some(hint) => format!("{} ({hint})", line.message),
        None => line.message.to_owned(),
    }
}

/// `text` as a string of YAML: what begins with a letter and has no sign is one without quotes, unless it is a word of
/// another type in some version of YAML.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/_.+-".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// The same for an address with its prefix length.
fn scalar_in_flow(text: &str) -> String {
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || "./".contains(c));
    if is_plain {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// `text` in the double quotes of JSON, which those of YAML include.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
