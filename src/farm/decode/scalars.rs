//! Readers of single values: texts, names, truth values, numbers and words. Each reports what is wrong with its value; none
//! knows a key of `farm.yaml`.

use std::fmt::Display;

use super::fields::ReadValue;
use crate::farm::node::{Entry, Node, Scalar, Span};
use crate::farm::problem::Problems;
use crate::farm::suggest::{did_you_mean, quoted};
use palmfarm_protocol::names::Rule;

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
        p.error(node.span, format!("{key} has no value"))
            .hint("write one, or leave the key out");
        return None;
    }
    Some(scalar)
}

/// A key as it stands in a message: one that is the user's own may hold anything.
pub(super) fn shown(key: &str) -> String {
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

/// Reads a name that must follow `rule`. A wrong one is an error, but is returned all the same, so that what refers to it
/// is not an error as well. `noun` has its article: the message says that the name "is not {noun}".
pub(super) fn named(noun: &str, rule: Rule) -> impl ReadValue<String> + '_ {
    move |node: &Node, key: &str, p: &mut Problems| {
        let text = line(node, key, p)?;
        follows(&text, node.span, noun, rule, p);
        Some(text)
    }
}

/// The key of an entry, which must follow `rule`.
pub(super) fn named_key(entry: &Entry, noun: &str, rule: Rule, p: &mut Problems) -> String {
    follows(&entry.key, entry.key_span, noun, rule, p);
    entry.key.clone()
}

fn follows(text: &str, at: Span, noun: &str, rule: Rule, p: &mut Problems) {
    if let Err(why) = rule(text) {
        let problem = p.error(at, format!("{} is not {noun}: {why}", shown_name(text)));
        let near = text.to_ascii_lowercase().replace('_', "-");
        if !near.contains('/') && rule(&near).is_ok() {
            problem.hint(format!("did you mean {near:?}?"));
        }
    }
}

/// What stands where a name should: a hash of a password that has slipped there is not repeated.
pub(super) fn shown_name(text: &str) -> String {
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
        p.error(node.span, message).maybe_hint(meant);
    }
    value
}

/// Reads a whole number from `least` to `most`.
pub(super) fn number<N: Display + Copy + PartialOrd + TryFrom<u64>>(least: N, most: N) -> impl ReadValue<N> {
    move |node: &Node, key: &str, p: &mut Problems| {
        let scalar = scalar(node, key, p)?;
        let valid = |number: u64| {
            N::try_from(number)
                .ok()
                .filter(|number| (least..=most).contains(number))
        };
        let value = scalar.number().and_then(valid);
        if value.is_none() {
            let (key, found) = (shown(key), quoted(&scalar.text));
            let message = format!("{key} is a whole number from {least} to {most}, not {found}");
            let is_quoted = scalar.text.parse().is_ok_and(|number| valid(number).is_some());
            let hint = is_quoted.then_some("write it without quotes");
            p.error(node.span, message).maybe_hint(hint);
        }
        value
    }
}

/// Reads one of a few words.
pub(super) fn choice<'w, T: Clone>(words: &'w [(&'w str, T)]) -> impl ReadValue<T> + 'w {
    move |node: &Node, key: &str, p: &mut Problems| {
        let text = &scalar(node, key, p)?.text;
        if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
            return Some(value.clone());
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("{} is {}, not {}", shown(key), known.join(" or "), quoted(text));
        p.error(node.span, message).maybe_hint(did_you_mean(text, known));
        None
    }
}

/// Reads a line that `parse` understands, or says why it does not.
pub(super) fn parsed<T>(parse: impl Fn(&str) -> Result<T, String>) -> impl ReadValue<T> {
    move |node: &Node, key: &str, p: &mut Problems| {
        let text = line(node, key, p)?;
        parse(&text).map_err(|why| p.error(node.span, why)).ok()
    }
}
