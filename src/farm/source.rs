//! How problems of a farm read: with their lines, carets and hints, or as JSON. It never shows a secret: the source lines
//! that it shows are blanked wherever the farm holds one.

use std::collections::BTreeMap;
use std::fmt;

use crate::farm::node::Span;
use crate::farm::problem::{Problem, ProblemLine, Problems, Severity};
use crate::text::rewrites_a_line;

/// The most columns of a source line that are shown around the place.
pub const WIDTH: usize = 160;

/// The fewest.
const NARROWEST: usize = 20;

/// Of how many places more that have the same problem the lines are named.
const MOST_LINES: usize = 6;

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

    /// `problems` for people, each with its line and a caret. A warning that is said of many places is shown for the first
    /// of them. At most `columns` of a line of the source are shown.
    pub fn tell(&self, problems: &Problems, columns: usize) -> Vec<Told> {
        let mut told: Vec<Told> = Vec::new();
        let mut first: BTreeMap<(&str, Option<&str>), usize> = BTreeMap::new();
        for problem in problems.list() {
            let (line, _) = self.position(problem.span.start);
            if problem.severity == Severity::Warning {
                let said = (problem.message.as_str(), problem.hint.as_deref());
                if let Some(before) = first.get(&said).and_then(|at| told.get_mut(*at)) {
                    before.again.push(line);
                    continue;
                }
                first.insert(said, told.len());
            }
            told.push(self.told(problem, columns));
        }
        told
    }

    fn told(&self, problem: &Problem, columns: usize) -> Told {
        let (line, column) = self.position(problem.span.start);
        let hint = problem.hint.iter().flat_map(|hint| hint.lines());
        Told {
            place: format!("{}:{line}:{column}", self.name),
            severity: problem.severity,
            message: problem.message.clone(),
            excerpt: self.excerpt(problem.span, line, columns),
            hint: hint.map(str::to_owned).collect(),
            again: Vec::new(),
        }
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

    /// The line of source that holds the start of `span`, and carets under what of it is on that line.
    fn excerpt(&self, span: Span, number: usize, columns: usize) -> [String; 2] {
        let margin = number.to_string();
        // Two blanks before the number, and a bar behind it.
        let width = columns.saturating_sub(margin.len() + 5).clamp(NARROWEST, WIDTH);
        let start = self.line_start(span.start);
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.split(['\n', '\r']).next().unwrap_or_default();
        let from = self.floor(span.start);
        let (mut shown, mut carets) = (String::new(), String::new());
        let before = line
            .char_indices()
            .take_while(|(at, _)| start + at < from)
            .count();
        let skip = if line.chars().count() > width {
            before.saturating_sub(width / 2)
        } else {
            0
        };
        for (at, character) in line.char_indices().skip(skip).take(width) {
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
        let shown = shown.trim_end();
        let blank = " ".repeat(margin.len());
        [format!("  {margin} | {shown}"), format!("  {blank} | {carets}")]
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

/// A problem as people read it, in parts, so that they can be coloured and wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `farm.yaml:3:1`.
    pub place: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The line of the source, and carets below it.
    pub excerpt: [String; 2],
    /// What the person can do.
    pub hint: Vec<String>,
    /// The lines of which the same is said.
    pub again: Vec<usize>,
}

impl Told {
    /// The word that says how bad it is.
    pub fn label(&self) -> &'static str {
        match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }

    /// Of how many more places the same is said, and the first of them.
    pub fn more(&self) -> Option<String> {
        let lines: Vec<String> = self
            .again
            .iter()
            .take(MOST_LINES)
            .map(ToString::to_string)
            .collect();
        let dots = if self.again.len() > lines.len() {
            ", …"
        } else {
            ""
        };
        let plural = if self.again.len() == 1 { "" } else { "s" };
        let more = format!(
            "and {} more like it: line{plural} {}{dots}",
            self.again.len(),
            lines.join(", ")
        );
        (!self.again.is_empty()).then_some(more)
    }
}

/// Plain text, every line ended.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}: {}", self.place, self.label(), self.message)?;
        let hints = self.hint.iter().map(|hint| format!("hint: {hint}"));
        let rest = self.excerpt.iter().cloned().chain(hints).chain(self.more());
        rest.into_iter().try_for_each(|line| writeln!(f, "{line}"))
    }
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
        let shown = source.told(&Problem::error(place(what), "m"), WIDTH).to_string();
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
        let shown = source.told(&Problem::error(span, "m"), WIDTH + 20).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "f:1:501: error: m");
        let (at, carets) = (lines[1].find("HERE").unwrap(), lines[2].find("^^^^").unwrap());
        assert_eq!(at, carets);
        assert!(lines[1].len() < 200 && !lines[2].contains("^^^^^"));
    }

    #[test]
    fn a_warning_is_shown_once_and_errors_each() {
        let text = "a\n".repeat(12);
        let mut problems = Problems::default();
        for line in 0..12 {
            let at = Span {
                start: line * 2,
                end: line * 2 + 1,
            };
            problems.warning(at, "w").hint("h");
            if line < 2 {
                problems.error(at, "e");
            }
        }
        problems.sort();
        let source = Source {
            name: "f".into(),
            text,
            secrets: Vec::new(),
        };
        let told: Vec<String> = source
            .tell(&problems, WIDTH)
            .iter()
            .map(Told::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "f:1:1: error: e\n  1 | a\n    | ^\n",
                "f:2:1: error: e\n  2 | a\n    | ^\n",
                "f:1:1: warning: w\n  1 | a\n    | ^\nhint: h\nand 11 more like it: lines 2, 3, 4, 5, 6, 7, …\n",
            ]
        );
    }
}
