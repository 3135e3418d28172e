//! Reads mappings, lists and single values out of a tree, and reports each problem with its place. Nothing here knows a
//! key of `farm.yaml`, and nothing here stops at the first problem.

use std::collections::BTreeMap;

pub(super) use super::scalars::{choice, line, named, named_key, number, parsed, scalar, text, truth};
use super::scalars::{shown, shown_name};
use crate::farm::node::{Entry, Node, Scalar, Span, Style, Value};
use crate::farm::problem::Problems;
use crate::farm::suggest::{closest, quoted};

/// A mapping whose keys are known beforehand, while it is read. It collects the keys that are asked for: every other key
/// is an error.
pub(super) struct Fields<'n, 'p> {
    entries: &'n [Entry],
    what: String,
    at: Span,
    known: Vec<&'static str>,
    /// Required keys that are not there, and what to write.
    missing: Vec<(&'static str, String)>,
    /// Keys that people look for here, and where they are found.
    elsewhere: &'static [(&'static str, &'static str)],
    /// Keys that are neither read nor unknown.
    left_out: Vec<&'static str>,
    /// It is not a mapping at all, which has been reported.
    pub(super) broken: bool,
    pub(super) p: &'p mut Problems,
}

/// Read the mapping in `entry`, called `what` in messages. `keys` reads its keys.
pub(super) fn section<'n, T>(
    entry: &'n Entry,
    what: impl Into<String>,
    p: &mut Problems,
    keys: impl FnOnce(&mut Fields<'n, '_>) -> T,
) -> T {
    mapping(&entry.value, entry.key_span, what, p, keys)
}

/// The same for a mapping that has no key of its own. Problems of the mapping as a whole point at `at`.
pub(super) fn mapping<'n, T>(
    node: &'n Node,
    at: Span,
    what: impl Into<String>,
    p: &mut Problems,
    keys: impl FnOnce(&mut Fields<'n, '_>) -> T,
) -> T {
    let mut fields = Fields::open(node, at, what, None, p);
    let read = keys(&mut fields);
    fields.close();
    read
}

/// The same as [`section`]. If people write a single value, they mean the value of `key`, which `read` takes.
pub(super) fn section_or<'n, T, V>(
    entry: &'n Entry,
    what: impl Into<String>,
    (key, read): (&str, &impl ReadValue<V>),
    p: &mut Problems,
    keys: impl FnOnce(&mut Fields<'n, '_>) -> T,
) -> T {
    let scalar = entry.value.scalar().filter(|scalar| scalar.text.len() <= 60);
    let meant = scalar.filter(|scalar| is_taken(&scalar.text, key, read));
    let hint = meant.map(|scalar| format!("write {{{key}: {}}}", quoted(&scalar.text)));
    let mut fields = Fields::open(&entry.value, entry.key_span, what, hint, p);
    let read = keys(&mut fields);
    fields.close();
    read
}

impl<'n, 'p> Fields<'n, 'p> {
    /// Begin to read `node`. Nothing (`cards: {palm1: }`) is an empty mapping. `hint` is for what is not a mapping.
    pub(super) fn open(
        node: &'n Node,
        at: Span,
        what: impl Into<String>,
        hint: Option<String>,
        p: &'p mut Problems,
    ) -> Self {
        let what = what.into();
        let (entries, broken) = match &node.value {
            Value::Map(entries) => (entries.as_slice(), false),
            Value::Scalar(scalar) if scalar.is_null() => (&[][..], false),
            _ => {
                p.error(
                    node.span,
                    format!("{what} is a mapping of keys, not {}", node.kind()),
                )
                .maybe_hint(hint);
                (&[][..], true)
            }
        };
        reject_duplicates(entries, p);
        Self {
            entries,
            what,
            at,
            known: Vec::new(),
            missing: Vec::new(),
            elsewhere: &[],
            left_out: Vec::new(),
            broken,
            p,
        }
    }

