//! A YAML document as a tree that remembers where each part stood in its source, before any of it means
//! anything. Whoever parses YAML makes it; `decode` reads it. What a scalar is – text, number, nothing – is
//! decided here by the core schema of YAML 1.2 (section 10.3.2), so that no parser's own opinion creeps in.

/// A range of bytes of the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// A part of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// What a part of the document is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping in the order of the source; a key may stand in it more than once.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// Its value.
    pub value: Node,
}

/// A single value: its text, with quotes and escapes undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// The text.
    pub text: String,
    /// How it was written.
    pub style: Style,
}

/// How a scalar was written: only a plain one can be anything else than text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// In quotes, or as a block.
    Quoted,
}

/// One step down the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// To the value of a key.
    Key(&'a str),
    /// To an item of a list, counted from 0.
    Item(usize),
}

impl<'a> From<&'a str> for Step<'a> {
    fn from(key: &'a str) -> Self {
        Self::Key(key)
    }
}

impl<'a> From<&'a String> for Step<'a> {
    fn from(key: &'a String) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for Step<'_> {
    fn from(item: usize) -> Self {
        Self::Item(item)
    }
}

impl Scalar {
    /// Whether it is nothing: empty, `~` or `null`.
    pub fn is_null(&self) -> bool {
        self.style == Style::Plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// As a truth value. `yes`, `no`, `on` and `off` are text since YAML 1.2.
    pub fn truth(&self) -> Option<bool> {
        match (self.style, self.text.as_str()) {
            (Style::Plain, "true" | "True" | "TRUE") => Some(true),
            (Style::Plain, "false" | "False" | "FALSE") => Some(false),
            _ => None,
        }
    }

    /// As a whole number that is not negative: decimal, `0o17` or `0xff`.
    pub fn number(&self) -> Option<u64> {
        if self.style != Style::Plain {
            return None;
        }
        let (digits, radix) = match self.text.get(..2) {
            Some("0o") => (&self.text[2..], 8),
            Some("0x") => (&self.text[2..], 16),
            _ => (self.text.strip_prefix('+').unwrap_or(&self.text), 10),
        };
        if !digits.starts_with(|digit: char| digit.is_digit(radix)) {
            return None;
        }
        u64::from_str_radix(digits, radix).ok()
    }
}

impl Node {
    /// A part that holds nothing.
    pub fn nothing() -> Self {
        Self {
            span: Span::default(),
            value: Value::Map(Vec::new()),
        }
    }

    /// What it is, for people.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar(scalar) if scalar.is_null() => "nothing",
            Value::Scalar(_) => "a single value",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// Its scalar, if it is one.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Its items, if it is a list; none otherwise.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::Seq(items) => items,
            _ => &[],
        }
    }

    /// Its entries, if it is a mapping; none otherwise.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The first entry with this key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// What `path` leads to.
    pub fn get(&self, path: &[Step<'_>]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| match *step {
            Step::Key(key) => node.entry(key).map(|entry| &entry.value),
            Step::Item(item) => node.items().get(item),
        })
    }

    /// Where a person should look for what `path` leads to: at the value if it is a single one, else at its key.
    /// Where the source ends before the path does (the rest is a default), at the last part that is there.
    pub fn locate(&self, path: &[Step<'_>]) -> Span {
        let mut node = self;
        let mut at = Span {
            start: self.span.start,
            end: self.span.start,
        };
        for step in path {
            let next = match *step {
                Step::Key(key) => node.entry(key).map(|entry| (&entry.value, entry.key_span)),
                Step::Item(item) => node.items().get(item).map(|item| (item, item.span)),
            };
            let Some((next, label)) = next else { break };
            node = next;
            at = match &node.value {
                Value::Scalar(scalar) if !scalar.is_null() => node.span,
                _ => label,
            };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar {
            text: text.into(),
            style: Style::Plain,
        }
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        for (text, expect) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("+42", Some(42)),
            ("007", Some(7)),
            ("0o17", Some(15)),
            ("0xff", Some(255)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("+", None),
            ("++1", None),
            ("0x", None),
            ("0x+1", None),
            ("-1", None),
            ("1_000", None),
            ("1e3", None),
            ("é2", None),
        ] {
            assert_eq!(plain(text).number(), expect, "{text:?}");
        }
        assert_eq!(plain("true").truth(), Some(true));
        assert_eq!(plain("yes").truth(), None);
        assert!(plain("").is_null() && plain("~").is_null() && !plain("none").is_null());
        let quoted = Scalar {
            text: "42".into(),
            style: Style::Quoted,
        };
        assert_eq!(
            (quoted.number(), quoted.truth(), quoted.is_null()),
            (None, None, false)
        );
    }
}
