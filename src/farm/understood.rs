//! Which parts of a farm were read as its owner wrote them. A value that was refused has been replaced by a default, so
//! whatever draws a conclusion from a value asks here first: one mistake is reported once. It reports nothing itself.

use crate::farm::node::{Entry, Node, Span, Step};
use crate::farm::problem::{Problems, Severity};

/// A document, and the places in it that were refused when it was read.
pub(super) struct Understood<'d> {
    document: &'d Node,
    /// In the order of the source.
    refused: Vec<Span>,
    /// There were more errors than are kept, so any place may have been refused.
    nothing: bool,
}

impl<'d> Understood<'d> {
    /// `problems` are those of reading `document`, and no others.
    pub(super) fn new(document: &'d Node, problems: &Problems) -> Self {
        let errors = problems
            .list()
            .iter()
            .filter(|one| one.severity == Severity::Error);
        let mut refused: Vec<Span> = errors.map(|one| one.span).collect();
        refused.sort();
        Self {
            document,
            refused,
            nothing: problems.is_full(),
        }
    }

    /// The same less the places of the errors in `problems`.
    pub(super) fn without(&self, problems: &Problems) -> Self {
        let mut less = Self::new(self.document, problems);
        less.refused.extend(&self.refused);
        less.refused.sort();
        less.nothing |= self.nothing;
        less
    }

    /// The document.
    pub(super) fn document(&self) -> &'d Node {
        self.document
    }

    /// Whether nothing was refused of what `path` leads to, nor of anything below it. What is not written is understood,
    /// unless a key beside it was refused: that may be the same key, misspelt.
    pub(super) fn is_known(&self, path: &[Step<'_>]) -> bool {
        self.holds(path, |this, node| !this.is_refused_within(node.span))
    }

    /// The same of the keys alone that stand in the mapping at `path`, whatever their values are.
    pub(super) fn has_known_keys(&self, path: &[Step<'_>]) -> bool {
        self.holds(path, |this, node| {
            !this.is_refused(node.span) && this.are_keys_known(node.entries())
        })
    }

    fn holds(&self, path: &[Step<'_>], at_its_end: impl Fn(&Self, &Node) -> bool) -> bool {
        if self.nothing || self.refused.is_empty() {
            return !self.nothing;
        }
        let mut node = self.document;
        let mut label = None;
        for step in path {
            let next = match *step {
                Step::Key(key) => {
                    let mut same = node.entries().iter().filter(|entry| entry.key == key);
                    let first = same.next();
                    // Of a key that is there twice, nobody knows which one is meant.
                    if same.next().is_some() {
                        return false;
                    }
                    first.map(|entry| (&entry.value, Some(entry.key_span)))
                }
                Step::Item(item) => node.items().get(item).map(|item| (item, None)),
            };
            let Some((next, key_span)) = next else {
                return !self.is_refused(node.span) && self.are_keys_known(node.entries());
            };
            (node, label) = (next, key_span);
        }
        label.is_none_or(|label| !self.is_refused(label)) && at_its_end(self, node)
    }

    fn are_keys_known(&self, entries: &[Entry]) -> bool {
        !entries.iter().any(|entry| self.is_refused(entry.key_span))
    }

    fn is_refused(&self, span: Span) -> bool {
        self.refused.binary_search(&span).is_ok()
    }

    fn is_refused_within(&self, span: Span) -> bool {
        let first = self.refused.partition_point(|refused| refused.start < span.start);
        self.refused
            .get(first)
            .is_some_and(|refused| refused.start < span.end || *refused == span)
    }
}