    /// The entry of `key`, from now on one of the known keys.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.known.push(key);
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// The entry of `key`, which does not become one of the known keys.
    pub(super) fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value of `key`, which is not counted as read.
    pub(super) fn peek(&self, key: &str) -> Option<&'n Node> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(&entry.value)
    }

    /// Say nothing of `keys`, unless they are read; returns those that are here.
    pub(super) fn leave_out(&mut self, keys: &[&'static str]) -> Vec<&'static str> {
        let here = keys.iter().filter(|key| self.has(key));
        self.left_out = here.copied().collect();
        self.left_out.clone()
    }

    /// It is an error if `key` is missing; `hint` says what to write.
    pub(super) fn require(&mut self, key: &'static str, hint: impl Into<String>) {
        if !self.broken && !self.has(key) {
            self.missing.push((key, hint.into()));
        }
    }

    /// Where keys are that people look for here.
    pub(super) fn explain(&mut self, elsewhere: &'static [(&'static str, &'static str)]) {
        self.elsewhere = elsewhere;
    }

    /// Whether there is a key that has not been asked for: it may be one of those that are missing, misspelt.
    pub(super) fn has_unknown(&self) -> bool {
        self.entries.iter().any(|entry| {
            let key = entry.key.as_str();
            !self.known.contains(&key) && !self.left_out.contains(&key)
        })
    }

    /// What `read` makes of the entry of `key`; `None` if the key is missing.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'n Entry, &mut Problems) -> T,
    ) -> Option<T> {
        self.take(key).map(|entry| read(entry, self.p))
    }

    /// What `read` makes of the value of `key`; `None` if the key is missing or its value is invalid.
    pub(super) fn value<T>(&mut self, key: &'static str, read: impl ReadValue<T>) -> Option<T> {
        self.read(key, |entry, p| read(&entry.value, key, p)).flatten()
    }

    /// The valid items of the list under `key`.
    pub(super) fn list<T>(&mut self, key: &'static str, read: impl ReadValue<T>) -> Vec<T> {
        let items = self
            .take(key)
            .map_or(&[][..], |entry| items(entry, &read, self.p));
        items.iter().filter_map(|item| read(item, key, self.p)).collect()
    }

    /// The same where words with commas between them are a list, too.
    pub(super) fn words<T>(&mut self, key: &'static str, read: impl ReadValue<T>) -> Vec<T> {
        let scalar = self
            .entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value);
        let Some((scalar, span)) = scalar.and_then(|node| Some((node.scalar()?, node.span))) else {
            return self.list(key, read);
        };
        self.known.push(key);
        let words = scalar
            .text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        words
            .filter_map(|word| {
                let value = Value::Scalar(Scalar {
                    text: word.to_owned(),
                    style: scalar.style,
                });
                read(&Node { span, value }, key, self.p)
            })
            .collect()
    }

    /// The items of the list under `key`, with a default for an invalid one so that later errors use the right index.
    pub(super) fn list_in_place<T: Default>(&mut self, key: &'static str, read: impl ReadValue<T>) -> Vec<T> {
        self.list(key, |item: &Node, key: &str, p: &mut Problems| {
            Some(read(item, key, p).unwrap_or_default())
        })
    }

    /// Every key that was never asked for is an error, and so is every required key that is missing, unless one is the
    /// other misspelt.
    pub(super) fn close(mut self) {
        // The key above, if it has a mapping, or nothing: what follows may be meant to stand in it.
        let mut above = None;
        for entry in self.entries {
            let key = entry.key.as_str();
            if self.known.contains(&key) || self.left_out.contains(&key) {
                let may_have_more = match &entry.value.value {
                    Value::Map(_) => true,
                    Value::Scalar(scalar) => scalar.is_null(),
                    Value::Seq(_) => false,
                };
                above = may_have_more.then_some(key);
                continue;
            }
            if self.p.is_full() {
                self.p.count();
                continue;
            }
            let key = shown_name(&entry.key);
            let message = format!("unknown key {key} in {}", self.what);
            let close = closest(&entry.key, self.known.iter().copied());
            self.missing.retain(|(key, _)| Some(*key) != close);
            let elsewhere = self.elsewhere.iter().find(|(key, _)| *key == entry.key);
            let hint = match close {
                _ if elsewhere.is_some() => elsewhere.map(|(_, hint)| (*hint).to_owned()).unwrap_or_default(),
                Some(close) => format!("did you mean {close:?}?"),
                // `{groups: sudo,lxd}`
                None if entry.value.span == entry.key_span => {
                    "between { and } a comma ends a value: put a value with commas in quotes, or its words in [ ]".into()
                }
                None if entry.key == "<<" => "merge keys are not part of YAML 1.2: write the keys out".into(),
                None => {
                    let keys = format!("the keys here are {}", self.known.join(", "));
                    match (&entry.value.value, above) {
                        (Value::Map(_), Some(above)) => {
                            format!("indent it further if it belongs to `{above}`; {keys}")
                        }
                        _ => keys,
                    }
                }
            };
            self.p.error(entry.key_span, message).hint(hint);
        }
        for (key, hint) in self.missing {
            self.p
                .error(self.at, format!("{} has no `{key}`", self.what))
                .hint(hint);
        }
    }
}

