//! What a command prints, and for whom: text for people, or JSON lines for programs. The only place that prints a line;
//! made once, when the arguments are known, and passed on.
//!
//! Printing never ends a command: if the reader has gone away, the text is lost and the work continues. A card left
//! half-written because `| head` had read enough would be worse than a line that nobody read. `print!` and its kin
//! panic in that case.

#![allow(
    clippy::unused_self,
    reason = "every line goes through the Ui, also one that its settings do not change"
)]

use std::env;
use std::fmt::Display;
use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde_json::Value;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

use super::{CliResult, Failure, Outcome};
use crate::farm::problem::Severity;
use crate::farm::source::{Told, WIDTH};
use crate::host::terminal;
use crate::text::printable;

#[derive(Clone, Copy, Debug)]
pub(super) struct Ui {
    /// JSON lines on standard output instead of text.
    pub(super) json: bool,
    /// No text but errors, and no progress. What a command was asked for in JSON is printed.
    pub(super) quiet: bool,
}

/// The word that a line begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// The command ends here.
    Palmfarm,
    Error,
    Warning,
    Hint,
}

impl Label {
    fn word(self) -> &'static str {
        match self {
            Self::Palmfarm => "palmfarm",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Hint => "hint",
        }
    }

    fn style(self) -> Style {
        let color = match self {
            Self::Palmfarm | Self::Error => AnsiColor::Red,
            Self::Warning => AnsiColor::Yellow,
            Self::Hint => AnsiColor::Cyan,
        };
        Style::new().fg_color(Some(color.into())).bold()
    }
}

impl Ui {
    /// A line about what went wrong, on standard error.
    pub(super) fn error_line(self, line: impl Display) {
        self.stderr(&harmless(&line.to_string()));
    }

    /// The same, `indent` blanks from the margin, after a label.
    pub(super) fn labelled_line(self, indent: usize, label: Label, line: impl Display) {
        let word = styled(label.style(), &format!("{}:", label.word()));
        self.stderr(&format!("{:indent$}{word} {}", "", harmless(&line.to_string())));
    }

    /// A problem of a farm, on standard error.
    pub(super) fn problem(self, told: &Told) {
        let label = match told.severity {
            Severity::Error => Label::Error,
            Severity::Warning => Label::Warning,
        };
        let place = styled(Style::new().bold(), &harmless(&format!("{}:", told.place)));
        let word = styled(label.style(), &format!("{}:", label.word()));
        self.stderr(&format!("{place} {word} {}", harmless(&told.message)));
        let [line, carets] = &told.excerpt;
        self.stderr(&harmless(line));
        self.stderr(&styled(label.style(), carets));
        for hint in &told.hint {
            self.labelled_line(0, Label::Hint, hint);
        }
        if let Some(more) = told.more() {
            self.stderr(&more);
        }
    }

    /// How many columns of a problem's source are shown.
    pub(super) fn columns(self) -> usize {
        terminal::columns(&io::stderr()).unwrap_or(WIDTH)
    }

    /// Harmless lines on standard error; on a terminal they are wrapped at words.
    fn stderr(self, lines: &str) {
        let text = match terminal::columns(&io::stderr()) {
            Some(columns) => wrapped(lines, columns),
            None => lines.to_owned(),
        };
        drop(writeln!(io::stderr(), "{text}"));
    }

    /// A line about what was done, on standard error.
    pub(super) fn info_line(self, line: impl Display) {
        if !self.quiet {
            self.error_line(line);
        }
    }

    /// The line that a command was asked for, on standard output.
    pub(super) fn result_line(self, line: impl Display) {
        if !self.quiet {
            drop(writeln!(io::stdout(), "{}", harmless(&line.to_string())));
        }
    }

    /// A line of JSON, on standard output.
    pub(super) fn event(self, value: &Value) {
        drop(writeln!(io::stdout(), "{value}"));
    }

    /// What was done: `event` for programs, `line` for people.
    pub(super) fn report(self, event: &Value, line: impl Display) {
        if self.json {
            self.event(event);
        } else {
            self.info_line(line);
        }
    }

    /// Everything that a command was asked for, on standard output. A reader that has read enough, as head(1) does, is
    /// not a failure.
    pub(super) fn output(self, bytes: &[u8]) -> CliResult {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
                Outcome::Failed,
                anyhow::Error::new(error).context("printing it"),
            )),
            _ => Ok(()),
        }
    }

    /// Whether there is a person to ask.
    pub(super) fn can_ask(self) -> bool {
        !self.json && terminal::is_interactive()
    }

    /// A part of a line, for the person who is asked.
    pub(super) fn prompt(self, text: &str) {
        let mut out = io::stderr();
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}

/// `text` in this style, if standard error has colours: it is a terminal other than a dumb one, and `NO_COLOR` is not set.
fn styled(style: Style, text: &str) -> String {
    // `choice` colours a dumb terminal where `CI` is set.
    let dumb = env::var_os("TERM").is_none_or(|name| name == "dumb");
    match AutoStream::choice(&io::stderr()) {
        ColorChoice::Never => text.to_owned(),
        _ if dumb => text.to_owned(),
        _ => format!("{style}{text}{style:#}"),
    }
}

/// `text` with each line that is longer than `columns` broken between words. What follows a break is indented by two more
/// than the line. A longer word, such as a path or a URL, stays whole, so that it can be copied.
fn wrapped(text: &str, columns: usize) -> String {
    let lines = text.split('\n').map(|line| {
        let start = line.len() - line.trim_start_matches(' ').len();
        let indent = " ".repeat((start + 2).min(columns / 2));
        let options = Options::new(columns)
            .subsequent_indent(&indent)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit)
            .break_words(false);
        textwrap::fill(line, options)
    });
    lines.collect::<Vec<String>>().join("\n")
}

/// `text` without the characters that control a terminal: names in it come from images, overlays, servers and devices.
pub(super) fn harmless(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(printable).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        for (text, columns, expect) in [
            ("one two three", 20, "one two three"),
            ("one two three", 8, "one two\n  three"),
            ("  one two three", 9, "  one two\n    three"),
            (
                "see /a/path/that/is/long now",
                10,
                "see\n  /a/path/that/is/long\n  now",
            ),
            ("one two\nthree four", 7, "one two\nthree\n  four"),
            (
                "\u{1b}[1mone\u{1b}[0m two three",
                8,
                "\u{1b}[1mone\u{1b}[0m two\n  three",
            ),
            ("", 8, ""),
            ("one", 1, "one"),
        ] {
            assert_eq!(wrapped(text, columns), expect, "{text:?}");
        }
    }
}
