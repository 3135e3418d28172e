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

use std::fmt::Display;
use std::io::{self, Write};

use serde_json::Value;

use super::{CliResult, Failure, Outcome};
use crate::host::terminal;
use crate::text::printable;

#[derive(Clone, Copy, Debug)]
pub(super) struct Ui {
    /// JSON lines on standard output instead of text.
    pub(super) json: bool,
    /// No text but errors, and no progress. What a command was asked for in JSON is printed.
    pub(super) quiet: bool,
}

impl Ui {
    /// A line about what went wrong, on standard error.
    pub(super) fn error_line(self, line: impl Display) {
        drop(writeln!(io::stderr(), "{}", harmless(&line.to_string())));
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

/// `text` without the characters that control a terminal: names in it come from images, overlays, servers and devices.
pub(super) fn harmless(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(printable).collect();
    lines.join("\n")
}
