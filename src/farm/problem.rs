//! What is wrong with a farm, where, and what to do about it; and how that reads. It never prints a secret: the
//! source lines that it shows are blanked wherever the farm holds one.

use std::fmt::Write as _;

use serde::Serialize;

use crate::farm::node::Span;
use crate::farm::suggest;
use crate::text::rewrites_a_line;

/// Problems beyond this number are counted, not kept: a megabyte of unknown keys is one mistake.
const MOST: usize = 1000;

/// How often the word that was meant is searched for. The search is slow, and is worth its time only if there are few
/// problems.
const MOST_SEARCHES: usize = 30;

/// Columns of a source line that are shown around the place.
const WIDTH: usize = 160;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// No card is made.
    Error,
    /// A card is made; it may not be what its owner meant.
    Warning,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub span: Span,
    /// What is wrong: lower-case, no full stop.
    pub message: String,
    /// What the person can do.
    pub hint: Option<String>,
}

impl Problem {
    /// An error.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            span,
            message: message.into(),
            hint: None,
        }
    }

    /// A warning.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(span, message)
        }
    }

    /// The same with what the person can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, if there is a hint.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }
}

/// The problem that was kept last, if it is a new one: what the person can do is added to it.
pub struct Kept<'p>(Option<&'p mut Problem>);

impl Kept<'_> {
    /// Add a hint.
    pub fn hint(self, hint: impl Into<String>) {
        self.maybe_hint(Some(hint));
    }

    /// Add the hint, if there is one.
    pub fn maybe_hint(self, hint: Option<impl Into<String>>) {
        if let Some(problem) = self.0 {
            problem.hint = hint.map(Into::into);
        }
    }
}

/// Problems as they are found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    more: usize,
    errors: usize,
    searches: usize,
}

impl Problems {
    /// Keep `problem`, unless the same message was kept for its place before.
    pub fn push(&mut self, problem: Problem) -> Kept<'_> {
        let is_same = |kept: &Problem| kept.span == problem.span && kept.message == problem.message;
        if self.list.iter().any(is_same) {
            return Kept(None);
        }
        if problem.severity == Severity::Error {
            self.errors += 1;
        }
        if self.list.len() >= MOST {
            self.more += 1;
            return Kept(None);
        }
        self.list.push(problem);
        Kept(self.list.last_mut())
    }

    /// Keep an error.
    pub fn error(&mut self, span: Span, message: impl Into<String>) -> Kept<'_> {
        self.push(Problem::error(span, message))
    }

    /// Keep a warning.
    pub fn warning(&mut self, span: Span, message: impl Into<String>) -> Kept<'_> {
        self.push(Problem::warning(span, message))
    }

    /// Whether no more are kept: then one more need not be worded, only counted by [`Self::count`].
    pub fn is_full(&self) -> bool {
        self.list.len() >= MOST
    }

    /// [`suggest::did_you_mean`] for the first of many.
    pub fn did_you_mean<'a>(
        &mut self,
        word: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Option<String> {
        self.searches = self.searches.saturating_add(1);
        if self.searches > MOST_SEARCHES {
            return None;
        }
        suggest::did_you_mean(word, known)
    }

    /// Count an error that nobody will read.
    pub fn count(&mut self) {
        self.errors += 1;
        self.more += 1;
    }

    /// Put them in the order of the source.
    pub fn sort(&mut self) {
        let key = |problem: &Problem| (problem.span.start, problem.severity, problem.message.clone());
        self.list.sort_by_cached_key(key);
    }

    /// Whether there is an error at exactly this place.
    pub fn has_error_at(&self, span: Span) -> bool {
        let is_there = |problem: &Problem| problem.span == span && problem.severity == Severity::Error;
        self.list.iter().any(is_there)
    }

    /// The problems that were kept.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// How many problems were counted and not kept.
    pub fn more(&self) -> usize {
        self.more
    }

    /// How many errors there are, kept or not.
    pub fn errors(&self) -> usize {
        self.errors
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// The text that problems point into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// How the person named the file.
    pub name: String,
    /// All of it.
    pub text: String,
    /// Parts of it that are never shown.
    pub secrets: Vec<Span>,
}

impl Source {
    /// Line and column of the byte `offset` as editors count them: from 1, columns in characters. An offset past the end is
    /// the place after the last byte.
    fn position(&self, offset: usize) -> (usize, usize) {
        let start = self.line_start(offset);
        let before = self.text.get(..start).unwrap_or_default();
        let within = self.text.get(start..self.floor(offset)).unwrap_or_default();
        (before.matches('\n').count() + 1, within.chars().count() + 1)
    }

    /// `problem` for a terminal, every line ended.
    pub fn render(&self, problem: &Problem) -> String {
        let (line, column) = self.position(problem.span.start);
        let severity = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut out = format!("{}:{line}:{column}: {severity}: {}\n", self.name, problem.message);
        self.excerpt(problem.span, line, &mut out);
        if let Some(hint) = &problem.hint {
            for line in hint.lines() {
                let _ = writeln!(out, "hint: {line}");
            }
        }
        out
    }

