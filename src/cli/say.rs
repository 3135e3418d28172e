//! Printing that never ends a command: where the reader has gone away, what is printed is lost, and the work goes on. A
//! card that is half written because `| head` had read enough would be worse than a line that nobody read.
//!
//! The only place that prints a line; `print!` and its kin panic where the reader is gone.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::text::printable;

/// Whether only errors are printed. Set once, from the command line, before anything is.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Print errors only, from now on.
pub fn hush() {
    QUIET.store(true, Ordering::Relaxed);
}

/// A line for people about what was done, on standard error; not with `--quiet`.
pub fn note(line: Arguments<'_>) {
    if !QUIET.load(Ordering::Relaxed) {
        complaint(line);
    }
}

/// A line for people about what went wrong, on standard error.
pub fn complaint(line: Arguments<'_>) {
    drop(writeln!(io::stderr(), "{}", harmless(&line.to_string())));
}

/// A line that is the answer to what was asked, on standard output; not with `--quiet`.
pub fn answer(line: Arguments<'_>) {
    if !QUIET.load(Ordering::Relaxed) {
        drop(writeln!(io::stdout(), "{}", harmless(&line.to_string())));
    }
}

/// `text` without what steers a terminal: names in it come from images, overlays, servers and devices.
pub fn harmless(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(printable).collect();
    lines.join("\n")
}

/// A piece of a line for the person who is asked something.
pub fn prompt(text: &str) {
    let mut out = io::stderr();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// A line of JSON, on standard output.
pub fn event(value: &serde_json::Value) {
    drop(writeln!(io::stdout(), "{value}"));
}

/// [`note`] with a format.
macro_rules! note_line {
    ($($line:tt)*) => { $crate::cli::say::note(format_args!($($line)*)) };
}

/// [`complaint`] with a format.
macro_rules! complaint_line {
    ($($line:tt)*) => { $crate::cli::say::complaint(format_args!($($line)*)) };
}

pub(super) use {complaint_line, note_line};
