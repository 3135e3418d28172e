//! Reading mappings, lists and single values out of a tree, every complaint with its place. Nothing here knows a
//! key of `farm.yaml`, and nothing here stops at the first problem.

use std::collections::BTreeMap;

use crate::farm::node::{Entry, Node, Scalar, Span, Value};
use crate::farm::problem::{Problem, Problems};
use crate::farm::suggest::{closest, did_you_mean, quoted};
use palmfarm_protocol::names::Rule;

/// A mapping whose keys are known beforehand.
pub(super) struct Fields<'n> {
    entries: &'n [Entry],
    what: String,
    at: Span,
    known: Vec<&'static str>,
    missing: Vec<&'static str>,
    broken: bool,
}

impl<'n> Fields<'n> {
    /// Open `node`, called `what` in messages and pointed at by `at`. Nothing (`cards: {palm1: }`) is an empty mapping.
    pub(super) fn open(node: &'n Node, at: Span, what: impl Into<String>, p: &mut Problems) -> Self {
        let what = what.into();
        let (entries, broken) = match &node.value {
            Value::Map(entries) => (entries.as_slice(), false),
            Value::Scalar(scalar) if scalar.is_null() => (&[][..], false),
            _ => {
                p.error(
                    node.span,
                    format!("{what} is a mapping of keys, not {}", node.kind()),
                );
                (&[][..], true)
            }
        };
        once(entries, p);
        Self {
            entries,
            what,
            at,
            known: Vec::new(),
            missing: Vec::new(),
            broken,
        }
    }

    /// The entry of `key`, from now on one of the known keys.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'n Entry> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The entry of `key`; it is an error if there is none.
    pub(super) fn need(&mut self, key: &'static str) -> Option<&'n Entry> {
        let entry = self.take(key);
        if entry.is_none() && !self.broken {
            self.missing.push(key);
        }
        entry
    }

    /// Whether it was no mapping at all, which has been said.
    pub(super) fn broken(&self) -> bool {
        self.broken
    }

    /// Where a person looks for the mapping as a whole.
    pub(super) fn at(&self) -> Span {
        self.at
    }

    /// Every key that was never asked for is an error, and every key that was needed and is not there – unless one
    /// is the other misspelt.
    pub(super) fn close(self, p: &mut Problems) {
        let mut missing = self.missing;
        for entry in self.entries {
            if self.known.contains(&entry.key.as_str()) {
                continue;
            }
            if p.is_full() {
                p.count();
                continue;
            }
            let key = shown_name(&entry.key);
            let message = format!("unknown key {key} in {}", self.what);
            let close = closest(&entry.key, self.known.iter().copied());
            missing.retain(|key| Some(*key) != close);
            let hint = match close {
                Some(close) => format!("did you mean {close:?}?"),
                None if entry.key == "<<" => "merge keys are not part of YAML 1.2: write the keys out".into(),
                None => format!("the keys here are {}", self.known.join(", ")),
            };
            p.push(Problem::error(entry.key_span, message).hint(hint));
        }
        for key in missing {
            p.error(self.at, format!("{} has no `{key}`", self.what));
        }
    }
}

/// Every key that stands in a mapping for the second time is an error.
fn once(entries: &[Entry], p: &mut Problems) {
    let mut seen = std::collections::BTreeSet::new();
    for entry in entries {
        if !seen.insert(entry.key.as_str()) {
            p.error(
                entry.key_span,
                format!("{} stands here twice", quoted(&entry.key)),
            );
        }
    }
}

/// The entries of a mapping with keys of the user's own, each key once.
pub(super) fn entries<'n>(entry: &'n Entry, p: &mut Problems) -> Vec<&'n Entry> {
    let list = match &entry.value.value {
        Value::Map(entries) => entries.as_slice(),
        Value::Scalar(scalar) if scalar.is_null() => &[],
        _ => {
            let message = format!("{} is a mapping, not {}", shown(&entry.key), entry.value.kind());
            let problem = Problem::error(entry.value.span, message);
            p.push(match entry.value.value {
                Value::Seq(_) => problem.hint("write each as `NAME: …`, without `- `"),
                _ => problem,
            });
            &[]
        }
    };
    once(list, p);
    let mut seen = std::collections::BTreeSet::new();
    list.iter()
        .filter(|entry| seen.insert(entry.key.as_str()))
        .collect()
}

/// The items of a list of single values.
pub(super) fn items<'n>(entry: &'n Entry, p: &mut Problems) -> &'n [Node] {
    list(entry, |text| format!("write [{text}]"), p)
}

/// The items of a list of mappings, of which `key` is the one that people mean when they write a single value.
pub(super) fn mappings<'n>(entry: &'n Entry, key: &str, p: &mut Problems) -> &'n [Node] {
    list(entry, |text| format!("write [{{{key}: {text}}}]"), p)
}

/// The items of a list; `meant` is what to write instead of a single value.
fn list<'n>(entry: &'n Entry, meant: impl Fn(&str) -> String, p: &mut Problems) -> &'n [Node] {
    let message = || format!("{} takes a list, not {}", shown(&entry.key), entry.value.kind());
    let hint = match &entry.value.value {
        Value::Seq(items) => return items,
        Value::Scalar(scalar) if scalar.is_null() => return &[],
        Value::Scalar(scalar) => meant(&quoted(&scalar.text)),
        Value::Map(_) => "begin each item with `- `, also where there is one only".into(),
    };
    p.push(Problem::error(entry.value.span, message()).hint(hint));
    &[]
}

