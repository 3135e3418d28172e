//! What is wrong with a farm, where, and what to do about it. How that reads is in `source`.

use serde::Serialize;

use crate::farm::node::Span;
use crate::farm::suggest;

/// Problems beyond this number are counted, not kept: a megabyte of unknown keys is one mistake.
const MOST: usize = 1000;

/// How often the word that was meant is searched for. The search is slow, and is worth its time only if there are few
/// problems.
const MOST_SEARCHES: usize = 30;

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

    /// Keep each of `others`.
    pub fn append(&mut self, others: Self) {
        let is_error = |problem: &&Problem| problem.severity == Severity::Error;
        self.errors += others.errors - others.list.iter().filter(is_error).count();
        self.more += others.more;
        for problem in others.list {
            self.push(problem);
        }
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

    /// Put errors first, and each kind in the order of the source.
    pub fn sort(&mut self) {
        let key = |problem: &Problem| (problem.severity, problem.span.start, problem.message.clone());
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