/// Reads a value that stands under a key, or in the list under it. `None`: it is invalid, and a problem says so.
pub(super) trait ReadValue<T>: Fn(&Node, &str, &mut Problems) -> Option<T> {}

impl<T, R: Fn(&Node, &str, &mut Problems) -> Option<T>> ReadValue<T> for R {}

/// Every key that a mapping has for the second time is an error.
fn reject_duplicates(entries: &[Entry], p: &mut Problems) {
    let mut seen = std::collections::BTreeSet::new();
    for entry in entries {
        if !seen.insert(entry.key.as_str()) {
            p.error(entry.key_span, format!("{} is here twice", quoted(&entry.key)));
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
            let hint =
                matches!(entry.value.value, Value::Seq(_)).then_some("write each as `NAME: …`, without `- `");
            p.error(entry.value.span, message).maybe_hint(hint);
            &[]
        }
    };
    reject_duplicates(list, p);
    let mut seen = std::collections::BTreeSet::new();
    list.iter()
        .filter(|entry| seen.insert(entry.key.as_str()))
        .collect()
}

/// The items of a list of single values, each of which `read` takes.
pub(super) fn items<'n, T>(entry: &'n Entry, read: &impl ReadValue<T>, p: &mut Problems) -> &'n [Node] {
    list(entry, read, |item| item, p)
}

/// The items of a list of mappings. If people write a single value, they mean the value of `key`, which `read` takes.
pub(super) fn mappings<'n, T>(
    entry: &'n Entry,
    key: &str,
    read: &impl ReadValue<T>,
    p: &mut Problems,
) -> &'n [Node] {
    list(entry, read, |item| format!("{{{key}: {item}}}"), p)
}

/// The items of a list; `written` is how an item is written that stands in a single value instead.
fn list<'n, T>(
    entry: &'n Entry,
    read: &impl ReadValue<T>,
    written: impl Fn(String) -> String,
    p: &mut Problems,
) -> &'n [Node] {
    let message = || format!("{} takes a list, not {}", shown(&entry.key), entry.value.kind());
    let meant = match &entry.value.value {
        Value::Seq(items) => return items,
        Value::Scalar(scalar) if scalar.is_null() => return &[],
        Value::Scalar(scalar) => meant(&scalar.text, &entry.key, read),
        Value::Map(_) => None,
    };
    let hint = match meant {
        Some(items) => {
            let items: Vec<String> = items.into_iter().map(quoted).map(&written).collect();
            format!("write [{}]", items.join(", "))
        }
        None => "begin each item with `- `, also where there is one only".into(),
    };
    p.error(entry.value.span, message()).hint(hint);
    &[]
}

/// The items of the list that `text` is meant to be: itself, or its lines, or what is between its commas or spaces, as
/// cloud-init and apt take them. `None` if `read` takes none of these, or if they are too long for a hint.
fn meant<'t, T>(text: &'t str, key: &str, read: &impl ReadValue<T>) -> Option<Vec<&'t str>> {
    let ways: [Vec<&str>; 4] = [
        vec![text],
        text.lines().collect(),
        text.split(',').collect(),
        text.split_whitespace().collect(),
    ];
    ways.into_iter()
        .map(|way| {
            let items = way.into_iter().map(str::trim);
            items.filter(|item| !item.is_empty()).collect::<Vec<_>>()
        })
        // Longer ones are shown in part.
        .filter(|way| text.len() <= 200 && way.iter().all(|item| item.len() <= 60))
        .find(|way| !way.is_empty() && way.iter().all(|item| is_taken(item, key, read)))
}

/// Whether `read` takes `text`, in quotes, as the value of `key`.
fn is_taken<T>(text: &str, key: &str, read: &impl ReadValue<T>) -> bool {
    let value = Value::Scalar(Scalar {
        text: text.to_owned(),
        style: Style::Quoted,
    });
    let mut problems = Problems::default();
    let span = Span::default();
    read(&Node { span, value }, key, &mut problems).is_some() && problems.is_empty()
}

/// A mapping of texts to texts, as LXD's `config` is: numbers and truth values are taken as they are written.
pub(super) fn texts(entry: &Entry, p: &mut Problems) -> BTreeMap<String, String> {
    entries(entry, p)
        .into_iter()
        .filter_map(|entry| Some((entry.key.clone(), text(&entry.value, &entry.key, p)?)))
        .collect()
}