/// The scalar of `node`, the value of `key`; nothing is an error.
pub(super) fn scalar<'n>(node: &'n Node, key: &str, p: &mut Problems) -> Option<&'n Scalar> {
    let key = shown(key);
    let Some(scalar) = node.scalar() else {
        p.error(
            node.span,
            format!("{key} takes a single value, not {}", node.kind()),
        );
        return None;
    };
    if scalar.is_null() {
        let problem = Problem::error(node.span, format!("{key} has no value"));
        p.push(problem.hint("write one, or leave the key out"));
        return None;
    }
    Some(scalar)
}

/// A key as it stands in a message: one that is the user's own may hold anything.
fn shown(key: &str) -> String {
    let word = |c: char| c.is_ascii_graphic() && c != '`';
    if key.len() <= 60 && !key.is_empty() && key.chars().all(word) {
        format!("`{key}`")
    } else {
        quoted(key)
    }
}

/// A text that may have lines.
pub(super) fn text(node: &Node, key: &str, p: &mut Problems) -> Option<String> {
    let scalar = scalar(node, key, p)?;
    let key = shown(key);
    let odd = |c: &char| c.is_control() && !matches!(c, '\n' | '\t');
    if let Some(control) = scalar.text.chars().find(odd) {
        p.error(
            node.span,
            format!("{key} holds the control character {control:?}"),
        );
        return None;
    }
    Some(scalar.text.clone())
}

/// A text of one line that is not empty.
pub(super) fn line(node: &Node, key: &str, p: &mut Problems) -> Option<String> {
    let scalar = scalar(node, key, p)?;
    let key = shown(key);
    if scalar.text.trim().is_empty() {
        p.error(node.span, format!("{key} is empty"));
        return None;
    }
    if let Some(control) = scalar.text.chars().find(|c| c.is_control()) {
        p.error(
            node.span,
            format!("{key} is one line of text, and this holds {control:?}"),
        );
        return None;
    }
    Some(scalar.text.clone())
}

/// A name that must follow `rule`. One that does not is an error and returned all the same, so that what refers
/// to it is not an error as well.
pub(super) fn named(node: &Node, key: &str, noun: &str, rule: Rule, p: &mut Problems) -> Option<String> {
    let text = line(node, key, p)?;
    follows(&text, node.span, noun, rule, p);
    Some(text)
}

/// The key of an entry, which must follow `rule`.
pub(super) fn named_key(entry: &Entry, noun: &str, rule: Rule, p: &mut Problems) -> String {
    follows(&entry.key, entry.key_span, noun, rule, p);
    entry.key.clone()
}

fn follows(text: &str, at: Span, noun: &str, rule: Rule, p: &mut Problems) {
    if let Err(why) = rule(text) {
        p.error(at, format!("{} is no {noun}: {why}", shown_name(text)));
    }
}

/// What stands where a name should: a hash of a password that has slipped there is not repeated.
fn shown_name(text: &str) -> String {
    if text.starts_with('$') {
        "(not shown)".into()
    } else {
        quoted(text)
    }
}

/// A truth value.
pub(super) fn truth(node: &Node, key: &str, p: &mut Problems) -> Option<bool> {
    let scalar = scalar(node, key, p)?;
    let key = shown(key);
    let value = scalar.truth();
    if value.is_none() {
        let meant = match scalar.text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" | "y" => Some("write true, without quotes"),
            "no" | "off" | "false" | "n" => Some("write false, without quotes"),
            _ => None,
        };
        let message = format!("{key} is true or false, not {}", quoted(&scalar.text));
        let problem = Problem::error(node.span, message);
        p.push(match meant {
            Some(meant) => problem.hint(meant),
            None => problem,
        });
    }
    value
}

/// A whole number from `least` to `most`.
pub(super) fn number(node: &Node, key: &str, least: u64, most: u64, p: &mut Problems) -> Option<u64> {
    let scalar = scalar(node, key, p)?;
    let key = shown(key);
    let value = scalar.number().filter(|number| (least..=most).contains(number));
    if value.is_none() {
        let message = format!(
            "{key} is a whole number from {least} to {most}, not {}",
            quoted(&scalar.text)
        );
        let problem = Problem::error(node.span, message);
        let bare = scalar
            .text
            .parse()
            .is_ok_and(|number| (least..=most).contains(&number));
        p.push(if bare {
            problem.hint("write it without quotes")
        } else {
            problem
        });
    }
    value
}

/// One of a few words.
pub(super) fn choice<T: Copy>(node: &Node, key: &str, words: &[(&str, T)], p: &mut Problems) -> Option<T> {
    let scalar = scalar(node, key, p)?;
    let key = shown(key);
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == scalar.text) {
        return Some(*value);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let message = format!("{key} is {}, not {}", known.join(" or "), quoted(&scalar.text));
    let problem = Problem::error(node.span, message);
    p.push(match did_you_mean(&scalar.text, known) {
        Some(hint) => problem.hint(hint),
        None => problem,
    });
    None
}

/// A text with a meaning of its own: `parse` says why it has none.
pub(super) fn parsed<T>(
    node: &Node,
    key: &str,
    p: &mut Problems,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let text = line(node, key, p)?;
    parse(&text).map_err(|why| p.error(node.span, why)).ok()
}

/// A mapping of texts to texts, as LXD's `config` is: numbers and truth values are taken as they are written.
pub(super) fn texts(entry: &Entry, p: &mut Problems) -> BTreeMap<String, String> {
    entries(entry, p)
        .into_iter()
        .filter_map(|entry| Some((entry.key.clone(), text(&entry.value, &entry.key, p)?)))
        .collect()
}