    /// `problem` as it goes into a line of JSON.
    pub fn line<'a>(&'a self, problem: &'a Problem) -> ProblemLine<'a> {
        let (line, column) = self.position(problem.span.start);
        ProblemLine {
            event: "problem",
            file: &self.name,
            line,
            column,
            severity: problem.severity,
            message: &problem.message,
            hint: problem.hint.as_deref(),
        }
    }

    /// The line of source that holds the start of `span`, and a caret under what of it is on that line.
    fn excerpt(&self, span: Span, number: usize, out: &mut String) {
        let start = self.line_start(span.start);
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.split(['\n', '\r']).next().unwrap_or_default();
        let from = self.floor(span.start);
        let (mut shown, mut carets) = (String::new(), String::new());
        let before = line
            .char_indices()
            .take_while(|(at, _)| start + at < from)
            .count();
        let skip = before.saturating_sub(WIDTH / 2);
        for (at, character) in line.char_indices().skip(skip).take(WIDTH) {
            let here = start + at;
            let secret = self
                .secrets
                .iter()
                .any(|secret| (secret.start..secret.end).contains(&here));
            shown.push(match character {
                _ if secret => '*',
                '\t' => ' ',
                character if rewrites_a_line(character) => '\u{fffd}',
                character => character,
            });
            if here < from {
                carets.push(' ');
            } else if here == from || here < span.end {
                carets.push('^');
            }
        }
        if !carets.ends_with('^') {
            carets.push('^');
        }
        let margin = number.to_string();
        let shown = shown.trim_end();
        let blank = " ".repeat(margin.len());
        let _ = writeln!(out, "  {margin} | {shown}\n  {blank} | {carets}");
    }

    /// The first byte of the line that holds the byte `offset`.
    fn line_start(&self, offset: usize) -> usize {
        let before = self.text.get(..self.floor(offset)).unwrap_or_default();
        before.rfind('\n').map_or(0, |end| end + 1)
    }

    /// The nearest start of a character that is not after `offset`.
    fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// A problem as a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProblemLine<'a> {
    /// `problem`, as every line of JSON says what it is.
    pub event: &'static str,
    /// How the person named the file.
    pub file: &'a str,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: &'a str,
    /// What the person can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line that is shown and the carets under it, for the first `what` in `text`.
    fn check(text: &str, what: &str, secret: Option<&str>, expect: &str) {
        let place = |what: &str| {
            let start = text.find(what).unwrap();
            let end = start + what.len();
            Span { start, end }
        };
        let source = Source {
            name: "f".into(),
            text: text.into(),
            secrets: secret.map(place).into_iter().collect(),
        };
        let shown = source.render(&Problem::error(place(what), "m"));
        assert_eq!(shown, expect, "{text:?}");
    }

    #[test]
    fn the_place_is_marked() {
        check(
            "a: b\nc: d\n",
            "d",
            None,
            "f:2:4: error: m\n  2 | c: d\n    |    ^\n",
        );
        check(
            "a: ä\nü: öß\n",
            "öß",
            None,
            "f:2:4: error: m\n  2 | ü: öß\n    |    ^^\n",
        );
        check(
            "\ta: b\n",
            "b",
            None,
            "f:1:5: error: m\n  1 |  a: b\n    |     ^\n",
        );
        check(
            "a: |\n  x\n  y\n",
            "|\n  x\n  y",
            None,
            "f:1:4: error: m\n  1 | a: |\n    |    ^\n",
        );
        check("a: b", "", None, "f:1:1: error: m\n  1 | a: b\n    | ^\n");
        check("", "", None, "f:1:1: error: m\n  1 | \n    | ^\n");
    }

    #[test]
    fn what_is_shown_is_harmless() {
        check(
            "a: b # \u{1b}[2J\u{202e}\n",
            "b",
            None,
            "f:1:4: error: m\n  1 | a: b # \u{fffd}[2J\u{fffd}\n    |    ^\n",
        );
        check(
            "p: pw, q: r",
            "r",
            Some("pw"),
            "f:1:11: error: m\n  1 | p: **, q: r\n    |           ^\n",
        );
        check(
            "p: pw",
            "pw",
            Some("pw"),
            "f:1:4: error: m\n  1 | p: **\n    |    ^^\n",
        );
    }

    #[test]
    fn of_a_long_line_the_place_is_shown() {
        let text = format!("{}HERE{}", "x".repeat(500), "y".repeat(500));
        let source = Source {
            name: "f".into(),
            text,
            secrets: Vec::new(),
        };
        let span = Span { start: 500, end: 504 };
        let shown = source.render(&Problem::error(span, "m"));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "f:1:501: error: m");
        let (at, carets) = (lines[1].find("HERE").unwrap(), lines[2].find("^^^^").unwrap());
        assert_eq!(at, carets);
        assert!(lines[1].len() < 200 && !lines[2].contains("^^^^^"));
    }

    #[test]
    fn many_problems_are_counted() {
        let mut problems = Problems::default();
        for number in 0..MOST + 5 {
            problems.error(Span::default(), format!("{number}"));
            problems.error(Span::default(), format!("{number}"));
        }
        assert_eq!(problems.list().len(), MOST);
        assert!(problems.errors() >= MOST + 5 && problems.more() >= 5);
    }
}
